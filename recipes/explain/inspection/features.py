"""Features of images: the activations of a layer, one vector per image."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Images
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import Inputs, pack
from recipes.explain.engine.options import Compile, InspectionOptions, Layer, Preprocess, shares


@shares(InspectionOptions)
def features(
    model: keras.Model,
    images: "Images | tf.data.Dataset",
    layer: Layer | None = None,
    *,
    call_index: int | None = None,
    pool: Literal["average", "max"] | None = "average",
    **options: Unpack[InspectionOptions],
) -> FloatArray:
    """One vector per image: the activations of a layer.

    Args:
        model: A built `keras.Model`. It is never changed; layers above `layer` are not computed.
        images: Images that the model (or `preprocess`) takes, `(n, height, width, channels)`, or a `tf.data.Dataset`
            of batches of images or of `(images, ...)`, which is read once.
        layer: Layer object, name, path or index. None takes the input of the last Dense layer (or of the last
            convolution if there is none), the representation that the classifier gets.
        call_index: Number of the call of a shared layer, from 0.
        pool: How a map becomes a vector: "average" or "max" over positions, or None to keep every value.
        options: The options of `InspectionOptions`: `preprocess`, and how the model is run.

    Returns:
        float32 `(n, length)`.

    Raises:
        ValueError: when the layer or `pool` is unknown, when `layer` is None and the model has no classifier, or when
            the images do not fit.
    """
    pools = {"average": lambda v, axes: v.mean(axes), "max": lambda v, axes: v.max(axes), None: None}
    if not (pool is None or isinstance(pool, str)) or pool not in pools:
        raise UsageError(
            f"features expects pool to be 'average', 'max' or None. Received {pool!r}. Write None to keep every value."
        )
    call = (
        None if layer is None else layer_lookup.find(model, layer, call_index=call_index, method="features")
    )
    vectors = []
    for batch in batches_of("features", model, images, options["batch_size"]):
        values = layer_values(model, batch, call, options["preprocess"], options["compile"])
        if values.ndim > 2 and pool is not None:
            first = call is not None and layer_lookup.data_format(model, call.operation) == "channels_first"
            axes = tuple(range(2, values.ndim)) if first else tuple(range(1, values.ndim - 1))
            values = pools[pool](values, axes)
        vectors.append(values.reshape(len(values), -1))
    return np.concatenate(vectors)


@shares(InspectionOptions)
def activations(
    model: keras.Model,
    images: "Images | tf.data.Dataset",
    layer: Layer | Sequence[Layer],
    *,
    call_index: int | None = None,
    **options: Unpack[InspectionOptions],
) -> FloatArray | Any:
    """The activations of one or several layers for images.

    Args:
        model, images, call_index, options: As in `features`.
        layer: Layer object, name, path or index, or a list of them.

    Returns:
        float32 `(n, ...)` in the layer's own layout; a dict `{path: array}` for a list of layers.

    Raises:
        ValueError: when a layer is unknown (the message lists candidates) or the images do not fit.
    """
    chosen = layer if isinstance(layer, (list, tuple)) else [layer]
    calls = [layer_lookup.find(model, one, call_index=call_index, method="activations") for one in chosen]
    found = [
        [layer_values(model, batch, call, options["preprocess"], options["compile"]) for call in calls]
        for batch in batches_of("activations", model, images, options["batch_size"])
    ]
    arrays = [np.concatenate(values) for values in zip(*found, strict=True)]
    if isinstance(layer, (list, tuple)):
        return {call.path: values for call, values in zip(calls, arrays, strict=True)}
    return arrays[0]


def batches_of(
    method: str, model: keras.Model, images: "Images | tf.data.Dataset", batch_size: int
) -> Iterator[FloatArray]:
    """Batches of checked float32 arrays `(batch, ...)`, from an array or from a dataset that is read once."""
    if isinstance(images, tf.data.Dataset):
        batches = (np.asarray(entry[0] if isinstance(entry, tuple) else entry) for entry in images)
        kind = images.element_spec[0] if isinstance(images.element_spec, tuple) else images.element_spec
        if kind.shape.rank is not None and kind.shape.rank < 4:
            raise UsageError(
                f"{method} expects a dataset of batches (n, height, width, channels). Received elements of shape "
                f"{kind.shape}. Batch it with dataset.batch(64)."
            )
    else:
        array = Inputs(model, images, method=method).images
        batches = (array[start:stop] for start, stop in tracing.chunks(len(array), batch_size))
    for batch in batches:
        yield batch.astype("float32") if isinstance(images, tf.data.Dataset) else np.asarray(batch, "float32")


def layer_values(
    model: keras.Model,
    batch: FloatArray,
    call: layer_lookup.LayerCall | None,
    preprocess: Preprocess = None,
    compile: Compile = "auto",
) -> FloatArray:
    """The output of one layer for a batch, float32; for None the input of the classifier."""
    if call is None:
        call = classifier_input(model)
    return tracing.array(
        tracing.evaluate(
            model,
            _values,
            [batch],
            compile=compile,
            keys="declared" if getattr(model, "inputs", None) else None,
            call=call[0] if isinstance(call, tuple) else call,
            before=isinstance(call, tuple),
            preprocess=preprocess,
        )
    )


def classifier_input(model: keras.Model) -> tuple[layer_lookup.LayerCall, bool]:
    """`(LayerCall, True)` of the last Dense layer, or of the last convolution if there is none; its input is wanted."""
    kinds = [
        [node for node in walk(model) if isinstance(node.operation, kind) and node.calls in (1, None)]
        for kind in (keras.layers.Dense, keras.layers.Conv2D)
    ]
    nodes = kinds[0] or kinds[1]
    if not nodes:
        raise UsageError(
            f"features expects a model that ends in a Dense layer. Model '{model.name}' has none. Give layer= the name "
            "of the layer whose activations you want."
        )
    return layer_lookup.find(model, nodes[-1].operation, method="features"), True


def _values(model, images, *, keys, call, before, preprocess):
    images = images if preprocess is None else preprocess(images)
    inputs = pack(model, [images], keys)
    if not before:
        _, (values,) = tracing.capture(model, inputs, [call], stop=True)
        return tf.cast(values, "float32")
    fed = []

    def wrap(original):
        def stand_in(*args, **kwargs):
            fed.append(args[0] if args else kwargs["inputs"])
            return original(*args, **kwargs)

        return stand_in

    with tracing.intercepted({call.operation: wrap}):
        model(inputs, training=False)
    return tf.cast(tracing.single(fed[-1], call.path), "float32")
