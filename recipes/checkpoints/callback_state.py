"""What callbacks remember about a run, separated from the arguments of their constructors."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

_ARRAY = "array in this file"
# Attributes that Keras itself sets on every callback.
_KERAS_OWN = {"params", "model", "_model", "validation_data"}
_MISSING = object()


class CallbackStates:
    """The states of the callbacks of one `fit`.

    A callback with `get_state` and `set_state` says itself what it remembers. The state of any other callback is what
    has changed in its attributes since the training began: numbers, flags, arrays and lists of them. The arguments of
    its constructor are never touched, so that the next run uses its own; nor are strings, which may be paths that would
    be written to.

    Args:
        callbacks: The callbacks, in the order given to `fit`.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        self.callbacks = list(callbacks)
        self._at_begin: list[dict[str, Any] | None] = [None] * len(self.callbacks)
        self._untold: set[str] = set()

    def training_begins(self) -> None:
        """Remember how the callbacks are before the first step, and before anything is restored."""
        self._at_begin = [
            None if hasattr(callback, "get_state") else _attributes(callback) for callback in self.callbacks
        ]

    def collect(self, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """The states as JSON can hold them, with their arrays put into `arrays`."""
        return [
            {**identity, "state": _encode(self._state(place), f"callback/{place}", arrays)}
            for place, identity in enumerate(identities(self.callbacks))
        ]

    def restore(
        self,
        kept: Sequence[Mapping[str, Any]],
        archive: Mapping[str, np.ndarray],
        *,
        own: bool | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """Restore the state of each callback from the callback of the same class, name and watched metric.

        A callback that watches another metric now begins anew, and a line says so.

        Args:
            kept: What `collect` gave.
            archive: Where the arrays of `kept` are.
            own: True restores only callbacks with `set_state`, False only the others, None all.
            told: Entries that replace the entries of the same name in the backup, because they are newer.

        Raises:
            ValueError: for a state that its callback cannot take.
        """
        by_identity = {_key(entry): entry for entry in kept}
        watched = all("watches" in entry for entry in kept)  # files of an earlier version do not tell
        ours = identities(self.callbacks, watched=watched)
        for place, (callback, identity) in enumerate(zip(self.callbacks, ours, strict=True)):
            entry = by_identity.get(_key(identity))
            if entry is None and identity["watches"] and own in (None, hasattr(callback, "set_state")):
                others = {one["watches"] for one in kept if watched and one["class"] == identity["class"]}
                if others:
                    print(
                        f"resume: {identity['class']} of {identity['watches']!r} begins anew; the backup holds the "
                        f"state of one of {', '.join(sorted(map(repr, others)))}."
                    )
            if entry is None or own not in (None, hasattr(callback, "set_state")):
                continue
            state = _decode(entry["state"], archive)
            if isinstance(state, dict):
                state |= {name: value for name, value in (told or {}).items() if name in state}
            try:
                self._take(place, callback, state)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"resume expects the state of {identity['class']} as that class writes it. Received one it cannot "
                    f"take ({type(error).__name__}: {error}). Give the callback as in the interrupted run, or leave "
                    "it out."
                ) from error

    def _state(self, place):
        callback = self.callbacks[place]
        if hasattr(callback, "get_state"):
            return callback.get_state()
        begin = self._at_begin[place] or {}
        changed = {
            name: value
            for name, value in _attributes(callback).items()
            if not _same(value, begin.get(name, _MISSING))
        }
        told = _constructor_names(callback)
        # An attribute that did not exist when the training began is not an argument.
        untold = sorted(name for name in changed if name in begin and name.lstrip("_") in told)
        if untold and not type(callback).__module__.startswith("keras."):
            self._name_untold(type(callback).__name__, untold)
        return {name: value for name, value in changed.items() if name not in untold}

    def _take(self, place, callback, state):
        if hasattr(callback, "set_state"):
            callback.set_state(state)
            return
        told, begin = _constructor_names(callback), self._at_begin[place] or {}
        for name, value in state.items():
            constructors = name in vars(callback) and (name.lstrip("_") in told or name not in begin)
            if name not in _KERAS_OWN and not constructors and _is_memory(value):
                setattr(callback, name, value)

    def _name_untold(self, kind, names):
        key = f"{kind}: {names}"
        if key not in self._untold:
            self._untold.add(key)
            warnings.warn(
                f"A backup expects what {kind} remembers to have other names than the arguments of its constructor. "
                f"Received {', '.join(names)}, which is both: a resumed run begins with the constructor's value. "
                "Give the callback get_state() and set_state(state), or keep what changes under another name.",
                stacklevel=4,
            )


def identities(
    callbacks: Sequence[keras.callbacks.Callback], *, watched: bool = True
) -> list[dict[str, Any]]:
    """What distinguishes callbacks: class, name, the metric watched, and the number among those with the same of all.

    Args:
        callbacks: The callbacks, in the order given to `fit`.
        watched: False leaves the metric out, as files of an earlier version do.
    """
    seen: dict[tuple[str, str, str | None], int] = {}
    found = []
    for callback in callbacks:
        kind, name, watches = (
            type(callback).__name__,
            getattr(callback, "name", ""),
            getattr(callback, "monitor", None),
        )
        name = name if isinstance(name, str) else ""
        watches = watches if watched and isinstance(watches, str) else None
        number = seen.get((kind, name, watches), 0)
        seen[kind, name, watches] = number + 1
        found.append({"class": kind, "name": name, "watches": watches, "number": number})
    return found


def _key(entry):
    return entry.get("class"), entry.get("name"), entry.get("watches"), entry.get("number")


def _constructor_names(callback):
    """Names of the arguments of a callback's constructor, including those of its base classes."""
    names = set()
    for kind in type(callback).__mro__:
        if "__init__" in vars(kind) and kind is not object:
            names |= set(inspect.signature(kind.__init__).parameters)
    return names - {"self", "args", "kwargs"}


def _attributes(callback):
    return {
        name: _copied(value)
        for name, value in vars(callback).items()
        if name not in _KERAS_OWN and _is_memory(value)
    }


def _is_memory(value):
    """Whether a value is a number, a flag, an array, None, or a list of such; not a string or another object."""
    if isinstance(value, (list, tuple)):
        return all(_is_memory(entry) for entry in value)
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return value is None or isinstance(value, (bool, int, float, np.generic))


def _copied(value):
    if isinstance(value, (list, tuple)):
        return [_copied(entry) for entry in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _same(value, other):
    if isinstance(value, list):
        return isinstance(other, list) and len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(
            value, other, equal_nan=value.dtype.kind == "f"
        )
    if value is None or other is None or other is _MISSING or isinstance(other, (list, np.ndarray)):
        return value is other
    return type(value) is type(other) and (value == other or value != value and other != other)


def _encode(value, key, arrays):
    if isinstance(value, dict):
        return {name: _encode(entry, f"{key}/{name}", arrays) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(entry, f"{key}/{index}", arrays) for index, entry in enumerate(value)]
    if isinstance(value, np.ndarray):
        arrays[key] = np.array(value)
        return {_ARRAY: key}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value, archive):
    if isinstance(value, dict):
        if _ARRAY in value:
            return archive[value[_ARRAY]]
        return {name: _decode(entry, archive) for name, entry in value.items()}
    return [_decode(entry, archive) for entry in value] if isinstance(value, list) else value
