"""What the traces of a model depend on, beside the values of its variables: compared by value before each use.

A trace bakes in everything that Python read while it was made: numbers, functions, which variables a layer holds, which
layers a model has. `ModelState` notes these and says whether they are still so. It looks at every layer and functional
operation, at what hangs on them (lists, dicts, plain objects, closures, classes of the user), and holds nothing alive
that could hold the model. Values of variables are not looked at: a trace reads them anew.
"""

import copy
import functools
import itertools
import operator
import types
import weakref
from typing import Any

import keras
import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
_CONTAINERS = (list, tuple, dict, set, frozenset)
# What of a layer's own bookkeeping decides how it computes.
_GRAPH = {"_dtype_policy", "_layers", "_operations", "_functional"}
_DECIDING = _GRAPH | {"_trainable", "autocast"}
# What a library's layer reads in training only, or was built with.
_FIXED = ("momentum", "renorm", "synchronized", "rank", "filters", "depth_multiplier")
# What training and building leave on a model without changing what it computes.
_TRAINING = {
    *(
        "_compile_loss",
        "_compile_metrics",
        "_compute_loss_has_training_arg",
        "_distribute_strategy",
        "_initial_epoch",
    ),
    *(
        "_jit_compile",
        "_loss_tracker",
        "_run_eagerly",
        "compiled",
        "loss",
        "predict_function",
        "steps_per_execution",
    ),
    *(
        "test_function",
        "train_function",
        "unrolled_steps_per_execution",
        "_compile_config",
        "_compiled_trainable_state",
    ),
    *(
        "optimizer",
        "stop_training",
        "_eval_epoch_iterator",
        "history",
        "_epoch_iterator",
        "train_step",
        "test_step",
    ),
    *(
        "_inputs",
        "_inputs_struct",
        "_nodes",
        "_nodes_by_depth",
        "_operations_by_depth",
        "_outputs",
        "_outputs_struct",
    ),
    *("output_names", "input_spec", "_metrics", "compute_loss", "predict_step", "_optimizer", "_input_shape"),
}
_FOREIGN = ("keras", "tensorflow", "numpy", "builtins", "scipy", "jax", "torch", "logging", "threading")
_DEEPEST = 4
_LARGEST_ARRAY = 100_000


