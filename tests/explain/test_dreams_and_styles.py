"""Dreams, inversions, textures and styles on a small net: the losses the papers name go where they should."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.synthesis.deep_dream import Windows
from recipes.explain.synthesis.texture import gram_matrix
from recipes.explain.synthesis.transfer_style import with_luminance


@pytest.fixture(scope="module")
def backbone():
    """Random features of three depths, for images of any size."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    for number, filters in enumerate((12, 16, 24)):
        x = keras.layers.Conv2D(
            filters, 3, padding="same", kernel_initializer="he_normal", name=f"conv{number}"
        )(x)
        x = keras.layers.LeakyReLU(name=f"relu{number}")(x)
        x = keras.layers.AveragePooling2D(2, name=f"pool{number}")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module")
def photo():
    """A smooth color image of 24 x 32 pixels with a bright square in it."""
    rows, columns = np.mgrid[:24, :32] / 24
    image = np.stack([100 + 80 * np.sin(5 * rows), 120 + 60 * np.cos(4 * columns), 90 + 50 * rows], -1)
    image[6:14, 8:18] = (230, 200, 40)
    return image.astype("float32")


def test_deep_dream_raises_the_activation_octave_by_octave(backbone, photo):
    before = [weights.copy() for weights in backbone.get_weights()]
    dream, scores = explain.deep_dream(
        backbone, photo, "conv2", octaves=2, steps=8, jitter=2, return_scores=True
    )
    assert dream.shape == photo.shape and 0 <= dream.min() and dream.max() <= 255
    for octave in scores[:, 0].reshape(2, 8):
        assert np.corrcoef(octave, np.arange(8))[0, 1] > 0.9 and octave[-1] > octave[0]
    features = [np.square(explain.activations(backbone, x[None], "conv2")).mean() for x in (photo, dream)]
    assert features[1] > 2 * features[0]
    np.testing.assert_array_equal(
        dream, explain.deep_dream(backbone, photo, "conv2", octaves=2, steps=8, jitter=2)
    )
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_one_dream_step_follows_the_gradient_that_is_set_to_the_activation(backbone, photo):
    start = 60 + photo / 2  # away from the clipped borders
    dream = explain.deep_dream(backbone, start, "conv1", octaves=1, steps=1, jitter=0, learning_rate=0.01)
    inner = keras.Model(backbone.inputs[0], backbone.get_layer("conv1").output)
    with tf.GradientTape() as tape:
        x = tf.constant(start[None])
        tape.watch(x)
        activation = inner(x)
    gradient = tape.gradient(activation, x, output_gradients=activation)[0].numpy()
    expected = start + 127.5 * 0.01 * gradient / np.sqrt(np.mean(gradient**2))
    np.testing.assert_allclose(dream, expected, atol=1e-2)


def test_windows_show_every_pixel_and_only_pixels_of_the_image():
    image = tf.reshape(tf.range(7 * 10, dtype="float32"), (1, 7, 10, 1))
    seen = Windows((4, 4), 0)(image, tf.constant([0, 1], "int32")).numpy()
    assert seen.shape == (6, 4, 4, 1) and set(seen.ravel()) == set(range(70))
    # A window larger than the image repeats it.
    small = Windows((9, 9), 0)(image[:, :3, :4], tf.constant([0, 1], "int32")).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(small[:3], small[3:6])
    np.testing.assert_array_equal(small[:, :4], small[:, 4:8])


def test_dreams_of_any_size_fit_a_network_of_fixed_size(photo):
    keras.utils.set_random_seed(0)
    fixed = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 5, name="conv")])
    dream, scores = explain.deep_dream(fixed, photo[None], "conv", octaves=2, steps=3, return_scores=True)
    assert dream.shape == (1, 24, 32, 3) and scores.shape == (6, 1) and scores[2] > scores[0]
    with pytest.raises(ValueError, match="tile to be the size"):
        explain.deep_dream(fixed, photo, "conv", tile=8)


