"""Layers join within one fit: what learns when, at which step of Adam, with which statistics, and after a resume."""

import keras
import numpy as np
import pytest

from recipes import callbacks, optimizers
from recipes.callbacks import Unfreeze
from recipes.callbacks.epoch_clock import EpochClock
from recipes.common.traversal import variable_owners

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.normal(size=(24, 6, 6, 2)).astype("float32"), np.arange(24) % 3


def network(frozen=True):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="low")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(4, 3, name="high", activation="relu")(x)
    body = keras.Model(image, x, name="body")
    body.trainable = not frozen
    again = keras.Input((6, 6, 2))
    x = keras.layers.GlobalAveragePooling2D()(body(again))
    return keras.Model(again, keras.layers.Dense(3, name="classes")(x), name="net")


class Watch(keras.callbacks.Callback):
    """Which layers' variables each epoch changed."""

    def on_train_begin(self, logs=None):
        self.moved = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = {v.path: np.array(v) for v in self.model.weights}

    def on_epoch_end(self, epoch, logs=None):
        owners = variable_owners(self.model)
        changed = {
            owners[id(v)][1].name for v in self.model.weights if np.any(self.before[v.path] != np.array(v))
        }
        self.moved.append(sorted(changed))


def fit(model, data, *more, epochs=4, **options):
    watch = Watch()
    model.fit(
        *data, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[*more, watch], **options
    )
    return watch


def compiled(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(1e-2), LOSS)
    return model


@pytest.mark.parametrize("frozen", [True, False])
def test_layers_learn_from_their_epoch_on(data, frozen):
    watch = fit(compiled(network(frozen)), data, Unfreeze({1: "high", 3: "body"}))
    # The batch normalization stays as it is, statistics and all.
    assert watch.moved == [["classes"], ["classes", "high"], ["classes", "high"], ["classes", "high", "low"]]


def test_everything_may_join_at_the_first_epoch(data):
    model = compiled(network())
    assert fit(model, data, Unfreeze({0: "*"}), epochs=1).moved == [["classes", "high", "low"]]


