"""Each equation by itself, against the paper's formula written as loops over numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf

from recipes.explain.adversarial import attack, defenses, norms, pgd
from recipes.explain.attribution.baselines import filled, masked
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.attribution.grad_cam_plus_plus import grad_cam_plus_plus, shares_of_positions
from recipes.explain.attribution.guided import deconvnet_rule, guided_rule
from recipes.explain.attribution.integrated_gradients import attribute, path, quadrature
from recipes.explain.attribution.layer_cam import layer_cam
from recipes.explain.attribution.occlusion import mean_over_windows, windows
from recipes.explain.attribution.rise import enlarged, importance
from recipes.explain.attribution.score_cam import increase, unit_range
from recipes.explain.attribution.score_cam import weigh as score_cam_maps
from recipes.explain.attribution.smooth_grad import deviation_of, noisy, statistic
from recipes.explain.inspection.loss_landscape import filter_normalized, offsets_of
from recipes.explain.inspection.noise_response import entropy, noise_images, softmax
from recipes.explain.synthesis.deep_dream import octave_sizes
from recipes.explain.synthesis.invert_features import alpha_norm_of, relative_distance
from recipes.explain.trust.deletion import area_under, pixels_changed, ranks_of, replaced


@pytest.fixture
def layer():
    """Activations and gradients `(2, 3, 2, 4)` of a layer, some of each sign."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(2, 2, 3, 2, 4)).astype("float32")


def places(values):
    return [
        (n, i, j)
        for n in range(values.shape[0])
        for i in range(values.shape[1])
        for j in range(values.shape[2])
    ]


