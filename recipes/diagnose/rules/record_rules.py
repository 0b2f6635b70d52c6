"""Rules about what the probes saw inside the training steps."""

import functools
from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.batch_rules import RULES, found
from recipes.diagnose.rules.clipping_rules import clipping
from recipes.diagnose.rules.frozen_rules import never_given
from recipes.diagnose.rules.record_view import RecordView, median, row_medians
from recipes.diagnose.rules.remedies import higher_rate, lower_rate
from recipes.diagnose.rules.schedule_rules import GONE
from recipes.diagnose.rules.words import part_of, share, times

_SQUASHING = ("tanh", "sigmoid")


def judge_record(
    record: Any,
    facts: dict,
    *,
    learned: bool = False,
    initial: float | None = None,
    first: float | None = None,
    now: float | None = None,
    gaining: bool = False,
) -> list[Finding]:
    """Findings in a `recipes.probe.Record`.

    Args:
        record: The record of one probe or more, or None.
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, or an empty one.
        learned: Whether the curves show that the run learns; rules about slow or silent layers are then relaxed or
            skipped.
        initial: Loss of the best constant prediction, penalties included, or None.
        first: Loss that the run began with, by its curves, or None.
        now: Loss of the last epoch, or None.
        gaining: Whether the run beats the best constant prediction in validation too, by however little.

    Returns:
        A list of `Finding`, not arranged.
    """
    if record is None or len(record) == 0:
        return []
    view = RecordView(record, facts, learned, initial, first, now)
    broken = _not_finite(view)
    if broken:
        return broken
    dead = functools.partial(_dead, gaining=gaining)
    rules = (*RULES, never_given, _shrunk, dead, _saturated, _signal, _rate, clipping)
    return [finding for rule in rules for finding in rule(view)]


def _moved(middle, peak):
    """How far a step moves kernels, in words; only the largest change where most kernels move as usual, or less."""
    if middle <= 1e-3:
        return f"A step changes a kernel by up to {part_of(peak, 'its size')}"
    return f"A step changes kernels by {part_of(middle, 'their size')}, at most by {share(peak)}"


def _shrunk(view):
    """Weights that a penalty shrank to almost nothing, in a run that learned nothing."""
    strengths = {layer["name"]: layer.get("penalty_rate", 0.0) for layer in view.facts.get("layers", ())}
    if view.learned or view.count < 3:
        return []
    left = median(view.weight[view.late]) / np.maximum(view.weight[0], 1e-30)
    for column, name in enumerate(map(str, view.names)):
        strength = strengths.get(name) or 0.0
        if strength >= 1e-3 and view.weight[0, column] > 1e-6 and left[column] < 0.2:
            return [
                found(
                    "regularization_too_strong",
                    "warning",
                    name,
                    view.epoch[0],
                    f"The weights of {name} have shrunk to {left[column]:.1%} of their size at the start under an "
                    f"L1 or L2 of {strength:.2g}, and nothing is learned: the penalty costs more than they bring.",
                    f"Use a far smaller one, keras.regularizers.L2({min(strength / 100, 1e-4):.0e}).",
                )
            ]
    return []


def _usual(rates):
    """The median learning rate; NaN where none was read, as with several optimizers."""
    return float(np.median(rates[np.isfinite(rates)])) if np.isfinite(rates).any() else float("nan")


