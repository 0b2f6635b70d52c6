"""Directions, sums of targets, penalties and views of images that are made, against formulas of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from recipes import explain
from recipes.explain.synthesis.maximize import likeness
from recipes.explain.synthesis.parameterization import COLOR_MATRIX, Fourier
from recipes.explain.synthesis.random_views import Views

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos(trained_cnn):
    return trained_cnn[1][:3].astype("float32")


def slope_of(score, photos):
    with tf.GradientTape() as tape:
        x = tf.constant(photos)
        tape.watch(x)
        value = score(x)
    return tape.gradient(value, x).numpy()


@pytest.mark.parametrize("power", [0, 2])
def test_a_direction_scores_the_dot_product_times_a_power_of_the_cosine(trained_cnn, photos, power):
    model, _, _ = trained_cnn
    layer = keras.Model(model.inputs[0], model.get_layer("conv2").output)
    vector = RNG.normal(size=layer.output.shape[-1]).astype("float32")

    def score(x):
        maps = layer(x)
        along = tf.einsum("nhwc,c->nhw", maps, vector)
        cosine = along / (tf.norm(maps, axis=-1) + 1e-9) / np.linalg.norm(vector)
        return tf.reduce_mean(along * tf.maximum(cosine, 0.1) ** power, (1, 2))

    target = explain.Direction("conv2", vector, cosine_power=power)
    found = explain.saliency(model, photos, target, reduce=None)
    np.testing.assert_allclose(found, slope_of(score, photos), rtol=1e-3, atol=1e-6)


def test_a_direction_at_a_position_is_the_neuron_it_names(trained_cnn, photos):
    model, _, _ = trained_cnn
    vector = np.eye(model.get_layer("conv2").output.shape[-1])[4]
    found = explain.saliency(model, photos, explain.Direction("conv2", vector, position=(1, 2)), reduce=None)
    expected = explain.saliency(model, photos, explain.Unit("conv2", 4, (1, 2)), reduce=None)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_gradient_of_a_sum_is_the_sum_of_gradients(trained_cnn, photos):
    model, _, _ = trained_cnn
    unit, neuron = explain.Unit("conv2", 5), explain.Unit("conv1", 3, (2, 2))
    found = explain.saliency(model, photos, 2 * (unit - 3 * explain.Class(7)) + neuron, reduce=None)
    single = [explain.saliency(model, photos, one, reduce=None) for one in (unit, 7, neuron)]
    expected = 2 * single[0] - 6 * single[1] + single[2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_above_a_sum_of_units_are_not_run(trained_cnn, photos):
    model, _, _ = trained_cnn
    made, scores = explain.class_image(
        model, sum([explain.Unit("conv1", 1), explain.Unit("conv1", 2)]), steps=8, return_scores=True
    )
    assert made.shape == (8, 8, 1) and scores[-1, 0] > scores[0, 0]
    assert explain.grad_cam(model, photos, np.float32(2) * explain.Class(1)).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (explain.Direction("conv2", [1.0, 2.0]), "as many as layer 'conv2' has channels"),
        (explain.Direction("conv2", np.zeros(32)), "not all 0"),
        (explain.Direction("conv9", np.ones(32)), "Candidates"),
        (explain.Class(10) + explain.Class(1), "class in 0 ... 9"),
        (explain.Class(-1) + explain.Class(1), "from 0"),
        (explain.Unit("conv2", 40) + explain.Class(1), "channel in 0 ... 31"),
    ],
)
def test_targets_that_fit_no_layer_are_refused(trained_cnn, photos, target, message):
    with pytest.raises(ValueError, match=message):
        explain.saliency(trained_cnn[0], photos, target)


def test_likeness_is_the_mean_cosine_with_the_others_of_a_target():
    grams, rows = RNG.normal(size=(4, 3, 3)).astype("float32"), np.array([[1], [1], [1], [2]])
    flat = grams.reshape(4, 9) / np.linalg.norm(grams.reshape(4, 9), axis=1, keepdims=True)
    expected = [np.mean([flat[i] @ flat[j] for j in range(3) if j != i]) for i in range(3)] + [0]
    np.testing.assert_allclose(likeness(tf.constant(grams), tf.constant(rows)), expected, rtol=1e-5)


def test_diversity_makes_images_of_one_class_less_alike(trained_cnn):
    model, _, _ = trained_cnn

    def alike(diversity):
        made = explain.class_image(model, [3] * 3, diversity=diversity, steps=64, seed=1)
        maps = explain.activations(model, made, "conv2")
        grams = np.einsum("nhwc,nhwd->ncd", maps, maps)
        return likeness(tf.constant(grams), tf.zeros((3, 1), "int32")).numpy().mean()

    assert alike(20.0) < alike(0.0) - 0.02
    with pytest.raises(ValueError, match="several images"):
        explain.class_image(model, 3, diversity=1.0, steps=1)


def test_penalties_are_taken_off_the_score(trained_cnn, photos):
    model, _, _ = trained_cnn
    options = {"parameterization": "pixels", "steps": 1, "return_scores": True, "start": photos[0]}
    first = [
        explain.class_image(model, 5, l2=0.0, **penalty, **options)[1][0, 0]
        for penalty in ({}, {"l1": 2.0}, {"total_variation": 3.0})
    ]
    x = photos[0].astype("float64") / 127.5 - 1
    assert first[0] - first[1] == pytest.approx(2 * np.abs(x).mean(), rel=1e-3)
    variation = np.square(np.diff(x, axis=0)).mean() + np.square(np.diff(x, axis=1)).mean()
    assert first[0] - first[2] == pytest.approx(3 * variation, rel=1e-3)


@pytest.mark.parametrize("pad", [0, 5])
def test_turned_views_are_scipys_linear_sampling(pad):
    images, seed = RNG.uniform(size=(2, 14, 11, 3)).astype("float32"), tf.constant([0, 7])
    seen = Views(jitter=2, scale=0.2, rotate=25, pad=pad, second_jitter=1)(tf.constant(images), seed)
    u = tf.random.stateless_uniform([6], seed, -1, 1).numpy().astype("float64")
    zoom = [(1 + 0.2 * u[2]) * (side / (side + 2 * (pad - 3)) if pad else 1) for side in (14, 11)]
    angle, middle = np.radians(25 * u[3]), np.array([6.5, 5.0])
    offsets = [
        (np.arange(side) - m + 1 * u[4 + k]) / zoom[k] for k, (side, m) in enumerate(((14, 6.5), (11, 5.0)))
    ]
    y, x = np.meshgrid(*offsets, indexing="ij")
    places = [
        np.cos(angle) * y - np.sin(angle) * x + middle[0] + 2 * u[0],
        np.sin(angle) * y + np.cos(angle) * x + middle[1] + 2 * u[1],
    ]
    mode = "grid-constant" if pad else "grid-wrap"
    for number in range(2):
        for channel in range(3):
            expected = map_coordinates(images[number, ..., channel], places, order=1, mode=mode, cval=0.5)
            np.testing.assert_allclose(seen[number, ..., channel], expected, atol=1e-4)


def test_padding_without_a_turn_is_the_same_view():
    images, seed = tf.constant(RNG.uniform(size=(1, 9, 9, 2)), "float32"), tf.constant([0, 3])
    straight = Views(1, 0.1, pad=3, second_jitter=1)(images, seed)
    turned = Views(1, 0.1, rotate=1e-6, pad=3, second_jitter=1)(images, seed)
    np.testing.assert_allclose(straight, turned, atol=1e-5)


def test_colors_are_decorrelated_as_lucid_does():
    """The matrix that lucid publishes, rounded to two digits there; an axis may point either way."""
    published = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    published /= np.linalg.norm(published, axis=0).max()
    signs = np.sign((published * COLOR_MATRIX).sum(0))
    np.testing.assert_allclose(COLOR_MATRIX * signs, published, atol=0.03)


def test_the_learning_rate_falls_along_half_a_cosine(trained_cnn, photos):
    model, _, _ = trained_cnn
    options = {"parameterization": "pixels", "l2": 0.0, "learning_rate": 1e-3, "start": 60 + photos[0] / 2}
    one, two, annealed = (
        explain.class_image(model, 5, steps=steps, anneal=anneal, **options)
        for steps, anneal in ((1, False), (2, False), (2, True))
    )
    # The gradient is divided by its root mean square, so the second step is half as long: (1 + cos(pi / 2)) / 2.
    np.testing.assert_allclose(annealed - one, (two - one) / 2, atol=1e-4)


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_waves_are_weighted_by_a_power_of_their_frequency(power):
    """Whatever the power, a wave of four periods across the image weighs the same."""
    parameters = np.zeros((3, 1, 32, 17, 2), "float32")
    for row, periods in enumerate((2, 4, 8)):
        parameters[row, 0, 0, periods, 0] = 0.01
    heights = Fourier((32, 32, 1), power).decode(tf.constant(parameters)).numpy().std((1, 2, 3))
    np.testing.assert_allclose(heights / heights[1], [2**power, 1, 2**-power], rtol=0.01)
    plain = Fourier((32, 32, 1)).decode(tf.constant(parameters)).numpy().std((1, 2, 3))
    np.testing.assert_allclose(heights[1], plain[1], rtol=1e-4)


def test_low_frequencies_come_first():
    way, waves = (
        Fourier((16, 12, 1)),
        np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.rfftfreq(12), indexing="ij")),
    )
    for progress, limit in ((0.0, 2.0), (0.3, (2 * 16 * waves.max()) ** 0.5), (0.6, np.inf), (1.0, np.inf)):
        found = way.open(2.0, tf.constant(progress))[..., 0].numpy()
        np.testing.assert_array_equal(found, 16 * waves <= 1.001 * limit)


def test_an_image_that_begins_coarse_has_no_fine_waves_at_first(trained_cnn):
    model, _, _ = trained_cnn
    options = {"jitter": 0, "scale": 0.0, "learning_rate": 1.0, "anneal": False}
    made = explain.class_image(model, 3, steps=1, coarse=1.0, start=np.full((8, 8, 1), 127.5), **options)
    spectrum = np.abs(np.fft.fft2(np.log(made[..., 0] / (255 - made[..., 0]))))
    assert spectrum[0, 1] > 1 and spectrum[4, 4] < 1e-2
