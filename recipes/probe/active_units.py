"""Which rectified units are silent on every sample of a data set."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from recipes.common.types import Data, Images
from recipes.probe.adapter import adapter
from recipes.probe.calls import RECTIFIERS
from recipes.probe.layout import watched_layers

_BATCH = 128


class ActivityCheck:
    """A compiled forward pass that tells, for every rectified unit, whether any sample makes it active.

    Runs in inference mode, as the finished network does. A layer that is called more than once counts as active
    where any call is.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._forward = adapter().Forward(model, [w for w in watched_layers(model) if w.kind in RECTIFIERS])

    def __call__(self, data: "Data | Images") -> dict[str, np.ndarray]:
        """Run over `data` and return `{layer: bool (units,)}`, True where the unit was above zero at least once.

        Args:
            data: Images as an array or tensor `(n, ...)`, a tuple `(images, labels)`, or a batched or un-batched
                `tf.data.Dataset` of either. It must be possible to read it more than once.

        Raises:
            TypeError: when `data` can be read only once.
            ValueError: when it is empty.
        """
        active = None
        for inputs in _batches(self._model, data):
            found = self._forward(inputs)
            active = found if active is None else [a | b for a, b in zip(active, found, strict=True)]
        if active is None:
            raise ValueError(
                "The data for finding dead units is expected to have samples. Received none. "
                "Give the training or validation images."
            )
        layers = {}
        for name, units in zip(self._forward.names, active, strict=True):
            layers[name] = layers[name] | units if name in layers else units
        return layers


def dead_units(model: keras.Model, data: "Data | Images") -> dict[str, list[int]]:
    """Find the rectified units that are not active on any sample: the dead ReLUs.

    Source: CS231n lecture notes, "Neural Networks Part 1", section "Commonly used activation functions",
    https://cs231n.github.io/neural-networks-1/#actfun: a ReLU whose input is negative for all data has no gradient
    and never comes back. "Dead" here is a statement about `data` and nothing else.

    Args:
        model: A built `keras.Model`; ReLU, ReLU6, `Activation("relu")`, `activation="relu"` and functional relus are
            looked at, also in nested models. For leaky activations the units are those that are never positive.
        data: As for `model.fit`: an array `(n, ...)`, `(images, labels)`, or a `tf.data.Dataset`.

    Returns:
        `{layer: [unit, ...]}`, an entry for every rectified layer; a unit is a channel of a convolution or a feature
        of a Dense layer.

    Raises:
        TypeError: when `data` can be read only once.
        ValueError: when it is empty.
    """
    return {name: np.flatnonzero(~active).tolist() for name, active in ActivityCheck(model)(data).items()}


def _batches(model: keras.Model, data: Any) -> Iterator[Any]:
    if hasattr(data, "element_spec"):  # a tf.data.Dataset
        from recipes.common.datasets import is_batched, without_autotune  # noqa: PLC0415 - brings TensorFlow

        if not is_batched(data.element_spec, model):
            data = data.batch(_BATCH)
        return (_inputs(element) for element in without_autotune(data))
    if hasattr(data, "__next__"):
        raise TypeError(
            f"The data for finding dead units is expected to be an array or a tf.data.Dataset. Received {data!r}, "
            "which can be read only once. Collect it into an array first."
        )
    return _slices(_inputs(data))


def _slices(arrays):
    count = min((len(array) for array in keras.tree.flatten(arrays)), default=0)
    for start in range(0, count, _BATCH):
        yield keras.tree.map_structure(
            lambda array, start=start: keras.ops.convert_to_tensor(array[start : start + _BATCH]), arrays
        )


def _inputs(element):
    return keras.utils.unpack_x_y_sample_weight(element)[0] if isinstance(element, tuple) else element
