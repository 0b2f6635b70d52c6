"""The sixth unseen set: tables: loans, taxis, parcels, soil, wires, genes, cranes, houses, dishes, plants."""

import keras
import numpy as np
from keras import layers, ops
from sklearn import datasets

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.sixth.kit import (
    Loader,
    balanced,
    broken,
    fed,
    flowing,
    healthy,
    hits,
    overlap,
    r2,
)

# -- loans: raw amounts of money with long tails -----------------------------------------------------------------------


def loans(kit, *, rows=1600, epochs=20, rate=5e-3, batch=32):
    income, age = kit.rng.lognormal(10.5, 0.7, rows), kit.rng.uniform(20, 75, rows)
    debt, late = income * kit.rng.uniform(0.1, 2, rows), kit.rng.poisson(1, rows)
    drive = 2 * debt / income + 0.9 * late - 0.03 * age + 0.3 * kit.rng.normal(size=rows)
    y = (drive > np.median(drive)).astype("float32")[:, None]
    x = np.stack([income, debt, age, late, debt / income], axis=1).astype("float32")
    pieces = kit.split(kit.inputs(x), y)
    scale = layers.Normalization()
    if kit.part("adapted", True):
        scale.adapt(pieces[0][0])
    model = keras.Sequential([keras.Input((5,)), scale, kit.dense(32), kit.dense(16), kit.head(1, "sigmoid")])
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "loans",
    "normalization_within",
    loans,
    "Raw amounts up to a million; an adapted normalization layer within the model scales them.",
)
broken(
    "loans",
    "normalization_not_adapted",
    loans,
    "inputs_not_scaled",
    "The normalization layer was never adapted and changes nothing; cure: adapt it, or standardize.",
    {"adapted": False},
)


# -- taxi: the number of rides at a time stamp -------------------------------------------------------------------------


def taxi(kit, *, rows=2000, epochs=20, rate=5e-3, batch=32):
    x = kit.rng.integers(1_600_000_000, 1_700_000_000, (rows, 1))
    hour = (x[:, 0] % 86400) / 3600
    mean = np.exp(6 + np.sin(2 * np.pi * (hour - 9) / 24) + 0.6 * np.cos(4 * np.pi * hour / 24))
    y = kit.rng.poisson(mean).astype("float32")[:, None]
    time = keras.Input((1,), dtype="int64")
    turn = 2 * np.pi / 86400 * ops.cast(ops.mod(time, 86400), "float32")
    h = layers.Concatenate()([ops.sin(turn), ops.cos(turn)])
    h = kit.dense(32, "tanh")(kit.dense(32, "tanh")(h))
    model = keras.Model(
        time, kit.head(1, "exponential", bias_initializer=keras.initializers.Constant(5.0))(h)
    )
    loss, optimizer = "poisson", kit.optimizer(rate)
    pieces = kit.split(x, y)
    return kit.run(model, pieces, r2, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "taxi",
    "poisson_far_below_zero",
    taxi,
    "Seconds since 1970 as integers, from which the model computes the hour; the loss goes below -2000.",
)


# -- parcels: small counts over different numbers of days --------------------------------------------------------------


def parcels(kit, *, rows=1500, epochs=20, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 6))
    days = kit.rng.integers(1, 9, rows)
    y = kit.rng.poisson(days * np.exp(0.2 + x @ [0.5, -0.4, 0.3, 0, 0, 0.3])) / days
    order = kit.rng.permutation(rows)
    cuts = np.split(order, [900, 1150])
    x, y, days = x.astype("float32"), y.astype("float32")[:, None], days.astype("float32")
    pieces = [(x[cuts[0]], y[cuts[0]], days[cuts[0]]), *((x[cut], y[cut]) for cut in cuts[1:])]
    model = keras.Sequential([keras.Input((6,)), kit.dense(24), kit.head(1, "exponential")])
    loss, optimizer = "poisson", kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "parcels",
    "rates_weighed_by_days",
    parcels,
    "Counts per day, many of them 0, weighted by the number of days, 1 to 8.",
)
broken(
    "parcels",
    "poisson_of_a_linear_head",
    parcels,
    "log_of_negative",
    "The head is linear, so the loss takes the logarithm of negative numbers; cure: an exponential.",
    {"head": "linear"},
)


# -- soil: five classes, numbered as in the file -----------------------------------------------------------------------


