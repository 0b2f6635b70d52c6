"""The fifth unseen set: tables: candidates, effects, clipped sensors, bins, bits, empty cells, codes, layers."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs.fifth.kit import broken, healthy, hits, r2
from benchmarks.stranger_programs.third.kit import explained, predicted

# -- pointer: choose one of eight candidates for a query ---------------------------------------------------------------


def pointer(kit, *, rows=2400, epochs=10, rate=5e-3, batch=32, holes=False):
    query, several = kit.rng.normal(size=(rows, 3)), kit.rng.normal(size=(rows, 8, 3))
    away = ((several - query[:, None]) ** 2).sum(-1)
    there = np.ones((rows, 8), bool)
    if holes:
        there = np.arange(8) < kit.rng.integers(3, 9, (rows, 1))
    y = np.where(there, away, np.inf).argmin(1)
    into = {"query": keras.Input((3,), name="query"), "several": keras.Input((8, 3), name="several")}
    x = {"query": query.astype("float32"), "several": several.astype("float32")}
    asked = layers.RepeatVector(8)(into["query"])
    hidden = layers.Concatenate()([asked, into["several"], asked - into["several"]])
    score = layers.Dense(1)(kit.dense(32)(kit.dense(32)(hidden)))
    if holes:
        into["there"], x["there"] = keras.Input((8,), name="there", dtype="bool"), there
        score = ops.where(into["there"][..., None], score, -1e9)
    out = layers.Flatten()(layers.Softmax(axis=kit.part("axis", 1))(score))
    pieces = kit.split(x, y)
    optimizer, loss = kit.optimizer(rate), "sparse_categorical_crossentropy"
    return kit.run(
        keras.Model(into, out), pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "pointer",
    "softmax_over_candidates",
    pointer,
    "There is no unit per class, but a score for each of eight candidates, with softmax over axis 1.",
)
healthy(
    "pointer",
    "missing_candidates_at_minus_a_billion",
    pointer,
    "Missing candidates get a score of -1e9, by a boolean input; batches of 8.",
    holes=True,
    batch=8,
    epochs=5,
    rate=3e-3,
)
broken(
    "pointer",
    "softmax_over_the_last_axis",
    pointer,
    "one_unit_softmax",
    "The scores have shape (8, 1), so softmax over the last axis makes each of them 1; cure: axis 1.",
    {"axis": -1},
    curable=False,
)


# -- uplift: for whom does the treatment have an effect ----------------------------------------------------------------


def uplift(kit, *, rows=6000, epochs=10, rate=2e-3, batch=128):
    x = kit.rng.normal(size=(rows, 6))
    treated = kit.rng.integers(0, 2, rows)

    def effect(x):
        return np.maximum(x[:, 0], 0) - 0.6 * np.maximum(x[:, 1], 0)

    outcome = 0.5 * x[:, 2] + treated * effect(x) + 0.5 * kit.rng.normal(size=rows)
    y = (2 * (2 * treated - 1) * outcome)[:, None].astype("float32")

    def score(model, x, y):
        found = predicted(model, x).ravel()
        return explained(found, effect(x)) if np.isfinite(found).all() else -1.0

    model = keras.Sequential([keras.Input((6,)), kit.dense(24), kit.head(1)])
    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y))
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, score, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "uplift",
    "transformed_outcome",
    uplift,
    "Targets are almost only noise, so the loss hardly falls, but the effect is found.",
)
broken(
    "uplift",
    "treatment_column_of_others",
    uplift,
    "labels_mixed_up",
    "The targets come from a table with another order of rows; cure: join by the key.",
    {"rows": lambda rng, x, y: (x, y[rng.permutation(len(y))])},
    curable=False,
)


# -- clipped_sensor: readings that are clipped at a limit --------------------------------------------------------------


def stable(z):
    return ops.softplus(z)


def unstable(z):
    return -ops.log(1 - ops.sigmoid(z))


def clipped_sensor(kit, *, rows=2400, epochs=16, rate=1e-2, batch=32, limit=26.0):
    x = kit.rng.normal(size=(rows, 5))
    heat = 24 + 2.5 * np.tanh(x[:, 0] + x[:, 1]) + 1.5 * x[:, 2] + kit.rng.logistic(size=rows) * 0.3
    y = np.stack([np.minimum(heat, limit), heat > limit], axis=1).astype("float32")
    tail = kit.part("tail", stable)

    def loss(y, found):
        z = (y[:, :1] - found[:, :1]) / 0.5
        sharp = z + 2 * ops.softplus(-z)
        return ops.where(y[:, 1:] > 0.5, tail(z), sharp)

    def score(model, x, y):
        kept = y[:, 1] < 0.5
        found = predicted(model, x)[kept, 0]
        return (
            1 - np.mean((found - y[kept, 0]) ** 2) / np.var(y[kept, 0]) if np.isfinite(found).all() else -1.0
        )

    model = keras.Sequential([keras.Input((5,)), kit.dense(32), kit.dense(32), kit.head(1)])
    pieces = kit.split(kit.inputs(x.astype("float32")), y)
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=kit.optimizer(rate))


healthy(
    "clipped_sensor",
    "value_and_flag",
    clipped_sensor,
    "Targets of two columns (the reading, and whether it is clipped) for one unit; a censored loss.",
)
broken(
    "clipped_sensor",
    "log_of_one_minus_sigmoid",
    clipped_sensor,
    "infinite_loss",
    "log(1 - sigmoid(z)) is log(0) for readings far from the first prediction, so NaN; cure: softplus(z).",
    {"tail": unstable},
    curable=False,
)


# -- soft_bins: a quantity as probabilities of bins --------------------------------------------------------------------

CENTRES = np.linspace(-3, 3, 31).astype("float32")


def bins_loss(y, found):
    near = ops.softmax(-(((y - CENTRES) / 0.2) ** 2) / 2, axis=-1)
    return keras.losses.categorical_crossentropy(near, found, from_logits=True)


def soft_bins(kit, *, rows=2000, epochs=14, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 5))
    y = np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * kit.rng.normal(size=rows)
    y = kit.targets(np.clip(y, -2.9, 2.9)[:, None].astype("float32"))

    def score(model, x, y):
        share = np.exp(predicted(model, x))
        found = (share @ CENTRES / share.sum(1))[:, None]
        return max(explained(found, y), -1.0) if np.isfinite(found).all() else -1.0

    model = keras.Sequential([keras.Input((5,)), kit.dense(48), kit.dense(48), kit.head(31)])
    pieces = kit.split(kit.inputs(x.astype("float32")), y)
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, score, loss=bins_loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "soft_bins",
    "thirty_one_units_for_one_number",
    soft_bins,
    "A quantity as probabilities of 31 bins: targets (n, 1), outputs (n, 31), and a loss that stays above 1.",
)
broken(
    "soft_bins",
    "quantity_in_percent",
    soft_bins,
    "head_cannot_reach",
    "Bins from -3 to 3 for targets around 100, which all fall into the last bin; cure: divide the targets by 100.",
    {"units": lambda y: 100 + 10 * y},
)


# -- parity: a long plateau, then a sudden fall ------------------------------------------------------------------------


def bit_score(model, x, y):
    found = predicted(model, x)
    return 2 * np.mean((found > 0.5) == (y > 0.5)) - 1 if np.isfinite(found).all() else -1.0


def parity(kit, *, rows=3000, epochs=14, rate=5e-3, batch=32):
    x = kit.rng.choice([-1.0, 1.0], (rows, 8))
    y = (x[:, [1, 4, 6]].prod(1) > 0)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((8,)), kit.dense(48), kit.dense(16), kit.head(1, "sigmoid")])
    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y))
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, bit_score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "parity",
    "flat_then_sudden",
    parity,
    "The product of three of eight signs with plain SGD: the loss stays at log 2 for epochs, then falls to zero.",
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
    rate=0.02,
)
broken(
    "parity",
    "all_weights_alike",
    parity,
    "equal_weights",
    "Every hidden weight starts at 0.1, so all units of a layer stay equal; cure: random weights.",
    {"initializer": keras.initializers.Constant(0.1)},
)


# -- lab_values: empty cells that the network can see ------------------------------------------------------------------


def lab_values(kit, *, rows=2400, epochs=12, rate=4e-3, batch=48):
    x = kit.rng.normal(size=(rows, 7))
    drive = x[:, 0] + np.abs(x[:, 1]) - 0.7 * x[:, 2] * x[:, 3] + 0.2 * kit.rng.normal(size=rows)
    y = (drive > np.median(drive))[:, None].astype("float32")
    x[kit.rng.random(x.shape) < 0.1] = np.nan
    hidden = into = keras.Input((7,))
    if kit.part("handled", True):
        empty = ops.isnan(into)
        hidden = layers.Concatenate()([ops.where(empty, 0.0, into), ops.cast(empty, "float32")])
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.dense(32)(kit.dense(32)(hidden))))
    pieces = kit.split(x.astype("float32"), y)
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, bit_score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "lab_values",
    "empty_cells_filled_within",
    lab_values,
    "A tenth of the inputs is NaN on purpose: the network first replaces and marks them.",
)
broken(
    "lab_values",
    "empty_cells_go_on",
    lab_values,
    "nan_inputs",
    "The same empty cells, but they are not replaced; cure: fill them.",
    {"handled": False},
    curable=False,
)


# -- straight_through: a code of bits in the middle --------------------------------------------------------------------


@tf.custom_gradient
def borrowed(x):
    return tf.where(x > 0, 1.0, -1.0), lambda slope: slope * tf.cast(tf.abs(x) < 1.5, slope.dtype)


def bare(x):
    return ops.where(x > 0, 1.0, -1.0)


def straight_through(kit, *, rows=2400, epochs=14, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 30)).astype("float32")
    pull = kit.rng.normal(size=(3, 30)) / 30**0.5
    y = (np.sign(x @ pull[0]) + np.sign(x @ pull[1]) * np.sign(x @ pull[2]))[:, None].astype("float32")
    model = keras.Sequential([keras.Input((30,)), layers.Dense(10)])
    model.add(layers.Lambda(kit.part("bits", borrowed), output_shape=(10,)))
    for layer in (kit.dense(32), kit.head(1)):
        model.add(layer)
    pieces = kit.split(x, y)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=kit.optimizer(rate))


healthy(
    "straight_through",
    "ten_bits",
    straight_through,
    "Only ten bits pass, with the gradient of the identity.",
)
broken(
    "straight_through",
    "bits_without_gradient",
    straight_through,
    "gradient_stopped",
    "A comparison has no gradient, so nothing below it learns; cure: a straight-through gradient.",
    {"bits": bare},
    curable=False,
)


# -- wrapped: layers within a layer ------------------------------------------------------------------------------------


def wrapped(kit, *, rows=2000, epochs=12, rate=4e-3, batch=32):
    x = kit.rng.normal(size=(rows, 24)).astype("float32")
    side = np.sign(x @ kit.rng.normal(size=(24, 2)))
    y = (side[:, 0] * side[:, 1] > 0)[:, None].astype("float32")
    y = np.where(kit.rng.random(y.shape) < 0.02, 1 - y, y)
    block = keras.Sequential([keras.Input((24,)), kit.dense(32, "tanh"), kit.dense(4, "tanh")])
    into = keras.Input((24,))
    hidden = layers.Lambda(lambda x: block(x), output_shape=(4,))(into) if kit.part("hidden") else block(into)
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.dense(8)(hidden)))
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(
        model, kit.split(x, y), bit_score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "wrapped",
    "network_in_a_network",
    wrapped,
    "A Sequential as the first layer, tanh, four units wide.",
)
broken(
    "wrapped",
    "network_in_a_lambda",
    wrapped,
    "untracked",
    "The same network within a Lambda, which does not track its weights, so they never change; cure: call it directly.",
    {"hidden": True},
    curable=False,
)


# -- unlabelled: most rows have no label -------------------------------------------------------------------------------


def where_known(y, found):
    known = ops.cast(y >= 0, "float32")
    return known * keras.losses.sparse_categorical_crossentropy(ops.maximum(y, 0), found)


def fewer(rng, x, y):
    return x, np.where(rng.random(len(y)) < 0.85, -1, y)


def filled(rng, x, y):
    """A join that found no label, followed by `fillna(0)`."""
    x, y = fewer(rng, x, y)
    return x, np.maximum(y, 0)


def unlabelled(kit, *, rows=4000, epochs=12, rate=4e-3, batch=64):
    y = kit.rng.integers(0, 4, rows)
    x = (1.6 * kit.rng.normal(size=(4, 10))[y] + kit.rng.normal(size=(rows, 10))).astype("float32")
    model = keras.Sequential([keras.Input((10,)), kit.dense(32), kit.head(4, "softmax")])
    optimizer = kit.optimizer(rate)
    return kit.run(
        model, kit.split(x, y), hits, loss=where_known, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "unlabelled",
    "minus_one_is_unknown",
    unlabelled,
    "17 of 20 labels are -1, which a custom loss ignores.",
    also={"rows": fewer},
)
broken(
    "unlabelled",
    "filled_with_zeros",
    unlabelled,
    "imbalance",
    "Missing labels were filled with 0, which is a class; cure: leave these rows out.",
    {"rows": filled, "validation_rows": filled},
    also={"rows": fewer},
    curable=False,
)