def test_an_early_layer_gives_the_image_back_better_than_a_late_one(backbone, photo):
    errors = [
        np.square(
            explain.invert_features(backbone, photo, layer, steps=150, total_variation=0.0) - photo
        ).mean()
        for layer in ("conv0", "pool2")
    ]
    assert errors[0] < 0.2 * errors[1]


def test_inversions_first_loss_is_the_papers(backbone, photo):
    _, scores = explain.invert_features(
        backbone,
        photo,
        "conv1",
        steps=1,
        parameterization="pixels",
        total_variation=0.3,
        alpha_norm=0.2,
        return_scores=True,
    )
    start = np.random.default_rng([0, 0]).normal(0, 0.01, photo.shape)
    wanted, found = explain.activations(backbone, np.stack([photo, 127.5 * (start + 1)]), "conv1").astype(
        "float64"
    )
    variation = np.square(np.diff(start, axis=0)).mean() + np.square(np.diff(start, axis=1)).mean()
    loss = (
        np.square(found - wanted).sum() / np.square(wanted).sum() + 0.3 * variation + 0.2 * np.mean(start**6)
    )
    np.testing.assert_allclose(scores[0, 0], -loss, rtol=1e-4)


def test_textures_gram_error_falls_a_hundredfold(backbone, photo):
    texture, scores = explain.texture(
        backbone, photo, layers=["conv0", "conv1"], size=(24, 24), steps=250, return_scores=True
    )
    assert texture.shape == (24, 24, 3)
    assert scores[-1, 0] > scores[0, 0] / 100  # minus the error
    grams = [
        np.einsum("hwc,hwd->cd", maps, maps) / maps[..., 0].size
        for maps in (explain.activations(backbone, x[None], "conv1")[0] for x in (texture, photo))
    ]
    assert np.square(grams[0] - grams[1]).sum() < 0.05 * np.square(grams[1]).sum()


def test_gram_matrix_is_the_mean_product_of_channels():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    expected = np.einsum("nhwc,nhwd->ncd", maps, maps) / 15
    np.testing.assert_allclose(gram_matrix(maps), expected, rtol=1e-4, atol=1e-6)
    first = gram_matrix(np.moveaxis(maps, -1, 1), channels_first=True)
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-6)


def test_style_transfer_trades_content_for_style(backbone, photo):
    style = np.random.default_rng(0).uniform(0, 255, (20, 30, 3)).astype("float32")
    layers = {"content_layer": "conv1", "style_layers": ["conv0", "conv1"]}

    def distances(image):
        wanted, found = explain.activations(backbone, np.stack([photo, image]), "conv1")
        content = np.square(found - wanted).sum() / np.square(wanted).sum()
        grams = [
            gram_matrix(explain.activations(backbone, x[None], "conv0"))[0].numpy() for x in (image, style)
        ]
        return content, np.square(grams[0] - grams[1]).sum() / np.square(grams[1]).sum()

    options = {**layers, "steps": 60, "style_size": 20, "total_variation": 0.0}
    light = distances(explain.transfer_style(backbone, photo, style, style_weight=0.1, **options))
    made, scores = explain.transfer_style(
        backbone, photo, style, style_weight=100, return_scores=True, **options
    )
    heavy = distances(made)
    assert made.shape == photo.shape and scores[-1] > scores[0]
    assert heavy[0] > 2 * light[0] and heavy[1] < 0.5 * light[1]
    kept = explain.transfer_style(
        backbone, photo, [style, photo], style_weights=[3, 1], keep_color=True, **options
    )
    assert (
        np.corrcoef(
            kept[..., 0].ravel() - kept[..., 2].ravel(), photo[..., 0].ravel() - photo[..., 2].ravel()
        )[0, 1]
        > 0.9
    )


