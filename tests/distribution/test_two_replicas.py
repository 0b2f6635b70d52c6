"""Two replicas on one machine train as one device does at the same global batch, with every callback of ours."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import recipes
from recipes import callbacks, schedules
from recipes.checkpoints.backup_file import RunState, restore_metrics
from recipes.checkpoints.callback_state import CallbackStates
from recipes.probe.record import COLUMNS

BATCH, STEPS, EPOCHS = 16, 6, 3
RATE = 0.2
# The two halves of a batch are summed in another order, which training then carries along.
CLOSE = {"rtol": 2e-4, "atol": 2e-6}


def build():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1, name="scale"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(16, "relu", name="hidden"),
            keras.layers.Dense(8, "tanh", name="squashed"),
            keras.layers.Dense(10, "softmax", name="classes"),
        ]
    )
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def pair(two_replicas):
    """The same model on one device and on two, each traced once for all tests, with the weights to start from."""
    one = build()
    with two_replicas.scope():
        two = build()
    return one, two, one.get_weights()


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    count = BATCH * STEPS
    return (images[:count].astype("float32"), labels[:count]), (images[-64:], labels[-64:])


class Witness(keras.callbacks.Callback):
    """The rate of each step and the weights after each epoch."""

    def on_train_begin(self, logs=None):
        self.rates, self.weights = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    def on_epoch_end(self, epoch, logs=None):
        self.weights += self.model.get_weights()


def fit(pair, split, make, *, epochs=EPOCHS, spoil=None, validate=True):
    """Fit both models from the same start with new callbacks each: `[(callback, model, history, witness), ...]`."""
    *models, weights = pair
    (images, labels), validation = split
    images = images.copy()
    if spoil is not None:
        images[spoil] = np.nan
    fits = []
    for model in models:
        model.set_weights(weights)
        for variable in model.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        model.optimizer.learning_rate = RATE
        made, witness = make(), Witness()
        history = model.fit(
            images,
            labels,
            validation_data=validation if validate else None,
            batch_size=BATCH,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[*(made if isinstance(made, list) else [made]), witness],
        ).history
        fits.append((made, model, history, witness))
    return fits


def assert_same(one, two, **tolerance):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, **(tolerance or CLOSE))


def assert_same_fit(one, two):
    (_, model, history, witness), (_, twin, twins, other) = one, two
    assert history.keys() == twins.keys()
    for name, values in history.items():
        np.testing.assert_allclose(twins[name], values, **CLOSE, err_msg=name)
    np.testing.assert_allclose(other.rates, witness.rates, rtol=1e-6)
    assert_same(witness.weights, other.weights)
    assert_same(model.get_weights(), twin.get_weights())
    for replica in twin.trainable_variables[0].value.values:
        np.testing.assert_array_equal(replica, twin.get_weights()[0])


MAKERS = {
    "LearningRate": lambda: callbacks.LearningRate(schedules.OneCycle(0.3, STEPS * EPOCHS)),
    "WarmupDecay": lambda: callbacks.WarmupDecay(0.2),
    "EarlyStopping": lambda: callbacks.EarlyStopping("val_loss", patience=0, min_delta=0.7),
    "ExponentialMovingAverage": lambda: callbacks.ExponentialMovingAverage(0.9),
    "StochasticWeightAveraging": lambda: callbacks.StochasticWeightAveraging(1),
    "SnapshotEnsemble": lambda: callbacks.SnapshotEnsemble(2),
    "FastGeometricEnsembling": lambda: callbacks.FastGeometricEnsembling(2, start=0.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_callbacks_give_the_numbers_of_one_device(name, pair, split):
    # Rates and snapshots have nothing to do with validation.
    one, two = fit(pair, split, MAKERS[name], validate="Averag" in name or name == "EarlyStopping")
    assert_same_fit(one, two)
    callback, twin = one[0], two[0]
    if name == "EarlyStopping":
        assert len(one[2]["loss"]) < EPOCHS and twin.best_epoch == callback.best_epoch
        assert_same(callback.best_weights, twin.best_weights)
        assert_same(two[1].get_weights(), twin.best_weights)
    elif "Averag" in name:
        assert callback.samples == twin.samples > 1
        with pytest.raises(AssertionError):  # the average differs from the last weights: it was put in
            assert_same(one[3].weights[-6:], callback.get_state()["other_weights"])
    elif "Ensemble" in name:
        members = [m.get_weights() for m in callback.members], [m.get_weights() for m in twin.members]
        assert len(members[0]) == 2
        for member, other in zip(*members, strict=True):
            assert_same(member, other)
        images = split[1][0].astype("float32")
        assert_same([callback.ensemble()(images)], [twin.ensemble()(images)], rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*(Monitor|Detector) expects")
def test_the_probe_and_all_monitors_see_what_they_see_on_one_device(pair, split):
    def make():
        monitors = callbacks.default_monitors(every_steps=2, samples=BATCH, strict=True)
        return [*monitors, callbacks.TrainingDoctor(every_steps=2, samples=BATCH, strict=True, verbose=0)]

    one, two = fit(pair, split, make)
    assert_same_fit(one, two)
    record, other = one[0][0].record, two[0][0].record
    assert len(record) == len(other) == STEPS * EPOCHS // 2
    for name, axis in record.axes.items():
        for label in axis:
            np.testing.assert_array_equal(other.axes[name][label], axis[label])
    for name in set(COLUMNS) - {"seconds"}:
        np.testing.assert_allclose(
            getattr(other, name), getattr(record, name), rtol=1e-3, atol=1e-5, err_msg=name, equal_nan=True
        )
    detector, twin = one[0][1], two[0][1]
    assert detector.dead_units == twin.dead_units and sum(map(len, detector.dead_units.values())) > 2
    assert [str(finding.code) for finding in two[0][-1].findings] == [f.code for f in one[0][-1].findings]


def test_the_guard_names_the_layer_and_goes_back_as_on_one_device(pair, split):
    poisoned = 2 * BATCH + BATCH // 2 + 1  # in the half that the second replica gets

    def make():
        return callbacks.NonFiniteGuard(
            every_steps=1, restore=True, copy_every=1, most_restores=1, strict=True
        )

    with pytest.warns(UserWarning, match="Went back to the last good weights"):
        one, two = fit(pair, split, make, epochs=1, spoil=poisoned, validate=False)
    assert (two[0].finding, two[0].restores) == (one[0].finding, 1)
    assert one[0].finding.what == "input" and one[0].finding.step == 2
    assert_same(one[1].get_weights(), two[1].get_weights())
    np.testing.assert_allclose(two[3].rates, one[3].rates, rtol=1e-6)
    assert one[3].rates[-1] == pytest.approx(RATE / 10)


def test_a_backup_gives_each_replica_back_its_part_of_a_metric(pair, two_replicas, tmp_path):
    _, two, _ = pair
    tracker = two.metrics[0]
    losses = tf.constant([0.1, 0.7])

    def add():
        tracker.update_state(losses[tf.distribute.get_replica_context().replica_id_in_sync_group])

    def means():
        return [
            float(one) for one in two_replicas.experimental_local_results(two_replicas.run(tracker.result))
        ]

    two.reset_metrics()
    two_replicas.run(add)
    RunState.of(two, CallbackStates([]), epoch=0, history=[], batch=1).write(tmp_path / "backup.npz")
    two.reset_metrics()
    restore_metrics(tmp_path / "backup.npz", two)
    assert means() == list(losses.numpy())
    two.reset_metrics()


@pytest.mark.filterwarnings("ignore:.*(Monitor|Detector) expects")
def test_train_in_a_strategy_gives_the_run_of_one_device(split, two_replicas, tmp_path, capsys):
    (images, labels), validation = split
    runs = []
    for number, strategy in enumerate((None, two_replicas)):
        model = build()
        # Of a clone in the strategy it takes the statistics of both.
        norm = keras.layers.BatchNormalization(momentum=0.8, name="norm")
        plain = keras.Sequential([*model.layers[:-1], norm, model.layers[-1]])
        plain.build((None, 8, 8, 1))
        runs.append(
            recipes.train(
                plain,
                (images, labels),
                validation,
                epochs=2,
                batch_size=32,
                learning_rate=0.1,
                average="ema",
                early_stopping=callbacks.EarlyStopping(patience=5),
                callbacks=callbacks.default_monitors(every_steps=1, samples=32),
                preflight=False,
                strategy=strategy,
                run_dir=tmp_path / str(number),
                verbose=2,
            )
        )
        np.testing.assert_array_equal(plain.get_weights()[0], runs[-1].model.get_weights()[0])
    one, two = runs
    assert "1 BatchNormalization layer takes the statistics of all replicas" in capsys.readouterr().out
    assert one.history.keys() == two.history.keys()
    for name, values in one.history.items():
        np.testing.assert_allclose(two.history[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    assert_same(one.model.get_weights(), two.model.get_weights(), rtol=1e-3, atol=1e-5)
    assert {f.code for f in one.findings} == {f.code for f in two.findings}
    loaded = recipes.Run.load(tmp_path / "1")
    assert_same(loaded.model.get_weights(), two.model.get_weights(), rtol=0)


def test_the_range_test_finds_on_two_devices_what_it_finds_on_one(pair, split):
    one, two, weights = pair
    found = []
    for model in (one, two):
        model.set_weights(weights)
        tried = recipes.diagnose.learning_rate_range_test(model, split[0], batch_size=BATCH, steps=20)
        found.append(tried.losses)
        for mine, before in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(mine, before)
    assert len(found[0]) > 5
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
