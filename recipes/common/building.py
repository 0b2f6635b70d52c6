"""Keras' own look at the data: `fit` reads a batch to build an unbuilt model under a distribution strategy."""

import functools
import threading
from collections.abc import Callable

import keras

_around: list[Callable[[], Callable[[], None]]] = []
_lock = threading.Lock()


def around_builds(begin: Callable[[], Callable[[], None]]) -> None:
    """Call `begin` before Keras reads data to build a model, and what it returned when the model is built.

    Keras 3.15 does that in `Model._maybe_symbolic_build`, which has no public name. The method is wrapped once per
    process, and does what it did before. Where a version of Keras has no such method, nothing is called.
    """
    with _lock:
        if begin not in _around:
            _around.append(begin)
        build = getattr(keras.Model, "_maybe_symbolic_build", None)
        if build is None or getattr(build, "tells_when_built", False):
            return

        @functools.wraps(build)
        def building(model, *args, **kwargs):
            if getattr(model, "_distribute_strategy", None) is None:  # then Keras reads nothing
                return build(model, *args, **kwargs)
            ends = [begin() for begin in _around]
            try:
                return build(model, *args, **kwargs)
            finally:
                for end in ends:
                    end()

        building.tells_when_built = True
        keras.Model._maybe_symbolic_build = building
