"""Policies step by step as PIL does them, with the tables of the papers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import augment
from recipes.augment.engine.operation import Frame
from recipes.augment.engine.programs import KINDS, Program, run_programs
from recipes.augment.operations.auto_augment import POLICIES, read_policy
from recipes.augment.operations.policy_spaces import rand_augment_space, trivial_augment_space

image = pytest.importorskip("PIL.Image")
from PIL import ImageEnhance, ImageOps  # noqa: E402 - behind the check that PIL is there

RANDOM = np.random.default_rng(3)
WAVES = np.sin(np.arange(40)[:, None] / 9 + np.arange(48) / 13)[None, ..., None]
BYTES = np.clip(120 + 90 * WAVES + RANDOM.normal(0, 12, (4, 40, 48, 3)), 20, 235).astype("uint8")
FRAME = Frame(40, 48, 3, np.zeros(3, "float32"), np.full(3, 255, "float32"))


def affine(picture, matrix):
    return picture.transform(picture.size, image.Transform.AFFINE, matrix, image.Resampling.BILINEAR)


def by_pil(picture, kind, strength):
    """One step of the papers with PIL; torchvision's functions on PIL images are the same calls."""
    enhance = {
        "Brightness": ImageEnhance.Brightness,
        "Color": ImageEnhance.Color,
        "Contrast": ImageEnhance.Contrast,
        "Sharpness": ImageEnhance.Sharpness,
    }
    if kind in enhance:
        return enhance[kind](picture).enhance(strength)
    return {
        "Identity": lambda: picture,
        "ShearX": lambda: affine(picture, (1, strength, 0, 0, 1, 0)),
        "ShearY": lambda: affine(picture, (1, 0, 0, strength, 1, 0)),
        "TranslateX": lambda: affine(picture, (1, 0, -strength, 0, 1, 0)),
        "TranslateY": lambda: affine(picture, (1, 0, 0, 0, 1, -strength)),
        "Rotate": lambda: picture.rotate(strength, image.Resampling.BILINEAR),
        "Posterize": lambda: ImageOps.posterize(picture, int(strength)),
        "Solarize": lambda: ImageOps.solarize(picture, strength),
        "AutoContrast": lambda: ImageOps.autocontrast(picture),
        "Equalize": lambda: ImageOps.equalize(picture),
        "Invert": lambda: ImageOps.invert(picture),
    }[kind]()


def run(steps, images=BYTES):
    """Steps `(kind, strength)` on every image."""
    count = len(images)
    kinds = np.tile(np.int32([KINDS.index(kind) for kind, _ in steps]), (count, 1))
    strengths = np.tile(np.float32([strength for _, strength in steps]), (count, 1))
    program = Program(tf.constant(kinds), tf.constant(strengths))
    return run_programs(tf.constant(images), program, KINDS, None, "black", FRAME).numpy()


LEVELS = [
    ("Brightness", 0.1),
    ("Brightness", 1.9),
    ("Color", 0.37),
    ("Color", 1.8),
    ("Contrast", 0.28),
    ("Contrast", 1.9),
    ("Sharpness", 0.1),
    ("Sharpness", 1.9),
    ("Posterize", 3),
    ("Solarize", 113.3),
    ("Solarize", 255.0),
    ("AutoContrast", 0),
    ("Equalize", 0),
    ("Invert", 0),
]


def test_steps_are_pils_level_by_level():
    for step in LEVELS:
        expected = np.stack([by_pil(image.fromarray(one), *step) for one in BYTES])
        np.testing.assert_array_equal(run([step]), expected, err_msg=str(step))


def test_steps_follow_one_another_as_in_pil():
    steps = [("Solarize", 160.0), ("Contrast", 1.5), ("Equalize", 0), ("Sharpness", 1.6), ("Posterize", 4)]
    expected = []
    for one in BYTES:
        picture = image.fromarray(one)
        for step in steps:
            picture = by_pil(picture, *step)
        expected.append(np.asarray(picture))
    np.testing.assert_array_equal(run(steps), expected)


