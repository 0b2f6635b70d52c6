"""The fourth unseen set: tables: listings, customers who leave, rain, anomalies, bags, identities."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs.fourth.kit import Stepping, broken, healthy
from benchmarks.stranger_programs.third.kit import classes, explained, predicted, ranked

# -- listings: dictionaries in, dictionaries out -----------------------------------------------------------------------


def listing_score(model, x, y):
    found = model.predict(x, verbose=0, batch_size=256)
    price, sold = (np.asarray(found[name], "float64") for name in ("price", "sold"))
    return (explained(price, y["price"]) + ranked(sold.ravel(), y["sold"].ravel())) / 2


def missing_areas(rng, x, y):
    """The area is unknown in some rows, so the table has empty cells."""
    numbers = np.array(x["numbers"])
    numbers[rng.random(len(numbers)) < 0.01, 1] = np.nan
    return {**x, "numbers": numbers}, y


def listings(kit, *, rows=2000, epochs=10, rate=3e-3, batch=32):
    numbers = kit.rng.normal(size=(rows, 4))
    kind, town = kit.rng.integers(0, 6, rows), kit.rng.integers(0, 30, rows)
    price = numbers @ [0.8, 0.5, -0.3, 0.0] + kit.rng.normal(size=6)[kind] + kit.rng.normal(size=30)[town]
    sold = kit.rng.random(rows) < 1 / (1 + np.exp(3 * (price - numbers[:, 3] * 1.5 - price.mean())))
    y = {"price": price[:, None].astype("float32"), "sold": sold[:, None].astype("float32")}
    x = {"numbers": kit.inputs(numbers.astype("float32")), "kind": kind, "town": town}
    into = {
        "numbers": keras.Input((4,), name="numbers"),
        "kind": keras.Input((), name="kind", dtype="int32"),
        "town": keras.Input((), name="town", dtype="int32"),
    }
    hidden = [into["numbers"], layers.Embedding(6, 4)(into["kind"]), layers.Embedding(30, 6)(into["town"])]
    hidden = kit.dense(48)(layers.Concatenate()(hidden))
    hidden = kit.dropout(0.1)(kit.dense(32)(hidden))
    out = {
        "price": kit.head(1, name="price")(hidden),
        "sold": layers.Dense(1, "sigmoid", name="sold")(hidden),
    }
    return kit.run(
        keras.Model(into, out),
        kit.split(x, y),
        listing_score,
        loss={"price": "mae", "sold": "binary_crossentropy"},
        loss_weights={"price": 1.0, "sold": 0.5},
        metrics={"sold": ["auc"]},
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "listings",
    "named_in_and_out",
    listings,
    "Three inputs and two outputs by name, loss weights, a metric for one of them.",
)
healthy(
    "listings",
    "gradients_gathered",
    listings,
    "Batches of 8 with gradients accumulated over four steps; SELU.",
    batch=8,
    epochs=6,
    also={"activation": "selu", "optimizer_options": {"gradient_accumulation_steps": 4}},
)
broken(
    "listings",
    "empty_cells_in_the_area",
    listings,
    "nan_inputs",
    "One cell in a hundred of a column is empty, so all weights become NaN; cure: fill the cells.",
    {"rows": missing_areas},
    curable=False,
)
broken(
    "listings",
    "decay_on_everything",
    listings,
    "regularization",
    "AdamW with a weight decay of 60, also on biases; cure: 0.004.",
    {"optimizer_options": {"weight_decay": 60.0}},
    also={"optimizer": "adamw"},
)


# -- churn: few customers leave ----------------------------------------------------------------------------------------


def leaver_score(model, x, y):
    """Balanced accuracy, rescaled so that chance is 0."""
    found = np.ravel(predicted(model, x)) > 0.5
    if not np.isfinite(predicted(model, x)).all():
        return -1.0
    y = np.ravel(y) > 0.5
    return found[y].mean() + (~found[~y]).mean() - 1


def closed(rng, x, y):
    """The column 'account closed on' is filled only if the customer has left."""
    x = np.array(x)
    x[:, -1] = 3 * y[:, 0] + 0.1 * x[:, -1]
    return x, y


def churn(kit, *, rows=4000, epochs=8, rate=2e-3, batch=64, raw=False, dropout=0.2, rare=0.92):
    x = kit.rng.normal(size=(rows, 10))
    drive = x[:, 0] + x[:, 1] * x[:, 2] - 0.8 * np.maximum(x[:, 3], 0) + 0.3 * kit.rng.normal(size=rows)
    y = (drive > np.quantile(drive, rare)).astype("float32")[:, None]
    model = keras.Sequential([keras.Input((10,))])
    if raw:
        x = np.concatenate([np.exp(1.5 * x[:, :9]), x[:, 9:]], axis=1)
        model.add(layers.Lambda(lambda t: ops.arcsinh(t)))
        scale = layers.Normalization()
        scale.adapt(np.arcsinh(x))
        model.add(scale)
    for units in (64, 32):
        model.add(kit.dense(units))
        model.add(kit.dropout(dropout))
    model.add(kit.head(1, "sigmoid"))
    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y))
    return kit.run(
        model,
        pieces,
        leaver_score,
        loss="binary_crossentropy",
        metrics=["auc"],
        epochs=epochs,
        batch=batch,
        fit={"class_weight": kit.part("class_weight", {0: 1.0, 1: 10.0})},
        optimizer=kit.optimizer(rate),
    )


healthy(
    "churn",
    "skewed_columns",
    churn,
    "Columns with values in the thousands, scaled by arcsinh within the model; class weights.",
    raw=True,
)
healthy(
    "churn",
    "half_dropped",
    churn,
    "Dropout 0.5 twice, so the training loss stays above the validation loss; batches of 256, more epochs.",
    dropout=0.5,
    batch=256,
    epochs=20,
    rate=6e-3,
)
broken(
    "churn",
    "nearly_all_dropped",
    churn,
    "dropout",
    "Dropout 0.95 twice: the share to keep was taken for the share to drop; cure: 0.2.",
    {"dropout": 0.95},
    epochs=6,
)
broken(
    "churn",
    "closing_date_among_the_columns",
    churn,
    "leak",
    "A column was filled in because of the answer, so it cannot help with new customers; cure: leave it out.",
    {"rows": closed, "validation_rows": closed},
    belief=True,
    curable=False,
)
broken(
    "churn",
    "class_weights_swapped",
    churn,
    "weights_misplaced",
    "The frequent class has the weight of the rare one; cure: swap the weights.",
    {"class_weight": {0: 10.0, 1: 1.0}},
    curable=False,
)


# -- rainfall: mostly zero ---------------------------------------------------------------------------------------------


def rain_score(model, x, y):
    """The share of the Poisson deviance that is explained."""
    found = predicted(model, x)
    if not np.isfinite(found).all():
        return -1.0

    def deviance(found):
        found = np.maximum(found, 1e-6)
        return np.mean(y * np.log(np.maximum(y, 1e-9) / found) - y + found)

    return 1 - deviance(found) / deviance(y.mean() + 0 * found)


def rainfall(kit, *, rows=2400, epochs=12, rate=3e-3, batch=32, wet=1.0, loss="poisson"):
    x = kit.rng.normal(size=(rows, 6))
    amount = np.exp(wet + 0.8 * x[:, 1] + 0.4 * x[:, 2] * x[:, 3])
    y = kit.rng.poisson(np.minimum(amount, 60)) * (x[:, 0] + 0.3 * kit.rng.normal(size=rows) > 0.2)
    model = keras.Sequential([keras.Input((6,)), kit.dense(48), kit.dense(24), kit.head(1, "softplus")])
    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y[:, None].astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, rain_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "rainfall",
    "mostly_zero",
    rainfall,
    "Two of three days are dry; a Poisson loss, which falls below zero on the others.",
)
healthy(
    "rainfall",
    "downpours",
    rainfall,
    "Amounts of up to 60, exp as the last activation.",
    wet=2.0,
    also={"head": "exponential"},
    rate=2e-3,
)
broken(
    "rainfall",
    "schedule_ends_in_the_first_epoch",
    rainfall,
    "decayed_too_early",
    "The rate is divided by ten every 12 steps, where 12 epochs were meant; cure: multiply by the steps per epoch.",
    {"early": lambda rate: keras.optimizers.schedules.ExponentialDecay(rate, 12, 0.1)},
)
broken(
    "rainfall",
    "linear_head_under_poisson",
    rainfall,
    "infinite_loss",
    "The logarithm of amounts that may be negative behind a linear unit: NaN; cure: softplus.",
    {"head": "linear"},
    curable=False,
)


# -- anomaly: an autoencoder reconstructs anomalies badly --------------------------------------------------------------


def oddity_score(model, x, y):
    """Are rows with columns mixed from other rows reconstructed worse than true rows? 2 AUC - 1."""
    rng = np.random.default_rng(0)
    odd = np.stack([rng.permutation(column) for column in x.T], axis=1)
    far = [np.mean((predicted(model, rows) - rows) ** 2, axis=1) for rows in (x, odd)]
    return ranked(np.concatenate(far), np.repeat([0.0, 1.0], len(x)))


def anomaly(kit, *, rows=1600, epochs=12, rate=3e-3, batch=32, noise=0.0, width=4):
    hidden = kit.rng.normal(size=(rows, 3))
    x = np.tanh(hidden @ kit.rng.normal(size=(3, 16))) + 0.1 * kit.rng.normal(size=(rows, 16))
    x = kit.inputs(((x - x.mean(0)) / x.std(0)).astype("float32"))
    model = keras.Sequential([keras.Input((16,))])
    if noise:
        model.add(layers.GaussianNoise(noise))
    for layer in (kit.dense(32), kit.dense(width, None), kit.dense(32), kit.head(16)):
        model.add(layer)
    pieces = kit.split(x, x)
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, oddity_score, loss="mse", epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "anomaly",
    "narrow_middle",
    anomaly,
    "The targets are the inputs, through a bottleneck of four units; there are no labels.",
)
healthy(
    "anomaly",
    "noise_put_on",
    anomaly,
    "Noise of half a standard deviation in training, so the validation loss is lower; Adamax.",
    noise=0.5,
    also={"optimizer": "adamax"},
    rate=1e-2,
)
broken(
    "anomaly",
    "penalty_of_one",
    anomaly,
    "regularization",
    "l2(1.0) on every hidden layer: all weights shrink to zero; cure: 1e-4.",
    {"regularizer": keras.regularizers.L2(1.0)},
)
broken(
    "anomaly",
    "starts_far_out",
    anomaly,
    "large_initialization",
    "Initial weights with a standard deviation of 10; cure: the default initializer.",
    {"initializer": keras.initializers.RandomNormal(stddev=10.0, seed=1)},
    epochs=8,
)


# -- instance_bags: one of ten rows decides the label ------------------------------------------------------------------


class Bags(Stepping):
    """A custom training step that gives the optimizer only the variables of `part`."""

    def __init__(self, into, out, variables):
        super().__init__(into, out)
        self.asked, self.tracker = variables, keras.metrics.Mean(name="loss")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(keras.losses.binary_crossentropy(y, self(x, training=True)))
        weights = self.layers[-1].trainable_variables if self.asked == "last" else self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return self.told(loss)

    def test_step(self, data):
        x, y = data
        return self.told(ops.mean(keras.losses.binary_crossentropy(y, self(x))))


def bag_score(model, x, y):
    return ranked(predicted(model, x).ravel(), y.ravel())


def instance_bags(kit, *, rows=2000, epochs=12, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 10, 4))
    worst = (x[..., 0] * x[..., 1] + x[..., 2]).max(1)
    y = (worst > np.median(worst)).astype("float32")[:, None]
    into = keras.Input((10, 4))
    hidden = kit.dense(32)(kit.dense(32)(into))
    weight = ops.softmax(layers.Dense(1)(kit.dense(16, "tanh")(hidden)), axis=1)
    out = kit.head(1, "sigmoid")(ops.sum(weight * hidden, axis=1))
    model = Bags(into, out, kit.part("variables", "all"))
    pieces = kit.split(x.astype("float32"), y)
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, bag_score, epochs=epochs, batch=batch, plain=False, optimizer=optimizer)


healthy(
    "instance_bags",
    "attention_over_a_bag",
    instance_bags,
    "Only the bag has a label; attention finds the row that decides it; a custom train_step.",
)
broken(
    "instance_bags",
    "optimizer_of_the_last_layer",
    instance_bags,
    "wrong_variables",
    "The custom step takes gradients only for the variables of the last layer; cure: model.trainable_variables.",
    {"variables": "last"},
    curable=False,
)


# -- faces: unit vectors of identities ---------------------------------------------------------------------------------


def margin(y, found):
    """A softmax loss on cosines with an additive margin."""
    right = ops.one_hot(ops.cast(ops.reshape(y, (-1,)), "int32"), 6)
    return keras.losses.categorical_crossentropy(right, 12 * (found - 0.2 * right), from_logits=True)


def plain(y, found):
    return keras.losses.sparse_categorical_crossentropy(y, 12 * found, from_logits=True)


def without_two(rng, x, y):
    """The rows are sorted by identity, so the last two identities are only in the held-out part."""
    return x[y < 4], y[y < 4]


def faces(kit, *, rows=1500, epochs=10, rate=3e-3, batch=32, loss=plain):
    y = kit.rng.integers(0, 6, rows)
    pose = kit.rng.normal(size=(rows, 6))
    x = 1.2 * kit.rng.normal(size=(6, 20))[y] + pose @ kit.rng.normal(size=(6, 20)) * 0.8
    x += 0.3 * np.tanh(pose[:, :1] * pose[:, 1:2]) + 0.3 * kit.rng.normal(size=x.shape)
    model = keras.Sequential([keras.Input((20,)), kit.dense(48), layers.Dense(8), layers.UnitNormalization()])
    model.add(layers.Dense(6, use_bias=False, kernel_constraint=keras.constraints.UnitNorm(axis=0)))
    pieces = kit.split(kit.inputs(x.astype("float32")), y)
    rate = kit.optimizer(rate)
    return kit.run(
        model, pieces, classes, loss=loss, epochs=epochs, batch=batch, optimizer=rate, metrics=["accuracy"]
    )


healthy(
    "faces",
    "cosines_with_a_margin",
    faces,
    "Cosines between unit vectors, with an additive margin, so the loss stays high.",
    loss=margin,
)
broken(
    "faces",
    "two_identities_never_seen",
    faces,
    "class_missing",
    "Split before shuffling: two of the six identities are not in training; cure: shuffle, then split.",
    {"rows": without_two},
    curable=False,
)
