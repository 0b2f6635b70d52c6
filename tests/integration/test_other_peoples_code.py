"""Callbacks and augmentations in Keras code that knows nothing of them."""

import csv
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import augment, explain, plot, schedules
from recipes.callbacks import (
    ActivationMonitor,
    DeadReluDetector,
    EarlyStopping,
    ExponentialMovingAverage,
    GradientMonitor,
    LearningRate,
    NonFiniteGuard,
    SnapshotEnsemble,
    StochasticWeightAveraging,
    TrainingDoctor,
    UpdateRatioMonitor,
    WarmupDecay,
)


@pytest.fixture(scope="module")
def photos():
    """48 images of 32 x 32 in color, light ones and dark ones: `(images, labels)`."""
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = generator.integers(0, 120, (48, 32, 32, 3)) + 120 * labels[:, None, None, None]
    return images.astype("uint8"), labels


def monitors(every_steps=2):
    return [
        UpdateRatioMonitor(every_steps=every_steps),
        GradientMonitor(every_steps=every_steps),
        ActivationMonitor(every_steps=every_steps),
        DeadReluDetector(every_steps=every_steps),
    ]


def test_fine_tuning_of_keras_applications(photos):
    images, labels = photos
    train = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    train = train.apply(
        augment.Pipeline([augment.Flip(), augment.ColorJitter(0.2)], seed=1, jit_compile=False)
    )
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    backbone.trainable = False
    for layer in backbone.layers[-9:]:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    inputs = keras.Input((32, 32, 3))
    features = backbone(keras.applications.mobilenet_v2.preprocess_input(inputs), training=False)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(features))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    frozen = backbone.layers[1].get_weights()[0]
    watch = [GradientMonitor(every_steps=1), WarmupDecay(warmup=1)]
    history = model.fit(train, validation_data=(images, labels), epochs=2, verbose=0, callbacks=watch).history
    np.testing.assert_array_equal(backbone.layers[1].get_weights()[0], frozen)
    assert np.isfinite(history["monitor/gradient_norm"]).all() and len(watch[0].record) == 6
    maps = explain.grad_cam(model, images[:2], verbose=0)
    assert maps.shape == (2, 32, 32)


class Backbone(keras.Model):
    """As KerasHub has them: a functional graph made inside a subclass."""

    def __init__(self, filters, **kwargs):
        image = keras.Input((None, None, 3), name="images")
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu", name="stem")(image)
        x = keras.layers.Conv2D(filters, 3, activation="relu", name="block")(x)
        super().__init__(image, x, **kwargs)
        self.filters = filters


class Task(keras.Model):
    """As KerasHub has them: preprocessor, backbone and head, joined in a call of its own."""

    def __init__(self, backbone, classes, **kwargs):
        super().__init__(**kwargs)
        self.preprocessor = keras.layers.Rescaling(1 / 127.5, offset=-1)
        self.backbone = backbone
        self.pooler = keras.layers.GlobalAveragePooling2D()
        self.head = keras.layers.Dense(classes, name="logits")

    def call(self, inputs, training=False):
        images = inputs["images"] if isinstance(inputs, dict) else inputs
        return self.head(self.pooler(self.backbone(self.preprocessor(images), training=training)))