def _not_finite(view):
    record = view.record
    inputs = ~record.input_finite.all(axis=1) if record.input_finite.size else np.zeros(view.count, bool)
    weights = ~record.weight_finite.all(axis=1) if record.weight_finite.size else np.zeros(view.count, bool)
    outputs = ~record.output_finite.all(axis=1) if record.output_finite.size else np.zeros(view.count, bool)
    updates = ~record.update_finite.all(axis=1) if record.update_finite.size else np.zeros(view.count, bool)
    # A model may fill in missing values itself; what it computes from them is then finite.
    inputs &= bool((weights | outputs | updates | ~np.isfinite(record.loss)).any())
    broken = inputs | weights | outputs | updates
    if view.tells_loss or broken.any():
        broken = broken | (~np.isfinite(record.loss) & view.tells_loss)
    if not broken.any():
        return []
    row = int(np.argmax(broken))
    epoch, step = view.epoch[row], int(view.step[row])
    if inputs[row]:
        return [
            found(
                "nan_input",
                "error",
                None,
                epoch,
                f"The batch of step {step} holds NaN or infinity, in its {_parts(record.input_finite[row])}; one such "
                "number makes every weight NaN.",
                "Drop such examples: dataset.filter(lambda x, y: tf.reduce_all(tf.math.is_finite(x))).",
            )
        ]
    before = slice(0, row)
    ratio = np.nanmax(np.append(view.ratio[before][:, view.kernels], 0.0)) if view.kernels.size else 0.0
    loss = view.loss[before]
    loss = loss[np.isfinite(loss)]
    start = view.initial if view.initial else (loss[0] if len(loss) else np.nan)
    rising = len(loss) > 0 and start > 0 and np.max(loss) > 5 * start
    if rising or ratio > 1.0:
        return [
            found(
                "rate_too_high",
                "error",
                None,
                epoch,
                f"Step {step} gives NaN or infinity, after the loss had gone {_went(view, start, loss)} and steps "
                f"had changed kernels by up to {part_of(ratio, 'their size')} (0.1 % is usual).",
                lower_rate(_usual(record.learning_rate[: row + 1]), view.optimizer),
            )
        ]
    layer = None
    if outputs[row] and not weights[row]:
        layer = str(record.axes["layers"]["name"][int(np.argmax(~record.output_finite[row]))])
        evidence = (
            f"At step {step} the output of {layer} is the first, in forward order, with NaN or infinity; "
        )
        evidence += "inputs and weights were finite."
        remedy = "Look for log, sqrt or a division there, and add a small constant (keras.config.epsilon())."
    elif weights[row]:
        evidence = (
            f"At step {step} weights are NaN or infinite; they became so since the last probe, and every output is "
            "NaN from then on."
        )
        remedy = "Add recipes.callbacks.NonFiniteGuard(), which looks at every step and names the layer."
    elif not np.isfinite(record.loss[row]):
        evidence = f"At step {step} the loss is {record.loss[row]}, but all outputs are finite: the loss is the cause."
        remedy = "Look at the loss: log of 0 or an overflow; use from_logits=True with logits."
    else:
        layer = view.layer(int(np.argmax(~record.update_finite[row])))
        evidence = f"At step {step} outputs and loss are finite, and the update of {layer} is not: its gradient is NaN."
        remedy = "Look for sqrt, norms or divisions at 0 behind that layer; their slopes are infinite."
    return [found("nan_source", "error", layer, epoch, evidence, remedy)]


def _went(view, start, loss):
    if not len(loss):
        return "from a number that is not known"
    whence = "that of always giving the same answer, " if view.initial else ""
    return f"from {whence}{start:.4g}, to {np.max(loss):.4g}"


def _parts(row):
    return " and ".join(
        name for name, good in zip(("inputs", "targets", "sample weights"), row, strict=True) if not good
    )


