import keras
import numpy as np
import pytest

from recipes import initialize, models
from recipes.layers import Maxout


@pytest.fixture
def pixels(digits):
    return digits[0][:400]


def affine_outputs(model, names, batch, training=False):
    look = keras.Model(model.input, [model.get_layer(name).output for name in names])
    outputs = look(batch, training=training)
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]


# ---------------------------------------------------------------- lsuv


def test_lsuv_gives_every_layer_unit_variance_and_orthonormal_directions(pixels):
    model = models.plain_cnn((8, 8, 1), 10, filters=(12, 16), norm=None)
    scalings = initialize.lsuv(model, pixels)
    names = ["stage1_conv1", "stage1_conv2", "stage2_conv1", "stage2_conv2"]
    assert [scaling.layer for scaling in scalings] == [
        model.get_layer(n).path for n in [*names, "predictions"]
    ]
    for output, scaling in zip(affine_outputs(model, names, pixels), scalings, strict=False):
        assert output.var() == pytest.approx(1, abs=0.01)
        assert scaling.variance_after == pytest.approx(output.var(), rel=1e-3)
    kernel = np.asarray(model.get_layer("stage2_conv2").kernel).reshape(-1, 16)
    gram = kernel.T @ kernel
    np.testing.assert_allclose(gram, np.eye(16) * gram[0, 0], atol=1e-5 * gram[0, 0])
    for variable in model.trainable_variables:
        if variable.name == "bias":
            assert not np.asarray(variable).any()


def test_lsuv_measures_before_an_activation_that_is_part_of_the_layer(pixels):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(200, activation="relu", name="hidden"),
            Maxout(10, name="maxout"),
        ]
    )
    scalings = initialize.lsuv(model, pixels)
    hidden = model.get_layer("hidden")
    affine = pixels.reshape(400, 64).astype("float64") @ np.asarray(hidden.kernel) + np.asarray(hidden.bias)
    assert affine.var() == pytest.approx(1, abs=0.01)
    assert hidden.activation is keras.activations.relu
    assert np.asarray(model(pixels)).var() == pytest.approx(1, abs=0.01)
    assert scalings[0].variance_before > 100 and scalings[0].steps == 1


def test_lsuv_reaches_unit_variance_although_a_bias_does_not_scale(pixels):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(50)])
    model.layers[-1].bias.assign(np.random.default_rng(0).normal(size=50) * 0.5)
    (scaling,) = initialize.lsuv(model, pixels, tolerance=1e-3)
    assert np.asarray(model(pixels)).var() == pytest.approx(1, abs=1e-3) and scaling.steps > 1
    model.layers[-1].bias.assign(np.linspace(-5, 5, 50))
    with pytest.warns(UserWarning, match="its bias varies too much"):
        initialize.lsuv(model, pixels)


def test_lsuv_sees_batch_normalization_as_training_will_and_keeps_its_statistics(pixels):
    model = models.resnet((8, 8, 1), 10, depth=8)
    norm = model.get_layer("stem_norm")
    norm.moving_mean.assign(np.full(16, 9.0))
    before = [np.asarray(variable) for variable in model.non_trainable_variables]
    initialize.lsuv(model, pixels)
    for old, new in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    names = ["stem_conv", "stage1_block1_conv2", "stage3_block1_conv1"]
    for output in affine_outputs(model, names, pixels, training=True):
        assert output.var() == pytest.approx(1, abs=0.01)


def test_lsuv_goes_through_subclassed_and_nested_models(pixels):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential(
                [keras.layers.Conv2D(8, 3, activation="tanh"), keras.layers.Flatten()]
            )
            self.separable = keras.layers.SeparableConv2D(6, 3)
            self.outer = keras.layers.Dense(20)

        def call(self, inputs):
            return self.outer(self.inner(self.separable(inputs)))

    model = Subclassed()
    x = pixels.astype("float32")
    model(x)
    scalings = initialize.lsuv(model, x)
    assert len(scalings) == 3 and all(abs(s.variance_after - 1) < 0.01 for s in scalings)
    assert np.asarray(model(x)).var() == pytest.approx(1, abs=0.01)


