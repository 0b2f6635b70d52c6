"""Figures of maps against closed forms and loops."""

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from recipes import explain
from recipes.explain.attribution.imputation import imputed
from recipes.explain.trust.map_measures import errors

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.1, 1, (2, 6, 5, 2)).astype("float32")


def test_sparseness_is_the_mean_difference_of_all_pairs():
    maps = RNG.normal(size=(3, 4, 5))
    flat = np.abs(maps).reshape(3, -1)
    pairs = np.abs(flat[:, :, None] - flat[:, None]).sum((1, 2)) / (2 * 20 * flat.sum(1))
    np.testing.assert_allclose(explain.sparseness(maps), pairs, rtol=1e-5)
    assert explain.sparseness(np.zeros((1, 3, 3))) == 0


def test_a_complete_map_misses_nothing(linear):
    maps = explain.gradient_times_input(linear[0], IMAGES, 1)
    np.testing.assert_allclose(explain.completeness(linear[0], IMAGES, maps, 1), 0, atol=1e-5)
    np.testing.assert_allclose(explain.completeness(linear[0], IMAGES, 3 * maps, 1), 2, rtol=1e-4)


def test_a_linear_model_is_foretold_by_gradient_times_input(linear):
    model, weights, _ = linear
    maps = explain.gradient_times_input(model, IMAGES, 1)
    assert explain.infidelity(model, IMAGES, maps, 1).max() < 1e-9
    np.testing.assert_allclose(
        explain.infidelity(model, IMAGES, 0 * maps, 1, side=0.99),
        ((weights[..., 1] * IMAGES).sum((1, 2, 3))) ** 2,
        rtol=1e-4,
    )


def test_errors_are_those_of_the_best_fitting_scale():
    told, happened = RNG.normal(size=(2, 2, 30))
    factors = [
        np.linalg.lstsq(one[:, None], other, rcond=None)[0] for one, other in zip(told, happened, strict=True)
    ]
    expected = [
        np.mean((f * one - other) ** 2) for f, one, other in zip(factors, told, happened, strict=True)
    ]
    np.testing.assert_allclose(errors(told, happened, True), expected)
    np.testing.assert_allclose(errors(told, happened, False), ((told - happened) ** 2).mean(1))


def test_max_sensitivity_is_the_largest_change_of_the_map(quadratic):
    model, curvature = quadratic
    options = {"score": "probability", "reduce": "sum"}
    found = explain.max_sensitivity(
        model, IMAGES, explain.saliency, 0, radius=0.1, samples=4, seed=3, **options
    )
    generator, clean = np.random.default_rng(3), (2 * curvature * IMAGES).sum(-1)
    width = 0.1 * (IMAGES.max((1, 2, 3), keepdims=True) - IMAGES.min((1, 2, 3), keepdims=True))
    moves = [(2 * curvature * width * generator.uniform(-1, 1, (6, 5, 2))).sum(-1) for _ in range(4)]
    largest = np.max([np.sqrt((move**2).sum((1, 2))) for move in moves], 0)
    np.testing.assert_allclose(found, largest / np.sqrt((clean**2).sum((1, 2))), rtol=1e-4)


def test_randomized_logits_compares_with_another_class(linear):
    model, weights, _ = linear
    maps = np.abs(weights).max(2)
    found = explain.randomized_logits(model, IMAGES, explain.saliency, 1)
    others = [spearmanr(maps[..., 1].ravel(), maps[..., other].ravel()).statistic for other in (0, 2)]
    assert all(np.min(np.abs(others - one)) < 1e-5 for one in found)


def test_imputed_pixels_are_the_weighted_mean_of_their_neighbors():
    image, removed = RNG.uniform(size=(6, 7, 2)).astype("float32"), RNG.random((6, 7)) < 0.6
    result = imputed(image, removed, 0.0, RNG)
    np.testing.assert_array_equal(result[~removed], image[~removed])
    for row, column in zip(*np.nonzero(removed), strict=True):
        total, weights = 0.0, 0.0
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                y, x = row + down, column + along
                if (down or along) and 0 <= y < 6 and 0 <= x < 7:
                    weight = 1 / 12 if down and along else 1 / 6
                    total, weights = total + weight * result[y, x], weights + weight
        np.testing.assert_allclose(result[row, column], total / weights, rtol=1e-4)


