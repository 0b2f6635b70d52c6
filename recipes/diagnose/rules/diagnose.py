"""Join what the curves, the probes, the model and the data tell into ranked findings."""

import numpy as np

from recipes.diagnose.finding import Finding, arrange
from recipes.diagnose.rules.data_rules import judge_data
from recipes.diagnose.rules.model_rules import expected_loss, judge_model
from recipes.diagnose.rules.read_curves import _Curves, _values, curve_findings
from recipes.diagnose.rules.record_rules import judge_record
from recipes.diagnose.rules.run_facts import describe, idle_averages


def diagnose(history=None, record=None, model=None, *, train=None, validation=None, facts=None, seconds=2.0):
    """Say what is wrong with a run, causes before symptoms, each with evidence and remedy.

    Every source adds rules: curves (see `read_curves`), the record of the monitors (what happened inside the
    steps), the model with its loss, and the data. Rules about slow, silent or saturated layers keep quiet in a run that
    does learn.

    Args:
        history: dict of lists, one value an epoch, as `run.history`, or the `History` that `fit` returned; None
            without training.
        record: `run.record`, a `recipes.probe.Record`, as any monitor in `recipes.callbacks` has it; or None.
        model: The compiled `keras.Model`, or None.
        train: Training data, looked at for `seconds`: a `tf.data.Dataset` or arrays.
        validation: Validation data.
        facts: What `recipes.diagnose.describe.describe` found before training, in place of `train` and
            `validation`; then initial weights are judged as well.
        seconds: Time for reading each data set.

    Returns:
        A list of `Finding`, errors first; what a finding explains is in its `consequences`. Empty when nothing
        is wrong.

    Raises:
        ValueError: when nothing to judge was given, or the model is not compiled.
    """
    if history is None and record is None and model is None and facts is None:
        raise ValueError(
            "diagnose expects a history, a record or a model. Received none of them. "
            "Give diagnose(run.history, run.record, run.model)."
        )
    if facts is None:
        facts = describe(model, train, validation, seconds=seconds) if model is not None else {}
    if record is not None and model is not None:
        facts = {**facts, "idle_averages": idle_averages(model)}
    return arrange(judge(history, record, facts))


def judge(history, record, facts):
    """As `diagnose`, from facts alone and not arranged: `(history, record, facts)`."""
    findings = [*judge_model(facts), *judge_data(facts)] if facts else []
    values = _values(history) if history is not None else None
    initial, penalty = _initial(facts)
    start = None if initial is None else initial + penalty
    chance = _chance(facts)
    learned = False
    if values is not None:
        curves = _Curves(values, start, chance)
        learned = curves.learned
        findings += curve_findings(values, initial=start, chance=chance)
        findings += _settled(curves, record, facts)
    findings += judge_record(record, facts, learned=learned, initial=start)
    findings += _shuffled_labels(facts, values, learned)
    return _once(findings)


def _initial(facts):
    """Loss of knowing nothing, and what penalties add to it at the start."""
    if not facts:
        return None, 0.0
    penalty = sum(layer["penalty"] for layer in facts["layers"])
    return expected_loss(facts), penalty


def _chance(facts):
    counts = (facts or {}).get("data", {}).get("train", {}).get("class_counts")
    return max(counts.values()) / sum(counts.values()) if counts else None


def _shuffled_labels(facts, values, learned):
    data = (facts or {}).get("data", {}).get("train", {})
    if "neighbor_agreement" not in data or data["neighbor_chance"] > 0.9:
        return []
    agreement, chance, error = (data[f"neighbor_{name}"] for name in ("agreement", "chance", "error"))
    if agreement > chance + 4 * error or values is None:
        return []
    validation = values.get("val_loss")
    memorized = validation is not None and np.nanmin(validation) > 0.95 * validation[0]
    if learned and not memorized:
        return []
    return [
        Finding(
            "labels_shuffled",
            "warning",
            None,
            None,
            f"The most similar other example has the same label in {agreement:.0%} of cases, as by chance "
            f"({chance:.0%}), "
            "and nothing that carries over is learned.",
            "Look at images with their labels, recipes.plot.grid(images, titles=labels): inputs and labels "
            "may have been "
            "shuffled apart.",
        )
    ]


def _settled(curves, record, facts):
    """Averages of batch normalization that could not settle in so few steps, seen in the validation loss."""
    momenta = [layer for layer in (facts or {}).get("layers", ()) if layer["momentum"] is not None]
    if not momenta or curves.validation is None or record is None or not len(record):
        return []
    known = (facts or {}).get("steps")
    steps = known or int(record.step[-1]) + 1  # up to the last probe
    worst = max(momenta, key=lambda layer: layer["momentum"])
    left = worst["momentum"] ** steps
    gap = curves.validation[-1] > 1.5 * max(curves.loss[-1], 1e-12) and curves.loss[-1] < 0.8 * curves.first
    if left < 0.3 or not (gap or left > 0.9 or not np.isfinite(curves.validation[-1])):
        return []
    remedy = "Take smaller batches or more epochs, for more steps"
    if worst["momentum"] > 0.9:
        remedy = "Use keras.layers.BatchNormalization(momentum=0.9)"
    return [
        Finding(
            "batch_norm_statistics",
            "warning",
            worst["name"],
            curves.epochs,
            f"After {'' if known else 'at least '}{steps} steps at momentum {worst['momentum']:g} the averages "
            f"of {worst['name']} are still {left:.0%} their "
            f"starting values; the loss is {curves.loss[-1]:.4g} in training and "
            f"{curves.validation[-1]:.4g} in validation.",
            f"{remedy}, or call recipes.ensemble.refresh_batch_norm(model, train).",
        )
    ]


def _once(findings):
    """One finding a code and layer: the one with the worst severity, the first of equals."""
    kept = {}
    for finding in findings:
        key = (finding.code, finding.layer)
        order = ("error", "warning", "info").index
        if key not in kept or order(finding.severity) < order(kept[key].severity):
            kept[key] = finding
    return list(kept.values())
