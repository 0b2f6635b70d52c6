"""Puts an instrumented twin in the place of a model's train function, for one call."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from recipes.probe.adapter import adapter


class Swap:
    """Keeps the twins of a model's train function and puts one in its place when asked.

    Twins belong to the train function they mirror: when that goes, as `compile` makes it, they go too.
    """

    def __init__(self) -> None:
        self._twins: dict[tuple[frozenset[str], Any], Any] = {}
        self._mirrored: weakref.ref | None = None
        self._armed: Callable | None = None
        self._adapter = adapter()
        self._waiting: list[Callable[[], None]] = []

    def arm(
        self,
        model: keras.Model,
        quantities: frozenset[str],
        samples: int | str,
        done: Callable[[Any, bool, Any], None],
        clocks: Sequence[Any] = (),
    ) -> None:
        """Let the next call of the train function be the twin's, which puts the model's own back before it runs.

        Args:
            model: Whose `train_function` it is.
            quantities: What the twin measures.
            samples: Samples of the batch that activation statistics look at, or "auto".
            done: `(twin, traced, values)`, called after the step with what was measured: at once where the step has
                written the model's variables by then, else by `deliver`.
            clocks: Monitors whose `call_begins()` and `call_ends(waited)` are called around it.
        """
        plain = model.train_function
        twin = self._twin(model, plain, quantities, samples)

        def run_once(*arguments):
            model.train_function = plain
            if self._armed is not run_once:
                return plain(*arguments)
            traces = twin.traces
            _begin(clocks)
            result, values = twin(plain, *arguments)
            traced = twin.traces != traces and not model.run_eagerly
            _end(clocks, None if traced else twin.waited)
            if self._adapter.WRITES_AT_ONCE:
                done(twin, traced, values)
            else:
                self._waiting.append(lambda: done(twin, traced, values))
            return result

        self._armed = run_once
        model.train_function = run_once

    def time(self, model: keras.Model, clocks: Sequence[Any]) -> None:
        """Let the next call of the train function, which is the model's own, be timed by monitors."""
        plain = model.train_function

        def timed(*arguments):
            _put(model, plain)
            _begin(clocks)
            result = plain(*arguments)
            _end(clocks, None)
            return result

        _put(model, timed)

    def deliver(self) -> None:
        """Tell what was measured, now that the variables of the model can be read and written."""
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def disarm(self) -> None:
        """Whatever stands in the train function's place does nothing any more but put it back."""
        self._armed, self._waiting = None, []

    def has_twin(self, quantities: frozenset[str]) -> bool:
        """Whether a twin that measures just these has been traced."""
        return any(known == quantities for known, _ in self._twins)

    def _twin(self, model, plain, quantities, samples):
        if self._mirrored is None or self._mirrored() is not plain:
            self._twins = twins = {}
            self._mirrored = weakref.ref(plain, lambda _: twins.clear())
        if (quantities, samples) not in self._twins:
            self._twins[quantities, samples] = self._adapter.Twin(model, quantities, samples)
        return self._twins[quantities, samples]


def _put(model, function):
    """Past what Keras does with every attribute, which takes ten times as long; it keeps no track of functions."""
    object.__setattr__(model, "train_function", function)


def _begin(clocks):
    for clock in clocks:
        clock.call_begins()


def _end(clocks, waited):
    for clock in clocks:
        clock.call_ends(waited)
