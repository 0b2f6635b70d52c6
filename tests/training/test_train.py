import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from quick_runs import as_dataset, quietly, small_model

import recipes
from recipes.training.accepted_data import open_source, stream


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(labels))  # the writers come one after the other
    images, labels = images[order], labels[order]
    return (images[:800], labels[:800]), (images[800:1100], labels[800:1100])


def test_train_learns_the_digits_and_logs_every_epoch(split):
    train, validation = split
    run = quietly(small_model(), train, validation, epochs=8, batch_size=32, learning_rate=0.05)
    assert run.history["val_accuracy"][-1] > 0.9
    assert set(run.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert {len(values) for values in run.history.values()} == {8}
    # The last logged rate is that of the last step of a decay to zero.
    assert run.history["learning_rate"][-1] < 1e-3 < max(run.history["learning_rate"])
    told, last = run.settings["rate_by_step"], np.arange(1, 9) * run.settings["steps"] - 1  # of each epoch
    assert told["step"][0] == 0 and told["step"][-1] == last[-1] and len(told["step"]) <= 120
    rates = np.interp(last, told["step"], told["rate"])
    np.testing.assert_allclose(rates, run.history["learning_rate"], rtol=0.01)
    assert told["rate"][0] < told["rate"][4]  # the warm-up
    assert [finding for finding in run.findings if finding.severity != "info"] == []


def test_arrays_and_datasets_give_the_same_checks_but_only_unbatched_data_is_reshuffled(split):
    train, _ = split
    model = small_model()
    for data in (train, as_dataset(train)):
        source = open_source(data, "train", model=model, batch_size=100, classes=10, shuffle=True, seed=0)
        epochs = [np.concatenate([y for _, y in source.batches(tf.constant(e, tf.int64))]) for e in (0, 1, 0)]
        np.testing.assert_array_equal(epochs[0], epochs[2])
        assert (epochs[0] != epochs[1]).any()
        np.testing.assert_array_equal(np.sort(epochs[0]), np.sort(train[1]))
        assert (source.steps, source.examples) == (8, 800)
    batched = open_source(
        as_dataset(train).batch(50), "train", model=model, batch_size=100, classes=10, shuffle=True, seed=0
    )
    np.testing.assert_array_equal(np.concatenate([y for _, y in batched.batches(0)]), train[1])


def test_a_stream_that_starts_late_equals_the_end_of_a_whole_one(split):
    source = open_source(
        as_dataset(split[0]), "train", model=small_model(), batch_size=64, classes=10, shuffle=True, seed=3
    )

    def numbers(first):
        tf.random.set_seed(first)  # the reader's seed has no say in it
        data = stream(
            source, first_epoch=first, epochs=3, steps=5, transform=lambda batch, seed: (batch[1], seed)
        )
        return [(labels.numpy().tolist(), seed.numpy().tolist()) for labels, seed in data]

    whole, late = numbers(0), numbers(2)
    assert late == whole[10:]
    assert [seed for _, seed in whole] == [[epoch, step] for epoch in range(3) for step in range(5)]


def test_an_endless_dataset_goes_on_across_epochs():
    count = tf.data.Dataset.counter().map(lambda i: (tf.zeros((8, 8, 1)), i % 10)).batch(4)
    source = open_source(count, "train", model=small_model(), batch_size=1, classes=10, shuffle=True, seed=0)
    data = stream(source, first_epoch=0, epochs=2, steps=3, transform=lambda batch, seed: batch[1])
    assert np.concatenate(list(data)).tolist() == [i % 10 for i in range(24)]


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averaged_runs_end_with_the_average_not_the_last_weights(split, average):
    train, validation = split
    plain = quietly(small_model(), train, validation, epochs=3, batch_size=100)
    averaged = quietly(small_model(), train, validation, epochs=3, batch_size=100, average=average)
    difference = np.abs(averaged.model.get_weights()[0] - plain.model.get_weights()[0]).max()
    assert 0 < difference < 0.5
    loss, _ = averaged.model.evaluate(*validation)
    np.testing.assert_allclose(averaged.history["val_loss"][-1], loss, rtol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:UpdateRatioMonitor"
)  # three epochs are short, so the first steps are large
def test_checks_and_monitors_change_no_bit_and_leave_their_findings_and_record(split, tmp_path, capsys):
    train, validation = split
    plain = quietly(small_model(), train, validation, epochs=3, batch_size=40)
    watched = quietly(
        small_model(),
        train,
        validation,
        epochs=3,
        batch_size=40,
        monitor=True,
        preflight=True,
        run_dir=tmp_path,
        verbose=2,
    )
    for expected, received in zip(plain.model.get_weights(), watched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    for name, values in plain.history.items():
        np.testing.assert_array_equal(watched.history[name], values)
    extra = set(watched.history) - set(plain.history)
    assert extra and all(name.startswith("monitor/") for name in extra)
    printed = capsys.readouterr().out
    assert "preflight took" in printed and "monitor/" not in printed
    assert len(watched.record) >= 1 and plain.record is None
    page = watched.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and "sgd" in page
    loaded = recipes.Run.load(tmp_path)
    assert loaded.findings == watched.findings
    np.testing.assert_array_equal(loaded.record.step, watched.record.step)


def test_the_default_checks_make_no_training_step_and_name_what_they_leave_out(split, monkeypatch, capsys):
    from recipes.diagnose.checks.model_copy import Trial

    def refuse(*arguments):
        raise AssertionError("a check that trains was run")

    monkeypatch.setattr(Trial, "__enter__", refuse)
    recipes.train(small_model(), split[0], epochs=1, augment=None, monitor=False, verbose=2)
    printed = capsys.readouterr().out
    assert [name for name in ("data_check", "model_check", "initial_loss") if name in printed] == [
        "data_check",
        "model_check",
        "initial_loss",
    ]
    assert "overfit_small_sample, learning_rate_range_test" in printed
    # What takes long is said before it is done.
    said = ("checking data and model", "data_check", "tracing the training step", "/step - ")
    places = [printed.index(words) for words in said]
    assert places == sorted(places)


def test_the_step_of_train_is_traced_once_where_plain_fit_traces_it_twice(split):
    traced, model = [], small_model()
    compute_loss = model.compute_loss

    def counted(images, *others, **options):
        traced.append(images.shape[0] is None)  # not the batch of one that metrics are built for
        return compute_loss(images, *others, **options)

    object.__setattr__(model, "compute_loss", counted)
    quietly(model, [part[:400] for part in split[0]], epochs=1, batch_size=200)
    assert sum(traced) == 1


def test_looking_at_a_shuffled_data_set_leaves_the_order_of_its_epochs(split):
    (images, labels), held_out = split

    def shuffled():
        tf.random.set_seed(3)
        return as_dataset((images, labels)).shuffle(800, seed=5).batch(40)

    by_hand = small_model(compiled=True, dropout=0.0)
    data = shuffled()
    for _ in range(2):
        for batch in data:
            by_hand.train_on_batch(*batch)
    looked = small_model(compiled=True, dropout=0.0)
    quietly(looked, shuffled(), held_out, epochs=2, schedule=None, monitor=True, preflight=True)
    for expected, received in zip(by_hand.get_weights(), looked.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


def test_a_silent_fault_is_found(split):
    """Labels in no relation to the images: nothing crashes, nothing is learned, and the run says so."""
    (images, labels), validation = split
    shuffled = np.random.default_rng(0).permutation(labels)
    run = quietly(small_model(), (images, shuffled), validation, epochs=4, batch_size=40, monitor=True)
    assert any(finding.severity != "info" for finding in run.findings)
    assert len(run.settings["times"]) == 4 and all(
        0 < row["validation"] < row["epoch"] for row in run.settings["times"]
    )


def test_run_saves_and_loads(split, tmp_path):
    train, validation = split
    run = quietly(small_model(), train, validation, epochs=2)
    run.save(tmp_path / "a")
    loaded = recipes.Run.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.model.predict(train[0][:9]), run.model.predict(train[0][:9]))
    assert loaded.history == run.history
    assert loaded.settings["epochs"] == 2 and loaded.settings["versions"]["keras"] == keras.__version__
    with pytest.raises(ValueError, match="without a run in it|which holds run.json"):
        run.save(tmp_path / "a")
    with pytest.raises(ValueError, match="without model.keras"):
        recipes.Run.load(tmp_path)


def test_a_compiled_model_keeps_its_optimizer_and_gets_its_rate_back(split):
    model = small_model(compiled=True)
    optimizer = model.optimizer
    run = quietly(model, split[0], epochs=2)
    assert run.model is model and model.optimizer is optimizer
    assert max(run.history["learning_rate"]) <= 2e-3
    with pytest.raises(ValueError, match="Received learning_rate=0.1"):
        quietly(model, split[0], learning_rate=0.1)
    with pytest.raises(ValueError, match="Received optimizer='sgd'"):
        quietly(model, split[0], optimizer="sgd")


@pytest.mark.parametrize(
    ("activation", "classes", "rows", "smoothing", "expected"),
    [
        ("softmax", 10, False, 0.0, ("sparse_categorical_crossentropy", False)),
        ("linear", 10, False, 0.0, ("sparse_categorical_crossentropy", True)),
        ("softmax", 10, True, 0.0, ("categorical_crossentropy", False)),
        (None, 10, False, 0.1, ("categorical_crossentropy", True)),
        ("sigmoid", 1, False, 0.0, ("binary_crossentropy", False)),
        ("sigmoid", 10, True, 0.0, ("binary_crossentropy", False)),
    ],
)
def test_loss_auto_follows_the_last_activation_and_the_labels(
    split, activation, classes, rows, smoothing, expected
):
    (images, labels), _ = split
    labels = np.minimum(labels, 1) if classes == 1 else labels
    labels = np.eye(10, dtype="float32")[labels] if rows else labels
    model = small_model(classes=classes, activation=activation)
    run = quietly(model, (images, labels), epochs=1, label_smoothing=smoothing)
    assert (model.loss.name, model.loss.get_config()["from_logits"]) == expected
    assert np.isfinite(run.history["loss"][0])


def test_sgd_weight_decay_shrinks_kernels_at_the_pace_of_an_l2_penalty_and_spares_biases(split):
    model = small_model(dropout=0)
    quietly(model, split[0], epochs=1, learning_rate=0.1, weight_decay=1e-3)
    optimizer = model.optimizer
    kernel, bias = keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(2))
    assert not optimizer._use_weight_decay(model.layers[-1].bias)
    assert optimizer._use_weight_decay(model.layers[-1].kernel)

    # L2 written out: velocity and weight of SGD with Nesterov momentum 0.9 on the gradient of 0.001 / 2 w^2.
    weight, velocity = 1.0, 0.0
    for _ in range(300):
        gradient = 1e-3 * weight
        velocity = 0.9 * velocity - 0.1 * gradient
        weight += 0.9 * velocity - 0.1 * gradient
    ours = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=optimizer.weight_decay)
    ours.build([kernel, bias])
    for _ in range(300):
        ours.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)])
    np.testing.assert_allclose(
        kernel.numpy()[0, 0], weight, rtol=0.01
    )  # it takes momentum 9 steps to build up


