"""preflight: all checks before training, within a time budget, as one table."""

import contextlib
import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import keras

from recipes.diagnose.checks.activation_statistics import (
    ActivationStatistics,
    few_examples,
    first_rows,
    observe,
    statistics_of,
)
from recipes.diagnose.checks.data_check import data_check
from recipes.diagnose.checks.initial_loss import initial_loss
from recipes.diagnose.checks.learning_rate_range_test import learning_rate_range_test
from recipes.diagnose.checks.model_check import check_of_model
from recipes.diagnose.checks.model_copy import Trial, dropping_layers, why_not_tried
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.overcome import overcome
from recipes.diagnose.checks.overfit_small_sample import overfit_small_sample
from recipes.diagnose.checks.own_gradients import check_own_gradients, own_layers
from recipes.diagnose.checks.printed_table import HEAD, PrintedTable, row_of
from recipes.diagnose.checks.sample import MOST_BYTES, built, read_sample
from recipes.diagnose.checks.seen_layers import short
from recipes.diagnose.checks.verdict import Check, Skipped
from recipes.diagnose.checks.why_stuck import why_stuck
from recipes.diagnose.finding import SEVERITIES, Finding, arrange
from recipes.diagnose.rules.input_facts import filled_within, meant
from recipes.diagnose.rules.model_rules import judge_batch
from recipes.diagnose.rules.run_facts import describe_model, describe_observation

_TRAINING = ("overfit_small_sample", "learning_rate_range_test", "gradient_check")
_ROUND_SECONDS = (30, 60, 120, 300, 600, 1800, 3600)
_FEWEST_STEPS = 40  # of a range test; with fewer, the distance between rates is too large
_MOST_NUMBERS = 1 << 26  # output values of all layers together, for the examples used where checks also train
_FEWEST_EXAMPLES = 8  # for the check of all layers
# Estimated time per example of a forward and backward pass of all layers, divided by that of the first loss.
_BACK_AND_FORTH = 8
_ALWAYS = 1.0  # seconds; a check that takes less is never left out for lack of time


@dataclass(frozen=True)
class Preflight:
    """Outcome of `preflight`.

    Attributes:
        checks: The checks in the order in which they ran: `data_check`, `model_check`, `initial_loss`,
            `activation_statistics`, `overfit_small_sample`, `learning_rate_range_test`, `gradient_check`.
        findings: The findings of all checks, causes before symptoms.
        facts: Facts about model and data, which `recipes.diagnose.diagnose(facts=...)` takes to judge the run later.
        skipped: Names of the checks for which there was no time.
        seconds: Wall-clock time of all checks, in seconds.
        compiling: The part of `seconds` spent on compiling, which the limit `preflight(seconds=)` does not include.
        left_out: One `Skipped` per skipped check, with the time that it needs.
        not_asked_for: Names of the checks that `training=False` left out.
    """

    checks: list[Check]
    findings: list[Finding]
    facts: dict
    skipped: list[str]
    seconds: float
    compiling: float = 0.0
    left_out: tuple[Skipped, ...] = ()
    not_asked_for: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Check:
        """The check with this name.

        Raises:
            StopIteration: when no check of this name has run.
        """
        return next(check for check in self.checks if check.name == name)

    def __str__(self) -> str:
        return "\n".join([HEAD, *(row_of(check) for check in self.checks), self.summary()])

    @property
    def severity(self) -> str:
        """The worst severity among the findings, or "ok"."""
        return min((f.severity for f in self.findings), key=SEVERITIES.index, default="ok")

    @property
    def enough_seconds(self) -> int | None:
        """Value of `seconds` with which all checks should run, one of 30, 60, 120 ...; None where all ran.

        It is the estimate and half as much again, as the speed of a machine varies.
        """
        if not self.left_out:
            return None
        work = 1.5 * (self.seconds - self.compiling + sum(check.needs or 0 for check in self.left_out))
        return next((time for time in _ROUND_SECONDS if time >= work), _ROUND_SECONDS[-1])

    def summary(self) -> str:
        """The lines below the table: the checks that were left out, the time, and the findings."""
        lines = [f"{check.name:<26}{'SKIPPED':<9}{check}" for check in self.left_out]
        compiling = f", {self.compiling:.1f} s of it compiling" if self.compiling >= 0.1 else ""
        lines.append(f"preflight took {self.seconds:.1f} s{compiling}")
        for finding in self.findings:
            if finding.severity != "info":
                lines.append(finding.wrapped())
        if self.not_asked_for:
            lines.append(
                f"not asked for, as they train: {', '.join(self.not_asked_for)}; recipes.train(preflight=True) and "
                "recipes.diagnose.preflight run them, in a shell recipes check"
            )
        if self.left_out:
            # A check that has not run must not be taken for passed.
            names = ", ".join(self.skipped)
            they = "it looks" if len(self.skipped) == 1 else "they look"
            lines.append(
                f"NOT CHECKED, for lack of time: {names}. Nothing is known of what {they} for; "
                f"recipes.diagnose.preflight(model, train, seconds={self.enough_seconds}) runs all."
            )
        return "\n".join(lines)


