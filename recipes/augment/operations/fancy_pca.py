"""PCA color augmentation ("fancy PCA"): color noise along the principal axes of the colors of a data set."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color_maps import ColorOperation
from recipes.augment.engine.color_statistics import ColorStatistics, check_statistics, read_statistics
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.common.validation import is_number

if TYPE_CHECKING:
    from recipes.preprocess.image_statistics import ImageStatistics


@operation
class FancyPCA(ColorOperation):
    """Add to all pixels of an image one color, a random mixture of the principal colors of the data set.

    Source: Krizhevsky et al. 2012, section 4.1. The added color is the sum over i of p_i alpha_i lambda_i. Here p_i and
    lambda_i are eigenvectors and eigenvalues of the covariance of the colors of all pixels of the training set, and
    alpha_i is drawn from normal(0, 0.1) once for each image. An eigenvalue is a variance, so the product with it
    depends on the unit of the pixels. As in implementations of the paper, lambda_i is computed for pixels scaled to
    0..1, and the color is scaled back to the value range.

    Args:
        statistics: `preprocess.ImageStatistics` of the training set, `ColorStatistics`, or any object with
            `channel_mean`, `channel_std`, `color_eigenvalues` and `color_eigenvectors` (in columns), of images in
            the pipeline's value range, with any number of channels.
        sigma: Standard deviation of alpha, >= 0. Paper: 0.1.
        probability: Chance that an image is changed.

    Raises:
        TypeError: when `statistics` has no `channel_mean` or `channel_std`.
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    statistics: "ColorStatistics | ImageStatistics"
    sigma: float = 0.1
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.statistics = read_statistics("FancyPCA", self.statistics)
        values, vectors = self._axes()
        channels = len(self.statistics.channel_mean)
        if values.shape != (channels,) or vectors.shape != (channels, channels):
            raise ValueError(
                f"augment.FancyPCA expects {channels} eigenvalues and a matrix of eigenvectors, one for each channel. "
                f"Received shapes {values.shape} and {vectors.shape}. Fit them: preprocess.ImageStatistics.fit(train)."
            )
        if not is_number(self.sigma) or self.sigma < 0:
            raise ValueError(
                f"augment.FancyPCA expects sigma >= 0. Received {self.sigma!r}. The paper uses sigma=0.1."
            )

    @property
    def normal_draws(self) -> tuple[str, ...]:
        return tuple(f"alpha {axis}" for axis in range(len(self.statistics.channel_mean)))

    def check(self, frame: Frame) -> None:
        super().check(frame)
        check_statistics("FancyPCA", self.statistics, frame)

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        alphas = self.sigma * tf.stack([drawn[name] for name in self.normal_draws], 1)
        return np.ones((1, 1), "float32"), principal_color(alphas, *self._axes(), float(frame.span[0]))

    def _axes(self):
        return np.asarray(self.statistics.color_eigenvalues), np.asarray(self.statistics.color_eigenvectors)


def principal_color(alphas: tf.Tensor, values: np.ndarray, vectors: np.ndarray, span: float) -> tf.Tensor:
    """Sum over i of p_i alpha_i lambda_i, `(batch, channels)`, in pixel values.

    Args:
        alphas: Random factors alpha, `(batch, channels)`.
        values: Eigenvalues lambda, `(channels,)`, in squared pixel values.
        vectors: Eigenvectors p in columns, `(channels, channels)`.
        span: Width of the value range. lambda / span^2 is the eigenvalue in the paper's unit; multiplying by span
            gives pixel values again.
    """
    axes = np.float32(vectors * (values / span))
    return tf.reduce_sum(alphas[:, None, :] * axes, 2)
