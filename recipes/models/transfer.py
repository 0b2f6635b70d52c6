"""Transfer learning: a pretrained network with a new head, trained in two phases."""

from collections.abc import Callable
from typing import Any, Literal

import keras

from recipes.common.traversal import has_graph, layers_of
from recipes.common.validation import is_number
from recipes.models.describe_backbone import describe_backbone, upper_half
from recipes.models.parts import check_classes, output_dtype


def transfer(
    backbone: keras.Model,
    classes: int,
    *,
    preprocess: Callable[[Any], Any] | Literal["auto"] | None = "auto",
    features: str | None = None,
    dropout: float = 0.2,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "transfer",
) -> keras.Model:
    """Put a new classifier on a pretrained network whose own weights are frozen.

    `recipes.train` unfreezes the whole network, with learning rates that are smaller for lower layers. That is better
    than training the head alone, on few photos and on many (benchmarks/fine_tuning.py). By hand there are two phases:

    1. Compile and `fit` the result: only the new head learns, and the pretrained features are kept.
    2. `unfreeze` the upper layers and train them at a tenth of the learning rate or less.

    Batch normalizations stay in inference mode in both phases. Their statistics were estimated on far more images
    than there are now, and the statistics of small batches would destroy the learned features.
    Source: Yosinski et al. 2014, section 4, https://arxiv.org/abs/1411.1792. The order (head first, then the upper
    layers at a low rate) follows Keras' transfer learning guide, https://keras.io/guides/transfer_learning

    The result has the backbone's layers in one flat graph, under their own names, then `head_average` (for feature
    maps), `head_dropout` and `predictions`.

    Args:
        backbone: A Functional or Sequential `keras.Model` of one input, such as
            `efficientnet_lite0(include_top=False)` or any of `keras.applications`. It is copied and never changed.
        classes: Number of outputs, >= 1.
        preprocess: Function of a tensor that prepares images in 0..255 for the backbone, such as
            `keras.applications.mobilenet_v2.preprocess_input`; it becomes part of the model. "auto" finds it for the
            networks of `keras.applications` (see `describe_backbone`). None means that the backbone scales its images
            itself, or that the images are already scaled.
        features: Name of the layer whose output the head takes; None for the backbone's output. To replace an old
            classifier, name the layer before it.
        dropout: Share of the features dropped before the classifier in training, in [0, 1).
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, classes)` and two trainable variables, the kernel and
        the bias of `predictions`.

    Raises:
        ValueError: when the backbone is subclassed, has several inputs, ends in a classifier or outputs neither
            vectors nor feature maps; when it has no layer called `features`; when `preprocess` is another string; or
            when `classes` or `dropout` is outside its range.
    """
    check_classes(classes, classifier_activation, "transfer")
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ValueError(
            f"transfer expects dropout in [0, 1), the share that is dropped. Received dropout={dropout}. "
            "Use 0 to turn it off."
        )
    source = _source(backbone, features)
    if isinstance(preprocess, str):
        if preprocess != "auto":
            raise ValueError(
                f'transfer expects preprocess as a function, "auto" or None. Received preprocess={preprocess!r}. '
                "Pass a function such as keras.applications.mobilenet_v2.preprocess_input."
            )
        preprocess = describe_backbone(backbone).preprocess
    image = keras.Input(batch_shape=source.input.shape, name="image")
    first = image if preprocess is None else preprocess(image)

    def call(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(
            lambda tensor: first if tensor is image else tensor, (args, kwargs)
        )
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(source, input_tensors=image, call_function=call)
    copy.set_weights(source.get_weights())
    _freeze(copy, keras.Layer)
    x = copy.output
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="head_average")(x)
    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    x = keras.layers.Dense(
        classes, activation=classifier_activation, dtype=output_dtype(), name="predictions"
    )(x)
    return keras.Model(image, x, name=name)


def is_transfer(model: keras.Model) -> bool:
    """Whether this model comes from `transfer` and its backbone is still frozen."""
    names = {layer.name for layer in model.layers}
    frozen = [layer for layer in model.layers if layer.weights and not layer.trainable]
    return {"head_dropout", "predictions"} <= names and len(frozen) > 1


def unfreeze(model: keras.Model, *, from_layer: str = "auto") -> keras.Model:
    """Unfreeze the upper layers of a network from `transfer`, for the second phase of training.

    Batch normalizations stay frozen and therefore in inference mode.

    Args:
        model: The model that `transfer` returned, trained or not.
        from_layer: Name of the first layer, counted from the image, that is unfrozen. "auto" takes the first layer of
            the upper half, counted in layers with a kernel.

    Returns:
        An uncompiled `keras.Model` of the same layers. Compile it with a tenth or less of the learning rate of the
        first phase. The given model shares its weights.

    Raises:
        ValueError: when the model has no layer called `from_layer`.

    Example:
        >>> model = transfer(efficientnet_lite0(include_top=False), classes=5)
        >>> ...  # compile and fit: the head learns
        >>> model = unfreeze(model, from_layer="stage6_block1_expand")
        >>> model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy")
    """
    names = [layer.name for layer in model.layers]
    if from_layer == "auto" and "auto" not in names:
        from_layer = min(upper_half(model), key=names.index)
    if from_layer not in names:
        raise ValueError(
            f"unfreeze expects from_layer to be a layer of {model.name!r}. Received from_layer={from_layer!r}. "
            f"Its last layers with weights are {[layer.name for layer in model.layers if layer.weights][-8:]}."
        )
    for layer in model.layers[names.index(from_layer) :]:
        layer.trainable = True
        _freeze(layer, keras.layers.BatchNormalization)
    return keras.Model(model.input, model.output, name=model.name)


def _freeze(layer, kind):
    for part in layers_of(layer, kind, include_self=True):
        part.trainable = False


def _source(backbone, features):
    """The backbone from its input to the features, as an uncompiled Functional model."""
    if not isinstance(backbone, keras.Sequential) and not has_graph(backbone):
        raise ValueError(
            f"transfer expects a Functional or Sequential backbone. Received {backbone.name!r} of type "
            f"{type(backbone).__name__}. Put a Dense layer on its outputs in a model of your own."
        )
    if not backbone.built or len(backbone.inputs) != 1:
        raise ValueError(
            f"transfer expects a built backbone of one input. Received {backbone.name!r}, "
            f"{'which is not built' if not backbone.built else f'which has {len(backbone.inputs)}'}. "
            "Give a model that takes one batch of images."
        )
    if features is None:
        output, last = backbone.outputs[0], backbone.layers[-1]
        classifies = (
            isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in CLASSIFIERS
        )
        if classifies:
            raise ValueError(
                f"transfer expects a backbone that ends in features. Received {backbone.name!r}, which ends in the "
                f"classifier {last.name!r}. Build it with include_top=False, or give features= the name of the layer "
                "before it."
            )
    else:
        names = [layer.name for layer in backbone.layers]
        if features not in names:
            raise ValueError(
                f"transfer expects features to be a layer of {backbone.name!r}. Received features={features!r}. "
                f"Its last layers are {names[-8:]}."
            )
        output = backbone.get_layer(features).output
    if len(output.shape) not in (2, 4):
        raise ValueError(
            "transfer expects features (batch, channels) or (batch, height, width, channels). "
            f"Received shape {tuple(output.shape)}. Give features= the name of a layer with such an output."
        )
    return keras.Model(backbone.inputs[0], output)


CLASSIFIERS = (keras.activations.softmax, keras.activations.sigmoid)
