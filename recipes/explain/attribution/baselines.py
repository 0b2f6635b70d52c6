"""Baselines: the values that replace removed pixels."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from recipes.common.types import FloatArray
from recipes.common.validation import as_numbers
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Baseline

if TYPE_CHECKING:
    from recipes.explain.attribution.attribution_task import Task


def filled(
    method: str, name: str, value: Baseline, images: FloatArray, task: "Task", group: slice, blur: float = 0.1
) -> FloatArray:
    """The baseline images, in which every pixel of `images` is replaced.

    Args:
        method, name: The public function and its argument, for errors.
        value: A number, `"mean"` (each image's mean color), `"blur"` (each image blurred by a wide Gaussian), or an
            array of the shape of one image, of all images, or `(channels,)`.
        images: A group of the task's images, float32.
        task, group: The `Task`, and the slice of its images that `images` holds.
        blur: Standard deviation of the Gaussian, as a fraction of the image's longest side.

    Returns:
        float32 of the shape of `images` (possibly a read-only view).

    Raises:
        UsageError: when `value` is another word, or an array that does not fit the images.
    """
    channels = task.channel_axis
    if channels is None and images.ndim < 3 and isinstance(value, str):
        raise UsageError(
            f"{method} expects {name} to be a number or an array where every value is a feature of its own. Received "
            f"{value!r}. Pass the features' means, such as {name}=x.mean(axis=0)."
        )
    channels = None if channels is None else channels % images.ndim
    spatial = tuple(axis for axis in range(1, images.ndim) if axis != channels)
    if isinstance(value, str):
        if value == "mean":
            return np.broadcast_to(images.mean(spatial, keepdims=True), images.shape)
        if value == "blur":
            width = blur * max(images.shape[axis] for axis in spatial) if spatial else 0
            widths = [width if axis in spatial else 0 for axis in range(images.ndim)]
            return gaussian_filter(images, widths, mode="nearest")
        if value == "impute":
            raise UsageError(
                f"{method} expects a {name} that does not depend on which pixels are hidden. Received 'impute', which "
                "computes hidden pixels from visible ones, and here no pixel stays unchanged. Use 'blur' or 'mean'; "
                "deletion, insertion, occlusion and infidelity take 'impute'."
            )
        raise UsageError(
            f"{method} expects {name} to be a number, 'mean', 'blur' or an array. Received {value!r}. "
            "Use 'mean' for the image's mean color."
        )
    value = as_numbers(method, name, value, "float32")
    if channels == 1 and value.ndim == 1 and value.size > 1:
        value = value.reshape(-1, *[1] * len(spatial))
    if value.ndim == images.ndim and len(value) == task.count:
        value = value[group]
    try:
        return np.broadcast_to(value, images.shape)
    except ValueError:
        raise UsageError(
            f"{method} expects {name} to fit images of shape {images.shape}. Received an array of shape "
            f"{value.shape}. "
            "Give one image of the same size, one per image, or a number."
        ) from None


def masked(
    images: FloatArray, baseline: FloatArray, mask: FloatArray, out: FloatArray | None = None
) -> FloatArray:
    """`image * mask + baseline * (1 - mask)`, which is `I * M` for a black baseline; written into `out` if given.

    Source: Petsiuk et al. 2018 (RISE), equation 1; Wang et al. 2020 (Score-CAM), equation 7.
    """
    out = np.subtract(images, baseline, out=out)
    out *= mask
    out += baseline
    return out
