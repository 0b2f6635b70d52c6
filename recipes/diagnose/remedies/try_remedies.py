"""try_remedies: try remedies on copies of a model, and compare them with the unchanged model."""

import random
import re
import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from recipes.common.backends import require_tensorflow
from recipes.common.models import serialized
from recipes.common.optimizers import groups
from recipes.common.traversal import layers_of
from recipes.common.validation import are_whole, is_number
from recipes.diagnose.checks.model_copy import untouched
from recipes.diagnose.checks.output_task import heads_of, own_step, passes_on, task_of
from recipes.diagnose.checks.sample import read_sample
from recipes.diagnose.finding import Finding, arrange
from recipes.diagnose.remedies.arms import Arm, arms_for, edited
from recipes.diagnose.remedies.training import Measure, Rig, prepared
from recipes.diagnose.rules.data_facts import describe_data
from recipes.diagnose.rules.run_facts import describe_model

_BATCH, _BATCHES = 32, 40
_FEWEST_STEPS, _MOST_STEPS = 20, 150


@dataclass(frozen=True)
class RemedyTrial:
    """Result of one remedy.

    Attributes:
        name: The change in a few words.
        code: What to type.
        finding: Code of the finding that advises it.
        tried: False where there was no time for the remedy, or it could not be applied; `reason` says which.
        reason: Why it was not tried, or "".
        losses: float32 `(seeds, steps)`, training loss of each step with the remedy; None where it was not tried.
        unchanged: float32 `(seeds, steps)`, the same without the remedy, from the same weights on the same batches.
        gains: float32 `(seeds,)` in [-1, 1], measured on held-out data. If the remedy keeps the loss, it is the share
            of the unchanged model's loss that the remedy saves. If it changes loss or labels, it is the accuracy, or
            the explained variance, minus that of the unchanged model.
        measure: "loss", "accuracy" or "explained variance", the measure of the gains.
    """

    name: str
    code: str
    finding: str
    tried: bool
    reason: str = ""
    losses: np.ndarray | None = None
    unchanged: np.ndarray | None = None
    gains: np.ndarray | None = None
    measure: str = ""

    @property
    def gain(self) -> float:
        """Mean gain over the seeds, in [-1, 1]; NaN where the remedy was not tried."""
        return float(np.mean(self.gains)) if self.tried else float("nan")

    @property
    def spread(self) -> float:
        """Half the difference of the largest and the smallest gain over the seeds; NaN where it was not tried."""
        return float(np.ptp(self.gains) / 2) if self.tried else float("nan")

    @property
    def helps(self) -> bool:
        """Whether the mean gain is more than 0.05 and more than the spread."""
        return self.tried and self.gain > max(0.05, self.spread)

    @property
    def refuted(self) -> bool:
        """Whether the remedy was tried and its mean gain is at most 0.01."""
        return self.tried and not self.gain > 0.01

    @property
    def outcome(self) -> str:
        """The outcome of the trial: "helps", "refuted", "unclear" or "not tried: ..."."""
        if not self.tried:
            return f"not tried: {self.reason}"
        return "helps" if self.helps else "refuted" if self.refuted else "unclear"

    @property
    def told_gain(self) -> str:
        """The measure and its gain with spread as text; "" where the remedy was not tried."""
        return f"{self.measure} {self.gain:+.0%} +- {self.spread:.0%}" if self.tried else ""

    def __str__(self) -> str:
        if not self.tried:
            return f"{self.name:<34}{self.outcome}"
        return f"{self.name:<34}{self.outcome:<9}{self.told_gain}   {self.code}"


@dataclass(frozen=True)
class Trials:
    """Outcome of `try_remedies`.

    Attributes:
        results: The remedies that were tried, the largest gain first, then those that were not.
        without: Titles of the findings for which no change of the model can be tried.
        steps: Training steps of each trial.
        seeds: The seeds; each fixes the first weights and the order of the batches.
        seconds: Wall-clock time of all trials, in seconds.
    """

    results: list[RemedyTrial]
    without: list[str]
    steps: int
    seeds: tuple[int, ...]
    seconds: float

    @property
    def best(self) -> RemedyTrial | None:
        """The remedy with the largest gain among those that help, or None."""
        return next((result for result in self.results if result.helps), None)

    def apply(self, findings: list[Finding]) -> list[Finding]:
        """Copies of the findings with remedies that say what the trials showed.

        A remedy begins with the change that helped most, and ends with those that were tried without gain. Sentences
        that advise a refuted change are taken out of it.

        Args:
            findings: The findings that `try_remedies` was given.
        """
        changed = []
        for finding in findings:
            own = {finding.code, *(child.code for child in finding.consequences)}
            tried = [result for result in self.results if result.tried and result.finding in own]
            best = next((result for result in tried if result.helps), None)
            refuted = [result for result in tried if result.refuted]
            parts = [] if best is None else [self._praise(best)]
            parts += _unrefuted(finding.remedy, refuted)
            if not parts:
                parts = ["Look at inputs and labels first, with recipes.diagnose.data_check(model, train)."]
            if refuted:
                parts.append(f"Tried without gain: {', '.join(result.name for result in refuted)}.")
            changed.append(replace(finding, remedy=" ".join(parts)))
        return changed

    def _praise(self, best):
        return f"{best.code} - tried for {self.steps} steps: {best.measure} {best.gain:+.0%} +- {best.spread:.0%}."

    def __str__(self) -> str:
        head = (
            f"remedies, each tried for {self.steps} steps from {len(self.seeds)} starts beside the unchanged model "
            f"({self.seconds:.0f} s)"
        )
        lines = [head, *(str(result) for result in self.results)]
        lines += [f"{title:<34}no change of the model can be tried" for title in self.without]
        return "\n".join(lines)


