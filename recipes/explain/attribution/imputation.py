"""Imputation: removed pixels are computed from their neighbors."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from recipes.common.types import FloatArray
from recipes.explain.engine.errors import UsageError

if TYPE_CHECKING:
    from recipes.explain.attribution.attribution_task import Task

# Weights of the eight neighbors, by whether they share a side or a corner (section 4.1).
_SIDE, _CORNER = 1 / 6, 1 / 12
# Standard deviation of the noise, as a fraction of an image's range.
NOISE = 0.01


class Imputer:
    """The baseline `"impute"`: removed pixels become the noisy weighted mean of their neighbors.

    Source: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods", section 4,
    https://arxiv.org/abs/2202.00449. When all pixels are removed, they get the mean color.

    Args:
        method, name: The public function and its argument, for errors.
        task: The `Task`; its images have two spatial axes.
        images: A group of its images, float32.

    Raises:
        ValueError: when the images do not have two spatial axes.
    """

    def __init__(self, method: str, name: str, task: "Task", images: FloatArray) -> None:
        if len(task.spatial) != 2 or task.tokens:
            raise UsageError(
                f"{method} with {name}='impute' expects images with height and width. Received {images.shape}. Use "
                f"{name}='mean' or a number."
            )
        axis = task.channel_axis
        self._axis = axis
        self._images = images[..., None] if axis is None else np.moveaxis(images, axis, -1)
        axes = tuple(range(1, self._images.ndim))
        self._noise = NOISE * (self._images.max(axes) - self._images.min(axes))
        self._generator = np.random.default_rng(0)

    def __call__(self, rows: slice, removed: np.ndarray) -> FloatArray:
        """Impute pixels of the images `rows`.

        Args:
            rows: Slice of the group of images.
            removed: The pixels to impute, bool `(n, height, width)`, or `(1, height, width)` for all images.

        Returns:
            float32, in the layout of the images.
        """
        images, noise = self._images[rows], self._noise[rows]
        if len(removed) == 1:
            # One mask for all images gives one system of equations, whose columns are the channels of all images.
            flat = np.moveaxis(images, 0, -2).reshape(*images.shape[1:3], -1)
            filled = imputed(flat, removed[0], 0.0, self._generator).reshape(
                *images.shape[1:3], len(images), -1
            )
            filled = np.moveaxis(filled, -2, 0)
            draw = self._generator.standard_normal(filled.shape) * removed[0, :, :, None]
            filled = filled + noise[:, None, None, None] * draw
        else:
            filled = np.stack(
                [
                    imputed(image, mask, spread, self._generator)
                    for image, mask, spread in zip(images, removed, noise, strict=True)
                ]
            )
        return filled[..., 0] if self._axis is None else np.moveaxis(filled, -1, self._axis)


def imputed(
    image: FloatArray, removed: np.ndarray, noise: float, generator: np.random.Generator
) -> FloatArray:
    """Replace removed pixels by the weighted mean of their neighbors inside the image, plus noise.

    Source: Rong et al. 2022, section 4.1.

    Args:
        image: `(height, width, channels)`.
        removed: bool `(height, width)`. When all pixels are removed, they get the mean color.
        noise: Standard deviation of the added noise, in pixel values of the image.
        generator: Generator that draws the noise.

    Returns:
        `(height, width, channels)` float32.
    """
    result = image.astype("float32").copy()
    if removed.all():
        result[:] = result.mean((0, 1))
        return (result + noise * generator.standard_normal(result.shape)).astype("float32")
    if not removed.any():
        return result
    height, width = removed.shape
    number = np.full(removed.shape, -1)
    rows, columns = np.nonzero(removed)
    number[rows, columns] = np.arange(len(rows))
    right = np.zeros((len(rows), image.shape[-1]))
    entries, total = [], np.zeros(len(rows))
    for down in (-1, 0, 1):
        for along in (-1, 0, 1):
            if down == along == 0:
                continue
            weight = _SIDE if down == 0 or along == 0 else _CORNER
            inside = (
                (rows + down >= 0)
                & (rows + down < height)
                & (columns + along >= 0)
                & (columns + along < width)
            )
            mine = np.flatnonzero(inside)
            place = (rows + down)[mine], (columns + along)[mine]
            total[mine] += weight
            known = number[place] < 0
            right[mine[known]] += weight * image[place[0][known], place[1][known]]
            entries.append((mine[~known], number[place][~known], np.full((~known).sum(), -weight)))
    mine, other, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    diagonal = np.arange(len(rows))
    system = sparse.csr_matrix(
        (np.r_[weights, total], (np.r_[mine, diagonal], np.r_[other, diagonal])), (len(rows), len(rows))
    )
    values = spsolve(system.tocsc(), right).reshape(right.shape)
    result[rows, columns] = values + noise * generator.standard_normal(values.shape)
    return result
