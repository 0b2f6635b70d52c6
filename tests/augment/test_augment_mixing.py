"""MixUp and CutMix: labels say exactly what the pixels hold."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from recipes import augment
from recipes.data.balance import balanced_places

# An image of class c holds 1 in channel c and 0 elsewhere, so that its mean over the pixels is its label.
CLASSES = 4
LABELS = np.arange(600) % CLASSES
ROWS = np.eye(CLASSES, dtype="float32")[LABELS]
IMAGES = np.broadcast_to(ROWS[:, None, None], (600, 7, 9, CLASSES)).copy()


def run(operations, *parts, seed=(3, 4), **options):
    options = {"value_range": (0, 1), "classes": CLASSES, "jit_compile": False, **options}
    return augment.Pipeline(operations, **options)(*parts, seed=seed)


@pytest.mark.parametrize(
    "op",
    [
        augment.MixUp(0.5),
        augment.CutMix(1.0),
        augment.CutMix(0.3, probability=0.5),
        augment.OneOf([augment.MixUp(0.4), augment.CutMix()], probability=0.8),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None].astype("uint8"), ROWS], ids=["numbers", "column", "rows"]
)
def test_labels_are_the_mean_of_what_the_pixels_decode_to(op, labels):
    mixed, rows = run([augment.Flip(), op, augment.MixUp(1.0, probability=0.3)], IMAGES, labels)
    assert rows.shape == (600, CLASSES) and rows.dtype == tf.float32
    np.testing.assert_allclose(rows, np.mean(mixed, (1, 2)), atol=1e-5)
    assert np.unique(np.round(rows, 4)).size > 20


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_weights_are_beta_distributed_one_an_image(alpha):
    count = 4000
    images = np.zeros((count, 1, 1, 1), "float32")
    _, weights = run(
        [augment.MixUp(alpha)], images, np.eye(1, count, dtype="float32").repeat(count, 0) * 0, classes=None
    )
    assert not np.any(weights)
    # Every image its own class: what is left on the diagonal is the weight.
    _, rows = run([augment.MixUp(alpha)], images, np.eye(count, dtype="float32"), classes=None)
    weights = np.diag(rows)
    assert scipy.stats.kstest(weights, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    # 1 / (4 (2 alpha + 1)) is the variance of Beta(alpha, alpha).
    np.testing.assert_allclose(weights.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.1)


def test_a_very_small_alpha_keeps_one_of_the_two_images_and_no_nan():
    mixed, rows = run([augment.MixUp(0.001)], IMAGES, LABELS)
    assert np.isfinite(mixed).all() and np.isfinite(rows).all()
    assert (np.max(rows, 1) > 0.99).mean() > 0.95
    assert 0.2 < (np.argmax(rows, 1) == LABELS).mean() < 0.95


def test_everyone_gets_a_partner_nobody_is_their_own_and_partners_change():
    count = 12
    images, rows = np.zeros((count, 1, 1, 1), "float32"), np.eye(count, dtype="float32")
    partners = set()
    for draw in range(60):
        mixed = run([augment.MixUp(1.0)], images, rows, seed=(1, draw), classes=None)[1].numpy()
        others = mixed - np.diag(np.diag(mixed))
        assert ((mixed > 0).sum(1) == 2).all() and ((mixed > 0).sum(0) == 2).all()
        partners.add(int(others[0].argmax()))
    assert partners == set(range(1, count))


def test_two_mixings_draw_partners_of_their_own():
    rows = run(
        [augment.MixUp(1.0)] * 2,
        np.zeros((40, 1, 1, 1), "float32"),
        np.eye(40, dtype="float32"),
        classes=None,
    )[1]
    # With the same partners twice, an image would hold itself, its partner and the partner's partner: three.
    assert (rows.numpy() > 0).sum(1).max() == 4


def test_cutmix_areas_follow_the_share_before_the_border_cuts_them():
    count = 1500
    images = np.zeros((count, 50, 50, 1), "float32")
    rows = run([augment.CutMix(1.0)], images, np.eye(count, dtype="float32"), classes=None, seed=(5, 6))[
        1
    ].numpy()
    pasted = 1 - np.diag(rows)
    # By hand: with share s of the area, a side of length l = sqrt(s) about a uniform center covers l - l^2 / 4.
    lengths = np.sqrt(np.linspace(0, 1, 100001))
    covered = (lengths - lengths**2 / 4) ** 2
    assert abs(pasted.mean() - covered.mean()) < 4 * pasted.std() / np.sqrt(count)
    # And covers, squared, (1 - l) l^2 + 7 l^3 / 12.
    squares = ((1 - lengths) * lengths**2 + 7 / 12 * lengths**3) ** 2
    assert abs((pasted**2).mean() - squares.mean()) < 4 * (pasted**2).std() / np.sqrt(count)


def test_sample_weights_are_blended_with_the_same_shares():
    weights = np.linspace(0, 1, 600).astype("float32")
    as_rows = np.stack([weights, 1 - weights], 1)
    _, rows, mixed = run([augment.MixUp(0.5)], IMAGES, as_rows, weights, classes=None)
    np.testing.assert_allclose(mixed, rows[:, 0], atol=1e-6)


def test_probability_leaves_images_and_labels_whole():
    mixed, rows = run([augment.MixUp(1.0, probability=0.25)], IMAGES, LABELS)
    whole = (np.max(rows, 1) == 1) & (np.argmax(rows, 1) == LABELS)
    # A quarter is blended, three quarters of them with another class.
    same = np.all(np.asarray(mixed) == IMAGES, (1, 2, 3))
    np.testing.assert_array_equal(whole, same)
    assert abs(whole.mean() - 0.8125) < 0.1


def test_a_batch_of_one_image_and_a_small_last_batch_work():
    image, row = run([augment.Flip(), augment.CutMix(), augment.MixUp()], IMAGES[:1], LABELS[:1])
    np.testing.assert_allclose(image, IMAGES[:1], atol=1e-6)
    np.testing.assert_allclose(row, ROWS[:1], atol=1e-6)
    pipeline = augment.Pipeline([augment.MixUp()], value_range=(0, 1), classes=CLASSES)
    sizes = [
        len(x)
        for x, _ in tf.data.Dataset.from_tensor_slices((IMAGES[:9], LABELS[:9])).batch(8).apply(pipeline)
    ]
    assert sizes == [8, 1]


def test_labels_keep_their_dtype_and_value_where_nothing_mixes():
    for labels in (LABELS.astype("uint8"), LABELS.astype("int64")[:, None], ROWS.astype("float16")):
        images, same = run([augment.Flip()], IMAGES, labels, classes=None)
        assert same.dtype == tf.as_dtype(labels.dtype)
        np.testing.assert_array_equal(same, labels)
        mixed = run([augment.MixUp()], IMAGES, ROWS.astype("float16"))[1]
        assert mixed.dtype == tf.float16


def test_compiled_mixing_is_the_plain_one():
    ops = [augment.OneOf([augment.MixUp(0.5), augment.CutMix()])]
    plain = run(ops, IMAGES[:40], LABELS[:40])
    compiled = run(ops, IMAGES[:40], LABELS[:40], jit_compile=True)
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("balance", ["classes", "sqrt"])
def test_mixed_labels_are_as_balanced_as_the_examples_that_are_drawn(balance):
    counts = np.array([950, 50])
    labels = np.repeat([0, 1], counts)
    drawn = balanced_places(labels, balance, 3)(tf.data.Dataset.range(1000))
    labels = labels[list(drawn.as_numpy_iterator())]
    images = np.broadcast_to(np.float32(labels * 255)[:, None, None, None], (1000, 1, 1, 1))
    mixing = augment.OneOf([augment.MixUp(1.0), augment.CutMix(1.0)])
    mixed, shares = augment.Pipeline([mixing], classes=2, jit_compile=False)(images, labels, seed=(1, 2))
    np.testing.assert_allclose(mixed[:, 0, 0, 0] / 255, shares[:, 1], atol=1e-5)
    expected = np.ones(2) if balance == "classes" else np.sqrt(counts)
    np.testing.assert_allclose(np.mean(shares, 0), expected / expected.sum(), atol=0.03)


def test_keras_takes_the_class_weight_of_the_larger_share_alone():
    """Why the documentation sends mixed labels to sampling, or to weights that are mixed with the images."""
    rows, logits = np.float32([[0.6, 0.4], [0.4, 0.6]]), np.float32([[0.3, -0.2], [0.1, 0.5]])
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, use_bias=False, kernel_initializer="identity")]
    )
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    crossed = -(rows * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1)
    loss = model.fit(logits, rows, batch_size=2, class_weight={0: 1.0, 1: 10.0}, verbose=0).history["loss"][0]
    assert loss == pytest.approx(crossed @ [1.0, 10.0] / 2, rel=1e-5)
