"""All checks before training, within a time budget, as one table."""

import contextlib
import functools
import textwrap
import time
from dataclasses import dataclass

import keras

from recipes.common.traversal import layers_of
from recipes.diagnose.checks.activation_statistics import activation_statistics
from recipes.diagnose.checks.data_check import data_check
from recipes.diagnose.checks.gradient_check import gradient_check
from recipes.diagnose.checks.initial_loss import initial_loss
from recipes.diagnose.checks.learning_rate_range_test import learning_rate_range_test
from recipes.diagnose.checks.model_copy import Trial, built, dropping_layers, untouched
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.overfit_small_sample import overfit_small_sample
from recipes.diagnose.checks.sample import MOST_BYTES, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding, arrange
from recipes.diagnose.rules.model_rules import judge_model
from recipes.diagnose.rules.run_facts import describe

_FEWEST_STEPS = 40  # of a range test; fewer jump over the rates that matter


_HEAD = f"{'check':<26}{'verdict':<9}result"


def _row(check):
    remedy = check.remedy and textwrap.wrap(
        check.remedy, 100, initial_indent=" " * 35 + "-> ", subsequent_indent=" " * 38
    )
    return "\n".join([f"{check.name:<26}{check.verdict:<9}{check.result}", *(remedy or ())])


@dataclass(frozen=True)
class Preflight:
    """Outcome of `preflight`.

    Attributes:
        checks: list of `Check`, in the order they ran: `data_check`, `model_check`, `activation_statistics`,
            `initial_loss`, `overfit_small_sample`, `learning_rate_range_test`, `gradient_check`.
        findings: list of `Finding` of all of them, causes before symptoms.
        facts: What `recipes.diagnose.diagnose(facts=...)` takes, to judge the run later.
        skipped: Names of checks there was no time for.
        seconds: Time it took.
    """

    checks: list
    findings: list
    facts: dict
    skipped: list
    seconds: float

    def __getitem__(self, name):
        """The check of this name."""
        return next(check for check in self.checks if check.name == name)

    def __str__(self):
        return "\n".join([_HEAD, *(_row(check) for check in self.checks), self.summary()])

    def summary(self):
        """The lines below the table: what was left out, the time, the findings."""
        lines = [
            f"{name:<26}{'skipped':<9}no time left; call recipes.diagnose.{name}(model, train)"
            for name in self.skipped
        ]
        lines.append(f"preflight took {self.seconds:.1f} s")
        for finding in self.findings:
            if finding.severity != "info":
                lines.append(finding.wrapped())
        return "\n".join(lines)


