"""Puts an instrumented twin in the place of a model's train function, for one call."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from recipes.probe.adapter import adapter


class Swap:
    """Keeps the twins of a model's train function and puts one in its place when asked.

    Twins belong to the train function that they mirror: when that is deleted, as by `compile`, they are deleted too.
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
        """Make the next call of the train function run the twin, which first puts the model's own function back.

        Args:
            model: The model whose `train_function` is replaced.
            quantities: What the twin measures.
            samples: Samples of the batch that activation statistics look at, or "auto".
            done: function `(twin, traced, values)`, called with the measured values after the step: at once where the
                step has written the model's variables by then, else by `deliver`.
            clocks: Monitors whose `call_begins()` and `call_ends(waited)` are called around the train function.
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
        """Make monitors time the next call of the train function, which is the model's own."""
        plain = model.train_function

        def timed(*arguments):
            _put(model, plain)
            _begin(clocks)
            result = plain(*arguments)
            _end(clocks, None)
            return result

        _put(model, timed)

    def deliver(self) -> None:
        """Report what was measured, now that the variables of the model can be read and written."""
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def disarm(self) -> None:
        """Make a stand-in that is still in place of the train function do nothing but put that back."""
        self._armed, self._waiting = None, []

    def has_twin(self, quantities: frozenset[str]) -> bool:
        """Whether a twin that measures exactly these quantities exists."""
        return any(known == quantities for known, _ in self._twins)

    def _twin(self, model, plain, quantities, samples):
        if self._mirrored is None or self._mirrored() is not plain:
            self._twins = twins = {}
            self._mirrored = weakref.ref(plain, lambda _: twins.clear())
        if (quantities, samples) not in self._twins:
            self._twins[quantities, samples] = self._adapter.Twin(model, quantities, samples)
        return self._twins[quantities, samples]


def _put(model, function):
    """Set the attribute past Keras' tracking, which takes ten times as long and does not track functions anyway."""
    object.__setattr__(model, "train_function", function)


def _begin(clocks):
    for clock in clocks:
        clock.call_begins()


def _end(clocks, waited):
    for clock in clocks:
        clock.call_ends(waited)
