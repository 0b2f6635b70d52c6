"""Scores agree with scikit-learn's; calibration finds the temperature that was planted."""

import keras
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from recipes import evaluate

random = np.random.default_rng(0)
N, CLASSES = 3000, 7
LOGITS = random.normal(0, 2, (N, CLASSES))
LABELS = np.array([random.choice(CLASSES - 1, p=special.softmax(row[:-1])) for row in LOGITS])
PROBABILITIES = special.softmax(LOGITS, axis=1).astype("float32")
PREDICTED = PROBABILITIES.argmax(1)


@pytest.mark.parametrize("weights", [None, random.integers(0, 4, N)])
def test_scores_are_those_of_scikit_learn(weights):
    ours = evaluate.from_probabilities(LABELS, PROBABILITIES, weights)
    how = {"labels": range(CLASSES), "average": None, "zero_division": 0, "sample_weight": weights}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(LABELS, PREDICTED, **how)
    np.testing.assert_allclose(ours.precision, precision, atol=1e-6)
    np.testing.assert_allclose(ours.recall, recall, atol=1e-6)
    np.testing.assert_allclose(ours.f1, f1, atol=1e-6)
    np.testing.assert_allclose(ours.support, support)
    same = {"sample_weight": weights}
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(LABELS, PREDICTED, **same), abs=1e-6)
    matrix = metrics.confusion_matrix(LABELS, PREDICTED, labels=range(CLASSES), **same)
    np.testing.assert_allclose(ours.confusion, matrix)
    for number in range(CLASSES - 1):
        area = metrics.roc_auc_score(LABELS == number, PROBABILITIES[:, number], **same)
        assert ours.auroc[number] == pytest.approx(area, abs=1e-6)
    assert np.isnan(ours.auroc[-1])  # a class without examples
    top5 = metrics.top_k_accuracy_score(LABELS, PROBABILITIES, k=5, labels=range(CLASSES), **same)
    assert ours.top5 == pytest.approx(top5, abs=1e-6)
    loss = metrics.log_loss(LABELS, special.softmax(LOGITS, axis=1), labels=range(CLASSES), **same)
    assert ours.log_loss == pytest.approx(loss, abs=1e-5)


def test_balanced_accuracy_is_over_the_classes_that_occur():
    known = LABELS < 6
    expected = np.mean([(PREDICTED[LABELS == c] == c).mean() for c in range(6)])
    ours = evaluate.from_probabilities(LABELS[known], PROBABILITIES[known])
    assert ours.balanced_accuracy == pytest.approx(expected)


def test_ties_count_half_in_the_area_under_roc():
    scores, labels = np.round(random.random(500), 1), random.integers(0, 2, 500)
    ours = evaluate.from_probabilities(labels, scores)
    assert ours.auroc[1] == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_several_labels_are_scored_one_by_one():
    probabilities = random.random((400, 5))
    labels = random.random((400, 5)) < probabilities
    ours = evaluate.from_probabilities(labels.astype("float32"), probabilities)
    predicted = probabilities >= 0.5
    np.testing.assert_array_equal(ours.confusion, metrics.multilabel_confusion_matrix(labels, predicted))
    scores = metrics.precision_recall_fscore_support(labels, predicted, average=None)
    np.testing.assert_allclose([ours.precision, ours.recall, ours.f1, ours.support], scores, atol=1e-6)
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    np.testing.assert_allclose(
        ours.auroc, metrics.roc_auc_score(labels, probabilities, average=None), atol=1e-6
    )


def test_a_class_without_examples_has_no_scores_in_the_table():
    found = evaluate.from_probabilities(
        [0, 1], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], class_names=["a", "b", "c"]
    )
    last = found.table().splitlines()[-1].split()
    assert last == ["c", "-", "-", "-", "-", "0"]


@pytest.mark.parametrize("right, count", [(0, 10), (7, 10), (10, 10), (950, 1000)])
def test_the_interval_solves_wilsons_equation(right, count):
    labels = np.zeros(count, int)
    scores = np.where(np.arange(count) < right, 0.1, 0.9)
    low, high = evaluate.from_probabilities(labels, scores).interval
    share, z = right / count, 1.959963984540054
    # Its ends are the shares from which `share` is z standard errors away.
    for end in (end for end in (low, high) if 1e-9 < end < 1 - 1e-9):
        assert abs(share - end) == pytest.approx(z * np.sqrt(end * (1 - end) / count))
    assert low - 1e-9 <= share <= high + 1e-9


