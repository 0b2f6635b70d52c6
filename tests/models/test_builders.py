import keras
import numpy as np
import pytest

from recipes import models
from recipes.initialize import Fixup
from recipes.layers import IdentityShortcut, MaxoutConv2D, ScalarAffine, StochasticDepth


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def images(count=2, size=8, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype="uint8")


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"depth": 20}, 0.27),  # He et al. 2015, table 6
        ({"depth": 56}, 0.85),
        ({"depth": 110}, 1.73),  # the table rounds down to 1.7
        ({"depth": 40, "width": 4, "block": "preactivation"}, 8.95),  # Wide ResNets, table 4: 8.9
        ({"depth": 28, "width": 10, "block": "preactivation"}, 36.5),
        ({"depth": 16, "width": 8, "block": "preactivation"}, 11.0),
    ],
)
def test_resnets_have_the_papers_number_of_parameters(options, millions):
    model = models.resnet((32, 32, 3), 10, initializer="zeros", **options)
    assert trainable(model) / 1e6 == pytest.approx(millions, abs=0.005 * max(1, millions))


def test_all_conv_has_the_papers_layers_and_parameters():
    model = models.all_conv((32, 32, 3), 10)
    # Table 2 by hand: 3x3 convolutions of 96 and 192 filters, then 1x1 ones, each with its biases.
    expected = (27 * 96 + 96) + 2 * (864 * 96 + 96) + (864 * 192 + 192) + 3 * (1728 * 192 + 192)
    expected += (192 * 192 + 192) + (192 * 10 + 10)
    assert trainable(model) == expected and round(expected / 1e6, 1) == 1.4
    # "global averaging over 6 x 6 spatial dimensions"
    assert model.get_layer("class_conv").output.shape == (None, 6, 6, 10)
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [
        0.2,
        0.5,
        0.5,
    ]


def test_a_resnet_before_training_is_its_shortcuts_when_branches_end_in_zeros():
    model = models.resnet((8, 8, 3), 4, depth=20, norm=None)
    x = images()
    look = keras.Model(model.input, [model.get_layer("stem_relu").output, model.get_layer("top_relu").output])
    stem, top = (np.asarray(output) for output in look(x))
    np.testing.assert_allclose(top[..., :16], stem[:, ::4, ::4], rtol=1e-6)
    assert not top[..., 16:].any()
    np.testing.assert_allclose(model(x), 0.25)


def test_fixup_scales_first_convolutions_by_the_square_root_of_the_number_of_branches():
    model = models.resnet((32, 32, 3), 10, depth=50, norm=None)
    kernel = np.asarray(model.get_layer("stage3_block4_conv1").kernel)
    # He: variance 2 / fan in; 24 branches of two convolutions: standard deviation times 24 ** -0.5.
    assert kernel.std() == pytest.approx(np.sqrt(2 / 576 / 24), rel=0.02)
    assert not np.asarray(model.get_layer("stage3_block4_conv2").kernel).any()
    # An offset before every convolution, activation and the classifier; 24 gains.
    affine = [layer for layer in model.layers if isinstance(layer, ScalarAffine)]
    assert len([layer for layer in affine if layer.use_gain]) == 24
    assert len(affine) == 2 + 24 * 4 + 1
    assert not [v for v in model.weights if v.name == "bias" and "predictions" not in v.path]


def test_fifty_layers_without_normalization_train(digits):
    pixels, labels = digits
    model = models.resnet((8, 8, 1), 10, depth=50, norm=None)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(pixels[:1280], labels[:1280], epochs=4, batch_size=64, verbose=0).history
    assert history["accuracy"][-1] > 0.8


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("seed", [None, 3, "generator"])
def test_layers_of_one_shape_start_differently_although_they_share_an_initializer(seed, norm):
    def build():
        given = keras.random.SeedGenerator(3) if seed == "generator" else seed
        initializer = keras.initializers.HeNormal(seed=given)
        model = models.resnet((8, 8, 3), 4, depth=14, initializer=initializer, norm=norm)
        return [np.asarray(model.get_layer(f"stage1_block{i}_conv1").kernel) for i in (1, 2)]

    first, second = build()
    assert not np.array_equal(first, second)
    assert np.array_equal(first, build()[0]) == (seed is not None)


def test_stochastic_depth_follows_the_linear_decay_rule():
    model = models.resnet((8, 8, 3), 4, depth=20, stochastic_depth=0.45)
    rates = [layer.rate for layer in model.layers if isinstance(layer, StochasticDepth)]
    np.testing.assert_allclose(rates, np.arange(1, 10) * 0.05)


