"""Whatever the arguments are: the right result, or a refusal in our own words; never a bare TensorFlow error."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hostile_values import arguments, arrays, example_count, explained, often
from hypothesis import given
from hypothesis import strategies as st

from recipes import augment, data, initialize, layers, models, preprocess

SHARE = st.floats(0, 0.75)


# Augmentation: an operation, and a Pipeline of it over a batch.

FILL = st.sampled_from(["black", "mean", "edge", 3.0])
STATISTICS = preprocess.ImageStatistics.fit(
    np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8"), verbose=0
)
OPERATIONS = {
    augment.Flip: {"horizontal": st.booleans(), "vertical": st.booleans()},
    augment.PadCrop: {"pad": st.integers(1, 4), "fill": FILL},
    augment.Crop: {"height": st.integers(1, 8), "width": st.integers(1, 8)},
    augment.RandomResizedCrop: {
        "size": st.integers(1, 9),
        "scale": st.just((0.2, 1.0)),
        "ratio": st.just((0.75, 1.33)),
    },
    augment.ScaleCrop: {"size": st.integers(1, 8), "short_side": st.just((8, 10))},
    augment.Rotate: {"degrees": st.floats(0, 180), "fill": FILL},
    augment.Translate: {"height": st.floats(0, 0.5), "width": st.floats(0, 0.5)},
    augment.Zoom: {"factor": st.floats(0, 0.5)},
    augment.Stretch: {"factor": st.floats(0, 0.5)},
    augment.Shear: {"horizontal": st.floats(0, 0.5), "vertical": st.floats(0, 0.5)},
    augment.LensDistortion: {"strength": st.floats(0, 0.3)},
    augment.Brightness: {"factor": st.floats(0, 0.9)},
    augment.Contrast: {"factor": st.floats(0, 0.9)},
    augment.Saturation: {"factor": st.floats(0, 0.9)},
    augment.Hue: {"turns": st.floats(0, 0.5)},
    augment.ColorJitter: {
        "brightness": SHARE,
        "contrast": SHARE,
        "saturation": SHARE,
        "hue": st.floats(0, 0.5),
    },
    augment.FancyPCA: {"statistics": st.just(STATISTICS), "sigma": st.floats(0, 1)},
    augment.Grayscale: {"probability": st.floats(0, 1)},
    augment.GaussianNoise: {"stddev": st.floats(0, 0.5)},
    augment.GaussianBlur: {"sigma": st.just((0.1, 1.0))},
    augment.Cutout: {"size": st.integers(1, 8), "fill": FILL},
    augment.RandomErasing: {"scale": st.just((0.02, 0.4)), "ratio": st.just((0.3, 3.3))},
    augment.MixUp: {"alpha": st.floats(0.1, 2)},
    augment.CutMix: {"alpha": st.floats(0.1, 2)},
    augment.Normalize: {"statistics": st.just(STATISTICS)},
    augment.RandAugment: {"count": st.integers(1, 3), "magnitude": st.floats(0, 10)},
    augment.TrivialAugment: {"wide": st.booleans(), "color": st.booleans()},
    augment.OneOf: {"operations": st.just([augment.Flip(), augment.Rotate(5)]), "weights": st.just((1, 2))},
    augment.SomeOf: {"operations": st.just([augment.Flip(), augment.Rotate(5)]), "count": st.integers(1, 2)},
}
BATCHES = st.sampled_from(
    [
        (np.zeros((3, 8, 8, 3), "uint8"), np.array([0, 1, 2])),
        (np.ones((1, 8, 8, 3), "float32"), np.eye(3, dtype="float32")[:1]),
        (np.zeros((2, 8, 8, 1), "uint8"), np.array([0, 1])),
        (np.zeros((8, 8, 3), "uint8"), np.array(1)),
        (np.zeros((0, 8, 8, 3), "uint8"), np.zeros(0, "int64")),
        (np.full((2, 8, 8, 3), np.nan, "float32"), np.array([0, 1])),
        (np.zeros((2, 8, 8, 3), "uint8"), np.array([0, 7])),
        (np.zeros((2, 8, 8, 3), "int64"), np.array([0.5, 1.0])),
        (np.array(["a", "b"]), np.array([0, 1])),
        (np.zeros((2, 8, 8, 5), "float64"), np.array([[0, 1], [1, 0]])),
        (None, np.array([0])),
    ]
)


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
@example_count(15)
@given(st.data())
def test_operations_take_or_refuse_arguments(kind, data):
    chances = {} if kind is augment.Normalize else {"probability": st.floats(0, 1)}
    valid = {**chances, **OPERATIONS[kind]}
    made = explained(kind, **data.draw(arguments(valid)))
    if made is not None:
        explained(augment.Pipeline, [made], classes=3)


@example_count(20)
@given(
    arguments(
        {
            "operations": st.just([augment.Flip(), augment.MixUp()]),
            "value_range": st.sampled_from([(0, 255), (0, 1), (-1, 1)]),
            "classes": st.sampled_from([None, 3]),
            "seed": st.integers(0, 9),
            "jit_compile": st.just(False),
            "dtype": st.sampled_from(["float32", "uint8"]),
        }
    )
)
def test_pipelines_take_or_refuse_arguments(chosen):
    explained(augment.Pipeline, **chosen)


@pytest.fixture(scope="module")
def pipelines():
    make = augment.Pipeline
    options = {"classes": 3, "jit_compile": False}
    return [
        make([augment.Flip(), augment.ColorJitter(0.3, 0.3, 0.3, 0.1)], **options),
        make([augment.PadCrop(2), augment.MixUp()], **options),
    ]


@example_count(8)
@given(batch=BATCHES, which=st.integers(0, 1), seed=often(st.just((1, 2))))
def test_batches_are_augmented_or_refused(pipelines, batch, which, seed):
    result = explained(pipelines[which], *batch, seed=seed)
    if result is not None:
        images, labels = result
        assert images.shape[0] == len(batch[0]) and images.dtype == tf.float32
        assert labels.shape[0] == len(batch[0])


@example_count(30)
@given(
    arguments(
        {
            "shape": st.sampled_from([(8, 8, 3), (28, 28, 1)]),
            "kind": st.sampled_from(["photos", "symbols"]),
            "strength": st.sampled_from(["light", "medium"]),
            "value_range": st.just((0, 255)),
            "classes": st.sampled_from([None, 3]),
            "seed": st.integers(0, 9),
        }
    )
)
def test_standard_augmentation_takes_or_refuses_arguments(chosen):
    explained(augment.standard, **chosen)


# Layers, called on inputs of any shape.

LAYERS = {
    layers.Maxout: {"units": st.integers(1, 4), "pieces": st.integers(2, 3), "use_bias": st.booleans()},
    layers.MaxoutConv2D: {
        "filters": st.integers(1, 4),
        "kernel_size": st.integers(1, 3),
        "pieces": st.integers(2, 3),
        "strides": st.integers(1, 2),
        "padding": st.sampled_from(["valid", "same"]),
    },
    layers.DropConnect: {
        "layer": st.builds(lambda: keras.layers.Dense(2, kernel_initializer="ones")),
        "rate": SHARE,
        "seed": st.integers(0, 3),
    },
    layers.StochasticDepth: {"rate": SHARE, "seed": st.integers(0, 3)},
    layers.FractionalMaxPooling2D: {
        "ratio": st.floats(1.1, 2.0),
        "pseudo_random": st.booleans(),
        "overlapping": st.booleans(),
        "seed": st.integers(0, 3),
    },
    layers.InstanceNormalization: {
        "epsilon": st.floats(1e-6, 1e-2),
        "center": st.booleans(),
        "scale": st.booleans(),
    },
    layers.IdentityShortcut: {"filters": st.integers(3, 6), "strides": st.integers(1, 2)},
    layers.ScalarAffine: {"use_gain": st.booleans()},
    preprocess.Standardize: {"by": st.sampled_from(["channel", "channel_mean", "mean_image"])},
    preprocess.Whitening: {
        "kind": st.sampled_from(["zca", "pca"]),
        "epsilon": st.floats(1e-6, 1e-2),
        "components": st.none(),
    },
}
INPUTS = st.sampled_from([(2, 6, 6, 3), (2, 3), (2,), (1, 1, 1, 3), (2, 5, 3)])


@pytest.mark.filterwarnings("ignore:Whitening.adapt expects more images:UserWarning")
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
@example_count(12)
@given(st.data())
def test_layers_give_finite_outputs_or_refuse(kind, data):
    made = explained(kind, **data.draw(arguments(LAYERS[kind])))
    if made is None:
        return
    shape = data.draw(INPUTS)
    inputs = np.linspace(-1, 1, math.prod(shape), dtype="float32").reshape(shape)
    if hasattr(made, "adapt") and explained(made.adapt, inputs) is None and not made.built:
        return
    output = explained(made, inputs)
    if output is not None:
        assert output.shape[0] == shape[0] and output.dtype == tf.float32
        assert np.isfinite(np.asarray(output)).all()


@example_count(30)
@given(arguments({"limit": st.floats(0.1, 5), "unit_axes": st.sampled_from([-1, (0, 1)])}))
def test_max_norm_takes_or_refuses(chosen):
    made = explained(layers.MaxNorm, **chosen)
    if made is not None:
        explained(made, np.ones((3, 4), "float32"))


# Data and its statistics.


@example_count(30)
@given(
    arguments(
        {
            "name_or_folder": st.just("digits"),
            "image_size": st.sampled_from([None, 8, (4, 6)]),
            "validation": st.floats(0, 0.9),
            "seed": st.integers(0, 9),
            "part": st.just("train"),
        }
    )
)
def test_load_gives_images_or_refuses(chosen):
    loaded = explained(data.load, **chosen)
    if loaded is not None:
        train, _, info = loaded
        image, label = next(iter(train))
        assert image.dtype == tf.uint8 and image.shape == info.image_shape
        assert label.dtype == tf.int64 and 0 <= int(label) < len(info.class_names)


@example_count(40)
@given(images=arrays(), value_range=often(st.none()))
def test_statistics_are_fitted_or_refused(images, value_range):
    made = explained(preprocess.ImageStatistics.fit, images, value_range=value_range, verbose=0)
    if made is not None:
        assert np.isfinite(made.channel_mean).all() and made.count >= 1


# Models.

MODEL = {
    "input_shape": st.sampled_from([(8, 8, 3), (12, 12, 1)]),
    "classes": st.integers(2, 4),
    "norm": st.sampled_from(["batch", "layer", "instance", "group", None]),
    "activation": st.sampled_from(["relu", "maxout", "tanh"]),
    "initializer": st.just("he_normal"),
    "dropout": SHARE,
    "weight_decay": st.floats(0, 0.1),
    "classifier_activation": st.sampled_from(["softmax", None]),
    "name": st.just("net"),
}
BUILDERS = {
    models.mlp: {**MODEL, "hidden": st.sampled_from([(4,), (4, 4), ()])},
    models.plain_cnn: {**MODEL, "filters": st.just((4,)), "convs": st.integers(1, 2)},
    models.resnet: {
        **MODEL,
        "depth": st.just(8),
        "width": st.just(1),
        "stochastic_depth": SHARE,
    },
    models.all_conv: {**MODEL, "input_shape": st.just((32, 32, 3)), "input_dropout": SHARE},
}


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
@example_count(8)
@given(st.data())
def test_builders_build_or_refuse(builder, data):
    chosen = data.draw(arguments(BUILDERS[builder]))
    made = explained(builder, **chosen)
    if made is not None:
        assert made.output_shape == (None, chosen["classes"])
    keras.utils.clear_session(free_memory=False)


# Initializers.


@example_count(25)
@given(counts=arrays(np.arange(1, 11)), examples=often(st.none()))
def test_bias_priors_are_set_or_refused(counts, examples):
    model = models.mlp((2, 2, 1), 10, hidden=())
    explained(initialize.output_bias_prior, model, counts, examples=examples)
