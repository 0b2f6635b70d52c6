"""Margins that `recipes.train` gathers from its own steps, and training without the labels they contradict."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import recipes
from recipes import augment, diagnose
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.mixture import chance_of_wrong, fit_label_mixture
from recipes.diagnose.margins.quick_margins import quick_history

COUNT = 150


@pytest.fixture(scope="module")
def planted(digits):
    """150 digits, of which 12 have another label: images, labels, which, and the true labels."""
    (images, truth), rng = digits, np.random.default_rng(0)
    truth = truth[:COUNT].astype("int64")
    labels, wrong = truth.copy(), np.zeros(COUNT, bool)
    wrong[rng.permutation(COUNT)[:12]] = True
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, 12)) % 10
    return images[:COUNT], labels, wrong, truth


def linear(dropout=0.0):
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Rescaling(1 / 128, offset=-1),
        keras.layers.Flatten(),
        keras.layers.Dropout(dropout),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(10)])


def train(data, **options):
    quiet = {"augment": None, "preflight": False, "verbose": 0, "epochs": 3, "batch_size": 32}
    return recipes.train(
        options.pop("model", None) or linear(), data, **{**quiet, "optimizer": "adam", **options}
    )


class Watcher(keras.callbacks.Callback):
    """What the model says of all examples before each step: where a step's batch is known, what the step must see."""

    def __init__(self, images):
        super().__init__()
        self.images, self.said = images, []

    def on_train_batch_begin(self, batch, logs=None):
        self.said.append(keras.ops.convert_to_numpy(self.model(self.images, training=False)))


@pytest.fixture(scope="module")
def watched(planted):
    images, labels, _, _ = planted
    watcher = Watcher(images)
    return train((images, labels), callbacks=[watcher]), watcher


def test_margins_are_those_of_the_logits_before_each_step(watched, planted):
    run, watcher = watched
    labels, steps = planted[1], 5
    assert (run.examples.times == 3).all()
    # Every example is in one batch of each epoch: its margin is one of those at the steps of that epoch.
    said = np.stack(watcher.said).astype("float64")
    own = np.take_along_axis(said, labels[None, :, None], 2)[..., 0]
    others = np.where(np.eye(10, dtype=bool)[labels], -np.inf, said).max(-1)
    margins = (own - others).reshape(3, steps, COUNT)
    sums = (margins[0][:, None, None] + margins[1][None, :, None] + margins[2][None, None, :]) / 3
    nearest = np.abs(sums.reshape(-1, COUNT) - run.examples.margins).min(0)
    assert nearest.max() < 1e-4


@pytest.mark.parametrize("kind", ["dataset", "batched", "rows"])
def test_any_kind_of_data_is_numbered_in_its_own_order(kind, planted):
    images, labels, _, _ = planted
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    data = {
        "dataset": data,
        "batched": data.batch(32),
        "rows": (images, np.eye(10, dtype="float32")[labels]),
    }[kind]
    examples = train(data, epochs=2).examples
    np.testing.assert_array_equal(examples.labels, labels)
    assert (examples.times == 2).all()


def test_an_order_that_changes_has_no_numbers(planted):
    images, labels, _, _ = planted
    run = train(tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(COUNT).batch(32), epochs=2)
    assert run.examples is None
    with pytest.raises(ValueError, match="another order in every pass"):
        diagnose.label_issues(run)


def test_gathering_changes_no_bit(planted):
    images, labels, _, _ = planted
    weights = [
        train((images, labels), monitor=on, epochs=2, model=linear(0.3)).model.get_weights()
        for on in (True, False)
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mixed_examples_are_left_out(planted):
    images, labels, _, _ = planted
    pipeline = augment.Pipeline([augment.MixUp(0.2, probability=0.5)], classes=10)
    examples = train((images, labels), augment=pipeline, epochs=4).examples
    assert 0.4 < examples.times.mean() / 4 < 0.6
    seen = examples.labels >= 0
    np.testing.assert_array_equal(examples.labels[seen], labels[seen])


def test_unmixed_examples_leave_a_pipeline_as_they_came():
    pipeline = augment.Pipeline([augment.CutMix(1.0, probability=0.5)], classes=32, seed=3)
    images = np.arange(32, dtype="float32")[:, None, None, None] * np.ones((1, 8, 8, 1), "float32")
    mixed, rows = pipeline(images, np.arange(32), seed=(4, 5))
    alone = pipeline.unmixed(tf.TensorSpec((None, 8, 8, 1)), 32, (4, 5))
    np.testing.assert_array_equal(alone, np.asarray(rows)[np.arange(32), np.arange(32)] == 1)
    np.testing.assert_array_equal(np.asarray(mixed)[alone], images[alone])
    assert 8 < alone.sum() < 28


class _Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_margins_of_an_uninterrupted_one(planted, tmp_path, watched):
    images, labels, _, _ = planted
    with pytest.raises(KeyboardInterrupt):
        train((images, labels), run_dir=tmp_path, callbacks=[_Stop()])
    train((images, labels), run_dir=tmp_path, resume=True)
    again, whole = recipes.load_run(tmp_path).examples.state(), watched[0].examples.state()
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values)
    issues = diagnose.label_issues(tmp_path)
    np.testing.assert_array_equal(issues.scores, diagnose.label_issues(watched[0]).scores)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "batched"])
def test_dropped_examples_are_not_seen_while_numbers_stay(kind, planted):
    images, labels, _, _ = planted
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    data = {"arrays": (images, labels), "dataset": data, "batched": data.batch(32)}[kind]
    examples = train(data, epochs=1, drop=[0, 7], relabel={3: 9}).examples
    assert np.flatnonzero(examples.times == 0).tolist() == [0, 7]
    expected = np.where(np.arange(COUNT) == 3, 9, labels)
    np.testing.assert_array_equal(examples.labels[examples.times > 0], expected[examples.times > 0])


