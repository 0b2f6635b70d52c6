"""The figures of a report, each with a sentence on how to read it and what is healthy."""

from __future__ import annotations

from typing import Any

import numpy as np

from recipes.evaluate.scores import calibration_error, coverage_curve
from recipes.report.example_images import Predictions
from recipes.report.summary import words

# Which figure shows the evidence of a finding.
SHOWN_BY = {
    "update_ratios": (
        "rate_too_high",
        "rate_too_low",
        "clipping_too_hard",
        "update_ratio_high",
        "update_ratio_low",
    ),
    "gradients": ("vanishing", "exploding", "initial_scale_too_large", "initial_scale_too_small", "frozen"),
    "units": ("dead_relu", "dead_at_start", "zero_initialization"),
    "activations": ("saturated", "unscaled_inputs"),
    "finite": ("nan_source", "nan_input"),
}
_READ = {
    "curves": "Both losses fall and level off when all is well. Validation that rises while training falls means that "
    "the network memorizes the training examples; both still falling means that more epochs would help.",
    "rates": "The rate per step: the climb at the start is the warm-up, the fall after it the decay.",
    "update_ratios": "How far one step moves the weights of a layer, relative to their size. About 0.001 is healthy; a "
    "layer that stays far above it is changed too fast, one far below hardly learns.",
    "gradients": "From the first layer (left) to the last. Lines that fall by many powers of ten toward the first "
    "layers are vanishing gradients; lines that rise there are exploding ones.",
    "units": "Each row is a unit, the most active ones on top; each column is a probe of a few examples, with its step "
    "below. The scale is logarithmic. Only black is zero: any other color, also a dark one, is a unit at work. Units "
    "near the output answer to few examples, and a third to a half of them may be zero in a whole probe. Units that "
    "were at work and stay black from some probe on have died: such a unit is zero for every example, gets no "
    "gradient, and will not come back.",
    "activations": "The outputs of the layers. Standard deviations of about one in every layer are healthy; those that "
    "shrink or grow from layer to layer, or over time, are not.",
    "finite": "The first layer, from the top, with NaN or infinity is where to look.",
    "reliability": "Points on the diagonal: of the answers given with 80 % confidence, 80 % are right. Points below it "
    "mean too much confidence; evaluate.calibrate corrects that without changing an answer. The second panel: the "
    "accuracy on the most confident share of the examples.",
}
_ENOUGH_LOOKS = 4  # fewer points are no curve
_INSIDE = {"update_ratios", "gradients", "units", "activations"}
_READ_OF_MUON = (
    " MuonSGD, which recipes.train takes by default, makes steps whose length depends on the rate alone: 0.01 is usual "
    "while the rate is high. The same step is a larger part of a small kernel: that of a head of few outputs may lie "
    "at 0.1 and above, which is no fault as long as the loss falls."
)
_READ_OF_LAYERWISE = (
    " In this run each layer has a factor on the rate of its own (see the table Layers), on purpose: layers with a "
    "small factor, usually the first ones of a pretrained network, are to move little, and lie below the band without "
    "being at fault."
)


def figures_of(run: Any, seen: Predictions | None) -> dict[str, dict[str, Any]]:
    """All figures that can be drawn of this run.

    Args:
        run: As in `write_report`.
        seen: What the model answers on held-out data, or None.

    Returns:
        dict from a key to `{"title", "description", "read", "svgs"}`, one `<svg>` for each panel.
    """
    made: dict[str, dict[str, Any]] = {}
    if run.history and "loss" in run.history:
        _add_curves(made, run)
    if (found := _rates(run)) is not None:
        _add_rates(made, *found)
    if run.record is not None and len(run.record):
        _add_record(made, run.record)
        if _few_looks(run):  # only what an error or a warning points to
            wanted = {
                key
                for key, codes in SHOWN_BY.items()
                if any(f.code in codes and f.severity != "info" for f in run.findings)
            }
            for key in set(made) & (_INSIDE - wanted):
                del made[key]
        for key in set(made) & _INSIDE:
            made[key]["read"] += _probed(run)
    if "update_ratios" in made:
        read = f"{read_ratios(run)} The first layer is dark, the last one light."
        made["update_ratios"]["read"] = made["update_ratios"]["read"].replace(_READ["update_ratios"], read)
    if seen is not None and len(seen.labels) >= 50:
        _add_reliability(made, seen)
    return made


def read_ratios(run: Any) -> str:
    """How to read the update ratios of this run: with its optimizer, and with the factors of its layers."""
    if run.record is None:
        return ""
    by_depth = _READ_OF_LAYERWISE if _decays_by_depth(run.record) else ""
    muon = ((run.settings or {}).get("compiled") or {}).get("class") == "MuonSGD"
    return _READ["update_ratios"] + by_depth + (_READ_OF_MUON if muon else "")


def too_few_looks(run: Any) -> str:
    """Why a report has no figures of the layers, in a sentence or two; empty where it has them."""
    if run.record is None or not len(run.record) or not _few_looks(run):
        return ""
    return (
        f"{_probed(run).strip()} Figures of what goes on in the layers (update ratios, gradients, activations, silent "
        f"units) are left out: they need {_ENOUGH_LOOKS} looks or more, as fewer show no course. More epochs give more."
    )


