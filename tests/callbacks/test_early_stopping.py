import json

import keras
import numpy as np
import pytest

from recipes.callbacks import EarlyStopping


@pytest.fixture(scope="module")
def data():
    """Few noisy examples, so that the validation loss turns around."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(60, 10)).astype("float32")
    targets = inputs[:, :1] + random.normal(size=(60, 1)).astype("float32")
    return (inputs[:20], targets[:20]), (inputs[20:], targets[20:])


def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), "mse")
    return model


def fit(model, data, *callbacks, epochs=30, **options):
    train, validation = data
    options = {"epochs": epochs, "batch_size": 7, "shuffle": False, "verbose": 0, **options}
    return model.fit(*train, validation_data=validation, callbacks=list(callbacks), **options).history


def test_it_stops_where_keras_stops_and_remembers_the_best_point(data):
    ours, theirs = (
        EarlyStopping(patience=3),
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
    )
    model, reference = build(), build()
    start = model.get_weights()
    history = fit(model, data, ours)
    assert history == fit(reference, data, theirs)
    for value, expected in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 4 < 30
    assert (ours.best_epoch, ours.best_steps) == (best, 3 * (best + 1))
    assert ours.best_logs == {"loss": history["loss"][best], "val_loss": history["val_loss"][best]}
    assert ours.initial_rate == pytest.approx(0.03)
    for value, expected in zip(ours.initial_weights, start, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_steps_are_counted_where_nobody_tells_how_many_there_are(data):
    import tensorflow as tf

    train, validation = data
    unknown = tf.data.Dataset.from_tensor_slices(train).batch(7).filter(lambda inputs, targets: True)
    stopper = EarlyStopping(patience=3)
    with pytest.warns(UserWarning, match="ran out of data"):
        build().fit(
            unknown, validation_data=validation, epochs=30, verbose=0, shuffle=False, callbacks=[stopper]
        )
    assert stopper.best_steps == 3 * (stopper.best_epoch + 1) > 3


def test_a_resumed_run_stops_at_the_same_point(data):
    whole = EarlyStopping(patience=3)
    model = build()
    fit(model, data, whole)
    kept = {}

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == whole.best_epoch + 1:
                kept.update(
                    epoch=epoch + 1,
                    state=first.get_state(),
                    model=self.model.get_weights(),
                    optimizer=[np.array(value) for value in self.model.optimizer.variables],
                )
                raise KeyboardInterrupt

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            second.set_state(kept["state"])

    first, second, again = EarlyStopping(patience=3), EarlyStopping(patience=3), build()
    with pytest.raises(KeyboardInterrupt):
        fit(again, data, first, Kill())
    json.dumps({name: value for name, value in kept["state"].items() if "weights" not in name})
    resumed = build()
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.set_weights(kept["model"])
    for variable, value in zip(resumed.optimizer.variables, kept["optimizer"], strict=True):
        variable.assign(value)
    fit(resumed, data, second, Resume(), initial_epoch=kept["epoch"])
    for name in ("best", "best_epoch", "best_logs", "best_steps", "stopped_epoch", "initial_rate"):
        assert getattr(second, name) == getattr(whole, name), name
    for value, expected in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_run_continued_without_its_state_does_not_pass_later_weights_for_initial_ones(data):
    stopper = EarlyStopping(patience=3)
    fit(build(), data, stopper, epochs=4, initial_epoch=2)
    assert stopper.initial_weights is None
