"""The structure of a batch: find images, labels and annotations in it, and refuse what cannot be augmented."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from recipes.augment.engine.roles import (
    OF_PIXELS,
    OF_PLACES,
    refuse_flat_masks,
    refuse_unmoved,
    replace,
    role_of,
    walk,
)
from recipes.common.validation import looks_channels_first

_IMAGES = ("image", "images")
_LABELS = ("label", "labels")
_WEIGHTS = ("sample_weight", "sample_weights")


@dataclasses.dataclass
class Batch:
    """The parts of one batch: tensors, or the specs of a data set.

    Attributes:
        images, labels, sample_weight: The parts that were found; labels and weights may be None.
        parts: `(path, role, part)` of each annotation that moves with the pixels.
        others: `(path, part)` of each part without a role.
        unchanged: `(path, part)` of each part with the role "unchanged".
        declared_labels: Whether the labels were found by a declared role.
        rebuild: function `(images, labels, sample_weight, {path: part})` that returns the same structure with new
            parts.
    """

    images: Any
    labels: Any
    sample_weight: Any
    parts: list[tuple[str, str, Any]]
    others: list[tuple[str, Any]]
    unchanged: list[tuple[str, Any]]
    declared_labels: bool
    rebuild: Callable[..., Any]


def take_apart(element: Any, roles: Mapping[str, str]) -> Batch:
    """Find images, labels and sample weights in `x`, `(x,)`, `(x, y)`, `(x, y, sample_weight)` or a dict.

    In a dict, which may also stand in the place of x, the images are under "image" or "images", or are the only entry
    of rank 4. Labels and weights are under "label(s)" and "sample_weight(s)". Declared roles have priority.

    Raises:
        ValueError: when the images cannot be found, or a name in `roles` does not occur in the batch.
    """
    leaves = dict(walk(element))
    declared = {path: role_of(path, roles) for path in leaves}
    _check_keys(roles, leaves)
    found: dict[str, str | None] = {
        role: next((path for path in leaves if declared[path] == role), None)
        for role in ("images", "labels", "sample_weight")
    }
    declared_labels = found["labels"] is not None
    for role, path in _usual_places(
        element, {path for path in leaves if declared[path] is not None}, found
    ).items():
        if found[role] is None and path in leaves and declared[path] is None:
            found[role] = path
    free = [path for path in leaves if path not in found.values()]
    images, labels, weight = (None if found[role] is None else leaves[found[role]] for role in found)
    # A mask or another array of higher rank in the place of labels or weights has no role.
    if labels is not None and not declared_labels and _rank(labels) is not None and _rank(labels) > 2:
        free.append(found["labels"])
        labels, found["labels"] = None, None
    if weight is not None and declared.get(found["sample_weight"]) is None and not _per_image(weight):
        free.append(found["sample_weight"])
        weight, found["sample_weight"] = None, None

    def rebuild(images, labels, sample_weight, moved=None):
        new = dict(moved or {})
        for role, part in (("images", images), ("labels", labels), ("sample_weight", sample_weight)):
            if found[role] is not None:
                new[found[role]] = part
        return replace(element, new)

    return Batch(
        images,
        labels,
        weight,
        [(path, declared[path], leaves[path]) for path in free if declared[path] in (*OF_PIXELS, *OF_PLACES)],
        [(path, leaves[path]) for path in free if declared[path] is None],
        [(path, leaves[path]) for path in free if declared[path] == "unchanged"],
        declared_labels,
        rebuild,
    )


def check_batch(
    batch: Batch,
    *,
    geometric: bool,
    mixing: str | None,
    classes: int | None,
    value_range: tuple[float, float],
) -> None:
    """Check a batch as far as its shapes and dtypes are known.

    Args:
        batch: The batch as `take_apart` returns it.
        geometric: Whether some operation moves pixels.
        mixing: Name of an operation that mixes images, or None.
        classes: Number of classes, or None.
        value_range: `(low, high)` of the pixels.

    Raises:
        ValueError: when a shape or dtype cannot be augmented, or parts do not fit together.
    """
    _check_images(batch.images, value_range)
    height, width = batch.images.shape[1:3]
    if geometric:
        for path, part in batch.others:
            refuse_unmoved(path, part, height, width)
        if batch.labels is not None and not batch.declared_labels and classes != height * width:
            refuse_flat_masks(batch.labels, height, width)
    for path, role, part in batch.parts:
        _check_part(path, role, part, height, width)
    _check_sizes(batch)
    pairs_of_boxes(batch.parts)
    if classes is not None or mixing:
        _check_labels(batch.labels, classes, mixing)
    if mixing:
        _check_mixing(batch, classes, mixing)


def pairs_of_boxes(parts: Sequence[tuple[str, str, Any]]) -> dict[str, str]:
    """The path of the boxes that belong to each path of box labels.

    They are the boxes with the same parent, or the only boxes of the batch.

    Raises:
        ValueError: when there are no such boxes, or several.
    """
    boxes = [path for path, role, _ in parts if role == "boxes"]
    pairs = {}
    for path, role, _ in parts:
        if role != "box_labels":
            continue
        parent = path.rpartition("/")[0]
        beside = [one for one in boxes if one.rpartition("/")[0] == parent]
        mine = beside if len(beside) == 1 else boxes
        if len(mine) != 1:
            raise ValueError(
                f"augment.Pipeline expects one entry of boxes for box labels. Received {len(mine)} for {path!r}. "
                "Put both under the same parent, as in roles={'objects/bbox': 'boxes', 'objects/label': 'box_labels'}."
            )
        pairs[path] = mine[0]
    return pairs


def class_numbers(labels: Any, classes: int | None) -> bool:
    """Whether labels are class numbers, `(batch,)` or `(batch, 1)`, and not one-hot or soft labels.

    When the number of classes is given, numbers of any dtype are class numbers. Without it, floats are regression
    targets.
    """
    if labels.dtype == tf.string or not (labels.shape.rank == 1 or labels.shape[-1] == 1):
        return False
    return labels.dtype.is_integer or classes is not None


def label_rows(labels: tf.Tensor, classes: int | None) -> tf.Tensor:
    """Convert labels to floats that can be blended: one-hot `(batch, classes)`, or the labels themselves as floats."""
    if class_numbers(labels, classes):
        return tf.one_hot(tf.cast(tf.reshape(labels, (-1,)), tf.int64), classes)
    return labels if labels.dtype.is_floating else tf.cast(labels, tf.float32)


def _usual_places(element, taken, found):
    """The default paths of images, labels and weights, for parts without a declared role."""
    if isinstance(element, Mapping):
        places = {} if found["images"] is not None else {"images": _image_key(element, taken)}
        for role, names in (("labels", _LABELS), ("sample_weight", _WEIGHTS)):
            places[role] = next((key for key in names if key in element), "")
        return places
    if not isinstance(element, (tuple, list)):
        return {"images": ""}
    if not 1 <= len(element) <= 3 and found["images"] is None:
        raise ValueError(
            "augment.Pipeline expects batches of images, (images, labels) or (images, labels, sample_weight). "
            f"Received a tuple of {len(element)}. Change it to that form with dataset.map first, or give roles."
        )
    places = {"labels": "1", "sample_weight": "2"}
    if found["images"] is not None:
        return places
    if isinstance(element[0], Mapping):
        inner = {path[2:] for path in taken if path.startswith("0/")}
        return {**places, "images": f"0/{_image_key(element[0], inner)}"}
    return {**places, "images": "0"}


def _image_key(entries, taken):
    """The key of the entry that holds the images in a dict."""
    named = [key for key in _IMAGES if key in entries]
    pictures = named or [key for key, value in entries.items() if _rank(value) == 4 and str(key) not in taken]
    if len(pictures) != 1:
        raise ValueError(
            "augment.Pipeline expects one entry of images in a dict: 'image', 'images', or the only one of shape "
            f"(batch, height, width, channels). Received entries {list(entries)}. Rename it with dataset.map, or "
            "write Pipeline(..., roles={'photo': 'images'})."
        )
    return str(pictures[0])


def _check_keys(roles, leaves):
    unknown = [key for key in roles if not any(role_of(path, {key: "x"}) for path in leaves)]
    if unknown:
        raise ValueError(
            f"augment.Pipeline expects the names in roles to be names in a batch. Received {', '.join(unknown)} for a "
            f"batch of {', '.join(repr(path) for path in leaves)}. Write one of these names, or the last part of one."
        )


def _rank(part):
    return getattr(getattr(part, "shape", None), "rank", None)


def _per_image(part):
    rank = _rank(part)
    return rank is not None and (rank <= 1 or (rank == 2 and part.shape[-1] == 1))


def _check_images(images, value_range):
    shape = getattr(images, "shape", None)
    if isinstance(images, tf.RaggedTensor | tf.RaggedTensorSpec):
        raise ValueError(
            "augment.Pipeline expects images of one size. Received a ragged tensor. Resize or crop them to one size "
            "before batching: dataset.map(lambda x, y: (tf.image.resize(x, (224, 224)), y)).batch(128)."
        )
    if images is None or shape is None or shape.rank is None:
        raise ValueError(
            "augment.Pipeline expects images of shape (batch, height, width, channels). Received a structure or "
            "an unknown rank. Map the data set to (images, labels) and give images a shape with tf.ensure_shape."
        )
    if shape.rank != 4:
        single = "one image" if shape.rank == 3 else f"rank {shape.rank}"
        raise ValueError(
            f"augment.Pipeline expects batches of shape (batch, height, width, channels). Received {single} of "
            f"shape {tuple(shape)}. Batch before augmenting: dataset.batch(128).apply(pipeline); gray images need "
            "a last axis of 1."
        )
    if None in tuple(shape)[1:]:
        raise ValueError(
            "augment.Pipeline expects height, width and channels to be known before running. Received shape "
            f"{tuple(shape)}. Resize or crop the images to one size first, then call "
            "tf.ensure_shape(image, (height, width, channels))."
        )
    if looks_channels_first(*shape[1:]):
        raise ValueError(
            "augment.Pipeline expects images of shape (batch, height, width, channels). Received shape "
            f"{tuple(shape)}, which looks like channels first. Transpose them: tf.transpose(images, (0, 2, 3, 1))."
        )
    if not (images.dtype == tf.uint8 or images.dtype.is_floating):
        raise ValueError(
            f"augment.Pipeline expects uint8 or float images. Received {images.dtype.name}. "
            "Cast them: tf.cast(images, tf.uint8) for values in 0 to 255."
        )
    if images.dtype == tf.uint8 and (value_range[1] <= 1 or value_range[0] < 0):
        raise ValueError(
            f"augment.Pipeline expects pixels inside value_range={value_range}. Received uint8 images, whose values "
            "are whole numbers from 0 to 255. Write Pipeline(..., value_range=(0, 255)), or scale the images first."
        )


_SHAPES = {
    "masks": "(batch, height, width) or (batch, height, width, channels), as high and wide as the images",
    "heatmaps": "(batch, height, width) or (batch, height, width, channels), float, as high and wide as the images",
    "pixel_weights": "(batch, height, width) or (batch, height, width, 1), as high and wide as the images",
    "boxes": "(batch, boxes, 4) or (batch, 4), numbers",
    "box_labels": "(batch, boxes), signed numbers",
    "keypoints": "(batch, points, 2) or (batch, points, 3) with a visibility last, numbers, more axes allowed before",
}


def _check_part(path, role, part, height, width):
    rank, dtype = _rank(part), getattr(part, "dtype", None)
    ragged = isinstance(part, tf.RaggedTensor | tf.RaggedTensorSpec)
    good = rank is not None and not ragged and dtype != tf.string
    if good and role in OF_PIXELS:
        good = rank in (3, 4) and tuple(part.shape)[1:3] == (height, width)
        good = good and (rank == 3 or part.shape[3] is not None)
        good = (
            good
            and (role != "heatmaps" or dtype.is_floating)
            and (role != "pixel_weights" or dtype != tf.bool)
        )
    elif good and role == "boxes":
        good = rank in (2, 3) and part.shape[-1] == 4 and dtype != tf.bool
    elif good and role == "box_labels":
        good = rank >= 2 and (dtype.is_floating or (dtype.is_integer and not dtype.is_unsigned))
    elif good:
        good = rank >= 2 and part.shape[-1] in (2, 3) and dtype != tf.bool
    if good:
        return
    cure = f"Reshape or cast {path!r} with dataset.map."
    if role in OF_PLACES:
        cure += " Lists of several lengths are padded with rows of -1: dataset.padded_batch(32, padding_values=...)."
    shape = "a ragged tensor" if ragged else f"{getattr(dtype, 'name', dtype)} of shape {part.shape}"
    raise ValueError(
        f"augment.Pipeline expects {role} of shape {_SHAPES[role]}; images here are {height}x{width}. "
        f"Received {path!r}, {shape}. {cure}"
    )


def _check_sizes(batch):
    """Check that there is one row per image in every part, as far as sizes are known."""
    named = [("labels", batch.labels), ("sample_weight", batch.sample_weight)]
    images = batch.images.shape[0]
    for path, part in (*named, *((path, part) for path, _, part in batch.parts)):
        shape = getattr(part, "shape", None)
        if shape is None or not shape.rank or None in (images, shape[0]) or shape[0] == images:
            continue
        raise ValueError(
            f"augment.Pipeline expects one row of {path!r} for each image. Received shape {tuple(shape)} for "
            f"{images} images. Give one row per image; different numbers of boxes are one array (batch, boxes, 4), "
            "padded with rows of -1."
        )


def check_mask_fill(batch: Batch, mask_fill: float) -> None:
    """Raise `ValueError` when the dtype of the masks cannot hold `mask_fill`, the value outside the image."""
    for path, role, part in batch.parts:
        if role != "masks" or part.dtype.is_floating or mask_fill == 0:
            continue
        lowest, highest = (0, 1) if part.dtype == tf.bool else (part.dtype.min, part.dtype.max)
        if mask_fill != int(mask_fill) or not lowest <= mask_fill <= highest:
            raise ValueError(
                f"augment.Pipeline expects mask_fill to be a value that the masks can hold, here a whole number in "
                f"{lowest} to {highest}. Received mask_fill={mask_fill!r} for {path!r} of dtype {part.dtype.name}. "
                "Cast these masks with dataset.map, or write mask_fill=0."
            )


def _check_labels(labels, classes, mixing):
    if labels is None:
        return
    if labels.dtype == tf.string:
        raise ValueError(
            f"augment.{mixing or 'Pipeline'} expects labels as numbers. Received strings of shape "
            f"{tuple(labels.shape)}. Turn them into numbers first: keras.layers.StringLookup(vocabulary=names, "
            "num_oov_indices=0) in dataset.map."
        )
    width = labels.shape[-1] if labels.shape.rank else None
    numbers = class_numbers(labels, classes)
    if classes is not None and not numbers and labels.shape.rank == 2 and width not in (None, classes):
        raise ValueError(
            f"augment.{mixing or 'Pipeline'} expects one-hot labels of {classes} classes. Received shape "
            f"{tuple(labels.shape)}. Write Pipeline(..., classes={width}), or leave classes out: one-hot labels "
            "do not need it."
        )


def _check_mixing(batch, classes, mixing):
    strangers = [path for path, role, _ in batch.parts if role != "masks"] + [
        path for path, _ in batch.others
    ]
    labels = batch.labels
    structured = labels is None and any(path == "1" or path.startswith("1/") for path, _ in batch.others)
    if structured or (labels is not None and labels.shape.rank not in (1, 2)):
        received = (
            labels if labels is not None else ", ".join(f"{path!r}: {part}" for path, part in batch.others)
        )
        raise ValueError(
            f"augment.{mixing} expects labels of shape (batch,) or (batch, classes). Received "
            f"{received!r}. Map the data set to one label per image, or leave {mixing} out."
        )
    if strangers:
        raise ValueError(
            f"augment.{mixing} expects images, labels and masks only: nothing else can be mixed between two images. "
            f"Received further entries {strangers}. Leave {mixing} out, or remove these entries with dataset.map."
        )
    for path, _, part in batch.parts:
        one_channel = part.shape.rank == 3 or part.shape[-1] == 1
        if classes is None and one_channel and not part.dtype.is_floating and part.dtype != tf.bool:
            raise ValueError(
                f"augment.{mixing} expects masks that can be blended. Received class numbers, {path!r} of dtype "
                f"{part.dtype.name}, and no classes. Write Pipeline(..., classes=21), which returns soft one-hot masks "
                "(batch, height, width, classes), or give one-hot masks."
            )
        if classes is not None and not one_channel and part.shape[-1] != classes:
            raise ValueError(
                f"augment.{mixing} expects one-hot masks of {classes} classes. Received {path!r} of shape "
                f"{tuple(part.shape)}. Write Pipeline(..., classes={part.shape[-1]}), or leave classes out."
            )
    if labels is not None and class_numbers(labels, classes) and classes is None:
        raise ValueError(
            f"augment.{mixing} expects to know how many classes there are. Received class numbers of dtype "
            f"{labels.dtype.name} and no classes. Write Pipeline(..., classes=10), which returns soft labels "
            "(batch, classes)."
        )
