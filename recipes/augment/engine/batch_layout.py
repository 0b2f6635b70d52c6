"""What a batch may look like, which part of it is images, and what cannot be augmented."""

import dataclasses

import tensorflow as tf

_IMAGES = ("image", "images")
_LABELS = ("label", "labels")
_WEIGHTS = ("sample_weight", "sample_weights")


@dataclasses.dataclass
class Batch:
    """One batch taken apart; tensors, or the specs of a data set.

    Attributes:
        images, labels, sample_weight: What was found; labels and weights may be None.
        others: Names of the further entries, which pass through.
        rebuild: function `(images, labels, sample_weight) -> ` the same structure again.
    """

    images: object
    labels: object
    sample_weight: object
    others: tuple
    rebuild: object


def take_apart(element):
    """Find images, labels and sample weights in `x`, `(x,)`, `(x, y)`, `(x, y, sample_weight)` or a dict.

    In a dict, also one in the place of x, images are under "image" or "images", or the only entry of rank 4;
    labels and weights under "label(s)" and "sample_weight(s)".
    """
    if isinstance(element, dict):
        image_key = _image_key(element)
        label_key = next((key for key in _LABELS if key in element), None)
        weight_key = next((key for key in _WEIGHTS if key in element), None)
        taken = {image_key, label_key, weight_key}

        def rebuild(images, labels, sample_weight):
            new = {image_key: images, label_key: labels, weight_key: sample_weight}
            return {key: new.get(key, value) for key, value in element.items()}

        return Batch(
            element[image_key],
            element.get(label_key),
            element.get(weight_key),
            tuple(key for key in element if key not in taken),
            rebuild,
        )
    if not isinstance(element, (tuple, list)):
        return Batch(element, None, None, (), lambda images, labels, sample_weight: images)
    if not 1 <= len(element) <= 3:
        raise ValueError(
            "augment.Pipeline expects batches of images, (images, labels) or (images, labels, sample_weight). "
            f"Received a tuple of {len(element)}. Bring it into that form with dataset.map first."
        )
    inputs, labels, sample_weight = (*element, None, None)[:3]
    if isinstance(inputs, dict):
        key = _image_key(inputs)
        inside = inputs
        images, others = inputs[key], tuple(one for one in inputs if one != key)
        place = lambda images: {**inside, key: images}  # noqa: E731
    else:
        images, others, place = inputs, (), lambda images: images

    def rebuild(images, labels, sample_weight):
        return (place(images), labels, sample_weight)[: len(element)]

    return Batch(images, labels, sample_weight, others, rebuild)


def _image_key(entries):
    """The entry of a dict that holds the images."""
    named = [key for key in _IMAGES if key in entries]
    rank = lambda value: getattr(getattr(value, "shape", None), "rank", None)  # noqa: E731
    pictures = named or [key for key, value in entries.items() if rank(value) == 4]
    if len(pictures) != 1:
        raise ValueError(
            "augment.Pipeline expects one entry of images in a dict: 'image', 'images', or the only one of shape "
            f"(batch, height, width, channels). Received entries {list(entries)}. Rename it with dataset.map."
        )
    return pictures[0]


def check_batch(batch, *, geometric, mixes, classes, value_range, example):
    """Raise `ValueError` for everything shapes and dtypes can tell."""
    images = batch.images
    shape = getattr(images, "shape", None)
    if isinstance(images, (dict, list, tuple)) or shape is None or shape.rank is None:
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
            f"{tuple(shape)}. Resize or crop to one size first, then tf.ensure_shape(image, (height, width, channels))."
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
    _check_boxes_and_masks(batch, geometric)
    if mixes:
        _check_mixing(batch, classes, example)


def _check_boxes_and_masks(batch, geometric):
    suspects = [str(key) for key in batch.others if any(word in str(key).lower() for word in ("box", "mask"))]
    rank = getattr(getattr(batch.labels, "shape", None), "rank", None)
    if geometric and (suspects or (rank is not None and rank > 2)):
        received = f"entries {suspects}" if suspects else f"labels of shape {tuple(batch.labels.shape)}"
        raise ValueError(
            "augment.Pipeline expects labels of whole images; bounding boxes and masks would not move with the "
            f"pixels. Received {received}. Use albumentations for detection and segmentation, or leave geometry out."
        )


def _check_mixing(batch, classes, example):
    if batch.others:
        raise ValueError(
            f"augment.{example} expects images and labels only: nothing else can be shared between two images. "
            f"Received further entries {list(batch.others)}. Leave {example} out, or map them away first."
        )
    labels = batch.labels
    if labels is None:
        return
    if isinstance(labels, (dict, list, tuple)) or labels.shape.rank not in (1, 2):
        raise ValueError(
            f"augment.{example} expects labels of shape (batch,) or (batch, classes). Received "
            f"{labels!r}. Map the data set to one label an image, or leave {example} out."
        )
    numbers = class_numbers(labels)
    if numbers and classes is None:
        raise ValueError(
            f"augment.{example} expects to know how many classes there are. Received class numbers of dtype "
            f"{labels.dtype.name} and no classes. Write Pipeline(..., classes=10); labels leave as rows of shares."
        )
    width = labels.shape[-1]
    if not numbers and labels.shape.rank == 2 and classes is not None and width not in (None, classes):
        raise ValueError(
            f"augment.{example} expects label rows of {classes} classes. Received shape {tuple(labels.shape)}. "
            f"Write Pipeline(..., classes={width}), or leave classes out: rows say it themselves."
        )


def class_numbers(labels):
    """Whether labels are class numbers, (batch,) or (batch, 1), rather than rows of shares."""
    return labels.dtype.is_integer and (labels.shape.rank == 1 or labels.shape[-1] == 1)


def label_rows(labels, classes):
    """Labels as float rows that can be blended."""
    if class_numbers(labels):
        return tf.one_hot(tf.reshape(labels, (-1,)), classes)
    return tf.cast(labels, tf.float32) if labels.dtype.is_integer or labels.dtype == tf.bool else labels
