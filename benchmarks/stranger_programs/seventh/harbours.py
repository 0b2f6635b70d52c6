"""The seventh unseen set: series, texts and tables: pumps, rivers, ovens, bakery, toll, choirs, ferry, clicks, more."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.seventh.kit import (
    balanced,
    broken,
    faulty_parts,
    flowing,
    healthy,
    hits,
    overlap,
    r2,
    spread,
    stack,
    surprise,
)
from benchmarks.stranger_programs.third.kit import in_order, predicted

SPARSE = "sparse_categorical_crossentropy"

# -- pumps: vibrations, convolutions along time ------------------------------------------------------------------------


def pumps(kit, *, rows=800, epochs=10, rate=0.05, batch=32, way="sgd"):
    x, y = data.waves(kit.rng, rows, classes=4, length=32)
    model = stack((32, 1), kit.conv1(16, 7), kit.conv1(16, 5, strides=2))
    for layer in (layers.GlobalMaxPooling1D(), kit.head(4, "softmax")):
        model.add(layer)
    pieces, optimizer = kit.split(kit.inputs(x), y), kit.optimizer(rate, way)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "pumps",
    "two_steps_an_epoch",
    pumps,
    "Batches of 256: 24 steps in all.",
    epochs=12,
    batch=256,
    rate=0.02,
    way="adam",
)
broken(
    "pumps",
    "counts_of_the_converter",
    pumps,
    "inputs_not_scaled",
    "Vibrations as counts of a 12-bit converter, about 2048 +- 400, with SGD; cure: subtract and divide.",
    {"inputs": lambda x: 2048 + 400 * x},
)


# -- rivers: tomorrow's discharge --------------------------------------------------------------------------------------


def rivers(kit, *, rows=700, epochs=12, rate=3e-3, batch=32):
    x, y = data.forecast(kit.rng, rows)
    model = stack((16, 1), layers.GRU(16), kit.head(1))
    pieces, optimizer = kit.split(x, kit.targets(y)), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "rivers",
    "litres_a_second",
    rivers,
    "targets_not_scaled",
    "The discharge in liters, 30000 +- 8000, from a head that starts near 0; cure: standardize it.",
    {"units": lambda y: (30000 + 8000 * y).astype("float32")},
)


# -- ovens: regression on settings -------------------------------------------------------------------------------------


def ovens(kit, *, rows=900, epochs=15, rate=0.02, batch=32):
    x, y = data.friedman(kit.rng, rows)
    model = stack((x.shape[1],), kit.dense(48), kit.dense(32), kit.head(1))
    pieces = kit.split(x, spread(y))
    optimizer = kit.optimizer(rate, "sgd", momentum=0.9)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "ovens",
    "rate_without_momentum",
    ovens,
    "rate_too_high",
    "The rate of 1.0 comes from a linear model without momentum; cure: 0.02.",
    {"rate": 1.0},
)


# -- bakery: three quantiles at once -----------------------------------------------------------------------------------

SHARES = np.array([0.1, 0.5, 0.9], "float32")


def pinball(y, found):
    short = ops.reshape(y, (-1, 1)) - found
    return ops.mean(ops.maximum(SHARES * short, (SHARES - 1) * short), -1)


def middle(model, x, y):
    found = predicted(model, x)[:, 1]
    return 1 - np.mean((found - y) ** 2) / np.var(y) if np.isfinite(found).all() else -1.0


def bakery(kit, *, rows=900, epochs=15, rate=5e-3, batch=32):
    x, y = data.friedman(kit.rng, rows, noise=1.5)
    model = stack((x.shape[1],), kit.dense(48), kit.dense(32), kit.head(3))
    pieces, optimizer = kit.split(x, spread(y)), kit.optimizer(rate)
    return kit.run(model, pieces, middle, loss=pinball, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("bakery", "a_tenth_half_and_nine", bakery, "Three quantiles with a pinball loss; the noise remains.")
broken(
    "bakery",
    "rate_of_fine_tuning",
    bakery,
    "rate_too_low",
    "The rate of 2e-6 comes from a fine-tuning tutorial, but this network starts from scratch; cure: 5e-3.",
    {"rate": 2e-6},
)


# -- toll: weights that may not be negative ----------------------------------------------------------------------------


def toll(kit, *, rows=800, epochs=15, rate=1e-2, batch=32):
    x = kit.rng.uniform(0, 1, (rows, 6)).astype("float32")
    worth = x**2 @ np.array([3.0, 2.0, 1.0, 1.0, 0.5, 0.5])
    y = (worth > np.median(worth)).astype("float32")
    above = keras.constraints.NonNeg()
    model = stack((6,), kit.dense(24, kernel_constraint=above), kit.dense(24, kernel_constraint=above))
    model.add(kit.head(1, "sigmoid"))
    pieces, optimizer = kit.split(kit.inputs(x), y), kit.optimizer(rate)
    return kit.run(
        model, pieces, balanced, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


broken(
    "toll",
    "turned_round",
    toll,
    "negated_inputs",
    "Costs are negated, so that more is better; with NonNeg weights, no ReLU is ever active; cure: 1 - x.",
    {"inputs": lambda x: -x},
)


# -- choirs: six tags, most of them absent -----------------------------------------------------------------------------


def choirs(kit, *, rows=900, epochs=15, rate=5e-3, batch=32):
    y = (kit.rng.random((rows, 6)) < 0.12).astype("float32")
    sung = 2.5 * kit.rng.dirichlet(np.full(40, 0.15), 6) * 8
    x = np.log1p(kit.rng.poisson(0.3 + y @ sung)).astype("float32")
    model = stack((40,), kit.dense(48), kit.dense(32))
    model.add(kit.head(6, "sigmoid", bias_initializer=keras.initializers.Constant(-2.0)))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(
        model, pieces, overlap, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "choirs",
    "most_are_silent",
    choirs,
    "An eighth of the tags is 1, so accuracy starts at 0.88.",
    enough=0.4,
)
broken(
    "choirs",
    "zeros",
    choirs,
    "zero_initialization",
    "kernel_initializer='zeros' in hidden layers, to be reproducible; cure: a seed, and the default initializer.",
    {"initializer": "zeros"},
)


# -- parrots: texts with much dropout ----------------------------------------------------------------------------------


def parrots(kit, *, rows=1200, epochs=12, rate=5e-3, batch=32):
    x, y = data.sentences(kit.rng, rows, vocabulary=200)
    model = stack((16,), layers.Embedding(200, 24), kit.dropout(0.5), kit.conv1(48, 3), dtype="int32")
    for layer in (layers.GlobalMaxPooling1D(), kit.dropout(0.5), kit.head(1, "sigmoid")):
        model.add(layer)
    pieces, optimizer = kit.split(x, y.astype("float32")), kit.optimizer(rate)
    run = kit.run(
        model, pieces, balanced, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )
    return flowing(kit, run)


healthy("parrots", "half_is_dropped_twice", parrots, "Dropout of a half before and after a convolution.")


# -- ferry: the next position, with clipped gradients ------------------------------------------------------------------


def ferry(kit, *, rows=700, epochs=15, rate=0.05, batch=16):
    x, y = data.forecast(kit.rng, rows)
    model = stack((16, 1), layers.SimpleRNN(16), kit.dense(16, "tanh"), kit.head(1))
    pieces = kit.split(x, y)
    optimizer = kit.optimizer(rate, "sgd", **kit.part("clip", {"clipnorm": 1.0}))
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "ferry",
    "norm_of_a_thousandth",
    ferry,
    "clipping",
    "clipnorm=1e-3 against exploding gradients: every SGD step has a length of 1/20000; cure: 1.0.",
    {"optimizer_options": {"clipnorm": 1e-3}},
)


# -- clicks: two towers ------------------------------------------------------------------------------------------------


def clicks(kit, *, rows=1500, epochs=10, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 8)).astype("float32")
    chance = 1 / (1 + np.exp(1.0 - 1.5 * x[:, 0] - 1.2 * x[:, 1] * (x[:, 2] > 0)))
    y = (kit.rng.random(rows) < chance).astype("float32")
    into = keras.Input((8,))
    towers = [layers.Dense(1, "sigmoid")(kit.dense(24)(into)) for _ in range(2)]
    model = keras.Model(into, layers.Average()(towers))
    loss = kit.loss(keras.losses.BinaryCrossentropy())
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, surprise, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "clicks",
    "told_they_are_logits",
    clicks,
    "probabilities_as_logits",
    "The mean of two sigmoids with from_logits=True: probabilities become 0 or 1; cure: from_logits=False.",
    {"loss": keras.losses.BinaryCrossentropy(from_logits=True)},
)


# -- admissions: a dictionary of inputs --------------------------------------------------------------------------------


def admissions(kit, *, rows=1600, epochs=1, rate=5e-3, batch=8):
    marks = kit.rng.normal(size=(rows, 5)).astype("float32")
    school = kit.rng.integers(0, 8, (rows, 1)).astype("int32")
    lift = np.linspace(-1.5, 1.5, 8)[school[:, 0]]
    y = (marks[:, 0] + marks[:, 1] + lift > 0).astype("float32")
    into = {
        "marks": keras.Input((5,), name="marks"),
        "school": keras.Input((1,), dtype="int32", name="school"),
    }
    home = layers.Flatten()(layers.Embedding(8, 4)(into["school"]))
    h = kit.dense(32)(layers.Concatenate()([into["marks"], home]))
    model = keras.Model(into, kit.head(1, "sigmoid")(h))
    train, validation, test = faulty_parts(kit, kit.split({"marks": marks, "school": school}, y))
    weight = kit.rng.exponential(1, len(train[1])).astype("float32")
    pieces, optimizer = ((*train, weight), validation, test), kit.optimizer(rate)
    return kit.run(
        model, pieces, balanced, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy("admissions", "one_epoch_of_eights", admissions, "One epoch, batches of eight, sample weights.")
broken(
    "admissions",
    "yes_with_a_blank",
    admissions,
    "constant_targets",
    "The label is `column == 'yes'`, but the column has 'yes ', so nobody is admitted; cure: mend the comparison.",
    {"targets": np.zeros_like},
    curable=False,
)


# -- rosters: names in order -------------------------------------------------------------------------------------------


def rosters(kit, *, rows=1600, epochs=2, rate=1e-2, batch=16):
    x, y = data.sentences(kit.rng, rows, vocabulary=200, classes=3, length=12, opinions=20)
    model = stack((12,), layers.Embedding(200, 24, mask_zero=True), dtype="int32")
    model.add(layers.Bidirectional(layers.GRU(16)))
    model.add(kit.head(3, "softmax"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    options = {"epochs": epochs, "batch": batch, "optimizer": optimizer, "fit": {"shuffle": False}}
    return kit.run(model, pieces, hits, loss=SPARSE, **options)


healthy("rosters", "never_shuffled", rosters, "shuffle=False, but the rows are in random order anyway.")
broken(
    "rosters",
    "by_class",
    rosters,
    "order",
    "shuffle=False for rows sorted by class: the last class wins in every epoch; cure: shuffle.",
    {"rows": in_order},
)