def test_grad_cam_weighs_channels_by_their_mean_gradient(layer):
    activations, gradients = layer
    expected = np.zeros((2, 3, 2))
    for n, i, j in places(activations):
        for k in range(4):
            alpha = sum(gradients[n, a, b, k] for a in range(3) for b in range(2)) / 6  # equation 1
            expected[n, i, j] += alpha * activations[n, i, j, k]  # equation 2
    np.testing.assert_allclose(grad_cam.equation(activations, gradients), expected, rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_weighs_positions_by_equation_19(layer):
    activations, gradients = layer
    alpha = np.zeros(activations.shape)
    for n, i, j in places(activations):
        for k in range(4):
            g, total = gradients[n, i, j, k], activations[n, :, :, k].sum()
            alpha[n, i, j, k] = g**2 / (2 * g**2 + total * g**3)
    alpha /= alpha.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(shares_of_positions(activations, gradients), alpha, rtol=1e-3)
    expected = np.zeros((2, 3, 2))
    for n, i, j in places(activations):
        for k in range(4):
            weight = sum(
                alpha[n, a, b, k] * max(gradients[n, a, b, k], 0) for a in range(3) for b in range(2)
            )
            expected[n, i, j] += weight * activations[n, i, j, k]
    np.testing.assert_allclose(
        grad_cam_plus_plus.equation(activations, gradients), np.maximum(expected, 0), rtol=1e-3, atol=1e-5
    )


def test_layer_cam_weighs_each_position_by_its_positive_gradient(layer):
    activations, gradients = layer
    expected = np.zeros((2, 3, 2))
    for n, i, j in places(activations):
        expected[n, i, j] = max(
            0, sum(max(gradients[n, i, j, k], 0) * activations[n, i, j, k] for k in range(4))
        )
    np.testing.assert_allclose(layer_cam.equation(activations, gradients), expected, rtol=1e-4, atol=1e-6)


def test_score_cam_weighs_channels_by_their_increase(layer):
    activations, scores = layer[0], np.array([[0.5, 0.1, 0.9, 0.2], [0.3, 0.4, 0.0, 1.0]], "float32")
    before = np.array([0.2, 0.5], "float32")
    expected = np.zeros((2, 3, 2))
    for n, i, j in places(activations):
        expected[n, i, j] = max(
            0, sum((scores[n, k] - before[n]) * activations[n, i, j, k] for k in range(4))
        )
    found = score_cam_maps(activations, increase(scores, before))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_score_cams_masks_are_stretched_each_by_itself():
    planes = np.array([[[1.0, 3.0]], [[-2.0, 8.0]], [[4.0, 4.0]]], "float32")
    assert unit_range(planes).tolist() == [[[0, 1]], [[0, 1]], [[0, 0]]]


@pytest.mark.parametrize(("method", "gated"), [("guided", True), ("deconvnet", False)])
def test_rules_send_back_positive_gradients(method, gated):
    """R_l = (f > 0) (R > 0) R for guided backpropagation, (R > 0) R for the deconvnet, through a rectifier."""
    inputs = np.array([2.0, -1.0, 3.0, -2.0], "float32")
    upstream = np.array([0.5, 0.7, -0.4, -0.3], "float32")
    to_output, past = {"guided": guided_rule, "deconvnet": deconvnet_rule}[method](tf.constant(upstream))
    gate = (inputs > 0).astype("float32")
    found = (0 if to_output is None else to_output.numpy() * gate) + (0 if past is None else past.numpy())
    expected = [max(r, 0) * (f > 0 if gated else 1) for f, r in zip(inputs, upstream, strict=True)]
    np.testing.assert_allclose(found, expected)


def test_the_path_of_integrated_gradients_is_straight():
    start, end = np.array([[1.0, 4.0]], "float32"), np.array([[3.0, 0.0]], "float32")
    np.testing.assert_allclose(path(start, end, 0.25), [[1.5, 3.0]])
    np.testing.assert_array_equal(path(start, end, 0), start)
    np.testing.assert_array_equal(path(start, end, 1), end)


@pytest.mark.parametrize(("method", "degree"), [("midpoint", 1), ("gauss_legendre", 9)])
def test_quadrature_integrates_polynomials_of_its_degree_exactly(method, degree):
    where, weights = quadrature(method, 5)
    for power in range(degree + 1):
        np.testing.assert_allclose((weights * where**power).sum(), 1 / (power + 1), rtol=1e-5)


def test_integrated_gradients_of_a_product_are_halves_of_it():
    """f(x, y) = x y from (0, 0): the mean gradient along the way is (y / 2, x / 2), so each gets x y / 2."""
    start, end = np.zeros((1, 2), "float32"), np.array([[3.0, 5.0]], "float32")
    where, weights = quadrature("midpoint", 4)
    average = sum(w * path(start, end, t)[:, ::-1] for t, w in zip(where, weights, strict=True))
    np.testing.assert_allclose(attribute(start, end, average), [[7.5, 7.5]], rtol=1e-6)
    # From another baseline the difference counts, not the end.
    np.testing.assert_allclose(attribute(end, end, average), [[0, 0]])


def test_smooth_grads_noise_is_a_fraction_of_each_images_own_range():
    images = np.array([[0.0, 4.0], [1.0, 2.0]], "float32")
    np.testing.assert_allclose(deviation_of(images, 0.25), [[1.0], [0.25]])
    normal = np.array([[2.0, -1.0]], "float32")
    np.testing.assert_allclose(noisy(images, deviation_of(images, 0.25), normal), [[2.0, 3.0], [1.5, 1.75]])


def test_smooth_grads_statistics_are_numpys():
    gradients = np.random.default_rng(1).normal(size=(7, 3))
    sums = gradients.sum(0), (gradients**2).sum(0), 7
    np.testing.assert_allclose(statistic(*sums, "mean"), gradients.mean(0))
    np.testing.assert_allclose(statistic(*sums, "square"), (gradients**2).mean(0))
    np.testing.assert_allclose(statistic(*sums, "variance"), gradients.var(0))


def test_rise_shows_the_image_where_the_mask_is_one():
    image, nothing = np.array([[10.0, 20.0, 30.0]], "float32"), np.array([[1.0, 2.0, 4.0]], "float32")
    mask = np.array([[1.0, 0.0, 0.5]], "float32")
    np.testing.assert_allclose(masked(image, nothing, mask), [[10.0, 2.0, 17.0]])


def test_rise_finds_each_pixels_share_of_an_additive_score():
    """All 16 masks of four pixels, each as likely: E[f M] / E[M] - f is the pixel's value, up to a constant."""
    values = np.array([3.0, -1.0, 0.5, 2.0])
    total = np.zeros(4)
    for number in range(16):
        mask = np.array([number >> pixel & 1 for pixel in range(4)], float)
        total += (values * mask).sum() * mask
    found = importance(total, 16, 0.5)
    np.testing.assert_allclose(found, (values + values.sum()) / 2)


def test_rise_enlarges_a_grid_linearly_then_cuts_at_the_corner():
    grid = np.array([[0.0, 1.0, 0.0]], "float32")
    # Cells of two pixels: centers at 0.5, 2.5, 4.5, linear between, constant beyond.
    wide = np.interp(np.arange(6), [0.5, 2.5, 4.5], grid[0])
    for corner in (0, 1):
        np.testing.assert_allclose(enlarged(grid, (4,), np.array([[corner]]))[0], wide[corner : corner + 4])


def test_occlusions_windows_reach_the_far_border():
    found = [tuple((one.start, one.stop) for one in window) for window in windows((5, 4), (2, 4), (2, 1))]
    assert found == [((0, 2), (0, 4)), ((2, 4), (0, 4)), ((3, 5), (0, 4))]


def test_occlusion_averages_the_windows_over_a_pixel():
    slices = [(slice(0, 2),), (slice(1, 3),), (slice(2, 4),)]
    values = np.array([[4.0, 2.0, 6.0], [1.0, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(
        mean_over_windows(values, slices, (4,)), [[4.0, 3.0, 4.0, 6.0], [1.0, 0.5, 0.0, 0.0]]
    )


def test_a_mean_baseline_is_each_images_own_color():
    class Task:
        channel_axis, count = -1, 2

    images = np.random.default_rng(2).normal(size=(2, 3, 4, 2)).astype("float32")
    expected = [[images[n, :, :, c].mean() for c in range(2)] for n in range(2)]
    np.testing.assert_allclose(
        filled("occlusion", "value", "mean", images, Task, slice(0, 2))[:, 1, 2], expected, rtol=1e-5
    )


def test_deletion_takes_the_largest_values_first():
    maps = np.array([[[0.2, 0.9], [-1.0, 0.5]]], "float32")
    assert ranks_of(maps).tolist() == [[[2, 0], [3, 1]]]
    before, after = np.full((1, 2, 2), 7.0), np.zeros((1, 2, 2))
    assert replaced(before, after, ranks_of(maps), 2).tolist() == [[[7.0, 0.0], [7.0, 0.0]]]
    assert pixels_changed(10, 4).tolist() == [0, 2, 5, 8, 10]


def test_the_area_under_a_line_is_its_mean():
    scores, fraction = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]), np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(area_under(scores, fraction), [0.5, 0.25])


def test_the_margin_is_the_logarithm_of_the_odds():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], "float32")
    for row, label in ((0, 0), (1, 1)):
        probability = math.exp(logits[row, label]) / sum(math.exp(z) for z in logits[row])
        found = attack.margin(tf.constant(logits), tf.constant([0, 1]))[row]
        np.testing.assert_allclose(found, math.log((1 - probability) / probability), rtol=1e-5)


