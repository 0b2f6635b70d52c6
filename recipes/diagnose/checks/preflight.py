"""All checks before training, within a time budget, as one table."""

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
_FEWEST_STEPS = 40  # of a range test; fewer jump over the rates that matter
_MOST_NUMBERS = 1 << 26  # that all layers give out for the examples looked at, where steps are made too
_FEWEST_EXAMPLES = 8  # to look at all layers with
_BACK_AND_FORTH = 8  # times as long as the first loss takes, for an example
_ALWAYS = 1.0  # seconds; what takes less is not worth leaving out


@dataclass(frozen=True)
class Preflight:
    """Outcome of `preflight`.

    Attributes:
        checks: list of `Check`, in the order they ran: `data_check`, `model_check`, `initial_loss`,
            `activation_statistics`, `overfit_small_sample`, `learning_rate_range_test`, `gradient_check`.
        findings: list of `Finding` of all of them, causes before symptoms.
        facts: What `recipes.diagnose.diagnose(facts=...)` takes, to judge the run later.
        skipped: Names of checks there was no time for.
        seconds: Wall-clock time it took, in seconds.
        compiling: Seconds of it that went into compiling training steps, which `preflight(seconds=)` does not count.
        left_out: What each skipped check needs, a list of `Skipped`.
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
        """The check of this name."""
        return next(check for check in self.checks if check.name == name)

    def __str__(self) -> str:
        return "\n".join([HEAD, *(row_of(check) for check in self.checks), self.summary()])

    @property
    def severity(self) -> str:
        """The worst severity among the findings, or "ok"."""
        return min((f.severity for f in self.findings), key=SEVERITIES.index, default="ok")

    @property
    def enough_seconds(self) -> int | None:
        """What `seconds` should let all checks run, one of 30, 60, 120 ... seconds; None where all ran.

        Half as much as the estimate is spared, as the same machine is faster or slower a minute later.
        """
        if not self.left_out:
            return None
        work = 1.5 * (self.seconds - self.compiling + sum(check.needs or 0 for check in self.left_out))
        return next((time for time in _ROUND_SECONDS if time >= work), _ROUND_SECONDS[-1])

    def summary(self) -> str:
        """The lines below the table: what was left out, the time, the findings, and what they come to."""
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
            # What was not looked at is not fine.
            names = ", ".join(self.skipped)
            they = "it looks" if len(self.skipped) == 1 else "they look"
            lines.append(
                f"NOT CHECKED, because the time was over: {names}. Nothing is known of what {they} for; "
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
    """Run all checks before training and print one table: check, verdict, result, remedy; each row when it is known.

    Order, by what a check tells for its time: the data, the model with its loss, the first loss, one batch through all
    layers and back, overfitting a few batches, the range test of learning rates, and, for a model with layers of the
    user's own, the gradient check. The first three always run, on few examples where the network is large; the look at
    all layers takes as many of these as there is time for, 8 at least. A check begins only while there is time, and its
    name is printed when it does. The time counts work, and not the compilation of training steps,
    which a larger network spends most of its first minute on. What there was no time for is said, with the seconds it
    needs.

    Args:
        model: A compiled `keras.Model`. Weights, optimizer, metrics and random generators are left as they were,
            bit for bit.
        train: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, or arrays `(x, y)`. The order of
            its next epochs is left as it was, also for a data set that shuffles. Inputs alone for a training step of
            the user's own that takes no labels.
        validation: The same for validation data, or None.
        seconds: Time for the work of all checks, in seconds.
        training: False leaves out the checks that make training steps, and so compile one: overfitting a few batches,
            the range test, and the gradient check of layers of the user's own; the last line names them.
        verbose: 0 prints nothing.

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
    # Labels that a loss cannot take make its value meaningless, and sometimes its computation an error.
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
    """The checks so far, and the time that is left for the others."""

    def __init__(self, model, sample, seconds, start, table, training):
        self.model, self.sample, self.table = model, sample, table
        # Without the checks that train, nothing shall take longer than the first training step.
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
        """The loss before the first step, whether or not there is time; True where it could be computed.

        A model that cannot be run is told of by the look at its layers, and raises here when `strict`.
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
        """The batch to send through all layers, of as many examples as there is time for; None without the time.

        What an example takes is known from the first loss, where there is one. Overdrawing the time by three times as
        much is better than not to look.
        """
        batch, last = self.looked_at.batches[0], self.checks[-1]
        if last.name != "initial_loss" or not math.isfinite(last.loss):
            return batch
        looked_at = min(4 * 128, sum(map(_rows, self.looked_at.batches)))  # by initial_loss
        each = _BACK_AND_FORTH * last.seconds / looked_at
        # The checks that train tell more than the last examples here.
        left = max(self.left() / (2 if self.training else 1), _ALWAYS)
        if each * _rows(batch) <= left:
            return batch
        # The first call also set up the layers' operations.
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
        """Overfitting a few batches, in half of what is left; it takes its fewest steps whatever they cost."""
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
        """The range test, with as many of 80 steps as there is time for, and 40 at least."""
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
            check = learning_rate_range_test(self.model, self.sample, batch_size=32, steps=steps, trial=trial)
            if trial is not shared:
                self._compiled(trial)
        self.add(check)

    def _trial(self, shared, *, regularized):
        """The trial that both share, or one that puts the weights back when it is left."""
        if shared is not None or why_not_tried(self.model):
            return contextlib.nullcontext(shared)
        return Trial(self.model, regularized=regularized)

    def _compiled(self, trial):
        if trial is not None:
            self.compiling += trial.compile_seconds


def _look(plan, facts, unusable, held_out):
    """One batch through the layers, and what the loss of knowing nothing is."""
    batch = plan.batch_for_layers()
    if batch is None:
        return
    plan.table.begin("activation_statistics")
    try:
        seen = observe(plan.model, batch)
        plan.compiling += seen.compiling
    except (
        Exception
    ) as error:  # a model that cannot be run on its data: the other checks have said what they know
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
    # What a real batch shows tells more than the graph of the model.
    known = {(f.code, f.layer) for check in plan.checks for f in check.findings}
    more = [f for f in judge_batch(facts) if (f.code, f.layer) not in known]
    if more:
        name = "model_check"
        plan.add(Check(name=name, result="what that batch shows of the model", findings=more))


def _rows(batch):
    return len(keras.tree.flatten(batch[0])[0])


def _unregularized(model, facts):
    """Whether both checks that train would compile the same step, and so can share it."""
    return not dropping_layers(model) and not any(layer["penalty"] for layer in facts["layers"])
