import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.preprocess import ImageStatistics, Standardize, Whitening
from recipes.preprocess.whitening import principal_axes

random = np.random.default_rng(0)
# Neighbors and channels are correlated, as in photos, and the second half is darker than the first.
NOISE = random.normal(size=(400, 5, 4, 3))
SMOOTH = 120 + 20 * (NOISE + np.roll(NOISE, 1, 1) + np.roll(NOISE, 1, 2) + 2 * NOISE[..., :1])
IMAGES = np.clip(np.round(SMOOTH), 0, 255).astype("uint8")
TEST = IMAGES[:50] // 2


def expected_standard(by, train, images):
    train, images = train.astype(float), images.astype(float)
    if by == "mean_image":
        return images - train.mean(0)
    centered = images - train.mean((0, 1, 2))
    return centered / train.std((0, 1, 2)) if by == "channel" else centered


@pytest.mark.parametrize("by", ["channel", "channel_mean", "mean_image"])
def test_standardize_uses_the_training_sets_numbers_on_other_images(by):
    layer = Standardize(by)
    layer.adapt(tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(400))).batch(64))
    outputs = layer(TEST)
    np.testing.assert_allclose(outputs, expected_standard(by, IMAGES, TEST), atol=2e-5)
    np.testing.assert_allclose(layer.inverse(outputs), TEST, atol=1e-4)
    assert outputs.dtype == "float32" and not layer.trainable_weights


def test_standardize_by_channel_agrees_with_keras_normalization():
    ours, keras_layer = Standardize(), keras.layers.Normalization(axis=-1)
    ours.adapt(IMAGES)
    keras_layer.adapt(IMAGES.astype("float32"))
    np.testing.assert_allclose(ours(TEST), keras_layer(TEST), atol=1e-4)


def test_standardize_takes_statistics_and_images_of_several_sizes():
    sizes = tf.data.Dataset.from_generator(
        lambda: [IMAGES[0], IMAGES[1, :3]], output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    )
    layer, again = Standardize(), Standardize()
    layer.adapt(sizes)
    again.adapt(ImageStatistics.fit(sizes))
    np.testing.assert_array_equal(layer(TEST), again(TEST))
    with pytest.raises(ValueError, match="images of one size"):
        Standardize("mean_image").adapt(sizes)


@pytest.mark.parametrize("value, dtype", [(7, "uint8"), (0, "uint8"), (0.1, "float32"), (0.1, "float64")])
def test_a_channel_that_never_changes_is_centered_and_not_divided_by_zero(value, dtype):
    layer = Standardize()
    layer.adapt(np.full((4, 7, 3, 1), value, dtype))
    np.testing.assert_allclose(
        layer(np.full((1, 2, 2, 1), value + 2.0)), np.full((1, 2, 2, 1), 2.0), rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitened_training_images_have_identity_covariance(kind):
    layer = Whitening(kind, epsilon=1e-9)
    layer.adapt(IMAGES)
    rows = np.array(layer(IMAGES)).reshape(400, 60)
    np.testing.assert_allclose(rows.mean(0), np.zeros(60), atol=1e-4)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(60), atol=2e-4)


def test_zca_is_the_inverse_square_root_of_the_covariance():
    # Newton's iteration (Denman and Beavers 1976) for the root of a matrix: no eigenvectors involved.
    epsilon = 0.01
    layer = Whitening("zca", epsilon)
    layer.adapt(tf.data.Dataset.from_tensor_slices(IMAGES))
    rows = IMAGES.reshape(400, 60).astype(float)
    covariance = np.cov(rows.T, bias=True)
    covariance += epsilon * np.trace(covariance) / 60 * np.eye(60)
    root, inverse_root = covariance, np.eye(60)
    for _ in range(30):
        root, inverse_root = (
            (root + np.linalg.inv(inverse_root)) / 2,
            (inverse_root + np.linalg.inv(root)) / 2,
        )
    expected = (TEST.reshape(50, 60) - rows.mean(0)) @ inverse_root
    np.testing.assert_allclose(layer(TEST), expected.reshape(50, 5, 4, 3), atol=1e-3)


def test_zca_moves_whitened_images_less_than_pca():
    """Of all rotations of whitened data, ZCA stays closest to the data (Kessy et al. 2018, section 3)."""
    scaled = (IMAGES - IMAGES.mean(0)) / IMAGES.std()
    distance = {}
    for kind in ("zca", "pca"):
        layer = Whitening(kind)
        layer.adapt(IMAGES)
        distance[kind] = np.mean((np.array(layer(IMAGES)).reshape(400, -1) - scaled.reshape(400, -1)) ** 2)
    assert distance["zca"] < 0.5 * distance["pca"]


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_inverse_gives_the_images_back(kind):
    layer = Whitening(kind)
    layer.adapt(IMAGES)
    np.testing.assert_allclose(layer.inverse(layer(TEST)), TEST, atol=0.05)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_components_keep_the_axes_of_largest_variance(kind):
    layer = Whitening(kind, components=7)
    layer.adapt(IMAGES)
    assert layer(TEST).shape == ((50, 5, 4, 3) if kind == "zca" else (50, 7))
    rows = IMAGES.reshape(400, 60).astype(float)
    lost = rows - np.array(layer.inverse(layer(IMAGES))).reshape(400, 60)
    # Eckart and Young: no projection on 7 axes loses less than the other singular values.
    best = (np.linalg.svd(rows - rows.mean(0), compute_uv=False)[7:] ** 2).sum()
    np.testing.assert_allclose((lost**2).sum(), best, rtol=1e-3)


def test_whitening_does_not_depend_on_the_value_range():
    layer, scaled = Whitening(epsilon=0.1), Whitening(epsilon=0.1)
    layer.adapt(IMAGES)
    scaled.adapt(IMAGES / 255)
    np.testing.assert_allclose(layer(TEST), scaled(TEST / 255), atol=1e-4)


