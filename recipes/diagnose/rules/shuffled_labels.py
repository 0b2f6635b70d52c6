"""Labels that do not belong to their inputs, in a run that learns nothing."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.remedies import look

_FEWEST, _SURE = 100, 8.0  # examples; standard errors above chance
_LITTLE = 0.1  # of neighbors, above chance: photos of cats and dogs that look alike share their class hardly more often
_THROWN = 3.0  # times the loss of the best constant prediction
_FEWEST_STEPS = 30  # steps; fewer do not show that nothing was learned


def shuffled_labels(facts: dict, curves: Any) -> list[Finding]:
    """Labels that similar inputs do not share, in a run that learned nothing that carries over to validation.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, or None.
        curves: `recipes.diagnose.rules.curve_rules.Curves` of the run, or None.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    data = (facts or {}).get("data", {}).get("train", {})
    apart = _apart(data) or _by_heart_alone(facts or {}, data)
    if apart is None or curves is None or not np.isfinite(curves.loss).all():
        return []
    if curves.epochs < 2 or (curves.steps or _FEWEST_STEPS) < _FEWEST_STEPS:
        return []
    if curves.over and not curves.fair_chance:
        return []  # of such a run `not_learning` says that it was too short to show anything
    if _undecided(data) or (curves.better_than_nothing and not curves.memorized):
        return []
    if curves.initial is not None and curves.loss[-1] > _THROWN * curves.initial > 0:
        return []  # steps that are too long threw the loss up, which says nothing about labels
    return [
        Finding(
            "labels_shuffled",
            "warning",
            None,
            None,
            f"{apart}, and nothing that carries over to validation is learned.",
            f"Look at examples with their labels, {look(data, labels=True)}: inputs and labels may have been shuffled "
            "apart, as by a shuffle of x alone, or two lists of files in different orders.",
        )
    ]


def shuffled_beside(facts: dict) -> list[Finding]:
    """Training labels that similar inputs do not share, although in validation similar inputs share theirs.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, or None.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    data = (facts or {}).get("data", {})
    train, validation = data.get("train", {}), data.get("validation", {})
    if train.get("heads") and validation.get("heads"):
        pairs = [pair for pair in zip(train["heads"], validation["heads"], strict=False) if all(pair)]
        found = [shuffled_beside({"data": {"train": one, "validation": other}}) for one, other in pairs]
        return next((findings for findings in found if findings), [])
    if min(train.get("examples", 0), validation.get("examples", 0)) < _FEWEST or _apart(train) is None:
        return []
    known = "target_agreement" if "target_agreement" in train else "neighbor_agreement"
    if known not in validation or _shape(train) != _shape(validation) or not _alike(train, validation):
        return []
    chance, error = (
        (0.0, validation["target_error"])
        if known == "target_agreement"
        else (validation["neighbor_chance"], validation["neighbor_error"])
    )
    found, lost = validation[known], train[known]
    if found < chance + max(_SURE * error, 0.25 * (1 - chance)):
        return []
    told = (
        f"{found:.2f} in validation and {lost:.2f}"
        if chance == 0.0
        else f"{found:.0%} in validation and {lost:.0%}"
    )
    what = "correlate with those" if known == "target_agreement" else "are those"
    return [
        Finding(
            "labels_shuffled",
            "error",
            None,
            0,
            f"Labels {what} of the most similar other example {'in' if chance else 'by'} {told} in training, "
            "which is chance: in training they do not belong to their inputs.",
            f"Look at examples with their labels, {look(train, labels=True)}: inputs and labels may have been shuffled "
            "apart, as by a shuffle of x alone, or two lists of files in different orders.",
        )
    ]


def _alike(train, validation):
    """Whether both sets of labels have similar distributions, as they do not where most of one set are unknown."""
    if "class_counts" in train and "class_counts" in validation:
        shares = []
        for data in (train, validation):
            total = sum(data["class_counts"].values())
            shares.append({name: count / total for name, count in data["class_counts"].items()})
        names = set(shares[0]) | set(shares[1])
        return sum(abs(shares[0].get(name, 0.0) - shares[1].get(name, 0.0)) for name in names) < 0.4
    if "target_std" not in train or "target_std" not in validation:
        return "class_counts" not in train and "neighbor_agreement" in train
    spread = max(train["target_std"], 1e-12)
    near = abs(train["target_mean"] - validation["target_mean"]) < 0.3 * spread
    return near and 0.6 < validation["target_std"] / spread < 1.6


def _shape(data):
    return data.get("input_shape"), data.get("labels_shape")


def _by_heart_alone(facts, data):
    """As `_apart`, for examples that cannot be compared, where the model memorized a few batches before training."""
    compared = "target_agreement" in data or "neighbor_agreement" in data
    if compared or facts.get("few_batches") != "learned":
        return None
    return "The model learned a few batches by heart before training"


def _undecided(data):
    """Whether so few examples were compared that similar inputs may share their labels more often than by chance."""
    if "neighbor_agreement" not in data:
        return False
    most = data["neighbor_agreement"] + 2 * data["neighbor_error"]
    return most > data["neighbor_chance"] + _LITTLE


def _apart(data):
    """Half a sentence that says why labels seem to have nothing to do with their inputs, or None."""
    heads = [one for one in data.get("heads") or () if one]
    if heads:  # every output must agree, as one may be all noise
        told = [_apart(one) for one in heads]
        return f"{told[0]}, and so it is with each of the {len(heads)} outputs" if all(told) else None
    if "target_agreement" in data:
        near, error = data["target_agreement"], data["target_error"]
        if near > 4 * error or data["target_association"] > 1.5:
            return None
        return f"The target of the most similar other example has a correlation of {near:.2f} with an example's own"
    if "neighbor_agreement" not in data or data["neighbor_chance"] > 0.9:
        return None
    agreement, chance, error = (data[f"neighbor_{name}"] for name in ("agreement", "chance", "error"))
    few = data.get("neighbor_examples", data["examples"]) < 100
    # Where one column separates the classes, the data is only noisy, and the labels belong to their inputs.
    if agreement > chance + 4 * error or few or data.get("column_association", 0.0) > 1.5:
        return None
    return f"The most similar other example has the same label in {agreement:.0%} of cases, as by chance ({chance:.0%})"
