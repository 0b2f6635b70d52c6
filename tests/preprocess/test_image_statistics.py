import numpy as np
import pytest
import tensorflow as tf

from recipes import preprocess
from recipes.preprocess import ImageStatistics, image_statistics

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (70, 6, 5, 3)).astype("uint8")
IMAGES[..., 1] = IMAGES[..., 1] // 4 + IMAGES[..., 0] // 2


def check(measured, images, rtol=1e-12):
    """Against numpy's own mean, std and cov, in float64."""
    images = images.astype(np.float64)
    pixels = images.reshape(-1, images.shape[-1])
    np.testing.assert_allclose(measured.mean_image, images.mean(0), rtol=rtol)
    np.testing.assert_allclose(measured.channel_mean, pixels.mean(0), rtol=rtol)
    np.testing.assert_allclose(measured.channel_std, pixels.std(0), rtol=rtol)
    covariance = np.atleast_2d(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(measured.color_covariance, covariance, rtol=rtol, atol=rtol * covariance.max())
    assert measured.count == len(images)


def test_moments_of_an_array_are_numpys():
    measured = ImageStatistics.fit(IMAGES)
    check(measured, IMAGES)
    assert measured.value_range == (0, 255)


@pytest.mark.parametrize(
    "shape", [(3, 224, 7, 3), (300, 8, 8, 1), (20, 1, 1, 2), (2, 17, 600, 4), (5, 3, 4, 13)]
)
def test_shapes_that_are_cut_into_blocks_differently_give_the_same(shape, monkeypatch):
    images = random.integers(0, 256, shape).astype("uint8")
    check(ImageStatistics.fit(images), images)
    monkeypatch.setattr(image_statistics, "_BLOCK", 500)
    monkeypatch.setattr(image_statistics, "_EXACT_ROWS", 3)
    monkeypatch.setattr(image_statistics, "_EXACT_SUM", 4)
    check(ImageStatistics.fit(images), images)


def test_bright_bytes_are_summed_exactly_where_float32_would_round():
    # In float32, sums of 2048 products of 255 come out 1e-5 too small, and of 300000 bytes 1e-7 off.
    many = random.integers(250, 256, (2048, 4, 4, 3)).astype("uint8")
    check(ImageStatistics.fit(tf.data.Dataset.from_tensors(many)), many, rtol=1e-9)
    more = random.integers(250, 256, (300_000, 1, 1, 1)).astype("uint8")
    check(ImageStatistics.fit(more), more)


def test_a_large_offset_does_not_cost_accuracy():
    images = random.normal(size=(50, 6, 6, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 0.01]])
    near, far = ImageStatistics.fit(images), ImageStatistics.fit(images + 1e7)
    # Adding 1e7 rounds each pixel at 1e-9; a sum of squares would lose all digits of the smallest variance, 1e-4.
    np.testing.assert_allclose(far.channel_std, near.channel_std, rtol=1e-6)
    np.testing.assert_allclose(far.color_covariance, near.color_covariance, atol=1e-8)


datasets = {
    "batched with labels": lambda d: d.batch(16),
    "un-batched with labels": lambda d: d,
    "images only": lambda d: d.map(lambda x, y: x).batch(9),
    "dicts": lambda d: d.map(lambda x, y: {"label": y, "photo": x}).batch(7),
    "input dict and sample weights": lambda d: d.map(lambda x, y: ({"image": x}, y, 1.0)).batch(64),
    "one-hot labels": lambda d: d.map(lambda x, y: (x, tf.one_hot(y, 3))).batch(16),
    "size unknown to TensorFlow": lambda d: d.map(
        lambda x, y: (tf.ensure_shape(_forget(x), (None, None, 3)), y)
    ),
    "length unknown": lambda d: d.filter(lambda x, y: y >= 0).batch(16),
}


def _forget(image):
    return tf.py_function(lambda x: x, [image], tf.uint8)


@pytest.mark.parametrize("kind", datasets)
def test_every_kind_of_dataset_gives_the_same(kind):
    dataset = datasets[kind](tf.data.Dataset.from_tensor_slices((IMAGES, np.arange(70) % 3)))
    check(ImageStatistics.fit(dataset), IMAGES)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint16", "bool"])
