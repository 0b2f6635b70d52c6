"""The third unseen set: waveforms, load curves, tagged series, strips of signs to read, video."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs.third.kit import (
    above_chance,
    broken,
    classes,
    explained,
    healthy,
    in_order,
    mixed_up,
    predicted,
    with_nan,
)

# -- audio_chirps: raw waveforms, five kinds of chirps -----------------------------------------------------------------


def chirps(
    kit, *, rows=1200, length=256, epochs=6, rate=2e-3, batch=32, loss="sparse_categorical_crossentropy"
):
    y = kit.rng.integers(0, 5, rows)
    time = np.linspace(0, 1, length)
    start, end = np.array([[8, 8], [8, 24], [24, 8], [24, 24], [40, 12]]).T
    start, end = (f[y][:, None] * kit.rng.uniform(0.9, 1.1, (rows, 1)) for f in (start, end))
    x = np.sin(2 * np.pi * (start * time + (end - start) * time**2 / 2) + kit.rng.uniform(0, 6, (rows, 1)))
    x = kit.inputs((x + 0.3 * kit.rng.normal(size=x.shape))[..., None].astype("float32"))
    model = keras.Sequential(
        [
            keras.Input((length, 1)),
            kit.conv1(12, 16, strides=4),
            kit.conv1(24, 8, strides=4),
            layers.GlobalAveragePooling1D(),
            kit.norm(),
            kit.dense(24),
        ]
    )
    model.add(kit.head(5, "softmax"))
    pieces = kit.split(x, kit.targets(y))
    return kit.run(
        model,
        pieces,
        classes,
        loss=loss,
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "audio_chirps",
    "large_batches",
    chirps,
    "Batches of 256 from 660 rows: three steps per epoch, for 30 epochs.",
    batch=256,
    epochs=30,
    rate=6e-3,
)
healthy(
    "audio_chirps",
    "leaky_everywhere",
    chirps,
    "Leaky ReLU, waveforms three times as loud as usual, Nadam.",
    also={"activation": "leaky_relu", "inputs": lambda x: 3 * x, "optimizer": "nadam"},
)
broken(
    "audio_chirps",
    "reshaped_for_transposed",
    chirps,
    "wrong_axis",
    "The array (time, rows) was reshaped to (rows, time), so every row mixes all waveforms; cure: transpose.",
    {"inputs": lambda x: np.swapaxes(x, 0, 1).reshape(x.shape)},
    curable=False,
)
broken(
    "audio_chirps",
    "batch_of_one",
    chirps,
    "batch_norm",
    "Batch norm after pooling, with batches of one row, returns only its beta; cure: batches of 32.",
    {"batch": 1},
    epochs=2,
    rows=900,
)
broken(
    "audio_chirps",
    "categories_counted_as_amounts",
    chirps,
    "wrong_loss",
    "Mean squared error between five probabilities and one integer label; cure: sparse_categorical_crossentropy.",
    {"loss": "mse", "targets": lambda y: y[:, None]},
)


# -- load_curve: attention over two weeks of electrical load, predict the next day -------------------------------------


def load_curve(kit, *, epochs=8, days=900, rate=3e-3, scale=1.0, loss="mse", blocks=1):
    time = np.arange(days * 8)
    level = np.cumsum(kit.rng.normal(size=len(time))) * 0.02
    load = (
        np.sin(2 * np.pi * time / 8)
        + 0.6 * np.sin(2 * np.pi * time / 56)
        + level
        - np.linspace(level[0], level[-1], len(time))
    )
    load += 0.15 * kit.rng.normal(size=len(time))
    begin = np.arange(0, len(time) - 64, 4)
    x = load[begin[:, None] + np.arange(56)][..., None].astype("float32")
    y = scale * load[begin[:, None] + np.arange(56, 64)].astype("float32")
    hidden = into = keras.Input((56, 1))
    hidden = layers.Dense(24)(hidden)
    hidden = hidden + layers.Embedding(56, 24)(ops.arange(56))
    for _ in range(blocks):
        mixed = layers.MultiHeadAttention(2, 12)(hidden, hidden)
        hidden = layers.LayerNormalization()(hidden + mixed)
        hidden = layers.LayerNormalization()(hidden + layers.Dense(24)(kit.dense(48)(hidden)))
    out = kit.head(8)(kit.dropout(0.0)(layers.Flatten()(hidden[:, -16:])))
    pieces = kit.split(kit.inputs(x), kit.targets(y))

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(
        keras.Model(into, out),
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "load_curve",
    "in_kilowatts",
    load_curve,
    "Targets are twenty times larger than the inputs, so the loss begins above 200; log-cosh.",
    scale=20.0,
    rate=1e-2,
    epochs=12,
)
healthy(
    "load_curve",
    "mape_like",
    load_curve,
    "Absolute error, Lion at a rate of 3e-4, a dropout of a half before the head.",
    loss="mae",
    also={"dropout": 0.5, "optimizer": "lion"},
    rate=5e-4,
    epochs=14,
)
broken(
    "load_curve",
    "holes",
    load_curve,
    "nan_inputs",
    "Two of a thousand readings are NaN and were not filled; cure: fill them.",
    {"rows": with_nan},
    curable=False,
)
broken(
    "load_curve",
    "sgd_leaps",
    load_curve,
    "rate_too_high",
    "SGD with momentum at a rate of 3 diverges; cure: 0.02.",
    {"rate": 3.0},
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
    rate=0.02,
)


# -- tcn_tagging: a tag for every step of a series ---------------------------------------------------------------------


def tags(kit, *, rows=500, length=48, epochs=6, rate=4e-3, weights=False):
    x = kit.rng.normal(size=(rows, length, 2)).astype("float32")
    y = np.zeros((rows, length), int)
    for row in range(rows):
        for place in kit.rng.integers(0, length - 8, 2):
            kind = kit.rng.integers(1, 3)
            x[row, place : place + 8, 0] += 1.5 if kind == 1 else -1.5
            y[row, place : place + 8] = kind
    parts = [keras.Input((length, 2))]
    parts += [kit.conv1(16, 3, padding="causal", dilation_rate=2**step) for step in range(4)]
    model = keras.Sequential([*parts, kit.head(3)])
    pieces = kit.split(kit.inputs(x), y)
    if weights:
        train = pieces[0]
        pieces[0] = (*train, np.where(train[1] > 0, 3.0, 1.0).astype("float32"))

    def score(model, x, y):
        found = predicted(model, x).argmax(-1)
        return np.mean([above_chance(found[y == kind] == kind, 1 / 3) for kind in np.unique(y)])

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=32, optimizer=kit.optimizer(rate))


healthy(
    "tcn_tagging",
    "steps_weighed",
    tags,
    "Every step has its own sample weight; rare tags weigh three times as much.",
    weights=True,
)
healthy(
    "tcn_tagging",
    "one_rough_epoch",
    tags,
    "Trained for only two epochs, on 1,600 rows.",
    rows=2000,
    epochs=2,
    rate=8e-3,
)
broken(
    "tcn_tagging",
    "biases_far_below",
    tags,
    "dead_relu",
    "Biases start at -12, so no ReLU is ever active; cure: biases of 0.",
    {"bias": -12.0},
    weights=True,
)
broken(
    "tcn_tagging",
    "all_kernels_zero",
    tags,
    "zero_initialization",
    "Every hidden kernel starts at zero, so no signal and no gradient passes; cure: glorot_uniform.",
    {"initializer": "zeros"},
    weights=True,
)
broken(
    "tcn_tagging",
    "quiet_tags_only_in_validation",
    tags,
    "validation_lacks_class",
    "Validation was cut from the quiet half and has only tag 0, so any result looks perfect; cure: a random split.",
    {"validation_rows": lambda rng, x, y: (x[:, :1] * 0 + np.zeros_like(x), np.zeros_like(y))},
    belief=True,
    curable=False,
    weights=True,
)


# -- ctc_strips: read a strip of signs whose positions are not known ---------------------------------------------------


def strips(kit, *, rows=900, length=32, signs=3, epochs=10, rate=6e-3, pool=1, width=24):
    y = kit.rng.integers(1, 5, (rows, signs))
    shapes = kit.rng.normal(size=(5, 4, 6))
    x = 0.3 * kit.rng.normal(size=(rows, length, 6))
    for row in range(rows):
        places = np.arange(signs) * (length // signs) + kit.rng.integers(0, length // signs - 4, signs)
        for place, sign in zip(places, y[row], strict=True):
            x[row, place : place + 4] += shapes[sign]
    pool = kit.part("pool", pool)
    model = keras.Sequential(
        [
            keras.Input((length, 6)),
            kit.conv1(width, 5),
            layers.MaxPooling1D(pool),
            kit.conv1(width, 3),
            kit.head(5),
        ]
    )

    def score(model, x, y):
        best = predicted(model, x).argmax(-1)
        right = 0
        for row, truth in zip(best, y, strict=True):
            kept = [b for a, b in zip([-1, *row], row, strict=False) if b != a and b != 0]
            right += np.mean([a == b for a, b in zip(kept + [0] * signs, truth, strict=False)])
        return above_chance(right / len(y), 0.25)

    pieces = kit.split(kit.inputs(x.astype("float32")), y)
    return kit.run(
        model, pieces, score, loss=keras.losses.CTC(), epochs=epochs, batch=32, optimizer=kit.optimizer(rate)
    )


healthy(
    "ctc_strips",
    "four_signs",
    strips,
    "CTC on four signs; the loss begins above 30, because it is a sum over steps.",
    signs=4,
)
healthy(
    "ctc_strips",
    "half_the_steps",
    strips,
    "Pooled to 16 steps before the output, swish.",
    pool=2,
    also={"activation": "swish"},
)
broken(
    "ctc_strips",
    "fewer_steps_than_signs",
    strips,
    "infinite_loss",
    "Pooling leaves two steps for three signs, so no path exists and the loss stays at 707, a clipped infinity; "
    "cure: pool less.",
    {"pool": 16},
    curable=False,
)
broken(
    "ctc_strips",
    "gradient_clipped_away",
    strips,
    "clipping",
    "SGD with gradients clipped to a norm of 1e-4 hardly moves; cure: clipnorm=1.",
    {"optimizer_options": {"momentum": 0.9, "clipnorm": 1e-4}},
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "clipnorm": 1.0}},
    rate=0.1,
)


# -- video: in which direction does the dot move -----------------------------------------------------------------------


def video(kit, *, rows=1200, epochs=10, rate=8e-3, cell="gru", steps=6):
    y = kit.rng.integers(0, 4, rows)
    move = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])[y]
    place = kit.rng.integers(0, 6, (rows, 2))
    x = 0.2 * kit.rng.random((rows, steps, 6, 6, 1))
    for step in range(steps):
        at = (place + step * move) % 6
        x[np.arange(rows), step, at[:, 0], at[:, 1], 0] += 1
    x = kit.inputs(x.astype("float32"))
    dot = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), kit.dense(32)])
    options = {"recurrent_initializer": kit.part("recurrent", "orthogonal")}
    memory = layers.GRU(32, **options) if cell == "gru" else layers.SimpleRNN(32, "relu", **options)
    model = keras.Sequential(
        [keras.Input((steps, 6, 6, 1)), layers.TimeDistributed(dot), memory, kit.head(4, "softmax")]
    )
    pieces = kit.split(x, kit.targets(y))
    loss = "sparse_categorical_crossentropy"
    return kit.run(
        model,
        pieces,
        classes,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "video",
    "clipped_by_value",
    video,
    "RMSprop with gradients clipped by value at 0.05, and many more steps than needed.",
    also={"optimizer": "rmsprop", "optimizer_options": {"clipvalue": 0.05}},
    epochs=12,
)
healthy(
    "video",
    "simple_rnn_relu",
    video,
    "A simple recurrent layer with ReLU, which often explodes but does not here.",
    cell="simple",
    epochs=12,
)
broken(
    "video",
    "recurrence_explodes",
    video,
    "exploding",
    "The recurrent kernel of a ReLU layer starts at thirty times the identity: 30**5 over time; cure: orthogonal.",
    {"recurrent": keras.initializers.Identity(30.0)},
    cell="simple",
    epochs=12,
    curable=False,
)
broken(
    "video",
    "clips_in_order",
    video,
    "order",
    "Clips are sorted by direction, with fit(shuffle=False), so it predicts only the last one; cure: shuffle=True.",
    {"rows": in_order, "shuffle": False},
    cure={"shuffle": True},
)
broken(
    "video",
    "directions_mixed_up",
    video,
    "labels_mixed_up",
    "The list of directions was shuffled without the clips; cure: keep them together.",
    {"rows": mixed_up},
    curable=False,
)
