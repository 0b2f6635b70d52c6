"""Monitors must not change training by a single bit, and must measure what an eager calculation gives."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks

pytestmark = pytest.mark.numerics

layers = keras.layers
STEPS, BATCH, EPOCHS = 6, 8, 2


class Watching(callbacks.Monitor):
    """Keeps every probe."""

    quantities = frozenset({"variables", "activations", "finite", "ever_active"})

    def reset(self):
        self.probes = []

    def on_probe(self, probe):
        self.probes.append(probe)


class Witness(keras.callbacks.Callback):
    """Copies all weights before each batch and after the last one, on the host."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_train_batch_begin(self, batch, logs=None):
        self.weights.append([w.copy() for w in self.model.get_weights()])

    def on_train_end(self, logs=None):
        self.weights.append(self.model.get_weights())


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(STEPS * BATCH, 6, 6, 2)).astype("float32")
    return images, rng.integers(0, 3, len(images)), rng.uniform(0.5, 2, len(images)).astype("float32")


def functional(kernel_constraint=None):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, use_bias=False, kernel_constraint=kernel_constraint)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(5)(x)
    x = layers.Activation("tanh")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def sequential():
    return keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Flatten(), layers.Dense(7, "sigmoid"), layers.Dense(3, "softmax")]
    )


def regression():
    linear = [
        layers.Rescaling(0.5),
        layers.Rescaling(0.3),
        layers.Flatten(),
        layers.Dense(6),
        layers.LeakyReLU(),
    ]
    return keras.Sequential([keras.Input((6, 6, 2)), *linear, layers.Dense(5, "silu"), layers.Dense(1)])


def unbuilt():
    return keras.Sequential([layers.Flatten(), layers.Dense(7, "relu"), layers.Dense(3, "softmax")])


def nested():
    inputs = keras.Input((6, 6, 2))
    inner_inputs = keras.Input((72,))
    inner = keras.Model(inner_inputs, layers.Dense(6, "relu")(inner_inputs), name="inner")
    x = inner(layers.Flatten()(inputs))
    x = keras.Sequential([layers.Dense(6), layers.ReLU()], name="outer")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def shared():
    inputs = keras.Input((6, 6, 2))
    dense = layers.Dense(6, "relu")
    x = keras.ops.relu(layers.Dense(6)(layers.Flatten()(inputs)))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(dense(dense(x)) + x))


def frozen():
    model = functional()
    model.layers[1].trainable = False
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3, activation="relu")
        self.head = layers.Dense(3, activation="softmax")
        self.flatten = layers.Flatten()

    def call(self, inputs):
        return self.head(self.flatten(self.convolution(inputs)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 2), "float32"))
    return model


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = self.compute_loss(x, y, predictions, weight)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"my_loss": loss, **self.compute_metrics(x, y, predictions, weight)}


def own_step():
    model = sequential()
    return OwnStep(model.inputs[0], model.outputs[0])


def sgd(**options):
    return keras.optimizers.SGD(0.1, **options)


def everything():
    return keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.5, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    )


CASES = {
    "functional": (functional, sgd, {}),
    "functional, momentum, decay, clipping, EMA": (functional, everything, {}),
    "constraint": (lambda: functional(keras.constraints.UnitNorm([0, 1, 2])), sgd, {}),
    "sequential": (sequential, lambda: sgd(momentum=0.9), {}),
    "regression": (regression, sgd, {"loss": "mse"}),
    "unbuilt": (unbuilt, sgd, {}),
    "subclassed": (subclassed, sgd, {}),
    "nested": (nested, sgd, {}),
    "shared": (shared, sgd, {}),
    "frozen": (frozen, sgd, {}),
    "own train_step": (own_step, sgd, {}),
    "jit_compile": (functional, sgd, {"jit_compile": True}),
    "steps_per_execution": (functional, sgd, {"steps_per_execution": 3}),
    "eager": (functional, sgd, {"run_eagerly": True}),
    "mixed_float16": (functional, sgd, {"policy": "mixed_float16"}),
    "mixed_bfloat16": (functional, sgd, {"policy": "mixed_bfloat16"}),
    "gradient accumulation": (functional, lambda: sgd(gradient_accumulation_steps=2), {}),
    "loss scale": (functional, lambda: sgd(loss_scale_factor=64.0), {}),
    "class weight": (sequential, sgd, {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}),
    "sample weight": (sequential, sgd, {"sample_weight": True}),
    "tf.data, length unknown": (sequential, sgd, {"dataset": True}),
    "MirroredStrategy": (nested, sgd, {"mirrored": True}),
    "MirroredStrategy, batch normalization": (functional, sgd, {"mirrored": True}),
}


