"""One forward pass in which chosen layers are called through a wrapper function."""

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import keras

from recipes.common.patching import wrapped
from recipes.common.traversal import layers_of
from recipes.common.types import Inputs


def called_through(
    wrappers: Iterable[tuple[keras.layers.Layer, Callable[..., Any]]],
) -> AbstractContextManager[None]:
    """Call each layer as `wrapper(call, *arguments)` until the `with` block ends; `call` is the layer's own method.

    Args:
        wrappers: Pairs of a layer and a wrapper. The layers may lie at any depth, in Functional and subclassed models.
    """
    return wrapped(
        [(layer, "call", functools.partial(functools.partial, wrapper)) for layer, wrapper in wrappers]
    )


def forward_as_in_training(
    model: keras.Model, batch: Inputs, wrappers: Iterable[tuple[keras.layers.Layer, Callable[..., Any]]] = ()
) -> Any:
    """Run the model on a batch with batch normalization in training mode and all other layers in inference mode.

    The moving statistics of the batch normalizations are restored afterwards.

    Args:
        model: A built `keras.Model`.
        batch: Inputs as the model takes them: one array, or a list or dictionary of arrays.
        wrappers: Pairs of a layer and a wrapper, as for `called_through`.

    Returns:
        The model's outputs.
    """
    norms = layers_of(model, keras.layers.BatchNormalization)
    statistics = [norm.get_weights() for norm in norms]

    def by_the_batch(call, inputs, training=None, mask=None):
        return call(inputs, training=True, mask=mask)

    try:
        with called_through([(norm, by_the_batch) for norm in norms]), called_through(wrappers):
            return model(batch, training=False)
    finally:
        for norm, values in zip(norms, statistics, strict=True):
            norm.set_weights(values)


def layer_path(layer: keras.layers.Layer) -> str:
    """The path of the layer in its model, such as `encoder/conv1`."""
    return layer.path or layer.name  # layers without weights of their own may have no path


def check_batch(function: str, batch: Inputs) -> None:
    """Raise a ValueError in the name of `function` when no statistics can be computed from `batch`."""
    for array in keras.tree.flatten(batch):
        array = keras.ops.convert_to_numpy(array)
        if array.ndim == 0 or len(array) < 2:
            raise ValueError(
                f"{function} expects a batch of at least two examples. Received an array of shape {array.shape}. "
                "Take 64 to 1024 training examples, without their labels."
            )
        if array.dtype == object and not all(isinstance(one, str | bytes) for one in array.flat):
            raise ValueError(
                f"{function} expects a batch of numbers or of strings. Received objects such as "
                f"{array.flat[0]!r}. Stack the examples into one array: np.stack(images)."
            )
        # NumPy has no kind letter for bfloat16, so Keras tests such an array.
        if array.dtype.kind not in "biuOSU" and not bool(keras.ops.all(keras.ops.isfinite(array))):
            raise ValueError(
                f"{function} expects a batch of finite numbers. Received one with NaN or infinity. "
                "Find the broken examples with numpy.isfinite(batch)."
            )


def check_built(function: str, model: keras.Model) -> None:
    """Raise a ValueError in the name of `function` when `model` has no weights yet."""
    if not model.built or not model.weights:
        raise ValueError(
            f"{function} expects a built model with weights. Received {model.name!r}, which has none yet. "
            "Call model.build(input_shape), or the model on one batch, first."
        )