def preflight(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    *,
    seconds: float = 30.0,
    training: bool = True,
    verbose: int = 1,
) -> Preflight:
    """Run all checks before training, and print one table with check, verdict, result and remedy.

    The checks that show most for their time run first. The order is: the data, the model with its loss, the first
    loss, one batch through all layers and back, overfitting a few batches, and the learning rate range test. For a
    model with custom layers, the gradient check is the last. The first three always run, on few examples where the
    network is large. The check of all layers uses as many of these examples as there is time for, but at least 8.

    A check begins only while there is time. Its name is printed when it begins, and the rest of its row when it ends.
    The time limit does not include the compilation of training steps, which may take most of the first minute of a
    large network. The last lines name the checks for which there was no time, with the seconds that they need.

    Args:
        model: A compiled `keras.Model`. Weights, optimizer, metrics and random generators are not changed: they are
            restored bit for bit.
        train: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, or arrays `(x, y)`. Reading does
            not change the order of its next epochs, even if it shuffles. For a custom training step that takes no
            labels, it may be inputs alone.
        validation: Validation data of the same kinds, or None.
        seconds: Time for the work of all checks, in seconds.
        training: False leaves out the checks that compile and make training steps: overfitting a few batches, the range
            test, and the gradient check of custom layers. The last lines name them.
        verbose: 0 prints nothing, 1 prints the table.

    Returns:
        A `Preflight`.

    Raises:
        ValueError: when the model is not compiled or a data set is empty.
        TypeError: for data that is neither a data set nor arrays.
    """
    start = time.monotonic()
    task_of(model)
    table = PrintedTable(verbose)
    with table:
        return _run_checks(model, train, validation, seconds, training, start, table)


