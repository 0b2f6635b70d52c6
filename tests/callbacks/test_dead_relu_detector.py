import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks, probe

layers = keras.layers
rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(96, 6, 6, 1)).astype("float32")
LABELS = rng.integers(0, 2, 96)
DEAD = {"fused": [1, 4], "block/inner": [0, 7], "relu6": [2], "activation": [3], "op": [0, 2]}
ALMOST = 5  # unit of "fused" that only one image in all the data makes active


def planted():
    """A network with dead units of every kind, and one unit that a single image keeps alive."""
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(8, 3, activation="relu", name="fused")(inputs)
    block_inputs = keras.Input((4, 4, 8))
    x = keras.Model(
        block_inputs, layers.Conv2D(8, 3, activation="relu", name="inner")(block_inputs), name="block"
    )(x)
    x = layers.ReLU(6.0, name="relu6")(layers.Dense(4, name="before6")(layers.Flatten()(x)))
    x = layers.Activation("relu", name="activation")(layers.Dense(5, name="before")(x))
    x = layers.LeakyReLU(name="leaky")(layers.Dense(4, name="before_leaky")(x))
    x = keras.ops.relu(layers.Dense(3, name="before_op")(x))
    x._keras_history.operation.name = "op"
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    places = {
        "fused": model.get_layer("fused"),
        "block/inner": model.get_layer("block").get_layer("inner"),
        "relu6": model.get_layer("before6"),
        "activation": model.get_layer("before"),
        "leaky": model.get_layer("before_leaky"),
        "op": model.get_layer("before_op"),
    }
    for name, units in {**DEAD, "leaky": [1]}.items():
        kernel, bias = places[name].get_weights()
        bias[:] = 3.0  # the others fire
        bias[units] = -100.0
        places[name].set_weights([kernel * 0.1, bias])
    kernel, bias = places["fused"].get_weights()
    kernel[..., ALMOST], bias[ALMOST] = 1.0, -50.0
    places["fused"].set_weights([kernel, bias])
    return model


def images():
    data = IMAGES.copy()
    data[70] = 10.0
    return data


@pytest.fixture(scope="module")
def model():
    return planted()


def train(model, detector, *others, epochs=1, **options):
    model.compile(keras.optimizers.SGD(1e-5), "sparse_categorical_crossentropy")
    options = {"batch_size": 16, "epochs": epochs, "verbose": 0, "shuffle": False, **options}
    return model.fit(images(), LABELS, callbacks=[detector, *others], **options)


def test_planted_dead_units_are_found_exactly_in_arrays_and_data_sets(model):
    expected = {**DEAD, "leaky": [1]}
    dataset = tf.data.Dataset.from_tensor_slices((images(), LABELS))
    for data in (images(), (images(), LABELS), dataset, dataset.batch(10)):
        assert probe.dead_units(model, data) == expected
    without = np.delete(images(), 70, axis=0)
    assert probe.dead_units(model, without)["fused"] == [1, 4, ALMOST]


def test_with_data_suspects_are_confirmed_at_once_and_the_rest_is_cleared(model):
    detector = callbacks.DeadReluDetector(data=images(), every_steps=3, warn_above=1, strict=True)
    history = train(model, detector).history  # probes steps 0 and 3: image 70 is in step 4
    assert (
        detector.dead_units == DEAD and detector.never_positive == {"leaky": [1]} and detector.suspects == {}
    )
    assert detector.died["fused"] == {1: 0, 4: 0}
    sizes = {"fused": 8, "block/inner": 8, "relu6": 4, "activation": 5, "op": 3}
    assert detector.fractions == {layer: len(DEAD[layer]) / size for layer, size in sizes.items()}
    np.testing.assert_allclose(history["monitor/dead_relu_fraction"], 8 / 28)


def test_without_data_the_next_epoch_confirms_and_clears(model):
    detector = callbacks.DeadReluDetector(every_steps=3, warn_above=1, strict=True)
    backup = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: detector.get_state())
    history = train(model, detector, backup, epochs=2).history
    assert history["monitor/dead_relu_fraction"][0] == 0  # only suspects yet
    assert history["monitor/dead_relu_suspects"] == [8 + 1, 0]
    assert detector.dead_units == DEAD and detector.suspects == {}
    panel = next(axes for axes in detector.plot().axes if axes.get_title().startswith("fused"))
    assert panel.get_title() == "fused: 2 of 8 dead"


def test_a_unit_that_dies_is_dated_and_one_that_comes_back_is_taken_off():
    model = planted()
    layer = model.get_layer("before")
    alive = layer.get_weights()

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kernel, bias = (w.copy() for w in alive)
            if epoch in (1, 2):
                bias[0] = -100.0
            if epoch == 3:
                bias[3] = 3.0
            layer.set_weights([kernel, bias])
            found.append(dict(detector.dead_units))

    found = []
    detector = callbacks.DeadReluDetector(data=images(), every_steps=2, warn_above=1, strict=True)
    model.compile(keras.optimizers.SGD(1e-6), "sparse_categorical_crossentropy")
    model.fit(images(), LABELS, batch_size=16, epochs=4, verbose=0, callbacks=[Change(), detector])
    assert [epoch.get("activation") for epoch in found] == [None, [3], [0, 3], [0, 3]]
    assert "activation" not in detector.dead_units
    state = detector.get_state()["monitor"]
    copy = callbacks.DeadReluDetector()
    copy.reset()
    copy.set_monitor_state(json.loads(json.dumps(state)))
    assert copy.dead_units == detector.dead_units and copy.died == detector.died


def test_too_many_dead_units_are_said_once_with_the_layer():
    detector = callbacks.DeadReluDetector(data=images(), every_steps=1, warn_above=0.3)
    with pytest.warns(
        UserWarning, match=r"67% \(2 of 3 units\) in op after epoch 0. Lower the learning rate"
    ) as said:
        train(planted(), detector, epochs=2)
    assert len(said) == 1


def test_a_broken_layer_is_not_dead_and_a_model_without_relu_is_a_stated_no_op():
    model = planted()
    model.get_layer("before").set_weights([np.full((4, 5), np.nan), np.zeros(5)])
    detector = callbacks.DeadReluDetector(every_steps=1, warn_above=1)
    train(model, detector)
    assert not {"activation", "op"} & {*detector.dead_units, *detector.suspects}
    smooth = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")]
    )
    with pytest.warns(UserWarning, match="in which none was found. It does nothing") as said:
        history = train(smooth, callbacks.DeadReluDetector(every_steps=1), epochs=2).history
    assert len(said) == 1 and np.isnan(history["monitor/dead_relu_fraction"]).all()


def test_data_that_can_be_read_once_and_empty_data_are_refused(model):
    with pytest.raises(TypeError, match="only once"):
        callbacks.DeadReluDetector(data=iter([images()]))
    with pytest.raises(ValueError, match="Received none"):
        probe.dead_units(model, images()[:0])
    with pytest.raises(ValueError, match="warn_above=2"):
        callbacks.DeadReluDetector(warn_above=2)
