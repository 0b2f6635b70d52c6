"""Which of our callbacks take part in one `fit`: each says so itself."""

import weakref
from typing import TYPE_CHECKING, Any

import keras

from recipes.common.argument_names import check_names, names_of_init

if TYPE_CHECKING:
    from typing_extensions import Self

_MEMBERS: "weakref.WeakKeyDictionary[keras.Model, list[weakref.ref[FitMember]]]" = weakref.WeakKeyDictionary()


class FitMember(keras.callbacks.Callback):
    """Base of our callbacks with something to remember, by which `Backup` finds them."""

    def __new__(cls, *_: Any, **kwargs: Any) -> "Self":
        # Python's own error would name the base whose `__init__` got the unknown name, which the user did not type.
        known = names_of_init(cls) if kwargs and cls.__module__.startswith("recipes.") else None
        if known is not None:
            check_names(cls.__name__, kwargs, known)
        return super().__new__(cls)

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