def _unrefuted(remedy, refuted):
    """The sentences of a remedy, without those that advise a change that a trial has refuted."""
    marks = {mark for result in refuted for mark in _marks(result.code)}
    return [part for part in re.split(r"(?<=[.!?]) (?=[A-Z])", remedy) if not marks & _marks(part)]


def _marks(text):
    """What distinguishes one remedy from another: settings with their values, names in quotes, and some classes."""
    settings = {
        (name, float(value.rstrip(".")))
        for name, value in re.findall(
            r"(learning_rate|clipnorm|momentum|weight_decay)\s*=\s*([0-9.]+(?:e-?[0-9]+)?)", text
        )
    }
    names = set(re.findall(r"['\"](\w+)['\"]", text))
    return settings | names | set(re.findall(r"\b(Normalization|Rescaling|WarmupDecay)\(", text))


def try_remedies(
    model: keras.Model,
    train: Any,
    findings: list[Finding],
    *,
    seconds: float = 30.0,
    seeds: tuple[int, ...] = (0, 1),
    verbose: int = 1,
) -> Trials:
    """Apply the remedies of findings to copies of a model, and compare short trainings with an unchanged copy.

    Every copy starts from newly drawn weights (frozen layers keep those of the model), sees the same batches in the
    same order, and is measured on held-out batches. Learning rate, warm-up, clipping, weight decay and the momentum of
    batch normalization are arguments of one compiled step. Scaled inputs and targets, other labels and another order
    change only the data. For another activation, initializer, dropout, penalty or loss, a new copy is built. Remedies
    of the first finding are tried first, and others as long as there is time.

    The model, its optimizer, the data set and the random generators are not changed: they are restored bit for bit.

    Args:
        model: A compiled, built `keras.Model` that can be built again from its configuration.
        train: Training data: `tf.data.Dataset` of `(inputs, labels)`, or arrays `(x, y)`. About 1300 examples are read.
        findings: Findings of `recipes.diagnose.preflight(...).findings`, `diagnose` or `TrainingDoctor`.
        seconds: Time for all trials in seconds, > 0.
        seeds: Two integers or more; each fixes the first weights and the order of the batches.
        verbose: 0 prints nothing, 1 prints the table.

    Returns:
        A `Trials`. Printed, it is a table; its `apply(findings)` returns the findings with the results in their
        remedies.

    Raises:
        ValueError: for a model that is not compiled or not built, or cannot be built again. Also for a model with a
            custom training step, several optimizers or nothing to train; for an empty data set; and for `seeds` or
            `seconds` out of range.
        RuntimeError: where Keras does not run on TensorFlow.
    """
    require_tensorflow("diagnose.try_remedies", "whose compiled steps it makes")
    if not are_whole(seeds) or len(seeds) < 2 or not is_number(seconds) or seconds <= 0:
        raise ValueError(
            "try_remedies expects seeds to be two whole numbers or more, and seconds above 0. "
            f"Received seeds={seeds!r}, seconds={seconds!r}. Leave both out for the defaults."
        )
    start = time.monotonic()
    _check(model)
    sample = read_sample(
        train, model, batch_size=_BATCH, batches=_BATCHES, seconds=min(5.0, 0.2 * seconds), most_bytes=2**28
    )
    facts = describe_model(model)
    facts["data"] = {"train": describe_data(sample, task_of(model), heads_of(model))}
    # The caller may have changed the order of the findings: causes come first again.
    roots = arrange(findings) if not any(f.consequences for f in findings) else list(findings)
    arms, without = arms_for(roots, facts)
    with untouched(model):
        session = _Session(model, sample, facts, seeds, seconds, start)
        results = session.run(arms)
    done = Trials(results, without, session.steps, tuple(seeds), time.monotonic() - start)
    if verbose:
        print(done, flush=True)
    return done