def test_two_devices_train_as_one(split, two_replicas):
    (images, labels), validation = split
    one = quietly(small_model(dropout=0), (images, labels), validation, epochs=2, batch_size=80)
    model = small_model(dropout=0)
    two = quietly(model, (images, labels), validation, epochs=2, batch_size=80, strategy=two_replicas)
    np.testing.assert_allclose(two.history["val_loss"], one.history["val_loss"], rtol=1e-3)
    np.testing.assert_allclose(model.get_weights()[0], one.model.get_weights()[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "offset", "words"),
    [
        (1, 0, "light, for symbols"),
        (1 / 255, 0, "light, for symbols"),
        (1 / 128, -1, "none, as pixels reach from -1"),
    ],
)
def test_standard_augmentation_follows_the_range_of_the_pixels(split, capsys, scale, offset, words):
    (images, labels), _ = split
    images = images[:200] * np.float32(scale) + np.float32(offset)
    quietly(small_model(), (images, labels[:200]), epochs=1, verbose=2, augment="standard")
    assert words in capsys.readouterr().out


def test_mixed_labels_train_with_rows_and_validate_with_rows(split):
    from recipes import augment

    train, validation = split
    mix = augment.Pipeline([augment.MixUp(0.4)], classes=10, seed=1, jit_compile=False)
    run = quietly(small_model(), train, validation, epochs=2, augment=mix)
    assert run.model.loss.name == "categorical_crossentropy"
    assert np.isfinite(run.history["val_loss"]).all()
    zeros = (np.zeros((16, 8, 8, 1), "uint8"), np.arange(16) % 2)  # labels that are True and False
    held_out = (zeros[0], zeros[1].astype(bool))
    quietly(small_model(2), zeros, held_out, epochs=1, label_smoothing=0.1)
    with pytest.raises(ValueError, match="Compile it with 'categorical_crossentropy'"):
        quietly(small_model(compiled=True), train, epochs=1, augment=mix)


