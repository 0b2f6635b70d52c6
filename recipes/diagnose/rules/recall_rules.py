"""Rare classes that a trained model forgets."""

import math

from recipes.diagnose.finding import Finding

_RARE = 10  # times as many examples of the most frequent class
_FEWEST = 5  # examples of a class, for its share to say anything


def is_imbalanced(facts: dict) -> bool:
    """Whether one class of the training data has so many examples that another may be forgotten.

    Args:
        facts: Of `run_facts.describe`, or None; False where they do not count the classes.
    """
    counts = list((facts or {}).get("data", {}).get("train", {}).get("class_counts", {}).values())
    return len(counts) > 1 and max(counts) > _RARE * min(counts)


def judge_recall(facts: dict) -> list[Finding]:
    """A rare class that the trained model finds far less often than the most frequent one.

    Args:
        facts: As `recipes.diagnose.rules.run_facts.describe` gives them, with "recall" from `class_recall`.
    """
    recall = facts.get("recall") or {}
    counts = facts.get("data", {}).get("train", {}).get("class_counts", {})
    known = {name: one for name, one in recall.items() if one["examples"] >= _FEWEST and name in counts}
    if len(known) < 2 or not is_imbalanced(facts):
        return []
    most = max(known, key=lambda name: counts[name])
    rare = [name for name in known if counts[most] > _RARE * counts[name]]
    shares = {name: one["right"] / one["examples"] for name, one in known.items()}
    worst = min(rare, key=shares.get, default=None)
    if worst is None or shares[most] < 0.5 or shares[worst] > 0.75 * shares[most]:
        return []
    one = known[worst]
    # Two standard errors below, so that it is not the luck of a few examples.
    error = math.sqrt(max(shares[worst] * (1 - shares[worst]), 0.05) / one["examples"])
    if shares[worst] + 2 * error > shares[most]:
        return []
    weight = counts[most] / counts[worst]
    return [
        Finding(
            "imbalanced",
            "warning",
            None,
            None,
            f"The model finds {one['right']} of {one['examples']} examples of class {worst} ({shares[worst]:.0%}) and "
            f"{shares[most]:.0%} of class {most}, of which there are {weight:.0f} times as many: the loss hardly "
            "counts the rare class.",
            f"Train with model.fit(..., class_weight={{{most}: 1, {worst}: {weight:.0f}}}), or equally many of each "
            "class in a batch, and judge by recall, not accuracy.",
        )
    ]
