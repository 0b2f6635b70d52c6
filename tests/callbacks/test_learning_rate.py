import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks, schedules

STEPS, EPOCHS = 5, 4
RUN = STEPS * EPOCHS


class Interrupt(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt


def the_output(labels, outputs):
    """A loss whose gradient is the input."""
    return outputs


def build(size=RUN, rate=0.5, optimizer=None, **options):
    """A model that writes down every rate: batch i has gradient 1 for weight i alone, so w_i = -rate_i."""
    dtype = options.pop("dtype", None)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="diary", dtype=dtype)
    model = keras.Sequential([keras.Input((size,)), layer])
    model.compile(optimizer or keras.optimizers.SGD(rate), loss=the_output, **options)
    return model


def batches(size=RUN, first=0, last=None):
    rows = np.eye(size, dtype="float32")[first:last]
    return tf.data.Dataset.from_tensor_slices((rows, np.zeros((len(rows), 1), "float32"))).batch(1)


def diary(model):
    return -np.asarray(model.get_layer("diary").kernel).ravel()


def fit(model, *given, data=None, **options):
    options = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "verbose": 0, "shuffle": False, **options}
    return model.fit(batches() if data is None else data, callbacks=list(given), **options)


def falling(step):
    return 0.5 / (step + 1)


FALLING = np.array([falling(step) for step in range(RUN)])


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def fresh(model):
    """The one compiled model, with blank pages and its rate back at 0.5."""
    model.get_layer("diary").kernel.assign(np.zeros((RUN, 1)))
    model.optimizer.learning_rate = 0.5
    return model


def test_every_update_gets_its_own_rate_and_the_compiled_one_returns(fresh):
    history = fit(fresh, callbacks.LearningRate(falling))
    np.testing.assert_allclose(diary(fresh), FALLING, rtol=1e-6)
    np.testing.assert_allclose(history.history["learning_rate"], FALLING[STEPS - 1 :: STEPS], rtol=1e-6)
    assert float(fresh.optimizer.learning_rate) == 0.5


def test_one_instance_serves_two_fits_and_each_begins_at_step_0(fresh):
    rate = callbacks.LearningRate(schedules.Cosine(0.4, RUN))
    fit(fresh, rate)
    first = diary(fresh)
    fit(fresh, rate)
    np.testing.assert_allclose(diary(fresh), 2 * first, rtol=1e-6)
    expected = 0.2 * (1 + np.cos(np.pi * np.arange(RUN) / RUN))
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-7)


def test_initial_epoch_goes_on_where_the_run_stood(fresh):
    fit(fresh, callbacks.LearningRate(falling), data=batches(first=2 * STEPS), initial_epoch=2)
    np.testing.assert_allclose(diary(fresh), np.where(np.arange(RUN) < 2 * STEPS, 0, FALLING), rtol=1e-6)


def test_unknown_cardinality_counts_batches_and_asks_before_it_resumes(fresh):
    unknown = batches(last=STEPS).filter(lambda row, label: True)
    rate = callbacks.LearningRate(falling)
    with pytest.warns(UserWarning, match="ran out of data"):
        fit(fresh, rate, data=unknown, steps_per_epoch=None, epochs=3)
    np.testing.assert_allclose(diary(fresh)[:STEPS], FALLING[: 3 * STEPS].reshape(3, -1).sum(0), rtol=1e-6)
    with pytest.raises(ValueError, match="steps_per_epoch= to fit"):
        fit(fresh, rate, data=unknown, steps_per_epoch=None, epochs=3, initial_epoch=1)


def test_state_carries_compiled_rate_and_position_into_a_new_process(fresh):
    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            rate.set_state({"compiled_rate": 0.25, "batches": 12})

    rate = callbacks.LearningRate(falling)
    unknown = batches(last=STEPS).filter(lambda row, label: True)
    with pytest.warns(UserWarning, match="ran out of data"):
        fit(fresh, rate, Resume(), data=unknown, steps_per_epoch=None, epochs=2, initial_epoch=1)
    np.testing.assert_allclose(diary(fresh)[:STEPS], FALLING[12 : 12 + STEPS], rtol=1e-6)
    assert float(fresh.optimizer.learning_rate) == 0.25
    assert rate.get_state() == {"compiled_rate": 0.25, "batches": 12 + STEPS}


