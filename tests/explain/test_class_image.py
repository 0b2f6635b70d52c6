"""Images made for classes and units: they raise what they should, repeat, and leave the model alone."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.common.blur import gaussian_blur
from recipes.explain.synthesis.invert_features import total_variation_of
from recipes.explain.synthesis.parameterization import COLOR_MATRIX, Fourier, Pixels
from recipes.explain.synthesis.random_views import Views
from recipes.explain.synthesis.texture import gram_matrix


@pytest.fixture(scope="module")
def logits(trained_cnn):
    model, _, _ = trained_cnn
    return keras.Model(model.inputs[0], model.get_layer("logits").output)


@pytest.mark.parametrize("parameterization", ["fourier", "pixels"])
def test_class_image_scores_above_every_real_image_of_its_class(trained_cnn, logits, parameterization):
    model, images, labels = trained_cnn
    before = [weights.copy() for weights in model.get_weights()]
    made, scores = explain.class_image(
        model, [3, 7], parameterization=parameterization, steps=96, learning_rate=0.05, return_scores=True
    )
    assert made.shape == (2, 8, 8, 1) and made.dtype == np.float32 and 0 <= made.min() and made.max() <= 255
    real = logits.predict(images, verbose=0)
    reached = logits.predict(made, verbose=0)
    for row, digit in enumerate((3, 7)):
        assert reached[row, digit] > real[labels == digit, digit].max()
    assert scores.shape == (96, 2) and (scores[-1] > scores[0]).all()
    again = explain.class_image(
        model, [3, 7], parameterization=parameterization, steps=96, learning_rate=0.05
    )
    np.testing.assert_array_equal(made, again)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_first_score_is_the_papers_objective_at_the_start(trained_cnn, logits):
    model, images, _ = trained_cnn
    options = {"parameterization": "pixels", "optimizer": "gradient", "learning_rate": 1e-3, "steps": 2}
    made, scores = explain.class_image(model, 5, start=images[0], l2=0.25, return_scores=True, **options)
    centered = images[0].astype("float64") / 127.5 - 1
    expected = logits.predict(images[:1], verbose=0)[0, 5] - 0.25 * np.sum(centered**2)
    np.testing.assert_allclose(scores[0, 0], expected, rtol=1e-4)
    assert made.shape == (8, 8, 1)


def test_a_gradient_step_moves_each_image_by_its_own_gradient(trained_cnn):
    model, images, _ = trained_cnn
    # Away from the borders of the range, where pixels are clipped.
    start = 60 + images[:2].astype("float32") / 2
    made = explain.class_image(
        model,
        [1, 2],
        start=start,
        parameterization="pixels",
        optimizer="gradient",
        l2=0.0,
        steps=1,
        learning_rate=1e-2,
    )
    gradient = explain.saliency(model, start, [1, 2], reduce=None)
    # The parameter is pixel / 127.5 - 1, so both its gradient and its step count 127.5 times.
    np.testing.assert_allclose(made - start, 1e-2 * 127.5**2 * gradient, rtol=2e-3, atol=1e-3)


def test_l_bfgs_reaches_more_than_gradient_steps(trained_cnn):
    model, _, _ = trained_cnn
    options = {"parameterization": "pixels", "steps": 12, "return_scores": True}
    _, plain = explain.class_image(model, 4, optimizer="gradient", learning_rate=1e-3, **options)
    made, newton = explain.class_image(model, 4, optimizer="l-bfgs", learning_rate=1.0, **options)
    assert newton.shape == (12, 1) and newton[-1, 0] > plain[-1, 0] + 1
    assert 0 <= made.min() and made.max() <= 255


def test_yosinskis_regularizers_gray_out_small_pixels_and_blur(trained_cnn):
    model, _, _ = trained_cnn
    options = {"parameterization": "pixels", "steps": 9, "seed": 1}
    clipped = explain.class_image(model, 4, clip_pixels=0.5, **options)
    assert np.mean(np.abs(clipped - 127.5) < 1e-3) >= 0.5
    plain = explain.class_image(model, 4, **options)
    blurred = explain.class_image(model, 4, blur=1.0, blur_every=1, **options)

    def roughness(image):
        return np.abs(np.diff(image, axis=0)).mean() / np.abs(image - 127.5).mean()

    assert roughness(blurred) < 0.7 * roughness(plain)
    decayed = explain.class_image(model, 4, decay=0.5, **options)
    assert np.abs(decayed - 127.5).mean() < 0.5 * np.abs(plain - 127.5).mean()


def test_unit_image_raises_the_channel_it_names(trained_cnn):
    model, images, _ = trained_cnn
    maps = explain.activations(model, images, "conv2").mean((1, 2))
    channels = [
        int(channel) for channel in np.argsort(-maps[:2].min(0))[:2]
    ]  # two that answer to both starts
    made, scores = explain.unit_image(
        model, "conv2", channels, steps=64, learning_rate=0.05, start=images[:2], return_scores=True
    )
    reached = explain.activations(model, made, "conv2").mean((1, 2))
    for row, channel in enumerate(channels):
        assert reached[row, channel] > maps[:, channel].max()
    assert scores.shape == (64, 2)
    assert explain.unit_image(model, "logits", 3, steps=1).shape == (8, 8, 1)


def test_through_a_generator_only_its_images_come_out(trained_cnn):
    model, _, _ = trained_cnn
    generator = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(1, activation="sigmoid"),
            keras.layers.Rescaling(255),
            keras.layers.Reshape((1, 1, 1)),
        ]
        + [keras.layers.UpSampling2D(8)]
    )
    made, scores = explain.class_image(model, 1, generator=generator, steps=20, return_scores=True)
    assert made.shape == (8, 8, 1) and np.ptp(made) < 1e-3  # this generator knows only plain images
    assert scores[-1, 0] > scores[0, 0]


def test_nan_stops_the_loop_and_returns_the_last_finite_image(trained_cnn):
    model, images, _ = trained_cnn

    def breaks(outputs):  # not a number from a score of 8 on
        return outputs[:, 0] + 0 * tf.math.log(tf.nn.relu(8 - outputs[:, 0]))

    with pytest.warns(UserWarning, match="class_image expects scores and gradients to stay finite"):
        made, scores = explain.class_image(model, breaks, steps=200, learning_rate=0.05, return_scores=True)
    assert np.isfinite(made).all() and np.isnan(scores[-1, 0]) and scores[0, 0] < np.nanmax(scores) < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 11}, "a class in 0 ... 9"),
        ({"target": None}, "target=None"),
        ({"target": 1, "steps": 0}, "steps to be a whole number"),
        ({"target": 1, "learning_rate": -1.0}, "learning_rate > 0"),
        ({"target": 1, "parameterization": "wavelets"}, "'fourier' or 'pixels'"),
        ({"target": 1, "optimizer": "sgd"}, "optimizer to be one of"),
        ({"target": 1, "blur": 1.0}, "parameterization='pixels'"),
        ({"target": 1, "size": 16}, "of the size that model"),
        ({"target": 1, "start": np.full((8, 8, 1), 300.0)}, "within value_range"),
        ({"target": 1, "value_range": (1, 0)}, "low < high"),
    ],
)
def test_class_image_says_what_to_type(trained_cnn, arguments, message):
    with pytest.raises(ValueError, match=message):
        explain.class_image(trained_cnn[0], **{"steps": 1, **arguments})


def test_unit_image_lists_candidates_and_warns_of_silence(trained_cnn):
    model, _, _ = trained_cnn
    with pytest.raises(ValueError, match="Candidates: 'conv2', 'conv1'"):
        explain.unit_image(model, "conv3")
    with pytest.raises(ValueError, match="channel in 0 ... 31"):
        explain.unit_image(model, "conv2", 32, steps=1)
    white = explain.activations(model, np.full((1, 8, 8, 1), 255), "conv1").mean((0, 1, 2))
    with pytest.warns(UserWarning, match="stayed at 0"):
        explain.unit_image(
            model,
            "conv1",
            int(np.argmin(white)),
            position=(4, 4),
            start=np.full((8, 8, 1), 255),
            steps=2,
            jitter=0,
            scale=0,
        )


@pytest.mark.parametrize("shape", [(8, 10, 3), (7, 5, 1)])
@pytest.mark.parametrize("kind", [Fourier, functools.partial(Fourier, power=1.5), Pixels])
def test_parameterizations_encode_what_they_decode(shape, kind):
    images = np.random.default_rng(0).uniform(0.05, 0.95, (2, *shape)).astype("float32")
    way = kind(shape)
    np.testing.assert_allclose(way.decode(tf.constant(way.encode(images))), images, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6, 3), (5, 7, 1), (1, 1, 3)])
def test_fourier_coefficients_have_the_gradient_of_numpys_transform(shape):
    height, width, channels = shape
    random, way = np.random.default_rng(0), Fourier(shape)
    parameters = random.normal(size=(1, channels, height, width // 2 + 1, 2))
    weights = random.normal(size=(1, *shape))

    def value(parameters):
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
        scaled = parameters * np.sqrt(height * width) / 4
        scaled /= np.maximum(frequency, 1 / max(height, width))[..., None]
        planes = np.fft.irfft2(scaled[..., 0] + 1j * scaled[..., 1], (height, width))
        images = np.moveaxis(planes, 1, -1)
        images = images @ COLOR_MATRIX.T if channels == 3 else images
        return (weights / (1 + np.exp(-images))).sum()

    with tf.GradientTape() as tape:
        tensor = tf.constant(parameters, "float32")
        tape.watch(tensor)
        score = tf.reduce_sum(way.decode(tensor) * tf.constant(weights, "float32"))
    assert float(score) == pytest.approx(value(parameters), abs=1e-4)
    np.testing.assert_allclose(tape.gradient(score, tensor), differences(value, parameters), atol=1e-5)


def differences(value, point, step=1e-5):
    """The gradient by central differences."""
    found = np.empty_like(point)
    for place in np.ndindex(point.shape):
        change = np.zeros_like(point)
        change[place] = step
        found[place] = (value(point + change) - value(point - change)) / (2 * step)
    return found


def test_gram_matrices_have_the_gradient_of_their_formula():
    random = np.random.default_rng(0)
    maps, weights = (
        random.normal(size=(2, 3, 4, 3)),
        random.normal(size=(2, 3, 3)),
    )  # weights are not symmetric

    def value(maps):
        return (weights * np.einsum("nhwc,nhwd->ncd", maps, maps) / 12).sum()

    with tf.GradientTape() as tape:
        tensor = tf.constant(maps, "float32")
        tape.watch(tensor)
        score = tf.reduce_sum(gram_matrix(tensor) * tf.constant(weights, "float32"))
    assert float(score) == pytest.approx(value(maps), rel=1e-4)
    np.testing.assert_allclose(tape.gradient(score, tensor), differences(value, maps), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (1, 2, 2, 1)])
def test_total_variation_has_the_gradient_of_its_formula(shape):
    random = np.random.default_rng(0)
    images, weights = random.normal(size=shape), random.normal(size=shape[0])

    def value(images):
        down, across = np.square(np.diff(images, axis=1)), np.square(np.diff(images, axis=2))
        return (weights * (down.mean((1, 2, 3)) + across.mean((1, 2, 3)))).sum()

    with tf.GradientTape() as tape:
        tensor = tf.constant(images, "float32")
        tape.watch(tensor)
        score = tf.reduce_sum(total_variation_of(tensor) * tf.constant(weights, "float32"))
    assert float(score) == pytest.approx(value(images), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(score, tensor), differences(value, images), atol=1e-5)


def test_views_shift_by_whole_pixels_and_zoom_about_the_middle():
    images = tf.constant(np.random.default_rng(0).uniform(size=(1, 9, 9, 1)), "float32")
    seen = Views(jitter=2)(images, tf.constant([0, 3], "int32"))[0, :, :, 0].numpy()
    shifts = [np.roll(images[0, :, :, 0], (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    assert any(np.allclose(seen, shift) for shift in shifts)
    ramp = np.broadcast_to(np.arange(41.0)[:, None, None], (41, 37, 2)).astype("float32")
    zoomed = Views(0, 0.2)(tf.constant(ramp[None]), tf.constant([0, 1], "int32"))[0].numpy()
    steps = np.diff(zoomed[10:31], axis=0)  # away from where the image wraps around
    np.testing.assert_allclose(steps, steps[0, 0, 0], rtol=1e-3)
    assert 1 / 1.2 <= steps[0, 0, 0] <= 1 / 0.8 and abs(steps[0, 0, 0] - 1) > 0.01
    np.testing.assert_allclose(zoomed[20], 20, atol=1e-3)
    plain = np.full((1, 9, 9, 1), 0.3, "float32")
    np.testing.assert_allclose(
        Views(0, 0.2)(tf.constant(plain), tf.constant([0, 1], "int32")), plain, atol=1e-6
    )


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    image = np.random.default_rng(0).uniform(size=(7, 12)).astype("float32")
    for sigma in (0.7, 3.0):
        expected = gaussian_filter(image, sigma, mode="reflect", radius=max(1, int(3 * sigma + 0.5)))
        np.testing.assert_allclose(
            gaussian_blur(tf.constant(image)[None, :, :, None], sigma)[0, :, :, 0], expected, atol=1e-5
        )
