"""Families whose inputs are columns: dense networks, tables, regression, and ways to train them."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, above_chance, broken, healthy

# -- dense: the first program of every course --------------------------------------------------------------------------


def dense(
    kit: Kit, *, what="blobs", width=32, depth=2, activation="relu", onehot=False, epochs=15, rate=3e-3
) -> Run:
    if what == "blobs":
        x, y = data.blobs(kit.rng)
    else:
        x, y = data.bundled(what)
        x = data.standardized(x)
    classes = int(y.max()) + 1
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            *[kit.dense(width, activation) for _ in range(depth)],
            kit.head(classes, "softmax"),
        ]
    )
    loss = "categorical_crossentropy" if onehot else "sparse_categorical_crossentropy"
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    y = np.eye(classes, dtype="float32")[y] if onehot else y.astype("int32")
    return kit.run(model, x, y, "onehot" if onehot else "sparse", epochs=epochs, batch=16)


healthy("dense", "blobs", dense)
healthy("dense", "iris_tanh", dense, what="iris", activation="tanh", epochs=30, rate=1e-2)
healthy("dense", "wine_onehot", dense, what="wine", onehot=True, epochs=25)
healthy("dense", "cancer_as_two_classes", dense, what="breast_cancer", epochs=12, depth=1)
broken("dense", "rate_of_one_hundred", dense, "rate too high", {"rate": 100.0})
broken("dense", "rate_of_a_millionth", dense, "rate too low", {"rate": 1e-6})
broken("dense", "zeros", dense, "all weights zero", {"initializer": "zeros"})
broken(
    "dense",
    "large_normal",
    dense,
    "initial weights too large",
    {"initializer": keras.initializers.RandomNormal(0, 20)},
)
broken(
    "dense",
    "tiny_normal",
    dense,
    "initial weights too small",
    {"initializer": keras.initializers.RandomNormal(0, 1e-4)},
    depth=5,
)
broken("dense", "dead", dense, "units dead", {"bias": keras.initializers.Constant(-30.0)})
broken("dense", "tanh_head", dense, "logits as probabilities", {"head": "tanh"})
broken("dense", "linear_head", dense, "logits as probabilities", {"head": None})
broken("dense", "relu_head", dense, "rectified head under cross-entropy", {"head": "relu"}, onehot=True)
broken("dense", "labels_from_one", dense, "labels beyond the units", {"targets": lambda y: y + 1})
broken("dense", "labels_halved", dense, "labels not whole", {"targets": lambda y: (y / 2).astype("float32")})
broken("dense", "labels_shuffled", dense, "labels shuffled", {"arrange": faults.shuffled})
broken("dense", "shuffled_and_nan", dense, "NaN in the inputs", {"arrange": faults.shuffled_with_nan})
broken("dense", "split_by_class", dense, "classes validation alone has", {"arrange": faults.split_by_class})
broken(
    "dense",
    "lacking_a_class",
    dense,
    "classes validation alone has",
    {"arrange": faults.lacking},
    what="iris",
    epochs=30,
)
broken("dense", "labels_constant", dense, "labels constant", {"arrange": faults.constant_labels})
broken("dense", "inputs_constant", dense, "inputs constant", {"arrange": faults.constant_inputs})
broken("dense", "frozen", dense, "layers frozen", {"weights": faults.freeze})
broken(
    "dense",
    "clipped",
    dense,
    "clipping too hard",
    {"optimizer_options": {"clipnorm": 1e-4}},
    also={"optimizer": "SGD", "rate": 0.05},
)
broken("dense", "penalty", dense, "penalty too strong", {"regularizer": keras.regularizers.L2(1.0)})
broken(
    "dense",
    "decay",
    dense,
    "decay too strong",
    {"optimizer_options": {"weight_decay": 100.0}},
    also={"optimizer": "AdamW"},
)
broken(
    "dense",
    "deep_sigmoid",
    dense,
    "gradients vanish",
    {"activation": "sigmoid"},
    also={"optimizer": "SGD", "rate": 0.05},
    depth=8,
    epochs=30,
)


# -- one sigmoid: yes or no --------------------------------------------------------------------------------------------


def one_sigmoid(
    kit: Kit, *, what="rings", width=24, logits=False, epochs=40, rate=1e-2, activation="relu"
) -> Run:
    if what == "breast_cancer":
        x, y = data.bundled(what)
        x = data.standardized(x)
    else:
        x, y = getattr(data, what)(kit.rng)
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), kit.dense(width, activation), kit.dense(width, activation)]
        + [kit.head(1, None if logits else "sigmoid")]
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if logits else "binary_crossentropy"
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate))
    task = "logit" if logits else "binary"
    return kit.run(model, x, y.astype("float32"), task, epochs=epochs)


healthy("one_sigmoid", "rings", one_sigmoid)
healthy("one_sigmoid", "moons_tanh_logits", one_sigmoid, what="moons", activation="tanh", logits=True)
healthy("one_sigmoid", "cancer", one_sigmoid, what="breast_cancer", epochs=15, rate=1e-3)
broken("one_sigmoid", "softmax", one_sigmoid, "softmax on one unit", {"head": "softmax"})
broken(
    "one_sigmoid",
    "exponential",
    one_sigmoid,
    "logits as probabilities",
    {"head": "exponential"},
    what="moons",
    rate=0.1,
)
broken(
    "one_sigmoid",
    "relu",
    one_sigmoid,
    "rectified head under cross-entropy",
    {"head": "relu"},
    what="moons",
    rate=0.1,
)
broken("one_sigmoid", "linear", one_sigmoid, "logits as probabilities", {"head": None}, rate=0.05)
broken("one_sigmoid", "labels_one_two", one_sigmoid, "labels outside 0..1", {"targets": lambda y: y + 1})
broken(
    "one_sigmoid",
    "labels_plus_minus",
    one_sigmoid,
    "labels outside 0..1",
    {"targets": lambda y: 3 * y - 1},
    what="rings",
)
broken("one_sigmoid", "zeros", one_sigmoid, "all weights zero", {"initializer": "zeros"}, what="moons")
broken("one_sigmoid", "no_hidden_nonlinearity", one_sigmoid, "too small a network", {"activation": None})
broken(
    "one_sigmoid", "ones", one_sigmoid, "all weights equal", {"initializer": keras.initializers.Constant(0.3)}
)
broken(
    "one_sigmoid", "leak", one_sigmoid, "data leak", {"arrange": faults.leaking}, belief=True, what="noisy"
)


def noisy_table(rng):
    """Few examples and many columns of noise, so that a memorized answer does not generalize."""
    x = rng.normal(size=(700, 30)).astype("float32")
    return x, (x[:, 0] + 1.5 * rng.normal(size=700) > 0).astype("int32")


data.noisy = noisy_table


# -- tables with skewed columns ----------------------------------------------------------------------------------------


def tabular(kit: Kit, *, how="log", epochs=20) -> Run:
    x, y = data.customers(kit.rng)
    raw = kit.get("raw")
    if how == "log" and not raw:
        x[:, [0, 4]] = np.log1p(x[:, [0, 4]])
        x = data.standardized(x)
    entry = []
    if how == "normalization" and not raw:
        entry = [layers.Normalization()]
        entry[0].adapt(x)
    elif how == "batch_norm" and not raw:
        entry = [layers.BatchNormalization(momentum=kit.get("momentum", 0.9))]
    model = keras.Sequential(
        [keras.Input((5,)), *entry, kit.dense(32), layers.Dropout(0.1), kit.dense(16), kit.head(1, "sigmoid")]
    )
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=3e-3), metrics=["accuracy", "AUC"])
    return kit.run(model, x, y.astype("float32"), "binary", epochs=epochs)


healthy("tabular_skewed", "log_columns", tabular)
healthy("tabular_skewed", "normalization_layer", tabular, how="normalization")
healthy("tabular_skewed", "batch_norm_first", tabular, how="batch_norm", epochs=25)
broken("tabular_skewed", "raw", tabular, "inputs unscaled", {"raw": True})
broken(
    "tabular_skewed",
    "raw_sgd",
    tabular,
    "inputs unscaled",
    {"raw": True},
    also={"optimizer": "SGD", "rate": 0.01},
    how="normalization",
)
broken(
    "tabular_skewed", "labels_yes_no_as_one_two", tabular, "labels outside 0..1", {"targets": lambda y: y + 1}
)
broken(
    "tabular_skewed", "validation_not_scaled", tabular, "validation preprocessed otherwise",
    {"arrange": faults.validation_times(20.0, 40.0)}, belief=True,
)  # fmt: skip
broken(
    "tabular_skewed", "penalty", tabular, "penalty too strong", {"regularizer": keras.regularizers.L2(2.0)}
)
broken("tabular_skewed", "nan_cells", tabular, "NaN in the inputs", faults.NAN)
broken(
    "tabular_skewed", "batches_of_one", tabular, "batch too small", {"batch": 1}, how="batch_norm", epochs=5
)
broken(
    "tabular_skewed",
    "lagging_statistics",
    tabular,
    "batch norm lags",
    {"momentum": 0.9999},
    how="batch_norm",
    epochs=25,
)


# -- regression, with targets of any scale -----------------------------------------------------------------------------


def regression(
    kit: Kit,
    *,
    centre=0.0,
    size=1.0,
    loss="mse",
    rate=1e-2,
    epochs=40,
    width=32,
    what="friedman",
    cosine=False,
) -> Run:
    if what == "diabetes":
        x, y = data.bundled("diabetes")
        x, y = data.standardized(x), y.astype("float32")
    else:
        x, y = data.friedman(kit.rng)
    if size:
        y = (centre + size * (y - y.mean()) / y.std()).astype("float32")
    model = keras.Sequential([keras.Input(x.shape[1:]), kit.dense(width), kit.dense(width), kit.head(1)])
    rate = keras.optimizers.schedules.CosineDecay(rate, 14 * epochs) if cosine else rate
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["mae"])
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("regression_offset", "standardized", regression)
healthy("regression_offset", "twenty_two", regression, centre=22.0, size=4.0)
healthy(
    "regression_offset",
    "log_prices",
    regression,
    centre=12.0,
    size=0.4,
    epochs=100,
    rate=2e-2,
    cosine=True,
)
healthy("regression_offset", "kelvin", regression, centre=290.0, size=12.0, epochs=60, rate=2e-2)
healthy("regression_offset", "negative_huber", regression, centre=-40.0, size=9.0, loss="huber")
healthy("regression_offset", "diabetes_raw", regression, what="diabetes", size=0, epochs=40)
broken(
    "regression_offset",
    "price_sgd",
    regression,
    "targets unscaled",
    {"units": lambda y: 2e5 + 8e4 * y},
    also={"optimizer": "SGD", "rate": 0.01},
)
broken(
    "regression_offset", "far_targets", regression, "targets unscaled", {"units": lambda y: 30000 + 9000 * y}
)
broken(
    "regression_offset",
    "sigmoid_head",
    regression,
    "targets out of reach",
    {"head": "sigmoid"},
    centre=22.0,
    size=4.0,
)
broken(
    "regression_offset",
    "tanh_head",
    regression,
    "targets out of reach",
    {"head": "tanh"},
    centre=-40.0,
    size=9.0,
)
broken(
    "regression_offset",
    "relu_head",
    regression,
    "targets out of reach",
    {"head": "relu"},
    centre=-40.0,
    size=9.0,
    loss="huber",
)
broken(
    "regression_offset",
    "softmax_head",
    regression,
    "softmax on one unit",
    {"head": "softmax"},
    centre=22.0,
    size=4.0,
)
broken(
    "regression_offset",
    "binary_loss",
    regression,
    "cross-entropy for quantities",
    {"loss": "binary_crossentropy"},
    centre=22.0,
    size=4.0,
)
broken(
    "regression_offset", "binary_loss_sigmoid", regression, "cross-entropy for quantities",
    {"loss": "binary_crossentropy", "head": "sigmoid", "units": lambda y: np.round(1000 * y)},
    centre=14.0, size=5.0,
)  # fmt: skip
broken(
    "regression_offset",
    "leak",
    regression,
    "data leak",
    {"arrange": faults.leaking},
    belief=True,
    what="diabetes",
    size=0,
    epochs=150,
)
broken("regression_offset", "rate", regression, "rate too high", {"rate": 5.0}, also={"optimizer": "SGD"})
broken(
    "regression_offset",
    "shuffled_nan",
    regression,
    "NaN in the inputs",
    {"arrange": faults.shuffled_with_nan},
    centre=22.0,
    size=4.0,
)


# -- several labels per example ----------------------------------------------------------------------------------------


def multi_label(kit: Kit, *, labels=5, loss="binary_crossentropy", epochs=20, rate=5e-3) -> Run:
    x = kit.rng.normal(size=(700, 12)).astype("float32")
    plan = kit.rng.normal(size=(12, labels))
    y = (x @ plan + 0.5 * kit.rng.normal(size=(700, labels)) > 0.8).astype("float32")
    model = keras.Sequential([keras.Input((12,)), kit.dense(32), kit.head(labels, "sigmoid")])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["binary_accuracy"])
    return kit.run(model, x, y, "binary", epochs=epochs)


healthy("multi_label", "five", multi_label)
healthy("multi_label", "twelve_focal", multi_label, labels=12, loss="binary_focal_crossentropy", epochs=25)
broken(
    "multi_label",
    "softmax",
    multi_label,
    "several ones under softmax",
    {"head": "softmax", "loss": "categorical_crossentropy"},
)
broken("multi_label", "linear", multi_label, "logits as probabilities", {"head": None})
broken("multi_label", "labels_percent", multi_label, "labels outside 0..1", {"targets": lambda y: 100 * y})
broken("multi_label", "labels_shuffled", multi_label, "labels shuffled", {"arrange": faults.shuffled})


# -- two outputs -------------------------------------------------------------------------------------------------------


def multi_output(kit: Kit, *, centre=0.0, names=True, epochs=25) -> Run:
    x = kit.rng.normal(size=(700, 8)).astype("float32")
    kind = (x[:, 0] * x[:, 1] > 0).astype("int32") + (x[:, 2] > 0.5)
    amount = (centre + 3 * x[:, 3] + np.sin(2 * x[:, 4]) + 0.2 * kit.rng.normal(size=700)).astype("float32")
    entry = keras.Input((8,))
    trunk = kit.dense(48)(kit.dense(48)(entry))
    kinds = kit.head(3, "softmax", name="kind")(trunk)
    amounts = layers.Dense(1, activation=kit.get("amount_head"), name="amount")(trunk)
    model = keras.Model(entry, {"kind": kinds, "amount": amounts})
    weights = {"kind": 1.0, "amount": 0.2}
    kit.compile(
        model,
        {"kind": kit.get("kind_loss", "sparse_categorical_crossentropy"), "amount": "mse"},
        optimizer=kit.optimizer(rate=4e-3),
        loss_weights=weights,
    )

    def score(model, x, y):
        guess = model.predict(x, verbose=0)
        if not all(np.isfinite(part).all() for part in guess.values()):
            return -1.0
        right = np.mean(guess["kind"].argmax(-1) == y["kind"])
        error = np.mean((guess["amount"][:, 0] - y["amount"]) ** 2)
        return 0.5 * (
            above_chance(right, np.bincount(y["kind"]).max() / len(x)) + 1 - error / y["amount"].var()
        )

    return kit.run(model, x, {"kind": kind.astype("int32"), "amount": amount}, score, epochs=epochs)


def multi_regression(kit: Kit, *, centres=(5.0, -60.0, 300.0), epochs=60) -> Run:
    """One head for three targets, each at another level."""
    x = kit.rng.normal(size=(600, 6)).astype("float32")
    y = np.stack([c + (1 + abs(c) / 20) * np.tanh(x @ kit.rng.normal(size=6)) for c in centres], 1).astype(
        "float32"
    )
    model = keras.Sequential([keras.Input((6,)), kit.dense(48), kit.dense(48), kit.head(3)])
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=1e-2))

    def score(model, x, y):
        guess = model.predict(x, verbose=0)
        return np.mean(1 - np.mean((guess - y) ** 2, 0) / y.var(0)) if np.isfinite(guess).all() else -1.0

    return kit.run(model, x, y, score, epochs=epochs)


healthy("multi_output", "kind_and_amount", multi_output)
healthy("multi_output", "amount_far_off", multi_output, centre=25.0, epochs=30)
healthy("multi_output", "three_quantities", multi_regression)
broken(
    "multi_output", "labels_halved", multi_output, "labels not whole",
    {"targets": lambda y: {**y, "kind": (y["kind"] / 2).astype("float32")}},
)  # fmt: skip
broken("multi_output", "kind_linear", multi_output, "logits as probabilities", {"head": None})
broken(
    "multi_output",
    "amount_sigmoid",
    multi_output,
    "targets out of reach",
    {"amount_head": "sigmoid"},
    centre=25.0,
    epochs=30,
)
broken("multi_output", "rate", multi_output, "rate too high", {"rate": 3.0})
broken(
    "multi_output",
    "labels_from_one",
    multi_output,
    "labels beyond the units",
    {"targets": lambda y: {**y, "kind": y["kind"] + 1}},
)


# -- class weights -----------------------------------------------------------------------------------------------------


def class_weights(kit: Kit, *, share=0.08, how="class_weight", epochs=20) -> Run:
    count = 1200
    y = (kit.rng.random(count) < share).astype("int32")
    middle = kit.rng.normal(size=10)
    x = (1.1 * y[:, None] * middle + kit.rng.normal(size=(count, 10))).astype("float32")
    model = keras.Sequential([keras.Input((10,)), kit.dense(24), kit.head(1, "sigmoid")])
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=2e-3))

    def score(model, x, y):
        guess = model.predict(x, verbose=0)[:, 0] > 0.5
        return 2 * 0.5 * (np.mean(guess[y == 1]) + np.mean(~guess[y == 0])) - 1

    heavy = {0: 0.5 / (1 - share), 1: 0.5 / share}
    if how == "sample_weight" and not kit.get("unweighted"):
        run = kit.run(model, x, y, score, epochs=epochs)
        run.train = (*run.train, np.where(run.train[1] == 1, heavy[1], heavy[0]).astype("float32"))
        return run
    options = {} if kit.get("unweighted") else {"class_weight": heavy}
    return kit.run(model, x, y, score, epochs=epochs, **options)


healthy("class_weights", "one_in_twelve", class_weights)
healthy("class_weights", "sample_weights", class_weights, how="sample_weight")
broken(
    "class_weights",
    "forgotten",
    class_weights,
    "classes out of balance",
    {"unweighted": True},
    share=0.04,
    epochs=8,
)
broken("class_weights", "labels_one_two", class_weights, "labels outside 0..1", {"targets": lambda y: y + 1})
broken("class_weights", "exponential", class_weights, "logits as probabilities", {"head": "exponential"})
broken("class_weights", "softmax", class_weights, "softmax on one unit", {"head": "softmax"})


# -- fifty examples ----------------------------------------------------------------------------------------------------


def tiny(kit: Kit, *, what="blobs", count=50, epochs=40) -> Run:
    if what == "blobs":
        x, y = data.blobs(kit.rng, count=count * 5, classes=3, columns=8)
        task, head, loss = "sparse", (3, "softmax"), "sparse_categorical_crossentropy"
    else:
        x = kit.rng.uniform(-2, 2, (count * 5, 2)).astype("float32")
        y = (x[:, 0] - 0.7 * x[:, 1] + 0.1 * kit.rng.normal(size=len(x))).astype("float32")
        task, head, loss = "regress", (1, None), "mse"
    model = keras.Sequential([keras.Input(x.shape[1:]), kit.dense(16), kit.head(*head)])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=1e-2))
    return kit.run(model, x, y, task, epochs=epochs, batch=10, split=(0.2, 0.2))


healthy("tiny_data", "blobs", tiny)
healthy("tiny_data", "line", tiny, what="line")
broken("tiny_data", "rate_low", tiny, "rate too low", {"rate": 1e-5})
broken(
    "tiny_data", "leak", tiny, "data leak", {"arrange": faults.leaking}, belief=True, what="blobs", count=51
)
broken("tiny_data", "labels_shuffled", tiny, "labels shuffled", {"arrange": faults.shuffled})


# -- almost nothing to learn -------------------------------------------------------------------------------------------


def noise_floor(kit: Kit, *, what="regress", epochs=12) -> Run:
    x = kit.rng.normal(size=(2500, 5)).astype("float32")
    signal = 0.45 * x[:, 0] + 0.2 * x[:, 1]
    if what == "regress":
        y, task, head, loss = (
            (signal + kit.rng.normal(size=2500)).astype("float32"),
            "regress",
            (1, None),
            "mse",
        )
    else:
        y = (1.2 * signal + kit.rng.logistic(size=2500) > 0).astype("float32")
        task, head, loss = "binary", (1, "sigmoid"), "binary_crossentropy"
    model = keras.Sequential([keras.Input((5,)), kit.dense(8), kit.head(*head)])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, task, epochs=epochs, batch=64)


healthy("noise_floor", "returns", noise_floor, enough=0.08)  # at most 0.19 can be reached
healthy("noise_floor", "clicks", noise_floor, what="clicks", enough=0.08)
broken(
    "noise_floor",
    "sigmoid_head",
    noise_floor,
    "targets out of reach",
    {"head": "sigmoid"},
    also={"units": lambda y: y - 2},
    what="regress",
    epochs=30,
)
broken(
    "noise_floor",
    "labels_minus_one",
    noise_floor,
    "labels outside 0..1",
    {"targets": lambda y: 2 * y - 1},
    what="clicks",
    epochs=13,
)


# -- bag of words ------------------------------------------------------------------------------------------------------


def bag_of_words(kit: Kit, *, how="counts", epochs=12, rate=3e-3) -> Run:
    x, y = data.words(kit.rng)
    if how == "tags":
        again, z = data.words(kit.rng)
        x, y = x + again, np.maximum(np.eye(4)[y], np.eye(4)[z]).astype("float32")
    if how == "multi_hot":
        x = (x > 0).astype("float32")
    elif how == "tfidf":
        seen = np.log(len(x) / (1 + (x > 0).sum(0)))
        x = (x * seen / (np.linalg.norm(x * seen, axis=1, keepdims=True) + 1e-6)).astype("float32")
    model = keras.Sequential(
        [keras.Input((300,)), kit.dense(32), layers.Dropout(0.3), kit.head(4, "softmax")]
    )
    if how == "tags":
        model.pop()
        model.add(kit.head(4, "sigmoid"))
    loss = "binary_crossentropy" if how == "tags" else "sparse_categorical_crossentropy"
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    return kit.run(model, x, y, "binary" if how == "tags" else "sparse", epochs=epochs)


healthy("bag_of_words", "tags", bag_of_words, how="tags", epochs=15)
broken(
    "bag_of_words",
    "tags_softmax",
    bag_of_words,
    "several ones under softmax",
    {"head": "softmax", "loss": "categorical_crossentropy"},
    how="tags",
    epochs=15,
)
healthy("bag_of_words", "counts", bag_of_words)
healthy("bag_of_words", "multi_hot", bag_of_words, how="multi_hot")
healthy("bag_of_words", "tfidf", bag_of_words, how="tfidf", rate=1e-2)
broken("bag_of_words", "sigmoid_tanh", bag_of_words, "logits as probabilities", {"head": "tanh"})
broken(
    "bag_of_words",
    "labels_not_whole",
    bag_of_words,
    "labels not whole",
    {"targets": lambda y: (y / 4).astype("float32")},
    how="tfidf",
    rate=1e-2,
)
broken(
    "bag_of_words",
    "split_by_class",
    bag_of_words,
    "classes validation alone has",
    {"arrange": faults.split_by_class},
    how="tfidf",
    rate=1e-2,
)
broken("bag_of_words", "lacking", bag_of_words, "classes validation alone has", {"arrange": faults.lacking})


# -- counts, with an exponential head, which is right here -------------------------------------------------------------


def counts(kit: Kit, *, level=1.0, epochs=30) -> Run:
    x = kit.rng.normal(size=(800, 6)).astype("float32")
    mean = np.exp(level + 0.6 * x[:, 0] - 0.5 * x[:, 1] + 0.3 * np.abs(x[:, 2]))
    y = kit.rng.poisson(mean).astype("float32")
    model = keras.Sequential([keras.Input((6,)), kit.dense(24), kit.head(1, "exponential")])
    kit.compile(model, "poisson", optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("counts", "bicycles", counts)
healthy("counts", "calls_an_hour", counts, level=2.5)
broken("counts", "sigmoid", counts, "targets out of reach", {"head": "sigmoid"})
broken("counts", "inputs", counts, "inputs unscaled", {"inputs": lambda x: 3000 + 700 * x})
broken(
    "counts",
    "binary_loss",
    counts,
    "cross-entropy for quantities",
    {"loss": "binary_crossentropy", "head": "sigmoid"},
    level=2.5,
)


# -- margins: labels -1 and 1, which are right here --------------------------------------------------------------------


def margins(kit: Kit, *, loss="hinge", head="tanh", epochs=30) -> Run:
    x, y = data.moons(kit.rng)
    model = keras.Sequential([keras.Input((2,)), kit.dense(24), kit.dense(24), kit.head(1, head)])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=5e-3))
    return kit.run(model, x, (2 * y - 1).astype("float32"), "sign", epochs=epochs)


healthy("margins", "hinge_tanh", margins)
healthy("margins", "squared_hinge_linear", margins, loss="squared_hinge", head=None)
healthy("margins", "mse_of_signs", margins, loss="mse")
broken(
    "margins",
    "sigmoid_bce",
    margins,
    "labels outside 0..1",
    {"loss": "binary_crossentropy", "head": "sigmoid"},
)
broken(
    "margins",
    "clipped",
    margins,
    "clipping too hard",
    {"optimizer_options": {"clipvalue": 1e-5}},
    also={"optimizer": "SGD", "rate": 0.1},
)


# -- soft labels -------------------------------------------------------------------------------------------------------


def soft_labels(kit: Kit, *, how="smoothing", epochs=20) -> Run:
    x, y = data.blobs(kit.rng, classes=3)
    model = keras.Sequential(
        [keras.Input((10,)), kit.dense(32), kit.head(3, None if how == "annotators" else "softmax")]
    )
    one = np.eye(3, dtype="float32")[y]
    if how == "annotators":  # shares of five votes
        votes = np.stack([kit.rng.multinomial(5, 0.75 * row + 0.25 / 3) for row in one]) / 5
        loss, y = keras.losses.CategoricalCrossentropy(from_logits=True), votes.astype("float32")
    elif how == "smoothing":
        loss, y = keras.losses.CategoricalCrossentropy(label_smoothing=kit.get("smoothing", 0.1)), one
    else:
        loss, y = "kl_divergence", 0.9 * one + 0.1 / 3
    kit.compile(model, loss, optimizer=kit.optimizer(rate=5e-3))
    return kit.run(model, x, y, "onehot", epochs=epochs)


healthy("soft_labels", "smoothing", soft_labels)
healthy("soft_labels", "annotators", soft_labels, how="annotators")
healthy("soft_labels", "kl_divergence", soft_labels, how="kl")
broken(
    "soft_labels",
    "shares_linear",
    soft_labels,
    "logits as probabilities",
    {"loss": "categorical_crossentropy"},
    how="annotators",
)
broken("soft_labels", "shuffled", soft_labels, "labels shuffled", {"arrange": faults.shuffled}, how="kl")


# -- quantiles ---------------------------------------------------------------------------------------------------------


def quantiles(kit: Kit, *, centre=0.0, epochs=40) -> Run:
    x, y = data.friedman(kit.rng)
    y = (centre + (y - y.mean()) / y.std()).astype("float32")
    at = np.array([0.1, 0.5, 0.9], "float32")

    def pinball(true, guess):
        error = true - guess
        return ops.mean(ops.maximum(at * error, (at - 1) * error), axis=-1)

    model = keras.Sequential([keras.Input(x.shape[1:]), kit.dense(32), kit.dense(32), kit.head(3)])
    kit.compile(model, pinball, optimizer=kit.optimizer(rate=1e-2))

    def score(model, x, y):
        guess = model.predict(x, verbose=0)
        return 1 - np.mean(np.abs(guess[:, 1] - y[:, 0])) / np.mean(np.abs(y - np.median(y)))

    return kit.run(model, x, y[:, None], score, epochs=epochs)


healthy("quantiles", "three", quantiles)
healthy("quantiles", "three_far_off", quantiles, centre=20.0, epochs=50)
broken("quantiles", "rate", quantiles, "rate too high", {"rate": 20.0})
broken("quantiles", "metres", quantiles, "targets unscaled", {"units": lambda y: 50000 + 9000 * y})
broken("quantiles", "frozen", quantiles, "layers frozen", {"weights": faults.freeze})


# -- losses below zero -------------------------------------------------------------------------------------------------


def gaussian(true, guess):
    """Negative log-likelihood without its constant: below 0 if the deviation is small."""
    log_spread = ops.clip(guess[:, 1], -5.0, 5.0)
    return log_spread + 0.5 * ops.square((true[:, 0] - guess[:, 0]) / ops.exp(log_spread))


def negative_loss(kit: Kit, *, what="gaussian", epochs=30) -> Run:
    x = kit.rng.normal(size=(700, 6)).astype("float32")
    if what == "cosine":
        y = np.tanh(x @ kit.rng.normal(size=(6, 4))).astype("float32")
        loss, units = keras.losses.CosineSimilarity(), 4

        def score(model, x, y):
            return -float(np.mean(keras.losses.cosine_similarity(y, model.predict(x, verbose=0))))

    else:
        y = (0.1 * np.sin(2 * x[:, :1]) + 0.2 * x[:, 1:2] + 0.03 * kit.rng.normal(size=(700, 1))).astype(
            "float32"
        )
        loss, units = (gaussian, 2) if what == "gaussian" else (correlation, 1)

        def score(model, x, y):
            guess = model.predict(x, verbose=0)[:, :1]
            if what == "correlation":
                return float(np.corrcoef(guess[:, 0], y[:, 0])[0, 1])
            return 1 - np.mean((guess - y) ** 2) / y.var()

    model = keras.Sequential([keras.Input((6,)), kit.dense(32), kit.dense(32), kit.head(units)])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, score, epochs=epochs)


def correlation(true, guess):
    """Minus the correlation within the batch, as used for factors in finance."""
    true, guess = true - ops.mean(true), guess - ops.mean(guess)
    return -ops.mean(true * guess) / (ops.std(true) * ops.std(guess) + 1e-4)


healthy("negative_loss", "gaussian_likelihood", negative_loss)
healthy("negative_loss", "cosine_similarity", negative_loss, what="cosine")
healthy("negative_loss", "correlation", negative_loss, what="correlation")
broken("negative_loss", "frozen", negative_loss, "layers frozen", {"weights": faults.freeze}, what="cosine")
broken("negative_loss", "rate", negative_loss, "rate too high", {"rate": 10.0})
broken(
    "negative_loss",
    "labels_shuffled",
    negative_loss,
    "labels shuffled",
    {"arrange": faults.shuffled},
    what="cosine",
)


# -- coordinates to values ---------------------------------------------------------------------------------------------


def sine(x):
    return ops.sin(6.0 * x)


def coordinates(kit: Kit, *, how="sine", epochs=60) -> Run:
    """A picture as a function of its coordinates, with sine layers or Fourier features."""
    x = kit.rng.uniform(-1, 1, (700, 2)).astype("float32")
    y = (np.sin(5 * x[:, 0]) * np.cos(4 * x[:, 1])).astype("float32")
    if how == "fourier":
        plan = kit.rng.normal(size=(2, 16)) * 2
        x = np.concatenate([np.sin(x @ plan), np.cos(x @ plan)], 1).astype("float32")
    uniform = keras.initializers.RandomUniform(-0.15, 0.15)
    hidden = (
        [kit.dense(48, sine, initializer="he_uniform"), kit.dense(48, sine, initializer=uniform)]
        if how == "sine"
        else [kit.dense(48, "gelu"), kit.dense(48, "gelu")]
    )
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, kit.head(1)])
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("coordinates", "sine_layers", coordinates)
healthy("coordinates", "fourier_features", coordinates, how="fourier", epochs=40)
broken("coordinates", "relu_head", coordinates, "targets out of reach", {"head": "relu"})
broken(
    "coordinates",
    "pixels",
    coordinates,
    "inputs unscaled",
    {"inputs": lambda x: 500 * x},
    how="fourier",
    epochs=40,
)


# -- schedules and optimizers ------------------------------------------------------------------------------------------


def restarts(kit: Kit, *, how="restarts", epochs=24) -> Run:
    x, y = data.blobs(kit.rng, classes=5, spread=1.3)
    steps = 360 // 16 + 1
    schedule = {
        "restarts": keras.optimizers.schedules.CosineDecayRestarts(0.01, 6 * steps, t_mul=1.0, m_mul=1.0),
        "cosine": keras.optimizers.schedules.CosineDecay(
            0.0, epochs * steps, warmup_target=0.01, warmup_steps=3 * steps
        ),
        "steps": keras.optimizers.schedules.PiecewiseConstantDecay(
            [12 * steps, 18 * steps], [0.01, 0.001, 0.0001]
        ),
    }[how]
    early = keras.optimizers.schedules.ExponentialDecay(0.003, 4, 0.5)
    rate = early if kit.get("early") else kit.get("rate", schedule)
    model = keras.Sequential([keras.Input((10,)), kit.dense(32), kit.dense(32), kit.head(5, "softmax")])
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=epochs, batch=16)


healthy("restarts", "every_six_epochs", restarts)
healthy("restarts", "warm_up_and_cosine", restarts, how="cosine")
healthy("restarts", "two_steps", restarts, how="steps")
broken("restarts", "halved_every_four_steps", restarts, "rate decayed too early", {"early": True})
broken(
    "restarts", "warms_up_to_fifty", restarts, "rate too high",
    {"rate": keras.optimizers.schedules.CosineDecay(0.0, 552, warmup_target=50.0, warmup_steps=60)}, how="cosine",
)  # fmt: skip


def optimizers(kit: Kit, *, name="SGD", rate=0.05, options=(("momentum", 0.9),), epochs=15) -> Run:
    x, y = data.digits(800)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            kit.dense(48, "elu", initializer="he_normal"),
            kit.head(10, "softmax"),
        ]
    )
    optimizer = kit.optimizer(name, rate, **dict(options))
    kit.compile(model, "sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("optimizers", "momentum", optimizers)
healthy("optimizers", "lion", optimizers, name="Lion", rate=2e-3, options=())
healthy(
    "optimizers",
    "adamw_decay",
    optimizers,
    name="AdamW",
    rate=3e-3,
    options=(("weight_decay", 0.01), ("clipnorm", 1.0)),
)
healthy("optimizers", "rmsprop", optimizers, name="RMSprop", rate=1e-3, options=())
broken("optimizers", "decay", optimizers, "decay too strong", {"optimizer_options": {"weight_decay": 3.0}})
broken(
    "optimizers",
    "rate_with_decay",
    optimizers,
    "rate too high",
    {"rate": 100.0},
    also={"optimizer_options": {"weight_decay": 5e-4}},
)
broken(
    "optimizers",
    "in_order",
    optimizers,
    "missing shuffle",
    {"arrange": faults.in_order, "options": {"shuffle": False}},
)
broken("optimizers", "rate_low", optimizers, "rate too low", {"rate": 1e-6})
broken("optimizers", "clipped", optimizers, "clipping too hard", {"optimizer_options": {"clipnorm": 1e-4}})
broken(
    "optimizers", "decayed", optimizers, "rate decayed too early",
    {"rate": keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.7)},
)  # fmt: skip


# -- one epoch, huge dropout, accumulation, mixed precision ------------------------------------------------------------


def one_epoch(kit: Kit, *, classes=4, batch=8) -> Run:
    x, y = data.blobs(kit.rng, count=3000, classes=classes)
    model = keras.Sequential([keras.Input((10,)), kit.dense(32), kit.head(classes, "softmax")])
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=5e-3), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=1, batch=batch)


healthy("one_epoch", "four_classes", one_epoch)
healthy("one_epoch", "eight_classes_singles", one_epoch, classes=8, batch=4)
broken("one_epoch", "rate_low", one_epoch, "rate too low", {"rate": 1e-6})
broken("one_epoch", "labels_from_one", one_epoch, "labels beyond the units", {"targets": lambda y: y + 1})


def huge_dropout(kit: Kit, *, rate=0.7, gaussian_noise=False, epochs=30) -> Run:
    x, y = data.blobs(kit.rng, classes=3, count=500)
    rate = kit.get("dropout", rate)
    noise = layers.GaussianDropout(rate) if gaussian_noise else layers.Dropout(rate)
    model = keras.Sequential([keras.Input((10,)), kit.dense(128), noise, kit.dense(64), layers.Dropout(rate)])
    model.add(kit.head(3, "softmax"))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=3e-3), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("huge_dropout", "seven_tenths", huge_dropout)
healthy("huge_dropout", "gaussian", huge_dropout, gaussian_noise=True, rate=0.6)
broken("huge_dropout", "nearly_all", huge_dropout, "penalty too strong", {"dropout": 0.99}, epochs=12)
broken(
    "huge_dropout", "negative_bias", huge_dropout, "units dead", {"bias": keras.initializers.Constant(-50.0)}
)
broken(
    "huge_dropout",
    "deep_tanh_large",
    huge_dropout,
    "initial weights too large",
    {"initializer": keras.initializers.RandomNormal(0, 30)},
    also={"activation": "tanh", "rate": 1e-3},
)


def accumulation(kit: Kit, *, steps=4, epochs=30) -> Run:
    x, y = data.digits(700)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), kit.dense(48), kit.head(10, "softmax")]
    )
    optimizer = kit.optimizer(rate=4e-3, gradient_accumulation_steps=steps)
    kit.compile(model, "sparse_categorical_crossentropy", optimizer=optimizer)
    return kit.run(model, x, y, "sparse", epochs=epochs, batch=8)


healthy("accumulation", "four_micro_batches", accumulation, epochs=15)
healthy("accumulation", "sixteen", accumulation, steps=16)
broken("accumulation", "rate_high", accumulation, "rate too high", {"rate": 20.0}, epochs=15)
broken("accumulation", "hardly_a_step", accumulation, "rate too low", {"rate": 2e-6}, epochs=15)
broken(
    "accumulation",
    "shuffled_and_nan",
    accumulation,
    "NaN in the inputs",
    {"arrange": faults.shuffled_with_nan},
    epochs=15,
)


def mixed_precision(kit: Kit, *, policy="mixed_float16", what="digits", epochs=12) -> Run:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        if what == "digits":
            x, y = data.digits(700)
            body = [layers.Flatten(), kit.dense(48), kit.dense(32)]
            task, loss = "sparse", "sparse_categorical_crossentropy"
            head = kit.head(10, "softmax", dtype="float32")
        else:
            x, y = data.friedman(kit.rng)
            body, task, loss, head = [kit.dense(48)], "regress", "mse", kit.head(1, dtype="float32")
        model = keras.Sequential([keras.Input(x.shape[1:]), *body, head])
        optimizer = kit.optimizer(rate=3e-3 if what == "digits" else 2e-2)
        kit.compile(model, loss, optimizer=optimizer)
    finally:
        keras.config.set_dtype_policy(before)
    return kit.run(model, x, y, task, epochs=epochs, batch=16)


healthy("mixed_precision", "float16_digits", mixed_precision)
healthy(
    "mixed_precision",
    "bfloat16_regression",
    mixed_precision,
    policy="mixed_bfloat16",
    what="friedman",
    epochs=40,
)
broken("mixed_precision", "zeros", mixed_precision, "all weights zero", {"initializer": "zeros"})
broken("mixed_precision", "linear_head", mixed_precision, "logits as probabilities", {"head": None})
broken(
    "mixed_precision",
    "pixels_from_memory",
    mixed_precision,
    "inputs unscaled",
    {"inputs": lambda x: 60000 * x},
)


# -- custom gradients and custom layers --------------------------------------------------------------------------------


@tf.custom_gradient
def rounded_right(x):
    return tf.sin(x), lambda upstream: upstream * tf.cos(x)


@tf.custom_gradient
def rounded_wrong(x):
    return tf.sin(x), lambda upstream: -upstream * tf.cos(x)


class OwnActivation(layers.Layer):
    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def square_root(x):
    return ops.sqrt(x)


def own_layers(kit: Kit, *, function="sine", epochs=25) -> Run:
    x, y = data.friedman(kit.rng)
    y = (y - y.mean()) / y.std()
    usual = {"sine": rounded_right, "root": lambda x: ops.sqrt(ops.relu(x) + 1e-3)}[function]
    own = OwnActivation(kit.get("own", usual), name="own")
    model = keras.Sequential([keras.Input(x.shape[1:]), kit.dense(48, None), own, kit.dense(24), kit.head(1)])
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=5e-3))
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("own_layers", "sine_with_own_gradient", own_layers)
healthy("own_layers", "safe_root", own_layers, function="root")
broken(
    "own_layers",
    "sign_of_gradient",
    own_layers,
    "gradient wrong",
    {"own": rounded_wrong},
    also={"optimizer": "SGD", "rate": 0.05},
)
broken(
    "own_layers", "root_of_negatives", own_layers, "NaN from a layer", {"own": square_root}, function="root"
)
broken("own_layers", "logarithm", own_layers, "NaN from a layer", {"own": ops.log})
