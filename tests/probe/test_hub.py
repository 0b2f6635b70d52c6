"""How a hub begins and ends, what it refuses, and that nobody notices it."""

import copy
import gc
import pickle
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks
from recipes.probe import hub as hub_module

layers = keras.layers
X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("int64")


def build(compiled=True, **options):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "relu", name="hidden"), layers.Dense(2, "softmax")]
    )
    if compiled:
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", **options)
    return model


def fit(model, *monitors, epochs=1, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(monitors), **options
    )


class Ratios(callbacks.UpdateRatioMonitor):
    """Never warns."""

    def __init__(self, **options):
        super().__init__(1e-30, 1e30, **options)


class Raises(keras.callbacks.Callback):
    def __init__(self, error, where):
        super().__init__()
        setattr(self, where, self.fail)
        self.error = error

    def fail(self, *args, **kwargs):
        raise self.error


def assert_clean(model):
    assert not {"train_step", "compute_loss", "call"} & set(vars(model))
    assert "apply" not in vars(model.optimizer)
    assert not any("call" in vars(layer) for layer in model.layers)


@pytest.mark.parametrize("where", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("other callback")])
def test_after_an_exception_the_model_is_clean_and_the_next_fit_works(where, error):
    model, first = build(), Ratios(every_steps=1)
    with pytest.raises(type(error)):
        fit(model, first, Raises(error, where))
    assert_clean(model)
    second = Ratios(every_steps=1)
    fit(model, second)
    assert second.record.step.tolist() == [0, 1, 2, 3]
    assert second._hub.monitors == []
    model.fit(X, Y, batch_size=8, verbose=0)  # without monitors
    assert len(second.record) == 4


def test_an_error_of_the_model_inside_the_probed_step_comes_out_as_it_is():
    class Broken(layers.Layer):
        def call(self, inputs):
            raise ZeroDivisionError("in the model")

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Broken()])
    model.compile("sgd", "mse")
    with pytest.raises(Exception, match="in the model"):
        model.fit(X, X[:, :3], verbose=0, callbacks=[Ratios(every_steps=1)])
    assert_clean(model)


def test_a_second_fit_uses_the_same_twin_and_a_compile_drops_it():
    model, monitor = build(), Ratios(every_steps=1)
    fit(model, monitor)
    plain = model.train_function
    (twin,) = monitor._hub.swap._twins.values()
    traces = twin.traces
    fit(model, monitor)
    assert model.train_function is plain and twin.traces == traces
    assert monitor.record.step.tolist() == [0, 1, 2, 3]
    model.compile("sgd", "sparse_categorical_crossentropy")
    twin_dies = weakref.ref(twin)
    del twin, plain
    gc.collect(), gc.collect()  # the train function, whose end lets go of the twin
    assert twin_dies() is None


def test_a_hub_keeps_no_model_alive():
    model, monitor = build(), Ratios(every_steps=1)
    fit(model, monitor)
    dies = weakref.ref(model)
    record = monitor.record
    del model, monitor
    gc.collect()
    assert dies() is None and len(record) == 4 and not len(hub_module._HUBS)


