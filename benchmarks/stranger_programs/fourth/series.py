"""The fourth unseen set: texts, DNA strands, tags, movements, and rotated pictures."""

import keras
import numpy as np
from keras import layers

from benchmarks.stranger_programs.fourth.kit import broken, healthy, surprise
from benchmarks.stranger_programs.third.kit import (
    above_chance,
    classes,
    in_order,
    mixed_up,
    predicted,
    ranked,
)

# -- reviews: short texts with padding ---------------------------------------------------------------------------------


def review_score(model, x, y):
    found = predicted(model, x)
    return surprise(found, y) if np.isfinite(found).all() else -1.0


def rank_score(model, x, y):
    return ranked(predicted(model, x).ravel(), y.ravel())


def reviews(
    kit,
    *,
    rows=2000,
    epochs=8,
    rate=5e-3,
    batch=32,
    recurrent=False,
    wrong=0.0,
    dropped=0.0,
    score=rank_score,
    loss="binary_crossentropy",
):
    mood = np.where(np.arange(150) < 60, kit.rng.choice([-1.0, 1.0], 150), 0.0)
    words = kit.rng.integers(1, 150, (rows, 20))
    words *= np.arange(20) < kit.rng.integers(6, 21, (rows, 1))
    mood[0] = 0
    drive = mood[words].sum(1) + 0.01 * kit.rng.normal(size=rows)
    y = (drive > np.median(drive)) ^ (kit.rng.random(rows) < wrong)
    hidden = into = keras.Input((20,), dtype="int32")
    hidden = layers.Embedding(150, 16, mask_zero=True)(hidden)
    hidden = layers.GRU(16)(hidden) if recurrent else layers.GlobalAveragePooling1D()(hidden)
    hidden = kit.dropout(dropped)(kit.dense(16)(hidden))
    model = keras.Model(into, kit.head(1, "sigmoid")(hidden))
    pieces = kit.split(words, kit.targets(y[:, None].astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(
        model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=rate, metrics=["accuracy"]
    )


healthy(
    "reviews",
    "padded_and_masked",
    reviews,
    "A GRU over texts of 6 to 20 words with masked padding; batches of 100.",
    recurrent=True,
    batch=100,
    rate=1e-2,
)
healthy(
    "reviews",
    "one_label_of_ten_is_wrong",
    reviews,
    "A tenth of the labels is wrong, so accuracy ends below 0.9 and the loss stays high; dropout 0.5.",
    wrong=0.1,
    dropped=0.5,
)
broken(
    "reviews",
    "rate_of_one",
    reviews,
    "rate_too_high",
    "Adam at 1.0; cure: 5e-3.",
    {"rate": 1.0},
)
broken(
    "reviews",
    "sigmoid_twice",
    reviews,
    "logits",
    "from_logits=True with a sigmoid: outputs run to 0 and 1, though a fifth of the labels is wrong; cure: only one.",
    {"loss": keras.losses.BinaryCrossentropy(from_logits=True)},
    wrong=0.2,
    score=review_score,
    epochs=6,
)


# -- dna_motif: does the strand have a binding site --------------------------------------------------------------------


def dna_motif(
    kit, *, rows=1600, epochs=8, rate=5e-3, batch=32, loss="binary_crossentropy", length=60, units=1
):
    y = kit.rng.integers(0, 2, (rows, 1))
    strand = kit.rng.integers(0, 4, (rows, length))
    site = np.array([3, 0, 3, 0, 0, 0, 2, 1])
    for row in np.flatnonzero(y):
        begin = kit.rng.integers(0, length - 8)
        strand[row, begin : begin + 8] = np.where(
            kit.rng.random(8) < 0.95, site, strand[row, begin : begin + 8]
        )
    x = kit.inputs(np.eye(4, dtype="float32")[strand])
    model = keras.Sequential([keras.Input((length, 4)), kit.conv1(24, 8), layers.GlobalMaxPooling1D()])
    model.add(kit.dense(16))
    model.add(kit.head(1, "sigmoid"))
    pieces = kit.split(x, kit.targets(y.astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(
        model, pieces, rank_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate, metrics=["accuracy"]
    )


healthy(
    "dna_motif",
    "site_anywhere",
    dna_motif,
    "One position of sixty in a strand matters; nothing happens for an epoch or two, then it is found.",
)
healthy(
    "dna_motif",
    "hinge_on_long_strands",
    dna_motif,
    "Squared hinge with labels -1 and 1, tanh head, strands of 90.",
    length=90,
    loss="squared_hinge",
    also={"head": "tanh", "targets": lambda y: 2 * y - 1},
)
broken(
    "dna_motif",
    "softmax_on_one_unit",
    dna_motif,
    "one_unit_softmax",
    "Softmax over a single unit is always 1; cure: sigmoid.",
    {"head": "softmax"},
)
broken(
    "dna_motif",
    "units_start_dead",
    dna_motif,
    "dead_relu",
    "All biases start at -20, so no ReLU is ever active; cure: zeros.",
    {"bias": -20.0},
)
broken(
    "dna_motif",
    "file_sorted_by_label",
    dna_motif,
    "order",
    "The file has all negative strands first, and fit has shuffle=False; cure: shuffle.",
    {"rows": in_order, "shuffle": False},
    curable=False,
    epochs=6,
)


# -- slot_filling: a tag for every word; 0 is padding ------------------------------------------------------------------

ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)


def tag_score(model, x, y):
    found = predicted(model, x)
    if not np.isfinite(found).all():
        return -1.0
    found, y = found[..., 1:].argmax(-1)[y > 0] + 1, y[y > 0]
    return above_chance(found == y, np.bincount(y).max() / len(y))


def a_step_late(rng, x, y):
    """The tags, shifted so that each word has the tag of the word before it."""
    return x, np.where(y > 0, np.maximum(np.roll(y, 1, axis=1), 1), 0)


def slot_filling(kit, *, rows=900, epochs=10, rate=1e-2, batch=32, recurrent=False):
    words = kit.rng.integers(1, 60, (rows, 14))
    before = np.concatenate([np.full((rows, 1), 59), words[:, :-1]], axis=1)
    tags = 1 + (words % 3 + (before < 15)) % 4
    there = np.arange(14) < kit.rng.integers(5, 15, (rows, 1))
    x, y = words * there, tags * there
    hidden = into = keras.Input((14,), dtype="int32")
    hidden = layers.Embedding(60, 16)(hidden)
    if recurrent:
        cell = {"activation": kit.part("cell", "tanh")}
        if kit.part("recurrent") is not None:
            cell["recurrent_initializer"] = kit.part("recurrent")
        hidden = layers.SimpleRNN(32, return_sequences=True, **cell)(hidden)
    else:
        hidden = kit.conv1(32, 3)(hidden)
    model = keras.Model(into, kit.head(5, "softmax")(hidden))
    pieces = kit.split(x, y)
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, tag_score, loss=ignoring, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "slot_filling",
    "class_to_be_ignored",
    slot_filling,
    "The loss ignores tag 0, which is padding (ignore_class), so one unit of the head never learns.",
)
healthy(
    "slot_filling",
    "recurrent_from_identity",
    slot_filling,
    "A simple recurrent layer with ReLU that starts at the identity, gradients clipped to 1, batches of 16.",
    recurrent=True,
    batch=16,
    also={"cell": "relu", "recurrent": "identity", "optimizer_options": {"clipnorm": 1.0}},
    rate=5e-3,
)
broken(
    "slot_filling",
    "tags_a_step_late",
    slot_filling,
    "labels_mixed_up",
    "The training tags are late by one word, for a model that sees words on both sides; cure: align them.",
    {"rows": a_step_late, "validation_rows": a_step_late},
    curable=False,
)
broken(
    "slot_filling",
    "recurrence_explodes",
    slot_filling,
    "exploding",
    "The recurrent kernel of a ReLU layer starts at six times an orthogonal matrix; cure: tanh, or the default.",
    {"cell": "relu", "recurrent": keras.initializers.Orthogonal(gain=6.0, seed=1)},
    recurrent=True,
    curable=False,
    epochs=6,
)


# -- activity: movements from an accelerometer -------------------------------------------------------------------------


def activity(kit, *, rows=1000, epochs=10, rate=3e-3, batch=32, depth=1, gravity=0.0, smooth=0.0):
    y = kit.rng.integers(0, 4, rows)
    time = np.arange(32) / 32
    pace = np.array([2.0, 2.0, 5.0, 5.0])[y] * kit.rng.uniform(0.9, 1.1, rows)
    swing = np.sin(2 * np.pi * (pace[:, None] * time + kit.rng.random((rows, 1))))
    strong = np.array([[1, 0.3, 0.1], [0.1, 0.3, 1], [1, 0.3, 0.1], [0.1, 0.3, 1]])[y]
    x = swing[..., None] * strong[:, None] + 0.4 * kit.rng.normal(size=(rows, 32, 3)) + gravity
    model = keras.Sequential([keras.Input((32, 3)), kit.conv1(16, 5, strides=2), kit.conv1(24, 5, strides=2)])
    model.add(layers.Flatten())
    for _ in range(depth):
        model.add(kit.dense(32))
    model.add(kit.head(4, "softmax"))
    y = np.eye(4, dtype="float32")[y]
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smooth)

    def score(model, x, y):
        return classes(model, x, y.argmax(-1))

    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y))
    rate = kit.optimizer(rate)
    return kit.run(
        model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=rate, metrics=["accuracy"]
    )