def test_images_of_data_load_are_dropped_before_they_are_read():
    images, _, info = recipes.data.load("digits")
    run = train(images, epochs=1, info=info, drop=[2], relabel={4: 0})
    assert np.flatnonzero(run.examples.times == 0).tolist() == [2]
    assert run.examples.labels[4] == 0
    assert len(run.examples.times) == info.counts["train"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"drop": [COUNT]}, "numbers of examples in train"),
        ({"drop": range(COUNT)}, "examples to train on"),
        ({"drop": "worst"}, "drop as what diagnose.label_issues"),
        ({"relabel": [1]}, "relabel as what diagnose.label_issues"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, words, planted):
    with pytest.raises(ValueError, match=words):
        train(planted[:2], **options)


def chances(probabilities, labels):
    return chance_of_wrong(fit_label_mixture(probabilities, labels).log_odds(probabilities, labels))


def test_doubt_between_classes_that_are_alike_is_no_error():
    """Labels drawn by a logistic curve, as of right ones, and then with one in ten turned round."""
    rng = np.random.default_rng(0)
    own = 1 / (1 + np.exp(-rng.gamma(2.0, 2.0, 5000) * rng.choice([-1, 1], 5000)))
    probabilities = np.stack([1 - own, own], 1)
    labels = (rng.random(5000) < own).astype(int)
    assert np.mean(chances(probabilities, labels) > 0.75) < 0.002
    turned = rng.random(5000) < 0.1
    chance = chances(probabilities, np.where(turned, 1 - labels, labels))
    assert abs(chance.sum() / 5000 - 0.1) < 0.02
    named = chance > 0.75
    assert abs(turned[named].mean() - chance[named].mean()) < 0.08


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_a_network_that_knows_little_calls_no_label_wrong(sharpness):
    """Half of the labels contradict the answers of ten classes, as these answers say, or more or less than they say."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (3000, 10))
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (truth.cumsum(1) > rng.random((3000, 1))).argmax(1)
    assert np.mean(truth.argmax(1) != labels) > 0.4
    answers = truth**sharpness / (truth**sharpness).sum(1, keepdims=True)
    assert np.mean(chances(answers, labels) > 0.75) < 0.002


def test_rates_between_classes_are_learned():
    """A tenth of class 3 is labelled 5, and nothing else is wrong."""
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 6, 6000)
    logits = rng.normal(0, 1, (6000, 6)) + 6 * np.eye(6)[truth]
    labels = np.where((truth == 3) & (rng.random(6000) < 0.1), 5, truth)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mixture = fit_label_mixture(probabilities, labels)
    assert abs(mixture.share - np.mean(truth != labels)) < 0.01
    assert mixture.rates[3].argmax() == 5
    assert mixture.rates[3, 5] > 0.6
    chance = chance_of_wrong(mixture.log_odds(probabilities, labels))
    assert np.mean((chance > 0.5) == (truth != labels)) > 0.99


def test_looks_of_a_network_that_knows_all_by_heart_count_little():
    """Four looks: half are right in the first, all in the rest."""
    history = ExampleHistory(np.zeros(40, int), 2)
    for own in (np.repeat([0.9, 0.2], 20), *[np.full(40, 0.99)] * 3):
        history.add(np.arange(40), np.stack([own, 1 - own], 1))
    # Each pass moves the running share of right answers, 0.5 at first, by 4/5 of the way.
    shares = 1 - 0.5 * 0.2 ** np.arange(4)
    weights = np.maximum(shares**2 * (1 - shares), 0.01)
    expected = np.log([0.2 / 0.8, *[0.99 / 0.01] * 3]) @ weights / weights.sum()
    np.testing.assert_allclose(history.telling_margins[-1], expected, rtol=1e-4)


def test_a_quick_look_finds_wrong_labels(digits):
    images, labels = digits[0][:600], digits[1][:600].astype("int64")
    wrong = np.random.default_rng(0).permutation(600)[:30]
    given = labels.copy()
    given[wrong] = (given[wrong] + 3) % 10
    history = quick_history(images, given, 10, seconds=60)
    worst = np.argsort(history.margins)[:30]
    assert np.isin(worst, wrong).mean() > 0.8


def test_leading_classes_alone_tell_the_rival(monkeypatch):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, 12)) + rng.normal(0, 1, (5, 40, 12))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels, kept = rng.integers(0, 12, 40), []
    for most in (2**26, 1):
        monkeypatch.setattr("recipes.diagnose.margins.example_history._MOST_NUMBERS", most)
        history = ExampleHistory(labels, 12)
        for one in probabilities:
            history.add(np.arange(40), one)
        kept.append(history)
    np.testing.assert_allclose(kept[0].margins, kept[1].margins)
    whole, leading = (history.probabilities(np.arange(40)) for history in kept)
    np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(leading.sum(1), 1, rtol=0.2)
    np.testing.assert_allclose(leading[np.arange(40), labels], whole[np.arange(40), labels], rtol=1e-5)
    assert np.mean(kept[0].rivals[0] == kept[1].rivals[0]) > 0.85


def test_an_example_to_drop_is_not_relabelled(planted):
    with pytest.raises(ValueError, match=r"different examples\. Received 1 in both, such as 7"):
        train(planted[:2], epochs=1, drop=[0, 7], relabel={7: 9})


def test_a_number_below_0_is_shown_as_it_was_given(planted):
    with pytest.raises(ValueError, match=r"Received \[-1\]\. Write drop=issues"):
        train(planted[:2], epochs=1, drop=[-1])
