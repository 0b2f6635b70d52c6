"""ImageStatistics: mean image, channel moments and color axes of a data set, in one streaming pass."""

import dataclasses
import zipfile
from typing import TYPE_CHECKING

import keras
import numpy as np

from recipes.common.files import write_atomically
from recipes.common.validation import is_number
from recipes.preprocess.image_batches import image_batches

if TYPE_CHECKING:
    import tensorflow as tf

    from recipes.common.types import Images, Path, ValueRange

# Values (not images) worked on at once, so that their float copy stays in the processor's cache.
_BLOCK = 800_000
# A sum of up to this many products of two bytes is an integer below 2**24, which float32 holds exactly.
_EXACT_ROWS = 256
# A sum of up to this many bytes is an integer below 2**24 too.
_EXACT_SUM = 65_000
_USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStatistics:
    """Moments of the pixels of a data set, made by `ImageStatistics.fit`.

    Arrays are float64 and in the units of the images: a mean of 0..255 images is in 0..255.

    Attributes:
        mean_image: `(height, width, channels)`, or None when the images have several sizes.
        channel_mean: `(channels,)`, mean over all pixels of all images.
        channel_std: `(channels,)`, population standard deviation (squares divided by the number of pixels).
        color_covariance: `(channels, channels)`, population covariance of the channels.
        color_eigenvalues: `(channels,)`, its eigenvalues, largest first: the variance along each color axis.
        color_eigenvectors: `(channels, channels)`; column `i` is the unit vector of eigenvalue `i`, its sign
            such that the entry of largest magnitude is positive.
        count: Number of images.
        value_range: `(low, high)` of the images: (0, 255) for uint8. For other dtypes it is the first of (0, 1),
            (-1, 1) and (0, 255) that contains every value, or else the smallest and largest value.
    """

    mean_image: np.ndarray | None
    channel_mean: np.ndarray
    channel_std: np.ndarray
    color_covariance: np.ndarray
    color_eigenvalues: np.ndarray
    color_eigenvectors: np.ndarray
    count: int
    value_range: tuple[float, float]

    @classmethod
    def fit(
        cls,
        images: "Images | tf.data.Dataset",
        *,
        value_range: "ValueRange | None" = None,
        channels: int | None = None,
        verbose: int = 1,
    ) -> "ImageStatistics":
        """Compute the statistics in one pass over the images.

        The moments of each block of images are merged into the previous ones in float64, by the pairwise update of
        Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances",
        equation 2.1. Inside a block, sums over bytes are exact integers. So neither many images nor a mean far from
        zero reduce the accuracy.

        Args:
            images: A `tf.data.Dataset` of images, of `(image, label, ...)` or of dicts that hold one image, batched
                `(batch, height, width, channels)` or unbatched `(height, width, channels)`; or an array
                `(n, height, width, channels)`. Any real dtype. Images of several sizes must be unbatched, or
                in batches of one size each.
            value_range: `(low, high)` of the images, where the rule in the class docstring would give a wrong range.
            channels: Number of channels of the images. It is needed for images of 3 rows and many channels, which
                otherwise are refused as `(channels, height, width)`.
            verbose: 0 hides the progress bar, which is shown for 1000 batches or more.

        Returns:
            An `ImageStatistics`.

        Raises:
            TypeError: when `images` is neither a dataset nor an array, its elements do not hold exactly one image, or
                the values are not real numbers.
            ValueError: when there are no images or endlessly many, when the number of channels changes from one image
                to the next, when a pixel is NaN or infinite, or when values lie outside `value_range`.
        """
        batches, steps = image_batches(images, "ImageStatistics.fit", channels=channels)
        bar = keras.utils.Progbar(steps) if verbose and steps is not None and steps >= 1000 else None
        moments = _Moments()
        for batch in batches:
            moments.add(batch)
            if bar:
                bar.add(1)
        if moments.count == 0:
            raise ValueError(
                "ImageStatistics.fit expects at least one image. Received none. "
                "See what the dataset contains with next(iter(dataset))."
            )
        covariance = moments.scatter / moments.pixels
        eigenvalues, eigenvectors = _color_axes(covariance)
        return cls(
            mean_image=None if moments.image_sum is None else moments.image_sum.carry() / moments.count,
            channel_mean=moments.mean,
            channel_std=np.sqrt(np.diag(covariance)),
            color_covariance=covariance,
            color_eigenvalues=eigenvalues,
            color_eigenvectors=eigenvectors,
            count=moments.count,
            value_range=moments.value_range(value_range),
        )

    def save(self, path: "Path") -> None:
        """Write the statistics to a NumPy `.npz` file at exactly `path`; no suffix is added to the name."""
        fields = {name: value for name, value in vars(self).items() if value is not None}

        def write(temporary):
            with open(temporary, "wb") as file:
                np.savez(file, **fields)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: "Path") -> "ImageStatistics":
        """Read a file that `save` wrote. Pickled objects are refused, so no code from the file can run.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file holds anything else.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as stored:
                fields = {"mean_image": None, **stored}
            low, high = fields.pop("value_range").tolist()
            return cls(**{**fields, "count": int(fields["count"]), "value_range": (low, high)})
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"ImageStatistics.load expects a file written by ImageStatistics.save. Received {path}, which is "
                f"not such a file ({error}). Fit the statistics again and save them."
            ) from error


class _Moments:
    """Moments of the images so far; `scatter` is the sum of outer products of centered pixels."""

    def __init__(self):
        self.count = self.pixels = 0
        self.mean = self.scatter = self.image_sum = self.dtype = None
        self.low, self.high = np.inf, -np.inf
        self.buffer = np.empty(0)

    def add(self, batch):
        """Add images `(batch, height, width, channels)`."""
        if batch.size == 0:
            return
        if self.mean is None:
            self.mean, self.scatter = np.zeros(batch.shape[-1]), np.zeros((batch.shape[-1],) * 2)
            self.image_sum, self.dtype = _ImageSum(batch.shape[1:]), batch.dtype
        elif batch.shape[-1] != len(self.mean):
            raise ValueError(
                "ImageStatistics.fit expects every image to have the same number of channels. "
                f"Received {len(self.mean)} and then {batch.shape[-1]}. "
                "Decode all of them with the same channels=."
            )
        if self.image_sum is not None and self.image_sum.shape != batch.shape[1:]:
            self.image_sum = None
        low, high = float(batch.min()), float(batch.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                "ImageStatistics.fit expects finite pixels. Received NaN or infinity among images "
                f"{self.count} to {self.count + len(batch) - 1}. Find them with np.isfinite, then repair or drop them."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        images_at_once = max(1, min(_BLOCK // batch[0].size, _EXACT_SUM))
        for start in range(0, len(batch), images_at_once):
            self._add_block(batch[start : start + images_at_once])

    def _add_block(self, images):
        is_bytes = images.dtype == np.uint8
        block = self._float_copy(images, np.float32 if is_bytes else np.float64)
        block_sum = block.sum(0)
        if self.image_sum is not None:
            self.image_sum.add(block_sum, len(block))
        channels, pixels = len(self.mean), block.size // len(self.mean)
        rows = block.reshape(-1, _row_length(block.shape))
        column_sums = block_sum.ravel() if len(block) >= 16 else rows.sum(0)
        mean = np.array([column_sums[c::channels].sum(dtype=np.float64) for c in range(channels)]) / pixels
        if is_bytes:
            scatter = _products(rows, channels) - pixels * np.outer(mean, mean)
        else:
            rows -= np.tile(mean, rows.shape[1] // channels)
            scatter = _products(rows, channels)
        # Equation 2.1: the difference of the means adds its own outer product.
        step, total = mean - self.mean, self.pixels + pixels
        self.mean = self.mean + step * (pixels / total)
        self.scatter = self.scatter + scatter + np.outer(step, step) * (self.pixels / total * pixels)
        self.pixels, self.count = total, self.count + len(block)

    def _float_copy(self, images, dtype):
        if self.buffer.size < images.size or self.buffer.dtype != dtype:
            self.buffer = np.empty(images.size, dtype)
        copy = self.buffer[: images.size].reshape(images.shape)
        np.copyto(copy, images)
        return copy

    def value_range(self, declared):
        """The range that the caller declared, after a check, or the range found in the images."""
        if declared is None:
            usual = [one for one in _USUAL_RANGES if one[0] <= self.low and self.high <= one[1]]
            if self.dtype == np.uint8:
                return _USUAL_RANGES[-1]
            return usual[0] if usual else (self.low, self.high)
        pair = isinstance(declared, (list, tuple)) and len(declared) == 2
        if not pair or not all(is_number(one) for one in declared):
            raise ValueError(
                f"ImageStatistics.fit expects value_range to be None or (low, high). Received {declared!r}. "
                "Leave it out to find the range in the images."
            )
        if not (declared[0] <= self.low and self.high <= declared[1]):
            raise ValueError(
                f"ImageStatistics.fit expects pixels in value_range={tuple(declared)}. Received pixels from "
                f"{self.low:g} to {self.high:g}. Correct value_range, or leave it out to find the range in the images."
            )
        return float(declared[0]), float(declared[1])


class _ImageSum:
    """Sum of all images: kept in float32 as long as sums of bytes are exact there, then added to a float64 sum."""

    def __init__(self, shape):
        self.shape = shape
        self.total, self.recent, self.recent_count = np.zeros(shape), None, 0

    def add(self, block_sum, count):
        if self.recent_count + count > _EXACT_SUM:
            self.carry()
        if self.recent is None:
            self.recent = np.zeros(self.shape, block_sum.dtype)
        self.recent += block_sum
        self.recent_count += count

    def carry(self):
        self.total += self.recent
        self.recent[:], self.recent_count = 0, 0
        return self.total


def _row_length(shape):
    """Number of values in a row: as many whole lines of an image as fit into the processor's first-level cache."""
    line = shape[2] * shape[3]
    return line * max(
        lines for lines in range(1, shape[1] + 1) if shape[1] % lines == 0 and lines * line <= max(line, 4096)
    )