@pytest.mark.parametrize(
    "step",
    [("ShearX", 0.3), ("ShearY", -0.2), ("TranslateX", 7), ("TranslateY", -5), ("Rotate", 25.0)],
    ids=str,
)
def test_pixels_come_from_where_pil_reads_them(step):
    white = np.full_like(BYTES, 255)
    inside = run([step], white) == 255  # beside the border PIL takes the fill or the nearest pixel, not both
    expected = np.stack([by_pil(image.fromarray(one), *step) for one in BYTES]).astype(int)
    assert inside.mean() > 0.5
    assert np.abs(run([step]).astype(int) - expected)[inside].max() <= 1


def test_spaces_have_the_strengths_of_the_papers():
    rand, wide = rand_augment_space(FRAME), trivial_augment_space(FRAME, wide=True)
    names = list(rand.names)
    assert len(names) == 14 and rand.table.shape == wide.table.shape == (14, 31)
    row = lambda found, name: found.table[names.index(name)]  # noqa: E731
    np.testing.assert_array_equal(row(rand, "Posterize")[[0, 4, 9, 30]], [8, 7, 7, 4])
    np.testing.assert_array_equal(row(wide, "Posterize")[[0, 3, 9, 30]], [8, 7, 6, 2])
    np.testing.assert_allclose(row(rand, "Solarize")[[0, 15, 30]], [255, 127.5, 0])
    np.testing.assert_allclose(row(rand, "ShearX")[9], 0.09, rtol=1e-6)
    np.testing.assert_array_equal(row(rand, "TranslateX")[[9, 30]], [6, 21])  # 150 / 331 of 48 pixels
    np.testing.assert_array_equal(row(wide, "TranslateY")[30], 32)
    assert (row(wide, "Rotate")[30], row(rand, "Rotate")[30]) == (135, 30)


def test_auto_augment_has_25_pairs_on_each_data_set():
    for text in POLICIES.values():
        pairs = read_policy(text)
        assert len(pairs) == 25 and all(len(pair) == 2 for pair in pairs)
        assert all(
            name in KINDS and 0 <= chance <= 1 and 0 <= level <= 9 for p in pairs for name, chance, level in p
        )
    assert read_policy(POLICIES["imagenet"])[0] == [("Posterize", 0.4, 8), ("Rotate", 0.6, 9)]


def test_auto_augment_draws_pairs_and_chances_of_its_table():
    count = 20000
    names = augment.AutoAugment.draws
    drawn = {name: tf.constant(RANDOM.random(count), tf.float32) for name in names}
    for policy in POLICIES:
        kinds = augment.AutoAugment(policy).program(drawn, FRAME).kinds.numpy()
        expected = np.zeros((2, len(KINDS)))
        for pair in read_policy(POLICIES[policy]):
            for place, (name, chance, _) in enumerate(pair):
                expected[place, KINDS.index(name)] += chance / 25
                expected[place, 0] += (1 - chance) / 25
        found = np.stack([np.bincount(column, minlength=len(KINDS)) / count for column in kinds.T])
        np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(count))