def soil(kit, *, rows=1200, epochs=15, rate=5e-3, batch=32):
    x, y = data.blobs(kit.rng, rows, classes=5, columns=8, spread=1.4)
    model = keras.Sequential([keras.Input((8,)), kit.dense(32), kit.head(5, "softmax")])
    pieces = kit.split(x, y.astype("float32")[:, None])

    def score(model, x, y):
        return hits(model, x, np.ravel(y).astype(int))

    train, validation, test = pieces
    train, validation = [(x, kit.targets(y)) for x, y in (train, validation)]
    loss, optimizer = "sparse_categorical_crossentropy", kit.optimizer(rate)
    pieces = train, validation, test
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "soil",
    "kinds_from_one",
    soil,
    "label_range",
    "The file numbers the classes from 1 to 5, and there are five units; cure: subtract 1.",
    {"targets": lambda y: y + 1},
)


# -- wires: one in fifty is stolen -------------------------------------------------------------------------------------


def wires(kit, *, rows=5000, epochs=10, rate=3e-3, batch=64):
    x = kit.rng.normal(size=(rows, 8)).astype("float32")
    y = (x[:, 0] + x[:, 1] + 0.8 * x[:, 2] * x[:, 3] + 1.2 * kit.rng.normal(size=rows) > 4.3).astype(
        "float32"
    )
    model = keras.Sequential([keras.Input((8,)), kit.dense(32), kit.dense(16), kit.head(1, "sigmoid")])
    weights = kit.part("class_weight", {0: 1.0, 1: 45.0})
    return kit.run(
        model,
        kit.split(x, y[:, None]),
        balanced,
        loss="binary_crossentropy",
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
        fit={"class_weight": weights} if weights else {},
        metrics=["accuracy"],
    )


healthy(
    "wires",
    "weight_of_45",
    wires,
    "Two in a hundred labels are 1, with a class weight of 45; accuracy falls below that of always saying 0.",
)
broken(
    "wires",
    "two_of_a_hundred",
    wires,
    "imbalance",
    "Without class weights the model is right in 98 % of the cases and finds hardly any; cure: class weights.",
    {"class_weight": None},
    curable=False,
)


# -- genes: more columns than rows -------------------------------------------------------------------------------------


def genes(kit, *, rows=360, epochs=30, rate=3e-3, batch=16):
    y = kit.rng.integers(0, 3, rows)
    x = kit.rng.normal(size=(rows, 400))
    x[:, :60] += 0.7 * kit.rng.normal(size=(3, 60))[y]
    penalty = kit.part("regularizer", keras.regularizers.L2(5e-3))
    model = keras.Sequential([keras.Input((400,))])
    for layer in (
        layers.Dense(64, "relu", kernel_regularizer=penalty),
        kit.dropout(0.5),
        kit.head(3, "softmax"),
    ):
        model.add(layer)
    loss, optimizer = "sparse_categorical_crossentropy", kit.optimizer(rate)
    pieces = kit.split(x.astype("float32"), y)
    return kit.run(model, pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "genes",
    "lasso_of_a_half",
    genes,
    "regularization",
    "L1(0.5), the best value of a linear model elsewhere: no weight is left; cure: far less.",
    {"regularizer": keras.regularizers.L1(0.5)},
)


# -- crane: forces from positions, by plain SGD ------------------------------------------------------------------------


def crane(kit, *, rows=1500, epochs=20, rate=0.05, batch=32, by="sgd", **options):
    x = kit.rng.uniform(-1.5, 1.5, (rows, 4))
    y = np.stack([np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2], x[:, 3] ** 2 + np.cos(2 * x[:, 1])], axis=1)
    model = keras.Sequential([keras.Input((4,)), kit.dense(64, "tanh"), kit.dense(64, "tanh"), kit.head(2)])
    pieces = kit.split(x.astype("float32"), (y + 0.05 * kit.rng.normal(size=y.shape)).astype("float32"))
    optimizer = kit.optimizer(rate, by, **options)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "crane",
    "clipped_at_every_step",
    crane,
    "A clipnorm that cuts each gradient to a hundredth, for which Adam compensates.",
    rate=3e-3,
    by="adam",
    clipnorm=0.01,
)
broken(
    "crane",
    "clipvalue_of_a_tutorial",
    crane,
    "clipping",
    "clipvalue=1e-4 with plain SGD, copied from another kind of program; cure: 1.",
    {"optimizer_options": {"clipvalue": 1e-4}},
)


# -- subscribers: a column that has the answer -------------------------------------------------------------------------


def with_date_of_leaving(rng, x, y, *rest):
    x = np.array(x)
    x[:, -1] = np.where(y[:, 0] > 0.5, rng.uniform(0.5, 1.5, len(y)), 0)
    return (x, y, *rest)


