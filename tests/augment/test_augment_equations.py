"""The equations of the operations, each as a function of arrays, against the papers, numpy, scipy and PIL."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, special

from recipes import augment
from recipes.augment.engine.magnitudes import draw, draw_log
from recipes.augment.engine.noise import inverse_error_function, normal_noise, uniform_noise
from recipes.augment.engine.operation import Frame
from recipes.augment.engine.resample import bilinear_taps, mirror, read_columns, read_rows, triangle_taps
from recipes.augment.engine.warp import compose, forward
from recipes.augment.operations.brightness import brightness_map
from recipes.augment.operations.contrast import contrast_map
from recipes.augment.operations.cutmix import pasted_edges
from recipes.augment.operations.cutout import square_start
from recipes.augment.operations.fancy_pca import principal_color
from recipes.augment.operations.gaussian_blur import (
    blur_image,
    gaussian_weights,
    mirrored,
    product_with_bands,
    sum_of_columns,
    sum_of_rows,
)
from recipes.augment.operations.hue import hue_matrix
from recipes.augment.operations.lens_distortion import distort, straighten
from recipes.augment.operations.mixup import blend_images
from recipes.augment.operations.normalize import normalizing_map
from recipes.augment.operations.random_erasing import rectangle_sides
from recipes.augment.operations.random_resized_crop import window_sides
from recipes.augment.operations.rotate import rotation
from recipes.augment.operations.saturation import saturation_matrix
from recipes.augment.operations.shear import slanting
from recipes.augment.operations.stretch import stretching
from recipes.augment.operations.translate import whole_shift
from recipes.augment.operations.zoom import read_factor, zooming

RANDOM = np.random.default_rng(11)
FRAME = Frame(20, 30, 3, np.zeros(3, "float32"), np.full(3, 255, "float32"))
IMAGES = RANDOM.uniform(0, 255, (2, 20, 30, 3)).astype("float32")


def matrix(warp):
    """A warp of one image as a matrix for (y, x, 1)."""
    yy, yx, y0, xy, xx, x0 = (float(np.ravel(entry)[0]) for entry in warp)
    return np.array([[yy, yx, y0], [xy, xx, x0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("warp", "linear"),
    [
        # In the plane with y upwards a turn by t reads at a turn by -t; y downwards exchanges the signs of the sines.
        (rotation(FRAME, tf.constant([0.3])), [[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]]),
        (zooming(FRAME, tf.constant([1.25])), [[0.8, 0], [0, 0.8]]),
        (stretching(FRAME, tf.constant([4.0])), [[2, 0], [0, 0.5]]),
        (slanting(FRAME, 0.25, -0.5), [[1, -0.5], [0.25, 1]]),
    ],
)
def test_linear_maps_leave_the_middle_where_it_is(warp, linear):
    found, middle = matrix(warp), np.array([9.5, 14.5, 1])
    np.testing.assert_allclose(found[:2, :2], linear, atol=1e-6)
    np.testing.assert_allclose(found @ middle, middle, atol=1e-5)


def test_forward_undoes_a_composed_warp():
    warp = compose(rotation(FRAME, tf.constant([0.4])), slanting(FRAME, 0.3, 0.1))
    warp = compose(warp, zooming(FRAME, tf.constant([0.7])))
    points = RANDOM.uniform(0, 20, (1, 8, 2)).astype("float32")
    y, x = forward(warp, points[..., 0], points[..., 1])
    back = np.stack([y, x, np.ones_like(y)], -1)[0] @ matrix(warp).T
    np.testing.assert_allclose(back[:, :2], points[0], atol=1e-4)


def test_whole_shifts_are_equally_likely_with_both_ends():
    shifts = whole_shift(tf.constant((np.arange(700) + 0.5) / 700, tf.float32), -3, 3)
    np.testing.assert_array_equal(np.unique(shifts, return_counts=True), [np.arange(-3, 4), [100] * 7])


def test_windows_have_the_area_of_the_draw_unless_the_image_is_shorter():
    height, width = window_sides(tf.constant([0.25, 1.0]), tf.constant([1.5, 4.0]), FRAME)
    np.testing.assert_allclose([height[0] * width[0], width[0] / height[0]], [150, 1.5], rtol=1e-5)
    np.testing.assert_allclose([height[1], width[1]], [np.sqrt(150), 30], rtol=1e-5)


def test_erased_rectangles_have_the_sides_of_algorithm_1():
    height, width = rectangle_sides(tf.constant([0.1, 0.4]), tf.constant([2.4, 0.3]), FRAME)
    np.testing.assert_array_equal(height, [12, 8])  # sqrt(60 * 2.4) = 12; sqrt(240 * 0.3) = 8.49
    np.testing.assert_array_equal(width, [5, 28])  # sqrt(60 / 2.4) = 5; sqrt(240 / 0.3) = 28.3


def test_squares_are_centered_on_any_pixel():
    starts = square_start(tf.constant([0.0, 0.5, 0.999]), 20, 5)
    np.testing.assert_array_equal(starts, [-2, 8, 17])


def test_pasted_edges_cover_the_root_of_the_share():
    first, behind = pasted_edges(tf.constant([0.5, 0.0, 0.95]), tf.constant([0.75, 0.75, 0.0]), 20)
    np.testing.assert_array_equal(first, [5, 0, 9])
    np.testing.assert_array_equal(behind, [15, 5, 20])


def test_mixup_is_equation_1():
    mixed = blend_images(IMAGES, IMAGES[::-1], tf.constant([0.25, 1.0]))
    np.testing.assert_allclose(mixed[0], 0.25 * IMAGES[0] + 0.75 * IMAGES[1], atol=1e-4)
    np.testing.assert_array_equal(mixed[1], IMAGES[1])


def test_color_maps_are_pils_enhancers():
    enhance = pytest.importorskip("PIL.ImageEnhance")
    from PIL import Image

    picture = np.round(IMAGES[0]).astype("uint8")
    pixels, mean = picture.astype("float32"), picture.reshape(1, -1, 3).mean(1).astype("float32")
    for kind, move in (
        (enhance.Brightness, lambda f: brightness_map(f, np.float32([0]))),
        (enhance.Contrast, lambda f: contrast_map(f, tf.constant(mean))),
        (enhance.Color, lambda f: (saturation_matrix(f), np.zeros((1, 3), "float32"))),
    ):
        scale, offset = (np.asarray(part)[0] for part in move(tf.constant([0.6])))
        moved = pixels @ scale.T if scale.ndim == 2 else pixels * scale
        expected = np.asarray(kind(Image.fromarray(picture)).enhance(0.6)).astype("float32")
        np.testing.assert_allclose(moved + offset, expected, atol=1.21)  # PIL rounds the mean, and truncates


def test_hue_turns_i_and_q_and_keeps_luma():
    turn = np.asarray(hue_matrix(tf.constant([0.7])))[0]
    color, moved = np.array([0.8, 0.3, 0.4]), turn @ np.array([0.8, 0.3, 0.4])
    yiq, turned = (np.array(colorsys.rgb_to_yiq(*one)) for one in (color, moved))
    np.testing.assert_allclose(turned[0], yiq[0], atol=2e-3)  # colorsys has two digits of the matrix
    found = np.angle(complex(*turned[1:])) - np.angle(complex(*yiq[1:]))
    np.testing.assert_allclose(found, 0.7, atol=1e-2)


def test_the_principal_color_is_the_sum_of_the_paper():
    values, vectors = np.array([900.0, 90.0, 9.0]), np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    alphas = RANDOM.normal(size=(4, 3)).astype("float32")
    expected = [
        sum(a * v * p for a, v, p in zip(row, values / 255**2, vectors.T, strict=True)) * 255
        for row in alphas
    ]
    np.testing.assert_allclose(
        principal_color(tf.constant(alphas), values, vectors, 255.0), expected, rtol=1e-4
    )


def test_normalizing_takes_the_mean_to_exactly_zero():
    mean, std = np.float32([100.3, 7.7]), np.float32([3.3, 0.7])
    scale, offset = normalizing_map(mean, std)
    np.testing.assert_array_equal(mean * scale + offset, np.zeros((1, 2)))
    np.testing.assert_allclose((mean + std) * scale + offset, np.ones((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("strength", [0.33, -0.33])
def test_straighten_undoes_distort_in_the_whole_image(strength):
    y, x = (part.reshape(1, -1).astype("float32") for part in np.indices((20, 30)))
    strengths = tf.constant([[strength]])
    there = distort(y, x, strengths, FRAME)
    radius = np.hypot(y - 9.5, x - 14.5) / np.hypot(9.5, 14.5)
    np.testing.assert_allclose(there[0] - 9.5, (y - 9.5) * (1 + strength * radius**2), atol=1e-4)
    back = straighten(*there, strengths, FRAME)
    inside = radius < 0.97  # at -0.33 the corner is where the map has no slope
    np.testing.assert_allclose(back[0].numpy()[inside], y[inside], atol=2e-3)
    np.testing.assert_allclose(back[1].numpy()[inside], x[inside], atol=2e-3)


def by_sums(images, weights):
    return sum_of_columns(sum_of_rows(mirrored(images, 8), weights), weights)


@pytest.mark.parametrize("form", [by_sums, product_with_bands])
def test_both_forms_of_the_blur_are_scipys_filter(form):
    weights = gaussian_weights(tf.constant([0.8, 2.5]), 8)
    both_sides = np.concatenate([weights[:, :0:-1], weights], 1)
    np.testing.assert_allclose(both_sides.sum(1), 1, atol=1e-6)
    got = form(IMAGES, weights)
    for image, sigma in enumerate((0.8, 2.5)):
        expected = ndimage.gaussian_filter(
            IMAGES[image].astype("float64"), (sigma, sigma, 0), radius=(8, 8, 0)
        )
        np.testing.assert_allclose(got[image], expected, atol=2e-3)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_large_images_are_blurred_one_by_one_as_scipy_does(kind):
    ndimage = pytest.importorskip("scipy.ndimage")
    one = np.random.default_rng(2).integers(0, 256, (97, 100, 3), dtype=np.uint8)
    for sigma, reach in ((0.3, 2), (1.4, 6)):
        weights = gaussian_weights(tf.constant([sigma]), 6)[0]
        got = blur_image(tf.constant(one.astype(kind)), weights, reach)
        got = tf.cast(got, tf.float32) / (64 if kind == "uint8" else 1)
        radius = (int(np.ceil(3 * sigma)),) * 2 + (0,)
        expected = ndimage.gaussian_filter(
            one.astype(float), (sigma, sigma, 0), mode="reflect", radius=radius
        )
        np.testing.assert_allclose(got, expected, atol=0.02 if kind == "uint8" else 1e-3)


def test_blurred_bytes_are_blurred_floats():
    whole, weights = np.round(IMAGES), gaussian_weights(tf.constant([0.8, 2.5]), 8)
    np.testing.assert_allclose(by_sums(whole.astype("uint8"), weights), by_sums(whole, weights), atol=1e-3)


@pytest.mark.parametrize("size", [7, 12, 29, 30, 47])
def test_triangle_reads_are_pils_bilinear(size):
    image = pytest.importorskip("PIL.Image")
    step = 30 / size
    places = tf.constant(step * (np.arange(size)[None] + 0.5) - 0.5, tf.float32)
    got = read_columns(IMAGES[:1], triangle_taps(places, 30, "edge", step), "edge")[0]
    for channel in range(3):
        one = image.fromarray(IMAGES[0, ..., channel])  # mode F: no rounding
        np.testing.assert_allclose(got[..., channel], one.resize((size, 20), image.BILINEAR), atol=2e-3)


def test_rows_are_read_as_columns_are():
    places = tf.constant(RANDOM.uniform(-3, 33, (2, 9)), tf.float32)
    taps = bilinear_taps(places, 30, np.full((1, 1, 1, 3), 40, "float32"))
    fill = np.full((1, 1, 1, 3), 40, "float32")
    turned = read_rows(IMAGES.transpose(0, 2, 1, 3), taps, fill)
    np.testing.assert_allclose(
        turned, np.transpose(read_columns(IMAGES, taps, fill), (0, 2, 1, 3)), atol=1e-4
    )
    expected = ndimage.map_coordinates(
        IMAGES[0, 4, :, 1].astype("float64"), [places[0].numpy()], order=1, mode="grid-constant", cval=40
    )
    np.testing.assert_allclose(turned[0, :, 4, 1], expected, atol=1e-3)


def test_mirror_reverses_the_chosen_images_only():
    got = mirror(IMAGES, tf.constant([True, False]), tf.constant([True, True]))
    np.testing.assert_array_equal(got[0], IMAGES[0, ::-1, ::-1])
    np.testing.assert_array_equal(got[1], IMAGES[1, :, ::-1])


def test_inverse_error_function_is_scipys():
    values = np.float32(np.concatenate([np.linspace(-0.9999, 0.9999, 4001), [1 - 2**-24, 2**-24 - 1]]))
    np.testing.assert_allclose(
        inverse_error_function(tf.constant(values)),
        special.erfinv(values.astype("float64")),
        rtol=2e-5,
        atol=1e-7,
    )


def test_noise_is_uniform_and_independent_between_pixels_and_images():
    keys = tf.constant(RANDOM.integers(-(2**31), 2**31, (8, 2)), tf.int32)
    numbers = uniform_noise(keys, (64, 64, 3)).numpy().reshape(8, -1).astype("float64")
    count = numbers.size
    bins = np.bincount((numbers * 256).astype(int).ravel(), minlength=256)
    assert abs(((bins - count / 256) ** 2 / (count / 256)).sum() - 255) < 4 * np.sqrt(2 * 255)
    centered = numbers - 0.5
    for shift in (1, 2, 3, 64 * 3, 4096):
        share = np.mean(centered * np.roll(centered, shift, 1)) * 12
        assert abs(share) < 4 / np.sqrt(count)
    correlations = np.corrcoef(numbers)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(numbers.shape[1])


def test_keys_that_differ_in_one_bit_give_unrelated_noise():
    keys = np.zeros((65, 2), "uint32")
    for bit in range(32):
        keys[1 + bit, 0] = keys[33 + bit, 1] = 1 << bit
    numbers = uniform_noise(tf.constant(keys.view("int32")), (4096,)).numpy()
    correlations = np.corrcoef(numbers)[np.triu_indices(65, 1)]
    assert np.abs(correlations).max() < 5.2 / 64


def test_normal_noise_has_the_moments_of_the_normal_law():
    keys = tf.constant(RANDOM.integers(-(2**31), 2**31, (8, 2)), tf.int32)
    numbers = normal_noise(keys, (128, 128)).numpy().ravel().astype("float64")
    count = numbers.size
    assert abs(numbers.mean()) < 4 / np.sqrt(count)
    assert abs(numbers.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((numbers**4).mean() - 3) < 4 * np.sqrt(96 / count)
    assert 3.9 < np.abs(numbers).max() < 5.43


@pytest.mark.parametrize(
    ("policy", "rotate", "shear", "shift", "factor"),
    [
        # RandAugment's table at half its strength, TrivialAugment's figure 2, wide and standard.
        (augment.RandAugment(1, 15).operations[0], 15, 0.15, 75 / 331, 0.45),
        (augment.TrivialAugment(), 135, 0.99, 32 / 224, 0.99),
        (augment.TrivialAugment(wide=False), 30, 0.3, 10 / 32, 0.9),
    ],
)
def test_policies_have_the_strengths_of_their_papers(policy, rotate, shear, shift, factor):
    def size(strength):
        return getattr(strength, "size", strength)

    turn, across, down, up, aside, *colors = policy.operations
    assert size(turn.degrees) == rotate
    assert (size(across.horizontal), across.vertical) == (shear, 0.0)
    assert (down.horizontal, size(down.vertical)) == (0.0, shear)
    np.testing.assert_allclose([size(up.height), size(aside.width)], shift)
    assert (up.width, aside.height) == (0.0, 0.0)
    np.testing.assert_allclose([size(color.factor) for color in colors], factor)
    # Doing nothing is one of the nine.
    np.testing.assert_allclose(augment.RandAugment().operations[0].probability, 8 / 9)


def test_draws_go_from_end_to_end_evenly_or_by_factors():
    uniform = tf.constant([0.0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(draw(uniform, (2.0, 6.0)), [2, 3, 4, 6])
    np.testing.assert_allclose(draw_log(uniform, (0.25, 4.0)), [0.25, 0.5, 1, 4], rtol=1e-6)
    both = augment.PlusMinus(3)
    np.testing.assert_array_equal(draw(uniform, (-3.0, 3.0), both), [-3, -3, 3, 3])
    np.testing.assert_allclose(draw_log(uniform, (0.5, 2.0), both), [0.5, 0.5, 2, 2])


def test_a_zoom_by_a_quarter_enlarges_as_far_as_it_shrinks():
    np.testing.assert_allclose(read_factor("Zoom", 0.25), (1 / 1.25, 1.25))
    np.testing.assert_allclose(read_factor("Zoom", (0.5, 3.0)), (0.5, 3.0))