@pytest.mark.parametrize(
    "build", [models.mlp, models.plain_cnn, models.resnet], ids=lambda build: build.__name__
)
def test_weight_decay_has_the_gradient_of_the_papers(build):
    model = build((8, 8, 3), 4, weight_decay=0.3)
    kernels = [np.asarray(v) for v in model.trainable_variables if v.name == "kernel"]
    # Half the factor times the sum of squares, whose gradient is factor times kernel.
    assert float(sum(model.losses)) == pytest.approx(0.15 * sum((k**2).sum() for k in kernels), rel=1e-4)


def test_maxout_networks_have_maxout_units_and_no_activations(tmp_path):
    plain = models.resnet((8, 8, 3), 4, depth=10, width=2, block="preactivation")
    model = models.resnet((8, 8, 3), 4, depth=10, width=2, block="preactivation", activation="maxout")
    assert sum(isinstance(layer, MaxoutConv2D) for layer in model.layers) == 7
    assert not any(isinstance(layer, keras.layers.Activation) for layer in model.layers)
    kernels = [layer.kernel for layer in plain.layers if isinstance(layer, keras.layers.Conv2D)]
    pieces = sum(int(np.prod(k.shape)) for k in kernels if k.shape[0] == 3)
    assert trainable(model) == trainable(plain) + pieces
    hidden = models.mlp((5,), 3, hidden=(7,), activation="maxout").get_layer("dense1")
    assert hidden.kernel.shape == (5, 14)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "layer", "activation": "gelu", "dropout": 0.3, "stochastic_depth": 0.2},
        {"norm": "instance", "block": "preactivation"},
        {"norm": "group", "activation": "maxout", "weight_decay": 1e-4},
        {"norm": None, "block": "preactivation", "initializer": keras.initializers.HeUniform(seed=1)},
        {"norm": None, "activation": "maxout", "classifier_activation": None},
    ],
    ids=lambda options: "-".join(map(str, options.values()))[:30],
)
def test_every_option_saves_loads_and_takes_raw_pixels(options, tmp_path):
    model = models.resnet((8, 8, 3), 4, depth=8, **options)
    for variable in model.trainable_variables:  # Fixup starts as a constant function
        variable.assign(np.random.default_rng(0).normal(size=variable.shape) * 0.3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    outputs = np.asarray(model(images()))
    assert np.ptp(outputs) > 0
    np.testing.assert_array_equal(loaded(images()), outputs)
    np.testing.assert_array_equal(model(images().astype("float32")), outputs)


@pytest.mark.parametrize("norm", ["layer", "instance", "group"])
def test_per_example_norms_do_not_see_the_rest_of_the_batch(norm):
    model = models.plain_cnn((8, 8, 3), 4, filters=(8, 8), norm=norm)
    x = images(3)
    np.testing.assert_allclose(model(x, training=True)[:1], model(x[:1], training=True), rtol=1e-4, atol=1e-6)
    # ... and undo a gain of the convolution before them.
    look = keras.Model(model.input, model.get_layer("stage1_norm1").output)
    before = np.asarray(look(x))
    model.get_layer("stage1_conv1").kernel.assign(model.get_layer("stage1_conv1").kernel * 100)
    np.testing.assert_allclose(look(x), before, rtol=1e-2, atol=1e-3)


def test_stem_for_large_images_shrinks_fourfold_and_is_chosen_by_size():
    large = models.resnet((224, 224, 3), 4, depth=8)
    assert large.get_layer("stage1_block1_conv1").input.shape == (None, 56, 56, 16)
    assert large.get_layer("stem_conv").kernel.shape == (7, 7, 3, 16)
    small = models.resnet((None, None, 3), 4, depth=8)
    assert small.get_layer("stem_conv").kernel.shape == (3, 3, 3, 16)
    forced = models.resnet((32, 32, 3), 4, depth=8, stem=224, block="preactivation")
    assert forced.get_layer("top_relu").output.shape == (None, 2, 2, 64)


def test_layers_have_the_names_the_documentation_promises():
    for build, names in (
        (
            models.resnet,
            "stem_conv stage2_block1_conv1 stage2_block1_norm1 stage2_block1_relu1 stage2_block1_add top_relu",
        ),
        (
            models.plain_cnn,
            "stage1_conv1 stage1_norm1 stage1_relu1 stage1_pool stage1_dropout top_relu top_average",
        ),
        (models.mlp, "dense1 norm1 relu1 dropout1 dense2 predictions"),
    ):
        model = build((8, 8, 3), 4, norm="batch", dropout=0.1)
        found = {layer.name for layer in model.layers}
        assert set(names.split()) <= found
        # The first loss is the logarithm of the number of classes, whichever builder.
        np.testing.assert_allclose(model(images()), 0.25, atol=0.06)


def test_half_precision_networks_answer_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        built = [
            models.mlp((8, 8, 3), 4),
            models.resnet((8, 8, 3), 4, depth=8),
            models.all_conv((9, 9, 3), 4),
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    for model in built:
        assert model.output.dtype == "float32"
    assert built[1].get_layer("stem_conv").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.resnet((8, 8, 3), 4, depth=21), r"depth of 6n\+2.*depth=21. Take 20"),
        (lambda: models.resnet((8, 8, 3), 4, depth=29, block="preactivation"), r"6n\+4 or 6n\+2.*Take 28"),
        (lambda: models.resnet((8, 8, 3), 4, depth=16), "Take 14"),
        (lambda: models.resnet((8, 8, 3), 4, depth=2), "Take 8"),
        (lambda: models.resnet((8, 8, 3), 4, width=0), "width=0"),
        (lambda: models.resnet((8, 8, 3), 4, width=1.5), "width=1.5"),
        (lambda: models.resnet((8, 8, 3), 4, block="bottleneck"), "block='bottleneck'"),
        (lambda: models.resnet((8, 8, 3), 4, stem=64), "stem=64"),
        (lambda: models.resnet((8, 8, 3), 4, norm="batchnorm"), "norm='batchnorm'"),
        (lambda: models.resnet((8, 8, 3), 4, activation="rellu"), "activation='rellu'"),
        (lambda: models.resnet((8, 8, 3), 4, activation=None), "'linear' for none"),
        (lambda: models.resnet((8, 8, 3), 4, stochastic_depth=1.0), "rate=1.0"),
        (lambda: models.resnet((8, 8, 3), 4, dropout=1.0), "dropout=1.0"),
        (lambda: models.resnet((8, 8, 3), 4, weight_decay=-1), "weight_decay=-1"),
        (lambda: models.resnet((8, 8), 4), r"input_shape=\(8, 8\)"),
        (lambda: models.mlp((8, 8, None), 4), "four dimensions|channels"),
        (lambda: models.mlp((8, 8, 3), 0), "classes=0"),
        (lambda: models.mlp((8, 8, 3), 2.5), "classes=2.5"),
        (lambda: models.mlp((8, 8, 3), 1), "sigmoid"),
        (lambda: models.mlp((9,), 3, hidden=(4, 0)), r"hidden=\(4, 0\)"),
        (lambda: models.mlp((9,), 3, norm="instance"), "LayerNormalization"),
        (lambda: models.plain_cnn((3, 3, 1), 4), "stages expects images of 4 pixels"),
        (lambda: models.plain_cnn((8, 8, 1), 4, filters=()), r"filters=\(\)"),
        (lambda: models.plain_cnn((8, 8, 1), 4, convs=0), "convs=0"),
        (lambda: models.all_conv((8, 8, 1), 4), "plain_cnn for smaller"),
        (lambda: models.all_conv((9, 9, 1), 4, input_dropout=-0.1), "input_dropout=-0.1"),
        (lambda: Fixup(0), "branches=0"),
        (lambda: Fixup(3, layers=1), "layers=1"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "Received" in str(error.value) and " expect" in str(error.value)


@pytest.mark.parametrize("options", [{}, {"width": 3}, {"block": "preactivation", "depth": 16}])
def test_a_resnet_is_made_of_layers_that_keras_has(options):
    model = models.resnet((9, 8, 3), 4, **options)
    own = [layer for layer in model.layers if not type(layer).__module__.startswith("keras.")]
    assert not own


@pytest.mark.parametrize("width", [1, 3])
def test_the_shortcuts_of_a_resnet_subsample_and_pad_as_the_layer_does(width):
    model = models.resnet((9, 9, 3), 4, depth=8, width=width)
    for stage, strides in ((1, 1), (2, 2), (3, 2)):
        add = model.get_layer(f"stage{stage}_block1_add")
        before = {1: "stem_relu", 2: "stage1_block1_relu2", 3: "stage2_block1_relu2"}[stage]
        look = keras.Model(model.input, [model.get_layer(before).output, add.input[0]])
        x, shortcut = (np.asarray(part) for part in look(images(size=9)))
        expected = IdentityShortcut(16 * width * 2 ** (stage - 1), strides)(x)
        np.testing.assert_array_equal(shortcut, expected)
