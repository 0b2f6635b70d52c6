"""What decides a run about its model and optimizer, in words by which two runs are compared."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from recipes._version import __version__
from recipes.common.models import serialized
from recipes.common.optimizers import groups

# Keras numbers layers without a name of their own throughout a process: dense, dense_1, dense_2.
_AUTO_NUMBER = re.compile(r"_\d+(?=[/_]|$)")
_FROZEN = re.compile(r"(, )?trainable=false")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CODE = " (code "
_LIBRARIES = ("keras", "recipes", "tensorflow")  # whose versions are recorded
# Entries that say where a layer begins, not what it is: a resumed run has weights already.
_LEFT_OUT = ("name", "trainable", "build_config", "module", "registered_name", "autocast")


def without_numbers(path: str) -> str:
    """A variable's path or a layer's name without the numbers that Keras counts up in a process."""
    return _AUTO_NUMBER.sub("", path)


def architecture(model: keras.Model, *, frozen: bool = True) -> list[str]:
    """One line per layer: its class, its configuration, and the layers it reads.

    Args:
        model: The model.
        frozen: Include which layers are frozen.
    """
    try:
        config = serialized(model)["config"]
        lines = (
            _layers(config) if isinstance(config, dict) and "layers" in config else [_line("model", config)]
        )
        return lines if frozen else [_FROZEN.sub("", line) for line in lines]
    except Exception:  # whatever a subclassed model's own get_config raises
        return [
            f"{type(model).__name__}: {without_numbers(variable.path)} {list(variable.shape)} {variable.dtype}"
            for variable in model.variables
        ]


def _layers(config):
    entries = config["layers"]
    names, counts = {}, {}
    for entry in entries:
        name = _name_of(entry)
        stem = without_numbers(name)
        counts[stem] = counts.get(stem, 0) + 1
        names[name] = stem if counts[stem] == 1 else f"{stem} ({counts[stem]})"
    lines = []
    for entry in entries:
        settings = entry.get("config") if isinstance(entry.get("config"), dict) else {}
        inner = _layers(settings) if isinstance(settings.get("layers"), list) else None
        shown = _line(entry["class_name"], {} if inner else settings)
        reads = [names.get(name) or without_numbers(name) for name in _inbound(entry.get("inbound_nodes"))]
        after = f" after {', '.join(reads)}" if reads else ""
        place = names.get(_name_of(entry), entry["class_name"])
        lines.append(f"{place}: {shown}{after}")
        lines += [f"{place}/{line}" for line in inner or ()]
    return lines


def _name_of(entry):
    config = entry.get("config")
    told = config.get("name") if isinstance(config, dict) else None
    return told or entry.get("name") or entry["class_name"]  # a custom layer's config may leave its name out


def _inbound(nodes):
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        return [history[0]] if history else [name for value in nodes.values() for name in _inbound(value)]
    return [name for node in nodes for name in _inbound(node)] if isinstance(nodes, (list, tuple)) else []


def _line(kind, config):
    told = {
        name: value
        for name, value in config.items()
        if name not in _LEFT_OUT and not name.endswith("_initializer") and value is not None
    }
    frozen = {"trainable": False} if config.get("trainable") is False else {}
    shown = ", ".join(f"{name}={_short(value)}" for name, value in (told | frozen).items())
    return f"{kind}({shown})"


def _short(value):
    if isinstance(value, dict) and "class_name" in value:
        inside = value.get("config")
        if value["class_name"] == "DTypePolicy":
            return str(inside["name"])
        return (
            _line(value["class_name"], inside)
            if isinstance(inside, dict)
            else f"{value['class_name']}({inside})"
        )
    return json.dumps(plain(value), sort_keys=True)


def optimizer_settings(optimizer: keras.optimizers.Optimizer, *, rate: bool = True) -> dict[str, Any]:
    """Class and settings of an optimizer; for one that holds several, the settings of each, numbered.

    Args:
        optimizer: The compiled optimizer.
        rate: Include the learning rate. Before training it is the compiled one; during training a callback may have
            changed it.
    """
    settings = {}
    for number, one in enumerate(groups(optimizer)):
        prefix = f"{number}: " if number else ""
        config = {"class": type(one).__name__, **one.get_config()}
        # Which variables learn may change within a run; `begun` is state.
        config |= {"factors": list(one.factors)} if "factors" in config else {}
        left_out = ("name", "begun") if rate else ("name", "begun", "learning_rate")
        settings |= {prefix + name: plain(value) for name, value in config.items() if name not in left_out}
    return settings


def loss_settings(model: keras.Model) -> dict[str, Any]:
    """The loss and metrics that a model was compiled with; what cannot be serialized, by its name and code."""
    try:
        told = model.get_compile_config() or {}
    except Exception:  # a lambda, or a class without get_config
        told = {"metrics": [metric.name for metric in model.metrics]}
    names = ("loss_weights", "metrics", "weighted_metrics")
    return {"loss": plain(model.loss), **{name: _serialized(told.get(name)) for name in names}}


def _serialized(value):
    """Like `plain`, for the result of `get_compile_config`, in which objects are dicts."""
    if isinstance(value, Mapping) and "class_name" in value:
        return _short(value)
    if isinstance(value, Mapping):
        return {str(key): _serialized(entry) for key, entry in value.items()}
    return [_serialized(entry) for entry in value] if isinstance(value, (list, tuple)) else plain(value)


def versions() -> dict[str, str]:
    """Versions that decide whether a run can be bit-identical."""
    return {
        "keras-recipes": __version__,
        "keras": keras.__version__,
        "tensorflow": _installed("tensorflow"),
        "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def plain(value: Any) -> Any:
    """A value as JSON: plain ones as they are, objects by class and configuration, functions by name and code."""
    if isinstance(value, (str, bool, int, float, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if hasattr(value, "num_replicas_in_sync"):
        return f"{type(value).__name__} of {value.num_replicas_in_sync}"
    if hasattr(value, "get_config"):
        return _by_configuration(value)
    if isinstance(value, (Callable, type)) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}{_code(value)}"
    return _ADDRESS.sub("", repr(value))


def _code(function):
    """A fingerprint of a user's own function: of its code and the plain values that it closes over."""
    code = getattr(function, "__code__", None)
    if code is None or function.__module__.partition(".")[0] in _LIBRARIES:
        return ""
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    told = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    text = repr((_instructions(code), [_told(value) for value in told]))
    return f"{_CODE}{hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _told(value):
    """As `plain`, without following functions into what they close over, which may be themselves; arrays as a hash."""
    code = getattr(value, "__code__", None)
    if code is not None:
        return _instructions(code)
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
    return plain(value)