def test_class_weights_are_those_of_examples_and_1_where_none_is_given(split):
    (images, labels), _ = split
    weights = np.where(labels == 3, 5.0, 1.0).astype("float32")
    weighted = quietly(small_model(), (images, labels, weights), epochs=1, label_smoothing=0.0)
    given = quietly(small_model(), (images, labels), epochs=1, class_weight={3: 5.0})
    for mine, theirs in zip(given.model.get_weights(), weighted.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    with pytest.raises(ValueError, match=r"0\.\.9 as keys of class_weight. Received 10"):
        quietly(small_model(), split[0], epochs=1, class_weight={10: 2.0})


def test_no_iterator_of_a_run_has_an_autotuner_to_wait_for(split, monkeypatch):
    read, iterate = [], tf.data.Dataset.__iter__

    def spy(dataset):
        read.append(dataset.options().autotune.enabled)
        return iterate(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", spy)
    train, validation = (as_dataset(part) for part in split)
    quietly(small_model(), train, validation, epochs=1, preflight=True, average="swa")
    assert len(read) >= 6 and set(read) == {False}


def test_remedies_of_an_error_are_tried_before_training_where_that_is_asked_for(
    split, tmp_path, monkeypatch, capsys
):
    from recipes import diagnose

    finding = diagnose.Finding("rate_too_high", "error", None, 0, "Big.", "Try learning_rate=0.1.")
    done = diagnose.Preflight([], [finding], {}, ["initial_loss"], 1.0)
    result = diagnose.RemedyTrial(
        "slower", "rate = 0.1", "rate_too_high", True, gains=np.array([0.5, 0.7]), measure="loss"
    )
    trials = diagnose.Trials([result], [], 40, (0, 1), 2.0)
    asked = []
    monkeypatch.setattr(diagnose, "preflight", lambda *arguments, **options: done)
    monkeypatch.setattr(
        diagnose, "try_remedies", lambda *arguments, **options: asked.append(options) or trials
    )
    monkeypatch.setattr(sys.modules["recipes.training.train"], "findings_of", lambda *arguments: [finding])
    run = quietly(small_model(), split[0], epochs=1, preflight="try", run_dir=tmp_path)
    assert asked == [{"seconds": 30.0, "verbose": 0}]
    assert run.findings[0].remedy.startswith("rate = 0.1 - tried for 40 steps: loss +60% +- 10%")
    told = {"remedy": "slower", "type": "rate = 0.1", "outcome": "helps", "gain": "loss +60% +- 10%"}
    assert run.settings["before_training"] == {"skipped": ["initial_loss"], "tried": [told]}
    assert recipes.Run.load(tmp_path).settings["before_training"]["tried"] == [told]
    again = quietly(small_model(), split[0], epochs=2, preflight=True, run_dir=tmp_path, resume=True)
    assert again.settings["before_training"]["tried"] == [told] and len(asked) == 1
    quietly(small_model(), split[0], epochs=1, preflight=True, verbose=2)
    assert 'preflight="try"' in capsys.readouterr().out and len(asked) == 1
    with pytest.raises(ValueError, match="preflight to be 'data', 'try', True or False"):
        quietly(small_model(), split[0], epochs=1, preflight="maybe")


def test_a_check_that_breaks_does_not_keep_a_model_from_training(split, monkeypatch):
    from recipes import diagnose

    def broken(*arguments, **options):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(diagnose, "preflight", broken)
    with pytest.warns(UserWarning, match="no such kernel.*preflight=False"):
        run = quietly(small_model(), split[0], epochs=1, preflight=True)
    assert len(run.history["loss"]) == 1


def test_accuracy_of_one_logit_cuts_at_zero():
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype("uint8")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(1)(flat))
    logits = model.predict(x, verbose=0).ravel()
    model.layers[-1].bias.assign(-np.median(logits)[None])
    y = (logits > np.median(logits)).astype(
        int
    )  # what the model says, cut at 0; not all of it lies above 0.5
    run = quietly(model, (x, y), (x, y), epochs=1, learning_rate=1e-9)
    assert run.history["val_accuracy"] == [1.0]


@pytest.mark.parametrize(
    ("schedule", "name", "same"), [(None, "ema", True), ("cosine", None, True), ("cosine", "ema", False)]
)
def test_average_auto_is_that_of_a_rate_that_stays(digits, schedule, name, same):
    def weights(average):
        options = {"epochs": 2, "batch_size": 64, "seed": 1, "schedule": schedule, "average": average}
        return quietly(small_model(), (digits[0][:256], digits[1][:256]), **options).model.get_weights()

    pairs = zip(weights("auto"), weights(name), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs) == same