def task():
    model = Task(Backbone(4), 2)
    model.compile(
        keras.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def test_a_subclassed_task_of_backbone_and_preprocessor_trains_the_same_with_monitors(photos):
    images, labels = photos
    results = []
    for callbacks in ([], [*monitors(), NonFiniteGuard()]):
        keras.utils.set_random_seed(3)
        model = task()
        model(images[:1])
        model.fit(images, labels, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=callbacks)
        results.append(model.get_weights())
    for plain, watched in zip(*results, strict=True):
        np.testing.assert_array_equal(watched, plain)
    record = callbacks[0].record
    assert {"stem", "block"} <= {str(name).split("/")[-1] for name in record.axes["activations"]["layer"]}
    assert explain.grad_cam(model, images[:2], verbose=0).shape == (2, 32, 32)


class TwoViews(keras.Model):
    """A reader's own train step: two noisy views, their loss and how far they disagree."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
        self.top = keras.layers.Dense(2, name="top")
        self.shown = keras.metrics.Mean(name="disagreement")

    def call(self, inputs):
        return self.top(self.hidden(keras.ops.reshape(keras.ops.cast(inputs, "float32"), (-1, 3072)) / 255))

    def train_step(self, data):
        images, labels = data
        with tf.GradientTape() as tape:
            first, second = self(images, training=True), self(images[:, ::-1], training=True)
            loss = keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(labels, first, from_logits=True)
            )
            apart = keras.ops.mean(keras.ops.square(first - second))
            loss = loss + 0.1 * apart
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.shown.update_state(apart)
        return {"loss": loss, "disagreement": self.shown.result()}


def test_a_custom_train_step_keeps_its_logs_and_its_training(photos):
    images, labels = photos
    results = []
    for callbacks in ([], [GradientMonitor(every_steps=1), UpdateRatioMonitor(every_steps=1)]):
        keras.utils.set_random_seed(5)
        model = TwoViews()
        model(images[:1])
        model.compile(keras.optimizers.SGD(1e-3))
        rate = LearningRate(schedules.Cosine(1e-3, 6))
        history = model.fit(
            images, labels, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=[*callbacks, rate]
        ).history
        results.append((model.get_weights(), history))
    (plain, logs), (watched, more) = results
    for expected, received in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(received, expected)
    assert set(logs) == {"loss", "disagreement", "learning_rate"}
    assert all(more[name] == values for name, values in logs.items())
    assert len(callbacks[0].record) == 6


def test_an_optuna_loop_of_the_readers_own(photos):
    import optuna

    images, labels = photos
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    doctors = []

    def objective(trial):
        keras.utils.set_random_seed(trial.number)
        model = keras.Sequential(
            [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
        )
        rate = trial.suggest_float("rate", 1e-7, 1e6, log=True)
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        doctors.append(TrainingDoctor("stop", every_steps=1, verbose=0))
        callbacks = [doctors[-1], WarmupDecay(warmup=1)]
        history = model.fit(
            images / 255, labels, epochs=2, batch_size=16, verbose=0, callbacks=callbacks
        ).history
        return history["loss"][-1] if np.isfinite(history["loss"][-1]) else float("inf")

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"rate": 1e-3})
    study.enqueue_trial({"rate": 1e6})
    study.optimize(objective, n_trials=2)
    assert study.best_trial.number == 0
    assert doctors[1].findings and not any(finding.severity == "error" for finding in doctors[0].findings)


def test_csv_and_tensorboard_columns_are_the_same_from_the_first_epoch_on(photos, tmp_path):
    images, labels = photos
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    # A probe every 9 steps, in epochs of 3: two of the four epochs have none.
    callbacks = [
        ExponentialMovingAverage(0.9),
        *monitors(every_steps=9),
        TrainingDoctor(every_steps=9, verbose=0),
        WarmupDecay(warmup=1),
        EarlyStopping(patience=5),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
    ]
    history = model.fit(
        images,
        labels,
        validation_data=(images, labels),
        epochs=4,
        batch_size=16,
        verbose=0,
        callbacks=callbacks,
    ).history
    assert all(len(values) == 4 for values in history.values())
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and all(None not in row and None not in row.values() for row in rows)
    assert set(rows[0]) - {"epoch"} == set(history) >= {"learning_rate", "val_loss", "monitor/gradient_norm"}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "board" / "train"), {"tensors": 0}).Reload()
    tags = set(board.Tags()["tensors"])
    assert {f"epoch_{name}" for name in history if not name.startswith("val_")} <= tags
    assert all(len(board.Tensors(f"epoch_{name}")) == 4 for name in ("loss", "learning_rate"))


AFTER = {
    "monitors": lambda images: [*monitors(1), NonFiniteGuard(), TrainingDoctor(every_steps=1, verbose=0)],
    "ema": lambda images: [ExponentialMovingAverage(0.9), WarmupDecay(warmup=1)],
    "swa": lambda images: [StochasticWeightAveraging(start=1, every_epochs=1, data=images)],
    "snapshots": lambda images: [SnapshotEnsemble(cycles=2)],
}


@pytest.mark.parametrize("what", AFTER)
def test_export_after_everything_gives_the_predictions_of_the_model(photos, tmp_path, what):
    images, labels = photos
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(3, 3, strides=4, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    callbacks = AFTER[what](images)
    model.fit(images.astype("float32"), labels, epochs=2, batch_size=16, verbose=0, callbacks=callbacks)
    if what == "snapshots":
        model = callbacks[0].ensemble()
    _export_and_compare(model, images, tmp_path)


def test_export_after_adversarial_training_and_explanations(photos, tmp_path):
    images, labels = photos
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile(keras.optimizers.SGD(1e-5), "sparse_categorical_crossentropy")
    with explain.adversarial_training(model, epsilon=4.0, value_range=(0, 255), steps=2):
        model.fit(images.astype("float32"), labels, epochs=1, batch_size=16, verbose=0)
    explain.saliency(model, images[:2], verbose=0)
    _export_and_compare(model, images, tmp_path)


def _export_and_compare(model, images, folder):
    inputs = images[:5].astype("float32")
    expected = model.predict(inputs, verbose=0)
    model.export(folder / "exported", verbose=False)
    reloaded = tf.saved_model.load(folder / "exported")
    np.testing.assert_allclose(reloaded.serve(inputs), expected, rtol=1e-5, atol=1e-6)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), expected, rtol=1e-5, atol=1e-6)


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
shell.display_formatter.active_types = ["text/plain", "image/png"]
shell.run_cell("import numpy as np; from recipes import plot")
bundle = {}
shell.displayhook.write_format_data = lambda data, metadata=None: bundle.update(data)
result = shell.run_cell("plot.curves({'loss': [2.0, 1.0], 'val_loss': [2.0, 1.5]})")
assert result.success, result.error_in_exec
assert bundle["image/png"], sorted(bundle)
import base64, sys
content = bundle["image/png"]
content = base64.b64decode(content) if isinstance(content, str) else content
assert content[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10]) and len(content) > 5000
assert "matplotlib.pyplot" not in sys.modules
print("shown")
"""


def test_a_cell_that_ends_in_a_figure_shows_it():
    """IPython itself runs the cell; neither %matplotlib nor pyplot is asked for."""
    pytest.importorskip("IPython")
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True)
    assert done.stdout.strip().endswith("shown"), done.stdout + done.stderr[-2000:]


def test_every_figure_is_of_the_kind_that_shows_itself():
    figure = plot.grid(np.zeros((2, 4, 4, 3), "uint8"))
    assert figure._repr_png_()[:4] == b"\x89PNG"
