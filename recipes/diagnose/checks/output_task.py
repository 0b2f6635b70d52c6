"""What a compiled model is asked to do, as far as its last activation and its loss tell."""

import re
from dataclasses import dataclass

import keras

from recipes.common.models import output_activation

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
    "crossentropy": "categorical_crossentropy",
}


@dataclass(frozen=True)
class Task:
    """What the outputs and the loss mean together.

    Attributes:
        activation: Of the output, "softmax", "sigmoid", "linear" ..., or None where the graph cannot be read.
        loss: Name of the loss in snake case, or None for several losses.
        from_logits: Whether a cross-entropy was told to expect logits.
        outputs: Width of the output, or None.
        kind: "categorical", "binary", "margins", "values", or "unknown" for a loss of the reader's own.
    """

    activation: str | None
    loss: str | None
    from_logits: bool
    outputs: int | None
    kind: str

    @property
    def classification(self):
        """True where labels are classes."""
        return self.kind in ("categorical", "binary", "margins")


def task_of(model):
    """Read the `Task` of a compiled `keras.Model`.

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
    loss, from_logits = _loss_name(model.loss)
    outputs = getattr(model, "outputs", None)
    single = outputs is not None and len(outputs) == 1
    width = outputs[0].shape[-1] if single and len(outputs[0].shape) > 1 else None
    kind = next((kind for kind, names in _LOSS_KINDS.items() if loss in names), "unknown")
    return Task(output_activation(model) if single else None, loss, from_logits, width, kind)


def _loss_name(loss):
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        loss = loss[0]
    elif isinstance(loss, dict) and len(loss) == 1:
        loss = next(iter(loss.values()))
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