@functools.cache
def mirrored():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train(case, data, monitors, **replace):
    """Fit one case; return the model, its history, and the witness."""
    build, optimizer, options = CASES[case]
    options = {**options, **replace}
    images, labels, weights = data
    keras.utils.set_random_seed(3)
    strategy = mirrored() if options.pop("mirrored", False) else None
    keras.config.set_dtype_policy(options.pop("policy", "float32"))
    try:
        with strategy.scope() if strategy else tf.name_scope(""):
            model = build()
            model.compile(
                optimizer(),
                options.pop("loss", "sparse_categorical_crossentropy"),
                metrics=["accuracy"],
                **{
                    k: options.pop(k)
                    for k in list(options)
                    if k in ("jit_compile", "steps_per_execution", "run_eagerly")
                },
            )
    finally:
        keras.config.set_dtype_policy("float32")
    if options.pop("dataset", False):
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).filter(lambda x, y: True).batch(BATCH)
        options.update(x=dataset.repeat(), steps_per_epoch=STEPS)
    else:
        options.update(x=images, y=labels, batch_size=BATCH)
    if options.pop("sample_weight", False):
        options["sample_weight"] = weights
    witness = Witness()
    history = model.fit(
        epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[*monitors, witness], **options
    ).history
    return model, history, witness


def eager_truth(case, data):
    """A function of weights and a batch: its loss and gradient norms, eagerly in float32."""
    build, _, options = CASES[case]
    model = build()
    if not model.built:
        model(data[0][:BATCH])
    model.compile("sgd", options.get("loss", "sparse_categorical_crossentropy"))

    def truth(weights, batch):
        images, labels, sample_weights = (part[batch * BATCH : (batch + 1) * BATCH] for part in data)
        model.set_weights(weights)
        if "class_weight" in options:
            sample_weights = np.array([options["class_weight"][label] for label in labels], "float32")
        elif "sample_weight" not in options:
            sample_weights = None
        with tf.GradientTape() as tape:
            loss = model.compute_loss(images, labels, model(images, training=True), sample_weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        return float(loss), [np.linalg.norm(g.numpy().ravel()) for g in gradients]

    return truth


@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical_and_the_numbers_are_those_of_an_eager_calculation(case, data):
    plain_model, plain, plain_witness = train(case, data, [])
    monitor = Watching(every_steps=2, strict=True)
    model, history, witness = train(case, data, [monitor])

    for name, values in plain.items():
        assert history[name] == values, name
    assert all(
        np.array_equal(a, b) for a, b in zip(plain_model.get_weights(), model.get_weights(), strict=True)
    )
    optimizers = zip(plain_model.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in optimizers)

    if "steps_per_execution" in case:  # the probe sees the last step of each execution
        _, _, witness = train(case, data, [], steps_per_execution=1)
        assert [probe.step for probe in monitor.probes] == [2, 5, 8, 11]
    elif "accumulation" in case:  # only every second step writes weights
        assert [probe.step for probe in monitor.probes] == [1, 3, 5, 7, 9, 11]
    elif case == "unbuilt":
        assert [probe.step for probe in monitor.probes] == [2, 4, 6, 8, 10]
    else:
        assert [probe.step for probe in monitor.probes] == [0, 2, 4, 6, 8, 10]
    trainable = [i for i, v in enumerate(model.weights) if any(v is t for t in model.trainable_variables)]
    half, truth = "mixed" in case, eager_truth(case, data)
    for probe in monitor.probes:
        before, after = ([witness.weights[probe.step + k][i] for i in trainable] for k in (0, 1))
        moved = [np.linalg.norm((b.astype("f8") - a).ravel()) for a, b in zip(before, after, strict=True)]
        sizes = [np.linalg.norm(a.astype("f8").ravel()) for a in before]
        np.testing.assert_allclose(probe.values["weight_norm"], sizes, rtol=1e-5)
        if case == "mixed_float16" and not np.any(moved):
            moved = np.full_like(moved, np.nan)  # the loss scale was too large: this step was skipped
        np.testing.assert_allclose(probe.values["update_norm"], moved, rtol=1e-3, atol=1e-7)
        if case.endswith("batch normalization"):  # each replica normalizes its half of the batch
            np.testing.assert_allclose(
                probe.values["gradient_norm"], np.array(moved) / 0.1, rtol=1e-3, atol=1e-6
            )
            continue
        if np.isnan(moved).any():
            continue
        loss, gradients = truth(witness.weights[probe.step], probe.step % STEPS)
        np.testing.assert_allclose(probe.values["loss"], loss, rtol=2e-2 if half else 1e-4)
        np.testing.assert_allclose(
            probe.values["gradient_norm"], gradients, rtol=0.05 if half else 1e-3, atol=1e-6
        )


def test_an_empty_monitor_list_and_a_monitored_fit_leave_the_same_model_behind(data, tmp_path):
    model, _, _ = train("functional", data, [callbacks.UpdateRatioMonitor(every_steps=2, high=1.0)])
    plain, _, _ = train("functional", data, [])
    for layer in model.layers:
        assert not {"call", "train_step", "compute_loss"} & set(vars(layer))
    assert not {"train_step", "compute_loss"} & set(vars(model)) and "apply" not in vars(model.optimizer)
    model.save(tmp_path / "a.keras")
    images = data[0]
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "a.keras").predict(images, verbose=0),
        plain.predict(images, verbose=0),
    )
