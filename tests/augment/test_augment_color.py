"""Colors, erasing, blur and noise against numpy and scipy."""

import numpy as np
import pytest
import scipy.ndimage

from recipes import augment

RANDOM = np.random.default_rng(2)
IMAGES = RANDOM.uniform(60, 180, (6, 12, 10, 3)).astype("float32")
LUMA = np.array([0.299, 0.587, 0.114])
VECTORS, _ = np.linalg.qr(RANDOM.normal(size=(3, 3)))
STATISTICS = augment.ColorStatistics(
    (120.0, 115.0, 100.0), (60.0, 58.0, 62.0), (9000.0, 900.0, 300.0), VECTORS.tolist()
)


def run(operations, images=IMAGES, *, seed=(3, 4), **options):
    return augment.Pipeline(operations, jit_compile=False, **options)(images, seed=seed).numpy()


def gray(images):
    return (images @ LUMA)[..., None]


def test_brightness_multiplies_the_distance_from_black():
    np.testing.assert_allclose(run([augment.Brightness((1.3, 1.3))]), IMAGES * 1.3, rtol=1e-5)
    centered = IMAGES / 127.5 - 1
    dark = run([augment.Brightness((0.5, 0.5))], centered, value_range=(-1, 1))
    np.testing.assert_allclose(dark, (centered + 1) * 0.5 - 1, atol=1e-5)


def test_contrast_moves_pixels_from_the_mean_gray_of_their_own_image():
    mean = gray(IMAGES).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(run([augment.Contrast((0.4, 0.4))]), mean + 0.4 * (IMAGES - mean), rtol=1e-4)
    two = IMAGES[..., :2]
    mean = two.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(run([augment.Contrast((0.4, 0.4))], two), mean + 0.4 * (two - mean), rtol=1e-4)


def test_saturation_moves_pixels_from_their_own_gray_and_zero_is_grayscale():
    expected = gray(IMAGES) + 1.4 * (IMAGES - gray(IMAGES))
    np.testing.assert_allclose(run([augment.Saturation((1.4, 1.4))]), expected, rtol=1e-4)
    expected = np.broadcast_to(gray(IMAGES), IMAGES.shape)
    np.testing.assert_allclose(run([augment.Saturation((0, 0))]), expected, rtol=1e-4)
    np.testing.assert_allclose(run([augment.Grayscale(probability=1)]), expected, rtol=1e-4)


def test_hue_turns_the_color_axes_of_yiq_and_keeps_luma_and_gray():
    to_yiq = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    angle = 2 * np.pi * 0.2
    yiq = IMAGES @ to_yiq.T
    turned = yiq.copy()
    turned[..., 1] = np.cos(angle) * yiq[..., 1] - np.sin(angle) * yiq[..., 2]
    turned[..., 2] = np.sin(angle) * yiq[..., 1] + np.cos(angle) * yiq[..., 2]
    expected = np.clip(turned @ np.linalg.inv(to_yiq).T, 0, 255)
    got = run([augment.Hue((0.2, 0.2))])
    np.testing.assert_allclose(got, expected, atol=1e-2)
    grays = np.repeat(IMAGES[..., :1], 3, -1)
    np.testing.assert_allclose(run([augment.Hue(0.5)], grays), grays, atol=2e-2)
    np.testing.assert_allclose(run([augment.Hue(0)]), IMAGES, atol=1e-3)


def test_jitter_is_its_four_operations_in_any_order():
    parts = [
        augment.Brightness((1.1, 1.1)),
        augment.Contrast((0.8, 0.8)),
        augment.Saturation((0.6, 0.6)),
        augment.Hue((0.1, 0.1)),
    ]
    together = run([augment.ColorJitter((1.1, 1.1), (0.8, 0.8), (0.6, 0.6), (0.1, 0.1))])
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        np.testing.assert_allclose(run([parts[place] for place in order]), together, atol=5e-3)


def test_factors_are_uniform_and_drawn_for_each_image():
    ones = np.ones((3000, 2, 2, 3), "float32")
    factors = run([augment.Brightness(0.4)], ones)[:, 0, 0, 0]
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 4 * 0.8 / np.sqrt(12 * 3000)
    either = run([augment.Brightness(augment.PlusMinus(0.3))], ones)[:, 0, 0, 0]
    np.testing.assert_allclose(np.unique(either), [0.7, 1.3], rtol=1e-5)