def _few_looks(run):
    return len(run.record) < _ENOUGH_LOOKS


def _add_curves(made, run):
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    history = dict(run.history)
    if _rates(run) is not None:
        # The rate of each step, with its warm-up, has a figure of its own; one value per epoch does not show it.
        history = {name: values for name, values in history.items() if name not in ("learning_rate", "lr")}
    last = ", ".join(f"{words(name)} {values[-1]:.4g}" for name, values in history.items())
    text = f"Curves over {len(history['loss'])} epochs; at the end: {last}."
    _add(made, "curves", "Curves", plot.curves(history), text)


def _add_record(made, record):
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    measured = set(record.measured)
    if "update_norm" in measured:
        text = f"Update ratio of each kernel; the median at the last probe is {_last_median(record.update_ratio):.2g}."
        _add(made, "update_ratios", "Update ratios", plot.update_ratios(record), text)
    if "gradient_norm" in measured:
        text = "Size of the gradients by depth."
        _add(made, "gradients", "Gradients by depth", plot.gradient_flow(record), text)
    if "mean" in measured and _has_silent_units(record):
        text = "How often each rectified unit is active."
        _add(made, "units", "Silent and active units", plot.unit_activity(record), text)
    if "mean" in measured:
        text = "Mean, spread, share of zeros and of saturated outputs of each activation."
        _add(made, "activations", "Activations", plot.activation_statistics(record), text)
    if "output_finite" in measured and not record.output_finite.all():
        text = "Layers with NaN by step."
        _add(made, "finite", "Where numbers were not finite", plot.finite_layers(record), text)


def _decays_by_depth(record):
    return bool(np.any(np.asarray(record.axes["variables"].get("factor", 1)) != 1))


def _probed(run):
    """Which steps the monitors looked at, and why not at the others."""
    record, settings = run.record, run.settings or {}
    steps = np.asarray(record.step)
    last = int(steps[-1])
    total = int(settings.get("steps") or 0) * len((run.history or {}).get("loss", ()))
    of_all = f" of {total}" if total >= last else ""
    where = (
        f"at step {last}{of_all}"
        if len(steps) == 1
        else f"{len(steps)} times, at steps {steps[0]} to {last}{of_all}"
    )
    share = (record.cost or {}).get("budget")
    why = ""
    if share and total > last:
        why = f", as looking takes time and more would take more than {share:.0%} of the training time"
    return f" The monitors looked {where}{why}."


def _add_rates(made, steps, rates):
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    figure = plot.learning_rates(rates, steps=steps)
    text = f"Learning rate from {rates[0]:.3g} to {rates[-1]:.3g}, at most {rates.max():.3g}."
    _add(made, "rates", "Learning rate", figure, text)


def _rates(run):
    """`(steps, rates)`, or None where the rate is not known or never changes.

    The rates are those of the schedule, unless a probed step had another rate, which something else then set.
    """
    steps, rates = np.zeros(0, int), np.zeros(0)
    if run.record is not None and len(run.record):
        known = np.isfinite(np.asarray(run.record.learning_rate, "float64"))
        steps = np.asarray(run.record.step)[known]
        rates = np.asarray(run.record.learning_rate, "float64")[known]
    planned = (run.settings or {}).get("rate_by_step") or {}
    if planned:
        step, rate = np.asarray(planned["step"]), np.asarray(planned["rate"], "float64")
        seen = np.isin(steps, step)
        if np.allclose(rates[seen], rate[np.searchsorted(step, steps[seen])], rtol=0.02):
            steps, rates = step, rate
    return (steps, rates) if len(rates) > 2 and np.ptp(rates) > 0 else None


def _add_reliability(made, seen):
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    right = seen.predicted == seen.labels
    error, diagram = calibration_error(seen.confidence, right)
    text = f"Accuracy against confidence; expected calibration error {error:.1%}."
    figure = plot.reliability(diagram, coverage_curve(seen.confidence, right))
    _add(made, "reliability", f"Calibration: confidence is off by {error:.1%}", figure, text)


def _add(made, key, title, figure, description):
    from recipes.plot.inline import to_svgs  # noqa: PLC0415 - brings matplotlib

    drawn = to_svgs(figure, description)
    made[key] = {"title": title, "description": description, "read": _READ[key], "svgs": drawn}


def _has_silent_units(record):
    """Whether any rectified unit was silent for a quarter of the run, at its end."""
    axis = record.axes["activations"]
    for index, kind in enumerate(axis.get("kind", ())):
        if kind in ("relu", "leaky_relu"):
            _, rates = record.activity(axis["name"][index])
            if len(rates) and (rates[-max(1, len(rates) // 4) :] == 0).all(0).any():
                return True
    return False


def _last_median(rows):
    values = rows[-1][np.isfinite(rows[-1])]
    return float(np.median(values)) if values.size else float("nan")
