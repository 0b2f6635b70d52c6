"""Whitening: turn images into uncorrelated numbers of unit variance, and back."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from recipes.common.validation import is_number, is_one_of, is_whole
from recipes.preprocess.adapted import AdaptedLayer
from recipes.preprocess.image_batches import image_batches

if TYPE_CHECKING:
    import tensorflow as tf

    from recipes.common.types import Images

# A covariance of 2**14 values squared is 2 GB in float64, and its eigenvectors take many minutes.
_LARGEST = 2**14


@keras.saving.register_keras_serializable(package="recipes")
class Whitening(AdaptedLayer):
    """Rotate images to their principal axes and give every axis unit variance.

    Let `U diag(eigenvalues) U^T` be the covariance of the flattened training images, and `x` an image minus their
    mean:

    - `kind="pca"`: `diag(1 / sqrt(eigenvalues + e)) U^T x`, one number per axis, largest variance first;
    - `kind="zca"`: the same, rotated back by `U`. Of all whitening transforms, this symmetric one changes the images
      least, so the result still looks like the image, with its edges enhanced.

    Source: Bell and Sejnowski 1997, "The independent components of natural scenes are edge filters", section 2 (ZCA);
    Kessy et al. 2018, "Optimal whitening and decorrelation", section 3, https://arxiv.org/abs/1512.00809.
    Papers add a constant in squared pixel units. Here `e` is `epsilon` times the mean eigenvalue, so that the
    result does not depend on whether pixels are in 0..1 or 0..255.

    `adapt` computes mean and axes from the training images, in one pass and float64. They are weights that are not
    trained and are saved in the `.keras` file.

    Args:
        kind: "zca" or "pca".
        epsilon: Share of the mean variance that is added to the variance of each axis, > 0. The default whitens
            almost completely; axes with much less variance (a border that is always black) stay near zero. Values of
            0.01 to 0.1 smooth the result, and prevent very large outputs for test images that differ on such axes.
        components: Number of axes kept, the ones of largest variance; None keeps all.

    Input shape: `(batch, height, width, channels)`, any real dtype, at most 16384 values per image, such as
        73 x 73 x 3.
    Output shape: for "zca" the same, for "pca" `(batch, components)`; in the layer's compute dtype.

    Raises:
        ValueError: when an argument is out of range, when images have more values, or when the layer is called before
            `adapt`.

    Example:
        >>> whitening = Whitening(kind="zca", epsilon=0.01)
        >>> whitening.adapt(train)
        >>> edges = whitening(images)
        >>> images = whitening.inverse(edges)
    """

    def __init__(
        self,
        kind: Literal["zca", "pca"] = "zca",
        epsilon: float = 1e-5,
        components: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not is_one_of(kind, ("zca", "pca")):
            raise ValueError(
                f"Whitening expects kind to be 'zca' or 'pca'. Received kind={kind!r}. "
                "Type kind='zca' for results that look like images."
            )
        whole = components is None or (is_whole(components) and components >= 1)
        if not is_number(epsilon) or epsilon <= 0 or not whole:
            raise ValueError(
                f"Whitening expects epsilon > 0 and components >= 1 or None. Received epsilon={epsilon} and "
                f"components={components}. Leave them out for the defaults."
            )
        self.kind = kind
        self.epsilon = epsilon
        self.components = components

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = tuple(input_shape[1:])
        values = None if None in shape or len(shape) != 3 else int(np.prod(shape))
        if values is None or values > _LARGEST:
            raise ValueError(
                "Whitening expects images of known shape (batch, height, width, channels) and of at most "
                f"{_LARGEST} values each. Received {tuple(input_shape)}. "
                "Resize the images, or whiten patches cut out of them."
            )
        if self.components is not None and self.components > values:
            raise ValueError(
                f"Whitening expects at most as many components as an image has values, {values}. "
                f"Received components={self.components}. Type components=None to keep all."
            )
        kept = self.components or values
        self.image_shape = shape
        self.mean = self.add_statistic("mean", (values,))
        self.axes = self.add_statistic("axes", (values, kept))
        self.std = self.add_statistic("std", (kept,))

    def adapt(self, images: "Images | tf.data.Dataset", *, channels: int | None = None) -> None:
        """Compute the mean and the principal axes of the training images.

        Args:
            images: A `tf.data.Dataset` or an array, as `ImageStatistics.fit` takes it, of images of one size.
            channels: As for `ImageStatistics.fit`.

        Raises:
            TypeError: as `ImageStatistics.fit` does.
            ValueError: when there are fewer than two images, the images have several sizes, or a pixel is NaN or
                infinite.

        Warns:
            UserWarning: when there are not more images than axes kept and epsilon is below 0.01. The training images
                then do not differ along some axes, and new images that do differ there become very large.
        """
        mean = scatter = None
        count = 0
        for batch in image_batches(images, "Whitening.adapt", channels=channels)[0]:
            if not self.built:
                self.build((None, *batch.shape[1:]))
                self.built = True
            if batch.shape[1:] != self.image_shape:
                raise ValueError(
                    f"Whitening.adapt expects images of shape {self.image_shape}. Received {batch.shape[1:]}. "
                    "Resize the images to one size, that of the model's input."
                )
            if len(batch) == 0:
                continue
            rows = batch.reshape(len(batch), -1).astype(np.float64)
            batch_mean = rows.mean(0)
            rows -= batch_mean
            if mean is None:
                mean, scatter = np.zeros_like(batch_mean), np.zeros((len(batch_mean),) * 2)
            # Chan, Golub and LeVeque 1979, equation 2.1, as in ImageStatistics.
            step, total = batch_mean - mean, count + len(batch)
            scatter += rows.T @ rows
            scatter += np.outer(step, step * (count / total * len(batch)))
            mean, count = mean + step * (len(batch) / total), total
        if count < 2 or not np.isfinite(mean).all():
            raise ValueError(
                "Whitening.adapt expects at least two images with finite pixels. "
                f"Received {'NaN or infinity' if count >= 2 else f'{count} image(s)'}. Look at the data first."
            )
        kept = self.std.shape[0]
        # n images about their mean span n - 1 axes.
        if count <= min(kept, len(mean)) and self.epsilon < 0.01:
            warnings.warn(
                f"Whitening.adapt expects more images than the axes it keeps, {kept}. Received {count} images of "
                f"{len(mean)} values: they do not differ along some axes, and new images that do will come out very "
                f"large. Adapt to more images, keep components={max(1, count // 2)}, or set epsilon to 0.1.",
                stacklevel=2,
            )
        axes, std = principal_axes(scatter / count, self.epsilon)
        self.mean.assign(mean)
        self.axes.assign(axes[:, :kept])
        self.std.assign(std[:kept])

    def call(self, inputs: Any) -> Any:
        self.check_adapted(self.mean)
        return self.compute_on_float(self._whiten, inputs)

    def inverse(self, outputs: Any) -> Any:
        """The images `(batch, height, width, channels)` that `call` would turn into `outputs`, in the compute dtype.

        With `components`, they are the projections of the images on the axes kept.
        """
        self.check_adapted(self.mean)
        return self.compute_on_float(self._restore, outputs)

    def _whiten(self, images):
        rows = keras.ops.reshape(images, (-1, self.mean.shape[0])) - self.mean
        whitened = keras.ops.matmul(rows, self.axes) / self.std
        return whitened if self.kind == "pca" else self._as_images(whitened)

    def _restore(self, outputs):
        whitened = outputs
        if self.kind == "zca":
            whitened = keras.ops.matmul(keras.ops.reshape(outputs, (-1, self.mean.shape[0])), self.axes)
        images = self._as_images(whitened * self.std)
        return images + keras.ops.reshape(self.mean, self.image_shape)

    def _as_images(self, whitened):
        rows = keras.ops.matmul(whitened, keras.ops.transpose(self.axes))
        return keras.ops.reshape(rows, (-1, *self.image_shape))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        if self.kind == "zca":
            return input_shape
        return (input_shape[0], self.components or int(np.prod(input_shape[1:])))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "epsilon": self.epsilon,
            "components": self.components,
        }


def principal_axes(covariance: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The principal axes of a covariance `(values, values)`, largest variance first.

    Returns the unit eigenvectors as columns `(values, values)`, and `sqrt(eigenvalue + epsilon * mean eigenvalue)` for
    each of them, `(values,)`; both float64.
    """
    eigenvalues, axes = np.linalg.eigh(covariance)
    variance = np.maximum(eigenvalues[::-1], 0) + epsilon * max(eigenvalues.mean(), 1e-30)
    return axes[:, ::-1], np.sqrt(variance)
