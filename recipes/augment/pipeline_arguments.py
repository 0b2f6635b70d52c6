"""Check the arguments of `Pipeline` and of its calls: each error tells what was expected and what to write."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.annotations import BOX_FORMATS, POINT_FORMATS
from recipes.augment.engine.magnitudes import read_pair
from recipes.augment.engine.operation import Operation
from recipes.augment.operations.normalize import Normalize
from recipes.common.validation import as_row, is_number, is_one_of

#: The default options of `Pipeline`, besides its operations.
DEFAULTS: Mapping[str, Any] = {
    "value_range": (0, 255),
    "classes": None,
    "seed": 0,
    "jit_compile": "auto",
    "dtype": "float32",
    "roles": {},
    "box_format": "rel_yxyx",
    "keypoint_format": "yx",
    "smallest_box_share": 0.1,
    "mask_fill": 0,
}
_DTYPES = ("float32", "float16", "bfloat16", "uint8")


def stacked(images: Sequence[Any]) -> np.ndarray:
    """Stack a list of images of one size into one array.

    Args:
        images: Arrays of `(height, width, channels)`, at least one.

    Returns:
        `(images, height, width, channels)` in their common dtype.

    Raises:
        ValueError: when the sizes of the images differ.
    """
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f"augment.Pipeline expects a list of images of one size. Received sizes {', '.join(map(str, sizes))}. "
            "Resize or crop them to one size first."
        )
    return np.stack(images)


def as_tensor(value: Any) -> Any:
    """Convert images or labels to a tensor.

    Args:
        value: An array, a tensor or a nested list of numbers, of any shape; ragged and sparse tensors are returned
            unchanged.

    Returns:
        A tensor of the same shape and dtype; float64 of rank 4, which is images, becomes float32.

    Raises:
        TypeError: when TensorFlow cannot convert the value.
    """
    if isinstance(value, tf.RaggedTensor | tf.SparseTensor):
        return value
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"augment.Pipeline expects images and labels as arrays or tensors. Received {type(value).__name__} "
            f"({error}). Stack a list of images of one size with np.stack."
        ) from error
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 and tensor.shape.rank == 4 else tensor


def as_seed(seed: Any) -> tf.Tensor:
    """Convert the seed of one call to a tensor.

    Args:
        seed: Two integers, as a pair, an array or a tensor of shape `(2,)`.

    Returns:
        int64 `(2,)`.

    Raises:
        ValueError: for anything else.
    """
    try:
        pair = tf.convert_to_tensor(seed)
    except (TypeError, ValueError):
        pair = None
    if pair is None or pair.shape != (2,) or not pair.dtype.is_integer:
        received = repr(seed) if pair is None else f"{pair.dtype.name} of shape {tuple(pair.shape)}"
        raise ValueError(
            f"augment.Pipeline expects seed to be two integers. Received {received}. "
            "Write pipeline(images, labels, seed=(1, step))."
        )
    return tf.cast(pair, tf.int64)


def data_mean(parts: Sequence[Operation], channels: int) -> np.ndarray | None:
    """Mean color of the data set, from a `Normalize` in the pipeline.

    Args:
        parts: The operations of a pipeline.
        channels: Number of channels of its images, >= 1.

    Returns:
        float32 `(channels,)` in the range of the images, or None when there is no `Normalize` for this number of
        channels.
    """
    for part in parts:
        if isinstance(part, Normalize) and len(part.statistics.channel_mean) == channels:
            return np.float32(part.statistics.channel_mean)
    return None


def checked_operations(operations: Any) -> list[Operation]:
    """Check the operations of a pipeline and return them as a list.

    Args:
        operations: Operations of `recipes.augment` in a list or tuple, which may be empty.

    Returns:
        A new list of the operations.

    Raises:
        TypeError: when `operations` is not a list or tuple, or holds something other than operations, such as a
            function or a class that was not called.
    """
    row = as_row(operations)
    strangers = [operations] if row is None else [part for part in row if not isinstance(part, Operation)]
    if strangers:
        first = strangers[0]
        kind = first.__name__ if isinstance(first, type) else type(first).__name__
        raise TypeError(
            f"augment.Pipeline expects a list of operations such as [augment.Flip()]. Received {first!r}. "
            f"Write {kind}() if it is a class of recipes.augment; apply other functions with dataset.map."
        )
    return list(row)


def checked_range(value_range: Any) -> tuple[float, float]:
    """Check the smallest and largest value of the images.

    Args:
        value_range: Two finite numbers.

    Returns:
        `(low, high)` as floats, low < high.

    Raises:
        ValueError: for anything else.
    """
    low, high = read_pair("Pipeline", "value_range", value_range)
    if low == high:
        raise ValueError(
            f"augment.Pipeline expects value_range to be (low, high) with low < high. Received {value_range}. "
            "Write value_range=(0, 255) for uint8, (0, 1) for scaled images."
        )
    return low, high


def checked_dtype(dtype: Any, parts: Sequence[Operation], value_range: tuple[float, float]) -> str:
    """Check the dtype of the augmented images and return its name.

    Args:
        dtype: "float32", "float16", "bfloat16", "uint8", or the TensorFlow or NumPy object for one of them.
        parts: The operations of the pipeline.
        value_range: `(low, high)` of the images.

    Returns:
        One of these four names.

    Raises:
        ValueError: for another dtype, and for "uint8" when the values are normalized, outside 0 to 255 or in 0 to 1.
    """
    try:
        name = tf.as_dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in _DTYPES:
        raise ValueError(
            f"augment.Pipeline expects dtype to be one of {', '.join(_DTYPES)}. Received {dtype!r}. "
            "Write dtype='float32'."
        )
    low, high = value_range
    normalized = any(isinstance(part, Normalize) for part in parts)
    if name == "uint8" and (low < 0 or high > 255 or high <= 1 or normalized):
        reason = "a Normalize in the list" if normalized else f"value_range={value_range}"
        raise ValueError(
            f"augment.Pipeline expects whole numbers in 0 to 255 for dtype='uint8'. Received {reason}. "
            "Write dtype='float32'."
        )
    return name


def check_counts(classes: Any, seed: Any, jit_compile: Any) -> None:
    """Raise when the number of classes, the seed or the choice of compilation is not valid.

    Args:
        classes: None, or a whole number >= 1.
        seed: A whole number >= 0.
        jit_compile: True, False or "auto".

    Raises:
        ValueError: for anything else, with the argument's name.
    """
    if classes is not None and (not isinstance(classes, int | np.integer) or classes < 1):
        raise ValueError(
            f"augment.Pipeline expects classes to be a whole number >= 1, or None. Received {classes!r}. "
            "Give the number of classes: classes=10."
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(
            f"augment.Pipeline expects seed to be a whole number >= 0. Received {seed!r}. "
            "Write seed=1; a pair goes into the call: pipeline(images, seed=(1, 2))."
        )
    if not isinstance(jit_compile, bool) and not is_one_of(jit_compile, ("auto",)):
        raise ValueError(
            f"augment.Pipeline expects jit_compile to be True, False or 'auto'. Received {jit_compile!r}. "
            "Write jit_compile='auto'."
        )


def check_formats(box_format: Any, keypoint_format: Any, smallest_box_share: Any, mask_fill: Any) -> None:
    """Raise when a format of boxes or keypoints, the share of a box's area or the fill of masks is not valid.

    Args:
        box_format: One of `BOX_FORMATS`.
        keypoint_format: One of `POINT_FORMATS`.
        smallest_box_share: Share of its area that must remain in the image for a box to be kept, in [0, 1].
        mask_fill: Value of masks outside the image; any number.

    Raises:
        ValueError: for anything else, with the argument's name.
    """
    for name, value, known in (
        ("box_format", box_format, BOX_FORMATS),
        ("keypoint_format", keypoint_format, POINT_FORMATS),
    ):
        if not is_one_of(value, known):
            raise ValueError(
                f"augment.Pipeline expects {name} to be one of {', '.join(map(repr, known))}. Received {value!r}. "
                f"Write {name}={known[0]!r}."
            )
    if not is_number(smallest_box_share) or not 0 <= smallest_box_share <= 1 or not is_number(mask_fill):
        raise ValueError(
            "augment.Pipeline expects smallest_box_share in [0, 1] and mask_fill to be a number. Received "
            f"{smallest_box_share!r} and {mask_fill!r}. Leave them out for the defaults, 0.1 and 0."
        )


def named_parts(
    images: Any, labels: Any, sample_weight: Any, moving: Mapping[str, Any], roles: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Arrange the arguments of a call of the pipeline like an element of a data set.

    Args:
        images: `(batch, height, width, channels)`, or a whole element as a dict or tuple.
        labels: `(batch,)` or `(batch, classes)`, or None.
        sample_weight: `(batch,)`, or None.
        moving: A dictionary from role (`masks`, `boxes`, `box_labels`, `keypoints` ...) to annotations, or to None.
        roles: The `roles` of the pipeline, for the names in an element.

    Returns:
        `(element, roles)`: the element is a tuple of up to three parts, or a dict by name when there are annotations.
    """
    if any(part is not None for part in moving.values()):
        named = {"images": images, "labels": labels, "sample_weight": sample_weight, **moving}
        element = {name: part for name, part in named.items() if part is not None}
        return element, {name: name for name in element if name in moving}
    lists = (np.asarray(part) if isinstance(part, list) else part for part in (labels, sample_weight))
    element = (images, *lists)[: 3 if sample_weight is not None else 2 if labels is not None else 1]
    if len(element) == 1 and isinstance(images, dict | tuple | list):
        return images, roles
    return element, roles


def preview_rows(
    images: np.ndarray, drawn: Sequence[np.ndarray], given: tuple[float, float], left: tuple[Any, Any]
) -> list[np.ndarray]:
    """Arrange pictures row by row: an image, then its augmented versions.

    Args:
        images: `(n, height, width, channels)`, the originals.
        drawn: One such array per draw, the augmented images; their sizes may differ from those of `images`.
        given: `(low, high)` of `images`.
        left: `(low, high)` of `drawn`, numbers or arrays with one value per channel.

    Returns:
        `n * (1 + draws)` arrays of `(height, width, channels)`, float32 from 0 to 1.
    """
    scaled = lambda image, ends: np.clip((image.astype("float32") - ends[0]) / (ends[1] - ends[0]), 0, 1)  # noqa: E731
    rows: list[np.ndarray] = []
    for number, image in enumerate(images):
        rows += [scaled(image, given), *(scaled(one[number], left) for one in drawn)]
    return rows