def test_fancy_pca_adds_one_color_an_image_with_the_covariance_of_the_paper():
    flat = np.full((20000, 1, 1, 3), 128, "float32")
    added = run([augment.FancyPCA(STATISTICS)], flat)[:, 0, 0] - 128
    # p_i alpha_i lambda_i with alpha ~ normal(0, 0.1) and lambda of pixels in 0..1, back in 0..255.
    share = np.array(STATISTICS.color_eigenvalues) / 255**2
    expected = VECTORS @ np.diag((0.1 * share) ** 2) @ VECTORS.T * 255**2
    # Relative error of a variance from 20 000 draws: 1 %; four of them, of the largest entry.
    np.testing.assert_allclose(np.cov(added.T), expected, atol=0.04 * expected.max())
    changed = run([augment.FancyPCA(STATISTICS, 1.0)]) - IMAGES
    np.testing.assert_allclose(changed, np.broadcast_to(changed[:, :1, :1], changed.shape), atol=1e-3)


def test_normalize_subtracts_and_divides_and_clips_to_the_normalized_range():
    mean, std = np.array(STATISTICS.channel_mean), np.array(STATISTICS.channel_std)
    np.testing.assert_allclose(run([augment.Normalize(STATISTICS)]), (IMAGES - mean) / std, atol=1e-5)
    bright = run([augment.Brightness((5, 5)), augment.Normalize(STATISTICS)])
    np.testing.assert_allclose(bright, (np.clip(IMAGES * 5, 0, 255) - mean) / std, atol=1e-4)


def test_clipping_happens_once_at_the_end_and_uint8_rounds():
    there_and_back = run([augment.Brightness((4, 4)), augment.Brightness((0.25, 0.25))])
    np.testing.assert_allclose(there_and_back, IMAGES, rtol=1e-5)
    np.testing.assert_allclose(run([augment.Brightness((2, 2))]), np.clip(IMAGES * 2, 0, 255), rtol=1e-5)
    byte_images = IMAGES.astype("uint8")
    expected = np.rint(np.clip(byte_images * 1.3, 0, 255))
    got = run([augment.Brightness((1.3, 1.3))], byte_images, dtype="uint8")
    assert (
        got.dtype == np.uint8
        and np.abs(got - expected).max() <= (np.abs(byte_images * 1.3 % 1 - 0.5) < 1e-4).any()
    )


def test_cutout_paints_a_square_about_any_pixel():
    images = np.full((20000, 9, 11, 1), 200, "float32")
    holes = run([augment.Cutout(4, fill="black")], images)[..., 0] == 0
    # By hand: along a side of n pixels, a square of 4 about pixel c covers [c - 2, c + 2) inside the image.
    covered = [[min(c + 2, n) - max(c - 2, 0) for c in range(n)] for n in (9, 11)]
    expected = np.mean(covered[0]) * np.mean(covered[1])
    area = holes.sum((1, 2))
    assert abs(area.mean() - expected) < 4 * area.std() / np.sqrt(20000)
    assert set(np.unique(area)) == {a * b for a in covered[0] for b in covered[1]}
    for hole in holes[:200]:  # a rectangle: as many pixels as its rows times its columns
        assert hole.sum() == hole.any(1).sum() * hole.any(0).sum()


def test_cutout_of_the_mean_is_zero_after_normalization_and_the_images_mean_without():
    holed = run([augment.Cutout(6), augment.Normalize(STATISTICS)])
    plain = run([augment.Normalize(STATISTICS)])
    changed = (holed != plain).any(-1)
    assert changed.sum() >= 6 * 9
    np.testing.assert_array_equal(holed[changed], 0)
    own = run([augment.Cutout(6)])
    mean = np.broadcast_to(IMAGES.mean((1, 2), keepdims=True), IMAGES.shape)
    changed = (own != IMAGES).any(-1)
    np.testing.assert_allclose(own[changed], mean[changed], rtol=1e-5)