def test_saving_cloning_pickling_and_keras_own_callbacks_see_nothing(tmp_path):
    model = build()
    saves = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    fit(model, Ratios(every_steps=1), saves, backup, epochs=2)
    expected = model.predict(X, verbose=0)
    for other in (
        keras.models.load_model(tmp_path / "2.keras"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        np.testing.assert_array_equal(other.predict(X, verbose=0), expected)
    assert_clean(keras.models.clone_model(model))
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(served.serve(X), expected, rtol=1e-6)


def test_all_monitors_share_one_probe_and_each_cadence_is_kept():
    model = build()
    ratios, gradients = Ratios(every_steps=3), callbacks.GradientMonitor(every_steps=4)
    fit(model, ratios, gradients, epochs=2)
    assert ratios.record is gradients.record
    assert ratios.record.step.tolist() == [0, 3, 4, 6]


def test_two_of_a_kind_an_uncompiled_and_a_frozen_model_are_refused():
    with pytest.raises(ValueError, match=r"at most one Ratios.*default_monitors\(beside="):
        fit(build(), Ratios(), Ratios())
    monitor = Ratios()
    monitor.set_model(build(compiled=False))
    with pytest.raises(ValueError, match="expects a compiled model"):
        monitor.on_train_begin()
    model = build(compiled=False)
    model.trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="trainable variables.*Set layer.trainable = True"):
        fit(model, Ratios())


def test_another_keras_backend_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(RuntimeError, match="'torch'. Set KERAS_BACKEND=tensorflow"):
        Ratios()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_steps": 0}, "every_steps=0"),
        ({"budget": 2}, "budget=2"),
        ({"every_steps": 2, "budget": 0.1}, "not both"),
        ({"samples": 0}, "samples=0"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        Ratios(**options)


def test_an_error_inside_a_monitor_is_said_once_and_the_run_goes_on_unless_strict():
    class Failing(Ratios):
        def on_probe(self, probe):
            raise KeyError("lost")

    model, other = build(), callbacks.GradientMonitor(every_steps=1)
    with pytest.warns(UserWarning, match="Failing expects a step .* Received KeyError in epoch 1") as said:
        history = fit(model, Failing(every_steps=1), other, epochs=2).history
    assert len(said) == 1 and np.isnan(history["monitor/update_ratio"]).all()
    assert np.isfinite(history["monitor/gradient_norm"]).all()
    with pytest.raises(KeyError, match="lost"):
        fit(build(), Failing(every_steps=1, strict=True))


def test_what_runs_inside_a_loop_is_named_and_the_rest_is_measured():
    model = keras.Sequential(
        [keras.Input((6, 4)), layers.LSTM(3), layers.Dense(4, "relu"), layers.Dense(2, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = callbacks.NonFiniteGuard(every_steps=2)
    ratios = Ratios(every_steps=2)
    model.fit(np.repeat(X[:, None], 6, 1), Y, batch_size=8, verbose=0, callbacks=[ratios, monitor])
    names = ratios.record.axes["layers"]["name"].tolist()
    assert any("lstm_cell" in text and "inside a loop" in text for text in ratios.record.unseen)
    assert any(name.startswith("dense") for name in names) and not any("lstm_cell" in name for name in names)
    assert (ratios.record.update_norm > 0).all()


def test_a_budget_is_kept_and_what_it_did_is_in_the_record():
    model, monitor = build(), Ratios()
    # The steps are those of 100 short epochs, each of which costs more than its steps.
    x, y = np.tile(X, (50, 1)), np.tile(Y, 50)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False, callbacks=[monitor])
    cost = monitor.record.cost
    assert (
        cost["budget"] == 0.01 and cost["steps"] == cost["executions"] == 400 and cost["tracing_seconds"] > 0
    )
    assert 0 < monitor.record.step[-1] and len(monitor.record) == cost["probes"] + 1 < 200


def test_a_resumed_fit_goes_on_with_record_and_step():
    whole = Ratios(every_steps=3)
    fit(build(), whole, epochs=4)
    model, first = build(), Ratios(every_steps=3)
    fit(model, first, epochs=2)
    state = first.get_state()

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            second.set_state(state)

    second = Ratios(every_steps=3)
    fit(model, second, Resume(), epochs=4, initial_epoch=2)
    assert second.record.step.tolist() == whole.record.step.tolist()
    assert second.record.epoch.tolist() == whole.record.epoch.tolist()


class Writes(keras.callbacks.Callback):
    """The steps of the run after which the weights are others than before."""

    def on_train_begin(self, logs=None):
        self.step, self.steps, self.before = -1, [], None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        now = self.model.get_weights()
        if self.before is None or not all(map(np.array_equal, now, self.before)):
            self.steps += [self.step] if self.before is not None else []
        self.before = now


def test_accumulated_gradients_are_counted_right_where_the_length_is_not_known():
    # Keras counts a micro-step when it finds the data set exhausted, so the rhythm shifts from epoch to epoch.
    model = keras.Sequential(
        [layers.Dense(5, "relu"), layers.Dense(2, "softmax")]
    )  # the first step builds it
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).filter(lambda x, y: True).batch(7)  # 5 batches
    monitor, writes = Ratios(every_steps=1), Writes()
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(data, epochs=3, verbose=0, callbacks=[monitor, writes])
    assert monitor.record.step.tolist() == writes.steps == [1, 3, 6, 8, 11, 13]
    assert monitor.record.epoch.tolist() == [0, 0, 1, 1, 2, 2]
