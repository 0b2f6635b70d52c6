"""The task of a compiled model, such as classification, read from its outputs, its loss and its training step."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import keras

from recipes.common.models import output_activation
from recipes.common.traversal import layers_of, producer_of

_LOSS_KINDS = {
    "categorical": (
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy",
    ),
    "binary": ("binary_crossentropy", "binary_focal_crossentropy"),
    "margins": ("hinge", "squared_hinge", "categorical_hinge"),
    "values": (
        "mean_squared_error",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_logarithmic_error",
        "huber",
        "huber_loss",
        "log_cosh",
        "poisson",
    ),
}
_SHORT = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "logcosh": "log_cosh",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "crossentropy": "categorical_crossentropy",
}
# A training step that names one of these uses the loss that was given to `compile`.
_USES_COMPILED = {"compute_loss", "compiled_loss", "_compute_loss", "train_step"}
# Layers that do not change the meaning of the outputs of the layer before them.
_PASS_ON = (
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "Flatten",
    "Reshape",
    "Dropout",
    "Identity",
    "Permute",
    "Squeeze",
)


@dataclass(frozen=True)
class Task:
    """The task of a model or of one of its outputs.

    Attributes:
        activation: Activation of the output, such as "softmax", "sigmoid" or "linear"; None where the graph cannot be
            read.
        loss: Name of the loss in snake case; None for several losses, or where none was compiled.
        from_logits: Whether the loss is a cross-entropy with `from_logits=True`.
        outputs: Size of the last axis of the output, or None where it is not known.
        kind: "categorical", "binary", "margins", "values" (a regression), or "unknown" for a custom loss.
        output_shape: Shape of the output without its batch axis, or None where it is not known.
        own_step: Whether `train_step` or `compute_loss` is custom.
        ignore_class: Class that the loss leaves out, such as that of a border or of padding, or None.
    """

    activation: str | None
    loss: str | None
    from_logits: bool
    outputs: int | None
    kind: str
    output_shape: tuple | None = None
    own_step: bool = False
    ignore_class: int | None = None

    @property
    def classification(self) -> bool:
        """Whether the labels are classes."""
        return self.kind in ("categorical", "binary", "margins")


@dataclass(frozen=True)
class Head:
    """One output of a model with its loss.

    Attributes:
        name: Name of the output; "" where it is the only one.
        key: Key of its labels in a batch: None for the only output, otherwise a name or a position.
        task: The task of this output.
        chain: The last operations before the output, as `output_chain` returns them.
    """

    name: str
    key: str | int | None
    task: Task
    chain: list


def task_of(model: keras.Model) -> Task:
    """Read the `Task` of a compiled model; for several outputs, its kind is "unknown" unless they share one loss.

    Args:
        model: A compiled `keras.Model`.

    Raises:
        ValueError: when the model is not compiled.
    """
    if not model.compiled:
        raise ValueError(
            f"recipes.diagnose expects a compiled model, to know its loss. Received {model.name!r}, which "
            "is not. "
            'Call model.compile(optimizer, loss) first, for example model.compile("adam", '
            '"sparse_categorical_crossentropy").'
        )
    own = own_step(model)
    outputs = getattr(model, "outputs", None)
    single = outputs is not None and len(outputs) == 1
    loss, from_logits = _loss_name(model.loss)
    shape = tuple(outputs[0].shape[1:]) if single else None
    activation = output_activation(model) if single else None
    unknown = own and not _uses_compiled_loss(model)
    return _task(loss, from_logits, shape, activation, unknown, own, _ignored(model.loss))


def heads_of(model: keras.Model) -> list[Head]:
    """Every output of a model with its loss; empty where it is not known which loss an output has.

    Args:
        model: A compiled `keras.Model`.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) == 1:
        chain = output_chain(outputs[0]) if outputs else []
        return [Head("", None, task_of(model), chain)]
    if not hasattr(model, "output_names") or (own_step(model) and not _uses_compiled_loss(model)):
        return []
    names = _output_keys(model)
    losses = model.loss
    if isinstance(losses, (list, tuple)) and len(losses) != len(names):
        return []
    heads = []
    for number, (name, tensor) in enumerate(zip(names, outputs, strict=True)):
        loss = losses
        if isinstance(losses, dict):
            loss = losses.get(name, losses.get(model.output_names[number]))
        elif isinstance(losses, (list, tuple)):
            loss = losses[number]
        if loss is None:
            continue
        ignored = _ignored(loss)
        loss, from_logits = _loss_name(loss)
        chain = output_chain(tensor)
        activation = next((e["activation"] for e in chain if not passes_on(e)), None)
        shape = tuple(tensor.shape[1:])
        task = _task(loss, from_logits, shape, activation, False, own_step(model), ignored)
        heads.append(Head(str(name), name if isinstance(names[0], str) else number, task, chain))
    return heads


def inner_widths(model: keras.Model) -> list[int]:
    """Output units of each network with a single output that is contained in a custom model."""
    found = []
    for layer in layers_of(model, keras.Model):
        outputs = getattr(layer, "outputs", None)
        if outputs and len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[-1]:
            found.append(int(outputs[0].shape[-1]))
    return found