def test_the_steepest_step_has_length_one_in_its_norm():
    gradient = np.random.default_rng(3).normal(size=(2, 3, 3, 1)).astype("float32")
    np.testing.assert_array_equal(norms.steepest(tf.constant(gradient), "inf"), np.sign(gradient))
    found = norms.steepest(tf.constant(gradient), "2").numpy()
    for image, direction in zip(gradient, found, strict=True):
        np.testing.assert_allclose(direction, image / math.sqrt((image**2).sum()), rtol=1e-5)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("inf", [0.5 + 0.1, 0.2 - 0.1, 0.0]),  # moved by 0.3 a value, back to 0.1, back to the range
        ("2", [0.5 + 0.1 * 0.6, 0.2 - 0.1 * 0.8, 0.02]),
    ],
)
def test_a_step_of_pgd_ends_in_the_ball_within_the_range(norm, expected):
    original = np.array([0.5, 0.2, 0.02], "float32").reshape(1, 3, 1, 1)
    gradient = np.array([3.0, -4.0, -1e-3 if norm == "inf" else 0.0], "float32").reshape(1, 3, 1, 1)
    moved = pgd.stepped(tf.constant(original), tf.constant(gradient), original, (0.1, norm), 0.3, (0.0, 1.0))
    np.testing.assert_allclose(np.ravel(moved), expected, atol=1e-6)
    assert pgd.default_step(8, 40) == 0.5


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_random_starts_fill_the_ball_evenly(norm):
    draws = np.stack([norms.random_change([0, number], (3,), norm) for number in range(4000)])
    if norm == "inf":
        # Uniform in a cube: each coordinate has variance 1/3 and reaches the faces.
        np.testing.assert_allclose(draws.var(0), 1 / 3, rtol=0.06)
        assert np.abs(draws).max() > 0.99
    else:
        # Uniform in a ball of three dimensions: the share within radius 1/2 is 1/8.
        radius = np.linalg.norm(draws, axis=1)
        np.testing.assert_allclose((radius < 0.5).mean(), 1 / 8, atol=0.02)
        assert radius.max() <= 1