def test_road_turns_round_with_the_map(linear):
    maps = explain.gradient_times_input(linear[0], IMAGES, 1)
    one, other = (explain.road(linear[0], IMAGES, sign * maps, 1) for sign in (1, -1))
    np.testing.assert_allclose(one.combined, -other.combined, atol=1e-2)
    assert (one.combined > 0).all()
    assert one.most_relevant_first.shape == (2, 5)


def test_compare_has_an_edge_detector_to_beat(linear):
    keras.utils.set_random_seed(0)
    metrics = ("road", "infidelity", "max_sensitivity", "completeness", "sparseness", "randomized_logits")
    table, _ = explain.compare(
        linear[0], IMAGES, 1, methods=("gradient_times_input",), metrics=metrics, verbose=0
    )
    assert set(table) == {"gradient_times_input", "random", "edges"}
    assert table["edges"]["randomized_logits"] == pytest.approx(1)
    assert table["gradient_times_input"]["completeness"] < 1e-4 < table["edges"]["completeness"]


def test_imputing_is_the_same_for_each_image_of_a_group():
    """One system of equations serves images that lose the same pixels."""
    removed = np.zeros((6, 5), bool)
    removed[2:5, 1:4] = True
    together = imputed(np.moveaxis(IMAGES, 0, -2).reshape(6, 5, -1), removed, 0.0, RNG).reshape(6, 5, 2, 2)
    for number, image in enumerate(IMAGES):
        np.testing.assert_allclose(together[:, :, number], imputed(image, removed, 0.0, RNG), rtol=1e-5)
    np.testing.assert_allclose(
        imputed(IMAGES[0], removed | True, 0.0, RNG),
        np.broadcast_to(IMAGES[0].mean((0, 1)), (6, 5, 2)),
        rtol=1e-5,
    )


def test_occlusion_that_imputes_leaves_a_ramp_as_it_was(linear):
    """Neighbors say all of a ramp, so that a linear model misses nothing but the noise; black takes the pixels away."""
    ramp = np.broadcast_to(np.linspace(1, 2, 6)[:, None, None], (1, 6, 5, 2)).astype("float32")
    window = {"patch": (2, 1), "stride": 1}
    kept = explain.occlusion(linear[0], ramp, 1, value="impute", **window)
    taken = explain.occlusion(linear[0], ramp, 1, **window)
    assert np.abs(kept[0, 1:-1]).max() < 0.2 * np.abs(taken[0, 1:-1]).max()


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_that_impute_end_at_the_image_or_its_mean_color(linear, name):
    model, weights, bias = linear
    maps = explain.gradient_times_input(model, IMAGES, 1)
    curve = getattr(explain, name)(model, IMAGES, maps, 1, baseline="impute", steps=4, score="logits")
    whole = (IMAGES * weights[..., 1]).sum((1, 2, 3)) + bias[1]
    mean = (IMAGES.mean((1, 2), keepdims=True) * weights[..., 1]).sum((1, 2, 3)) + bias[1]
    ends = (whole, mean) if name == "deletion" else (mean, whole)
    for place, expected in zip((0, -1), ends, strict=True):
        np.testing.assert_allclose(curve.scores[:, place], expected, atol=0.1)
    assert explain.infidelity(model, IMAGES, maps, 1, baseline="impute", samples=4).shape == (2,)
    with pytest.raises(ValueError, match="deletion, insertion, occlusion and infidelity take 'impute'"):
        explain.rise(model, IMAGES, 1, baseline="impute", cells=2, masks=2)


def test_compare_has_rows_of_relevance_and_layer_gradients():
    keras.utils.set_random_seed(0)
    methods = ("lrp", "layer_integrated_gradients")
    model = keras.Sequential(
        [
            *(keras.Input((6, 5, 2)), keras.layers.Conv2D(4, 3, activation="relu", name="map")),
            *(keras.layers.Flatten(), keras.layers.Dense(3, "softmax")),
        ]
    )
    table, _ = explain.compare(model, IMAGES, 1, methods=methods, metrics=("sparseness",), verbose=0)
    assert set(table) == {*methods, "random", "edges"} and not table.refused
    maps = explain.layer_integrated_gradients(model, IMAGES, 1, as_map=True)
    named = explain.layer_integrated_gradients(model, IMAGES, 1, layer="map", as_map=True)
    assert maps.shape == (2, 6, 5)
    np.testing.assert_array_equal(maps, named)
    with pytest.raises(ValueError, match="expects layer= for inputs"):
        explain.layer_integrated_gradients(linear_row(), np.ones((2, 3)), 0)


def linear_row():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
