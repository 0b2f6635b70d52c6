"""Checks before training: values worked out by hand, and nothing left behind."""

import importlib
import random
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import diagnose
from recipes.diagnose.checks.activation_statistics import measure, observe
from recipes.diagnose.checks.learning_rate_range_test import _result
from recipes.diagnose.checks.overfit_small_sample import _judge as overfit_findings
from recipes.diagnose.checks.sample import fresh_copy, read_sample
from recipes.diagnose.rules.layer_facts import describe_layers
from recipes.diagnose.rules.model_rules import _initialization
from recipes.diagnose.rules.run_facts import describe_model


def dense_model(
    units=4, features=6, loss="sparse_categorical_crossentropy", activation="softmax", zero=False, **last
):
    start = {"kernel_initializer": "zeros"} if zero else {}
    model = keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(16, "relu", name="hidden"),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.Dense(units, activation, name="out", **start, **last),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return model


def blobs(classes=4, features=6, count=96, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centers = 2 * rng.normal(size=(classes, features))
    return (centers[labels] + 0.3 * rng.normal(size=(count, features))).astype("float32"), labels


def multiclass_hinge(labels, scores):
    """Weston & Watkins: the sum of the margins that are missed, over the wrong classes."""
    wanted = tf.one_hot(tf.cast(tf.reshape(labels, (-1,)), tf.int32), scores.shape[-1])
    right = tf.reduce_sum(wanted * scores, -1, keepdims=True)
    return tf.reduce_sum((1 - wanted) * tf.maximum(0.0, 1 + scores - right), -1)


def test_initial_loss_expects_log_c_ln_2_and_the_variance():
    x, labels = blobs()
    softmax = diagnose.initial_loss(dense_model(zero=True), (x, labels))
    np.testing.assert_allclose([softmax.loss, softmax.expected], np.log(4), rtol=1e-5)
    logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(
        diagnose.initial_loss(dense_model(zero=True, loss=logits, activation=None), (x, labels)).expected,
        np.log(4),
        rtol=1e-5,
    )
    binary = dense_model(1, loss="binary_crossentropy", activation="sigmoid", zero=True)
    np.testing.assert_allclose(
        diagnose.initial_loss(binary, (x, (labels > 1) * 1.0)).expected, np.log(2), rtol=1e-5
    )
    targets = (x[:, :1] * 3 + 50).astype("float32")
    regression = diagnose.initial_loss(dense_model(1, loss="mse", activation=None), (x, targets))
    np.testing.assert_allclose(regression.expected, targets.var(), rtol=1e-4)
    # Far from the mean at the start is a longer way, and no fault.
    assert regression.verdict == "info" and "Standardize" in regression.remedy
    assert softmax.verdict == "ok"


def test_initial_loss_shows_penalties_apart_and_evaluates_label_smoothing():
    x, labels = blobs()
    model = dense_model(zero=True, bias_regularizer=keras.regularizers.L1(0.5), bias_initializer="ones")
    check = diagnose.initial_loss(model, (x, labels))
    np.testing.assert_allclose([check.loss, check.penalty], [np.log(4), 0.5 * 4], rtol=1e-5)
    assert "regularization" in check.result


def test_a_hinge_of_the_readers_own_is_left_without_expectation_and_keras_hinge_gives_one():
    x, labels = blobs()
    own = dense_model(loss=multiclass_hinge, activation=None, zero=True)
    check = diagnose.initial_loss(own, (x, labels))
    np.testing.assert_allclose(check.loss, 4 - 1, rtol=1e-5)  # C - 1 margins of 1
    assert check.expected is None
    signs = np.where(labels > 1, 1.0, -1.0).astype("float32")[:, None]
    hinge = dense_model(1, loss="hinge", activation=None, zero=True)
    np.testing.assert_allclose(diagnose.initial_loss(hinge, (x, signs)).expected, 1.0)


def state(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(variable.value) for variable in variables]


def test_preflight_leaves_every_bit_as_it_was_and_the_next_epochs_in_their_order():
    x, labels = blobs()

    def dataset():
        return tf.data.Dataset.from_tensor_slices((x, labels)).shuffle(96, seed=3).batch(32)

    def orders(data):
        return [np.concatenate([batch[1].numpy() for batch in data]) for _ in range(2)]

    model, data = dense_model(), dataset()
    model.fit(x, labels, epochs=1, verbose=0)  # optimizer slots and metrics exist
    before, generators = state(model), (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    train_function, built = model.train_function, model.optimizer.iterations
    done = diagnose.preflight(model, data, (x, labels), seconds=20, verbose=0)
    assert [check.name for check in done.checks] == [
        "data_check",
        "model_check",
        "initial_loss",
        "activation_statistics",
        "overfit_small_sample",
        "learning_rate_range_test",
    ]
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == generators  # noqa: NPY002
    assert model.train_function is train_function and model.optimizer.iterations is built
    assert (
        model.get_layer(
            "dropout" if "dropout" in [la.name for la in model.layers] else model.layers[1].name
        ).rate
        == 0.3
    )
    for ours, theirs in zip(orders(data), orders(dataset()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert done["overfit_small_sample"].outcome == "learned"
    assert done["learning_rate_range_test"].suggestion > 1e-4
    # The same blobs are given for both, and that is what it says.
    assert {finding.code for finding in done.findings if finding.severity != "info"} == {"data_leak"}
    assert "data_leak" not in str(done) and "data leak" in str(done)


def test_what_fit_does_after_preflight_is_what_it_would_have_done():
    x, labels = blobs()

    def trained(check):
        keras.utils.set_random_seed(1)
        model = dense_model()
        data = tf.data.Dataset.from_tensor_slices((x, labels)).shuffle(96, seed=3).batch(32)
        if check:
            diagnose.initial_loss(model, data)
            diagnose.overfit_small_sample(model, data, steps=3)
        history = model.fit(data, epochs=2, shuffle=False, verbose=0).history
        return history["loss"], model.get_weights()

    (plain_loss, plain), (checked_loss, checked) = trained(False), trained(True)
    assert plain_loss == checked_loss
    for a, b in zip(plain, checked, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.range(30).shuffle(30, seed=1),
        lambda: tf.data.Dataset.range(30).shuffle(30, seed=1).map(lambda i: i * 2).repeat().batch(7).take(9),
        lambda: tf.data.Dataset.random(seed=2, rerandomize_each_iteration=True).take(5),
        lambda: tf.data.Dataset.range(9),
    ],
)
def test_reading_a_copy_leaves_the_order_of_the_original_alone(make):
    def read(data):
        return [np.asarray(element).tolist() for element in data]

    untouched, looked_at = make(), make()
    copy = fresh_copy(looked_at)
    first = read(untouched)
    assert read(copy) == first  # the copy shows the reader's first epoch
    assert [read(looked_at), read(looked_at)] == [first, read(untouched)]


def test_overfit_learns_by_heart_without_dropout_and_says_stuck_for_frozen_outputs_and_exploded_for_wild_rates():
    x, labels = blobs()
    learned = diagnose.overfit_small_sample(dense_model(), (x, labels))
    assert learned.outcome == "learned" and learned.accuracies[-1] == 1 and learned.findings == []
    slow = dense_model()
    slow.optimizer.learning_rate = 1e-9
    stuck = diagnose.overfit_small_sample(slow, (x, labels), steps=12)
    assert stuck.outcome == "stuck" and stuck.verdict == "error"
    wild = dense_model(1, loss="mse", activation=None)
    exploded = diagnose.overfit_small_sample(wild, (x, x[:, :1]), learning_rate=1e4, steps=12)
    assert exploded.outcome == "exploded"


def test_range_test_suggests_a_rate_a_quadratic_can_bear():
    """Mean of (w - 1)^2 with plain SGD: falls for rates under 1, grows above."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    ones = np.ones((256, 1), "float32")
    result = diagnose.learning_rate_range_test(model, (ones, ones), highest=100.0)
    assert 1e-3 < result.suggestion < 1.0
    assert result.losses[-1] > result.losses[0]
    np.testing.assert_allclose(model.get_weights()[0], 0)
    figure = result.plot()
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), result.losses)
    with pytest.raises(ValueError, match="lowest"):
        diagnose.learning_rate_range_test(model, (ones, ones), lowest=1.0, highest=0.1)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (1e-2, "within that: keep it"),
        (2e-5, "below that, so it learns slowly; learning_rate=0.008 is faster"),
        (0.3, "a little above that"),
        (50.0, "far above that"),
    ],
)
def test_the_line_of_the_range_test_says_where_the_own_rate_lies(own, said):
    rates = np.geomspace(1e-6, 100, 81)  # ten for each decade
    losses = np.interp(
        np.log10(rates), [-6, -3, -1, 0, 2], [1, 1, 0.1, 3, 9]
    )  # falls from 1e-3 on, rises from 0.1 on
    result = _result(rates, losses, 0.0, own)
    low, high = result.works
    assert 1e-3 < low < 3e-3 and high == pytest.approx(0.1) and result.agree
    assert f"yours is {own:.2g}, {said}" in result.result and "no clear best" not in result.result


def test_estimates_of_the_best_rate_that_lie_far_apart_are_called_no_clear_best():
    rates = np.geomspace(1e-6, 100, 81)
    losses = np.interp(np.log10(rates), [-6, -5, -4, 1, 2], [1, 1, 0.5, 0.1, 3])
    result = _result(rates, losses, 0.0, 1e-3)
    assert result.below_minimum / result.steepest > 1000 and not result.agree
    assert "within that: keep it (no clear best among them: it falls fastest at 1.3e-05" in result.result
    flat = _result(rates, np.ones(81), 0.0, 1e-3)
    assert flat.works is None and "no rate can be recommended" in flat.result
    cut = _result(rates[:35], losses[:35], 0.0, 1.0)  # the loss still fell when the time was up
    assert cut.result.startswith("the time was up at a rate of 0.0025, below yours of 1:")


def test_a_depthwise_kernel_is_judged_by_the_inputs_of_one_channel():
    """The kernel of MobileNet and its kin holds 9 numbers for each channel: a deviation of 0.7 is usual there."""
    layer = keras.layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")
    model = keras.Sequential([keras.Input((4, 4, 64)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    (facts, _) = describe_layers(model)
    assert (facts["kernel"]["inputs"], facts["kernel"]["fan_in"]) == (9, 9 * 64)
    layer.set_weights([np.random.default_rng(0).normal(0, 0.7, (3, 3, 64, 1))])
    seen = {"statistics": [{"name": "depthwise", "std": 6.0, "sample_std": 1.0, "finite": True}]}
    found = _initialization({**describe_model(model), **seen})
    assert not [finding for finding in found if finding.code == "initial_scale_too_large"]


def test_statistics_of_layers_are_those_of_numpy_and_their_gradients_those_of_the_chain_rule():
    x, labels = blobs(count=16)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "relu", name="a"), keras.layers.Dense(4, name="b")]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    layers, gradients = measure(model, (x, labels, None))
    hidden = np.maximum(x @ model.get_weights()[0], 0)
    scores = hidden @ model.get_weights()[2]
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    slopes = (shares - np.eye(4)[labels]) / 16
    first, last = layers
    np.testing.assert_allclose([first.mean, first.std], [hidden.mean(), hidden.std()], rtol=1e-4)
    np.testing.assert_allclose(first.zero_fraction, (hidden == 0).mean(), rtol=1e-6)
    np.testing.assert_allclose(first.sample_std, np.sqrt(hidden.var(axis=0).mean()), rtol=1e-4)
    np.testing.assert_allclose(last.gradient_rms, np.sqrt(np.mean(slopes**2)), rtol=1e-4)
    np.testing.assert_allclose(gradients["b/kernel"], np.linalg.norm(hidden.T @ slopes), rtol=1e-4)
    np.testing.assert_allclose(first.input_rms, np.sqrt(np.mean(x**2)), rtol=1e-5)


def test_dead_and_broken_layers_are_named_before_training():
    x, labels = blobs()
    dead = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", bias_initializer=keras.initializers.Constant(-1e3), name="buried"),
            keras.layers.Dense(4, "softmax"),
        ]
    )
    dead.compile("sgd", "sparse_categorical_crossentropy")
    check = diagnose.activation_statistics(dead, (x, labels))
    assert [(f.code, f.layer) for f in check.findings if f.severity == "error"] == [
        ("dead_at_start", "buried")
    ]
    assert len(check.plot().axes) == 3
    inputs = keras.Input((6,))
    logs = keras.layers.Lambda(lambda t: keras.ops.log(t), name="logs")(
        keras.layers.Dense(8, name="before")(inputs)
    )
    broken = keras.Model(inputs, keras.layers.Dense(4, "softmax")(logs))
    broken.compile("sgd", "sparse_categorical_crossentropy")
    assert [(f.code, f.layer) for f in diagnose.activation_statistics(broken, (x, labels)).findings] == [
        ("nan_source", "logs")
    ]


def found_in(model, train, validation=None):
    return {f.code for f in diagnose.data_check(model, train, validation).findings}


def test_data_check_finds_what_was_put_in_and_nothing_in_clean_data():
    x, labels = blobs(count=256)
    held_x, held_labels = blobs(count=64, seed=9)
    model = dense_model()
    assert found_in(model, (x, labels), (held_x, held_labels)) == set()
    assert found_in(model, (x, labels + 1)) == {"labels_out_of_range"}
    assert found_in(model, (x, np.zeros_like(labels))) == {"labels_constant"}
    assert found_in(model, (np.zeros_like(x), labels)) == {"constant_inputs"}
    with_nan = x.copy()
    with_nan[7, 2] = np.nan
    assert found_in(model, (with_nan, labels)) == {"nan_input"}
    assert found_in(model, (x, labels), (x[:32], labels[:32])) == {"data_leak"}
    assert found_in(model, (x, labels), (held_x * 100, held_labels)) == {"train_validation_mismatch"}
    order = np.argsort(labels)
    ordered = tf.data.Dataset.from_tensor_slices((x[order], labels[order])).batch(32)
    assert found_in(model, ordered) == {"missing_shuffle"}
    assert found_in(model, tf.data.Dataset.from_tensor_slices((x, labels)).batch(32)) == set()
    rare = np.where(np.arange(256) < 250, 0, 1)
    assert found_in(model, (x, rare)) == {"imbalanced"}


def test_augmentation_that_turns_class_numbers_into_a_matrix_is_found():
    x, labels = blobs()
    mixing = keras.losses.CategoricalCrossentropy()
    model = dense_model(loss=mixing)
    matrix = (
        tf.data.Dataset.from_tensor_slices((x, labels))
        .batch(32)
        .map(lambda a, b: (a, tf.random.uniform((32, 32))))
    )
    assert "label_count" in found_in(model, matrix)
    fewer = tf.data.Dataset.from_tensors((x[:32], labels[:16]))
    assert "label_count" in found_in(dense_model(), fewer)


def test_a_sample_is_cut_or_joined_to_the_batch_size_and_knows_the_readers_own():
    x, labels = blobs(count=70)
    model = dense_model()
    batched = tf.data.Dataset.from_tensor_slices((x, labels)).batch(4)
    sample = read_sample(batched, model, batch_size=16, batches=3)
    assert (
        [len(batch[0]) for batch in sample.batches] == [16, 16, 16] and sample.batch == 4 and not sample.whole
    )
    np.testing.assert_array_equal(sample.inputs, x[:48])
    one_by_one = tf.data.Dataset.from_tensor_slices((x, labels))
    sample = read_sample(one_by_one, model, batch_size=32, batches=9)
    assert sample.whole and sample.batch is None and len(sample.labels) == 70
    arrays = read_sample((x, labels), model, batch_size=32, batches=9)
    np.testing.assert_array_equal(np.sort(arrays.labels), np.sort(labels))
    assert not arrays.ordered
    with pytest.raises(ValueError, match="at least one"):
        read_sample((x[:0], labels[:0]), model)
    with pytest.raises(TypeError, match="from_generator"):
        read_sample((i for i in range(3)), model)


def test_large_images_are_looked_at_in_part_but_labels_and_duplicates_of_all_are(monkeypatch):
    x, labels = blobs(count=320)
    x = np.random.default_rng(3).normal(size=x.shape).astype("float32")
    model, whole = dense_model(), diagnose.data_check(dense_model(), (x, labels), (x[:300], labels[:300]))
    np.testing.assert_allclose(
        [whole.facts["train"][name] for name in ("mean", "std")], [x.mean(), x.std()], rtol=1e-4
    )
    # The module, whose name the function has taken.
    monkeypatch.setattr(sys.modules["recipes.diagnose.checks.data_check"], "MOST_BYTES", 100 * x[0].nbytes)
    for data in ((x, labels), tf.data.Dataset.from_tensor_slices((x, labels))):
        part = diagnose.data_check(model, data, (x[:300], labels[:300]))
        train, expected = part.facts["train"], whole.facts["train"]
        assert (
            part.facts["overlap"] == whole.facts["overlap"] == {"examples": 300, "same": 300, "whole": True}
        )
        for name in ("examples", "class_counts", "label_max", "different_examples", "whole"):
            assert train[name] == expected[name]
        assert train["mean"] != expected["mean"] and abs(train["std"] - x.std()) < 0.1
    kept = read_sample((x, labels), model, batch_size=64, batches=5, most_bytes=100 * x[0].nbytes)
    assert [len(inputs) for inputs, *_ in kept.batches] == [64, 64] and len(kept.hashes_read) == 320


def test_what_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="model.compile"):
        diagnose.preflight(model, blobs(), verbose=0)


class Doubling(keras.layers.Layer):
    """A layer of the reader's own."""

    def call(self, inputs):
        return 2.0 * inputs


def test_preflight_checks_the_gradients_of_layers_of_the_readers_own_and_of_no_others():
    x, labels = blobs()
    own = keras.Sequential([keras.Input((6,)), Doubling(name="twice"), keras.layers.Dense(4, "softmax")])
    own.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    done = diagnose.preflight(own, (x, labels), seconds=30, verbose=0)
    assert "twice" in done["gradient_check"].result and done["gradient_check"].verdict == "ok"


def test_falling_from_a_bad_start_to_chance_is_not_called_fine():
    def judged(right):
        return overfit_findings("crept", [2.3] * 9, [right] * 9, 23.9, 2.3, 1.0)

    (finding,) = judged(0.12)
    assert "only 12% of the answers are right" in finding.evidence and "learning_rate=0.1" in finding.remedy
    assert judged(0.9) == []


def test_six_steps_of_a_slow_machine_are_no_error():
    model = dense_model()
    model.compile(keras.optimizers.SGD(1e-6), "sparse_categorical_crossentropy")
    hurried = diagnose.overfit_small_sample(model, blobs(), seconds=0.0)
    assert len(hurried.losses) < 30 and hurried.verdict != "error"
    assert "too few to judge" in hurried.findings[0].evidence


def test_preflight_prints_each_row_as_soon_as_it_is_known(capsys, monkeypatch):
    module, seen = importlib.import_module("recipes.diagnose.checks.preflight"), []

    def first_loss(*arguments):
        if not seen:  # on a slow machine the loss is computed again, to time it
            seen.append(capsys.readouterr().out)
        return diagnose.initial_loss(*arguments)

    monkeypatch.setattr(module, "initial_loss", first_loss)
    done = diagnose.preflight(dense_model(), blobs(), seconds=1)
    (before,) = seen
    assert [line.split()[0] for line in before.splitlines() if line[0] != " "][:4] == [
        "check",
        "data_check",
        "model_check",
        "initial_loss",  # begun, and printed before it is done
    ]
    assert before + capsys.readouterr().out == f"{done}\n"


class HalfGradient(keras.layers.Layer):
    """The identity, whose gradient is half of what it should be."""

    def call(self, inputs):
        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), lambda upstream: 0.5 * upstream

        return identity(inputs)


def test_preflight_names_the_layer_whose_own_gradient_is_wrong():
    x, labels = blobs()
    wrong = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, "tanh"),
            HalfGradient(name="half"),  # what is below it learns from gradients half as large
            keras.layers.Dense(4, "softmax"),
        ]
    )
    wrong.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    done = diagnose.preflight(wrong, (x, labels), seconds=30, verbose=0)
    assert done["gradient_check"].verdict == "error"
    (finding,) = done["gradient_check"].findings
    assert finding.code == "gradient_check" and finding.layer == "half"