class ModelState:
    """The state of a model when its traces were made.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: keras.Model) -> None:
        self._restless, self._changes = [], []
        self._note(model)

    def holds(self, model: keras.Model) -> Any:
        """Whether the model still is as it was noted. Costs half a microsecond per layer if it is."""
        if self._untouched():
            return True
        noted = self._description
        self._note(model)
        return noted == self._description

    def settle(self, model: keras.Model) -> None:
        """Take the model as it is now, after a trace: what the trace itself changed makes no other trace stale.

        What two traces have changed, such as a counter of calls, is not looked at again.
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
        """The quick answer, by identities. An object that died answers no, so that its address may come again."""
        if self._died:
            return False
        try:
            attributes = [owner().__dict__ for owner in self._owners]
            objects = map(
                operator.call, self._object_getters, itertools.compress(attributes, self._has_objects)
            )
            return (
                list(map(len, attributes)) == self._sizes
                and list(map(operator.call, self._plain_getters, attributes)) == self._values
                and list(map(id, itertools.chain.from_iterable(objects))) == self._identities
                and all(look(owner()) == seen for owner, look, seen in self._contents)
            )
        except Exception:  # an owner died, an attribute is gone, values that cannot be compared
            return False

    def _note(self, model):
        self._description, self._contents, self._died = [], [], []
        self._owners, self._sizes, self._plain_getters, self._values = [], [], [], []
        self._has_objects, self._object_getters, self._identities = [], [], []
        self._guards, self._seen = {}, set()
        self._visit(model, 0)
        self._seen.clear()

    def _visit(self, owner, depth):
        """Note the attributes of an object, and go on to the objects among them."""
        if id(owner) in self._seen or depth > _DEEPEST or isinstance(owner, keras.layers.InputLayer):
            return
        self._seen.add(id(owner))
        attributes, reference = owner.__dict__, self._guard(owner)
        names = _deciding_names(owner, attributes)
        if self._restless:
            names = [name for name in names if (reference, name) not in self._restless]
        plain = [name for name in names if _is_plain(attributes[name])]
        objects = [name for name in names if name not in plain]
        self._owners.append(reference.weak)
        self._sizes.append(len(attributes))
        self._plain_getters.append(operator.itemgetter(*plain) if plain else len)
        self._values.append(copy.deepcopy(self._plain_getters[-1](attributes)))
        self._has_objects.append(bool(objects))
        if objects:
            # Twice the first, as itemgetter of one name returns no tuple.
            self._object_getters.append(operator.itemgetter(objects[0], *objects))
            self._identities.extend(map(id, self._object_getters[-1](attributes)))
        for name in names:
            value = attributes[name]
            self._description.append((reference, name, self._describe(value, depth)))
            # The graph of a Functional model is made once.
            if name in objects and name != "_operations" and isinstance(value, (*_CONTAINERS, np.ndarray)):
                only_objects = isinstance(value, list) and not any(
                    isinstance(one, (*_PLAIN, *_CONTAINERS, np.ndarray)) for one in value
                )
                look = functools.partial(_attribute_objects if only_objects else _attribute_contents, name)
                self._contents.append((reference.weak, look, look(owner)))
        for kind in type(owner).__mro__:
            if not _foreign(kind) and id(kind) not in self._seen:
                self._seen.add(id(kind))
                self._visit_class(kind, depth + 1)

    def _visit_class(self, kind, depth):
        """Note the attributes of a class of the user: methods and constants."""
        reference = self._guard(kind)
        for name, value in dict(vars(kind)).items():
            if (
                name not in ("__weakref__", "__dict__", "__doc__", "_abc_impl")
                and (reference, name) not in self._restless
            ):
                self._description.append((reference, name, self._describe(value, depth)))
        self._contents.append((reference.weak, _class_contents, _class_contents(kind)))

    def _describe(self, value, depth):
        """A value as what compares by value: plain values themselves, objects by identity, containers by contents."""
        if isinstance(value, _PLAIN):
            return type(value), repr(value) if isinstance(value, float) else value
        if isinstance(value, np.ndarray):
            return value.shape, value.dtype.str, _bytes(value)
        if isinstance(value, dict):
            return dict, tuple((self._describe(k, depth), self._describe(v, depth)) for k, v in value.items())
        if isinstance(value, _CONTAINERS):
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
        if isinstance(value, types.FunctionType) and not _foreign(value):
            self._closure(value, depth)
        elif hasattr(value, "__dict__") and not isinstance(
            value, (types.ModuleType, type, types.FunctionType)
        ):
            if isinstance(value, keras.Operation):
                self._visit(value, 0)
            elif not _foreign(type(value)):
                self._visit(value, depth + 1)
        return self._guard(value)

    def _closure(self, function, depth):
        """Note what a function of the user closes over."""
        if function.__closure__ and id(function) not in self._seen and depth <= _DEEPEST:
            self._seen.add(id(function))
            reference = self._guard(function)
            for name, value in zip(function.__code__.co_freevars, _cells(function), strict=False):
                if name != "__class__":
                    self._description.append((reference, name, self._describe(value, depth + 1)))
            self._contents.append((reference.weak, _closure_contents, _closure_contents(function)))

    def _guard(self, value):
        """A `_Reference` to an object, whose death ends the quick answer."""
        if id(value) not in self._guards:
            self._guards[id(value)] = _Reference(value, self._died.append)
        return self._guards[id(value)]