def preflight(model, train, validation=None, *, seconds=30.0, verbose=1):
    """Run all checks before training and print one table: check, verdict, result, remedy; each row when it is known.

    Order: the data, the model with its loss, one batch through all layers and back, the first loss, learning a few
    batches by heart, the range test of learning rates, and, for a model with layers of the reader's own, the gradient
    check. A check begins only while there is time; a check that has begun
    may overrun by the compilation of its training step.

    Args:
        model: A compiled `keras.Model`. Weights, optimizer, metrics and random generators are left as they were,
            bit for bit.
        train: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, or arrays `(x, y)`. The order of
            its next epochs is left as it was, also for a data set that shuffles.
        validation: The same for validation data, or None.
        seconds: Time for all checks.
        verbose: 0 prints nothing.

    Returns:
        A `Preflight`.

    Raises:
        ValueError: when the model is not compiled or a data set is empty.
        TypeError: for data that is neither a data set nor arrays.
    """
    start = time.monotonic()
    say = functools.partial(print, flush=True) if verbose else lambda line: None
    task_of(model)
    say(_HEAD)
    reading = min(2.0, seconds / 5)
    options = {"batch_size": 64, "batches": 64, "seconds": reading, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    held_out = None
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
    built(model, sample)

    checks, skipped = [], []

    def add(check):
        checks.append(check)
        say(_row(check))

    add(data_check(model, sample, held_out))
    facts = {**describe(model), "data": checks[0].facts}
    add(_model_check(facts))
    usable = not {"nan_input", "labels_out_of_range", "label_count"} & {f.code for f in checks[0].findings}
    if usable:
        add(activation_statistics(model, sample))
        facts["statistics"] = [vars(layer) for layer in checks[-1].layers]

    def left():
        return seconds - (time.monotonic() - start)

    plan = [("initial_loss", lambda trial: initial_loss(model, sample))]
    if model.trainable_variables:
        plan += [
            ("overfit_small_sample", lambda trial: _learn(model, sample, trial, left)),
            ("learning_rate_range_test", lambda trial: _range(model, sample, trial, _steps(checks, left))),
        ]
    with contextlib.ExitStack() as stack:
        trial = None
        for name, check in plan if usable else ():
            if left() <= 0 or (name == "learning_rate_range_test" and _steps(checks, left) < _FEWEST_STEPS):
                skipped.append(name)
                continue
            if name == "overfit_small_sample" and _unregularized(model, facts):
                trial = stack.enter_context(Trial(model, regularized=False))
            add(check(trial))
        own = _own_layers(model)
        if usable and own and left() > 0:
            add(_gradient_check(model, sample, own))
        elif usable and own:
            skipped.append("gradient_check")
    findings = arrange([finding for check in checks for finding in check.findings])
    done = Preflight(checks, findings, facts, skipped, time.monotonic() - start)
    say(done.summary())
    return done


def _unregularized(model, facts):
    """Whether both checks that train would compile the same step, and so can share it."""
    return not dropping_layers(model) and not any(layer["penalty"] for layer in facts["layers"])


def _learn(model, sample, trial, left):
    return overfit_small_sample(model, sample, batch_size=32, seconds=max(0.5, 0.5 * left()), trial=trial)


def _range(model, sample, trial, affordable):
    return learning_rate_range_test(model, sample, batch_size=32, steps=int(min(80, affordable)), trial=trial)


def _steps(checks, left):
    """How many more training steps there is time for, judging by those of the check before."""
    return left() / max(checks[-1].seconds_per_step, 1e-6)


def _own_layers(model):
    """Names of layers whose code is neither Keras' nor ours: only their gradients can be wrong."""
    return [
        layer.name
        for layer in layers_of(model)
        if type(layer).__module__.split(".")[0] not in ("keras", "recipes")
        or isinstance(layer, keras.layers.Lambda)
    ]


def _gradient_check(model, sample, own):
    try:
        with untouched(model):
            report = gradient_check(model, tuple(part for part in sample.batches[0] if part is not None))
    except (ValueError, TypeError, NotImplementedError) as error:
        return Check(
            name="gradient_check", result=f"could not run: {str(error).splitlines()[0]}", findings=[]
        )
    findings = []
    if report.verdict == "wrong":
        layer = report.wrong_layers[0].removeprefix(f"{model.name}/") if report.wrong_layers else None
        findings.append(
            Finding(
                "gradient_check",
                "error",
                layer,
                0,
                f"Backpropagation and differences of the loss disagree by {report.worst:.1e}.",
                "Look at the custom gradient of that layer; print recipes.diagnose.gradient_check(model, batch).",
            )
        )
    result = f"{report.verdict}, worst relative error {report.worst:.1e}, own layers: {', '.join(own[:3])}"
    return Check(name="gradient_check", result=result, findings=findings)


def _model_check(facts):
    findings = judge_model(facts)
    task, layers = facts["task"], [layer for layer in facts["layers"] if layer["kernel"]]
    loss = task["loss"] or "several losses"
    optimizer = facts["optimizer"]
    result = (
        f"{len(layers)} layers with kernels, output {task['activation'] or 'of its own'}, {loss}, "
        f"{optimizer['name']} at {optimizer['rate']:.3g}"
    )
    return Check(name="model_check", result=result, findings=findings)
