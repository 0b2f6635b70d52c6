"""What can be watched in a model: its layers under readable names, their activations, its variables."""

from dataclasses import dataclass
from typing import Any, Literal

import keras

from recipes.common.traversal import named_operations

# Activations by the name of their function, layer or operation.
_KINDS = {
    "relu": "relu",
    "relu6": "relu",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
    "tanh": "tanh",
    "hard_tanh": "tanh",
    "softmax": "softmax",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "softplus": "softplus",
    "softsign": "softsign",
    "mish": "mish",
    "celu": "celu",
    "exponential": "exponential",
    "threshold": "relu",
}
# Layers that move numbers about: finite in, finite out, so their outputs need no look.
_RELAYS = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.Identity,
    keras.layers.Dropout,
)


@dataclass(frozen=True)
class Watched:
    """One layer (or functional operation) whose output can be looked at.

    `name` is unique in the model: names of nested models joined by "/". `kind` is the activation that gives the
    output ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", ..., "custom"), or "" for a linear output.
    `ceiling` is the largest value a bounded ReLU can give, else None.
    """

    name: str
    operation: object
    kind: str
    ceiling: float | None

    def unit_axis(self, rank: int) -> int:
        """The axis of the output that counts its units: channels of a convolution, else the last axis."""
        layout = getattr(self.operation, "data_format", None)
        if layout is None and not hasattr(self.operation, "units"):
            layout = keras.config.image_data_format()
        return 1 if layout == "channels_first" and rank > 2 else rank - 1


def watched_layers(model: keras.Model) -> list[Watched]:
    """List every layer of a model whose output is worth watching, children before the layer that holds them.

    Layers of nested models are included under `outer/inner`; a layer that is shared appears once. Operations of
    a Functional model (`keras.ops.relu(x)`, `x + y`) count as layers. Nested Sequential and Functional models,
    and layers that only move numbers about, are left out, because they repeat another layer's output.

    Args:
        model: A `keras.Model`, built.

    Returns:
        A list of `Watched`.
    """
    found, used = [], set()
    for name, operation in named_operations(model):
        if isinstance(operation, (keras.layers.InputLayer, *_RELAYS)) or _only_relays(operation):
            continue
        unique, count = name, 1
        while unique in used:
            count += 1
            unique = f"{name}_{count}"
        used.add(unique)
        kind, ceiling = activation_kind(operation)
        found.append(Watched(unique, operation, kind, ceiling))
    return found


def _only_relays(operation):
    # A Sequential or Functional model calls its layers and adds nothing of its own.
    return isinstance(operation, keras.Model) and type(operation).call.__qualname__ in (
        "Sequential.call",
        "Functional.call",
    )


def activation_kind(operation: Any) -> tuple[str, float | None]:
    """Which activation gives a layer's output: `(kind, ceiling)`, with kind "" when there is none."""
    if isinstance(operation, keras.layers.RNN) or hasattr(operation, "state_size"):
        return "", None  # their `activation` acts inside the loop
    if isinstance(operation, keras.layers.ReLU):
        ceiling = operation.max_value
        return ("leaky_relu" if operation.negative_slope else "relu"), None if ceiling is None else float(
            ceiling
        )
    if isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU)):
        return "leaky_relu", None
    if isinstance(operation, (keras.layers.Softmax, keras.layers.ELU)):
        return type(operation).__name__.lower(), None
    function = getattr(operation, "activation", None)
    if isinstance(function, keras.layers.Layer):
        return activation_kind(function)
    if callable(function):
        name = getattr(function, "__name__", "custom")
    elif not isinstance(operation, keras.layers.Layer):
        name = _snake(type(operation).__name__)
        if name not in _KINDS:
            return "", None
    else:
        return "", None
    if name == "linear":
        return "", None
    if name == "leaky_relu" and not getattr(operation, "negative_slope", 0.2):
        name = "relu"
    return _KINDS.get(name, "custom"), 6.0 if name == "relu6" else None


def _snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def variable_role(
    variable: keras.Variable, layer: Any
) -> Literal["kernel", "bias", "normalization", "vector"]:
    """The role of a variable: "kernel", "bias", "normalization", or "vector" for any other of rank 0 or 1."""
    if "Normalization" in type(layer).__name__:
        return "normalization"
    if "bias" in variable.name:
        return "bias"
    return "kernel" if len(variable.shape) > 1 else "vector"
