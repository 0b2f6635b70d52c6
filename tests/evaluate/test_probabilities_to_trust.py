"""How far probabilities can be trusted: planted cases with known answers."""

import tracemalloc

import keras
import numpy as np
import pytest
from scipy import optimize, special
from sklearn import metrics

import recipes
from recipes import ensemble, evaluate, explain, plot
from recipes.evaluate.evaluation import Mistake
from recipes.training.run import Run

random = np.random.default_rng(0)
LOGITS = random.normal(0, 2, (40_000, 6)).astype("float32")
PROBABILITIES = special.softmax(LOGITS, axis=1)
LABELS = (LOGITS / 1.5 + random.gumbel(size=LOGITS.shape)).argmax(1)


def identity(classes, activation="softmax"):
    model = keras.Sequential([keras.Input((classes,)), keras.layers.Dense(classes, activation=activation)])
    model.layers[0].set_weights([np.eye(classes), np.zeros(classes)])
    return model


@pytest.mark.parametrize("several", [False, True])
def test_streaming_scores_are_within_a_thousandth_of_the_exact_ones(several):
    labels, weights = LABELS, random.integers(0, 3, len(LABELS))
    if several:
        labels = (random.random(PROBABILITIES.shape) < PROBABILITIES**0.7).astype("int8")
    for given in (None, weights):
        exact = evaluate.from_probabilities(labels, PROBABILITIES, given)
        close = evaluate.from_probabilities(labels, PROBABILITIES, given, streaming=True)
        np.testing.assert_allclose(close.auroc, exact.auroc, atol=1e-3)
        assert close.ece == pytest.approx(exact.ece, abs=1e-3)
        shares = np.linspace(0.05, 1, 30)
        drawn = [np.interp(shares, *each.coverage.T) for each in (close, exact)]
        np.testing.assert_allclose(*drawn, atol=2e-3)
        assert close.accuracy == exact.accuracy and close.log_loss == exact.log_loss
        np.testing.assert_array_equal(close.confusion, exact.confusion)
        np.testing.assert_array_equal(close.worst, exact.worst)


def test_exact_scores_need_no_more_than_four_bytes_a_probability():
    count, classes = 400_000, 10
    labels = random.integers(0, classes, count).astype("int32")
    probabilities = special.softmax(random.normal(0, 2, (count, classes)).astype("float32"), axis=1)
    tracemalloc.start()
    exact = evaluate.from_probabilities(labels, probabilities)
    peak = tracemalloc.get_traced_memory()[1] + probabilities.nbytes
    tracemalloc.stop()
    blocks = 24e6  # what one block of 65536 examples needs while it is counted
    assert peak < 4 * (classes + 2) * count + blocks
    area = metrics.roc_auc_score(labels == 3, probabilities[:, 3])
    assert exact.auroc[3] == pytest.approx(area, abs=1e-6)


def test_equal_confidences_are_no_calibration_error():
    labels = np.repeat([0, 1], [300, 700])  # wrong ones first
    ours = evaluate.from_probabilities(labels, np.full(1000, 0.7, "float32"))
    assert ours.ece < 1e-6
    np.testing.assert_allclose(ours.coverage[[0, 499, 999], 1], 0.7)