def test_random_erase_draws_area_ratio_and_noise():
    images = np.zeros((3000, 24, 24, 1), "float32")
    op = augment.RandomErasing((0.05, 0.2), (0.5, 2.0), fill=255, probability=0.7)
    erased = run([op], images)[..., 0] > 0
    hit = erased.any((1, 2))
    assert abs(hit.mean() - 0.7) < 4 * np.sqrt(0.21 / 3000)
    rows, columns = erased[hit].any(2).sum(1), erased[hit].any(1).sum(1)
    np.testing.assert_array_equal(rows * columns, erased[hit].sum((1, 2)))
    # Whole pixels move the area of a 5 x 7 rectangle by up to a tenth of it a side.
    assert 0.05 * 0.8 < (rows * columns).min() / 576 and (rows * columns).max() / 576 < 0.2 * 1.1
    assert abs((rows * columns).mean() / 576 - 0.125) < 4 * 0.045 / np.sqrt(2000)
    assert abs(np.log(rows / columns).mean()) < 4 * 0.42 / np.sqrt(2000)
    noise = run([augment.RandomErasing((1, 1), (1, 1), probability=1)], images[:8])
    assert abs(noise.mean() - 127.5) < 4 * 74 / np.sqrt(noise.size) and abs(noise.std() - 73.6) < 2
    assert len({one.tobytes() for one in noise}) == 8


def test_colors_after_an_erasure_change_the_hole_too_and_before_it_do_not():
    kind = {"fill": 100.0}
    # A first operation that does nothing, so that the holes get the same draws.
    after = run([augment.Brightness(0), augment.Cutout(6, **kind), augment.Brightness((1.5, 1.5))])
    before = run([augment.Brightness((1.5, 1.5)), augment.Cutout(6, **kind)])
    hole = before == 100.0
    assert hole.any()
    np.testing.assert_allclose(after[hole], 150.0)
    np.testing.assert_allclose(after[~hole], before[~hole])


def test_contrast_after_an_erasure_measures_the_holes():
    pipeline = augment.Pipeline(
        [augment.Cutout(6, fill="black"), augment.Contrast((0.5, 0.5))], jit_compile=False
    )
    assert "pass 2 of 2" in repr(pipeline)
    holed = run([augment.Cutout(6, fill="black")], seed=(8, 8))
    mean = gray(holed).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(pipeline(IMAGES, seed=(8, 8)), mean + 0.5 * (holed - mean), atol=1e-2)


def test_blur_is_scipys_gaussian_filter():
    for sigma in (0.5, 1.3):
        blurred = run([augment.GaussianBlur(sigma, probability=1)])
        radius = int(np.ceil(3 * sigma))
        expected = scipy.ndimage.gaussian_filter(
            IMAGES, (0, sigma, sigma, 0), mode="reflect", radius=(0, radius, radius, 0)
        )
        np.testing.assert_allclose(blurred, expected, atol=1e-3)


def test_noise_has_the_asked_deviation_in_every_unit():
    flat = np.full((20, 30, 30, 3), 0.5, "float32")
    noisy = run([augment.GaussianNoise(0.05)], flat, value_range=(0, 1))
    assert abs(noisy.std() - 0.05) < 4 * 0.05 / np.sqrt(2 * noisy.size) and abs(noisy.mean() - 0.5) < 1e-3
    scaled = run([augment.Normalize(STATISTICS), augment.GaussianNoise(0.05)], flat * 255)
    np.testing.assert_allclose(
        scaled.std((0, 1, 2)), 0.05 * 255 / np.array(STATISTICS.channel_std), rtol=0.05
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_works_where_colors_are_not_mixed(channels):
    images = RANDOM.uniform(0, 255, (4, 16, 16, channels)).astype("float32")
    mean = tuple(images.mean((0, 1, 2)).tolist())
    vectors, _ = np.linalg.qr(RANDOM.normal(size=(channels, channels)))
    statistics = augment.ColorStatistics(mean, (70.0,) * channels, (800.0,) * channels, vectors.tolist())
    ops = [
        augment.Flip(),
        augment.Rotate(10),
        augment.Brightness(0.2),
        augment.Contrast(0.2),
        augment.FancyPCA(statistics),
        augment.Cutout(4),
        augment.Normalize(statistics),
        augment.GaussianNoise(0.01),
        augment.GaussianBlur(0.5),
        augment.MixUp(),
    ]
    assert run(ops, images).shape == (4, 16, 16, channels)


def test_compiled_colors_are_the_plain_ones():
    ops = [
        augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
        augment.FancyPCA(STATISTICS),
        augment.Grayscale(probability=0.3),
        augment.Cutout(4),
        augment.RandomErasing(),
        augment.Normalize(STATISTICS),
        augment.GaussianBlur((0.3, 0.8)),
        augment.GaussianNoise(0.02),
    ]
    plain, compiled = (augment.Pipeline(ops, jit_compile=jit)(IMAGES, seed=(1, 2)) for jit in (False, True))
    np.testing.assert_allclose(plain, compiled, atol=255 / 58 * 1e-4)