def test_relative_distances_do_not_depend_on_the_scale():
    plain, other = np.array([[3.0, 4.0]], "float32"), np.array([[3.0, 0.0]], "float32")
    for distance in (relative_distance(tf.constant(other), tf.constant(plain)),):
        np.testing.assert_allclose(distance, [16 / 25])
    np.testing.assert_allclose(defenses.relative_distance(tf.constant(plain), tf.constant(other)), [16 / 25])


def test_the_alpha_norm_is_the_mean_sixth_power():
    images = np.array([0.5, -1.0, 2.0, 0.0], "float32").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(alpha_norm_of(tf.constant(images)), [(0.5**6 + 1 + 64) / 4])


def test_octaves_shrink_by_powers_of_the_scale():
    assert octave_sizes((100, 60), 3, 1.4) == [(51, 31), (71, 43), (100, 60)]


def test_filters_of_a_direction_are_as_long_as_the_models():
    generator = np.random.default_rng(4)
    weights, values = generator.normal(size=(2, 3, 3, 4, 5)).astype("float32")
    found = filter_normalized(values, weights)
    for output in range(5):
        np.testing.assert_allclose(
            np.linalg.norm(found[..., output]), np.linalg.norm(weights[..., output]), rtol=1e-5
        )
        np.testing.assert_allclose(
            found[..., output] / values[..., output],
            found[0, 0, 0, output] / values[0, 0, 0, output],
            rtol=1e-4,
        )
    depthwise = filter_normalized(values, weights, kept=2)
    np.testing.assert_allclose(
        np.linalg.norm(depthwise[..., 1, 2]), np.linalg.norm(weights[..., 1, 2]), rtol=1e-5
    )


def test_offsets_hold_an_exact_zero():
    assert offsets_of(5, 0.3)[2] == 0
    np.testing.assert_allclose(offsets_of(5, 0.3), [-0.3, -0.15, 0, 0.15, 0.3], rtol=1e-6)


def test_entropy_is_that_of_the_definition():
    logits = np.array([[0.0, math.log(3.0)], [1000.0, 0.0]], "float32")
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [1, 0]], rtol=1e-6)
    expected = [-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), 0]
    np.testing.assert_allclose(entropy(softmax(logits)), expected, rtol=1e-6, atol=1e-12)


def test_normal_noise_spreads_by_a_sixth_of_the_range():
    images = noise_images("normal", (4, 40, 40, 3), (0, 255), seed=0)
    np.testing.assert_allclose(images.mean(), 127.5, rtol=0.01)
    np.testing.assert_allclose(images.std(), 255 / 6, rtol=0.02)
    constant = noise_images("constant", (4, 5, 5, 3), (0, 255), seed=0)
    assert (constant == constant[:, :1, :1]).all()
    assert len(np.unique(constant)) == 12