def test_coverage_is_the_accuracy_of_the_most_confident():
    ours = evaluate.from_probabilities(LABELS, PROBABILITIES)
    confidence, right = PROBABILITIES.max(1), PROBABILITIES.argmax(1) == LABELS
    most = np.argsort(-confidence)[: len(LABELS) // 4]
    assert np.interp(0.25, *ours.coverage.T) == pytest.approx(right[most].mean(), abs=1e-3)
    assert len(ours.coverage) == 1000 and ours.coverage[-1, 1] == ours.accuracy


@pytest.mark.parametrize("method", ["aps", "threshold"])
def test_conformal_sets_hold_the_true_class_as_often_as_promised(method):
    held, sizes = [], []
    for split in range(100):
        rows = np.random.default_rng(split).permutation(len(LABELS))[:4000]
        first, second = rows[:1000], rows[1000:]
        rule = evaluate.conformal_from_probabilities(
            LABELS[first], PROBABILITIES[first], 0.9, method=method, seed=split
        )
        sets = rule.sets(PROBABILITIES[second])
        held.append(sets[np.arange(len(second)), LABELS[second]].mean())
        sizes.append(sets.sum(1).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)
    assert 1 < np.mean(sizes) < 6


def test_conformal_scores_are_romanos_sums():
    row, draw = np.array([0.2, 0.5, 0.3]), 0.25
    scores = evaluate.conformal.__globals__["conformal_scores"](row[None], np.array([draw]), "aps")[0]
    np.testing.assert_allclose(scores, [0.8 + draw * 0.2, draw * 0.5, 0.5 + draw * 0.3])


def test_conformal_of_a_model_names_the_classes():
    rule = evaluate.conformal(identity(6), (LOGITS[:2000], LABELS[:2000]), 0.95, class_names="abcdef")
    named = rule.predict(LOGITS[2000:2010])
    expected = rule.sets(PROBABILITIES[2000:2010])
    assert [set(names) for names in named] == [set(np.array(list("abcdef"))[row]) for row in expected]
    few = evaluate.conformal_from_probabilities(LABELS[:5], PROBABILITIES[:5], 0.9)
    assert few.sets(PROBABILITIES).all()  # five examples promise nothing
    with pytest.raises(ValueError, match="coverage"):
        evaluate.conformal(identity(6), (LOGITS, LABELS), 1.5)


def test_other_images_score_lower_by_each_rule():
    keras.utils.set_random_seed(0)
    inside = (
        random.normal(0, 1, (400, 8)).astype("float32") + 3 * np.eye(8, dtype="float32")[np.arange(400) % 4]
    )
    outside = random.normal(0, 1, (200, 8)).astype("float32") - 3
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(inside, np.arange(400) % 4, epochs=20, verbose=0)
    found = evaluate.out_of_distribution(model, inside, outside)
    assert set(found.auroc) == {"max_softmax", "energy", "feature_distance"}
    kernel, bias = model.layers[-1].get_weights()
    hidden = model.layers[0](inside).numpy()
    energy = special.logsumexp(hidden @ kernel + bias, axis=1)
    np.testing.assert_allclose(found.inside["energy"], energy[1::2], rtol=1e-4)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (hidden[1::2], hidden[::2])]
    distances = np.sort(np.linalg.norm(unit[0][:, None] - unit[1][None], axis=2), axis=1)
    np.testing.assert_allclose(found.inside["feature_distance"], -distances[:, 19], atol=2e-3)
    for name, area in found.auroc.items():
        both = np.concatenate([found.inside[name], found.outside[name]])
        assert area == pytest.approx(metrics.roc_auc_score(np.arange(400) < 200, both)) and area > 0.6
    calibrated = evaluate.calibrate(model, (inside, np.arange(400) % 4))
    again = evaluate.out_of_distribution(calibrated, inside, outside)
    np.testing.assert_allclose(again.inside["energy"], energy[1::2], rtol=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_vector_scaling_minimizes_the_loss(activation, capsys, tmp_path):
    logits = LOGITS[:3000] * [1, 2, 1, 0.5, 1, 1] + [0, 1, 0, 0, -1, 0]
    run = Run(identity(6, activation), {}, class_names=tuple("abcdef"))
    scaled = evaluate.calibrate(run, (logits.astype("float32"), LABELS[:3000]), method="vector")
    layer = scaled.model.get_layer("vector_scaling")

    given = logits if activation == "linear" else special.log_softmax(logits, axis=1)

    def loss(numbers):
        moved = given * numbers[:6] + numbers[6:]
        return (special.logsumexp(moved, axis=1) - moved[np.arange(3000), LABELS[:3000]]).mean()

    best = optimize.minimize(loss, np.concatenate([np.ones(6), np.zeros(6)]), method="Powell").fun
    assert loss(np.concatenate([layer.scale, layer.offset])) <= best + 1e-4
    assert "accuracy from" in capsys.readouterr().out and scaled.class_names == tuple("abcdef")
    scaled.save(tmp_path / "run")
    images = logits[:9].astype("float32")
    expected = special.softmax(given[:9] * layer.scale + layer.offset, axis=1)
    np.testing.assert_allclose(
        recipes.load_run(tmp_path / "run").predict(images).probabilities, expected, atol=1e-5
    )


def test_thresholds_give_each_class_its_best_f1():
    probabilities = random.random((500, 3)) ** 3
    labels = (random.random((500, 3)) < probabilities).astype(int)
    labels[:, 2] = 0
    found = evaluate.thresholds_from_probabilities(labels, probabilities)
    for number in range(2):
        reached = metrics.f1_score(labels[:, number], probabilities[:, number] >= found[number])
        tried = [
            metrics.f1_score(labels[:, number], probabilities[:, number] >= value)
            for value in np.linspace(0.01, 0.99, 150)
        ]
        assert reached >= max(tried) - 1e-9
    assert found[2] == 0.5
    labels[:, 2] = random.random(500) < probabilities[:, 2]
    scored = evaluate.from_probabilities(labels, probabilities, thresholds=found)
    expected = metrics.f1_score(labels, probabilities >= found, average=None)
    np.testing.assert_allclose(scored.f1, expected)


def test_a_map_without_evidence_is_called_blank():
    image, some = np.zeros((8, 8, 3), "uint8"), np.linspace(0, 1, 64, dtype="float32").reshape(8, 8)
    mistake = Mistake(0, image, "dog", "cat", 0.9, some, np.zeros((8, 8), "float32"))
    page = mistake._repr_html_()
    assert (
        page.count("evidence for dog, blank: every value is 0") == 2
    )  # below the picture, and for screen readers
    assert "evidence for cat" in page and "evidence for cat, blank" not in page


def test_mistakes_come_with_their_images():
    images = np.zeros((60, 8, 8, 1), "float32")
    images[np.arange(60), np.arange(60) % 8, 0, 0] = np.arange(60)
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    labels = random.integers(0, 3, 60)
    found = evaluate.classifier(
        model, (images, labels), class_names="abc", batch_size=7, pictures=4, grad_cam=True
    )
    outputs = model.predict(images, verbose=0)
    wrong = np.flatnonzero(outputs.argmax(1) != labels)
    expected = wrong[np.argsort(-outputs.max(1)[wrong], kind="stable")][:4]
    assert [mistake.number for mistake in found.mistakes] == expected.tolist()
    for mistake in found.mistakes:
        np.testing.assert_array_equal(mistake.image, images[mistake.number])
        assert mistake.label == "abc"[labels[mistake.number]] and mistake.map.shape == (8, 8)
        assert mistake.predicted == "abc"[outputs[mistake.number].argmax()]
    page = found._repr_html_()
    # Each image with the evidence for the answer beside that for the true class; a drawing for each panel.
    assert page.count("<img") == 12 and page.count("<svg") == 2 and "taken for" in page
    maps = explain.grad_cam(model, images[expected], labels[expected])
    for mistake, map_ in zip(found.mistakes, maps, strict=True):
        np.testing.assert_allclose(mistake.truth_map, map_, atol=1e-6)


def test_mc_dropout_keeps_units_by_chance_and_batch_normalization_as_it_is():
    norm = keras.layers.BatchNormalization()
    layers = [norm, keras.layers.Dropout(0.5), keras.layers.Dense(1, use_bias=False)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.layers[-1].set_weights([np.ones((1, 1))])
    images = np.full((200, 1), 2.0, "float32")
    before = [np.array(weight) for weight in model.weights]
    found = ensemble.mc_dropout(model, images, samples=20, seed=1)
    values = special.logit(found.samples[..., 1])
    kept = values > 1
    scale = 2 / np.sqrt(1 + norm.epsilon)
    np.testing.assert_allclose(values[kept], 2 * scale, rtol=1e-3)
    np.testing.assert_allclose(values[~kept], 0, atol=1e-6)
    assert abs(kept.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000) and 0.2 < kept[:, 0].mean() < 0.8
    for now, then in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(now, then)
    again = ensemble.mc_dropout(model, images, samples=20, seed=1)
    np.testing.assert_array_equal(found.samples, again.samples)
    mean = found.samples.mean(0)
    entropies = [-(p * np.log(p)).sum(-1) for p in (mean, found.samples)]
    np.testing.assert_allclose(found.mutual_information, entropies[0] - entropies[1].mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="Dropout layer"):
        ensemble.mc_dropout(identity(2), images)


def test_one_temperature_halves_the_calibration_error_of_an_overfitted_network():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images += np.random.default_rng(1).normal(0, 8, images.shape)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Rescaling(1 / 16), keras.layers.Dense(128, "relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[:400], labels[:400], batch_size=100, epochs=60, verbose=0)
    validation, test = (images[400:1000], labels[400:1000]), (images[1000:], labels[1000:])
    calibrated = evaluate.calibrate(model, validation)
    before, after = (evaluate.classifier(each, test) for each in (model, calibrated))
    assert after.ece < before.ece / 2 and before.ece > 0.1 and calibrated.layers[-1].temperature > 1.5
    assert after.accuracy == before.accuracy


def test_bars_of_the_reliability_are_roots_of_the_score_test():
    diagram = np.array([[0.55, 0.0, 2.0], [0.7, 0.5, 4.0], [0.95, 1.0, 14.0]])
    bars = plot.reliability(diagram).axes[0].collections[0].get_segments()
    for (_, share, count), bar in zip(diagram, bars, strict=True):
        # (share - x)^2 = z^2 x (1 - x) / count, as a polynomial in x
        z = 1.96**2 / count
        roots = np.sort(np.roots([1 + z, -2 * share - z, share**2]))
        np.testing.assert_allclose(np.sort(bar[:, 1]), roots, atol=1e-9)
        assert bar[:, 1].min() >= 0 and bar[:, 1].max() <= 1
