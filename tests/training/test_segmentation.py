"""Images with masks: loss by the output, IoU, masks that move along, refusals, pictures and files."""

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from skimage.filters import gaussian, threshold_otsu
from sklearn.metrics import jaccard_score

import recipes
from recipes import augment, data, models
from recipes.cli import main
from recipes.training.maps import map_size
from recipes.training.settings import Settings
from recipes.training.training_data import open_data

SIDE = 16


def shapes(count, classes=3, seed=0):
    """Bright discs, and red squares, on dark noise: images uint8, masks uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = rng.integers(0, 60, (count, SIDE, SIDE, 3))
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        for number, color in ((1, (200, 200, 200)), (2, (220, 20, 20)))[: classes - 1]:
            cy, cx = rng.integers(4, SIDE - 4, 2)
            far = np.hypot(y - cy, x - cx) if number == 1 else np.maximum(abs(y - cy), abs(x - cx))
            mask[far < 3.5], image[far < 3.5] = number, color
    return images.astype(np.uint8), masks


def pixel_model(classes=3, activation="softmax", inputs=(SIDE, SIDE, 3)):
    keras.utils.set_random_seed(1)
    image = keras.Input(inputs)
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(classes, 1, activation=activation)(x))


def settings(**options):
    return Settings.of(recipes.train, {"batch_size": 8, "verbose": 0, **options})


QUICK = {"epochs": 1, "batch_size": 16, "verbose": 0, "preflight": False, "monitor": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number, (image, mask) in enumerate(zip(*shapes(40), strict=True)):
        Image.fromarray(image).save(root / f"images/{number:02}.png")
        Image.fromarray(mask).save(root / f"masks/{number:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(folder):
    train, validation, info = data.load(str(folder), SIDE, validation=0.25)
    options = {**QUICK, "epochs": 12, "optimizer": "adam", "learning_rate": 0.02}
    return recipes.train(pixel_model(), train, validation, info=info, **options), validation


def test_a_folder_of_masks_is_learned(trained):
    run, _ = trained
    assert run.history["val_iou"][-1] > 0.8


def test_iou_is_that_of_scikit_learn(trained):
    run, validation = trained
    images, masks = map(np.stack, zip(*validation.as_numpy_iterator(), strict=True))
    said = run.model.predict(images, verbose=0).argmax(-1)
    expected = jaccard_score(masks.ravel(), said.ravel(), average="macro")
    assert run.history["val_iou"][-1] == pytest.approx(expected, abs=1e-6)


def test_masks_are_written_as_their_numbers(trained, folder, tmp_path):
    run, _ = trained
    said = run.predict(str(folder / "images"))
    paths = said.to_png(tmp_path / "masks")
    assert [path.name for path in paths] == [f"{number:02}.png" for number in range(40)]
    images = np.stack([np.asarray(Image.open(folder / "images" / path.name)) for path in paths])
    read = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(read, run.model.predict(images, verbose=0).argmax(-1))
    np.testing.assert_allclose(said.probabilities[:, 1], (read == 1).mean((1, 2)), atol=1e-6)
    with pytest.raises(FileExistsError, match="Give another folder"):
        said.to_png(tmp_path / "masks")


def test_a_class_of_whole_images_is_no_png(tmp_path):
    model = models.mlp((4, 4, 1), 2)
    with pytest.raises(ValueError, match="expects masks"):
        recipes.inference.predict(model, np.zeros((1, 4, 4, 1), "uint8")).to_png(tmp_path)


def test_the_report_shows_masks(trained, tmp_path):
    run, _ = trained
    page = run.report(tmp_path / "report.html").read_text()
    assert "Worst masks" in page
    assert f"{run.history['val_iou'][-1]:.1%}" in page


@pytest.mark.parametrize(
    "classes, activation, options",
    [(3, None, {}), (3, "softmax", {"label_smoothing": 0.1}), (1, "sigmoid", {}), (1, None, {})],
)
def test_the_loss_is_the_one_of_the_output(classes, activation, options):
    images, masks = shapes(16, max(2, classes))
    model = pixel_model(classes, activation)
    run = recipes.train(model, (images, masks), (images, masks), augment=None, **options, **QUICK)
    scores = model.predict(images, verbose=0).astype("float64")
    if classes == 1:
        chance = scores[..., 0] if activation else 1 / (1 + np.exp(-scores[..., 0]))
        expected = -np.where(masks == 1, np.log(chance), np.log(1 - chance)).mean()
        said = chance > 0.5
    else:
        chance = scores if activation else np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        wanted = np.eye(classes)[masks]
        smoothed = (
            wanted * (1 - options.get("label_smoothing", 0)) + options.get("label_smoothing", 0) / classes
        )
        expected = -(smoothed * np.log(chance)).sum(-1).mean()
        said = chance.argmax(-1)
    assert run.history["val_loss"][-1] == pytest.approx(expected, rel=1e-4)
    iou = jaccard_score(
        masks.ravel(), said.ravel(), average="macro", labels=np.unique([*masks.ravel(), *said.ravel()])
    )
    assert run.history["val_iou"][-1] == pytest.approx(iou, abs=1e-6)


def test_masks_move_with_their_images():
    masks = shapes(32)[1]
    images = np.repeat(masks[..., None] * 100, 3, -1).astype(np.uint8)  # an image of its mask
    model = pixel_model()
    opened = open_data(model, (images, masks), None, settings())
    for image, mask in opened.training(first_epoch=0, first_step=0, epochs=1):
        np.testing.assert_array_equal(np.rint(image[..., 0] / 100), mask)
    assert not np.array_equal(mask, masks[-8:])


def test_void_pixels_count_neither_in_loss_nor_in_iou():
    images, masks = shapes(16)
    weights = np.ones(masks.shape, "float32")
    weights[:, :5] = 0
    model = pixel_model()
    data_ = (images, masks, weights)
    run = recipes.train(model, data_, data_, augment=None, **QUICK)
    said = model.predict(images, verbose=0).argmax(-1)
    part = slice(None), slice(5, None)
    labels = np.unique([*masks[part].ravel(), *said[part].ravel()])
    expected = jaccard_score(masks[part].ravel(), said[part].ravel(), average="macro", labels=labels)
    assert run.history["val_iou"][-1] == pytest.approx(expected, abs=1e-6)


def test_class_weights_weigh_pixels():
    images, masks = shapes(8)
    opened = open_data(
        pixel_model(), (images, masks), None, settings(augment=None, class_weight={1: 2.0, 2: 5.0})
    )
    (_, mask, weight), *_ = opened.training(first_epoch=0, first_step=0, epochs=1)
    np.testing.assert_array_equal(weight, np.array([1, 2, 5])[mask])
    assert opened.fit_class_weight is None


@pytest.mark.slow
def test_dictionaries_of_tfds_with_a_mask_are_learned():
    images, masks = shapes(16)
    named = {"image": images, "segmentation_mask": masks[..., None], "file_name": np.arange(16).astype(str)}
    dataset = tf.data.Dataset.from_tensor_slices(named)
    assert "val_iou" in recipes.train(pixel_model(), dataset, dataset, **QUICK).history


@pytest.mark.slow
def test_mixed_masks_are_learned_as_shares():
    images, masks = shapes(16)
    pipeline = augment.Pipeline([augment.Flip(), augment.CutMix(1.0)], classes=3)
    assert (
        "val_iou"
        in recipes.train(pixel_model(), (images, masks), (images, masks), augment=pipeline, **QUICK).history
    )


IMAGES, MASKS = shapes(16)


@pytest.mark.parametrize(
    "model, labels, words",
    [
        (models.mlp((SIDE, SIDE, 3), 3), MASKS, "recipes.models.unet"),
        (pixel_model(), np.zeros(16, int), "Dense\\(classes\\) for whole images"),
        (pixel_model(2), MASKS, "build the model with 3 classes"),
        (pixel_model(1, "sigmoid"), np.where(MASKS > 0, 255, 0), "by 255"),
        (pixel_model(), np.where(MASKS > 1, 255, MASKS), "weight of 0"),
        (pixel_model(), MASKS / 255, "method='nearest'"),
        (pixel_model(), IMAGES / 255, "loss='mse'"),
        (pixel_model(), np.zeros((16, SIDE, SIDE, 5)), "Turn colors into class numbers"),
        (pixel_model(), MASKS[:, ::2, ::2], "as large as the maps of the model, 16 x 16"),
    ],
)
def test_labels_that_do_not_fit_are_refused(model, labels, words):
    with pytest.raises(ValueError, match=words):
        recipes.train(model, (IMAGES, labels), **QUICK)


def test_a_classifier_is_refused_for_a_folder_of_masks(folder):
    train, validation, info = data.load(str(folder), SIDE, verbose=0)
    with pytest.raises(ValueError, match="one output .height, width, classes. for masks"):
        recipes.train(models.mlp((SIDE, SIDE, 3), 3), train, validation, info=info, **QUICK)


def test_an_image_for_an_image_is_no_segmentation():
    assert map_size(pixel_model(3, "sigmoid"), settings(loss="mse")) is None
    assert map_size(pixel_model(3), settings()) == (SIDE, SIDE)


@pytest.mark.slow
def test_checks_before_training_know_masks(capsys):
    model = pixel_model()
    recipes.train(model, (IMAGES, MASKS), (IMAGES, MASKS), **{**QUICK, "preflight": True, "verbose": 2})
    said = capsys.readouterr().out
    assert "16 examples read, 3 classes" in said
    assert "error" not in said.partition("Epoch 1")[0]


@pytest.mark.parametrize("shape", [(17, 30, 1), (8, 8, 3)])
def test_a_unet_maps_sides_of_any_length(shape):
    model = models.unet(shape, 2, filters=(2, 3, 4))
    assert model.output_shape == (None, *shape[:2], 2)


def test_a_unet_of_open_sides_takes_multiples():
    model = models.unet((None, None, 3), 2, filters=(2, 3, 4))
    assert model(np.zeros((1, 8, 12, 3))).shape == (1, 8, 12, 2)


@pytest.mark.slow
def test_a_unet_learns_photos_whose_masks_are_thresholds(tmp_path, capsys):
    for number, (photo, bright) in enumerate(((skimage.data.coins(), True), (skimage.data.page(), False))):
        smooth = gaussian(photo, 1)
        mask = (smooth > threshold_otsu(smooth)) == bright
        for place, (top, left) in enumerate(np.ndindex(2, 5)):
            part = np.s_[64 * top : 64 * top + 64, 64 * left : 64 * left + 64]
            for kind, pixels in (
                ("images", np.repeat(photo[part][..., None], 3, 2)),
                ("masks", mask[part] * 255),
            ):
                (tmp_path / "d" / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype("uint8")).save(tmp_path / "d" / kind / f"{number}_{place}.png")
    words = [
        "train",
        str(tmp_path / "d"),
        "--image-size",
        "32",
        "--epochs",
        "10",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--quiet"]) == 0
    words = [
        "predict",
        str(tmp_path / "run"),
        str(tmp_path / "d/images"),
        "--png",
        str(tmp_path / "png"),
        "--json",
    ]
    assert main(words) == 0
    shares = []
    for file in sorted((tmp_path / "png").iterdir()):
        with Image.open(file) as predicted, Image.open(tmp_path / "d/masks" / file.name) as true:
            pair = [np.asarray(image.resize((32, 32), 0)).ravel() > 0 for image in (predicted, true)]
        shares.append(jaccard_score(pair[1], pair[0], zero_division=1.0))
    assert len(shares) == 20 and np.mean(shares) > 0.65  # a mask of foreground everywhere scores 0.52
    assert "Worst masks" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
