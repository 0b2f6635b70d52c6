"""The state on which the traces of a model depend, besides the values of its variables; compared before each use.

A trace contains everything that Python read while it was made: numbers, functions, the variables of each layer, the
layers of the model. `ModelState` records these and tells whether they are still the same. It looks at every layer and
functional operation and at the objects they hold (lists, dicts, plain objects, closures, classes of the user). It keeps
nothing alive that could hold the model. Values of variables are not compared, because a trace reads them each time.
"""

import functools
import itertools
import operator
import types
import weakref
from collections import deque
from typing import Any

import keras
import numpy as np

from recipes.explain.engine.deciding import (
    CONTAINERS,
    PLAIN,
    attribute_contents,
    attribute_objects,
    cells,
    class_contents,
    deciding_names,
    digest,
    foreign,
    function_contents,
    global_contents,
    globals_read,
    is_plain,
    made_of,
    module_contents,
    settled,
    slots_of,
)

_DEEPEST = 4
_call = getattr(operator, "call", lambda function, *given: function(*given))  # new in Python 3.11


class ModelState:
    """The state of a model when its traces were made.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: keras.Model) -> None:
        self._restless, self._changes = [], []
        self._note(model)

    def holds(self, model: keras.Model) -> Any:
        """Whether the model is still as it was recorded. If it is, the check takes half a microsecond per layer."""
        if self._untouched():
            return True
        noted = self._description
        self._note(model)
        return noted == self._description

    def settle(self, model: keras.Model) -> None:
        """Record the model as it is now, after a trace, so that changes by the trace itself do not invalidate others.

        Attributes that two traces have changed, such as a counter of calls, are not compared any more.
        """
        if self._untouched():
            return
        noted = self._description
        self._note(model)
        for before, after in zip(noted, self._description, strict=False):
            if before != after and before[:2] == after[:2]:
                (self._restless if before[:2] in self._changes else self._changes).append(before[:2])
        if self._restless:
            self._note(model)

    def _untouched(self):
        """A quick check by identities. It fails when an object has died, because its address may be used again."""
        if self._died:
            return False
        try:
            attributes = [owner().__dict__ for owner in self._owners]
            objects = map(_call, self._object_getters, itertools.compress(attributes, self._has_objects))
            return (
                list(map(len, attributes)) == self._sizes
                and list(map(_call, self._plain_getters, attributes)) == self._values
                and list(map(id, itertools.chain.from_iterable(objects))) == self._identities
                and all(look(owner()) == seen for owner, look, seen in self._contents)
            )
        except Exception:  # an owner died, an attribute is gone, values that cannot be compared
            return False

    def _note(self, model):
        self._description, self._contents, self._died = [], [], []
        self._owners, self._sizes, self._plain_getters, self._values = [], [], [], []
        self._has_objects, self._object_getters, self._identities = [], [], []
        self._guards, self._seen, self._globals = {}, set(), {}
        self._visit(model, 0)
        for reference, names in self._globals.values():
            look = functools.partial(global_contents, tuple(names))
            self._contents.append((reference.weak, look, look(reference.weak())))
        self._seen.clear()

    def _visit(self, owner, depth):
        """Record the attributes of an object, then visit the objects among them."""
        if id(owner) in self._seen or depth > _DEEPEST or isinstance(owner, keras.layers.InputLayer):
            return
        self._seen.add(id(owner))
        attributes, reference = owner.__dict__, self._guard(owner)
        names = deciding_names(owner, attributes)
        if self._restless:
            names = [name for name in names if (reference, name) not in self._restless]
        plain = [name for name in names if is_plain(attributes[name])]
        objects = [name for name in names if name not in plain]
        self._owners.append(reference.weak)
        self._sizes.append(len(attributes))
        self._plain_getters.append(operator.itemgetter(*plain) if plain else len)
        self._values.append(_held(self._plain_getters[-1](attributes)))
        self._has_objects.append(bool(objects))
        if objects:
            # The first name is given twice, because itemgetter of a single name does not return a tuple.
            self._object_getters.append(operator.itemgetter(objects[0], *objects))
            self._identities.extend(map(id, self._object_getters[-1](attributes)))
        for name in names:
            value = attributes[name]
            self._description.append((reference, name, self._describe(value, depth)))
            # The graph of a Functional model is made once.
            holds = isinstance(value, (*CONTAINERS, np.ndarray)) or slots_of(value)
            if name in objects and name != "_operations" and holds:
                only_objects = isinstance(value, list) and not any(
                    isinstance(one, (*PLAIN, *CONTAINERS, np.ndarray)) for one in value
                )
                look = functools.partial(attribute_objects if only_objects else attribute_contents, name)
                self._contents.append((reference.weak, look, look(owner)))
        self._visit_class(type(owner), depth + 1)

    def _visit_class(self, kind, depth):
        """Record the attributes of a class of the user and of its parents: methods and constants."""
        for one in kind.__mro__:
            if not foreign(one) and id(one) not in self._seen:
                self._seen.add(id(one))
                self._note_class(one, depth)

    def _note_class(self, kind, depth):
        reference = self._guard(kind)
        for name, value in dict(vars(kind)).items():
            if (
                name not in ("__weakref__", "__dict__", "__doc__", "_abc_impl")
                and (reference, name) not in self._restless
            ):
                self._description.append((reference, name, self._describe(value, depth)))
        self._contents.append((reference.weak, class_contents, class_contents(kind)))

    def _describe(self, value, depth):
        """A description that can be compared by value: plain values, objects by identity, containers by contents."""
        if isinstance(value, PLAIN):
            return type(value), repr(value) if isinstance(value, float) else value
        if isinstance(value, np.ndarray):
            return value.shape, value.dtype.str, digest(value)
        if isinstance(value, dict):
            return dict, tuple((self._describe(k, depth), self._describe(v, depth)) for k, v in value.items())
        if isinstance(value, CONTAINERS):
            return type(value), tuple(self._describe(one, depth) for one in value)
        if isinstance(value, functools.partial):
            inside = (value.func, value.args, value.keywords)
            return functools.partial, tuple(self._describe(one, depth + 1) for one in inside)
        if isinstance(value, types.MethodType):
            return (
                types.MethodType,
                self._describe(value.__func__, depth + 1),
                self._describe(value.__self__, depth),
            )
        if isinstance(value, (property, staticmethod, classmethod)):
            function = value.fget if isinstance(value, property) else value.__func__
            return self._guard(value), self._describe(function, depth)
        if isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, types.ModuleType):
            pass
        elif isinstance(value, type):
            if not settled(value) and depth <= _DEEPEST:
                self._visit_class(value, depth + 1)
        elif hasattr(value, "__dict__"):
            if isinstance(value, keras.Operation):
                self._visit(value, 0)
            elif not foreign(type(value)):
                self._visit(value, depth + 1)
        elif slots_of(value) and depth <= _DEEPEST:
            self._visit_class(type(value), depth + 1)
            return self._guard(type(value)), tuple(self._describe(one, depth + 1) for one in slots_of(value))
        return self._guard(value)

    def _function(self, function, depth):
        """Record the code of a function of the user, the variables it closes over, and those of its module it reads."""
        if settled(function) or id(function) in self._seen or depth > _DEEPEST:
            return
        self._seen.add(id(function))
        reference = self._guard(function)
        self._description.append((reference, "", made_of(function)[0]))
        named = [("()", function.__defaults__), ("*", function.__kwdefaults__)]
        named += (
            zip(function.__code__.co_freevars, cells(function), strict=False) if function.__closure__ else []
        )
        for name, value in named:
            if name != "__class__":
                self._description.append((reference, name, self._describe(value, depth + 1)))
        self._contents.append((reference.weak, function_contents, function_contents(function)))
        self._global_variables(function, reference, depth)

    def _global_variables(self, function, reference, depth):
        """Record the global variables that a function reads, and the names it reads from modules of the user."""
        known = function.__globals__
        _, noted = self._globals.setdefault(id(known), (reference, {}))
        for name in globals_read(function.__code__):
            value = known.get(name)
            fixed = isinstance(value, (types.FunctionType, types.ModuleType, type)) and settled(value)
            if fixed or name in noted or name not in known or (reference, name) in self._restless:
                continue
            if isinstance(value, types.ModuleType):
                self._module(value, function, depth)
                continue
            noted[name] = True
            self._description.append((self._globals[id(known)][0], name, self._describe(value, depth + 1)))

    def _module(self, module, function, depth):
        """Record the names that a function may read from a module of the user."""
        if settled(module):
            return
        reference = self._guard(module)
        names = [name for name in function.__code__.co_names if name in vars(module)]
        names = [name for name in names if (reference, name) not in self._restless]
        for name in names:
            self._description.append((reference, name, self._describe(vars(module)[name], depth + 1)))
        look = functools.partial(module_contents, tuple(names))
        self._contents.append((reference.weak, look, look(module)))

    def _guard(self, value):
        """A `_Reference` to an object; when the object dies, the quick check fails."""
        if id(value) not in self._guards:
            self._guards[id(value)] = _Reference(value, self._died.append)
        return self._guards[id(value)]


class _Reference:
    """An object by identity, held by a weak reference if possible; a dead object equals nothing."""

    def __init__(self, value, on_death):
        try:
            self.weak = weakref.ref(value, on_death)
        except TypeError:  # such as properties and builtin methods, which hold no model
            self.weak = lambda: value

    def __eq__(self, other):
        mine = self.weak()
        return isinstance(other, _Reference) and mine is not None and mine is other.weak()

    __hash__ = None


def _held(value):
    """A copy of a plain value for later comparison; the value itself if it cannot change.

    Keras' own lists hold a reference to their layer, so they are copied to Python lists.
    """
    if isinstance(value, tuple):
        held = tuple(map(_held, value))
        return value if all(map(operator.is_, held, value)) else held
    if isinstance(value, dict):
        return {key: _held(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    if isinstance(value, CONTAINERS):
        return (deque if isinstance(value, deque) else list)(map(_held, value))
    return value
