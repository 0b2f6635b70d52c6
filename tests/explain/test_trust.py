"""The measures of trust: closed forms, loops, and the findings of their papers on a trained network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.stats import spearmanr

from recipes import explain
from recipes.explain.trust.compare_attributions import Table

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_are_those_of_a_loop_over_single_pixels(linear, images, name):
    model, _, _ = linear
    maps = np.random.default_rng(4).normal(size=(4, 6, 5)).astype("float32")
    curve = getattr(explain, name)(model, images, maps, 1, steps=10, baseline=0.3, batch_size=7)
    np.testing.assert_allclose(curve.fraction, np.linspace(0, 1, 11), atol=1e-6)
    for image, one, scores, area in zip(images, maps, curve.scores, curve.area, strict=True):
        present = image.copy() if name == "deletion" else np.full_like(image, 0.3)
        other = np.full_like(image, 0.3) if name == "deletion" else image
        places = sorted(np.ndindex(6, 5), key=lambda place: -one[place])
        expected = [float(model(present[None])[0, 1])]
        for step in range(10):
            for place in places[3 * step : 3 * step + 3]:
                present[place] = other[place]
            expected.append(float(model(present[None])[0, 1]))
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        trapezoids = [(a + b) / 2 / 10 for a, b in zip(expected[:-1], expected[1:], strict=True)]
        np.testing.assert_allclose(area, sum(trapezoids), atol=1e-5)


def test_the_exact_map_of_a_linear_model_beats_every_other(linear, images):
    model, _, _ = linear
    exact = explain.gradient_times_input(model, images, 1)
    options = {"score": "logits", "steps": 30, "baseline": 0.0}
    best = explain.deletion(model, images, exact, 1, **options)
    worst = explain.deletion(model, images, -exact, 1, **options)
    chance = explain.deletion(model, images, np.zeros_like(exact), 1, **options)
    assert np.all(best.area < chance.area) and np.all(chance.area < worst.area)
    single = explain.deletion(model, images[2], exact[2], 1, **options)
    np.testing.assert_allclose(single.scores, best.scores[2], atol=1e-5)


@pytest.mark.parametrize(
    ("maps", "message"),
    [(np.zeros((4, 5, 6)), "one for each image"), (np.full((4, 6, 5), np.nan), "NaN or infinity")],
)
def test_maps_that_fit_no_image_are_refused(linear, images, maps, message):
    with pytest.raises(ValueError, match=message):
        explain.insertion(linear[0], images, maps)


def test_gradients_and_grad_cam_pass_the_sanity_check_and_guided_backprop_does_not(trained_cnn):
    """The finding of Adebayo et al. 2018: guided backpropagation survives the loss of the upper layers."""
    model, images, _ = trained_cnn
    weights = model.get_weights()
    checks = {
        name: explain.sanity_check(model, images[:40], getattr(explain, name))
        for name in ("saliency", "grad_cam", "guided_backprop")
    }
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert checks["saliency"].layers == ["logits", "conv2", "conv1"]
    half = {name: check.absolute_rank_correlation[:2].mean() for name, check in checks.items()}
    assert half["guided_backprop"] > 0.5
    assert abs(half["saliency"]) < 0.3 and abs(half["grad_cam"]) < 0.3
    for name in ("saliency", "grad_cam"):
        assert abs(checks[name].similarity) < 0.5 * checks["guided_backprop"].similarity
        assert np.abs(checks[name].ssim[-1].mean()) < 0.3
    assert "conv2" in str(checks["grad_cam"])


def test_sanity_figures_follow_from_the_maps_of_a_copy_with_those_weights(trained_cnn):
    model, images, _ = trained_cnn
    images, seen = images[:3], []

    def method(model, images, target, **options):
        maps = explain.saliency(model, images, target, reduce="sum")
        seen.append((maps, model.get_weights()))
        return maps

    check = explain.sanity_check(model, images, method, 2, kind="independent", seed=5)
    trained = seen[0][1]
    for number, (maps, weights) in enumerate(seen[1:]):
        changed = [not np.array_equal(old, new) for old, new in zip(trained, weights, strict=True)]
        layer = {"conv1": 0, "conv2": 1, "logits": 2}[check.layers[number]]
        assert [i // 2 for i, differs in enumerate(changed) if differs and i % 2 == 0] == [layer]
        for image in range(3):
            pair = seen[0][0][image].ravel(), maps[image].ravel()
            np.testing.assert_allclose(check.rank_correlation[number, image], spearmanr(*pair)[0], atol=1e-5)
            pair = np.abs(pair[0]), np.abs(pair[1])
            np.testing.assert_allclose(
                check.absolute_rank_correlation[number, image], spearmanr(*pair)[0], atol=1e-5
            )
    again = explain.sanity_check(model, images, method, 2, kind="independent", seed=5, at=["conv2"])
    assert again.layers == ["conv2"]


def test_weights_come_back_after_an_exception(trained_cnn):
    model, images, _ = trained_cnn
    before, calls = model.get_weights(), []

    def breaks(model, images, target):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return explain.saliency(model, images, target)

    with pytest.raises(KeyboardInterrupt):
        explain.sanity_check(model, images[:2], breaks)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_are_drawn_from_their_own_initializers():
    from recipes.explain.trust.sanity_check import reinitialize

    layers = keras.layers
    fixed = keras.initializers.RandomNormal(mean=3.0, stddev=0.1, seed=1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16)),
            layers.Conv2D(16, 3, kernel_initializer=fixed, bias_initializer="ones"),
            layers.SeparableConv2D(16, 3, depthwise_initializer="ones", pointwise_initializer="he_normal"),
            layers.BatchNormalization(gamma_initializer="zeros"),
        ]
    )
    first = model.layers[0].kernel.numpy()
    model.set_weights([np.full(weight.shape, 7.0) for weight in model.weights])
    for layer in model.layers:
        reinitialize(layer, [0, 0])
    kernel, bias = (weight.numpy() for weight in model.layers[0].weights)
    assert abs(kernel.mean() - 3) < 0.01 and abs(kernel.std() - 0.1) < 0.01 and np.all(bias == 1)
    assert not np.array_equal(kernel, first)  # a seeded initializer would give the untrained network back
    depthwise, pointwise, _ = (weight.numpy() for weight in model.layers[1].weights)
    assert np.all(depthwise == 1)
    np.testing.assert_allclose(pointwise.std(), np.sqrt(2 / 16), rtol=0.1)
    gamma, beta, mean, variance = (weight.numpy() for weight in model.layers[2].weights)
    assert np.all(gamma == 0) and np.all(beta == 0) and np.all(mean == 0) and np.all(variance == 1)


def test_stability_of_a_quadratic_is_twice_its_curvature(quadratic, images):
    """Every map of x is 2 c x, so with one c everywhere the ratio is 2 c, and the order of pixels moves with theirs."""
    model, curvature = quadratic
    model.layers[-1].set_weights([np.full((60, 1), 1.5, "float32")])
    try:
        options = {"reduce": "l2"}
        single = explain.stability(model, images, explain.saliency, radius=0.01, **options)
        # By the triangle inequality the norm over channels moves no further than the gradients do.
        assert np.all(single.lipschitz <= 3.0 + 1e-3) and np.all(single.lipschitz > 1.0)
        constant = explain.stability(
            model, images, lambda m, x, t: np.broadcast_to(np.arange(5.0), (4, 6, 5))
        )
        np.testing.assert_allclose(constant.lipschitz, 0)
        np.testing.assert_allclose(constant.rank_correlation, 1, rtol=1e-6)
        np.testing.assert_allclose(constant.top_intersection, 1)
        np.testing.assert_allclose(constant.kept, 1)
    finally:
        model.layers[-1].set_weights([curvature.reshape(-1, 1)])


def test_only_perturbations_that_keep_the_prediction_count(trained_cnn):
    model, images, _ = trained_cnn
    images = images[:12]
    predicted = model.predict(images, verbose=0).argmax(1)
    seen = []

    def method(model, images, target):
        seen.append(np.asarray(images))
        return explain.saliency(model, images, target)

    result = explain.stability(model, images, method, kind="sign", radius=0.25, samples=6)
    flips = np.array([model.predict(x, verbose=0).argmax(1) == predicted for x in seen[1:]])
    assert 0.2 < flips.mean() < 0.98
    np.testing.assert_allclose(result.kept, flips.mean(0), rtol=1e-6)
    reach = 0.25 * np.ptp(images.reshape(12, -1), axis=1)
    for x in seen[1:]:
        change = np.abs(x - images).reshape(12, -1).max(1)
        assert np.all(change <= reach * 1.001) and x.min() >= 0 and x.max() <= 255


def test_the_attack_finds_worse_than_the_same_number_of_random_signs(trained_cnn):
    model, images, _ = trained_cnn
    options = {"radius": 0.03, "samples": 100}
    signs = explain.stability(model, images[:40], explain.saliency, kind="sign", **options)
    attack = explain.stability(model, images[:40], explain.saliency, kind="attack", **options)
    # Four to five standard errors with oneDNN and without: two are no matter of last bits.
    worse = signs.rank_correlation - attack.rank_correlation
    worse = worse[np.isfinite(worse)]
    assert worse.mean() > 2 * worse.std() / np.sqrt(len(worse))


def test_random_maps_hit_as_often_as_the_object_covers_the_image():
    maps = np.random.default_rng(0).random((4000, 8, 10))
    boxes = [(2, 3, 6, 8)] * 4000
    # 20 of 80 pixels; 4000 tries have a deviation of sqrt(.25 * .75 / 4000).
    assert abs(explain.pointing_game(maps, boxes).mean() - 0.25) < 5 * 0.0069


def test_pointing_hits_and_misses_by_a_pixel():
    maps = np.zeros((1, 8, 10))
    maps[0, 5, 7] = 1
    for box, tolerance, hit in [
        ((2, 3, 6, 8), 0, True),
        ((2, 3, 5, 8), 0, False),
        ((2, 3, 6, 7), 0, False),
        ((2, 3, 5, 7), 1, False),
        ((2, 3, 5, 7), 1.5, True),
        ([(0, 0, 1, 1), (5, 7, 6, 8)], 0, True),
        (maps[0] > 0, 0, True),
    ]:
        assert explain.pointing_game(maps, [box], tolerance=tolerance)[0] == hit
    for box in [(2, 3, 2, 8), (2, 3, 9, 8), (-1, 0, 2, 2), np.zeros((8, 10))]:
        with pytest.raises(ValueError, match="top, left, bottom, right"):
            explain.pointing_game(maps, [box])
    with pytest.raises(ValueError, match="one entry of boxes for each"):
        explain.pointing_game(maps, [(0, 0, 1, 1)] * 2)


def test_compare_tells_a_good_map_from_chance(trained_cnn):
    model, images, _ = trained_cnn
    boxes = [(0, 0, 8, 4)] * 3
    metrics = ("deletion", "insertion", "stability", "sanity", "pointing")
    table, figure = both = explain.compare(
        model,
        images[:3],
        methods=["guided_backprop", "grad_cam"],
        metrics=metrics,
        boxes=boxes,
        options={"grad_cam": {"layer": "conv1"}},
    )
    assert list(table) == ["guided_backprop", "grad_cam", "random", "edges"] and not table.refused
    assert all(set(row) == {*metrics, "seconds"} for row in table.values())
    maps = explain.guided_backprop(model, images[:3])
    expected = explain.deletion(model, images[:3], maps, steps=20, baseline="blur").area.mean()
    np.testing.assert_allclose(table["guided_backprop"]["deletion"], expected, rtol=1e-5)
    assert table["guided_backprop"]["deletion"] < table["random"]["deletion"]
    assert table["grad_cam"]["sanity"] < table["guided_backprop"]["sanity"]
    assert "lower is better" in str(table) and "grad_cam" in str(table) and str(both) == str(table)
    assert len([axes for axes in figure.axes if axes.images]) == 3 * 5
    assert figure.axes[2].get_title() == "grad_cam\nconv1"


def test_headings_of_a_comparison_stand_apart():
    table, metrics = Table(), ("pointing", "completeness", "randomized_logits")
    table["saliency"] = dict.fromkeys(metrics, 0.0)
    assert str(table).splitlines()[0].split() == ["method", *metrics]


def test_compare_counts_no_map_that_is_the_same_everywhere(linear, images):
    methods = {
        "nothing": lambda _, given, *__: np.zeros(np.shape(given)[:3], "float32"),
        "half": lambda _, given, *__: np.stack(
            [*explain.saliency(linear[0], given[:1]), 0 * given[1, ..., 0]]
        ),
    }
    table, _ = explain.compare(linear[0], images[:2], methods=methods, metrics=("deletion",))
    assert "the same everywhere" in table.refused["nothing"]
    maps = explain.saliency(linear[0], images[:1])
    expected = explain.deletion(linear[0], images[:1], maps, steps=20, baseline="blur").area
    np.testing.assert_allclose(table["half"]["deletion"], expected, rtol=1e-5)


def test_compare_says_what_it_left_out(linear, images):
    table, _ = explain.compare(
        linear[0], images, methods=("saliency", "guided_backprop"), metrics=("deletion",)
    )
    assert list(table) == ["saliency", "random", "edges"] and "rectifiers" in table.refused["guided_backprop"]
    assert "guided_backprop was left out" in str(table)
    with pytest.raises(ValueError, match="methods among"):
        explain.compare(linear[0], images, methods=("saliencies",))
    with pytest.raises(ValueError, match="boxes exactly when"):
        explain.compare(linear[0], images, metrics=("pointing",))


def test_pointing_over_counts_each_class_of_each_mask(linear):
    """The map is where an image is not 0: told where to look, a map hits there and nowhere else."""
    masks = np.zeros((5, 6, 5), "int64")
    masks[0, 1, 2] = masks[1, 4, 4] = 1
    masks[1, 0, 0] = masks[2, 3, 1] = masks[4, 5, 4] = 2
    images = np.zeros((5, 6, 5, 2), "float32")
    images[0, 1, 2] = images[1, 4, 4] = images[2, 3, 1] = images[4, 5, 3] = 1
    data = tf.data.Dataset.from_tensor_slices((images, masks))
    asked = []

    def bright(_, images, target, **__):
        asked.append(target)
        return images.sum(-1)

    found = explain.pointing_over(linear[0], data, bright, classes={1: 0, 2: 2}, batch_size=2)
    assert asked == [[0, 0, 2], [2], [2]]
    assert found.of_class == {1: (2, 2), 2: (1, 3)} and found.without_object == 1
    assert found.accuracy == pytest.approx((1 + 1 / 3) / 2) and found.chance == pytest.approx(1 / 30)
    assert found.hits.tolist() == [True, True, False, True, False]
    near = explain.pointing_over(linear[0], data.batch(3), bright, tolerance=1)
    assert near.accuracy == 1 and asked[-1] is None and near.chance > 3 / 30
    with pytest.raises(ValueError, match="masks with an object"):
        explain.pointing_over(linear[0], data, bright, classes={7: 0})


def test_pointing_over_reads_a_folder_of_images_with_masks(tmp_path):
    model = keras.Sequential(
        [
            *(keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 1, kernel_initializer="ones", name="map")),
            *(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, kernel_initializer="ones")),
        ]
    )
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        image, mask = np.zeros((32, 32, 3), "uint8"), np.zeros((32, 32), "uint8")
        image[8:16, 8 * number : 8 * number + 8] = 255
        mask[8:16, 8 * number : 8 * number + 8] = 255
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    found = explain.pointing_over(model, tmp_path, explain.gradient_times_input)
    assert found.accuracy == 1 and found.chance == pytest.approx(1 / 16)
    assert str(found) == "pointing game: 100.0% of 3 maps hit, 6.2% by chance"
