"""Geometry against scipy, numpy and TensorFlow's own resize."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from recipes import augment
from recipes.augment.engine.resample import slide_pixels

RANDOM = np.random.default_rng(1)
IMAGES = RANDOM.uniform(0, 255, (6, 13, 16, 2)).astype("float32")


def run(operations, images, *, seed=(3, 4), **options):
    return augment.Pipeline(operations, jit_compile=False, **options)(images, seed=seed).numpy()


def warped_by_scipy(images, matrix, *, fill=0.0, mode="grid-constant"):
    """Each channel through scipy's affine_transform; `matrix` maps output (y, x) to input, about the middle."""
    middle = (np.array(images.shape[1:3]) - 1) / 2
    result = np.empty_like(images)
    for one, channel in np.ndindex(images.shape[0], images.shape[3]):
        result[one, :, :, channel] = scipy.ndimage.affine_transform(
            images[one, :, :, channel], matrix, middle - matrix @ middle, order=1, mode=mode, cval=fill
        )
    return result


def turn(degrees):
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


MATRICES = [
    (augment.Rotate((20, 20)), turn(20)),
    (augment.Zoom((1.3, 1.3)), np.eye(2) / 1.3),
    (augment.Zoom((0.7, 0.7)), np.eye(2) / 0.7),
    (augment.Stretch((1.44, 1.44)), np.diag([1.2, 1 / 1.2])),
    (augment.Shear((0.3, 0.3)), np.array([[1, 0], [0.3, 1]])),
    (augment.Shear((0.2, 0.2), (-0.4, -0.4)), np.array([[1, -0.4], [0.2, 1]])),
]


@pytest.mark.parametrize(("op", "matrix"), MATRICES, ids=lambda value: str(value)[:30])
def test_affine_operations_equal_scipy(op, matrix):
    np.testing.assert_allclose(run([op], IMAGES), warped_by_scipy(IMAGES, matrix), atol=2e-3)


def test_a_quarter_turn_is_numpys_counter_clockwise_one():
    square = IMAGES[:, :, :13]
    turned = run([augment.Rotate((90, 90))], square)
    np.testing.assert_allclose(turned, np.rot90(square, axes=(1, 2)), atol=2e-3)


def test_composed_operations_equal_one_warp_by_the_product_of_their_matrices():
    ops, matrices = zip(*(MATRICES[place] for place in (0, 1, 5, 3)), strict=True)
    product = matrices[0] @ matrices[1] @ matrices[2] @ matrices[3]  # the last operation reads first
    np.testing.assert_allclose(run(ops, IMAGES), warped_by_scipy(IMAGES, product), atol=5e-3)


@pytest.mark.parametrize(
    ("fill", "mode"), [("edge", "nearest"), ("reflect", "mirror"), (40.0, "grid-constant")]
)
def test_what_lies_outside(fill, mode):
    for op, matrix in (
        (augment.Rotate((35, 35), fill=fill), turn(35)),
        (augment.Zoom((0.7, 0.7), fill=fill), np.eye(2) / 0.7),
    ):
        expected = warped_by_scipy(IMAGES, matrix, fill=40.0, mode=mode)
        np.testing.assert_allclose(run([op], IMAGES), expected, atol=5e-3)


def test_the_mean_fill_is_the_color_of_the_image_or_of_the_data_set():
    images = np.broadcast_to(IMAGES[:, :1, :1], IMAGES.shape)  # each of one color
    np.testing.assert_allclose(run([augment.Rotate((45, 45), fill="mean")], images), images, atol=1e-2)
    statistics = augment.ColorStatistics((100.0, 50.0), (60.0, 60.0))
    padded = run([augment.Zoom((0.4, 0.4), fill="mean"), augment.Normalize(statistics)], images)
    np.testing.assert_array_equal(padded[:, 0, 0], 0.0)