def test_every_real_dtype_is_measured_in_float64(dtype):
    images = (IMAGES > 100) if dtype == "bool" else (IMAGES // 2).astype(dtype)
    check(ImageStatistics.fit(images), images)


def test_bfloat16_is_measured_as_well():
    tensor = tf.cast(IMAGES // 2, tf.bfloat16)
    check(ImageStatistics.fit(tf.data.Dataset.from_tensors(tensor)), IMAGES // 2)


def test_images_of_several_sizes_have_everything_but_a_mean_image():
    images = [IMAGES[0], IMAGES[1, :3], IMAGES[2, :, :2]]
    dataset = tf.data.Dataset.from_generator(
        lambda: images, output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    )
    measured = ImageStatistics.fit(dataset)
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
    assert measured.mean_image is None and measured.count == 3
    np.testing.assert_allclose(measured.channel_mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(measured.color_covariance, np.cov(pixels.T, bias=True), rtol=1e-10)


def test_color_axes_diagonalize_the_covariance_largest_first():
    measured = ImageStatistics.fit(IMAGES)
    values, vectors = measured.color_eigenvalues, measured.color_eigenvectors
    assert (np.diff(values) < 0).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    for value, axis in zip(values, vectors.T, strict=True):
        np.testing.assert_allclose(measured.color_covariance @ axis, value * axis, atol=1e-9 * values[0])
        assert axis[np.abs(axis).argmax()] > 0


def test_the_first_color_axis_of_gray_images_is_gray():
    gray = np.repeat(IMAGES[..., :1], 3, axis=-1)
    measured = ImageStatistics.fit(gray)
    np.testing.assert_allclose(measured.color_eigenvectors[:, 0], np.full(3, 3**-0.5))
    np.testing.assert_allclose(
        measured.color_eigenvalues, [3 * gray[..., 0].var(), 0, 0], atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize(
    "images, expected",
    [
        (IMAGES // 255, (0, 255)),
        (IMAGES / 255, (0, 1)),
        (IMAGES / 127.5 - 1, (-1, 1)),
        (IMAGES.astype("float32"), (0, 255)),
        (IMAGES - 100.0, (-100, 155)),
    ],
    ids=["bytes", "0..1", "-1..1", "float bytes", "other"],
)
def test_value_range_is_found(images, expected):
    assert ImageStatistics.fit(images).value_range == expected


def test_value_range_can_be_declared_and_is_then_checked():
    assert ImageStatistics.fit(IMAGES / 255, value_range=(0, 255)).value_range == (0, 255)
    for images in (IMAGES, IMAGES.astype(float)):
        with pytest.raises(ValueError, match="Received pixels from 0 to"):
            ImageStatistics.fit(images, value_range=(0, 1))


def test_save_and_load_keep_every_number_under_the_name_given(tmp_path):
    for images in (
        IMAGES,
        tf.data.Dataset.from_tensors(IMAGES).concatenate(tf.data.Dataset.from_tensors(IMAGES)),
    ):
        measured = ImageStatistics.fit(images)
        measured.save(tmp_path / "colors")
        loaded = ImageStatistics.load(tmp_path / "colors")
        for name, value in vars(measured).items():
            np.testing.assert_array_equal(getattr(loaded, name), value)
            assert type(getattr(loaded, name)) is type(value)


def test_statistics_of_several_sizes_save_without_a_mean_image(tmp_path):
    sizes = tf.data.Dataset.from_generator(
        lambda: [IMAGES[0], IMAGES[1, :3]], output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    )
    ImageStatistics.fit(sizes).save(tmp_path / "s.npz")
    assert ImageStatistics.load(tmp_path / "s.npz").mean_image is None


nan = np.where(np.arange(3) == 1, np.nan, np.ones((4, 2, 2, 3)))
one_shot = (image for image in IMAGES)


@pytest.mark.parametrize(
    "images, error, message",
    [
        (np.zeros((0, 4, 4, 3)), ValueError, "Received none"),
        (tf.data.Dataset.from_tensors(IMAGES).take(0), ValueError, "Received none"),
        (tf.data.Dataset.from_tensors(IMAGES).repeat(), ValueError, "repeats for ever"),
        (IMAGES[0], ValueError, r"shape \(6, 5, 3\)"),
        (tf.data.Dataset.from_tensor_slices(IMAGES[..., 0]).batch(5), ValueError, "without channels"),
        (nan, ValueError, "NaN or infinity"),
        (np.where(np.isnan(nan), np.inf, nan), ValueError, "NaN or infinity"),
        (one_shot, TypeError, "np.stack"),
        (list(IMAGES), TypeError, "np.stack"),
        (IMAGES.astype("complex64"), TypeError, "complex64"),
        (tf.data.Dataset.from_tensors((IMAGES[..., 0, 0], 1)), TypeError, "Received 0 of them"),
        (tf.data.Dataset.from_tensors({"a": IMAGES, "b": IMAGES}), TypeError, "Received 2 of them"),
        (
            tf.data.Dataset.from_generator(
                lambda: [IMAGES[0], IMAGES[0, ..., :1]],
                output_signature=tf.TensorSpec((None, None, None), tf.uint8),
            ),
            ValueError,
            "same number of channels. Received 3 and then 1",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(images, error, message):
    with pytest.raises(error, match=message):
        preprocess.ImageStatistics.fit(images)
