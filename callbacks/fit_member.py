"""Which of our callbacks take part in one `fit`: each says so itself."""

import weakref
from typing import Any

import keras

_MEMBERS: "weakref.WeakKeyDictionary[keras.Model, list[weakref.ref[FitMember]]]" = weakref.WeakKeyDictionary()


class FitMember(keras.callbacks.Callback):
    """Base of our callbacks with something to remember, by which `Backup` finds them."""

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if model is not None:
            known = [one for one in _MEMBERS.get(model, ()) if one() not in (None, self)]
            _MEMBERS[model] = [*known, weakref.ref(self)]


def members_of_fit(callback: keras.callbacks.Callback) -> list[Any]:
    """Our callbacks in the same `fit` as `callback`, in the order in which they were given to it."""
    members = [member() for member in _MEMBERS.get(callback.model, ())]
    # One dictionary of parameters is shared by all callbacks of a fit.
    return [one for one in members if one is not None and one.params is callback.params]
