"""Rare classes that a trained model hardly ever finds."""

import math

from recipes.diagnose.finding import Finding

_RARE = 10  # a class is rare if the most frequent one has more than 10 times as many examples
_FEWEST_ONES = 50  # labels that are 1, of a multi-label model
_FEWEST = 5  # examples of a class; with fewer, its recall says little


def is_imbalanced(facts: dict) -> bool:
    """Whether the most frequent class of the training data has over ten times as many examples as the rarest.

    Args:
        facts: dict, as from `run_facts.describe`, or None; False where it does not count the classes.
    """
    counts = list((facts or {}).get("data", {}).get("train", {}).get("class_counts", {}).values())
    return len(counts) > 1 and max(counts) > _RARE * min(counts)


def has_rare_ones(facts: dict) -> bool:
    """Whether over 90 % of the labels of a multi-label model are 0.

    Args:
        facts: dict, as from `run_facts.describe`, or None.
    """
    data, task = (facts or {}).get("data", {}).get("train", {}), (facts or {}).get("task", {})
    several = task.get("kind") == "binary" and (task.get("outputs") or 1) > 1
    return bool(several and data.get("label_kinds") == 2 and data.get("label_zeros", 0.0) > 1 - 1 / _RARE)


def _never_yes(facts):
    """A multi-label model that finds next to none of the labels that are 1."""
    seen = facts.get("positives") or {}
    if seen.get("asked", 0) < _FEWEST_ONES or seen["found"] > 0.02 * seen["asked"]:
        return []
    if seen["yes"] > 1.3 * seen["no"]:
        return []  # the model knows where the ones are; 0.5 is the wrong threshold
    weight = (1 - seen["share"]) / seen["share"]
    return [
        Finding(
            "imbalanced",
            "warning",
            None,
            None,
            f"{seen['share']:.1%} of the labels are 1, and the model finds {seen['found']:.0f} of {seen['asked']:.0f}: "
            f"it gives {seen['yes']:.2g} where the label is 1 and {seen['no']:.2g} where it is 0. Either the loss "
            "hardly counts the ones, or labels that were missing have been filled in with 0.",
            "If a 0 may stand for not known, leave those answers out of the loss by sample_weight. If all are known, "
            f"count the ones about {weight:.0f} times, or use loss=keras.losses.BinaryFocalCrossentropy(alpha=0.9, "
            "apply_class_balancing=True).",
        )
    ]


def judge_recall(facts: dict) -> list[Finding]:
    """A rare class, or rare labels, that the trained model finds far less often than the frequent ones.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, with "recall" from `class_recall` or
            "positives" from `positives`.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    if facts.get("positives"):
        return _never_yes(facts)
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
    # The gap must be over two standard errors, so that it is not the luck of a few examples.
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
