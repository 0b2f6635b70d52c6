"""The patches of real images that activate a channel most."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images, ValueRange
from recipes.common.validation import is_whole
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer, PassOptions, shares
from recipes.explain.inspection.features import batches_of
from recipes.explain.inspection.receptive_field import receptive_field


@dataclasses.dataclass(frozen=True)
class Patches:
    """The result of `maximal_patches`, the strongest first; without the first axis for a single channel.

    Args:
        patches: float32 `(channels, k, height, width, image channels)`: the receptive fields, gray outside the image.
        scores: float32 `(channels, k)`: the activations of the patches.
        indices: int `(channels, k)`: the number of the image of each patch, counted through the data.
        boxes: int `(channels, k, 4)`: `(top, left, bottom, right)` of each patch in its image, in pixels, not clipped.
    """

    patches: FloatArray
    scores: FloatArray
    indices: np.ndarray
    boxes: np.ndarray


@shares(PassOptions)
def maximal_patches(
    model: keras.Model,
    images: "Images | tf.data.Dataset",
    layer: Layer,
    channel: int | Sequence[int],
    k: int = 9,
    *,
    call_index: int | None = None,
    value_range: ValueRange = (0, 255),
    **options: Unpack[PassOptions],
) -> Patches:
    """Find the k images that activate a channel most, and cut out the receptive field of the strongest neuron in each.

    Source: Girshick et al. 2013, "Rich feature hierarchies", section 3.1, https://arxiv.org/abs/1311.2524; one patch
    per image as in Zeiler & Fergus 2013, figure 2, https://arxiv.org/abs/1311.2901. It makes one pass over the data and
    keeps only the k best images; layers above the channel are not computed.

    Args:
        model: A built `keras.Model` with one image input, channels last. It is never changed.
        images: `(n, height, width, channels)`, or a `tf.data.Dataset` of batches of images or of `(images, ...)`.
        layer: A layer whose output is a map: object, name, path or index.
        channel: Number of the channel, from 0, or a list of them (found in the same pass).
        k: Number of patches per channel, >= 1.
        call_index: Number of the call of a shared layer, from 0.
        value_range: `(low, high)` of the images; its middle fills patches outside the image.
        options: The options of `PassOptions`: how the model is run.

    Returns:
        A `Patches`.

    Raises:
        ValueError: when there are fewer images than k, the layer or channel is unknown, or the layer has no map.
    """
    call = layer_lookup.find(model, layer, call_index=call_index, method="maximal_patches")
    channels = np.atleast_1d(np.asarray(channel))
    whole = channels.ndim == 1 and channels.size and channels.dtype.kind in "iu" and (channels >= 0).all()
    if not is_whole(k) or k < 1 or not whole:
        raise UsageError(
            f"maximal_patches expects k >= 1 and channels from 0. Received k={k}, channel={channel!r}. Write "
            "channel=0, or a list."
        )
    best = [[] for _ in channels]  # (score, index, position, image) of each, the strongest first
    seen, field = 0, None
    for batch in batches_of("maximal_patches", model, images, options["batch_size"]):
        if field is None:
            field = receptive_field(model, layer, call_index=call_index, size=batch.shape[1:3])
        peaks, places, depth = tracing.evaluate(
            model,
            _peaks,
            [batch, np.minimum(channels, 2**31 - 1).astype("int32")],
            compile=options["compile"],
            shapes=[(None, *batch.shape[1:]), (len(channels),)],
            keys="declared" if getattr(model, "inputs", None) else None,
            call=call,
        )
        if channels.max() >= int(depth):
            raise UsageError(
                f"maximal_patches expects channels in 0 ... {int(depth) - 1} for layer '{call.path}'. Received "
                f"{channels.max()}. Count from 0."
            )
        peaks, places = peaks.numpy(), places.numpy()
        for row in range(len(channels)):
            order = np.argsort(-peaks[:, row], kind="stable")[:k]
            entries = [(peaks[i, row], seen + i, places[i, row], batch[i]) for i in order]
            best[row] = sorted(best[row] + entries, key=lambda entry: (-entry[0], entry[1]))[:k]
        seen += len(batch)
    if seen < k:
        raise UsageError(
            f"maximal_patches expects at least k={k} images. Received {seen}. Give more images, or a smaller k."
        )
    return _cut(best, field, value_range, single=np.ndim(channel) == 0)


def _peaks(model, images, channels, *, keys, call):
    _, (values,) = tracing.capture(model, pack(model, [images], keys), [call], stop=True)
    values = tf.cast(values, "float32")
    depth = tf.shape(values)[-1]
    # The caller raises for a channel out of range, because the depth is only known here.
    flat = tf.reshape(values, [tf.shape(values)[0], -1, values.shape[-1]])
    flat = tf.gather(flat, tf.minimum(channels, depth - 1), axis=2)
    return tf.reduce_max(flat, 1), tf.argmax(flat, 1, output_type="int32"), depth


def _cut(best, field, value_range, *, single):
    whole = any(size > side for size, side in zip(field.size, field.image, strict=True)) or field.stride == (
        0,
        0,
    )
    size = field.image if whole else field.size
    patches, boxes = [], []
    for entries in best:
        for _, _, place, image in entries:
            position = np.unravel_index(place, field.map)
            box = (0, 0, *field.image) if whole else field.box(position)
            patch = np.full((*size, image.shape[-1]), sum(value_range) / 2, "float32")
            top, left = max(box[0], 0), max(box[1], 0)
            cut = image[top : box[2], left : box[3]]
            patch[top - box[0] :, left - box[1] :][: cut.shape[0], : cut.shape[1]] = cut
            patches.append(patch)
            boxes.append(box)
    shape = (len(best), len(best[0]))
    result = {
        "patches": np.stack(patches).reshape(*shape, *patches[0].shape),
        "scores": np.array([[entry[0] for entry in entries] for entries in best], "float32"),
        "indices": np.array([[entry[1] for entry in entries] for entries in best]),
        "boxes": np.array(boxes).reshape(*shape, 4),
    }
    return Patches(**{name: values[0] if single else values for name, values in result.items()})