def test_luminance_of_one_and_colors_of_the_other():
    colors, gray = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3))
    mixed = with_luminance(colors, gray)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(mixed @ weights, gray @ weights, atol=1e-6)
    differences = mixed - colors  # the same in all three channels
    np.testing.assert_allclose(differences, differences[..., :1] + np.zeros(3), atol=0.3)


def test_sizes_that_differ_are_resized_and_said(photo):
    keras.utils.set_random_seed(0)
    fixed = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3, name="a"), keras.layers.Conv2D(8, 3, name="b")]
    )
    layers = {"content_layer": "b", "style_layers": "a", "steps": 1}
    with pytest.warns(UserWarning, match="content images of 16 x 16 pixels. Received 24 x 32"):
        made = explain.transfer_style(fixed, photo, photo[:16, :16], **layers)
    assert made.shape == (16, 16, 3)
    with pytest.raises(ValueError, match="takes any size"):
        explain.transfer_style(fixed, photo[:16, :16], photo, style_size=20, **layers)
    with pytest.raises(ValueError, match="VGG, ResNet and EfficientNet-Lite0"):
        explain.transfer_style(fixed, photo[:16, :16], photo[:16, :16])


def test_fast_style_learns_saves_and_repeats_itself(backbone, photo, tmp_path):
    style = np.random.default_rng(0).uniform(0, 255, (24, 24, 3)).astype("float32")
    fast = explain.FastStyle(
        backbone, style, content_layer="conv1", style_layers=["conv0", "conv1"], filters=4, blocks=1
    )
    photos = np.stack([photo, photo[::-1], photo[:, ::-1], photo[::-1, ::-1]])
    before = [weights.copy() for weights in backbone.get_weights()]
    history = fast.fit(photos, epochs=12, batch_size=2, learning_rate=1e-2, verbose=0).history
    assert history["style"][-1] < 0.7 * history["style"][0]
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    painted = fast(photos[:2])
    assert painted.shape == (2, 24, 32, 3) and 0 <= painted.min() and painted.max() <= 255
    fast.network.save(tmp_path / "style.keras")
    loaded = keras.models.load_model(tmp_path / "style.keras")
    np.testing.assert_allclose(loaded(photos[:2]), painted, atol=1e-2)


def test_facets_start_from_the_means_of_clusters(trained_cnn):
    from recipes.explain.synthesis.facets import cluster_means

    model, images, labels = trained_cnn
    two = np.concatenate([np.zeros((6, 4, 4, 1)), np.full((9, 4, 4, 1), 200.0)])
    values = two.reshape(15, -1) + np.random.default_rng(0).normal(size=(15, 16))
    means = cluster_means(two, values, 2, nearest=5, dimensions=3, seed=0)
    np.testing.assert_allclose(means[:, 0, 0, 0], [200, 0])
    made = explain.facets(model, 3, images[labels == 3], count=3, steps=20)
    assert made.shape == (3, 8, 8, 1) and np.abs(made[0] - made[1]).mean() > 1
    assert (model.predict(made, verbose=0).argmax(1) == 3).all()
    with pytest.raises(ValueError, match="at least count=4 images"):
        explain.facets(model, 3, images[:2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: explain.deep_dream(m, x, "conv9"), "Candidates"),
        (lambda m, x: explain.deep_dream(m, x * 2, "conv1"), "within value_range"),
        (lambda m, x: explain.deep_dream(m, x, "conv1", octaves=9), "Give fewer octaves"),
        (lambda m, x: explain.invert_features(m, x, "conv1", parameterization="x"), "'fourier' or 'pixels'"),
        (lambda m, x: explain.texture(m, x, layers=m.layers[-1].name), "layers that return maps"),
        (
            lambda m, x: explain.texture(m, x, layers="conv0", layer_weights=[1, 2]),
            "layer_weights to be 1 numbers",
        ),
    ],
)
def test_they_say_what_to_type(backbone, photo, call, message):
    with pytest.raises(ValueError, match=message):
        call(backbone, photo)