def test_steps_per_execution_leaves_every_update_its_own_rate():
    model = build(steps_per_execution=3)  # the seventh execution has two steps
    rate = callbacks.LearningRate(falling)
    one_epoch = {"epochs": 1, "steps_per_epoch": None}
    history = fit(model, rate, **one_epoch)
    np.testing.assert_allclose(diary(model), FALLING, rtol=1e-6)
    assert history.history["learning_rate"] == pytest.approx([FALLING[-1]])
    # A run without the callback, though the train function has been rebuilt for it, is at the compiled rate.
    model.get_layer("diary").kernel.assign(np.zeros((RUN, 1)))
    fit(model, **one_epoch)
    np.testing.assert_allclose(diary(model), 0.5, rtol=1e-6)
    # And so is a second run with it, and the file it is saved in.
    model.get_layer("diary").kernel.assign(np.zeros((RUN, 1)))
    fit(model, rate, **one_epoch)
    np.testing.assert_allclose(diary(model), FALLING, rtol=1e-6)
    assert len(model.optimizer.variables) == 2 and model.optimizer.get_config()["learning_rate"] == 0.5


def test_a_train_function_traced_before_is_made_anew_for_steps_per_execution():
    model = build(steps_per_execution=5)
    fit(model)
    model.get_layer("diary").kernel.assign(np.zeros((RUN, 1)))
    fit(model, callbacks.LearningRate(falling))
    np.testing.assert_allclose(diary(model), FALLING, rtol=1e-6)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_gradient_accumulation_counts_updates(steps_per_execution):
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    model = build(optimizer=optimizer, steps_per_execution=steps_per_execution)
    fit(model, callbacks.LearningRate(falling), epochs=5, steps_per_epoch=4)
    # Batches 2u and 2u + 1 share update u, each with half of the gradient.
    np.testing.assert_allclose(diary(model), np.repeat(FALLING[: RUN // 2], 2) / 2, rtol=1e-6)


def test_mixed_precision_drives_the_optimizer_inside_the_loss_scaling():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)
    model = build(optimizer=optimizer, dtype="mixed_float16")
    history = fit(model, callbacks.LearningRate(falling))
    np.testing.assert_allclose(diary(model), FALLING, rtol=1e-3)
    assert history.history["learning_rate"][-1] == pytest.approx(FALLING[-1])
    assert float(model.optimizer.learning_rate) == 0.5


def test_an_interrupted_run_leaves_no_lowered_peak_behind(fresh):
    with pytest.raises(KeyboardInterrupt):
        fit(fresh, callbacks.LearningRate(falling), Interrupt(at=7))
    assert float(fresh.optimizer.learning_rate) == pytest.approx(FALLING[6])
    fit(fresh, another := callbacks.LearningRate(falling))
    assert another.get_state()["compiled_rate"] == 0.5
    assert float(fresh.optimizer.learning_rate) == 0.5


def test_a_rate_set_by_hand_after_an_interruption_counts(fresh):
    with pytest.raises(KeyboardInterrupt):
        fit(fresh, callbacks.LearningRate(falling), Interrupt(at=7))
    fresh.optimizer.learning_rate = 0.3
    fit(fresh, callbacks.LearningRate(falling), epochs=1)
    assert float(fresh.optimizer.learning_rate) == pytest.approx(0.3)


def test_two_drivers_and_a_plateau_callback_are_told(fresh):
    with pytest.raises(ValueError, match="alone in driving"):
        fit(fresh, callbacks.LearningRate(falling), callbacks.LearningRate(falling))
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", mode="max", patience=0, factor=0.5)
    steady = callbacks.LearningRate(lambda step: 0.4)
    for pair in ((steady, plateau), (plateau, steady)):
        fresh.optimizer.learning_rate = 0.5
        with pytest.warns(UserWarning, match="alone in setting"):
            fit(fresh, *pair)


def test_a_rate_lowered_behind_it_at_every_step_is_left_alone_and_logged(fresh):
    class Lower(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.1 * float(self.model.optimizer.learning_rate)

    history = fit(fresh, callbacks.LearningRate(falling), Lower()).history
    np.testing.assert_allclose(diary(fresh), 0.1 * FALLING, rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], 0.1 * FALLING[STEPS - 1 :: STEPS], rtol=1e-6)


def test_a_schedule_in_the_optimizer_is_refused():
    model = build(optimizer=keras.optimizers.SGD(schedules.Cosine(0.1, 10)))
    with pytest.raises(ValueError, match="compiled with a number"):
        fit(model, callbacks.LearningRate(falling))
    with pytest.raises(TypeError, match="compile the model with it"):
        callbacks.LearningRate(0.1)


def test_two_replicas_share_one_rate(two_replicas):
    with two_replicas.scope():
        model = build()
    rows = np.repeat(np.eye(RUN, dtype="float32"), 2, axis=0)
    data = tf.data.Dataset.from_tensor_slices((rows, np.zeros((2 * RUN, 1), "float32"))).batch(2)
    fit(model, callbacks.LearningRate(falling), data=data)
    np.testing.assert_allclose(diary(model), FALLING, rtol=1e-6)
