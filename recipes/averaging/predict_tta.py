"""Test-time views: predict on several fixed views of each image and average."""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.averaging.probability import Outputs, check_space
from recipes.averaging.views import Views
from recipes.common.types import FloatArray, Images, Verbose
from recipes.common.validation import as_numbers, is_whole


def predict_tta(
    model: keras.Model,
    images: "Images | tf.data.Dataset",
    views: Views,
    *,
    batch_size: int = 64,
    space: Literal["probability", "logit"] = "probability",
    from_logits: bool | None = None,
    verbose: Verbose = 0,
) -> FloatArray:
    """Average a model's predictions over fixed views of each image.

    Sources: Krizhevsky et al. 2012, section 4.1, https://papers.nips.cc/paper/4824; He et al. 2015, section 3.4,
    https://arxiv.org/abs/1512.03385. Nothing is drawn at random: the same images give the same numbers.

    It needs the memory of one batch: views are made and averaged `batch_size` at a time, for as many images together as
    fit into a batch with all their views of one scale.

    Args:
        model: `keras.Model` with one output `(batch, classes)`. It gets float32 in the range of the images.
        images: `(n, height, width, channels)`, uint8 or float; or a list of `(height, width, channels)` of any sizes;
            or a `tf.data.Dataset` of images or (image, label), batched or not.
        views: `ensemble.ten_crop(224, scales=(224, 256))`, `flips()`, `shifts(n)` or `multi_scale(scales)`. The
            views, not the images, have to fit the model's input.
        batch_size: Views per call of the model, >= 1.
        space: `"probability"` or `"logit"`: what is averaged. The result is probabilities either way.
        from_logits: As in `ensemble.average`.
        verbose: 1 shows a progress bar.

    Returns:
        Probabilities, float32 `(n, classes)`.

    Raises:
        TypeError: for `views` of another kind.
        ValueError: when views are larger than an image, do not fit the model's input, or there is no image.
    """
    check_space(space, "predict_tta")
    if not isinstance(views, Views):
        raise TypeError(
            f"predict_tta expects views made by ensemble.ten_crop, flips, shifts or multi_scale. Received {views!r}. "
            "Write views=ensemble.flips()."
        )
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(
            f"predict_tta expects batch_size to be a whole number, at least 1. Received {batch_size!r}. It bounds "
            "the memory; 64 suits most machines."
        )
    if not isinstance(images, (list, tuple, tf.data.Dataset)):
        images = as_numbers("predict_tta", "images", images, None)
        if not images.ndim:
            raise ValueError(
                f"predict_tta expects images (n, height, width, channels). Received {images}. "
                "Stack them with np.stack."
            )
    shape = model.outputs[0].shape if getattr(model, "outputs", None) else None
    kind = Outputs.of(model, from_logits, shape, "predict_tta")
    runs = None
    bar = keras.utils.Progbar(_count(images), verbose=verbose, unit_name="image") if verbose else None
    results = []
    for few in _chunks(images, max(1, batch_size // max(views.counts))):
        if few.ndim != 4:
            raise ValueError(
                f"predict_tta expects images (n, height, width, channels). Received shape {few.shape}. Add the axis "
                "of the images, for one image images[None], and for gray ones that of the channels, images[..., None]."
            )
        views.check(*few.shape[1:3])
        if runs is None:
            runs = [_compiled(model, group, kind, space) for group in views.groups]
        total = 0.0
        for run, count in zip(runs, views.counts, strict=True):
            total = total + count * _run(run, few, model)
        mean = tf.convert_to_tensor(total / len(views))
        if space == "logit":
            mean = kind.activation(mean)
        results.append(np.asarray(mean))
        if bar is not None:
            bar.add(len(few))
    if not results:
        raise ValueError(
            "predict_tta expects at least one image. Received none. Check the path or the filter they came from."
        )
    return np.concatenate(results).astype("float32")


def _compiled(model, group, kind, space):
    """A function from images to the mean over one group's views, with one trace for images of any size."""
    channels = model.inputs[0].shape[-1] if getattr(model, "inputs", None) else None

    def run(images):
        seen = group(images)
        # Keras 3.10 flattens images of unknown sides to a wrong length.
        views = tf.ensure_shape(tf.concat(seen, axis=0), getattr(model, "input_shape", None) or (None,) * 4)
        outputs = _outputs(model, views)
        outputs = kind.to_logit(outputs) if space == "logit" else kind.to_probability(outputs)
        return tf.reduce_mean(tf.reshape(outputs, (len(seen), -1, outputs.shape[-1])), axis=0)

    if keras.backend.backend() != "tensorflow":
        return run
    return tf.function(run, input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32)])


def _outputs(model, views):
    if keras.backend.backend() == "tensorflow":
        return model(views, training=False)
    outputs = model(keras.ops.convert_to_tensor(views.numpy()), training=False)
    return tf.convert_to_tensor(keras.ops.convert_to_numpy(outputs))


def _run(run, images, model):
    try:
        return run(tf.cast(images, tf.float32))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        shape = tuple(model.inputs[0].shape[1:]) if getattr(model, "inputs", None) else "of its own"
        raise ValueError(
            f"predict_tta expects views that fit the model's input {shape}. Received images of shape "
            f"{tuple(images.shape[1:])}, whose views do not. "
            "Give ten_crop the side of the model's input, or resize the images first."
        ) from error


def _chunks(images, count):
    """Batches of at most `count` images of one size."""
    if isinstance(images, tf.data.Dataset):
        images = (_image_of(element) for element in images)
        images = (image for batch in images for image in (batch if batch.ndim == 4 else batch[None]))
    elif not isinstance(images, (list, tuple)):
        for start in range(0, len(images), count):
            yield np.asarray(images[start : start + count])
        return
    waiting = []
    for image in images:
        image = np.asarray(image)
        if waiting and (image.shape != waiting[0].shape or len(waiting) == count):
            yield np.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield np.stack(waiting)


def _image_of(element):
    return np.asarray(element[0] if isinstance(element, tuple) else element)


def _count(images):
    if isinstance(images, tf.data.Dataset):
        return None
    return len(images)