def _dead(view, gaining):
    findings, names = [], view.activations.get("name", ())
    kinds = view.activations.get("kind", ())
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if str(kind) != "relu" or index == len(names) - 1:
            continue
        steps, rates = view.record.activity(str(name))
        if not len(rates):
            continue
        # With few examples per batch, zeros in one probe mean little, so several probes must agree.
        batch = view.facts.get("data", {}).get("train", {}).get("batch") or 32
        several = 1 if batch >= 16 else min(8, -(-16 // batch))
        if len(rates) < several:
            continue
        late = float(np.mean((rates[-max(2, several) :] <= 0).all(axis=0)))
        early = float(np.mean((rates[:several] <= 0).all(axis=0)))
        if late > 0.9 and early > 0.9 and steps[0] <= 2:
            findings.append(
                found(
                    "dead_at_start",
                    "error" if late == 1 else "warning",
                    str(name),
                    -1,
                    f"{early:.0%} of the {rates.shape[1]} units of {name} were zero for every example at "
                    f"the first probe, and {late:.0%} still are: no gradient passes through them.",
                    "Use bias_initializer='zeros' and kernel_initializer='he_normal' there, and scale the inputs to "
                    "about -1..1.",
                )
            )
        elif late > 0.9 or (late > 0.6 and early < 0.5 * late and not (view.learned or gaining)):
            findings.append(
                found(
                    "dead_relu",
                    "error" if late == 1 else "warning",
                    str(name),
                    _first_epoch(view, str(name), 0.5 * late),
                    f"{late:.0%} of the {rates.shape[1]} units of {name} are zero for every example, so no gradient "
                    f"passes through them; {early:.0%} were at the first probe.",
                    "Lower the learning rate, warm it up, or use activation='leaky_relu'.",
                )
            )
    return findings


def _first_epoch(view, name, share):
    steps, rates = view.record.activity(name)
    step = steps[int(np.argmax((rates <= 0).mean(axis=1) > share))]
    return view.epoch[int(np.searchsorted(view.step, step))]


def _saturated(view):
    findings, names = [], view.activations.get("name", ())
    if not len(names):
        return findings
    flat = median(view.record.saturated_fraction[view.late])
    for index, (name, kind) in enumerate(zip(names, view.activations["kind"], strict=True)):
        if str(kind) not in _SQUASHING or index == len(names) - 1:
            continue
        if flat[index] > (0.8 if view.learned else 0.5):
            findings.append(
                found(
                    "saturated",
                    "warning",
                    str(name),
                    view.epoch[0],
                    f"{flat[index]:.0%} of the outputs of {name} ({kind}) lie where its slope is under a "
                    "tenth of the largest, so that much less gradient passes.",
                    "Start its kernel with glorot_uniform, scale the inputs, lower the rate, or use relu.",
                )
            )
    return findings


def _signal(view):
    """Gradients that vanish or explode on their way back to the first layers."""
    hidden = view.kernels[:-1]  # a last kernel that starts small shrinks the gradients of all layers alike
    if hidden.size < 3 or not np.isfinite(view.gradient[:, hidden]).any():
        return []
    size = np.sqrt(np.maximum(view.record.axes["variables"]["size"][hidden], 1))
    gradient = median(view.gradient[view.early][:, hidden]) / size
    weight = median(view.weight[view.early][:, hidden]) / size
    # The size of a kernel that starts at zero, as the last one of a residual branch may, is no measure.
    relative = np.divide(gradient, weight, out=np.full_like(gradient, np.nan), where=weight > 1e-6)
    good = np.isfinite(relative)
    if good.sum() < 3:
        return []
    last = float(np.max(relative[good][-2:]))
    first = float(relative[good][0])
    name = view.layer(hidden[np.flatnonzero(good)[0]])
    top = view.layer(hidden[np.flatnonzero(good)[-1]])
    if first < 1e-3 * last and not view.learned:
        return [
            found(
                "vanishing",
                "warning",
                name,
                view.epoch[0],
                f"Relative to its weights, the gradient of {name} is {first:.2g} and that of {top} "
                f"{last:.2g}, {times(last / max(first, 1e-30))} times as large: the first layers hardly move.",
                "Use relu instead of sigmoid or tanh, he_normal, batch normalization or residual "
                "connections.",
            )
        ]
    largest = float(np.max(relative[good]))
    if largest > 30 and (not view.learned or view.climbing > 5):
        worst = view.layer(hidden[int(np.nanargmax(np.where(good, relative, -1)))])
        return [
            found(
                "exploding",
                "warning",
                worst,
                view.epoch[0],
                f"The gradient of {worst} is {times(largest)} times the size of its weights: a step of any usual rate "
                "throws them away.",
                "Use he_normal, batch normalization, clip gradients (clipnorm=1.0), or lower the rate.",
            )
        ]
    return []


def _rate(view):
    if not view.kernels.size:
        return []
    # A kernel that starts at zero changes by many times its size in its first steps, and rightly so.
    ratio = np.where(view.weight > 1e-6, view.ratio, np.nan)[:, view.kernels]
    # After the end of a schedule nothing moves, which is no fault of the gradients.
    rates = view.record.learning_rate
    if np.isfinite(rates).any() and np.nanmax(rates) > 0:
        ratio[rates < GONE * np.nanmax(rates)] = np.nan
    later = slice(1 if view.count > 3 else 0, None)
    ratios = median(ratio[later])
    known = np.isfinite(ratios)
    if not known.any():
        return []
    middle = float(np.median(ratios[known]))
    rate = _usual(view.record.learning_rate)
    finite = view.loss[np.isfinite(view.loss)]
    late = float(np.median(view.loss[view.late])) if view.tells_loss else np.nan
    peak = float(np.max(row_medians(ratio[later]), initial=0.0))
    began = view.began
    climbed = late / began if began and view.count >= 3 and np.isfinite(late) else 0.0
    # The loss is below that of the best constant prediction: whatever the first steps did, the run recovered.
    if view.now is not None and view.initial and view.now < 0.85 * view.initial:
        began = max(began or 0.0, view.now)
        if view.now < 0.85 * began and peak < 1:
            return []
    worse = climbed > 1.5 and not view.learned
    spikes = view.climbing > 10 and finite[np.argmax(finite) :].min() < 0.5 * finite.max()
    # Still high at the end: a lower loss may belong to a run that recovers from its first steps.
    stays = view.tells_loss and len(finite) >= 6 and late > 0.5 * float(finite.max())
    if (
        (worse and middle > 3e-3)
        or (max(middle, peak / 3) > 0.1 and not view.learned)
        or (spikes and not view.learned and middle > 0.01)
    ):
        return [
            found(
                "rate_too_high",
                "error" if climbed > 10 and stays else "warning",
                None,
                view.epoch[0],
                f"{_moved(middle, peak)} (0.1 % is usual), at a learning rate of {rate:.2g}{view.rates_told}: "
                f"steps that long throw away what was learned before{_against(view, late)}.",
                lower_rate(rate, view.optimizer),
            )
        ]
    reached = late if view.now is None else view.now  # the median over a few batches is noisy
    if middle < 1e-12 and not view.learned:
        return [
            found(
                "vanishing",
                "warning",
                None,
                view.epoch[0],
                f"Steps at a learning rate of {rate:.2g} change kernels by nothing: no gradient reaches them, and a "
                "higher rate would change that as little.",
                "Look for what cuts the gradient off: units that are always 0, an activation that is flat where it is "
                "used, stop_gradient, rounding or argmax.",
            )
        ]
    if middle < 5e-5 and not view.learned and (not began or reached > 0.8 * began):
        return [
            found(
                "rate_too_low",
                "warning",
                None,
                view.epoch[0],
                f"A step changes kernels by {part_of(middle, 'their size')} (0.1 % is usual), at a learning rate of "
                f"{rate:.2g}{view.rates_told}: they would need {times(1 / max(middle, 1e-12))} steps to change by "
                "their own size.",
                higher_rate(rate, middle, view.optimizer),
            )
        ]
    return []


def _against(view, late):
    if not np.isfinite(late) or view.began is None:
        return ""
    against = (
        f"; always giving the same answer costs {view.initial:.4g}"
        if view.initial
        else f" after {view.began:.4g} at first"
    )
    last = int(view.step[-1])
    if view.now is not None and view.now > 10 * max(late, view.began):
        # The probes stand for the steps that they saw; the epoch's mean has what came between and after them.
        return f". The mean loss of the last epoch is {view.now:.4g}{against}"
    return f". At step {last}, the last one looked at, the loss of a batch was about {late:.4g}{against}"