def subscribers(kit, *, rows=1500, epochs=12, rate=3e-3, batch=32):
    x = kit.rng.normal(size=(rows, 9)).astype("float32")
    x[:, -1] = 0
    y = (x[:, 0] - x[:, 1] + x[:, 2] * x[:, 3] + 0.6 * kit.rng.normal(size=rows) > 0).astype("float32")[
        :, None
    ]
    model = keras.Sequential([keras.Input((9,)), kit.dense(48), kit.dense(24), kit.head(1, "sigmoid")])
    loss, optimizer, pieces = "binary_crossentropy", kit.optimizer(rate), kit.split(x, y)
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "subscribers",
    "days_since_leaving",
    subscribers,
    "leak",
    "A column is filled only for customers who have left, and empty for new ones; cure: drop it.",
    {"rows": with_date_of_leaving, "validation_rows": with_date_of_leaving},
    belief=True,
    curable=False,
)


# -- sonar: a custom loader --------------------------------------------------------------------------------------------


def sonar(kit, *, epochs=12, rate=3e-3, batch=16):
    x, y = data.bundled("breast_cancer")
    x, y = data.standardized(x), y.astype("float32")[:, None]
    model = keras.Sequential([keras.Input((30,)), kit.dense(16), kit.dropout(0.3), kit.head(1, "sigmoid")])
    loss, optimizer, pieces = "binary_crossentropy", kit.optimizer(rate), kit.split(x, y)
    run = kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)
    loaders = [
        Loader(*part, batch, kit.rng, apart=kit.part("apart", False)) for part in (run.train, run.validation)
    ]
    return fed(run, *loaders)


healthy("sonar", "rows_in_a_new_order", sonar, "A PyDataset that shuffles itself at the end of every epoch.")
broken(
    "sonar",
    "answers_stay_where_they_are",
    sonar,
    "labels_mixed_up",
    "At the end of an epoch only the inputs are shuffled, the labels are not; cure: shuffle both.",
    {"apart": True},
    curable=False,
)


# -- houses: in dollars ------------------------------------------------------------------------------------------------


def houses(kit, *, rows=1200, epochs=20, rate=3e-3, batch=32):
    x, y = datasets.make_friedman1(rows, noise=0.5, random_state=kit.seed)
    y = (20000 * y + 50000).astype("float32")[:, None]
    model = keras.Sequential([keras.Input((10,)), kit.dense(64), kit.dense(64), kit.head(1)])
    if kit.part("scaled", True):
        model.add(layers.Rescaling(1e5, 3e5))
    pieces, optimizer = kit.split((2 * x - 1).astype("float32"), y), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "houses",
    "loss_of_ten_digits",
    houses,
    "Prices in dollars, which a last layer scales up to; the loss is around 1e9.",
)
broken(
    "houses",
    "prices_in_dollars",
    houses,
    "targets_not_scaled",
    "The same prices with a plain head that starts at 0; cure: standardize them, or scale in a last layer.",
    {"scaled": False},
    curable=False,
)


# -- cuisine: the ingredients of a dish, several of twelve -------------------------------------------------------------


def cuisine(kit, *, rows=1500, epochs=15, rate=5e-3, batch=32):
    x = kit.rng.normal(size=(rows, 16)).astype("float32")
    drive = x @ kit.rng.normal(size=(16, 12)) / 4 + 0.2 * kit.rng.normal(size=(rows, 12))
    y = (drive > 0.8).astype("float32")
    model = keras.Sequential([keras.Input((16,)), kit.dense(64), kit.head(12, "sigmoid")])
    loss, optimizer, pieces = "binary_crossentropy", kit.optimizer(rate), kit.split(x, y)
    return flowing(
        kit, kit.run(model, pieces, overlap, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)
    )


broken(
    "cuisine",
    "softmax_over_marks",
    cuisine,
    "several_ones",
    "Softmax and categorical cross-entropy for rows with several labels or none; cure: sigmoids.",
    {"head": "softmax", "loss": "categorical_crossentropy"},
)


# -- herbarium: fifty plants -------------------------------------------------------------------------------------------


def herbarium(kit, *, epochs=60, rate=1e-2):
    x, y = data.bundled("iris")
    rows = kit.rng.permutation(150)
    x, y = data.standardized(x)[rows], y[rows]
    pieces = [(x[:50], y[:50]), (x[50:70], y[50:70]), (x[70:], y[70:])]
    model = keras.Sequential([keras.Input((4,)), kit.dense(16), kit.dropout(0.5), kit.head(3, "softmax")])
    optimizer = kit.optimizer(rate)
    return kit.run(
        model,
        pieces,
        hits,
        loss="sparse_categorical_crossentropy",
        epochs=epochs,
        batch=50,
        optimizer=optimizer,
    )


healthy(
    "herbarium",
    "one_step_an_epoch",
    herbarium,
    "Fifty rows in one batch, with dropout of a half.",
    enough=0.6,
)
