"""Find the attributes of a layer that decide what it computes, and compare their contents (see `model_state`)."""

import dis
import functools
import sys
import types
from collections import deque
from typing import Any

import keras
import numpy as np

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
CONTAINERS = (list, tuple, dict, set, frozenset, deque)
# Attributes of a layer's own bookkeeping that decide how it computes.
_GRAPH = {"_dtype_policy", "_layers", "_operations", "_functional"}
_DECIDING = _GRAPH | {"_trainable", "autocast"}
# Attributes that a library's layer reads only in training or when it is built.
_FIXED = ("momentum", "renorm", "synchronized", "rank", "filters", "depth_multiplier")
# Attributes that training and building set on a model without changing what it computes.
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
_SETTLED = {*_FOREIGN, *sys.stdlib_module_names, "recipes"} - {"__main__"}
_LARGEST_ARRAY = 100_000


@functools.cache
def _bookkeeping():
    """Names of attributes that every layer has and that do not decide how it computes."""
    return (set(vars(keras.layers.Layer())) | _TRAINING) - _DECIDING


@functools.cache
def _read_by(kind):
    """The attributes that the class of a library's layer reads in `call` and in the methods that `call` calls."""
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
    """Attribute names that occur in a function and in the functions inside it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def deciding_names(owner: Any, attributes: dict[str, Any]) -> list[str]:
    """The names of the attributes that may decide what a layer, or an object of the user, computes."""
    if not isinstance(owner, keras.Operation):
        return list(attributes)
    skipped, kind = _bookkeeping(), type(owner)
    read = _read_by(kind) if foreign(kind) else None
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
    # A graph already names the layers it calls. An empty list is left out, because a new layer is a new attribute.
    if "_layers" in names and ("_operations" in attributes or not attributes["_layers"]):
        names.remove("_layers")
    return names


def is_plain(value: Any) -> bool:
    """Whether a value can be copied, kept and compared with `==`, because nothing in it can hold a model."""
    if isinstance(value, CONTAINERS):
        return all(map(is_plain, value)) and (
            not isinstance(value, dict) or all(map(is_plain, value.values()))
        )
    return isinstance(value, (*PLAIN, keras.DTypePolicy)) or (
        isinstance(value, types.FunctionType) and foreign(value)
    )


def attribute_contents(name: str, owner: Any) -> Any:
    """The contents of an attribute that is a container or an object with slots."""
    return identities([owner.__dict__[name]])


def attribute_objects(name: str, owner: Any) -> list[int]:
    """The identities of the objects in an attribute that is a list of objects only."""
    return list(map(id, owner.__dict__[name]))


def identities(value: Any) -> Any:
    """The contents of a container: plain values by value, objects by identity."""
    if isinstance(value, np.ndarray):
        return value.shape, digest(value)
    if isinstance(value, dict):
        return [identities(list(value)), identities(list(value.values()))]
    return [
        one
        if isinstance(one, PLAIN)
        else identities(one)
        if isinstance(one, (*CONTAINERS, np.ndarray))
        else id(one)
        if hasattr(one, "__dict__")
        else _slot_identities(one)
        for one in value
    ]


def _slot_identities(value):
    slots = slots_of(value)
    return id(value) if not slots else (id(value), identities(slots))


def class_contents(kind: type) -> list[Any]:
    """The attributes of a class of the user, and the code of its functions, which editors may replace in place."""
    values = vars(kind).values()
    return [*map(id, values), *[made_of(one) for one in values if type(one) is types.FunctionType]]


def made_of(function: types.FunctionType) -> tuple[Any, Any, Any]:
    """A function's code, which holds no model, and its defaults by identity."""
    defaults, named = function.__defaults__, function.__kwdefaults__
    return function.__code__, defaults and identities(defaults), named and identities(named)


def function_contents(function: types.FunctionType) -> tuple[Any, Any]:
    """The code and defaults of a function, and the variables it closes over."""
    return made_of(function), identities(cells(function)) if function.__closure__ else None


def global_contents(names: tuple[str, ...], function: types.FunctionType) -> list[Any]:
    """The global variables of these names that a function sees."""
    return identities(list(map(function.__globals__.get, names)))


def module_contents(names: tuple[str, ...], module: types.ModuleType) -> list[Any]:
    """The contents of these names in a module."""
    return identities(list(map(vars(module).get, names)))


@functools.lru_cache(4096)
def globals_read(code: types.CodeType) -> tuple[str, ...]:
    """The names of global variables that a function, and the functions in it, read."""
    names = [one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return tuple(dict.fromkeys([*names, *(name for one in inner for name in globals_read(one))]))


def slots_of(value: Any) -> list[Any] | None:
    """The contents of an object of the user that has slots and no `__dict__`; None for any other object."""
    kind = type(value)
    if hasattr(value, "__dict__") or foreign(kind) or isinstance(value, (type, types.ModuleType)):
        return None
    names = [name for parent in kind.__mro__ for name in _as_tuple(vars(parent).get("__slots__", ()))]
    return [getattr(value, name, None) for name in names if name != "__weakref__"]


def _as_tuple(names):
    return (names,) if isinstance(names, str) else tuple(names)


def cells(function: types.FunctionType) -> list[Any]:
    """The values of the variables that a function closes over; a variable that is not set yet is left out."""
    values = []
    for cell in function.__closure__:
        try:
            values.append(cell.cell_contents)
        except ValueError:
            pass
    return values


def digest(array: np.ndarray) -> int | None:
    """A hash of the values of a small array, or of a regular sample of a large one; None for an array of objects."""
    return (
        hash(np.ravel(array)[:: max(1, array.size // _LARGEST_ARRAY)].tobytes())
        if array.dtype != object
        else None
    )


def foreign(thing: Any) -> bool:
    """Whether a class or function belongs to a library, whose code does not change."""
    return _root(thing) in _FOREIGN


def settled(thing: Any) -> bool:
    """Whether a class, function or module belongs to a library, to Python or to recipes, so that its code is fixed."""
    return _root(thing) in _SETTLED


def _root(thing):
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return (name or "builtins").partition(".")[0]
