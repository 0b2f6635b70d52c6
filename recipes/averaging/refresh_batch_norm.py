"""Fresh batch-normalization statistics for weights that training never saw, such as an average."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from recipes.common.datasets import as_batches
from recipes.common.patching import wrapped
from recipes.common.traversal import layers_of
from recipes.common.types import Images


def refresh_batch_norm(
    model: keras.Model, dataset: "tf.data.Dataset | Images | tuple[Any, ...]", *, batch_size: int = 128
) -> keras.Model:
    """Recompute the mean and variance of every batch normalization over a data set.

    Averaged weights give other activations than the weights the statistics were gathered with, so without this step the
    model predicts badly. Source: Izmailov et al. 2018, section 3.2, https://arxiv.org/abs/1803.05407

    It is one pass in which each batch is normalized by its own statistics, as in training, while dropout and everything
    else is as in inference. The mean and variance of all activations together (over batches, weighted by their size)
    are stored, rather than the running average of the batches' variances that training leaves. So they depend neither
    on momentum nor on order. Layers with `trainable=False` keep their statistics: in Keras those run in inference mode.
    A layer that the model itself calls with `training=False` cannot be told from the others; freeze it.

    Args:
        model: A built `keras.Model`, changed in place. It may have any number of batch normalization layers, also
            nested ones; without any it stays as it is.
        dataset: Training images as in `fit`, batched or not: `tf.data.Dataset` (labels are ignored) or an array. Use
            large batches and the training augmentation, if any.
        batch_size: Images per batch where the data comes un-batched.

    Returns:
        The model.

    Raises:
        ValueError: for an empty or endless data set.
    """
    BatchNormRefresher(model).refresh(dataset, batch_size=batch_size)
    return model


class BatchNormRefresher:
    """`refresh_batch_norm` for a model that needs it often: traces once.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.layers = [layer for layer in batch_norms(model) if layer.trainable]
        self._traced = {}

    def refresh(
        self,
        dataset: "tf.data.Dataset | Images | tuple[Any, ...]",
        *,
        batch_size: int = 128,
        caller: str = "refresh_batch_norm",
    ) -> None:
        """One pass over the data; then the layers hold its statistics."""
        batches = as_batches(dataset, self.model, batch_size=batch_size, caller=caller, name="the data set")
        if not self.layers:
            return
        look = self._traced_for(batches.element_spec[0])
        totals = [[0.0, 0.0, 0.0] for _ in self.layers]
        for batch in batches:
            for total, seen in zip(totals, look(batch[0]), strict=True):
                for count, mean, variance in seen:
                    count, mean = float(count), np.asarray(mean, "float64")
                    total[0] += count
                    total[1] += count * mean
                    total[2] += count * (np.asarray(variance, "float64") + mean**2)
        for layer, (count, first, second) in zip(self.layers, totals, strict=True):
            if count:
                mean = first / count
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(np.maximum(second / count - mean**2, 0))

    def _traced_for(self, spec):
        if keras.backend.backend() != "tensorflow":
            return lambda images: self._look(keras.tree.map_structure(lambda part: part.numpy(), images))
        if str(spec) not in self._traced:
            self._traced[str(spec)] = tf.function(self._look).get_concrete_function(spec)
        return self._traced[str(spec)]

    def _look(self, images):
        """Per layer and call: number of values averaged over, their mean and variance."""
        seen = [[] for _ in self.layers]
        graph = tf.compat.v1.get_default_graph() if keras.backend.backend() == "tensorflow" else None
        observers = zip(self.layers, seen, strict=True)
        with wrapped([(layer, "call", _observing(layer, found, graph)) for layer, found in observers]):
            self.model(images, training=False)
        return seen


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch normalization layers of a model, also inside nested models."""
    return layers_of(model, keras.layers.BatchNormalization)


def _observing(layer, found, graph):
    """A function that does what the layer does in training, but leaves its statistics in `found`."""

    def call(inputs, training=None, mask=None):
        values = ops.cast(inputs, "float64" if layer.dtype == "float64" else "float32")
        axis = layer.axis % len(values.shape)
        axes = [other for other in range(len(values.shape)) if other != axis]
        if mask is not None:
            counted = ops.cast(ops.expand_dims(mask, -1), values.dtype) * ops.ones_like(values[..., :1])
            count = ops.sum(counted)
            mean = ops.sum(values * counted, axes) / count
            variance = ops.sum(counted * ops.square(values - mean), axes) / count
        else:
            count = ops.size(values) / values.shape[axis]
            mean, variance = ops.moments(values, axes)
        if not _can_be_read(mean, graph):
            raise ValueError(
                f"refresh_batch_norm expects batch normalization outside of loops. Received {layer.name!r} inside "
                "one. Freeze that layer with trainable=False, or normalize outside of the recurrent layer."
            )
        wide = "float32" if keras.backend.backend() == "jax" else "float64"  # JAX has no float64 unless asked
        found.append((ops.cast(count, wide), mean, variance))
        normalized = ops.batch_normalization(
            values, mean, variance, axis, offset=layer.beta, scale=layer.gamma, epsilon=layer.epsilon
        )
        return ops.cast(normalized, layer.compute_dtype)

    return lambda method: call


def _can_be_read(tensor, graph):
    """Whether a tensor does not belong to the body of a loop, outside of which its value cannot be read."""
    if graph is not None:
        return tensor.graph is graph
    try:
        ops.convert_to_numpy(tensor)
    except Exception:  # of another class in each backend
        return False
    return True