def test_the_first_loss_is_told_without_any_time_left():
    done = diagnose.preflight(dense_model(), blobs(), seconds=1e-6, training=False, verbose=0)
    assert [check.name for check in done.checks][:4] == [
        "data_check",
        "model_check",
        "initial_loss",
        "activation_statistics",
    ]
    assert not done.skipped


def test_a_look_at_layers_that_takes_too_long_is_made_on_fewer_examples(monkeypatch):
    module = importlib.import_module("recipes.diagnose.checks.preflight")
    now, sizes, cost = [0.0], [], [0.05]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow_loss(model, sample):
        now[0] += cost[0] * sum(len(inputs) for inputs, *_ in sample.batches)
        return diagnose.initial_loss(model, sample)

    def observed(model, batch):
        sizes.append(len(batch[0]))
        return observe(model, batch)

    monkeypatch.setattr(module, "initial_loss", slow_loss)
    monkeypatch.setattr(module, "observe", observed)
    data = blobs(count=64)
    skipped = []
    for seconds, cost[0] in ((60, 0.05), (10.1, 0.05), (0.3, 0.5)):
        found = diagnose.preflight(dense_model(), data, seconds=seconds, training=False, verbose=0)
        skipped.append(found.skipped)
    assert skipped == [[], [], ["activation_statistics"]]
    # Eight times 0.05 s an example: all, then what 6.9 s are enough for, then none.
    assert sizes == [64, 17]
