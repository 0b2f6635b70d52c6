"""The second unseen set, programs that only call `fit`: small versions of programs in public questions.

If a fault comes from a question, its address is beside the family; data and code are our own.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, broken, healthy

# -- a number against a threshold (geeksmental.com/question/why-does-accuracy-remain-the-same) ------------------------


def threshold(kit: Kit, *, entry=None, epochs=30) -> Run:
    x = kit.rng.uniform(0, 1, (700, 1)).astype("float32")
    y = (x[:, 0] > 0.5).astype("float32")
    first = [layers.Normalization(mean=0.5, variance=1 / 12)] if entry == "normalization" else []
    model = keras.Sequential([keras.Input((1,)), *first, kit.dense(8), kit.dense(8), kit.head(1, "sigmoid")])
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=0.01), metrics=["accuracy"])
    return kit.run(model, x, y, "binary", epochs=epochs)


healthy("threshold", "scaled", threshold)
healthy("threshold", "normalization", threshold, entry="normalization", epochs=20)
broken("threshold", "hundred_thousand", threshold, "inputs unscaled", {"inputs": lambda x: 1e5 * x})
broken("threshold", "relu", threshold, "rectified head under cross-entropy", {"head": "relu"})
broken("threshold", "labels_one_two", threshold, "labels outside 0..1", {"targets": lambda y: y + 1})


# -- powers of a number (stackoverflow.com/questions/52800582) ---------------------------------------------------------


def powers(kit: Kit, *, power=2, activation="tanh", epochs=60) -> Run:
    x = kit.rng.uniform(-2, 2, (600, 1)).astype("float32")
    y = x[:, 0] ** power + 3
    model = keras.Sequential(
        [keras.Input((1,)), kit.dense(24, activation), kit.dense(24, activation), kit.head(1)]
    )
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=0.01))
    return kit.run(model, x, y.astype("float32"), "regress", epochs=epochs)


healthy("powers", "square", powers)
healthy("powers", "cube_elu", powers, power=3, activation="elu")
broken("powers", "fourth_in_millions", powers, "targets unscaled", {"units": lambda y: 1e6 * y}, power=4)
broken("powers", "sigmoid_head", powers, "targets out of reach", {"head": "sigmoid"})
broken("powers", "steps", powers, "rate too high", {"rate": 3.0}, also={"optimizer": "SGD"})


# -- exam marks out of 50 ----------------------------------------------------------------------------------------------


def marks(kit: Kit, *, how="linear", epochs=60) -> Run:
    """Hours of sleep, study, screen time and play as inputs; an exam mark of 0 to 50 as target."""
    hours = kit.rng.uniform(0, 10, (700, 4)).astype("float32")
    pull = 0.8 * (hours[:, 1] - 5) + 0.4 * (hours[:, 0] - 5) - 0.3 * (hours[:, 2] - 5)
    y = 50 / (1 + np.exp(-pull)) + kit.rng.normal(size=700)
    last = [layers.Rescaling(50.0)] if how == "rescaled" else []
    model = keras.Sequential([keras.Input((4,)), layers.Rescaling(0.4, -2.0), kit.dense(24)])
    for layer in [kit.head(1, "sigmoid" if last else None), *last]:
        model.add(layer)
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=0.02))
    return kit.run(model, hours, np.clip(y, 0, 50).astype("float32"), "regress", epochs=epochs)


healthy("marks", "linear", marks)
healthy("marks", "sigmoid_times_fifty", marks, how="rescaled")
broken("marks", "sigmoid", marks, "targets out of reach", {"head": "sigmoid"})
broken("marks", "softmax", marks, "softmax on one unit", {"head": "softmax"})


# -- spectra: convolutions along one axis ------------------------------------------------------------------------------


def spectra(kit: Kit, *, norm=False, epochs=15) -> Run:
    """Spectra of four substances: each has two lines, on a sloping baseline."""
    places = np.array([[8, 20], [8, 30], [14, 36], [22, 36]])
    y = kit.rng.integers(0, 4, 700)
    axis = np.arange(48)
    lines = sum(np.exp(-(((axis - places[y, i][:, None]) / 1.5) ** 2)) for i in range(2))
    slope = kit.rng.uniform(-0.02, 0.02, (700, 1)) * axis
    x = (lines + slope + 0.3 * kit.rng.normal(size=(700, 48)))[..., None].astype("float32")
    model = keras.Sequential([keras.Input((48, 1))])
    for filters in (8, 16):
        model.add(layers.Conv1D(filters, 5, padding="same", use_bias=not norm, **without_bias(kit, norm)))
        if norm:
            model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.MaxPooling1D(2))
    for layer in (layers.Flatten(), kit.dense(24), kit.head(4, "softmax")):
        model.add(layer)
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=3e-3), metrics=["accuracy"]
    )
    return kit.run(model, x, y.astype("int32"), "sparse", epochs=epochs)


def without_bias(kit, norm):
    return {key: value for key, value in kit.hidden().items() if not (norm and key == "bias_initializer")}


healthy("spectra", "plain", spectra)
healthy("spectra", "batch_norm", spectra, norm=True)
broken("spectra", "labels_from_one", spectra, "labels beyond the units", {"targets": lambda y: y + 1})
broken("spectra", "zeros", spectra, "all weights zero", {"initializer": "zeros"})
broken("spectra", "biases", spectra, "units dead", {"bias": keras.initializers.Constant(-20.0)})
broken("spectra", "raw_counts_in_validation", spectra, "validation preprocessed otherwise",
       {"arrange": faults.validation_times(40.0, 100.0)}, belief=True)  # fmt: skip


# -- sequence to sequence ----------------------------------------------------------------------------------------------


def seq2seq(kit: Kit, *, attend=False, epochs=14) -> Run:
    """Reverse five tokens: an encoder, and a decoder that gets the previous output tokens."""
    x = kit.rng.integers(1, 9, (900, 5))
    y = x[:, ::-1]
    said = np.concatenate([np.zeros((900, 1), int), y[:, :-1]], 1)
    entries = {"heard": keras.Input((5,), name="heard"), "said": keras.Input((5,), name="said")}
    heard, state = layers.GRU(48, return_sequences=True, return_state=True)(
        layers.Embedding(9, 16)(entries["heard"])
    )
    stream = layers.GRU(48, return_sequences=True)(
        layers.Embedding(9, 16)(entries["said"]), initial_state=state
    )
    if attend:
        stream = layers.Concatenate()([stream, layers.Attention(use_scale=True)([stream, heard])])
    model = keras.Model(entries, kit.head(9, "softmax")(stream))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=0.01), metrics=["accuracy"]
    )
    inputs = {"heard": x.astype("int32"), "said": said.astype("int32")}
    return kit.run(model, inputs, y.astype("int32"), "sparse", epochs=epochs)


healthy("seq2seq", "reverse", seq2seq)
healthy("seq2seq", "reverse_attending", seq2seq, attend=True)
broken("seq2seq", "rate", seq2seq, "rate too high", {"rate": 2.0})
broken("seq2seq", "token_beyond", seq2seq, "labels beyond the units", {"targets": lambda y: y + 1})
broken("seq2seq", "logits", seq2seq, "logits as probabilities", {"head": None})


# -- the next character ------------------------------------------------------------------------------------------------


def next_character(kit: Kit, *, how="gru", epochs=12) -> Run:
    """A sequence of syllables of three letters: predict the next letter at each position."""
    syllables = np.array([[0, 1, 2], [3, 4, 1], [5, 0, 4], [2, 6, 7]])
    ids = syllables[kit.rng.integers(0, 4, (600, 8))].reshape(600, 24)
    x, y = ids[:, :-1], ids[:, 1:]
    stream = entry = keras.Input((23,))
    stream = layers.Embedding(8, 12)(stream)
    if how == "gru":
        stream = layers.GRU(32, return_sequences=True)(stream)
    else:
        for spread in (1, 2):
            stream = layers.Conv1D(24, 3, padding="causal", dilation_rate=spread, activation="relu")(stream)
    model = keras.Model(entry, kit.head(8)(stream))
    kit.compile(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                optimizer=kit.optimizer(rate=0.01), metrics=["accuracy"])  # fmt: skip
    return kit.run(model, x.astype("int32"), y.astype("int32"), "sparse", epochs=epochs)


healthy("next_character", "gru", next_character)
healthy("next_character", "causal", next_character, how="convolutions")
broken("next_character", "rate_low", next_character, "rate too low", {"rate": 1e-7})
broken(
    "next_character",
    "shuffled",
    next_character,
    "labels shuffled",
    {"arrange": faults.shuffled},
    also={"epochs": 25},
)


# -- recommendations (stackoverflow.com: "why keras embedding not learning"; forums.fast.ai/t/3859) --------------------


def recommender(kit: Kit, *, how="joined", epochs=20) -> Run:
    """60 users and 40 items: predict a rating of 1 to 5, or whether the user likes the item."""
    people, things = kit.rng.normal(size=(60, 3)), kit.rng.normal(size=(40, 3))
    who, what = kit.rng.integers(0, 60, 2400), kit.rng.integers(0, 40, 2400)
    score = (people[who] * things[what]).sum(1) + 0.2 * kit.rng.normal(size=2400)
    rating = np.clip(np.round(3 + score), 1, 5)
    entries = {name: keras.Input((1,), name=name) for name in ("who", "what")}
    penalty = kit.get("regularizer")
    one = layers.Flatten()(layers.Embedding(60, 8, embeddings_regularizer=penalty)(entries["who"]))
    two = layers.Flatten()(layers.Embedding(40, 8, embeddings_regularizer=penalty)(entries["what"]))
    x = {"who": who[:, None].astype("int32"), "what": what[:, None].astype("int32")}
    if how == "product":
        model = keras.Model(entries, layers.Dense(1)(layers.Multiply()([one, two])))
        kit.compile(model, "mse", optimizer=kit.optimizer(rate=0.01))
        return kit.run(model, x, rating.astype("float32"), "regress", epochs=epochs)
    joined = kit.dense(32)(layers.Concatenate()([one, two, layers.Multiply()([one, two])]))
    model = keras.Model(entries, kit.head(1, "sigmoid")(joined))
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=0.01), metrics=["accuracy"])
    return kit.run(model, x, (score > 0).astype("float32"), "binary", epochs=epochs)


healthy("recommender", "liked", recommender, epochs=6)
healthy("recommender", "ratings", recommender, how="product")
broken(
    "recommender",
    "relu",
    recommender,
    "rectified head under cross-entropy",
    {"head": "relu"},
    also={"rate": 0.1},
    epochs=6,
)
broken("recommender", "softmax", recommender, "softmax on one unit", {"head": "softmax"}, epochs=6)
broken(
    "recommender",
    "penalty",
    recommender,
    "penalty too strong",
    {"regularizer": keras.regularizers.L2(0.5)},
    how="product",
)


# -- a picture and a table together ------------------------------------------------------------------------------------


def two_inputs(kit: Kit, *, join="concatenate", epochs=12) -> Run:
    """A picture of a shape and three columns of a table, which decide together whether the label is 1."""
    picture, kind, _ = data.shapes(kit.rng, 700)
    table = kit.rng.normal(size=(700, 3)).astype("float32")
    table[:, 0] += 2.5 * ((kind == 1) ^ (kit.rng.random(700) < 0.15)) - 1
    y = (0.8 * table[:, 0] + 0.6 * table[:, 1] + (kind == 1) > 0.4).astype("float32")
    entries = {"picture": keras.Input((16, 16, 1), name="picture"), "table": keras.Input((3,), name="table")}
    seen = layers.GlobalMaxPooling2D()(kit.conv(8)(layers.MaxPooling2D()(kit.conv(8)(entries["picture"]))))
    sides = [kit.dense(16)(seen), kit.dense(16)(entries["table"])]
    joined = layers.Concatenate()(sides) if join == "concatenate" else layers.Add()(sides)
    model = keras.Model(entries, kit.head(1, "sigmoid")(kit.dense(16)(joined)))
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=5e-3), metrics=["accuracy"])
    return kit.run(model, {"picture": picture, "table": table}, y, "binary", epochs=epochs)


healthy("two_inputs", "concatenated", two_inputs)
healthy("two_inputs", "added", two_inputs, join="add")
broken("two_inputs", "money", two_inputs, "inputs unscaled",
       {"inputs": lambda x: {**x, "table": (30000 + 20000 * x["table"]).astype("float32")}})  # fmt: skip
broken("two_inputs", "large_weights", two_inputs, "initial weights too large",
       {"initializer": keras.initializers.RandomNormal(stddev=10.0)})  # fmt: skip
broken(
    "two_inputs",
    "exponential",
    two_inputs,
    "logits as probabilities",
    {"head": "exponential"},
    also={"rate": 0.03},
)


# -- rare events -------------------------------------------------------------------------------------------------------


def balanced(model, x, y):
    """Mean recall of both classes, rescaled so that chance is 0."""
    guess = model.predict(x, verbose=0)[:, 0]
    if not np.isfinite(guess).all():
        return -1.0
    return np.mean(guess[y == 1] > 0.5) + np.mean(guess[y == 0] <= 0.5) - 1


def rare_events(kit: Kit, *, focal=False, epochs=15) -> Run:
    """One example in twenty is a fraud."""
    y = (kit.rng.random(2000) < 0.05).astype("float32")
    x = kit.rng.normal(size=(2000, 8)).astype("float32")
    x[:, :4] += 0.8 * y[:, None]
    loss = keras.losses.BinaryFocalCrossentropy(True, alpha=0.95) if focal else "binary_crossentropy"
    model = keras.Sequential([keras.Input((8,)), kit.dense(16), kit.head(1, "sigmoid")])
    kit.compile(model, loss, optimizer=kit.optimizer(rate=5e-3), metrics=["AUC"])
    weights = {} if focal else {"class_weight": {0: 1.0, 1: 19.0}}
    return kit.run(model, x, y, balanced, epochs=epochs, batch=64, **{**weights, **kit.get("fit", {})})


healthy("rare_events", "weighted", rare_events)
healthy("rare_events", "focal", rare_events, focal=True)
broken("rare_events", "unweighted", rare_events, "classes out of balance", {"fit": {"class_weight": None}})
broken(
    "rare_events",
    "labels_zero_hundred",
    rare_events,
    "labels outside 0..1",
    {"targets": lambda y: 100 * y},
    focal=True,
)
broken("rare_events", "rate", rare_events, "rate too high", {"rate": 30.0})


# -- denoising pictures ------------------------------------------------------------------------------------------------


def denoising(kit: Kit, *, what="noise", epochs=12) -> Run:
    """Predict the added noise (positive and negative), or the clean picture (0 to 1)."""
    clean, _ = data.digits(900)
    noise = kit.rng.normal(size=clean.shape).astype("float32")
    entry = keras.Input((8, 8, 1))
    stream = kit.conv(24)(kit.conv(24)(entry))
    last = layers.Conv2D(
        1, 3, padding="same", activation=kit.get("head", None if what == "noise" else "sigmoid")
    )
    model = keras.Model(entry, last(stream))
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=3e-3))
    y = noise if what == "noise" else clean
    return kit.run(model, clean + 0.7 * noise, y, "regress", epochs=epochs)


healthy("denoising", "noise", denoising)
healthy("denoising", "clean", denoising, what="clean")
broken("denoising", "relu", denoising, "targets out of reach", {"head": "relu"})
broken("denoising", "zeros", denoising, "all weights zero", {"initializer": "zeros", "weights": faults.zero})
broken("denoising", "rate_low", denoising, "rate too low", {"rate": 1e-8})


# -- keypoints (github.com/ZheC/Realtime_Multi-Person_Pose_Estimation/issues/224) --------------------------------------


def keypoints(kit: Kit, *, how="share", epochs=25) -> Run:
    """Find the bright spot in a picture of 12 x 12: in pixels, as a fraction of the side, or as a heat map."""
    place = kit.rng.uniform(2, 9, (800, 2))
    row, column = np.mgrid[:12, :12]
    away = (row - place[:, 0, None, None]) ** 2 + (column - place[:, 1, None, None]) ** 2
    spot = np.exp(-away / 3)[..., None]
    x = (spot + 0.1 * kit.rng.normal(size=spot.shape)).astype("float32")
    stream = entry = keras.Input((12, 12, 1))
    stream = kit.conv(12)(stream)
    if how == "map":
        stream = layers.Conv2D(1, 3, padding="same", activation=kit.get("head", "sigmoid"))(
            kit.conv(12)(stream)
        )
    else:
        stream = kit.head(2)(kit.dense(48)(layers.Flatten()(layers.MaxPooling2D()(stream))))
    model = keras.Model(entry, stream)
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=2e-3))
    y = {"map": np.exp(-away / 1.5)[..., None], "share": place / 12, "pixels": place}[how].astype("float32")
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("keypoints", "share", keypoints)
healthy("keypoints", "pixels", keypoints, how="pixels")
healthy("keypoints", "map", keypoints, how="map", epochs=15)
broken(
    "keypoints", "pixels_from_a_sigmoid", keypoints, "targets out of reach", {"head": "sigmoid"}, how="pixels"
)
broken("keypoints", "pixels_from_tanh", keypoints, "targets out of reach", {"head": "tanh"}, how="pixels")
broken("keypoints", "one_picture", keypoints, "inputs constant", {"arrange": faults.constant_inputs})
broken(
    "keypoints",
    "map_of_dead",
    keypoints,
    "units dead",
    {"bias": keras.initializers.Constant(-10.0)},
    how="map",
    epochs=15,
)


# -- loaders: tf.data, generators (github.com/tensorflow/tensorflow/issues/12789) -------------------------------------


class Pages(keras.utils.PyDataset):
    def __init__(self, x, y, **options):
        super().__init__(**options)
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 32

    def __getitem__(self, i):
        return self.x[32 * i : 32 * i + 32], self.y[32 * i : 32 * i + 32]


def loaders(kit: Kit, *, how="endless", epochs=12) -> Run:
    x, y = data.digits(1200)
    model = keras.Sequential([keras.Input((8, 8, 1)), kit.conv(12), layers.MaxPooling2D(), layers.Flatten()])
    model.add(kit.dense(32))
    model.add(kit.head(10, "softmax"))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=2e-3), metrics=["accuracy"]
    )
    run = kit.run(model, x, y, "sparse", epochs=epochs)
    (x, y), validation = run.train, run.validation
    if how == "pages":
        run.train = Pages(x, y)
    else:
        train = tf.data.Dataset.from_tensor_slices((x, y))
        if kit.get("shuffle", True):
            train = train.shuffle(len(x), seed=kit.seed)
        train = train.batch(32)
        if how == "endless":
            run.options["steps_per_epoch"] = len(train)
            train = train.repeat()
        run.train = train.prefetch(2)
    run.validation = tf.data.Dataset.from_tensor_slices(validation).batch(64)
    return run


healthy("loaders", "endless", loaders)
healthy("loaders", "pages", loaders, how="pages")
healthy("loaders", "batches", loaders, how="batches")
broken(
    "loaders",
    "folder_by_folder",
    loaders,
    "missing shuffle",
    {"arrange": faults.in_order, "shuffle": False},
    how="batches",
    epochs=6,
)
broken("loaders", "validation_of_bytes", loaders, "validation preprocessed otherwise",
       {"arrange": faults.validation_times(255.0)}, belief=True, how="batches")  # fmt: skip
broken(
    "loaders",
    "labels_shuffled",
    loaders,
    "labels shuffled",
    {"arrange": faults.shuffled},
    how="batches",
    epochs=25,
)


# -- few steps with batch normalization (github.com/tensorflow/tensorflow/issues/36446, keras/issues/7005) ------------


def few_steps(kit: Kit, *, norm="batch", epochs=25) -> Run:
    x, y = data.gratings(kit.rng, 300)
    model = keras.Sequential([keras.Input((12, 12, 1))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        if norm == "batch":
            model.add(layers.BatchNormalization(momentum=kit.get("momentum", 0.6)))
        else:
            model.add(layers.GroupNormalization(4))
        model.add(layers.Activation("relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(kit.head(3, "softmax"))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=0.01), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=epochs, batch=64)


healthy("few_steps", "momentum_fits", few_steps)
healthy("few_steps", "groups", few_steps, norm="groups")
broken("few_steps", "momentum", few_steps, "batch norm lags", {"momentum": 0.9995})
broken("few_steps", "decay", few_steps, "decay too strong", {"optimizer_options": {"weight_decay": 50.0}},
       also={"optimizer": "AdamW"}, norm="groups")  # fmt: skip


# -- graphs ------------------------------------------------------------------------------------------------------------


class Neighbours(layers.Layer):
    """A graph convolution: one matrix for a node's own features, one for the mean of its neighbors' features."""

    def __init__(self, units, options, **rest):
        super().__init__(**rest)
        self.own, self.others = (
            layers.Dense(units, **options),
            layers.Dense(units, **{**options, "activation": None}),
        )

    def build(self, shapes):
        self.own.build(shapes[0])
        self.others.build(shapes[0])

    def call(self, inputs):
        nodes, edges = inputs
        near = ops.matmul(edges, nodes) / (ops.sum(edges, -1, keepdims=True) + 1.0)
        return ops.relu(self.own(nodes) + self.others(near))


def graphs(kit: Kit, *, pool="mean", epochs=20) -> Run:
    """Graphs of ten nodes of two kinds: are neighbors mostly of the same kind?"""
    y = kit.rng.integers(0, 2, 700)
    kind = kit.rng.integers(0, 2, (700, 10))
    alike = kind[:, :, None] == kind[:, None, :]
    share = np.where(alike == y[:, None, None].astype(bool), 0.5, 0.15)
    edges = np.triu(kit.rng.random((700, 10, 10)) < share, 1)
    edges = (edges | edges.transpose(0, 2, 1)).astype("float32")
    nodes = (np.eye(2)[kind] + 0.1 * kit.rng.normal(size=(700, 10, 2))).astype("float32")
    entries = {"nodes": keras.Input((10, 2), name="nodes"), "edges": keras.Input((10, 10), name="edges")}
    stream = entries["nodes"]
    for units in (16, 16):
        stream = Neighbours(units, kit.hidden())([stream, entries["edges"]])
    whole = (ops.mean if pool == "mean" else ops.max)(stream, axis=1)
    model = keras.Model(entries, kit.head(1)(kit.dense(16)(whole)))
    kit.compile(model, keras.losses.BinaryCrossentropy(from_logits=True), optimizer=kit.optimizer(rate=5e-3))
    return kit.run(model, {"nodes": nodes, "edges": edges}, y.astype("float32"), "logit", epochs=epochs)


healthy("graphs", "mean", graphs)
healthy("graphs", "greatest", graphs, pool="max")
broken("graphs", "all_equal", graphs, "all weights equal", {"initializer": keras.initializers.Constant(0.2)})
broken("graphs", "steps", graphs, "rate too high", {"rate": 20.0})
broken("graphs", "clipped", graphs, "clipping too hard", {"optimizer_options": {"clipnorm": 1e-5}},
       also={"optimizer": "SGD", "rate": 0.5, "epochs": 40})  # fmt: skip