def _run_checks(model, train, validation, seconds, training, start, table):
    table.say(HEAD)
    table.begin("data_check")
    reading = min(2.0, seconds / 5)
    options = {"batch_size": 64, "batches": 64, "seconds": reading, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    held_out = None
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
    built(model, sample)
    plan = _Plan(model, sample, seconds, start, table, training)
    plan.add(data_check(model, sample, held_out))
    facts = {**describe_model(model), "data": plan.checks[0].facts}
    plan.add(check_of_model(facts))
    codes = {f.code for f in plan.checks[0].findings if f.severity == "error"}
    # With labels that do not fit the loss, its value is meaningless, and computing it may raise an error.
    unusable = {"nan_input", "labels_out_of_range", "label_count"} & codes
    runs = model.built and facts["data"]["train"]["label_counts_match"]
    told = runs and not unusable and plan.first_loss()
    if runs:
        _look(plan, facts, unusable, held_out)
    if runs and not unusable:
        if not told:
            plan.first_loss(strict=True)
        if training:
            plan.train(facts)
    elif not runs and not unusable:
        table.say(f"{'':<26}{'':<9}the model is never called as a whole, so no batch was sent through it")
    findings = arrange(overcome(plan.checks))
    done = Preflight(
        plan.checks,
        findings,
        facts,
        [check.name for check in plan.left_out],
        time.monotonic() - start,
        plan.compiling,
        tuple(plan.left_out),
        () if training else _TRAINING,
    )
    table.say(done.summary())
    return done


class _Plan:
    """The checks that have run, and the time that is left for the others."""

    def __init__(self, model, sample, seconds, start, table, training):
        self.model, self.sample, self.table = model, sample, table
        # Without the checks that train, no check should take longer than a first training step.
        numbers = {"numbers": _MOST_NUMBERS} if training else {}
        few = few_examples(model, sample.batches[0], **numbers)
        all_of_them = training and _rows(few) == _rows(sample.batches[0])
        self.looked_at = sample if all_of_them else dataclasses.replace(sample, batches=[few])
        self.seconds, self.start, self.training = seconds, start, training
        self.checks, self.left_out = [], []
        self.compiling = 0.0
        self._begun = start

    def add(self, check):
        check = dataclasses.replace(check, seconds=time.monotonic() - self._begun)
        self._begun = time.monotonic()
        self.checks.append(check)
        self.table.say(row_of(check))

    def left(self):
        return self.seconds - (time.monotonic() - self.start - self.compiling)

    def skip(self, name, needs):
        self.left_out.append(Skipped(name, needs, self.left()))

    def first_loss(self, *, strict=False):
        """Check the first loss, whether or not there is time, and return whether it could be computed.

        For a model that cannot be run, this raises only if `strict`, as the check of all layers reports it.
        """
        self.table.begin("initial_loss")
        try:
            self.add(initial_loss(self.model, self.looked_at))
        except Exception:
            if strict:
                raise
            return False
        return True

    def batch_for_layers(self):
        """The batch for the check of all layers, with as many examples as there is time for; None without time.

        The time per example is estimated from that of the first loss, if there is one. The check may exceed the time
        that is left by three times the limit of all checks, as that is better than to leave it out.
        """
        batch, last = self.looked_at.batches[0], self.checks[-1]
        if last.name != "initial_loss" or not math.isfinite(last.loss):
            return batch
        looked_at = min(4 * 128, sum(map(_rows, self.looked_at.batches)))  # by initial_loss
        each = _BACK_AND_FORTH * last.seconds / looked_at
        # Half of the time is for the checks that train, as these show more than further examples here.
        left = max(self.left() / (2 if self.training else 1), _ALWAYS)
        if each * _rows(batch) <= left:
            return batch
        # The first call was slower, as it also set up the operations of the layers; so the time is measured again.
        few, begun = first_rows(batch, _FEWEST_EXAMPLES), time.monotonic()
        initial_loss(self.model, dataclasses.replace(self.looked_at, batches=[few]))
        each = _BACK_AND_FORTH * (time.monotonic() - begun) / _rows(few)
        rows = max(_FEWEST_EXAMPLES, int(left / each))
        if each * rows > left + 3 * max(self.seconds, _ALWAYS):
            self.skip("activation_statistics", each * rows)
            return None
        return first_rows(batch, rows)

    def train(self, facts):
        """The checks that make training steps."""
        model, sample = self.model, self.sample
        if model.trainable_variables:
            with contextlib.ExitStack() as stack:
                shared = None
                if _unregularized(model, facts) and not why_not_tried(model):
                    shared = stack.enter_context(Trial(model, regularized=False))
                self._learn(shared, facts)
                self._range(shared)
        own = own_layers(model)
        if own and keras.backend.backend() != "tensorflow":
            self.add(
                Check(name="gradient_check", result="not run: it needs Keras on TensorFlow", findings=[])
            )
        elif own and self.left() > 0:
            self.table.begin("gradient_check")
            self.add(check_own_gradients(model, sample, own))
        elif own:
            self.skip("gradient_check", None)

    def _learn(self, shared, facts):
        """Overfit a few batches in half of the time that is left, but with the least number of steps in any case."""
        if self.left() <= 0:
            self.skip("overfit_small_sample", None)
            return
        half = max(0.5, 0.5 * self.left())
        self.table.begin("overfit_small_sample")
        with self._trial(shared, regularized=False) as trial:
            check = overfit_small_sample(self.model, self.sample, batch_size=32, seconds=half, trial=trial)
            self._compiled(trial)
        facts["few_batches"] = check.outcome
        if check.outcome == "stuck":
            seen = next((one for one in self.checks if isinstance(one, ActivationStatistics)), None)
            largest = max(math.prod(v.shape) for v in self.model.trainable_variables)
            told = () if seen is None else (seen.layers, seen.gradients, facts["optimizer"], largest)
            causes = why_stuck(*told) if told else []
            check = dataclasses.replace(check, findings=[*check.findings, *causes])
        self.add(check)

    def _range(self, shared):
        """Run the range test with as many steps as there is time for, 80 at most; with time for under 40, skip it."""
        done = self.checks[-1]
        step = done.seconds_per_step if done.name == "overfit_small_sample" else None
        affordable = self.left() / max(step, 1e-6) if step else 0.0
        if done.name == "overfit_small_sample" and not done.losses.size:
            self.add(learning_rate_range_test(self.model, self.sample))
            return
        if affordable < _FEWEST_STEPS:
            self.skip("learning_rate_range_test", None if step is None else step * _FEWEST_STEPS)
            return
        steps = int(min(80, affordable))
        self.table.begin("learning_rate_range_test")
        with self._trial(shared, regularized=True) as trial:
            options = {"batch_size": 32, "steps": steps, "seconds": max(60.0, self.left())}
            check = learning_rate_range_test(self.model, self.sample, trial=trial, **options)
            if trial is not shared:
                self._compiled(trial)
        self.add(check)

    def _trial(self, shared, *, regularized):
        """The trial that both checks share, or a new one that restores the weights at its end."""
        if shared is not None or why_not_tried(self.model):
            return contextlib.nullcontext(shared)
        return Trial(self.model, regularized=regularized)

    def _compiled(self, trial):
        if trial is not None:
            self.compiling += trial.compile_seconds


def _look(plan, facts, unusable, held_out):
    """Run one batch through all layers, and judge what it shows of them and of the model."""
    batch = plan.batch_for_layers()
    if batch is None:
        return
    plan.table.begin("activation_statistics")
    try:
        seen = observe(plan.model, batch)
        plan.compiling += seen.compiling
    except (
        Exception
    ) as error:  # a model that cannot be run on its data; the rows of the other checks are kept
        facts["unknown"]["batch"] = short(error)
        plan.add(
            Check(
                name="activation_statistics",
                result=f"could not run the model on a batch: {short(error)}",
                findings=[],
            )
        )
        return
    if "nan_input" in unusable and filled_within(batch[0], seen.layers):
        first = plan.checks[0]
        plan.checks[0] = dataclasses.replace(first, findings=meant(first.findings))
        unusable -= {
            f.code for f in plan.checks[0].findings if f.code == "nan_input" and f.severity == "info"
        }
    if not unusable:
        facts |= describe_observation(plan.model, plan.sample, seen, facts, held_out)
    plan.add(statistics_of(seen))
    # A real batch shows more than the graph of the model.
    known = {(f.code, f.layer) for check in plan.checks for f in check.findings}
    more = [f for f in judge_batch(facts) if (f.code, f.layer) not in known]
    if more:
        name = "model_check"
        plan.add(Check(name=name, result="what that batch shows of the model", findings=more))


def _rows(batch):
    return len(keras.tree.flatten(batch[0])[0])


def _unregularized(model, facts):
    """Whether the model has no dropout and no penalties, so that both checks that train can share one compiled step."""
    return not dropping_layers(model) and not any(layer["penalty"] for layer in facts["layers"])
