"""Linear resizing of maps of any number of spatial axes, with half-pixel centers."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray

# For fewer multiplications than this, numpy's loop takes less time than the start of a TensorFlow operation.
_SMALL = 50_000


def resize(
    maps: ArrayLike, shape: Sequence[int], windows: Sequence[tuple[float, float] | None] | None = None
) -> FloatArray:
    """Resize maps to a spatial shape, one axis after the other.

    Pixel centers lie at `i + 1/2`, so the maps are not shifted (as in `tf.image.resize`, unlike "align corners").
    Values between two pixels are interpolated linearly, so no value exceeds the range of the map.

    Args:
        maps: `(n, *spatial)`, float.
        shape: The new spatial shape, one length per axis.
        windows: For each axis the range of pixels `(low, high)` that the maps cover, from edge to edge, or None for the
            whole axis; the result is 0 outside. None means that the maps cover everything.

    Returns:
        `(n, *shape)`, float32.
    """
    maps = np.asarray(maps, dtype="float32")
    for axis, length in enumerate(shape, start=1):
        window = windows[axis - 1] if windows else None
        if maps.shape[axis] != length or window:
            weights = _weights(maps.shape[axis], length, *(window or (0.0, float(length))))
            moved = np.moveaxis(maps, axis, -1)
            maps = np.moveaxis(_product(moved, weights), -1, axis)
    return np.ascontiguousarray(maps)


def _product(maps, weights):
    """`maps (..., size)` times `weights (length, size)`; numpy's threads would wait longer than they work."""
    if maps.size * len(weights) < _SMALL:
        return np.einsum("...s,ls->...l", maps, weights)
    flat = tf.linalg.matmul(maps.reshape(-1, maps.shape[-1]), weights, transpose_b=True).numpy()
    return flat.reshape(*maps.shape[:-1], len(weights))


@functools.lru_cache(maxsize=64)
def _weights(size, length, low, high):
    """`(length, size)`: the weight of each old pixel in each new pixel."""
    centers = np.arange(length) + 0.5
    position = np.clip((centers - low) * size / (high - low) - 0.5, 0, size - 1)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, size - 1)
    weights = np.zeros((length, size), "float32")
    np.add.at(weights, (np.arange(length), lower), 1 - (position - lower))
    np.add.at(weights, (np.arange(length), upper), position - lower)
    weights[(centers < low) | (centers > high)] = 0
    return weights
