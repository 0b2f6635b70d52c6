"""Wrong labels among right ones, found from margins over a training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from recipes import callbacks, diagnose
from recipes.diagnose.margins import trained_copy
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.label_issues import judge_labels


@pytest.fixture(scope="module")
def planted():
    """1000 digits, of which 80 have another label, and which those are."""
    digits, rng = load_digits(), np.random.default_rng(0)
    x, y = digits.data[:1000].astype("float32") / 16, digits.target[:1000].copy()
    wrong = np.zeros(1000, bool)
    wrong[rng.permutation(1000)[:80]] = True
    y[wrong] = (y[wrong] + rng.integers(1, 10, 80)) % 10
    return x, y, wrong


def _model(activation="softmax"):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation=activation)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    return model


@pytest.fixture(scope="module")
def watched(planted):
    x, y, _ = planted
    margins = callbacks.ExampleMargins((x, y), budget=1.0)
    model = _model(None)
    model.fit(x, y, epochs=12, batch_size=64, verbose=0, callbacks=[margins])
    return margins


def test_planted_labels_are_found(watched, planted):
    found, wrong = diagnose.label_issues(watched), planted[2]
    assert roc_auc_score(wrong, found.scores) > 0.97
    worst = np.argsort(-found.scores)[:80]
    assert wrong[worst].mean() >= 0.85
    assert wrong[found.mislabelled].mean() >= 0.85


def test_the_right_class_is_suggested(watched, planted):
    found, truth = diagnose.label_issues(watched), load_digits().target[:1000]
    right = [one.suggested == truth[one.number] for one in found.issues if planted[2][one.number]]
    assert np.mean(right) > 0.9


def test_the_callback_changes_no_weight(planted):
    x, y, _ = planted
    weights = []
    for more in ([], [callbacks.ExampleMargins((x, y))]):
        model = _model()
        model.fit(x, y, epochs=2, batch_size=64, verbose=0, callbacks=more)
        weights.append(model.get_weights())
    for with_, without in zip(*weights, strict=True):
        np.testing.assert_array_equal(with_, without)


def test_margins_are_those_of_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 5, 4)), np.array([0, 1, 2, 3, 0])
    history = ExampleHistory(labels, 4)
    for one in logits:
        history.add(np.arange(5), np.exp(one) / np.exp(one).sum(1, keepdims=True))
    others = np.where(np.eye(4, dtype=bool)[labels], -np.inf, logits).max(-1)
    expected = (np.take_along_axis(logits, labels[None, :, None], 2)[..., 0] - others).mean(0)
    np.testing.assert_allclose(history.margins, expected, atol=1e-5)


def test_forgetting_is_counted():
    history = ExampleHistory(np.array([0]), 2)
    for chance in (0.9, 0.2, 0.8, 0.1, 0.3):
        history.add(np.array([0]), np.array([[chance, 1 - chance]]))
    assert history.forgotten[0] == 2


@pytest.mark.slow
def test_a_model_is_left_as_it_is_while_its_copy_is_judged(planted):
    x, y, wrong = planted
    model = _model()
    before = model.get_weights()
    found = diagnose.label_issues(model, (x, y))
    assert roc_auc_score(wrong, found.scores) > 0.95
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def _planted_in_copies(monkeypatch, margins):
    """The history of two copies whose examples of a class that does not exist are answered with these margins."""
    given_away = []

    def train(copy, history, x, rows, epochs, batch_size):
        assert copy.output_shape == (None, 11)
        given_away.append(rows)
        return margins[len(rows) * (len(given_away) - 1) :][: len(rows)]

    monkeypatch.setattr(trained_copy, "_train", train)
    labels = np.arange(220) % 10
    history = trained_copy.history_of_copy(_model(), (np.zeros((220, 64), "float32"), labels), 2, 32)
    return history, given_away


def test_a_margin_that_a_hundredth_of_known_errors_exceeds_is_the_threshold(monkeypatch):
    margins = np.float32(np.random.default_rng(0).permutation(40)) - 50
    history, given_away = _planted_in_copies(monkeypatch, margins)
    # A share of 1 / 11 in each of two copies, others in each.
    assert [len(rows) for rows in given_away] == [20, 20]
    assert not set(given_away[0]) & set(given_away[1])
    assert history.threshold == pytest.approx(-50 + 39 * 0.99)
    assert _planted_in_copies(monkeypatch, margins + 100)[0].threshold == 0


@pytest.mark.parametrize(
    "labels",
    [np.array(["cat", "dog"] * 4), np.arange(3, 11), np.ones((8, 10)), np.linspace(0, 1, 8)],
)
def test_labels_that_are_no_class_numbers_are_refused_in_words(labels):
    with pytest.raises(ValueError, match="Number the classes from 0"):
        diagnose.label_issues(_model(), (np.zeros((len(labels), 64), "float32"), labels))


def test_no_label_with_a_margin_above_the_threshold_is_called_wrong():
    history = _answered(3)
    history.threshold = float(history.margins[:4].min()) - 0.1
    assert len(judge_labels(history).mislabelled) == 0
    history.threshold = float(history.margins[:4].max()) + 0.1
    assert sorted(judge_labels(history).mislabelled) == [0, 1, 2, 3]


def test_a_callback_that_saw_nothing_is_refused():
    with pytest.raises(ValueError, match="Write label_issues"):
        diagnose.label_issues(callbacks.ExampleMargins((np.zeros((4, 2)), np.zeros(4))))


@pytest.mark.parametrize(
    "data, budget", [(np.zeros(3), 0.1), ((np.zeros(3), np.zeros(2)), 0.1), ((np.zeros(3),) * 2, 0)]
)
def test_arguments_of_the_callback_are_checked(data, budget):
    with pytest.raises(ValueError, match="ExampleMargins expects"):
        callbacks.ExampleMargins(data, budget)


def test_a_data_set_is_scored_in_its_own_order(planted):
    x, y, _ = planted
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(300)
    margins = callbacks.ExampleMargins(data, budget=1.0)
    _model(None).fit(x, y, epochs=2, batch_size=64, verbose=0, callbacks=[margins])
    history = margins.history_of_examples
    np.testing.assert_array_equal(
        history.labels[history.times > 0], y[: len(history.labels)][history.times > 0]
    )
    assert history.times.max() <= 2


def test_a_data_set_that_shuffles_is_said(planted):
    x, y, _ = planted
    data = tf.data.Dataset.from_tensor_slices((x[:200], y[:200])).shuffle(200).batch(200)
    margins = callbacks.ExampleMargins(data, budget=1.0)
    with pytest.warns(UserWarning, match="same order at every pass"):
        _model(None).fit(x, y, epochs=4, batch_size=500, verbose=0, callbacks=[margins])
    assert margins.history_of_examples is None


def _answered(looks):
    """200 examples of class 0 that are known ever better, and of which the first four are answered as class 1."""
    history = ExampleHistory(np.zeros(200, int), 2)
    own = np.linspace(0.7, 0.9999, 200)
    own[:4] = 0.01
    for _ in range(looks):
        history.add(np.arange(200), np.stack([own, 1 - own], 1))
    return history


def test_one_look_calls_no_label_wrong():
    assert len(judge_labels(_answered(1)).mislabelled) == 0
    assert sorted(judge_labels(_answered(3)).mislabelled) == [0, 1, 2, 3]


def _answers(logits, labels, looks=6):
    """A history of looks at answers with some noise."""
    history, rng = ExampleHistory(labels, np.shape(logits)[1]), np.random.default_rng(0)
    for _ in range(looks):
        noisy = logits + rng.normal(0, 0.3, np.shape(logits))
        history.add(np.arange(len(labels)), np.exp(noisy) / np.exp(noisy).sum(1, keepdims=True))
    return history


def test_a_class_that_was_not_learned_has_no_wrong_labels():
    """Of three classes the first is always answered as the third."""
    labels = np.repeat([0, 1, 2], [60, 100, 140])
    answers = np.log([[0.15, 0.02, 0.83], [0.02, 0.96, 0.02], [0.05, 0.02, 0.93]])
    assert len(judge_labels(_answers(answers[labels], labels)).mislabelled) == 0


def test_a_network_that_answers_most_examples_otherwise_calls_none_wrong():
    """It answers one of its 50 classes, and is sure of it."""
    labels = np.arange(1000) % 50
    logits = np.where(np.arange(50) == 7, 4.0, 0.0) + np.zeros((1000, 1))
    assert len(judge_labels(_answers(logits, labels)).mislabelled) == 0


def test_rates_of_noise_are_the_shares_of_wrong_labels():
    np.testing.assert_allclose(judge_labels(_answered(3)).noise, [[0.98, 0.02], [0, 0]], atol=0.005)


def test_tables_name_classes_and_files():
    found = judge_labels(_answered(3), ("cat", "dog"))
    files = [f"{number}.jpg" for number in range(200)]
    assert "0.jpg: given cat, suggested dog" in found.table(files=files)
    rows = found.to_csv(files=files).splitlines()
    assert rows[0].endswith("given_name,suggested_name,file")
    assert rows[1].startswith("0,mislabelled,0,1,")
    assert rows[1].endswith("cat,dog,0.jpg")
    assert found.suggestions == dict.fromkeys(range(4), 1)


def test_a_shuffled_data_set_beside_a_model_is_refused(planted):
    data = tf.data.Dataset.from_tensor_slices(planted[:2]).shuffle(1000).batch(64)
    with pytest.raises(ValueError, match=r"expects data in the same order .* reshuffle_each_iteration=False"):
        diagnose.label_issues(_model(), data)


def test_inputs_that_are_not_finite_are_refused_by_number(planted):
    x = planted[0].copy()
    x[5, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 1000 examples, the first at 5"):
        diagnose.label_issues(_model(), (x, planted[1]))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (iter([]), TypeError, "wrap generators"),
        ((np.zeros((0, 64)), np.zeros(0, int)), ValueError, "one at least. Received 0 inputs"),
        ((np.zeros((3, 64)), np.zeros(2, int)), ValueError, "Received 3 inputs and 2 labels"),
        (np.zeros((3, 64), "float32"), ValueError, "inputs alone"),
    ],
    ids=["a generator", "nothing", "another length", "no labels"],
)
def test_data_without_labeled_examples_are_refused(data, error, words):
    with pytest.raises(error, match=words):
        diagnose.label_issues(_model(), data)


def test_a_network_that_has_learned_little_is_said():
    labels = np.arange(1000) % 50
    found = judge_labels(_answers(np.zeros((1000, 50)) + 4.0 * (np.arange(50) == 7), labels))
    assert found.agreement == 0
    assert "little more than by chance (Cohen's kappa 0.00" in found.table()


def test_agreement_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 3, 400), rng.integers(0, 3, 400)
    answers[:200] = labels[:200]
    found = judge_labels(_answers(3.0 * np.eye(3)[answers], labels))
    assert found.agreement == pytest.approx(cohen_kappa_score(labels, answers))


def test_a_network_that_guesses_between_two_classes_calls_none_wrong():
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    labels[:8] = answers[:8]  # a little more than half agree
    assert len(judge_labels(_answers(5.0 * np.eye(2)[answers], labels)).mislabelled) == 0


def test_too_few_files_are_refused():
    with pytest.raises(ValueError, match="Received 1 files for 200 examples"):
        judge_labels(_answered(3)).table(files=["a.jpg"])


class _Watched:
    """A run of which only the margins and the curves are known."""

    def __init__(self, margins, history):
        self.examples, self.history = margins.history_of_examples, history


def test_of_a_run_that_reads_few_held_out_examples_caution_is_advised(watched, planted):
    curves = {"val_accuracy": [0.2, 0.5, 0.4], "accuracy": [0.3, 0.9, 1.0]}
    found = diagnose.label_issues(_Watched(watched, curves))
    shares = np.bincount(planted[1]) / 1000
    assert found.held_out == pytest.approx((0.5 - shares @ shares) / (1 - shares @ shares))  # the best epoch
    assert "reads few held-out examples right (Cohen's kappa 0.44" in found.table()
    assert found.learned and planted[2][found.mislabelled].mean() >= 0.85  # small networks are right too
    curves["val_accuracy"][1] = 0.9
    assert not diagnose.label_issues(_Watched(watched, curves)).caution()


def test_the_curves_of_a_run_in_a_folder_are_read_too(watched, tmp_path):
    watched.history_of_examples.save(tmp_path / "examples.npz")
    (tmp_path / "run.json").write_text("{}")
    assert np.isnan(diagnose.label_issues(tmp_path).held_out)
    assert not diagnose.label_issues(tmp_path).caution()  # not known is not few
    (tmp_path / "history.csv").write_text("epoch,loss,val_sparse_categorical_accuracy\n1,2,0.1\n2,1,nan\n")
    found = diagnose.label_issues(tmp_path)
    assert found.held_out == pytest.approx(0, abs=0.01) and "look at each" in found.caution()