def labels_of(head: Head, labels: Any, number: int) -> Any:
    """The labels of one output from those of a batch; None where it is not known which they are.

    Args:
        head: The output, as `heads_of` returns it.
        labels: The labels of a batch: an array, or a list or a dictionary of arrays.
        number: Position of the output in the list of `heads_of`.
    """
    if isinstance(labels, dict):
        return labels.get(head.key, next(iter(labels.values())) if len(labels) == 1 else None)
    if isinstance(labels, (list, tuple)):
        place = 0 if head.key is None else head.key if isinstance(head.key, int) else number
        return labels[place] if place < len(labels) else None
    return labels if head.key is None else None


def passes_on(entry: dict) -> bool:
    """Whether an entry of `output_chain` keeps the meaning of the layer before it, as Dropout or Flatten does."""
    return entry["activation"] == "linear" and entry["layer_class"] in (*_PASS_ON, "Activation")


def own_step(model: keras.Model) -> bool:
    """Whether `train_step` or `compute_loss` of a model is custom, not the one of Keras."""
    kind = type(model)
    return any(
        name in vars(model)
        or (
            not getattr(kind, name).__module__.startswith("keras.")
            and getattr(kind, name) is not getattr(keras.Model, name)
        )
        for name in ("train_step", "compute_loss")
    )


def _uses_compiled_loss(model):
    """Whether a custom training step uses the compiled loss, told from the names in its code."""
    for name in ("train_step", "compute_loss"):
        function = inspect.unwrap(getattr(type(model), name))
        function = getattr(function, "python_function", function)
        code = getattr(function, "__code__", None)
        if code is None or getattr(keras.Model, name) is getattr(type(model), name):
            continue
        return bool(_USES_COMPILED & set(code.co_names)) and model.loss is not None
    return True


def _task(loss, from_logits, shape, activation, step_is_unknown, own, ignored=None):
    width = shape[-1] if shape else None
    kind = next((kind for kind, names in _LOSS_KINDS.items() if loss in names), "unknown")
    kind = "unknown" if step_is_unknown else kind
    return Task(activation, loss, from_logits, width, kind, shape, own, ignored)


def _output_keys(model):
    """Names by which `fit` knows the outputs: keys of a dictionary of outputs, otherwise names of their layers."""
    output = getattr(model, "output", None)
    if isinstance(output, dict):
        order = {id(tensor): key for key, tensor in output.items()}
        return [
            order.get(id(tensor), name)
            for tensor, name in zip(model.outputs, model.output_names, strict=True)
        ]
    return list(model.output_names)


def output_chain(tensor: Any) -> list[dict]:
    """The operations that lead to a Keras tensor, the last one first, at most eight.

    Args:
        tensor: A symbolic tensor, such as an entry of `model.outputs`.

    Returns:
        One dict per operation with "name", "layer_class" and "activation" as Keras calls them; the activation is
        "linear" where there is none.
    """
    chain = []
    for _ in range(8):
        operation = producer_of(tensor)
        if operation is None:
            break
        while isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
            operation = producer_of(operation.outputs[0])
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.RNN):
            name = "linear" if activation is None else _name_of(activation)
        elif isinstance(operation, keras.layers.Softmax):
            name = "softmax"
        elif isinstance(operation, keras.layers.ReLU):
            name = "relu"
        elif isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)):
            name = _snake(type(operation).__name__)
        elif callable(activation):
            name = _name_of(activation)
        else:
            kind = _snake(type(operation).__name__)
            name = kind if kind in OPERATIONS else "linear"
        chain.append({"name": operation.name, "layer_class": type(operation).__name__, "activation": name})
        inputs = operation.input if hasattr(operation, "input") else None
        if inputs is None or isinstance(inputs, (list, tuple, dict)):
            break
        tensor = inputs
    return chain


# Operations of `keras.ops` that are activations.
OPERATIONS = (
    "softmax",
    "log_softmax",
    "relu",
    "relu6",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "hard_tanh",
    "softsign",
    "softplus",
    "exp",
    "elu",
    "selu",
    "gelu",
    "silu",
    "leaky_relu",
)


def _name_of(activation):
    return getattr(activation, "__name__", None) or _snake(type(activation).__name__)


def _ignored(loss):
    """The `ignore_class` of a sparse cross-entropy, or None."""
    found = getattr(_single(loss), "ignore_class", None)
    return found if isinstance(found, int) else None


def _single(loss):
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        return loss[0]
    return next(iter(loss.values())) if isinstance(loss, dict) and len(loss) == 1 else loss


def _loss_name(loss):
    loss = _single(loss)
    if isinstance(loss, str):
        name = _SHORT.get(loss.lower(), loss)
        return _snake(name), False
    if isinstance(loss, keras.losses.Loss):
        try:
            from_logits = bool(loss.get_config().get("from_logits", False))
        except NotImplementedError:
            from_logits = False
        return _snake(type(loss).__name__), from_logits
    if callable(loss):
        return getattr(loss, "__name__", None), False
    return None, False


def _snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
