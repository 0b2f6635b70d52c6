"""Standardize: take the training set's mean, and its spread, out of every image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from recipes.common.validation import is_one_of
from recipes.preprocess.adapted import AdaptedLayer
from recipes.preprocess.image_statistics import ImageStatistics

if TYPE_CHECKING:
    import tensorflow as tf

    from recipes.common.types import Images

_KINDS = ("channel", "channel_mean", "mean_image")


@keras.saving.register_keras_serializable(package="recipes")
class Standardize(AdaptedLayer):
    """Subtract the mean of the training images, and optionally divide by their standard deviation.

    - `by="channel"`: `(image - channel_mean) / channel_std`, as He et al. 2015 train ResNets,
      https://arxiv.org/abs/1512.03385. A channel with one constant value is divided by one.
    - `by="channel_mean"`: `image - channel_mean`, section 2.1 of Simonyan and Zisserman 2014 (VGG),
      https://arxiv.org/abs/1409.1556.
    - `by="mean_image"`: `image - mean_image`, pixel by pixel, section 2 of Krizhevsky et al. 2012 (AlexNet).
      All images must have one size.

    `adapt` computes the statistics from the training images. They are weights that are not trained and are saved in
    the `.keras` file, so that validation, test and later images are standardized with the statistics of the training
    set.

    Args:
        by: "channel", "channel_mean" or "mean_image".

    Input shape: `(batch, height, width, channels)`, any real dtype.
    Output shape: the same, in the layer's compute dtype.

    Raises:
        ValueError: when `by` is unknown, when the layer is called before `adapt`, or when the images have another
            shape than the images that `adapt` was given.

    Example:
        >>> standardize = Standardize(by="channel")
        >>> standardize.adapt(train)
        >>> model = keras.Sequential([keras.Input((32, 32, 3)), standardize, ...])
    """

    def __init__(
        self, by: Literal["channel", "channel_mean", "mean_image"] = "channel", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not is_one_of(by, _KINDS):
            raise ValueError(
                f"Standardize expects by to be one of {', '.join(map(repr, _KINDS))}. Received by={by!r}. "
                "Type by='channel' for zero mean and unit variance of each channel."
            )
        self.by = by

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = tuple(input_shape[1:]) if self.by == "mean_image" else (input_shape[-1],)
        if len(input_shape) != 4 or None in shape:
            raise ValueError(
                f"Standardize(by={self.by!r}) expects images of shape (batch, height, width, channels) with known "
                f"{'height, width and ' if self.by == 'mean_image' else ''}channels. Received {tuple(input_shape)}. "
                "Give them in keras.Input(shape=...)."
            )
        self.mean = self.add_statistic("mean", shape)
        if self.by == "channel":
            self.std = self.add_statistic("std", shape)

    def adapt(self, images: "Images | tf.data.Dataset | ImageStatistics", **options: Any) -> None:
        """Compute the statistics of the training images.

        Args:
            images: A dataset or an array as `ImageStatistics.fit` takes it, or an `ImageStatistics`.
            **options: Passed on to `ImageStatistics.fit`.

        Raises:
            TypeError: as `ImageStatistics.fit` does.
            ValueError: when the images have several sizes under `by="mean_image"` or another shape than the layer's
                input, or as `ImageStatistics.fit` does.
        """
        statistics = images if isinstance(images, ImageStatistics) else ImageStatistics.fit(images, **options)
        mean = statistics.mean_image if self.by == "mean_image" else statistics.channel_mean
        if mean is None:
            raise ValueError(
                "Standardize(by='mean_image') expects images of one size. Received images of several sizes. "
                "Resize them first, or type by='channel_mean'."
            )
        if not self.built:
            self.build((None, *mean.shape) if mean.ndim == 3 else (None, None, None, *mean.shape))
            self.built = True
        if mean.shape != tuple(self.mean.shape):
            raise ValueError(
                f"Standardize(by={self.by!r}) expects statistics of the shape of its input, {tuple(self.mean.shape)}. "
                f"Received {mean.shape}. Adapt the layer to images of the shape that the model takes."
            )
        self.mean.assign(mean)
        if self.by == "channel":
            # A channel with one constant value has a standard deviation of zero up to rounding.
            changes = statistics.channel_std > 1e-7 * np.abs(mean)
            self.std.assign(np.where(changes, statistics.channel_std, 1))

    def call(self, inputs: Any) -> Any:
        self.check_adapted(self.mean)
        return self.compute_on_float(lambda images: standardize(images, self.mean, self._spread()), inputs)

    def inverse(self, outputs: Any) -> Any:
        """The images that `call` would turn into `outputs`, in the same shape and the layer's compute dtype."""
        self.check_adapted(self.mean)
        return self.compute_on_float(lambda images: images * self._spread() + self.mean, outputs)

    def _spread(self):
        return self.std if self.by == "channel" else 1.0

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


def standardize(images: Any, mean: Any, std: Any) -> Any:
    """`(images - mean) / std`, for arrays and tensors."""
    return (images - mean) / std