def places(op, height=12, width=14, count=64, seed=(5, 6)):
    """Where output pixels come from: bilinear reads of ramps give the coordinates themselves."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    ramps = np.broadcast_to(np.stack([y, x], -1), (count, height, width, 2)).astype("float32")
    return run([op], ramps, seed=seed)


def test_lens_distortion_reads_at_r_times_one_plus_k_r_squared():
    y, x = np.meshgrid(np.arange(12) - 5.5, np.arange(14) - 6.5, indexing="ij")
    stretch = 1 - 0.3 * (y**2 + x**2) / (5.5**2 + 6.5**2)
    got = places(augment.LensDistortion((-0.3, -0.3)), count=1)[0]
    np.testing.assert_allclose(got, np.stack([5.5 + y * stretch, 6.5 + x * stretch], -1), atol=1e-4)
    noise = RANDOM.uniform(0, 255, (1, 12, 14, 1)).astype("float32")
    expected = scipy.ndimage.map_coordinates(noise[0, :, :, 0], np.moveaxis(got, -1, 0), order=1)
    np.testing.assert_allclose(
        run([augment.LensDistortion((-0.3, -0.3))], noise)[0, :, :, 0], expected, atol=5e-3
    )


def test_lens_distortion_between_two_turns_bends_about_the_turned_middle():
    there_and_back = [
        augment.Rotate((90, 90)),
        augment.LensDistortion((-0.3, -0.3)),
        augment.Rotate((-90, -90)),
    ]
    square = IMAGES[:, :, :13]
    # Radial distortion looks the same from every side.
    np.testing.assert_allclose(
        run(there_and_back, square)[:, 2:-2, 2:-2],
        run([augment.LensDistortion((-0.3, -0.3))], square)[:, 2:-2, 2:-2],
        atol=2e-2,
    )


NEUTRAL = [
    augment.Flip(probability=0),
    augment.PadCrop(0),
    augment.Rotate(0),
    augment.Translate(0, 0),
    augment.Zoom(0),
    augment.Stretch(0),
    augment.Shear(0),
    augment.LensDistortion(0),
    augment.RandomResizedCrop((13, 16), scale=(1, 1), ratio=(16 / 13, 16 / 13), probability=0),
    augment.Rotate(30, probability=0),
    augment.LensDistortion(0.2, probability=0),
    augment.GaussianBlur(1, probability=0),
]


def test_identity_parameters_return_the_input_bit_for_bit():
    byte_images = IMAGES.astype("uint8")
    for op in NEUTRAL:
        np.testing.assert_array_equal(run([op], IMAGES), IMAGES, err_msg=repr(op))
        np.testing.assert_array_equal(run([op], byte_images, dtype="uint8"), byte_images, err_msg=repr(op))
    np.testing.assert_array_equal(run(NEUTRAL, IMAGES), IMAGES)


def test_pad_crop_takes_every_window_of_the_padded_image_equally_often():
    image = np.arange(1, 31, dtype="float32").reshape(1, 5, 6, 1)
    many = np.repeat(image, 2500, 0)
    for fill, pad in (
        ("black", {"mode": "constant"}),
        ("edge", {"mode": "edge"}),
        ("reflect", {"mode": "reflect"}),
    ):
        padded = np.pad(image[0, :, :, 0], 2, **pad)
        windows = {padded[y : y + 5, x : x + 6].tobytes(): (y, x) for y in range(5) for x in range(5)}
        moved = run([augment.PadCrop(2, fill=fill)], many)
        seen = [windows[one.tobytes()] for one in moved[..., 0]]  # a KeyError is a window that cannot be
        counts = np.zeros((5, 5))
        np.add.at(counts, tuple(np.transpose(seen)), 1)
        # 100 each; the square deviations follow chi-square of 24 degrees, 99.99 % of which lies below 61.
        assert ((counts - 100) ** 2 / 100).sum() < 61


def test_crop_and_translate_take_every_window_and_shift():
    image = np.arange(1, 31, dtype="float32").reshape(1, 5, 6, 1)
    windows = {image[0, y : y + 3, x : x + 2, 0].tobytes() for y in range(3) for x in range(5)}
    cropped = run([augment.Crop(3, 2)], np.repeat(image, 400, 0))
    assert {one.tobytes() for one in cropped[..., 0]} == windows
    middle = run([augment.Crop(3, 2, probability=0)], image)
    np.testing.assert_array_equal(middle, image[:, 1:4, 2:4])

    down = run([augment.Translate((0.4, 0.4), (-0.5, -0.5))], image)[0, :, :, 0]
    np.testing.assert_array_equal(down, np.pad(image[0, :, :, 0], ((2, 0), (0, 3)))[:5, 3:])


def test_flip_mirrors_with_the_asked_probability_and_each_direction_on_its_own():
    image = np.arange(12, dtype="float32").reshape(1, 3, 4, 1)
    flipped = run([augment.Flip(True, True, probability=0.25)], np.repeat(image, 4000, 0))
    views = {
        image.tobytes(): 0,
        image[:, :, ::-1].tobytes(): 1,
        image[:, ::-1].tobytes(): 2,
        image[:, ::-1, ::-1].tobytes(): 3,
    }
    counts = np.bincount([views[one[None].tobytes()] for one in flipped], minlength=4)
    # Binomial with 4000 trials: four standard deviations are at most 0.032.
    np.testing.assert_allclose(counts / 4000, [0.5625, 0.1875, 0.1875, 0.0625], atol=0.032)


def test_resized_crop_draws_area_ratio_and_place_as_the_paper_says():
    op = augment.RandomResizedCrop(
        40, scale=(0.2, 0.5), ratio=(0.5, 2.0)
    )  # never shrinks: plain bilinear reads
    got = places(op, 40, 40, count=4000)
    steps = got[:, 20, 20] - got[:, 19, 19]  # input pixels for an output pixel, (y, x)
    sides = steps * 40
    area = sides.prod(1) / 1600
    ratio = np.log(sides[:, 1] / sides[:, 0])
    assert 0.2 - 1e-3 < area.min() and area.max() < 0.5 + 1e-3
    # Means of uniform draws: four standard errors.
    assert abs(area.mean() - 0.35) < 4 * 0.3 / np.sqrt(12 * 4000)
    assert np.abs(ratio).max() < np.log(2) + 1e-3 and abs(ratio.mean()) < 4 * np.log(4) / np.sqrt(12 * 4000)
    # The corner, half a step before the first center, is uniform over the places where the window fits.
    corner = got[:, 19, 19] - 19.5 * steps + 0.5
    where = corner / (40 - sides)
    assert where.min() > -1e-3 and where.max() < 1 + 1e-3
    np.testing.assert_allclose(where.mean(0), 0.5, atol=4 / np.sqrt(12 * 4000))


def test_a_window_is_what_tensorflow_resizes_it_to():
    whole = augment.RandomResizedCrop((7, 24), scale=(1, 1), ratio=(16 / 13, 16 / 13))
    expected = tf.image.resize(IMAGES, (7, 24), antialias=True)  # half as high, so antialiased: see next
    got = run([whole], IMAGES)
    np.testing.assert_allclose(got, expected, atol=0.02)
    larger = augment.RandomResizedCrop((20, 24), probability=0)
    np.testing.assert_allclose(run([larger], IMAGES), tf.image.resize(IMAGES, (20, 24)), atol=5e-3)


@pytest.mark.parametrize("fill", [None, "edge", "reflect", "black"])
def test_strong_shrinking_averages_as_tensorflows_antialiased_resize(fill):
    images = RANDOM.uniform(0, 255, (2, 40, 48, 3)).astype("float32")
    ops = [augment.RandomResizedCrop((10, 12), probability=0)]
    if fill is not None:
        ops.append(augment.PadCrop(1, fill=fill, probability=0))
    expected = tf.image.resize(images, (10, 12), antialias=True)
    np.testing.assert_allclose(run(ops, images), expected, atol=0.02)
    flipped = run([*ops, augment.Flip(probability=1)], images)
    np.testing.assert_allclose(flipped, expected[:, :, ::-1], atol=0.02)


def test_scale_crop_draws_every_whole_length_and_every_place():
    got = places(augment.ScaleCrop(14, short_side=(16, 20)), 16, 24, count=3000)
    steps = got[:, 7, 7] - got[:, 6, 6]
    np.testing.assert_allclose(steps[:, 0], steps[:, 1], atol=1e-4)
    lengths, counts = np.unique(np.round(16 / steps[:, 0], 3), return_counts=True)
    np.testing.assert_array_equal(lengths, [16, 17, 18, 19, 20])
    np.testing.assert_allclose(counts / 3000, 0.2, atol=4 * np.sqrt(0.16 / 3000))
    corner = got[:, 6, 6] - 6.5 * steps + 0.5
    room = np.array([16, 24]) - 14 * steps
    where = corner[room[:, 0] > 0.1] / room[room[:, 0] > 0.1]
    assert where.min() > -1e-3 and where.max() < 1 + 1e-3
    np.testing.assert_allclose(where.mean(0), 0.5, atol=4 / np.sqrt(12 * 3000))


def test_many_draws_about_zero_leave_no_systematic_shift():
    y, x = np.meshgrid(np.arange(15) - 7, np.arange(15) - 7, indexing="ij")
    blob = (200 * np.exp(-(y**2 + x**2) / 12)).astype("float32")[None, :, :, None]
    ops = [
        augment.Flip(True, True),
        augment.Rotate(30),
        augment.Translate(0.2, 0.2),
        augment.Zoom(0.2),
        augment.Shear(0.2, 0.2),
    ]
    mean = run(ops, np.repeat(blob, 20000, 0)).mean(0)[:, :, 0]
    center = [(mean * axis).sum() / mean.sum() for axis in (y, x)]
    # One image's center moves with a deviation of 2 pixels: four standard errors are 0.057.
    np.testing.assert_allclose(center, 0, atol=0.057)
    np.testing.assert_allclose(mean, mean[::-1, ::-1], atol=0.04 * mean.max())


def test_uint8_images_are_read_without_losing_half_a_level():
    gray = np.full((4, 12, 12, 1), 100, "uint8")
    turned = run([augment.Rotate((10, 10), fill="edge")], gray)
    np.testing.assert_allclose(turned, 100.0, atol=1e-3)
    images = RANDOM.integers(0, 256, (4, 12, 12, 3), dtype="uint8")
    exact = run([augment.Rotate((10, 10))], images)
    np.testing.assert_array_equal(run([augment.Rotate((10, 10))], images, dtype="uint8"), np.rint(exact))


def test_probability_leaves_the_other_images_untouched():
    many = np.repeat(IMAGES[:1], 2000, 0)
    turned = run([augment.Rotate((40, 40), probability=0.3)], many)
    changed = (turned != many).any((1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.21 / 2000)


def test_compiled_geometry_is_the_plain_one():
    images = RANDOM.integers(0, 256, (5, 20, 24, 3), dtype="uint8")
    ops = [
        augment.RandomResizedCrop(18),
        augment.Rotate(20, fill="reflect"),
        augment.LensDistortion(0.2, fill="reflect"),
    ]
    for chosen in (ops[:1], ops[:2], ops):
        plain, compiled = (
            augment.Pipeline(chosen, jit_compile=jit)(images, seed=(1, 2)) for jit in (False, True)
        )
        np.testing.assert_allclose(plain, compiled, atol=255 * 1e-4)


@pytest.mark.parametrize("fill", ["black", 7, (1.5, 200, 3)])
def test_windows_that_are_slid_in_memory_are_the_gathered_ones(fill):
    images = RANDOM.integers(0, 256, (7, 40, 24, 3), dtype=np.uint8)
    operations = [augment.PadCrop(9, fill=fill), augment.Flip(vertical=True), augment.Crop(33, 24)]
    for given in (images, images.astype("float32")):
        for dtype in ("float32", "uint8"):
            slid, gathered = (
                augment.Pipeline(operations, jit_compile=compiled, dtype=dtype)(given, seed=(1, 2)).numpy()
                for compiled in (True, False)
            )
            np.testing.assert_array_equal(slid, gathered)


def test_windows_are_compiled_without_knowing_their_places():
    slid = tf.function(
        lambda *given: slide_pixels(*given, np.zeros((1, 1, 1, 3), "float32"), down=True, across=True),
        jit_compile=True,
    )
    places = tf.TensorSpec((2, 32), tf.int32)
    program = slid.experimental_get_compiler_ir(tf.TensorSpec((2, 32, 32, 3), tf.uint8), places, places)
    assert "dynamic-slice" in program(stage="hlo")