def test_a_border_that_is_always_black_stays_finite_and_near_zero():
    images = IMAGES.copy()
    images[:, 0] = 0
    layer = Whitening()
    layer.adapt(images)
    np.testing.assert_allclose(np.array(layer(images))[:, 0], 0, atol=1e-3)


def layers():
    return [
        Standardize("channel"),
        Standardize("mean_image"),
        Whitening("zca", 0.1),
        Whitening("pca", components=5),
    ]


@pytest.mark.parametrize("layer", layers(), ids=["channel", "mean_image", "zca", "pca"])
def test_a_saved_model_carries_the_numbers(layer, tmp_path):
    layer.adapt(IMAGES)
    model = keras.Sequential([keras.Input((5, 4, 3), dtype="uint8"), layer, keras.layers.Flatten()])
    expected = model.predict(TEST, verbose=0)
    np.testing.assert_allclose(expected, np.reshape(layer(TEST), (50, -1)), rtol=1e-5, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(TEST, verbose=0), expected)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict(TEST, verbose=0), expected)


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.standardize = Standardize()

    def call(self, inputs):
        return self.standardize(inputs)


def test_a_subclassed_model_loads_as_well(tmp_path):
    model = Subclassed()
    model.standardize.adapt(IMAGES)
    expected = model(TEST)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(TEST), expected)


@pytest.mark.parametrize("policy, tolerance", [("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2)])
def test_under_mixed_precision_the_arithmetic_stays_in_float32(policy, tolerance):
    for layer in (Standardize(dtype=policy), Whitening(epsilon=0.1, dtype=policy)):
        layer.adapt(IMAGES)
        exact = type(layer)(**({"epsilon": 0.1} if isinstance(layer, Whitening) else {}))
        exact.adapt(IMAGES)
        outputs = layer(TEST)
        assert outputs.dtype == layer.compute_dtype
        np.testing.assert_allclose(np.array(outputs, float), exact(TEST), rtol=tolerance, atol=tolerance)


def test_training_with_a_layer_that_was_not_adapted_says_so():
    model = keras.Sequential(
        [keras.Input((5, 4, 3)), Standardize(), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"layer\.adapt\(train\)"):
        model.fit(IMAGES[:8], np.zeros(8), verbose=0)
    model.layers[0].adapt(IMAGES)
    before = model.layers[0].get_weights()
    model.fit(IMAGES[:8], np.zeros(8), verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights(), before)


def test_under_two_replicas_every_replica_has_the_numbers(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((5, 4, 3)), Standardize()])
        model.layers[0].adapt(IMAGES)
    np.testing.assert_allclose(
        model.predict(TEST, batch_size=10, verbose=0), expected_standard("channel", IMAGES, TEST), atol=2e-5
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Standardize(by="pixel"), "by='pixel'"),
        (lambda: Standardize()(TEST), r"layer\.adapt\(train\)"),
        (lambda: Standardize()(keras.Input((5, 4, None))), "known channels"),
        (lambda: Standardize("mean_image")(keras.Input((None, None, 3))), "known height, width and channels"),
        (lambda: Whitening("cholesky"), "'zca' or 'pca'"),
        (lambda: Whitening(epsilon=0), "epsilon > 0"),
        (lambda: Whitening(components=0), "components >= 1"),
        (
            lambda: Whitening(components=61).adapt(IMAGES),
            "at most as many components as an image has values, 60",
        ),
        (lambda: Whitening().adapt(np.zeros((1, 224, 224, 3))), "at most 16384 values"),
        (lambda: Whitening().adapt(IMAGES[:1]), "1 image"),
        (lambda: Whitening().adapt(np.full((3, 2, 2, 1), np.nan)), "NaN or infinity"),
        (lambda: Whitening()(TEST), r"layer\.adapt\(train\)"),
        (lambda: Whitening()(keras.Input((None, 4, 3))), "images of known shape"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: Standardize("mean_image"), Whitening])
def test_adapting_to_images_of_another_shape_is_refused(make):
    layer = make()
    layer(keras.Input((5, 4, 3)))
    with pytest.raises(ValueError, match=r"\(5, 4, 3\)"):
        layer.adapt(IMAGES[:, :3])


def test_whitening_warns_of_fewer_images_than_values():
    images = np.random.default_rng(0).normal(size=(20, 6, 6, 3)).astype("float32")
    with pytest.warns(UserWarning, match="more images than the axes it keeps, 108. Received 20 images"):
        Whitening().adapt(images)
    Whitening(epsilon=0.1).adapt(images)
    Whitening(components=8).adapt(images)


def test_channels_first_is_asked_about():
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 12), dtype=np.uint8)
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    for given in (images, data):
        for adapt in (
            ImageStatistics.fit,
            Standardize().adapt,
            Whitening().adapt,
        ):
            with pytest.raises(ValueError, match="looks like channels first"):
                adapt(given)
    assert ImageStatistics.fit(images, channels=12).channel_mean.shape == (12,)
    with pytest.raises(ValueError, match="expects images of 3 channels"):
        ImageStatistics.fit(images, channels=3)


def test_principal_axes_are_those_of_the_singular_values():
    rows = np.random.default_rng(0).normal(size=(50, 4)) * [4, 3, 2, 1]
    rows -= rows.mean(0)
    axes, std = principal_axes(rows.T @ rows / 50, 0.01)
    singular, right = np.linalg.svd(rows, full_matrices=False)[1:]
    np.testing.assert_allclose(std**2 - 0.01 * (singular**2 / 50).mean(), singular**2 / 50, rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(axes * right.T, 0)), 1, rtol=1e-9)