class _Reference:
    """An object by identity, held weakly where it can be; a dead one equals nothing."""

    def __init__(self, value, on_death):
        try:
            self.weak = weakref.ref(value, on_death)
        except TypeError:  # such as properties and builtin methods, which hold no model
            self.weak = lambda: value

    def __eq__(self, other):
        mine = self.weak()
        return isinstance(other, _Reference) and mine is not None and mine is other.weak()

    __hash__ = None


@functools.cache
def _bookkeeping():
    """Names of attributes that every layer has and that do not decide how it computes."""
    return (set(vars(keras.layers.Layer())) | _TRAINING) - _DECIDING


@functools.cache
def _read_by(kind):
    """The attributes that the class of a library's layer reads when it computes: in `call` and what that calls."""
    names, waiting = set(), {"call", "quantized_call"}
    while waiting:
        names |= waiting
        found = set()
        for parent in kind.__mro__[: kind.__mro__.index(keras.Operation)]:
            for name in waiting & vars(parent).keys():
                member = vars(parent)[name]
                function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
                found |= _names_in(function.__code__) if hasattr(function, "__code__") else set()
        waiting = found - names
    return names


def _names_in(code):
    """Attribute names that a function, and the functions in it, speak of."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _deciding_names(owner, attributes):
    """The names of the attributes that may decide what a layer, or an object of the user, computes."""
    if not isinstance(owner, keras.Operation):
        return list(attributes)
    skipped, kind = _bookkeeping(), type(owner)
    read = _read_by(kind) if _foreign(kind) else None
    names = [
        name
        for name, value in attributes.items()
        if name not in skipped
        and not name.startswith("_self_")
        and not name.endswith(("_initializer", "_regularizer", "_constraint"))
        and not (read and name.startswith(_FIXED))
        and (read is None or name in read or name in _GRAPH or hasattr(kind, name))
        and value is not owner
    ]
    # A graph of layers says itself what it calls; an empty list of layers stays out, as a new layer is a new attribute.
    if "_layers" in names and ("_operations" in attributes or not attributes["_layers"]):
        names.remove("_layers")
    return names


def _is_plain(value):
    """Whether a value can be copied, held and compared with `==`, as nothing in it can hold a model."""
    if isinstance(value, _CONTAINERS):
        return all(map(_is_plain, value)) and (
            not isinstance(value, dict) or all(map(_is_plain, value.values()))
        )
    return isinstance(value, (*_PLAIN, keras.DTypePolicy)) or (
        isinstance(value, types.FunctionType) and _foreign(value)
    )


def _attribute_contents(name, owner):
    return _identities(owner.__dict__[name])


def _attribute_objects(name, owner):
    return list(map(id, owner.__dict__[name]))


def _identities(value):
    """What stands in a container, plain values by value and objects by identity."""
    if isinstance(value, np.ndarray):
        return value.shape, _bytes(value)
    if isinstance(value, dict):
        return [_identities(list(value)), _identities(list(value.values()))]
    return [
        _identities(one)
        if isinstance(one, (*_CONTAINERS, np.ndarray))
        else one
        if isinstance(one, _PLAIN)
        else id(one)
        for one in value
    ]


def _class_contents(kind):
    return list(map(id, vars(kind).values()))


def _closure_contents(function):
    return _identities(_cells(function))


def _cells(function):
    """What a function closes over; a variable that is not set yet is left out."""
    values = []
    for cell in function.__closure__:
        try:
            values.append(cell.cell_contents)
        except ValueError:
            pass
    return values


def _bytes(array):
    """The values of an array that is small enough to be compared each time; of a larger one, a thin sample."""
    return (
        hash(np.ravel(array)[:: max(1, array.size // _LARGEST_ARRAY)].tobytes())
        if array.dtype != object
        else None
    )


def _foreign(thing):
    """Whether a class or function belongs to a library, whose insides do not change."""
    return (getattr(thing, "__module__", None) or "builtins").partition(".")[0] in _FOREIGN