healthy(
    "activity",
    "gravity_left_in",
    activity,
    "Gravity (1 on all axes) was not removed; it learns nevertheless, a little later.",
    gravity=1.0,
    epochs=14,
)
healthy(
    "activity",
    "whole_set_in_two_batches",
    activity,
    "Batches of 300: two steps per epoch, 60 epochs; label smoothing keeps the loss high.",
    batch=300,
    epochs=60,
    rate=6e-3,
    smooth=0.2,
)
broken(
    "activity",
    "gravity_in_metres",
    activity,
    "inputs_not_scaled",
    "Gravity of 9.8 on all axes hides the movements, which are below 1; cure: standardize the inputs.",
    {"inputs": lambda x: x + 9.8},
)
broken(
    "activity",
    "ten_sigmoids_deep",
    activity,
    "vanishing",
    "Ten sigmoid layers after two others: hardly any gradient reaches the first layers; cure: ReLU.",
    {"activation": "sigmoid"},
    depth=10,
    rate=2e-3,
)
broken(
    "activity",
    "labels_of_another_recording",
    activity,
    "labels_mixed_up",
    "Only the labels were shuffled; cure: one permutation for both.",
    {"rows": mixed_up},
    curable=False,
)


# -- rotations: by what angle is the picture rotated -------------------------------------------------------------------


