import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.callbacks import WarmupDecay

STEPS, EPOCHS = 10, 2
RUN = STEPS * EPOCHS


def the_output(labels, outputs):
    """A loss whose gradient is the input."""
    return outputs


@pytest.fixture(scope="module")
def compiled():
    model = keras.Sequential(
        [keras.Input((RUN,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(0.8), loss=the_output)
    return model


@pytest.fixture
def model(compiled):
    compiled.layers[0].kernel.assign(np.zeros((RUN, 1)))
    compiled.optimizer.learning_rate = 0.8
    return compiled


def run(model, callback, data=None, **options):
    """The rate of every step of the run, as the weights show it: step i alone has a gradient, 1, for weight i."""
    if data is None:
        data = tf.data.Dataset.from_tensor_slices((np.eye(RUN, dtype="float32"), np.zeros((RUN, 1)))).batch(1)
        options = {"steps_per_epoch": STEPS, **options}
    model.fit(data, callbacks=[callback], verbose=0, shuffle=False, **{"epochs": EPOCHS, **options})
    return -np.asarray(model.layers[0].kernel).ravel()


def test_cosine_warms_up_in_increments_and_ends_just_above_zero(model):
    rates = run(model, WarmupDecay(warmup=4))
    np.testing.assert_allclose(rates[:4], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(rates[3:], 0.4 * (1 + np.cos(np.pi * np.arange(17) / 17)), rtol=1e-5)
    assert 0 < rates[-1] < 0.01


def test_a_fraction_of_the_run_and_a_number_of_steps_are_the_same_warmup(model):
    whole = run(model, WarmupDecay(warmup=5, decay="linear"))
    model.layers[0].kernel.assign(np.zeros((RUN, 1)))
    np.testing.assert_array_equal(run(model, WarmupDecay(warmup=0.25, decay="linear")), whole)


def test_linear_from_start_to_final_fractions_of_the_peak(model):
    rates = run(model, WarmupDecay(warmup=2, decay="linear", start=0.5, final=0.25))
    expected = [0.6, *(0.2 + 0.6 * (1 - np.arange(19) / 19))]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_until_leaves_the_rest_of_the_run_at_the_final_rate(model):
    rates = run(model, WarmupDecay(warmup=0, decay="linear", final=0.25, until=0.5))
    np.testing.assert_allclose(rates, [*(0.2 + 0.6 * (1 - np.arange(10) / 10)), *[0.2] * 10], rtol=1e-5)


def test_step_falls_at_parts_of_the_whole_run(model):
    rates = run(model, WarmupDecay(warmup=4, decay="step", boundaries=(0.5, 0.75), factor=0.5))
    expected = [0.2, 0.4, 0.6] + [0.8] * 7 + [0.4] * 5 + [0.2] * 5
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_inverse_square_root_is_the_papers_with_the_compiled_rate_as_peak(model):
    rates = run(model, WarmupDecay(warmup=4, decay="inverse_sqrt"))
    step = np.arange(1, RUN + 1)
    np.testing.assert_allclose(rates, 0.8 * 4**0.5 * np.minimum(step**-0.5, step * 4**-1.5), rtol=1e-6)


def test_no_warmup_begins_at_the_peak(model):
    rates = run(model, WarmupDecay(warmup=0, decay="linear"))
    np.testing.assert_allclose(rates, 0.8 * (1 - np.arange(RUN) / RUN), rtol=1e-5)


def test_a_resumed_run_ends_as_the_whole_one_does(model):
    whole = run(model, WarmupDecay(warmup=4))
    model.layers[0].kernel.assign(np.zeros((RUN, 1)))
    rows = tf.data.Dataset.from_tensor_slices(
        (np.eye(RUN, dtype="float32")[STEPS:], np.zeros((STEPS, 1)))
    ).batch(1)
    np.testing.assert_allclose(
        run(model, WarmupDecay(warmup=4), data=rows, initial_epoch=1)[STEPS:], whole[STEPS:]
    )


def test_a_model_from_a_file_of_mid_run_asks_for_its_peak(model, tmp_path):
    keeper = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    data = tf.data.Dataset.from_tensor_slices((np.eye(RUN, dtype="float32"), np.zeros((RUN, 1)))).batch(1)
    model.fit(
        data,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        callbacks=[WarmupDecay(warmup=4), keeper],
        verbose=0,
        shuffle=False,
    )
    again = keras.Sequential.from_config(model.get_config())
    again.compile(keras.optimizers.SGD(0.8), loss=the_output)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "1.weights.h5")
    assert float(again.optimizer.learning_rate) < 0.8
    with pytest.warns(UserWarning, match="pass learning_rate="):
        again.fit(
            data,
            epochs=2,
            initial_epoch=1,
            steps_per_epoch=1,
            callbacks=[WarmupDecay()],
            verbose=0,
            shuffle=False,
        )
    callback = WarmupDecay(learning_rate=0.8, warmup=0)
    again.fit(data, epochs=1, steps_per_epoch=1, callbacks=[callback], verbose=0, shuffle=False)
    assert float(callback.schedule(0)) == pytest.approx(0.8)


def test_restored_state_gives_the_run_its_peak_back(model):
    callback = WarmupDecay(warmup=0, decay="linear")

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            callback.set_state({"compiled_rate": 1.6, "batches": None})

    data = tf.data.Dataset.from_tensor_slices((np.eye(RUN, dtype="float32"), np.zeros((RUN, 1)))).batch(1)
    model.fit(data, epochs=1, callbacks=[callback, Resume()], verbose=0, shuffle=False)
    np.testing.assert_allclose(-np.asarray(model.layers[0].kernel)[:2, 0], [1.6, 1.6 * 19 / 20], rtol=1e-6)


def test_unknown_length_is_asked_for_and_can_be_given(model):
    rows = np.eye(RUN, dtype="float32")
    unknown = (
        tf.data.Dataset.from_tensor_slices((rows, np.zeros((RUN, 1))))
        .batch(1)
        .filter(lambda row, label: True)
    )
    with pytest.raises(ValueError, match="steps_per_epoch= to WarmupDecay"):
        run(model, WarmupDecay(), data=unknown, epochs=1)
    with pytest.warns(UserWarning, match="ran out of data"):
        rates = run(model, WarmupDecay(warmup=0, decay="linear", steps_per_epoch=RUN), data=unknown, epochs=1)
    np.testing.assert_allclose(rates, 0.8 * (1 - np.arange(RUN) / RUN), rtol=1e-5)


def test_accumulation_shortens_the_run_to_its_updates():
    model = keras.Sequential(
        [keras.Input((RUN,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    optimizer = keras.optimizers.SGD(0.8, gradient_accumulation_steps=4)
    model.compile(optimizer, loss=the_output)
    rates = 4 * run(model, WarmupDecay(warmup=0, decay="linear"))
    np.testing.assert_allclose(rates, np.repeat(0.8 * (1 - np.arange(5) / 5), 4), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"warmup": 1.0}, r"float in \[0, 1\)"),
        ({"warmup": -3}, "int >= 0"),
        ({"warmup": True}, "int >= 0"),
        ({"decay": "exponential"}, "decay to be one of"),
        ({"decay": "inverse_sqrt", "warmup": 0}, "time scale"),
        ({"final": 2.0}, "fractions of the peak"),
        ({"until": 0.0}, "part of the run, in"),
        ({"boundaries": (0.75, 0.5)}, "rising parts"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_impossible_arguments_say_what_to_do(options, says):
    with pytest.raises(ValueError, match=says):
        WarmupDecay(**options)


def test_a_warmup_that_does_not_fit_the_run_is_refused(model):
    with pytest.raises(ValueError, match="no longer than the run"):
        run(model, WarmupDecay(warmup=RUN + 1))
    with pytest.raises(ValueError, match="before the rate first falls"):
        run(model, WarmupDecay(warmup=0.6, decay="step"))