def _check(model):
    task_of(model)
    rates = len(groups(model.optimizer))
    if own_step(model) or not model.built or not model.trainable_variables or rates != 1:
        reason = (
            "has a training step of its own"
            if own_step(model)
            else "is not built yet"
            if not model.built
            else "has nothing to train"
            if not model.trainable_variables
            else f"has {rates} optimizers, one for each group of weights"
            if rates
            else "has no optimizer"
        )
        raise ValueError(
            f"try_remedies expects a built model that Keras trains. Received {model.name!r}, which {reason}. "
            "Try the remedies by hand, one at a time."
        )
    try:
        _copy(model, serialized(model), 0)
    except ValueError as error:
        raise ValueError(
            f"try_remedies expects a model that can be built again from its configuration. Received {model.name!r}: "
            f"{error}. Give its layers a get_config, or build it with the functional API."
        ) from error


def _copy(model, config, seed):
    """A model from a configuration, with weights drawn by a seed; frozen layers keep the weights of the model."""
    state = random.getstate()
    classes = {type(layer).__name__: type(layer) for layer in layers_of(model, include_self=True)}
    random.seed(seed)  # Keras draws the seeds of initializers and dropout from this generator
    try:
        twin = keras.saving.deserialize_keras_object(config, classes, safe_mode=False)
        if not twin.built:
            twin.build(model.input_shape)
    except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"Keras cannot build it ({lines[0].split('. ')[0][:160]})") from error
    finally:
        random.setstate(state)
    frozen = {id(variable) for variable in model.non_trainable_variables}
    for new, old in zip(twin.variables, model.variables, strict=False):
        if id(old) in frozen and tuple(new.shape) == tuple(old.shape) and new.name == old.name:
            new.assign(old.value)
    return twin


def _rank(result):
    """Sort key: remedies that were tried first, by gain rounded to 0.01, then by the training loss at the end."""
    if not result.tried:
        return 1, 0.0, 0.0
    end = float(np.mean(result.losses[:, -max(1, result.losses.shape[1] // 10) :]))
    return 0, -round(result.gain, 2), end


class _Session:
    """One set of trials: the model and its data, the compiled copies, and the time that is left."""

    def __init__(self, model, sample, facts, seeds, seconds, start):
        self.model, self.facts, self.seeds = model, facts, seeds
        self.config = serialized(model)
        self.seconds, self.start = seconds, start
        self.sample = sample
        self.measure = Measure(task_of(model), facts["data"]["train"])
        self.steps = _MOST_STEPS
        self._rigs = {}
        chain = heads_of(model)[0].chain if len(heads_of(model)) == 1 else []
        self.last = next((entry["name"] for entry in chain if not passes_on(entry)), None)

    def left(self):
        return self.seconds - (time.monotonic() - self.start)

    def run(self, arms):
        if not arms:
            self.steps = 0
            return []
        unchanged = Arm("unchanged", "", "")
        rig = self._rig(unchanged)
        data = prepared(self.sample, unchanged)
        # The first steps compile. Then the number of steps is chosen so that there is time for six remedies.
        for _ in range(3):
            rig.steps(data.train[:1], self.seeds[0], {}, 2)
        room = 0.7 * max(self.left(), 0) / (len(self.seeds) * (1 + min(len(arms), 6)))
        self.steps = int(np.clip(room / max(rig.seconds_per_step, 1e-5), _FEWEST_STEPS, _MOST_STEPS))
        base = self._curves(rig, data, unchanged)
        results = []
        for number, arm in enumerate(arms):
            needed = len(self.seeds) * self.steps * rig.seconds_per_step
            needed += rig.compile_seconds if arm.edit is not None or arm.loss else 0.0
            if number and needed > self.left():  # the first remedy is tried in any case
                reason = f"no time left; it needs about {needed:.1f} s"
                results.append(RemedyTrial(arm.name, arm.code, arm.finding, False, reason))
                continue
            results.append(self._try(arm, base))
        return sorted(results, key=_rank)

    def _try(self, arm, base):
        try:
            rig, data = self._rig(arm), prepared(self.sample, arm)
            mine = self._curves(rig, data, arm)
        except Exception as error:  # a layer or a loss that a remedy does not fit may raise anything
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return RemedyTrial(
                arm.name, arm.code, arm.finding, False, f"it cannot be done ({lines[0][:100]})"
            )
        gains, measure = self.measure.gains(arm, base, mine)
        return RemedyTrial(
            arm.name, arm.code, arm.finding, True, "", mine["losses"], base["losses"], gains, measure
        )

    def _curves(self, rig, data, arm):
        losses, ends = [], []
        for seed in self.seeds:
            losses.append(rig.steps(data.train, seed, arm.knobs, self.steps))
            ends.append(self.measure.of(rig, data, arm))
        return {"losses": np.asarray(losses, "float32"), "ends": ends}

    def _rig(self, arm):
        key = None if arm.edit is None and arm.loss is None else arm.name
        if key not in self._rigs:
            config = edited(self.config, arm.edit, self.last)
            twins = [_copy(self.model, config, seed) for seed in self.seeds]
            self._rigs = {None: self._rigs.get(None), key: Rig(self.model, twins, self.seeds, arm.loss)}
        return self._rigs[key]