def test_lsuv_names_what_it_cannot_scale_and_leaves_it(pixels):
    inputs = keras.Input((8, 8))
    x = keras.layers.LSTM(4, name="lstm")(inputs)
    shared = keras.layers.Dense(4, name="shared")
    x = keras.layers.Add()([shared(x), shared(keras.layers.ReLU()(x))])
    frozen = keras.layers.Dense(5, trainable=False, name="frozen")(x)
    dead = keras.layers.Rescaling(0.0)(frozen)
    model = keras.Model(inputs, keras.layers.Dense(3, name="dead")(dead))
    kept = {name: model.get_layer(name).get_weights() for name in ("lstm", "frozen", "dead")}
    with pytest.warns(
        UserWarning, match=r"lstm \(recurrent.*shared \(used more than once.*dead \(its output does"
    ):
        scalings = initialize.lsuv(model, pixels[..., 0].astype("float32") / 255)
    assert [scaling.steps > 0 for scaling in scalings] == [False, True, False, False]
    for name, weights in kept.items():
        for old, new in zip(weights, model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_lsuv_without_orthonormal_start_only_scales(pixels):
    model = models.mlp((8, 8, 1), 10, hidden=(20,))
    before = np.asarray(model.get_layer("dense1").kernel)
    initialize.lsuv(model, pixels, orthonormal=False)
    ratio = np.asarray(model.get_layer("dense1").kernel) / before
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)


def test_the_same_seed_gives_the_same_start(pixels):
    first, second = (models.mlp((8, 8, 1), 10) for _ in range(2))
    initialize.lsuv(first, pixels, seed=3)
    initialize.lsuv(second, pixels, seed=3)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_after_any_failure_the_model_is_as_it_was(pixels):
    class Breaks(keras.layers.Layer):
        broken = False

        def call(self, inputs):
            if self.broken:
                raise RuntimeError("no luck")
            return inputs

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3), Breaks(), keras.layers.Conv2D(3, 3)]
    )
    model.layers[1].broken = True
    before = model.get_weights()
    nan = pixels.astype("float32")
    nan[3, 2, 1] = np.nan
    with pytest.raises(RuntimeError, match="no luck"):
        initialize.lsuv(model, pixels)
    with pytest.raises(ValueError, match="NaN or infinity"):
        initialize.lsuv(model, nan)
    with pytest.raises(ValueError, match="numbers or of strings. Received objects such as None"):
        initialize.lsuv(model, np.array([None, 1], object))
    with pytest.raises(ValueError, match=r"at least two examples. Received an array of shape \(1, 8, 8, 1\)"):
        initialize.lsuv(model, pixels[:1])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(model.layers[0])
    with pytest.raises(ValueError, match="max_steps=0"):
        initialize.lsuv(model, pixels, max_steps=0)
    with pytest.raises(ValueError, match="expects a built model"):
        initialize.lsuv(keras.Sequential([keras.layers.Dense(3)]), pixels)


# ---------------------------------------------------------------- output bias


def test_an_untrained_softmax_predicts_the_frequencies_and_its_loss_is_their_entropy():
    model = models.mlp((5,), 3)
    model.get_layer("predictions").kernel.assign(np.zeros((256, 3)))
    initialize.output_bias_prior(model, [10, 70, 20])
    x = np.random.default_rng(0).normal(size=(100, 5)).astype("float32")
    np.testing.assert_allclose(model(x)[:2], [[0.1, 0.7, 0.2]] * 2, rtol=1e-5)
    model.compile(loss="sparse_categorical_crossentropy")
    labels = np.repeat([0, 1, 2], [10, 70, 20])
    entropy = -sum(p * np.log(p) for p in (0.1, 0.7, 0.2))
    assert model.evaluate(x, labels, verbose=0) == pytest.approx(entropy, rel=1e-4)


def test_a_sigmoid_predicts_its_share_of_positives():
    single = models.mlp((5,), 1, hidden=(), classifier_activation="sigmoid")
    single.get_layer("predictions").kernel.assign(np.zeros((5, 1)))
    bias = initialize.output_bias_prior(single, (990, 10))
    # Focal loss paper, section 4.1: pi = 0.01 gives b = -log((1 - pi) / pi).
    np.testing.assert_allclose(bias, [-np.log(99)], rtol=1e-6)
    np.testing.assert_allclose(single(np.ones((1, 5))), [[0.01]], rtol=1e-5)
    several = models.mlp((5,), 2, hidden=(), classifier_activation="sigmoid")
    several.get_layer("predictions").kernel.assign(np.zeros((5, 2)))
    initialize.output_bias_prior(several, [50, 90], examples=100)
    np.testing.assert_allclose(several(np.ones((1, 5))), [[0.5, 0.9]], rtol=1e-5)


