"""An operation does beside others what it does alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import augment

RANDOM = np.random.default_rng(5)
BYTES = RANDOM.integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
#: Without anything drawn at random: two pipelines draw other numbers.
FIXED = [
    augment.Flip(probability=1),
    augment.Rotate((20, 20)),
    augment.Translate((0.2, 0.2), (-0.1, -0.1)),
    augment.Zoom((0.3, 0.3)),
    augment.Zoom((0.8, 0.8)),
    augment.Zoom((1.7, 1.7)),
    augment.Stretch((3, 3)),
    augment.Shear((0.2, 0.2)),
    augment.LensDistortion((0.2, 0.2)),
    augment.Crop(20, 24, probability=0),
    augment.RandomResizedCrop(13, probability=0),
    augment.RandomResizedCrop((60, 50), probability=0),
    augment.ScaleCrop(16, short_side=(20, 30), probability=0),
]
IDLE = [
    augment.Rotate(probability=0),
    augment.LensDistortion(probability=0),
    augment.PadCrop(4, probability=0),
    augment.Zoom((0.2, 1), probability=0),
    augment.Flip(probability=0),
]
POLICIES = [augment.RandAugment(2, 0), augment.TrivialAugment(probability=0)]


def run(*operations, images=BYTES, **options):
    return augment.Pipeline(list(operations), jit_compile=False, **options)(images, seed=(3, 4)).numpy()


@pytest.mark.parametrize("op", FIXED, ids=repr)
def test_operations_that_do_nothing_change_nothing(op):
    alone = run(op)
    for idle in IDLE:
        np.testing.assert_allclose(run(op, idle), alone, atol=2e-2)
        if isinstance(idle, augment.PadCrop | augment.Zoom):
            np.testing.assert_allclose(run(idle, op), alone, atol=2e-2)


#: One of each kind of reading. A policy begins when all is read: it cannot know which operations of a kind there were.
KINDS = [FIXED[place] for place in (0, 1, 8, 9, 10, 12)]


@pytest.mark.parametrize("op", KINDS, ids=repr)
def test_a_policy_that_does_nothing_changes_nothing(op):
    alone = run(op)
    for policy in POLICIES:
        np.testing.assert_allclose(run(op, policy), alone, atol=2e-2)


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_zooms_that_shrink_average_the_pixels_they_pass(factor):
    rows = np.zeros((1, 64, 64, 1), "uint8")
    rows[:, ::4] = 255  # a quarter of white rows
    got = run(augment.Zoom((factor, factor)), images=rows)[0, 28:36, 32, 0]
    expected = tf.image.resize(rows, (int(64 * factor),) * 2, antialias=True)[0, :, 5, 0].numpy()
    middle = len(expected) // 2
    np.testing.assert_allclose(got, expected[middle - 4 : middle + 4], atol=0.05)


def test_bytes_that_are_only_moved_stay_what_they_are():
    operations = [augment.Flip(), augment.PadCrop(4, fill=7), augment.Cutout(8, fill=9), augment.CutMix(1.0)]
    whole, real = (
        augment.Pipeline(operations, dtype=dtype, jit_compile=True)(BYTES, seed=(1, 2))
        for dtype in ("uint8", "float32")
    )
    assert whole.dtype == tf.uint8
    np.testing.assert_array_equal(whole.numpy().astype("float32"), real)


def losses(strategy, batches, *, first_epoch=0):
    """Losses at learning rate 0, which tell which images an epoch had, of a model that `fit` has to build."""
    pipeline = augment.Pipeline([augment.PadCrop(4), augment.Brightness(0.5)], jit_compile=False)
    with strategy.scope():
        kernel = keras.initializers.RandomNormal(0, 1e-3, seed=3)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5, kernel_initializer=kernel)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.0), loss)
    data = pipeline.apply(batches, first_epoch=first_epoch).prefetch(2)
    return model.fit(data, epochs=2, verbose=0, shuffle=False).history["loss"]


@pytest.mark.parametrize("first_epoch", [0, 3])
def test_a_strategy_that_builds_the_model_starts_at_the_first_epoch(first_epoch):
    images = RANDOM.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((images, np.arange(64) % 5)).batch(16)
    one = losses(tf.distribute.get_strategy(), batches, first_epoch=first_epoch)
    mirrored = losses(tf.distribute.MirroredStrategy(["CPU:0"]), batches, first_epoch=first_epoch)
    np.testing.assert_allclose(mirrored, one, rtol=1e-5)
    assert one[0] != one[1]


def test_a_saved_iterator_goes_on_where_it_was(tmp_path):
    pipeline = augment.Pipeline([augment.PadCrop(3)], jit_compile=False)
    data = pipeline.apply(tf.data.Dataset.from_tensor_slices(BYTES).batch(1), first_epoch=2)
    first = iter(data)
    next(first)
    path = tf.train.Checkpoint(iterator=first).save(str(tmp_path / "iterator"))
    expected = [batch.numpy() for batch in first]
    other = iter(data)  # another epoch, until it is restored
    tf.train.Checkpoint(iterator=other).restore(path)
    np.testing.assert_array_equal([batch.numpy() for batch in other], expected)