def test_policies_move_masks_with_the_pixels():
    images = np.broadcast_to(
        np.where(np.indices((40, 48)).sum(0) // 8 % 2, 200, 40)[None, ..., None], BYTES.shape
    )
    images = images.astype("uint8")
    masks = (images[..., 0] > 100).astype("uint8")
    geometry = augment.RandAugment(2, 15, space="full")
    steps = geometry.operations[0]
    steps.used = lambda: KINDS[:6]
    pipeline = augment.Pipeline([geometry], jit_compile=False)
    for seed in range(4):
        moved = pipeline(images, masks=masks, seed=(seed, 1))
        drawn = moved["images"].numpy()[..., 0]
        clear = (drawn > 150) | ((drawn > 30) & (drawn < 60))
        assert clear.mean() > 0.3
        agree = (moved["masks"].numpy() == 1) == (drawn > 100)
        assert agree[clear].mean() > 0.98


def test_compiled_policies_are_the_plain_ones():
    one, other = (
        augment.Pipeline([augment.AutoAugment("svhn")], jit_compile=compiled)(BYTES, seed=(5, 6)).numpy()
        for compiled in (True, False)
    )
    assert np.abs(one - BYTES).max() > 5
    assert np.mean(np.abs(one - other) > 1) < 1e-3


def test_aug_mix_blends_chains_of_pil_with_the_drawn_shares():
    op = augment.AugMix(3, 2)
    names = op.draws
    drawn = {name: tf.constant(RANDOM.random(4), tf.float32) for name in names}
    op.used = lambda: LEVELS_ONLY
    program = op.program(drawn, FRAME)
    got = op._apply(tf.constant(BYTES), drawn, None, FRAME).numpy()
    value = lambda name: drawn[name].numpy()  # noqa: E731
    shares = -np.log(1 - np.stack([value("share 0"), value("share 1")]))
    shares *= (1 - value("image")) / shares.sum(0)
    for number, picture in enumerate(BYTES):
        expected = value("image")[number] * picture.astype(float)
        for chain in range(2):
            view = image.fromarray(picture)
            for step in range(1 + int(value(f"depth {chain}")[number] * 3)):
                kind = KINDS[int(program.kinds[number, 3 * chain + step])]
                strength = float(program.strengths[number, 3 * chain + step])
                view = (
                    image.new("RGB", view.size)
                    if strength == 0 and kind == "Posterize"
                    else by_pil(view, kind, strength)
                )
            expected = expected + shares[chain, number] * np.asarray(view).astype(float)
        np.testing.assert_allclose(got[number], expected, atol=1e-2)


LEVELS_ONLY = ("Posterize", "Solarize", "AutoContrast", "Equalize")


def test_views_share_what_comes_before_aug_mix():
    pipeline = augment.Pipeline([augment.PadCrop(8), augment.AugMix(views=3)], seed=2, jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices((BYTES, [3, 1, 2, 0])).batch(4).apply(pipeline)
    views, labels, weights = next(iter(dataset))
    np.testing.assert_array_equal(labels, np.repeat([3, 1, 2, 0], 3))
    np.testing.assert_array_equal(weights, np.tile([1, 0, 0], 4))
    alone = augment.Pipeline(
        [augment.PadCrop(8), augment.AugMix(views=3, probability=0)], seed=2, jit_compile=False
    )
    clean = alone(BYTES, seed=pipeline.batch_seed(0, 0)).numpy()
    np.testing.assert_array_equal(clean, np.repeat(clean[::3], 3, 0))
    assert np.abs(clean[::3] - BYTES).max() > 50
    different = [np.abs(one - views.numpy()[place::3]).mean() for place in range(3) for one in [clean[::3]]]
    assert different[0] == 0 and min(different[1:]) > 1
    assert np.abs(views.numpy()[1::3] - views.numpy()[2::3]).mean() > 1


def test_the_consistency_loss_is_the_papers():
    logits = RANDOM.normal(size=(12, 5)).astype("float32")
    labels = RANDOM.integers(0, 5, 4)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    groups = shares.reshape(4, 3, 5)
    mean = groups.mean(1, keepdims=True)
    apart = (groups * np.log(groups / mean)).sum(-1).mean(1)
    entropy = -np.log(groups[np.arange(4), 0, labels])
    weights = np.tile(np.float32([1, 0, 0]), 4)
    numbers = np.repeat(labels, 3)
    for truth in (numbers, numbers[:, None], np.eye(5, dtype="float32")[numbers]):
        for given, logit in ((logits, True), (shares, False)):
            loss = augment.JensenShannonLoss(from_logits=logit)
            np.testing.assert_allclose(loss(truth, given, weights), np.mean(entropy + 12 * apart), rtol=1e-4)
            plain = -np.log(shares[np.arange(12), numbers]).mean()
            np.testing.assert_allclose(loss(truth, given), plain, rtol=1e-4)
            np.testing.assert_allclose(
                loss(truth[:11], given[:11], np.ones(11)),
                -np.log(shares[np.arange(11), numbers[:11]]).mean(),
                rtol=1e-4,
            )


def test_fit_takes_views_with_a_plain_training_step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 2550), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    loss = augment.JensenShannonLoss(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=["accuracy"])
    pipeline = augment.Pipeline([augment.AugMix(views=3)], jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((BYTES, [3, 1, 2, 0])).batch(4)
    history = model.fit(data.apply(pipeline), validation_data=data, verbose=0).history
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        np.array([3, 1, 2, 0]), model.predict(BYTES, verbose=0)
    )
    np.testing.assert_allclose(history["val_loss"], plain, rtol=1e-4)
    assert history["loss"][0] > history["val_loss"][0]
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (copy.views, copy.weight, copy.from_logits) == (3, 12.0, True)


def test_mixing_ends_at_its_epoch():
    rows = np.eye(4, dtype="float32")
    switch = augment.OneOf([augment.MixUp(1.0, until_epoch=2), augment.CutMix(1.0, until_epoch=2)])
    pipeline = augment.Pipeline([switch], jit_compile=False)
    data = pipeline.apply(tf.data.Dataset.from_tensors((BYTES, rows)))
    mixed = [not np.array_equal(next(iter(data))[1], rows) for _ in range(4)]
    assert mixed == [True, True, False, False]
    assert [
        not np.array_equal(pipeline(BYTES, rows, seed=pipeline.batch_seed(e, 0))[1], rows) for e in (1, 2)
    ] == [True, False]
    with pytest.raises(ValueError, match="expects to know the epoch"):
        tf.data.Dataset.from_tensors((BYTES, rows)).map(pipeline)


@pytest.mark.parametrize(
    ("operations", "given", "said"),
    [
        ([augment.AugMix(views=3), augment.MixUp()], {}, "not both"),
        ([augment.AugMix(views=3), augment.AugMix(views=2)], {}, "only operation that makes views"),
        ([augment.AugMix(views=3)], {"masks": BYTES[..., 0]}, "becomes several views"),
        ([augment.AugMix()], {"masks": BYTES[..., 0]}, "moved in several ways"),
        (
            [augment.TrivialAugment(space="full")],
            {"images": BYTES[..., :2]},
            "augment.TrivialAugment expects gray",
        ),
        (
            [augment.AugMix(views=3)],
            {"images": {"image": BYTES, "label": np.arange(4)}, "labels": None},
            "weights say which belong",
        ),
    ],
)
def test_views_that_cannot_be_are_refused(operations, given, said):
    with pytest.raises(ValueError, match=said):
        augment.Pipeline(operations, jit_compile=False, classes=4)(
            **{"images": BYTES, "labels": np.arange(4), **given}
        )


def test_empty_batches_stay_empty():
    empty = np.zeros((0, 97, 96, 3), "uint8")
    for op in (augment.AutoAugment(), augment.AugMix(), augment.GaussianBlur(), augment.RandomErasing()):
        for compiled in (False, True):
            pipeline = augment.Pipeline([op], dtype="uint8", jit_compile=compiled)
            assert pipeline(empty, seed=(1, 2)).shape == empty.shape


def test_large_batches_of_unknown_size_are_those_of_known_size():
    images, labels = RANDOM.integers(0, 256, (2, 150, 150, 3), dtype="uint8"), np.array([0, 2])
    pipeline = augment.Pipeline([augment.Flip(), augment.MixUp()], classes=3, seed=1)
    there = tf.constant(images), tf.constant(labels)
    cut = tf.data.Dataset.from_tensor_slices([0, 2]).map(lambda count: tuple(part[:count] for part in there))
    (none, no_labels), (some, rows) = cut.apply(pipeline)
    assert (none.shape, no_labels.shape) == ((0, 150, 150, 3), (0, 3))
    whole = pipeline(images, labels, seed=pipeline.batch_seed(0, 1))
    for found, known in zip((some, rows), whole, strict=True):
        np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize(
    "op, compiled_from",
    [(augment.RandAugment(2, 9, space="full"), 32), (augment.AugMix(), 32), (augment.Flip(), 1024)],
)
def test_what_is_slow_without_compilation_is_compiled_for_small_images_too(op, compiled_from):
    """Images of 8 x 8: 65,536 values are 1,024 of them."""
    pipeline = augment.Pipeline([op])
    engine, ways = pipeline._engine(tf.zeros((1, 8, 8, 1), tf.uint8)), []
    for name in ("plain", "compiled"):
        step = lambda images, draws, name=name: (ways.append(name), tf.cast(images, tf.float32))[1]  # noqa: E731
        setattr(engine, name, [("image", step)])
    for count in (compiled_from - 1, compiled_from):
        pipeline(np.zeros((count, 8, 8, 1), "uint8"), seed=(1, 2))
    assert ways == ["plain", "compiled"]
