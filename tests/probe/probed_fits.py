"""Fits with monitors that a test compares between backends; what they find goes into a folder.

Imported by the test for TensorFlow, and run by it on JAX: `KERAS_BACKEND=jax python probed_fits.py FOLDER`, where
FOLDER/start.npz holds the weights to begin with.
"""

import json
import sys
import warnings
from pathlib import Path

import keras
import numpy as np

from recipes import callbacks

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(64, 8, 8, 3)).astype("float32")
LABELS = RANDOM.integers(0, 3, 64)
RATE, BATCH = 0.05, 16


def network():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Conv2D(4, 3, name="plain"),
            layers.Activation("tanh", name="tanh"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(8, activation="relu", bias_initializer="ones", name="dense"),
            layers.Dense(3, activation="softmax", kernel_regularizer="l2", name="answers"),
        ],
        name="network",
    )


def fit(folder, monitors=(), images=IMAGES, dropout=0.0, **options):
    keras.utils.set_random_seed(0)
    model = network()
    if dropout:
        model = keras.Sequential([*model.layers[:-1], keras.layers.Dropout(dropout), model.layers[-1]])
    start = np.load(folder / "start.npz")
    model.set_weights([start[f"arr_{number}"] for number in range(len(start))])
    optimizer = keras.optimizers.SGD(
        RATE, momentum=0.9, gradient_accumulation_steps=options.pop("accumulation", None)
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    history = model.fit(
        images, LABELS, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=list(monitors)
    ).history
    return model, history


def watched(folder, name):
    """The same monitors as on the other backend; their record goes into a file."""
    monitors = [
        callbacks.UpdateRatioMonitor(every_steps=1, warn=False, strict=True),
        callbacks.GradientMonitor(every_steps=1, strict=True),
        callbacks.ActivationMonitor(every_steps=1, strict=True),
        callbacks.NonFiniteGuard(every_steps=1, strict=True),
    ]
    detector = callbacks.DeadReluDetector(every_steps=1, strict=True, data=IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(folder, [*monitors, detector])
    monitors[0].record.save(folder / f"{name}.npz")
    return detector.dead_units


def poisoned(folder, **options):
    """What the guard names when a number of the third batch is not finite, and the weights it leaves."""
    images = IMAGES.copy()
    images[2 * BATCH + 1, 0, 0, 0] = np.nan
    guard = callbacks.NonFiniteGuard(every_steps=1, strict=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = fit(folder, [guard], images)
    finite = all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in model.trainable_variables)
    finding = guard.finding
    return [finding.step, finding.what, finding.layer, guard.restores, finite]


def same(folder, **options):
    """Whether a fit with monitors has the weights and losses of one without, bit for bit."""
    ratios = callbacks.UpdateRatioMonitor(every_steps=2, warn=False, strict=True)
    watching = [ratios, callbacks.NonFiniteGuard(every_steps=1, strict=True)]
    results = [fit(folder, monitors, dropout=0.3, **options) for monitors in ([], watching)]
    weights = [[keras.ops.convert_to_numpy(v).tobytes() for v in model.variables] for model, _ in results]
    losses = [history["loss"] for _, history in results]
    return weights[0] == weights[1] and losses[0] == losses[1] and len(ratios.record) > 0


def main(folder):
    found = {
        "dead": watched(folder, "jax"),
        "poisoned": poisoned(folder),
        "restored": poisoned(folder, restore=True, copy_every=1, most_restores=1),
        "same": {
            "jit": same(folder, jit_compile=True),
            "no jit": same(folder, jit_compile=False),
            "three steps an execution, every other writes": same(
                folder, steps_per_execution=3, accumulation=2
            ),
        },
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