def test_few_examples_of_a_network_that_is_too_sure_do_not_look_calibrated():
    # Sixty photos at 97 %, of which five are answered wrong: bins of four would take all of it for chance.
    sure = np.sort(1 - random.exponential(0.03, 60).clip(0, 0.5))
    labels = np.ones(60, int)
    labels[[0, 3, 8, 20, 50]] = 0
    parts = zip(np.split(sure, 3), np.split(labels, 3), strict=True)  # three bins of twenty
    expected = np.mean([abs(chance.mean() - given.mean()) for chance, given in parts])
    assert evaluate.from_probabilities(labels, sure).ece == pytest.approx(expected, abs=1e-6)
    assert expected >= sure.mean() - 55 / 60 > 0.02


def test_calibrated_probabilities_have_no_calibration_error():
    confidence = random.uniform(0.5, 1, 200_000)
    labels = (random.random(200_000) < confidence).astype(int)
    assert evaluate.from_probabilities(labels, confidence).ece < 0.005
    too_sure = 1 - (1 - confidence) / 3
    expected = np.mean(too_sure - confidence)
    assert evaluate.from_probabilities(labels, too_sure).ece == pytest.approx(expected, abs=0.005)


def test_confused_pairs_begin_with_the_most_frequent():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([1, 1, 0, 2, 1, 2])
    ours = evaluate.from_probabilities(labels, np.eye(3)[predicted], class_names=["a", "b", "c"])
    assert ours.confused_pairs() == [("a", "b", 2.0), ("b", "c", 1.0)]
    assert set(ours.worst.tolist()) == {0, 1, 3} and "a taken for b: 2" in str(ours)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_model_is_predicted_as_keras_predicts_it(activation):
    model = keras.Sequential([keras.Input((CLASSES,)), keras.layers.Dense(CLASSES, activation=activation)])
    model.layers[0].set_weights([np.eye(CLASSES), np.zeros(CLASSES)])
    ours = evaluate.classifier(model, (LOGITS.astype("float32"), LABELS))
    expected = evaluate.from_probabilities(LABELS, PROBABILITIES)
    assert ours.accuracy == expected.accuracy and ours.log_loss == pytest.approx(expected.log_loss, rel=1e-5)


@pytest.mark.parametrize(
    "labels, probabilities, message",
    [
        ([0, 1], [[0.5, 0.5]], "belong together"),
        ([2], [[0.5, 0.5]], r"class numbers in 0\.\.1"),
        ([0], [[np.nan, 0.5]], "finite"),
        ([[0.1, 0.9]], [[0.5, 0.5]], "rows of 0 and 1"),
        ([], np.zeros((0, 2)), "at least one"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate.from_probabilities(labels, probabilities)


@pytest.mark.parametrize("activation", ["softmax", "linear"])
@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_calibration_finds_the_planted_temperature(activation, temperature, tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, activation=activation)])
    model.layers[0].set_weights([np.eye(6) * temperature, np.zeros(6)])
    images = random.normal(0, 1.5, (8_000, 6)).astype("float32")
    labels = (images + random.gumbel(size=images.shape)).argmax(1)  # a draw from the softmax of the images
    calibrated = evaluate.calibrate(model, (images, labels), batch_size=1000)
    found = calibrated.get_layer("temperature").temperature
    assert found == pytest.approx(temperature, rel=0.06)

    def loss(value):
        scaled = images.astype("float64") * temperature / value
        return (special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean()

    around = np.linspace(found * 0.98, found * 1.02, 4001)
    best = around[np.argmin([loss(value) for value in around[::40]]) * 40]
    assert found == pytest.approx(best, rel=2e-3)
    before, after = model.predict(images, verbose=0), calibrated.predict(images, verbose=0)
    assert (before.argmax(1) == after.argmax(1)).all()
    errors = [evaluate.classifier(m, (images, labels), batch_size=1000).ece for m in (model, calibrated)]
    assert errors[1] < errors[0] / 2
    calibrated.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "m.keras").predict(images, verbose=0), after
    )


def test_a_model_of_masks_is_told_where_its_score_is():
    image = keras.Input((8, 8, 3))
    masks = keras.Model(image, keras.layers.Conv2D(2, 1, activation="softmax")(image))
    images = np.zeros((2, 8, 8, 3), "uint8")
    with pytest.raises(ValueError, match="answers for every pixel.*run.history"):
        evaluate.classifier(masks, (images, np.zeros((2, 8, 8), int)))


def test_a_path_in_the_place_of_data_is_told_how_to_be_read():
    image = keras.Input((8,))
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(image))
    with pytest.raises(TypeError, match=r"expects validation to be .*recipes.data.load\('photos'"):
        evaluate.calibrate(model, "photos")
