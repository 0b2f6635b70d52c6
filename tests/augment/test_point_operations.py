"""Curves of levels, and sharpness, value by value as PIL has them."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment
from recipes.augment.operations.sharpness import _in_one_line, _in_rows, sharpen

image = pytest.importorskip("PIL.Image")
from PIL import ImageEnhance, ImageFilter, ImageOps  # noqa: E402 - behind the check that PIL is there

RANDOM = np.random.default_rng(3)
WAVES = np.sin(np.arange(40)[:, None] / 9 + np.arange(48) / 13)[None, ..., None]
BYTES = np.clip(120 + 90 * WAVES + RANDOM.normal(0, 12, (4, 40, 48, 3)), 20, 235).astype("uint8")
BYTES[1, ..., 1] = 77  # a channel of one value
BYTES[2] = BYTES[2] // 64 * 64  # few levels
CURVES = [
    (augment.Invert(probability=1), ImageOps.invert),
    (augment.AutoContrast(probability=1), ImageOps.autocontrast),
    (augment.Equalize(probability=1), ImageOps.equalize),
    *((augment.Posterize(bits), lambda one, bits=bits: ImageOps.posterize(one, bits)) for bits in (1, 4, 8)),
    *(
        (augment.Solarize(level / 255, probability=1), lambda one, level=level: ImageOps.solarize(one, level))
        for level in (1, 128, 200)
    ),
]


def run(op, images=BYTES, **options):
    return augment.Pipeline([op], **{"jit_compile": False, **options})(images, seed=(1, 2)).numpy()


@pytest.mark.parametrize(("op", "pil"), CURVES, ids=[repr(op) for op, _ in CURVES])
def test_curves_are_pils_value_by_value(op, pil):
    expected = np.stack([np.asarray(pil(image.fromarray(one))) for one in BYTES])
    np.testing.assert_array_equal(run(op, dtype="uint8"), expected)
    scaled = run(op, BYTES.astype("float32") / 127.5 - 1, value_range=(-1, 1))
    np.testing.assert_allclose((scaled + 1) * 127.5, expected, atol=1e-2)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.9])
def test_sharpness_is_pils_up_to_the_level_it_cuts_off(factor):
    expected = [ImageEnhance.Sharpness(image.fromarray(one)).enhance(factor) for one in BYTES]
    got = run(augment.Sharpness((factor, factor)))
    np.testing.assert_allclose(
        got, np.stack([np.asarray(one) for one in expected]), atol=1.5 + abs(1 - factor) / 2
    )
    smooth = np.stack([np.asarray(image.fromarray(one).filter(ImageFilter.SMOOTH)) for one in BYTES]).astype(
        float
    )
    exact = np.clip(smooth + factor * (BYTES - smooth), 0, 255)
    np.testing.assert_allclose(got, exact, atol=0.51 * abs(1 - factor) + 1e-2)  # SMOOTH rounds


def test_levels_are_drawn_for_each_image():
    ramp = np.broadcast_to(np.arange(256, dtype="uint8").reshape(1, 16, 16, 1), (400, 16, 16, 1))
    kept = [len(np.unique(one)) for one in run(augment.Posterize((2, 5)), ramp)]
    levels, counts = np.unique(kept, return_counts=True)
    np.testing.assert_array_equal(levels, [4, 8, 16, 32])
    np.testing.assert_allclose(counts / 400, 0.25, atol=0.09)
    starts = [
        np.argmax(one.ravel() != np.arange(256))
        for one in run(augment.Solarize((0.2, 0.6), probability=1), ramp)
    ]
    assert 0.2 * 255 - 1 <= min(starts) and max(starts) <= 0.6 * 255 + 1
    assert abs(np.mean(starts) - 0.4 * 255) < 4 * 0.4 * 255 / np.sqrt(12 * 400)


def test_compiled_curves_are_the_plain_ones():
    operations = [
        augment.Equalize(),
        augment.Posterize(),
        augment.Solarize(),
        augment.AutoContrast(),
        augment.Sharpness(),
    ]
    one, other = (
        augment.Pipeline(operations, jit_compile=compiled)(BYTES, seed=(5, 6)) for compiled in (True, False)
    )
    np.testing.assert_allclose(one, other, atol=1e-2)


def test_curves_composed_to_a_table_are_those_of_one_after_the_other():
    lists = [
        [augment.Equalize(probability=1)],
        [augment.Posterize((2, 6)), augment.Equalize(), augment.Invert(), augment.AutoContrast()],
        [augment.AutoContrast(probability=1), augment.Solarize(0.4, probability=0.5), augment.Equalize()],
        [augment.Equalize(), augment.Posterize(3), augment.Equalize(), augment.Flip()],
    ]
    for operations in lists:
        for images in (BYTES, BYTES[..., :1]):
            table, chain = (
                augment.Pipeline(operations, jit_compile=compiled, dtype="uint8")(images, seed=(5, 6))
                for compiled in (True, False)
            )
            np.testing.assert_array_equal(table, chain)


@pytest.mark.parametrize(
    "op", [lambda: augment.Posterize(0), lambda: augment.Posterize((3, 9)), lambda: augment.Solarize(128)]
)
def test_strengths_out_of_range_are_refused(op):
    with pytest.raises(ValueError, match="expects (bits|threshold)"):
        op()


@pytest.mark.parametrize(("dtype", "sums"), [("uint8", "int16"), ("int32", "int32"), ("float32", "float32")])
def test_large_images_are_sharpened_as_small_ones(dtype, sums):
    images = tf.constant(BYTES.astype(dtype))
    factor = tf.linspace(0.1, 1.9, len(BYTES))
    flat, rows = (way(images, factor, tf.as_dtype(sums)) for way in (_in_one_line, _in_rows))
    np.testing.assert_allclose(rows, flat, atol=1e-4)
    np.testing.assert_array_equal(sharpen(images, factor), tf.reshape(flat, BYTES.shape))
