"""Combine what the curves, the probes, the model and the data show into ranked findings."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from recipes.diagnose.finding import SOFT, Finding, arrange
from recipes.diagnose.rules.average_rules import judge_averages, started_with
from recipes.diagnose.rules.curve_rules import Curves, HeldOut, curves_in
from recipes.diagnose.rules.data_rules import judge_data
from recipes.diagnose.rules.input_facts import meant
from recipes.diagnose.rules.lost_signal import lost_signal
from recipes.diagnose.rules.model_rules import expected_loss, judge_model
from recipes.diagnose.rules.own_loss_rules import stretched
from recipes.diagnose.rules.read_curves import curve_findings
from recipes.diagnose.rules.recall_rules import judge_recall
from recipes.diagnose.rules.record_rules import judge_record
from recipes.diagnose.rules.schedule_rules import (
    far_from_usual,
    judge_schedule,
    spent_while_falling,
    stopped_early,
)
from recipes.diagnose.rules.shuffled_labels import shuffled_beside, shuffled_labels

# What shuffled labels look like in the curves.
_SYMPTOMS = {
    "overfitting",
    "not_learning",
    "diverged",
    "bouncing",
    "train_validation_mismatch",
    "plateau_then_drop",
}
_FEW = 100  # training examples
# Kinds of losses that are never below 0.
_NEVER_BELOW_ZERO = ("categorical", "binary", "margins")


def diagnose(
    history: Any = None,
    record: Any = None,
    model: keras.Model | None = None,
    *,
    train: Any = None,
    validation: Any = None,
    facts: dict | None = None,
    seconds: float = 2.0,
) -> list[Finding]:
    """Say what is wrong with a run, causes before symptoms, each with evidence and remedy.

    Every source adds rules: the curves (see `read_curves`), the record of a monitor (what happened inside the steps),
    the model with its loss, and the data. Rules about slow, silent or saturated layers are relaxed or skipped in a run
    that learns.

    Args:
        history: dict of lists, one value per epoch, as `run.history`, or the `History` that `fit` returned; None
            without training.
        record: The `recipes.probe.Record` of any monitor in `recipes.callbacks`, such as `run.record`; or None.
        model: The compiled `keras.Model`, or None.
        train: Training data, a `tf.data.Dataset` or arrays, read for up to `seconds`; or None.
        validation: Validation data in the same form, or None.
        facts: What `recipes.diagnose.rules.run_facts.describe` collected before training, in place of `train` and
            `validation`. With it, the initial weights are judged as well.
        seconds: Time limit for reading each data set, in seconds.

    Returns:
        A list of `Finding`, errors first. The `consequences` of a finding are those that it explains. Empty when
        nothing is wrong.

    Raises:
        ValueError: when nothing to judge was given, or the model is not compiled.
    """
    if history is None and record is None and model is None and facts is None:
        raise ValueError(
            "diagnose expects a history, a record or a model. Received none of them. "
            "Give diagnose(run.history, run.record, run.model)."
        )
    # These look into layers through the probe, which needs TensorFlow; curves can be read on any backend.
    if model is not None:
        from recipes.diagnose.rules.run_facts import describe, idle_averages  # noqa: PLC0415 - needs TensorFlow, which other backends do without
    if facts is None:
        facts = describe(model, train, validation, seconds=seconds) if model is not None else {}
    if facts and record is not None and model is not None:
        facts = {**facts, "idle_averages": idle_averages(model)}
    return arrange(judge(history, record, facts))


def judge(
    history: Any,
    record: Any,
    facts: dict,
    *,
    steps: int | None = None,
    planned: int | None = None,
    earlier: int = 0,
) -> list[Finding]:
    """As `diagnose`, from facts alone and not arranged.

    Args:
        history: dict of lists, or None. If none of its curves is known to be the loss, no rule looks at curves.
        record: What the probes saw, or None.
        facts: What is known about model and data, or an empty dict.
        steps: Training steps so far, or None.
        planned: Number of epochs that the run is planned to have, or None.
        earlier: Epochs that the run made before `history`, as in `Curves`; `steps` and `planned` do not count them.

    Returns:
        A list of `Finding`. After a run that learned well, findings that turned out harmless have severity "info".
    """
    findings = [*judge_model(facts), *judge_data(facts)] if facts else []
    if facts.get("nan_filled"):
        findings = meant(findings)
    initial, penalty = _initial(facts)
    start = None if initial is None else initial + penalty
    values = curves_in(history) if history is not None else None
    curves = None
    if values is not None:
        curves = _curves(values, record, facts, (initial, start), steps, planned, earlier)
        findings += [_more_to_tell(f, facts, curves) for f in curve_findings(curves)]
        findings += _far_off(curves, facts)
        held_up = any(f.code == "plateau_then_drop" and f.severity == "warning" for f in findings)
        findings = [_by_heart(_came_true(finding, curves, held_up), facts) for finding in findings]
        findings += judge_averages(curves, record, facts)
        findings += judge_schedule(record, curves, facts)
    learned = _by_accuracy(history, facts) if curves is None else curves.learned
    first, now = (None, None) if curves is None else (curves.first, float(curves.loss[-1]))
    above = start if start is not None and start > 0 else None  # only a positive loss has multiples
    gaining = curves is not None and curves.held and curves.better_than_nothing
    known = {"learned": learned, "initial": above, "first": first, "now": now, "gaining": gaining}
    findings += judge_record(record, facts, **known)
    if curves is not None:
        findings += far_from_usual((facts or {}).get("optimizer", {}), curves, record)
    findings += shuffled_beside(facts)
    if not any(_explains_failure(finding, facts) for finding in findings):
        findings += lost_signal(facts, curves) or shuffled_labels(facts, curves)
    findings += judge_recall(facts or {})
    if curves is not None and curves.well:
        findings = [_overcome(finding, curves) for finding in findings]
    elif curves is not None and curves.strong and curves.validated_well is not False:
        # Even if the run has not settled, the scale of the inputs did not stand in its way.
        findings = [_overcome(f, curves) if f.code == "unscaled_inputs" else f for f in findings]
    if curves is not None:  # these apply however much was learned
        findings += spent_while_falling(record, curves)
        findings += stopped_early(curves, (facts or {}).get("meant_to_be"))
        findings += stretched(facts, curves)
        findings += _long_way(curves, facts)
    return _once([finding for finding in findings if not _ended_as_planned(finding, facts)])


def _ended_as_planned(finding, facts):
    """Whether a rate fell only as the schedule of a finished run came to its end, before the run was given more."""
    seam = (facts or {}).get("extended_after")
    return finding.code == "decayed_too_early" and seam is not None and (finding.epoch or 0) <= seam + 1


def _explains_failure(finding, facts):
    """Whether a finding already explains why nothing was learned, so that the labels need not be suspected.

    A regression may fail to learn for many reasons, so there any cause of severity "warning" is enough.
    """
    if finding.severity == "error":
        return True
    quantities = "target_agreement" in (facts or {}).get("data", {}).get("train", {})
    return quantities and finding.severity == "warning" and finding.code not in _SYMPTOMS


def _overcome(finding, curves):
    """The finding, lowered to "info" where a run that learned well shows it to be harmless.

    Without a known baseline it is uncertain that the run learned well, so errors stay errors.
    """
    sure = curves.initial is not None or curves.chance is not None
    drawn = finding.code == "frozen" and finding.severity == "warning"  # random features can be enough
    harmless = drawn or finding.code in SOFT and (sure or finding.severity != "error")
    return replace(finding, severity="info") if harmless else finding


def _curves(values, record, facts, nothing, steps, planned, earlier):
    task = (facts or {}).get("task", {})
    kind, data = task.get("kind"), (facts or {}).get("data", {}).get("train", {})
    began = None
    if record is not None and len(record) and record.step[0] == 0 and np.isfinite(record.loss[0]):
        began = float(record.loss[0])
    return Curves(
        values,
        nothing[1],
        _chance(facts),
        began=began,
        floor=nothing[0],
        steps=steps,
        planned=planned,
        below_zero=False if kind in _NEVER_BELOW_ZERO else True if kind == "unknown" else None,
        minimized=not (task.get("own_step") and kind == "unknown"),
        examples=data.get("examples"),
        kinds=data["label_kinds"] if data.get("label_whole") and data.get("label_kinds", 0) > 1 else None,
        held_out=_held_out(facts, nothing),
        started_with=started_with(facts, record, steps),
        earlier=earlier,
    )


def _held_out(facts, nothing):
    """Facts about the validation data, which show how much a change of its scores means."""
    counts = list((facts or {}).get("data", {}).get("validation", {}).get("class_counts", {}).values())
    initial = (facts or {}).get("baseline_validation")
    return HeldOut(
        examples=sum(counts) or None,
        rarest=min(counts, default=None),
        initial=None if initial is None or nothing[0] is None else initial + nothing[1] - nothing[0],
        accuracy=(facts or {}).get("validation_accuracy"),
    )


def _by_accuracy(history, facts):
    """Whether a run whose loss is not known has learned, judged by its accuracy."""
    history = getattr(history, "history", history) or {}
    chance = _chance(facts)
    values = next((history[name] for name in ("accuracy", "acc") if name in history), None)
    return bool(values) and chance is not None and max(values[-3:]) > chance + 0.3 * (1 - chance)


def _initial(facts):
    """Loss of the best constant prediction, and what penalties add to it at the start."""
    if not facts:
        return None, 0.0
    penalty = sum(layer["penalty"] for layer in facts["layers"])
    return expected_loss(facts), penalty


def _came_true(finding, curves, held_up):
    """Raise some findings from "info" to "warning" in a run that diverged, learned nothing or stood still.

    These are findings about targets of an unsuitable scale or range, and about sorted targets.
    """
    arriving = curves.falling and not curves.over
    lost = (
        held_up
        or not np.isfinite(curves.loss).all()
        or (curves.fair_chance and not curves.better_than_nothing and not arriving)
    )
    if (
        finding.code not in ("unscaled_targets", "unreachable_targets", "missing_shuffle")
        or finding.severity != "info"
        or not lost
    ):
        return finding
    return replace(finding, severity="warning")


def _by_heart(finding, facts):
    """Change a train-validation mismatch to overfitting where training examples are few and inputs are alike."""
    data = (facts or {}).get("data", {})
    train, validation = data.get("train", {}), data.get("validation", {})
    few = train.get("whole") and train["examples"] < _FEW
    if finding.code != "train_validation_mismatch" or finding.epoch is not None or not few:
        return finding
    if not all(part.get("std", 0) > 0 for part in (train, validation)):
        return finding
    shift, ratio = abs(train["mean"] - validation["mean"]) / train["std"], validation["std"] / train["std"]
    if shift > 0.2 or not 0.8 < ratio < 1.25:
        return finding
    more = f" Inputs of both are alike, and there are only {train['examples']} to learn from: they are memorized."
    remedy = "Get more examples, augment those you have, or take a far smaller model or a pretrained one."
    return replace(finding, code="overfitting", evidence=finding.evidence + more, remedy=remedy)


def _far_off(curves, facts):
    """A regression that has not reached the mean of its targets by the end of its run."""
    data = (facts or {}).get("data", {}).get("train", {})
    task = (facts or {}).get("task", {})
    if task.get("kind") not in ("values", "unknown") or curves.initial is None or "target_mean" not in data:
        return []
    last = float(curves.loss[-1])
    if not (curves.over and np.isfinite(last) and curves.falling and last > curves.initial):
        return []
    offset = abs(data["target_mean"]) / max(data["target_std"], 1e-12)
    near = curves.first - curves.initial < 0.5 * (curves.unit or float("inf"))
    if data.get("target_offset", offset) < 1 or near:
        return []
    return [
        Finding(
            "unscaled_targets",
            "warning" if curves.fair_chance else "info",
            None,
            None,
            f"The loss fell from {curves.first:.4g} to {last:.4g} in {curves.length} and is still above the "
            f"{curves.initial:.4g} of always answering the mean, {data['target_mean']:.4g}: so far the run has been "
            "on its way to that mean.",
            "Train on (y - mean) / std, and turn predictions back with prediction * std + mean; or train longer.",
        )
    ]


def _long_way(curves, facts):
    """A regression that needed a third of its run or more to reach the mean of its targets."""
    data, task = (facts or {}).get("data", {}).get("train", {}), (facts or {}).get("task", {})
    if task.get("kind") != "values" or curves.initial is None or "target_mean" not in data or not curves.over:
        return []
    below = np.flatnonzero(curves.loss < curves.initial)
    offset = abs(data["target_mean"]) / max(data["target_std"], 1e-12)
    if not len(below) or offset < 1 or data["target_std"] < 50 or curves.epochs < 10:
        return []
    way = int(below[0])
    if way < curves.epochs / 3 or not (curves.loss[way:] < curves.initial).all():
        return []
    return [
        Finding(
            "unscaled_targets",
            "warning",
            None,
            None,
            f"The first {way} of {curves.length} went into finding the mean of the targets, "
            f"{data['target_mean']:.4g} with a standard deviation of {data['target_std']:.4g}: until then the loss was "
            f"above the {curves.initial:.4g} of always answering it, and only the rest was left to learn from inputs.",
            "Train on (y - mean) / std, and turn predictions back with prediction * std + mean.",
        )
    ]


def _chance(facts):
    data = (facts or {}).get("data", {}).get("train", {})
    if "place_chance" in data:
        return data["place_chance"]
    counts = data.get("class_counts")
    return max(counts.values()) / sum(counts.values()) if counts else None


def _more_to_tell(finding, facts, curves):
    """Raise underfitting to a warning where the most similar example predicts labels better than the model does."""
    data = (facts or {}).get("data", {}).get("train", {})
    accuracy = curves.accuracy if curves.validation_accuracy is None else curves.validation_accuracy
    known = "neighbor_agreement" in data and "label_positions" not in data
    if finding.code != "underfitting" or accuracy is None or not known:
        return finding
    reached = float(accuracy[curves.tail].max())
    if data["neighbor_agreement"] < reached + 0.1:
        return finding
    more = (
        f" The label of the most similar example is right in {data['neighbor_agreement']:.0%} of cases, the model in "
        f"{reached:.0%}: there is more to learn."
    )
    return replace(finding, severity="warning", evidence=finding.evidence + more)


def _once(findings):
    """One finding per code and layer: the most severe one, or the first of equally severe ones."""
    kept = {}
    for finding in findings:
        key = (finding.code, finding.layer)
        order = ("error", "warning", "info").index
        if key not in kept or order(finding.severity) < order(kept[key].severity):
            kept[key] = finding
    return list(kept.values())
