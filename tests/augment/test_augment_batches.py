"""What goes in and out: structures, dtypes, ranges - and what is refused, with which words."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment

RANDOM = np.random.default_rng(5)
BYTES = RANDOM.integers(0, 256, (6, 10, 12, 3), dtype="uint8")
LABELS = np.arange(6) % 3
STATISTICS = augment.ColorStatistics(
    (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), (9e3, 9e2, 3e2), np.eye(3).tolist()
)
SCALED = augment.ColorStatistics((0.4,) * 3, (0.2,) * 3, (0.1,) * 3, np.eye(3))
FLIP = augment.Flip(probability=1)


def pipeline(*operations, **options):
    return augment.Pipeline(operations, jit_compile=False, **options)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "uint8"])
@pytest.mark.parametrize("given", ["uint8", "float32", "float64", "float16"])
def test_dtypes_in_and_out_whatever_keras_policy_says(name, given):
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        flipped = pipeline(FLIP, dtype=name)(BYTES.astype(given))
    finally:
        keras.config.set_dtype_policy(before)
    assert flipped.dtype.name == name
    np.testing.assert_array_equal(
        tf.cast(flipped, tf.float32),
        tf.cast(tf.constant(BYTES[:, :, ::-1]), tf.as_dtype(name)).numpy().astype("float32"),
    )


def test_structures_come_out_as_they_went_in():
    weights = np.linspace(0, 1, 6).astype("float32")
    expected = BYTES[:, :, ::-1].astype("float32")
    flip = pipeline(FLIP)
    for element in (
        BYTES,
        (BYTES, LABELS),
        (BYTES, LABELS, weights),
        {"image": BYTES, "label": LABELS, "id": np.arange(6)},
        {"pixels": BYTES, "label": LABELS},
        ({"images": BYTES, "age": weights}, LABELS),
    ):
        (got,) = tf.data.Dataset.from_tensors(element).apply(flip)
        tf.nest.assert_same_structure(got, element)
        for one, given in zip(tf.nest.flatten(got), tf.nest.flatten(element), strict=True):
            np.testing.assert_array_equal(one, expected if given is BYTES else given)
        (mapped,) = tf.data.Dataset.from_tensors(element).map(flip)
        tf.nest.assert_same_structure(mapped, element)
    np.testing.assert_array_equal(flip({"image": BYTES, "label": LABELS})["image"], expected)
    np.testing.assert_array_equal(flip(BYTES, LABELS.tolist())[1], LABELS)


def test_mixing_in_a_dict_changes_images_and_labels_together():
    mixed = pipeline(augment.MixUp(1.0), classes=3)(
        {"image": BYTES, "label": LABELS, "sample_weight": np.ones(6, "float32")}
    )
    assert mixed["label"].shape == (6, 3)
    np.testing.assert_allclose(tf.reduce_sum(mixed["label"], 1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed["sample_weight"], 1, atol=1e-6)


def test_value_ranges_other_than_bytes():
    centered = (BYTES / 127.5 - 1).astype("float32")
    padded = pipeline(augment.Translate((0.5, 0.5), 0), value_range=(-1, 1))(centered)
    np.testing.assert_array_equal(padded[:, :5], -1)  # black is the low end
    sixteen = (BYTES // 16).astype("uint8")
    assert np.max(pipeline(augment.Brightness((3, 3)), value_range=(0, 16))(sixteen)) == 16


def test_fit_takes_an_augmented_data_set_and_knows_its_length():
    import keras

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    train = slices(BYTES, LABELS).batch(4).apply(pipeline(FLIP, augment.MixUp(), classes=3)).prefetch(1)
    lengths = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: lengths.append(watch.params["steps"]))
    model.fit(train, epochs=2, shuffle=False, verbose=0, callbacks=[watch])
    assert lengths == [2]


def test_preview_shows_originals_and_draws_also_after_normalization_and_resizing():
    figure = pipeline(
        augment.RandomResizedCrop(8), augment.Normalize(STATISTICS), augment.MixUp(), classes=3
    ).preview(BYTES[:2], columns=4)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [picture.shape[:2] for picture in shown] == [(10, 12), (8, 8), (8, 8), (8, 8)] * 2
    np.testing.assert_allclose(shown[0], BYTES[0] / 255, atol=1e-6)
    untouched = (
        pipeline(augment.Normalize(STATISTICS)).preview(BYTES[:1], columns=2).axes[1].images[0].get_array()
    )
    np.testing.assert_allclose(untouched, BYTES[0] / 255, atol=1e-5)
    with pytest.raises(ValueError, match="columns >= 2"):
        pipeline(FLIP).preview(BYTES, columns=1)


BATCH = slices(BYTES, LABELS).batch(3)
UNKNOWN = tf.data.Dataset.from_generator(
    lambda: iter([]), output_signature=tf.TensorSpec((None, None, 12, 3), tf.uint8)
)
REFUSED = [
    (lambda: slices(BYTES, LABELS).apply(pipeline(FLIP)), "Received one image of shape"),
    (lambda: UNKNOWN.apply(pipeline(FLIP)), "height, width and channels to be known"),
    (lambda: BATCH.apply(pipeline(FLIP, value_range=(0, 1))), r"value_range=\(0, 1\). Received uint8 images"),
    (lambda: pipeline(FLIP)(BYTES.astype("int32")), "uint8 or float images. Received int32"),
    (lambda: pipeline(FLIP)(BYTES.astype("float32") * 2), "Received 0 to|Received values|Received"),
    (lambda: pipeline(FLIP, value_range=(0, 1))(BYTES.astype("float32")), "its value_range"),
    (lambda: BATCH.apply(pipeline(augment.MixUp())), r"augment.MixUp expects to know how many classes"),
    (lambda: BATCH.apply(pipeline(augment.OneOf([augment.CutMix()]))), "augment.CutMix expects to know how many"),
    (lambda: pipeline(augment.MixUp(), classes=2)(BYTES, LABELS), r"labels in 0 to 1, .* from 0 to 2"),
    (lambda: pipeline(augment.MixUp(), classes=3)(BYTES, LABELS - 1), "from -1 to 1"),
    (lambda: pipeline(augment.MixUp(), classes=4)(BYTES, np.eye(3)[LABELS]), "one-hot labels of 4 classes"),
    (lambda: pipeline(augment.MixUp(), classes=3)({"image": BYTES, "age": LABELS}), r"further entries \['age'\]"),
    (lambda: pipeline(FLIP)(BYTES, BYTES), "a role for everything that .* Received .1. of .*masks"),
    (lambda: pipeline(FLIP)({"image": BYTES, "bbox": np.zeros((6, 4))}), "a role for .* Received .bbox. .*boxes"),
    (lambda: pipeline(FLIP)({"a": BYTES, "b": BYTES}), "one entry of images in a dict"),
    (lambda: pipeline(FLIP)(BYTES, seed=3), "two integers"),
    (lambda: pipeline(FLIP)(np.zeros((2, 3, 32, 48), "uint8")), "looks like channels first"),
    (lambda: pipeline(FLIP)(np.zeros((2, 1, 32, 32), "uint8")), "looks like channels first"),
    (lambda: pipeline(FLIP).apply(BATCH, first_epoch=1, epoch=1), "first_epoch or epoch"),
    (lambda: pipeline(FLIP).apply(BATCH, first_epoch=-1), "first_epoch to be a whole number >= 0"),
    (lambda: pipeline(augment.Crop(11))(BYTES), "augment.Crop expects a window no larger .* Received 11x11"),
    (lambda: pipeline(augment.PadCrop(10))(BYTES), "augment.PadCrop expects pad smaller"),
    (lambda: pipeline(augment.Cutout(11))(BYTES), "augment.Cutout expects a square no larger"),
    (lambda: pipeline(augment.GaussianBlur(9))(BYTES), "augment.GaussianBlur expects a Gaussian narrower"),
    (lambda: pipeline(augment.Hue())(BYTES[..., :1]), "augment.Hue expects red, green and blue. Received images of 1"),
    (lambda: pipeline(augment.FancyPCA(STATISTICS))(BYTES[..., :2]), "statistics of 2 channels, .* Received 3"),
    (lambda: pipeline(augment.Normalize(STATISTICS), value_range=(0, 1))(BYTES / 255), "belong to another range"),
    (
        lambda: pipeline(augment.FancyPCA(SCALED))(BYTES),
        "augment.FancyPCA expects statistics of pixels in 0 to 255",
    ),
    (lambda: pipeline(augment.Normalize(STATISTICS), augment.Contrast())(BYTES), "Move Contrast before Normalize"),
    (lambda: pipeline(augment.Rotate(fill="white"))(BYTES), "augment.Rotate expects fill"),
    (lambda: pipeline(augment.Cutout(4, fill=300))(BYTES), "augment.Cutout expects fill inside"),
    (lambda: pipeline(augment.PadCrop(2, fill=(1, 2)))(BYTES), "one number for each of 3"),
    (lambda: pipeline(augment.OneOf([augment.Crop(4)]))(BYTES), "augment.OneOf expects operations that keep the size"),
    (lambda: pipeline(augment.OneOf([augment.Rotate(), augment.Zoom(fill="edge")]))(BYTES), "one fill"),
    (lambda: augment.OneOf([augment.Normalize(STATISTICS)]), "Received a Normalize"),
    (lambda: augment.OneOf([]), "augment.OneOf expects a list of operations"),
    (lambda: augment.OneOf([FLIP], weights=(1, 2)), "one weight >= 0"),
    (lambda: augment.SomeOf([FLIP], count=2), "augment.SomeOf expects count"),
    (lambda: augment.Rotate(-10), "augment.Rotate expects degrees"),
    (lambda: augment.Rotate((0, np.inf)), r"two finite numbers. Received \(0, inf\). For example: degrees="),
    (lambda: augment.Rotate((10, -10)), r"low <= high. Received \(10, -10\). Write degrees=\(-10, 10\)"),
    (lambda: augment.Brightness(1.5), "augment.Brightness expects factor to stay within 0"),
    (lambda: augment.Hue(0.7), "augment.Hue expects turns to stay within -0.5 and 0.5"),
    (lambda: augment.Zoom((0, 2)), "augment.Zoom expects factors > 0"),
    (lambda: augment.Shear(1.0, 1.0), "augment.Shear expects horizontal times vertical"),
    (lambda: augment.LensDistortion(0.5), "augment.LensDistortion expects strength"),
    (lambda: augment.RandomResizedCrop(8, scale=(0.5, 0.2)), "augment.RandomResizedCrop expects scale"),
    (lambda: augment.RandomResizedCrop(8, scale=(0, 1)), r"scale in \(0, 1\]"),
    (lambda: augment.ScaleCrop(224, short_side=(200, 300)), "augment.ScaleCrop expects short_side"),
    (lambda: augment.Crop(0), "augment.Crop expects a height and a width"),
    (lambda: augment.Flip(False), "augment.Flip expects at least one direction"),
    (lambda: augment.ColorJitter(0, 0, 0, 0), "augment.ColorJitter expects at least one"),
    (lambda: augment.Cutout(0), "augment.Cutout expects size"),
    (lambda: augment.RandomErasing((0.5, 1.5)), "augment.RandomErasing expects scale"),
    (lambda: augment.GaussianNoise(-1), "augment.GaussianNoise expects stddev"),
    (lambda: augment.GaussianBlur((0, 1)), "augment.GaussianBlur expects sigma > 0"),
    (lambda: augment.MixUp(0), "augment.MixUp expects alpha > 0"),
    (lambda: augment.RandAugment(2, 31), "augment.RandAugment expects"),
    (lambda: augment.PlusMinus(-1), "augment.PlusMinus expects"),
    (lambda: augment.Flip(probability=1.2), r"augment.Flip expects a probability in \[0, 1\]. Received 1.2"),
    (lambda: augment.Normalize(STATISTICS, probability=0.5), "augment.Normalize expects probability=1"),
    (lambda: augment.Pipeline([], value_range=(1, 0)), "augment.Pipeline expects value_range"),
    (lambda: augment.Pipeline([], classes=0), "augment.Pipeline expects classes"),
    (lambda: augment.Pipeline([], seed=-1), "augment.Pipeline expects seed"),
    (lambda: augment.Pipeline([], jit_compile="yes"), "augment.Pipeline expects jit_compile"),
    (lambda: augment.Pipeline([], dtype="int8"), "augment.Pipeline expects dtype"),
    (lambda: augment.Pipeline([augment.Normalize(STATISTICS)], dtype="uint8"), "Received a Normalize in the list"),
    (lambda: augment.standard((28, 28)), "augment.standard expects the shape"),
    (lambda: augment.standard((28, 28, 1), kind="digits"), "augment.standard expects kind"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mistake", "words"), REFUSED, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_bad_input_is_refused_with_what_to_do(mistake, words):
    with pytest.raises(ValueError, match=words) as refusal:
        mistake()
    assert str(refusal.value).count(". ") >= 2  # expected, received, what to do


def test_what_is_no_operation_is_a_type_error():
    with pytest.raises(TypeError, match="Write Flip"):
        augment.Pipeline([augment.Flip])
    with pytest.raises(TypeError, match="statistics of a data set"):
        augment.Normalize(np.zeros(3))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [(BYTES / 64, LABELS, "its value_range"), (BYTES / 255, LABELS + 1, "labels in 0 to 2")],
    ids=["pixels", "labels"],
)
def test_values_out_of_range_stop_the_data_set_with_the_same_words(images, labels, words):
    dataset = (
        slices(images.astype("float32"), labels).batch(3).apply(pipeline(FLIP, value_range=(0, 1), classes=3))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        list(dataset)


def test_statistics_of_the_training_set_are_taken_as_they_are():
    from recipes import preprocess

    statistics = preprocess.ImageStatistics.fit(BYTES, verbose=0)
    flat = BYTES.reshape(-1, 3).astype("float64")
    normalized = pipeline(augment.Normalize(statistics))(BYTES)
    np.testing.assert_allclose(normalized, (BYTES - flat.mean(0)) / flat.std(0), atol=1e-4)
    added = (
        pipeline(augment.FancyPCA(statistics, 0.5))(np.full((4000, 1, 1, 3), 128, "uint8")).numpy()[:, 0, 0]
        - 128
    )
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    expected = vectors @ np.diag((0.5 * values / 255) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(added.T), expected, atol=0.1 * expected.max())


def test_fractions_of_one_are_refused_where_colors_count_to_255():
    images = np.random.default_rng(0).random((4, 8, 8, 3), "float32")
    noisy = augment.Pipeline([augment.GaussianNoise(0.05)])
    with pytest.raises(ValueError, match=r"Received fractions, 0\.9.*value_range=\(0, 1\)"):
        noisy(images)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received fractions"):
        list(tf.data.Dataset.from_tensors(images).map(noisy))
    assert augment.Pipeline([augment.Flip()])(images).shape == images.shape
    dark = np.zeros((4, 8, 8, 3), "float32")
    dark[0, 0, 0, 0] = 1  # whole levels
    assert noisy(dark).shape == dark.shape
