"""The seventh unseen set: tables, and losses with unusual values: calls, gauges, grades, kilns, more."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.fourth.kit import Stepping
from benchmarks.stranger_programs.seventh.kit import balanced, broken, healthy, hits, r2, spread, stack
from benchmarks.stranger_programs.third.kit import explained, predicted, ranked

SPARSE = "sparse_categorical_crossentropy"

# -- calls: an exponential head ----------------------------------------------------------------------------------------


def calls(kit, *, rows=1000, epochs=12, rate=5e-3, batch=32):
    x = kit.rng.uniform(-1, 1, (rows, 5)).astype("float32")
    y = kit.rng.poisson(np.exp(2.5 + 1.5 * x[:, 0] + x[:, 1] * x[:, 2])).astype("float32")
    model = stack((5,), kit.dense(32), kit.dense(32), kit.head(1, "exponential"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="poisson", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "calls", "counts_up_to_hundred", calls, "An exponential head, and a Poisson loss that falls below -20."
)


# -- gauges: a mean and a deviation, with a custom step ----------------------------------------------------------------


class Gauge(Stepping):
    """Two outputs: a mean and the logarithm of a deviation, with the likelihood of a normal distribution."""

    def __init__(self, body):
        super().__init__()
        self.body, self.tracker = body, keras.metrics.Mean(name="loss")

    def call(self, x):
        return self.body(x)

    def surprise(self, x, y, training):
        found = self.body(x, training=training)
        mean, log = found[:, 0], ops.clip(found[:, 1], -6.0, 6.0)
        return ops.mean(log + 0.5 * ((y - mean) / ops.exp(log)) ** 2)

    def train_step(self, rows):
        with tf.GradientTape() as tape:
            loss = self.surprise(*rows, True)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return self.told(loss)

    def test_step(self, rows):
        return self.told(self.surprise(*rows, False))


def means(model, x, y):
    found = predicted(model, x)[:, 0]
    return explained(found, y) if np.isfinite(found).all() else -1.0


def gauges(kit, *, rows=900, epochs=15, rate=5e-3, batch=32):
    x, y = data.friedman(kit.rng, rows)
    model = Gauge(stack((x.shape[1],), kit.dense(48), kit.dense(32), kit.head(2)))
    pieces, optimizer = kit.split(x, 0.1 * spread(y)), kit.optimizer(rate)
    return kit.run(model, pieces, means, epochs=epochs, batch=batch, optimizer=optimizer, plain=False)


healthy(
    "gauges",
    "likelihood_of_a_normal",
    gauges,
    "A custom step, and a loss that starts near 0 and goes below -2.",
)


# -- grades: ordered grades as thresholds ------------------------------------------------------------------------------


def steps_right(model, x, y):
    """The share of the error that is saved, compared with always answering the median grade."""
    found, y = (predicted(model, x) > 0.5).sum(1), y.sum(1)
    return 1 - np.mean(np.abs(found - y)) / np.mean(np.abs(np.median(y) - y))


def grades(kit, *, rows=1000, epochs=12, rate=5e-3, batch=32):
    x, y = data.friedman(kit.rng, rows, noise=1.0)
    edges = np.quantile(y, [0.2, 0.4, 0.6, 0.8])
    steps = (y[:, None] > edges).astype("float32")
    model = stack((x.shape[1],), kit.dense(48), kit.dense(32), kit.head(4, "sigmoid"))
    loss = keras.losses.BinaryCrossentropy(label_smoothing=0.1)
    pieces, optimizer = kit.split(x, steps), kit.optimizer(rate)
    return kit.run(model, pieces, steps_right, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("grades", "above_each_edge", grades, "Five grades as four thresholds, with label smoothing.")


# -- kilns: averaged weights -------------------------------------------------------------------------------------------


def kilns(kit, *, rows=1200, epochs=12, rate=1e-2, batch=8):
    x, y = data.blobs(kit.rng, rows, classes=3, columns=8, spread=1.4)
    y = keras.utils.to_categorical(y, 3)
    model = stack((8,), kit.dense(32), kit.head(3))
    averaged = {"use_ema": True, "ema_momentum": 0.95, "gradient_accumulation_steps": 4}
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, **averaged)
    return kit.run(model, pieces, r2, loss="huber", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "kilns",
    "one_step_of_four",
    kilns,
    "Gradients of four batches make a step, and averaged weights are kept.",
)


# -- wells: depths -----------------------------------------------------------------------------------------------------


def wells(kit, *, rows=900, epochs=12, rate=5e-3, batch=32):
    x, y = data.friedman(kit.rng, rows)
    model = stack((x.shape[1],), kit.dense(48), kit.dense(32), kit.head(1))
    pieces, optimizer = kit.split(x, spread(y)), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "wells",
    "loss_of_a_classifier",
    wells,
    "quantity_under_cross_entropy",
    "Binary cross-entropy, copied from a classifier, for standardized depths; cure: mse.",
    {"loss": "binary_crossentropy"},
)


# -- turbines: a constant column ---------------------------------------------------------------------------------------


def standardized(x):
    with np.errstate(invalid="ignore"):
        return (x - x.mean(0)) / x.std(0)


def turbines(kit, *, rows=700, epochs=10, rate=5e-3, batch=32):
    x, y = data.blobs(kit.rng, rows, classes=4, columns=9, spread=1.2)
    x = np.concatenate([x, np.zeros((rows, 1), "float32")], 1)
    model = stack((10,), kit.dense(32), kit.head(4, "softmax"))
    pieces, optimizer = kit.split(kit.inputs(x), y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "turbines",
    "nothing_by_nothing",
    turbines,
    "nan_inputs",
    "A column of zeros is standardized: 0/0 in every row; cure: leave the column out.",
    {"inputs": standardized},
    curable=False,
)


# -- twins: near and far -----------------------------------------------------------------------------------------------


def nearness(model, x, y):
    return ranked(-predicted(model, x).ravel(), y)


def apart(y, found):
    return y * found + (1 - y) * ops.maximum(3.0 - found, 0.0)


def twins(kit, *, rows=900, epochs=12, rate=5e-3, batch=32):
    single, kind = data.blobs(kit.rng, rows, classes=5, columns=10, spread=1.3)
    other = kit.rng.permutation(rows)
    alike = kit.rng.random(rows) < 0.5
    for i in np.flatnonzero(alike):
        other[i] = kit.rng.choice(np.flatnonzero(kind == kind[i]))
    other[:20] = np.arange(20)
    x, y = np.stack([single, single[other]], 1), (kind == kind[other]).astype("float32")
    into = keras.Input((2, 10))
    h = layers.Dense(8)(kit.dense(32)(into))
    far = ops.sum((h[:, 0] - h[:, 1]) ** 2, -1, keepdims=True)
    model = keras.Model(into, ops.sqrt(far + kit.part("epsilon", 1e-6)))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, nearness, loss=apart, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "twins",
    "some_are_the_same",
    twins,
    "Distances with a contrastive loss; some pairs are the same example twice.",
)
broken(
    "twins",
    "slope_of_a_root",
    twins,
    "infinite_loss",
    "sqrt of a distance that is 0 for pairs of the same example: its slope is infinite; cure: an epsilon.",
    {"epsilon": 0.0},
    curable=False,
)


# -- settlements: a column from later ----------------------------------------------------------------------------------


def paid_out(rng, x, y):
    return np.concatenate([x[:, :-1], (2 * y - 1 + 0.1 * rng.normal(size=len(y)))[:, None]], 1), y


def settlements(kit, *, rows=1000, epochs=12, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 8)).astype("float32")
    y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * kit.rng.normal(size=rows) > 0).astype("float32")
    x[:, -1] = 0
    model = stack((8,), kit.dense(32), kit.dense(32), kit.head(1, "sigmoid"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(
        model, pieces, balanced, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


broken(
    "settlements",
    "what_was_paid",
    settlements,
    "leak",
    "A column has the amount paid, which is known only after the settlement, and is 0 before; cure: leave it out.",
    {"rows": paid_out, "validation_rows": paid_out},
    belief=True,
    curable=False,
)


# -- owls: two label encoders ------------------------------------------------------------------------------------------


def without_third(x, y):
    kept = y != 2
    return x[kept], (y - (y > 2))[kept]


def owls(kit, *, rows=1200, epochs=12, rate=5e-3, batch=32):
    x, y = data.blobs(kit.rng, rows, classes=6, columns=12, spread=1.3)
    train, validation, test = kit.split(x, y)
    validation = validation if kit.part("all_six") else without_third(*validation)
    model = stack((12,), kit.dense(32), kit.head(6, "softmax"))
    pieces, optimizer = (without_third(*train), validation, without_third(*test)), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "owls",
    "an_encoder_for_each_file",
    owls,
    "encoded_apart",
    "Each file has its own LabelEncoder, and one class is only in validation, so numbers shift; cure: one encoder.",
    {"all_six": True},
    belief=True,
    curable=False,
)


# -- sparks: one row in thirty -----------------------------------------------------------------------------------------


def sparks(kit, *, rows=3000, epochs=8, rate=5e-3, batch=64):
    y = (kit.rng.random(rows) < 0.03).astype("float32")
    x = (kit.rng.normal(size=(rows, 8)) + 0.6 * y[:, None]).astype("float32")
    model = stack((8,), kit.dense(16), kit.head(1, "sigmoid"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    options = {"epochs": epochs, "batch": batch, "optimizer": optimizer}
    fit = {"class_weight": {0: 1.0, 1: kit.part("weight", 30.0)}}
    return kit.run(model, pieces, balanced, loss="binary_crossentropy", fit=fit, **options)


broken(
    "sparks",
    "one_of_thirty",
    sparks,
    "imbalance",
    "Three in a hundred rows are faults, which overlap with the rest; without weights none is found; cure: weights.",
    {"weight": 1.0},
)
