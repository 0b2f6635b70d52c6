"""What a compiled model is asked to do, as far as its outputs, its loss and its training step tell."""

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
# They hand on what the layer before them means.
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
    """What the outputs and the loss mean together.

    Attributes:
        activation: Of the output, "softmax", "sigmoid", "linear" ..., or None where the graph cannot be read.
        loss: Name of the loss in snake case, or None for several losses, and where none was compiled.
        from_logits: Whether a cross-entropy was told to expect logits.
        outputs: Width of the output, or None.
        kind: "categorical", "binary", "margins", "values", or "unknown" for a loss of the user's own.
        output_shape: Shape of the output without its batch axis, None where it is not known.
        own_step: Whether the training step, or how the loss is computed, is the user's own.
        ignore_class: Label that the loss leaves out, as of a border or padding, or None.
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
        """True where labels are classes."""
        return self.kind in ("categorical", "binary", "margins")


@dataclass(frozen=True)
class Head:
    """One output with its loss. `key` finds its labels: None for the only one, else a name or a number."""

    name: str
    key: str | int | None
    task: Task
    chain: list


def task_of(model: keras.Model) -> Task:
    """Read the `Task` of a compiled `keras.Model`; of one with several outputs its loss is "unknown".

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
    """Every output with the loss that is meant for it; empty where that cannot be known.

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
    """Units of the outputs of the networks that a model of the user's own holds and calls itself, each with one."""
    found = []
    for layer in layers_of(model, keras.Model):
        outputs = getattr(layer, "outputs", None)
        if outputs and len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[-1]:
            found.append(int(outputs[0].shape[-1]))
    return found


def labels_of(head: Head, labels: Any, number: int) -> Any:
    """The labels of one head out of a batch's, or None where they cannot be told.

    Args:
        head: One of `heads_of`.
        labels: The labels of a batch: an array, or a list or a dictionary of them.
        number: Place of the head among the heads.
    """
    if isinstance(labels, dict):
        return labels.get(head.key, next(iter(labels.values())) if len(labels) == 1 else None)
    if isinstance(labels, (list, tuple)):
        place = 0 if head.key is None else head.key if isinstance(head.key, int) else number
        return labels[place] if place < len(labels) else None
    return labels if head.key is None else None


def passes_on(entry: dict) -> bool:
    """Whether an entry of `output_chain` only hands on what the layer before it means."""
    return entry["activation"] == "linear" and entry["layer_class"] in (*_PASS_ON, "Activation")


def own_step(model: keras.Model) -> bool:
    """Whether the training step or the computation of the loss is not Keras' own."""
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
    """Whether a training step of the user's own takes the loss that was compiled, as far as its names tell."""
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
    """Names by which `fit` knows the outputs: keys of a dictionary of outputs, else names of their layers."""
    output = getattr(model, "output", None)
    if isinstance(output, dict):
        order = {id(tensor): key for key, tensor in output.items()}
        return [
            order.get(id(tensor), name)
            for tensor, name in zip(model.outputs, model.output_names, strict=True)
        ]
    return list(model.output_names)


def output_chain(tensor: Any) -> list[dict]:
    """The operations that end in a Keras tensor, last first, at most eight.

    Returns:
        list of `{"name", "layer_class", "activation"}`, names as Keras knows them; "linear" for no activation.
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
    """The class that a sparse cross-entropy was told to leave out, or None."""
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