def _products(rows, channels):
    """Sum of `pixel outer pixel` over all pixels: `(rows, pixels * channels)` -> `(channels, channels)`.

    Channels are interleaved, r g b r g b, so multiplying a row by itself shifted by one gives rg, gb, br', and
    so on; each product inside one pixel belongs to one entry. For so few channels this is faster than a matrix
    product, and no sum in float32 has more than 256 terms.
    """
    result = np.zeros((channels, channels))
    for start in range(0, len(rows), _EXACT_ROWS):
        some = rows[start : start + _EXACT_ROWS]
        for shift in range(channels):
            columns = some.shape[1] - shift
            sums = np.einsum("ij,ij->j", some[:, :columns], some[:, shift:])
            for first in range(channels - shift):
                result[first, first + shift] += sums[first::channels].sum(dtype=np.float64)
    return result + result.T - np.diag(np.diag(result))


def _color_axes(covariance):
    """Eigenvalues, largest first, and unit eigenvectors as columns, of a covariance matrix."""
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues, eigenvectors = np.maximum(eigenvalues[::-1], 0), eigenvectors[:, ::-1]
    largest = eigenvectors[np.abs(eigenvectors).argmax(0), np.arange(len(covariance))]
    return eigenvalues, eigenvectors * np.sign(largest)