def turn_score(model, x, y):
    return classes(model, x, y.argmax(-1))


def counted_from_one(rng, x, y):
    """Labels 1 to 4 in one-hot rows of length 4: the last class is a row of zeros."""
    return x, np.eye(5, dtype="float32")[y.argmax(-1) + 1][:, :4]


def rotations(kit, *, rows=900, epochs=8, rate=3e-3, batch=32, norm=False, noise=0.15):
    y = kit.rng.integers(0, 4, rows)
    picture = np.zeros((rows, 12, 12))
    for row in range(rows):
        top, left = kit.rng.integers(1, 5, 2)
        picture[row, top : top + 6, left : left + 2] = 1
        picture[row, top + 4 : top + 6, left : left + 5] = kit.rng.uniform(0.6, 1.0)
    picture = np.clip(picture + noise * kit.rng.normal(size=picture.shape), 0, 1)
    x = np.stack([np.rot90(one, turns) for one, turns in zip(picture, y, strict=True)])[..., None].astype(
        "float32"
    )
    hidden = into = keras.Input((12, 12, 1))
    for filters in (12, 24):
        hidden = kit.conv2(filters, 3)(hidden)
        if norm:
            hidden = kit.norm()(hidden)
        hidden = layers.MaxPooling2D()(hidden)
    model = keras.Model(into, kit.head(4, "softmax")(kit.dense(32)(layers.Flatten()(hidden))))
    pieces = kit.split(kit.inputs(x), kit.targets(np.eye(4, dtype="float32")[y]))
    return kit.run(
        model,
        pieces,
        turn_score,
        loss="categorical_crossentropy",
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "rotations",
    "labels_made_by_turning",
    rotations,
    "Self-supervised: the label is the rotation that was applied; batch norm with momentum 0.9.",
    norm=True,
)
healthy(
    "rotations",
    "momentum_and_one_cycle",
    rotations,
    "SGD with momentum, with a rate that warms up from zero and then falls to zero.",
    also={
        "optimizer": "sgd",
        "optimizer_options": {"momentum": 0.9, "nesterov": True},
        "early": lambda rate: keras.optimizers.schedules.CosineDecay(
            0.0, 150, warmup_target=rate, warmup_steps=40
        ),
    },
    rate=0.08,
    epochs=10,
)
broken(
    "rotations",
    "counted_from_one",
    rotations,
    "label_range",
    "Labels from 1 to 4 in one-hot rows of four: shifted by one, and the last class is a row of zeros; cure: y - 1.",
    {"rows": counted_from_one, "validation_rows": counted_from_one},
    curable=False,
)
broken(
    "rotations",
    "all_weights_zero",
    rotations,
    "zero_initialization",
    "Every hidden kernel starts at zero, so no gradient passes; cure: the default initializer.",
    {"initializer": "zeros"},
)