def test_every_stage_has_one_new_trace(data):
    traces, counts, model = [], [], network()

    def loss(labels, outputs):
        traces.append(1)  # runs while tracing alone
        return LOSS(labels, outputs)

    class Count(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            counts.append(-len(traces))

        def on_epoch_end(self, epoch, logs=None):
            counts[-1] += len(traces)

    model.compile("sgd", loss)
    fit(model, data, Unfreeze({1: "high", 3: "body"}), Count(), epochs=5)
    assert counts == [1, 1, 0, 1, 0]


def test_batch_norm_learns_where_it_is_asked_for(data):
    watch = fit(compiled(network()), data, Unfreeze({1: "body"}, batch_norm=True), epochs=2)
    assert watch.moved[1] == ["classes", "high", "low", "norm"]


def test_a_layer_that_joins_takes_the_first_step_of_adam(data):
    model = compiled(network(), keras.optimizers.Adam(1e-3))
    stages = Unfreeze({30: "high"})
    fit(model, data, stages, epochs=30)
    before = np.array(model.get_layer("body").get_layer("high").kernel)
    images, labels = data
    stages_again = Unfreeze({30: "high"})
    one = [images[:8], labels[:8]]
    model.fit(*one, batch_size=8, initial_epoch=30, epochs=31, verbose=0, callbacks=[stages_again])
    change = np.abs(before - np.array(model.get_layer("body").get_layer("high").kernel))
    moved = change[change > 1e-4]
    assert moved.size > 20
    # The rate times the sign of the gradient; with the optimizer's own clock it would be 2.6 times as much.
    np.testing.assert_allclose(moved, 1e-3, rtol=0.02)


def test_layers_of_the_first_stage_learn_as_without_the_callback(data):
    plain, staged = compiled(network()), compiled(network())
    fit(plain, data, epochs=2)
    fit(staged, data, Unfreeze({5: "body"}), epochs=2)
    for one, other in zip(plain.get_weights(), staged.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_of_an_optimizer_that_has_trained_is_kept(data):
    plain, staged = compiled(network()), compiled(network())
    for model in (plain, staged):
        fit(model, data, epochs=2)
    fit(plain, data, epochs=3, initial_epoch=2)
    fit(staged, data, Unfreeze({5: "body"}), epochs=3, initial_epoch=2)
    for one, other in zip(plain.get_weights(), staged.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_that_join_have_the_factors_of_their_rates(data):
    model = network()
    rates = {"high": 0.5, "low": 0.25}
    compiled(model, optimizers.layerwise(keras.optimizers.Adam(1e-2), model, rates))
    fit(model, data, Unfreeze({1: "body"}), epochs=2)
    assert model.optimizer.factors == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]


def test_a_number_of_epochs_frees_groups_from_the_top(data):
    watch = fit(compiled(network()), data, Unfreeze(1), epochs=3)
    assert watch.moved == [["classes"], ["classes", "high"], ["classes", "high", "low"]]


def test_a_stage_is_told_when_it_begins_alone(data, capsys):
    model, stages = compiled(network()), Unfreeze({1: "high"})
    model.fit(*data, batch_size=8, epochs=1, verbose=2, callbacks=[stages])
    model.fit(*data, batch_size=8, epochs=2, initial_epoch=1, verbose=2, callbacks=[stages])
    model.fit(*data, batch_size=8, epochs=3, initial_epoch=2, verbose=2, callbacks=[stages])
    told = [line for line in capsys.readouterr().out.splitlines() if "Unfreeze" in line]
    assert len(told) == 1 and told[0].endswith("from now on high too.")


def test_fits_in_parts_are_the_whole_fit(data, tmp_path):
    schedule = {1: "high", 3: "body"}
    whole = compiled(network())
    fit(whole, data, Unfreeze(schedule), epochs=5)
    for stop in (2, 3, 5):
        parts, stages = compiled(network()), Unfreeze(schedule)
        fit(parts, data, stages, callbacks.Backup(tmp_path / "backup.npz", [stages]), epochs=stop)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_saved_between_stages_goes_on_from_its_file(data, tmp_path):
    schedule = {1: "high", 3: "body"}
    whole, first = compiled(network()), compiled(network())
    fit(whole, data, Unfreeze(schedule), epochs=5)
    fit(first, data, Unfreeze(schedule), epochs=2)
    first.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    fit(loaded, data, Unfreeze(schedule), epochs=5, initial_epoch=2)
    for one, other in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_doctor_takes_no_new_trace_for_a_slow_first_batch(data, monkeypatch, capsys):
    row = {"steps": 1.0, "first": 20.0, "validation": 0.0, "garbage": 0.0, "epoch": 21.0}
    monkeypatch.setattr(EpochClock, "epoch_ends", lambda clock: clock.epochs.append(row))
    said = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: said.append("waiting for its first batch" in capsys.readouterr().out)
    )
    doctor = callbacks.TrainingDoctor(budget=0.01)
    stages = Unfreeze({5: "body"})
    fit(compiled(network()), data, stages, doctor, watch, initial_epoch=4, epochs=7)
    assert said == [False, False, True]


def test_monitors_see_the_layers_that_joined(data):
    watch = callbacks.UpdateRatioMonitor(every_steps=1, warn=False, strict=True)
    fit(compiled(network()), data, Unfreeze({1: "body"}), watch, epochs=2)
    assert set(watch.ratios) == {"body/low", "body/high", "classes"}


def test_a_rate_schedule_runs_over_the_stages(data):
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    fit(
        compiled(network()),
        data,
        Unfreeze({1: "body"}),
        callbacks.WarmupDecay(0, decay="linear"),
        Rates(),
        epochs=2,
    )
    np.testing.assert_allclose(rates, 1e-2 * (1 - np.arange(6) / 6), rtol=1e-5)


def test_names_that_fit_no_layer_are_refused(data):
    with pytest.raises(ValueError, match="Unfreeze expects names or patterns of layers. Received 'botom'"):
        fit(compiled(network()), data, Unfreeze({1: "botom"}))


@pytest.mark.parametrize("schedule", [{}, {-1: "a"}, {1: 3}, {1: []}, "body", 0, True, {"1": "a"}])
def test_another_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="Unfreeze expects a dict from epochs"):
        Unfreeze(schedule)


@pytest.mark.parametrize("optimizer", ["nadam", "multi"])
def test_optimizers_with_a_common_state_are_refused(data, optimizer):
    if optimizer == "multi":
        rates = keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.1), {".*high.*": keras.optimizers.SGD(0.2)}
        )
        optimizer = keras.optimizers.MultiOptimizer(rates)
    model = network()
    model.compile(optimizer, LOSS)
    with pytest.raises(ValueError, match="keeps a state for each variable by itself"):
        fit(model, data, Unfreeze({1: "body"}))


def test_a_schedule_that_freezes_everything_is_refused(data):
    with pytest.raises(ValueError, match="something that learns from the beginning"):
        fit(compiled(network()), data, Unfreeze({1: "*"}))
