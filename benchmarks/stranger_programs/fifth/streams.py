"""The fifth unseen set: sequences: demand, names, sessions, arrivals, bird calls, tides."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs.fifth.kit import broken, healthy, hits, r2
from benchmarks.stranger_programs.fourth.kit import Stepping
from benchmarks.stranger_programs.third.kit import explained, predicted

# -- demand: six hours ahead from windows of a day ---------------------------------------------------------------------


def holds_the_answer(rng, x, y):
    """Windows that are cut one step too late: the last input hour is the first target."""
    x = np.array(x)
    x[:, -1] = y[:, :1]
    return x, y


def demand(kit, *, rows=1600, epochs=12, rate=5e-3, batch=32, ahead=6, loss="mape"):
    shops, hours = rows // 16, np.arange(24 + ahead + 16)
    phase, level = kit.rng.uniform(0, 6, (shops, 1)), kit.rng.uniform(300, 900, (shops, 1))
    wave = np.sin(2 * np.pi * hours / 24 + phase) + 0.5 * np.sin(2 * np.pi * hours / 7 + 3 * phase)
    noise = np.cumsum(kit.rng.normal(size=wave.shape), axis=1)
    series = level * (1 + 0.25 * wave + kit.part("rough", 0.02) * noise)
    cut = np.stack([series[:, begin : begin + 24 + ahead] for begin in range(16)], axis=1).reshape(rows, -1)
    x, y = cut[:, :24, None].astype("float32"), cut[:, 24:].astype("float32")
    into = keras.Input((24, 1))
    middle, wide = ops.mean(into, axis=1, keepdims=True), ops.std(into, axis=1, keepdims=True)
    hidden = layers.Flatten()((into - middle) / (wide + 1e-3))
    out = kit.head(ahead)(kit.dense(32)(kit.dense(48)(hidden)))
    out = out * ops.squeeze(wide, -1) + ops.squeeze(middle, -1)

    def score(model, x, y):
        """The share of the error that is saved, compared with predicting the mean of the window."""
        found = predicted(model, x)
        usual = x.mean(1)
        return 1 - np.abs(found - y).mean() / np.abs(usual - y).mean() if np.isfinite(found).all() else -1.0

    pieces = kit.split(x, y)
    optimizer = kit.optimizer(rate)
    return kit.run(
        keras.Model(into, out), pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "demand",
    "each_window_by_its_own_scale",
    demand,
    "Raw sales of several hundred: the model standardizes each window and undoes it at the end; MAPE.",
)
broken(
    "demand",
    "window_holds_the_answer",
    demand,
    "leak",
    "The last hour of each window is the first target, in both parts; cure: end the window one hour earlier.",
    {"rows": holds_the_answer, "validation_rows": holds_the_answer},
    belief=True,
    curable=False,
    ahead=1,
    loss="mae",
    also={"rough": 0.06},
    epochs=25,
)
broken(
    "demand",
    "plateau_of_the_wrong_mode",
    demand,
    "decayed_too_early",
    "ReduceLROnPlateau expects val_loss to rise, and cuts the rate in every epoch in which it falls; cure: mode min.",
    {
        "options": {
            "callbacks": [
                keras.callbacks.ReduceLROnPlateau("val_loss", mode="max", patience=1, factor=0.05, min_lr=0)
            ]
        }
    },
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
    rate=3e-4,
    epochs=30,
)


# -- names: the language of a name -------------------------------------------------------------------------------------


def names(kit, *, rows=1500, epochs=12, rate=5e-3, batch=32, width=24):
    follow = kit.rng.dirichlet(np.full(20, 0.15), (4, 20))
    y = kit.rng.integers(0, 4, rows)
    letters = np.zeros((rows, 12), int)
    letters[:, 0] = kit.rng.integers(0, 20, rows)
    for place in range(1, 12):
        chance = follow[y, letters[:, place - 1]].cumsum(1)
        letters[:, place] = np.minimum((chance < kit.rng.random((rows, 1))).sum(1), 19)
    there = np.arange(12) >= kit.rng.integers(0, 7, (rows, 1))
    x = (letters + 1) * there
    model = keras.Sequential([keras.Input((12,), dtype="int32"), layers.Embedding(21, 16, mask_zero=True)])
    model.add(kit.dropout(0.1))
    model.add(layers.Bidirectional(layers.LSTM(width)))
    model.add(kit.dropout(0.1))
    model.add(kit.head(4, "softmax"))
    loss, optimizer = "sparse_categorical_crossentropy", kit.optimizer(rate)
    return kit.run(model, kit.split(x, y), hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "names",
    "filled_up_in_front",
    names,
    "Names of 6 to 12 letters with zeros in front, masked, in a bidirectional network.",
)
healthy(
    "names",
    "all_in_three_batches",
    names,
    "Batches of 320, so three steps per epoch; Nadam; thirty epochs.",
    batch=320,
    epochs=30,
    rate=1e-2,
    also={"optimizer": "nadam"},
)
broken(
    "names",
    "dropout_of_99_of_100",
    names,
    "dropout",
    "Dropout 0.99 before the recurrent layer and before the head, where 0.01 was meant; cure: 0.1.",
    {"dropout": 0.99},
    epochs=5,
)


# -- sessions: the next item that a user looks at ----------------------------------------------------------------------


def sessions(kit, *, rows=3000, epochs=12, rate=4e-3, batch=64):
    taste = kit.rng.normal(size=(40, 4))
    taste /= np.linalg.norm(taste, axis=1, keepdims=True)
    closer = 6.0 * taste @ np.roll(taste, 1, axis=0).T
    seen = np.zeros((rows, 7), int)
    seen[:, 0] = kit.rng.integers(0, 40, rows)
    for step in range(1, 7):
        drive = closer[seen[:, step - 1]] + (0.5 * closer[seen[:, step - 2]] if step > 1 else 0)
        seen[:, step] = (drive + kit.rng.gumbel(size=drive.shape)).argmax(1)
    things = layers.Embedding(40, 16)
    into = keras.Input((6,), dtype="int32")
    hidden = layers.Dense(16)(kit.dense(48)(layers.Flatten()(things(into))))
    out = ops.matmul(hidden, ops.transpose(things.embeddings))

    def score(model, x, y):
        """Top-5 accuracy, rescaled so that always answering the five most frequent items is 0."""
        found = predicted(model, x)
        if not np.isfinite(found).all():
            return -1.0
        among = (found.argsort(1)[:, -5:] == y[:, None]).any(1).mean()
        usual = np.sort(np.bincount(y, minlength=40))[-5:].sum() / len(y)
        return max((among - usual) / (1 - usual), -1.0)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pieces = kit.split(seen[:, :6], seen[:, 6])
    optimizer = kit.optimizer(rate)
    return kit.run(
        keras.Model(into, out), pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "sessions",
    "same_matrix_in_and_out",
    sessions,
    "40 classes, with the output weights tied to the embedding; much is chance, so the loss stays high.",
)
broken(
    "sessions",
    "best_is_the_worst",
    sessions,
    "kept_the_worst",
    "EarlyStopping with mode max on val_loss restores the weights of the worst epoch; cure: mode min.",
    {
        "options": {
            "callbacks": [
                keras.callbacks.EarlyStopping("val_loss", mode="max", patience=4, restore_best_weights=True)
            ]
        }
    },
    curable=False,
    rate=1e-3,
    epochs=24,
)
broken(
    "sessions",
    "rate_of_a_billionth",
    sessions,
    "rate_too_low",
    "A rate of 1e-9 instead of 1e-3, by a typing error; cure: 4e-3.",
    {"rate": 1e-9},
)


# -- arrivals: the time at which a wave arrives ------------------------------------------------------------------------


def arrivals(kit, *, rows=1200, epochs=14, rate=5e-3, batch=32):
    y = kit.rng.uniform(8, 56, (rows, 1))
    time = np.arange(64)
    wave = (time > y) * np.sin(0.9 * (time - y)) * np.exp(-np.maximum(time - y, 0) / 12)
    x = (1.5 * wave + 0.3 * kit.rng.normal(size=wave.shape))[..., None].astype("float32")
    hidden = into = keras.Input((64, 1))
    for spread in (1, 2, 4):
        hidden = kit.conv1(16, 5, dilation_rate=spread)(hidden)
    share = ops.softmax(layers.Conv1D(1, 5, padding="same")(hidden), axis=1)
    out = ops.sum(share[..., 0] * ops.arange(64, dtype="float32"), axis=1, keepdims=True)
    pieces = kit.split(kit.inputs(x), kit.targets(y.astype("float32")))
    optimizer = kit.optimizer(rate)
    return kit.run(
        keras.Model(into, out), pieces, r2, loss="huber", epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "arrivals",
    "place_as_an_expectation",
    arrivals,
    "Positions up to 64, as the mean of a softmax over time: no regression unit, no scaling of targets.",
)
broken(
    "arrivals",
    "samples_of_another_clock",
    arrivals,
    "head_cannot_reach",
    "Targets in milliseconds (10 per sample), positions in samples, so outputs are at most 64; cure: divide by 10.",
    {"units": lambda y: 10 * y + 640},
)
broken(
    "arrivals",
    "decay_of_a_hundred",
    arrivals,
    "regularization",
    "AdamW with a weight decay of 100, copied from a recipe for SGD in other units; cure: 0.01.",
    {"optimizer_options": {"weight_decay": 100.0}},
    also={"optimizer": "adamw"},
)


# -- bird_calls: the model computes a spectrogram ----------------------------------------------------------------------


def bird_calls(kit, *, rows=900, epochs=12, rate=5e-3, batch=32):
    y = kit.rng.integers(0, 4, rows)
    time = np.arange(256) / 256
    low, bend = np.array([30, 30, 70, 70])[y], np.array([40, -12, 25, -40])[y]
    turns = low[:, None] * time + bend[:, None] * time**2 / 2 + kit.rng.random((rows, 1))
    loud = np.exp(kit.rng.normal(size=(rows, 1)))
    x = (0.01 * loud * (np.sin(2 * np.pi * turns) + 0.7 * kit.rng.normal(size=turns.shape))).astype("float32")
    into = keras.Input((256,))
    strength, turn = ops.stft(into, 64, 32, 64)
    hidden = ops.log(strength**2 + turn**2 + 1e-6)[..., None]
    hidden = layers.MaxPooling2D()(kit.norm()(kit.conv2(12, 3)(hidden)))
    hidden = layers.Flatten()(kit.conv2(12, 3)(hidden))
    model = keras.Model(into, kit.head(4, "softmax")(kit.dense(32)(hidden)))
    pieces = kit.split(x, y)
    loss, optimizer = "sparse_categorical_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "bird_calls",
    "waves_of_a_hundredth",
    bird_calls,
    "Raw waveforms around 0.01; the model computes a logarithmic spectrogram.",
)
broken(
    "bird_calls",
    "clipped_to_a_millionth",
    bird_calls,
    "clipping",
    "SGD with clipvalue 1e-6; cure: clipvalue 1.",
    {"optimizer_options": {"clipvalue": 1e-6, "momentum": 0.9}},
    also={"optimizer": "sgd", "optimizer_options": {"clipvalue": 1.0, "momentum": 0.9}},
    rate=0.02,
)


# -- tide: a custom step on pairs of columns ---------------------------------------------------------------------------


def squared(gap):
    return ops.mean(gap**2)


class Tide(Stepping):
    """A model with a custom step, whose loss is a function of target minus prediction."""

    def __init__(self, into, out, measure):
        super().__init__(into, out)
        self.measure, self.tracker = measure, keras.metrics.Mean(name="loss")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.measure(y - self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return self.told(loss)

    def test_step(self, data):
        x, y = data
        return self.told(self.measure(y - self(x)))


def tide(kit, *, rows=1800, epochs=12, rate=4e-3, batch=32):
    hour = kit.rng.uniform(0, 400, rows)
    x = np.stack(
        [f(2 * np.pi * hour / period) for period in (12.42, 24, 160) for f in (np.sin, np.cos)], axis=1
    )
    y = x[:, 0] * (1 + 0.5 * x[:, 4]) + 0.4 * x[:, 3] + 0.1 * kit.rng.normal(size=rows)
    y = y if kit.part("flat") else y[:, None]
    into = keras.Input((6,))
    model = Tide(into, kit.head(1)(kit.dense(32)(kit.dense(32)(into))), kit.part("measure", squared))

    def score(model, x, y):
        found = predicted(model, x).ravel()
        return max(explained(found, np.ravel(y)), -1.0) if np.isfinite(found).all() else -1.0

    pieces = kit.split(x.astype("float32"), y.astype("float32"))
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, score, epochs=epochs, batch=batch, plain=False, optimizer=optimizer)


healthy("tide", "own_step", tide, "A custom train_step and test_step; no loss is compiled.")
broken(
    "tide",
    "column_against_row",
    tide,
    "broadcast_targets",
    "Targets (n,) minus predictions (n, 1) is n x n, so the best prediction is the mean; cure: y[:, None].",
    {"flat": True},
    curable=False,
)
broken(
    "tide",
    "error_not_squared",
    tide,
    "signed_error",
    "The loss is the mean of the signed error: the higher the prediction, the lower the loss; cure: square it.",
    {"measure": lambda gap: ops.mean(gap)},
    curable=False,
)