def _instructions(code):
    constants = [_instructions(one) if isinstance(one, types.CodeType) else one for one in code.co_consts]
    return code.co_code, code.co_names, code.co_freevars, [repr(one) for one in constants]


def _by_configuration(value):
    try:
        config = value.get_config()
    except Exception:  # a user's own class may not have one
        return type(value).__name__
    return _line(type(value).__name__, config) if isinstance(config, dict) else type(value).__name__


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Each difference between two descriptions, in words: "learning_rate: 0.1, now 0.2".

    Args:
        before: The earlier description, as read from JSON.
        now: The present description.
        name: Name of the compared setting, written before each difference.
    """
    now = json.loads(json.dumps(now))
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        return [
            words
            for key in keys
            for words in differences(before.get(key), now.get(key), f"{name} {key}".strip())
        ]
    if isinstance(before, list) and isinstance(now, list) and all(isinstance(x, str) for x in before + now):
        gone, new = [x for x in before if x not in now], [x for x in now if x not in before]
        if len(gone) == len(new):
            pairs = list(zip(gone, new, strict=True))
        else:
            pairs = [(x, "missing") for x in gone] + [("missing", x) for x in new]
        if before != now and not pairs:
            pairs = [("in one order", "in another")]
        return [f"{name}: {old}, now {new}" for old, new in pairs]
    if isinstance(before, str) and isinstance(now, str) and _CODE not in before:
        now = now.partition(_CODE)[0]  # an earlier version recorded only the name of a function
    return [] if before == now else [f"{name}: {_words(before)}, now {_words(now)}"]


def _words(value):
    return value if isinstance(value, str) else json.dumps(value)


def _installed(distribution):
    """The version of a distribution, without importing it; None where it is installed under another name."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