def test_output_bias_refuses_counts_that_do_not_fit():
    model = models.mlp((5,), 3)
    for counts, message in (
        ([1, 2], "3 counts"),
        ([[1, 2, 3]], "3 counts"),
        ([1, 2, 0], "every class to have some"),
        ([1, 2, -3], "every class to have some"),
    ):
        with pytest.raises(ValueError, match=message):
            initialize.output_bias_prior(model, counts)
    with pytest.raises(ValueError, match="and not all"):
        initialize.output_bias_prior(model, [1, 2, 9], examples=9)
    assert not np.asarray(model.get_layer("predictions").bias).any()
    without = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, use_bias=False, name="last")])
    with pytest.raises(ValueError, match="'last'. Make that layer with use_bias=True"):
        initialize.output_bias_prior(without, [1, 2, 3])
    with pytest.raises(ValueError, match=r"\(negatives, positives\)"):
        initialize.output_bias_prior(models.mlp((5,), 1, classifier_activation=None), [5])


# ---------------------------------------------------------------- compare


def test_compare_shows_what_the_lectures_show(pixels):
    def build(activation):
        return lambda initializer: models.mlp(
            (8, 8, 1), 10, hidden=(200,) * 8, activation=activation, initializer=initializer
        )

    tanh = initialize.compare(build("tanh"), initialize.COMMON_SCHEMES, pixels)
    relu = initialize.compare(build("relu"), initialize.COMMON_SCHEMES, pixels)
    stds = {
        (name, title): [layer.std for layer in layers]
        for name, result in (("tanh", tanh), ("relu", relu))
        for title, layers in result.items()
    }
    assert all(len(layers) == 8 for layers in stds.values())
    assert stds["tanh", "too small"][-1] < 1e-4 and stds["relu", "too small"][-1] < 1e-5
    assert stds["tanh", "too large"][-1] > 0.9 and stds["relu", "too large"][-1] > 1e4
    assert 0.2 < stds["tanh", "Xavier"][-1] < 0.8
    # With ReLU, Xavier halves the second moment a layer; He keeps it.
    assert stds["relu", "Xavier"][-1] < 0.3 * stds["relu", "Xavier"][0]
    assert 0.4 < stds["relu", "He"][-1] / stds["relu", "He"][0] < 2.5
    # A rectified unit normal has standard deviation sqrt(1/2 - 1/(2 pi)).
    assert stds["relu", "LSUV"][-1] == pytest.approx(np.sqrt(0.5 - 0.5 / np.pi), rel=0.15)
    for layer in [*tanh["He"], *relu["He"]]:
        assert layer.counts.sum() == 400 * 200
        assert layer.edges[0] <= layer.mean <= layer.edges[-1]
    assert 0.3 < relu["He"][-1].zeros < 0.7 and tanh["He"][-1].zeros == 0


def test_compare_takes_names_and_finds_activations_inside_layers(pixels):
    def build(initializer):
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=initializer, name="conv"),
                keras.layers.LeakyReLU(name="leaky"),
                keras.layers.Flatten(),
                keras.layers.Dense(3, activation="softmax", kernel_initializer=initializer),
            ]
        )

    result = initialize.compare(build, ["he_normal", "zeros"], pixels, bins=7)
    assert list(result) == ["he_normal", "zeros"]
    assert [layer.layer.split("/")[-1] for layer in result["zeros"]] == ["conv", "leaky"]
    assert result["zeros"][0].zeros == 1 and len(result["he_normal"][1].counts) == 7


def test_compare_gives_every_layer_weights_of_its_own(pixels):
    built = []

    def build(initializer):
        layers = [keras.layers.Dense(64, activation="relu", kernel_initializer=initializer) for _ in range(2)]
        built.append(
            keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), *layers, keras.layers.Dense(2)])
        )
        return built[-1]

    initialize.compare(build, {"normal": keras.initializers.RandomNormal(stddev=0.1)}, pixels)
    assert not np.array_equal(built[0].layers[1].kernel, built[0].layers[2].kernel)


def test_compare_refuses_models_without_hidden_activations(pixels):
    with pytest.raises(ValueError, match="hidden activations"):
        initialize.compare(lambda initializer: models.mlp((8, 8, 1), 3, hidden=()), ["zeros"], pixels)
    with pytest.raises(ValueError, match="at least two examples"):
        initialize.compare(lambda initializer: None, ["zeros"], pixels[:1])


@pytest.mark.parametrize("numbers", [("3", 2), (3.5, 2), (3, 1), (True, 2)])
def test_fixup_asks_for_whole_numbers(numbers):
    with pytest.raises(ValueError, match="whole numbers, branches >= 1 and layers >= 2. Received branches="):
        initialize.Fixup(*numbers)
