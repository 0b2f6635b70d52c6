import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import ensemble


def network(side, activation="softmax"):
    """Takes `side` x `side` images, any size with None; sensitive to every pixel's place."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer="random_normal"),
            keras.layers.GlobalMaxPooling2D() if side is None else keras.layers.Flatten(),
            keras.layers.Dense(5, activation=activation, kernel_initializer="random_normal"),
        ]
    )


@pytest.fixture(scope="module")
def fixed():
    return network(8)


@pytest.fixture(scope="module")
def any_size():
    return network(None)


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, size=(5, 13, 10, 3)).astype("uint8")


def predict_one(model, view):
    return model(view[None].astype("float32"), training=False)[0].numpy()


def crops_by_hand(image, size):
    height, width = image.shape[:2]
    views = []
    for top, left in [
        (0, 0),
        (0, width - size),
        (height - size, 0),
        (height - size, width - size),
        ((height - size) // 2, (width - size) // 2),
    ]:
        crop = image[top : top + size, left : left + size]
        views += [crop, crop[:, ::-1]]
    return views


def resized(image, shorter):
    height, width = image.shape[:2]
    scale = shorter / min(height, width)
    return tf.image.resize(image, (round(height * scale), round(width * scale)), antialias=True).numpy()


def test_ten_crops_are_a_hand_written_loop(fixed, photos):
    expected = [
        np.mean([predict_one(fixed, view) for view in crops_by_hand(photo, 8)], axis=0) for photo in photos
    ]
    views = ensemble.ten_crop(8)
    assert len(views) == 10
    for batch_size in (1, 20, 64):
        found = ensemble.predict_tta(fixed, photos, views, batch_size=batch_size)
        assert found.dtype == np.float32 and found.shape == (5, 5)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ten_crops_at_scales_larger_and_smaller_than_the_images_and_of_images_of_any_size(fixed, photos):
    images = [photos[0], photos[1], photos[2, :9], photos[3, :, :6]]
    expected = [
        np.mean(
            [
                predict_one(fixed, view)
                for scale in (8, 9, 17)
                for view in crops_by_hand(resized(image, scale), 8)
            ],
            axis=0,
        )
        for image in images
    ]
    views = ensemble.ten_crop(8, scales=(8, 9, 17))
    assert len(views) == 30
    np.testing.assert_allclose(ensemble.predict_tta(fixed, images, views), expected, atol=1e-6)


def test_flips_shifts_and_whole_images_are_hand_written_loops(fixed, any_size, photos):
    squares = photos[:, :8, :8]
    by_hand = {
        "flips": lambda image: [image, image[:, ::-1]],
        "shifts": lambda image: [
            np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")[2 - dy :, 2 - dx :][:8, :8]
            for dy in (-2, 0, 2)
            for dx in (-2, 0, 2)
        ],
    }
    views = {"flips": ensemble.flips(), "shifts": ensemble.shifts(2)}
    for name, make in by_hand.items():
        expected = [np.mean([predict_one(fixed, view) for view in make(image)], axis=0) for image in squares]
        np.testing.assert_allclose(ensemble.predict_tta(fixed, squares, views[name]), expected, atol=1e-6)
    expected = []
    for photo in photos:
        seen = [resized(photo, scale) for scale in (7, 15)]
        expected.append(
            np.mean([predict_one(any_size, v) for image in seen for v in (image, image[:, ::-1])], axis=0)
        )
    found = ensemble.predict_tta(any_size, photos, ensemble.multi_scale((7, 15)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(ensemble.multi_scale((7, 15), flip=False)) == 2


def test_logits_and_data_sets_and_the_logit_space(fixed, photos):
    squares = photos[:, :8, :8]
    logits = network(8, activation=None)
    logits.set_weights(fixed.get_weights())
    plain = ensemble.predict_tta(fixed, squares, ensemble.flips())
    data = tf.data.Dataset.from_tensor_slices((squares, np.arange(5)))
    for given in (data, data.batch(2), data.map(lambda image, label: image)):
        np.testing.assert_allclose(
            ensemble.predict_tta(logits, given, ensemble.flips(), batch_size=4), plain, atol=1e-6
        )
    scores = np.mean([[predict_one(logits, v) for v in (i, i[:, ::-1])] for i in squares], axis=1)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    found = ensemble.predict_tta(logits, squares, ensemble.flips(), space="logit")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        found, ensemble.predict_tta(fixed, squares, ensemble.flips(), space="logit"), atol=1e-5
    )


def test_views_that_do_not_fit_say_what_to_do(fixed, photos):
    for views, says in [
        (ensemble.ten_crop(12), "scales="),
        (ensemble.shifts(10), "Shift by less"),
        (ensemble.ten_crop(9), "fit the model's input"),
        (ensemble.flips(), "fit the model's input"),
    ]:
        with pytest.raises(ValueError, match=says):
            ensemble.predict_tta(fixed, photos, views)
    with pytest.raises(ValueError, match="Leave out the smaller ones"):
        ensemble.ten_crop(224, scales=(224, 192))
    with pytest.raises(ValueError, match="whole number of pixels"):
        ensemble.shifts(0)
    with pytest.raises(ValueError, match="1 pixel or more"):
        ensemble.multi_scale(())
    with pytest.raises(ValueError, match="at least one image"):
        ensemble.predict_tta(fixed, photos[:0], ensemble.ten_crop(8))
    with pytest.raises(TypeError, match="ensemble.flips"):
        ensemble.predict_tta(fixed, photos, "flips")
