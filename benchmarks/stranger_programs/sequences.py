"""Families whose inputs are sequences: of numbers and of tokens."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, broken, healthy
from benchmarks.stranger_programs.pictures import Places, encoder

# -- recurrent networks ------------------------------------------------------------------------------------------------


def recurrent(kit: Kit, *, cell="LSTM", both=False, epochs=12, rate=1e-2) -> Run:
    x, y = data.waves(kit.rng)
    layer = getattr(layers, cell)(
        kit.get("units", 20),
        dropout=kit.get("dropout", 0.0),
        kernel_initializer=kit.get("initializer", "glorot_uniform"),
    )
    model = keras.Sequential([keras.Input((24, 1)), layers.Bidirectional(layer) if both else layer])
    model.add(kit.head(3, "softmax"))
    optimizer = kit.optimizer(rate=rate, clipnorm=1.0)
    kit.compile(model, "sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("recurrent", "lstm", recurrent)
healthy("recurrent", "gru", recurrent, cell="GRU")
healthy("recurrent", "both_ways", recurrent, both=True, epochs=10)
broken("recurrent", "unscaled", recurrent, "inputs unscaled", {"inputs": lambda x: 5000 + 1000 * x})
broken("recurrent", "rate", recurrent, "rate too high", {"rate": 10.0}, cell="GRU")
broken("recurrent", "rate_low", recurrent, "rate too low", {"rate": 1e-6})
broken(
    "recurrent",
    "clipped",
    recurrent,
    "clipping too hard",
    {"optimizer_options": {"clipnorm": 1e-5}},
    also={"optimizer": "SGD", "rate": 0.5},
    cell="GRU",
    epochs=20,
)
broken(
    "recurrent",
    "labels_not_whole",
    recurrent,
    "labels not whole",
    {"targets": lambda y: (y / 3).astype("float32")},
)
broken(
    "recurrent",
    "split_by_class",
    recurrent,
    "classes validation alone has",
    {"arrange": faults.split_by_class},
    cell="GRU",
)
broken(
    "recurrent",
    "in_order",
    recurrent,
    "missing shuffle",
    {"arrange": faults.in_order, "options": {"shuffle": False}},
)
broken("recurrent", "linear_head", recurrent, "logits as probabilities", {"head": None})
broken(
    "recurrent",
    "nan_reading",
    recurrent,
    "NaN in the inputs",
    {"arrange": lambda t, v, rng: ((holes(t[0], rng), t[1]), v)},
)
broken(
    "recurrent",
    "validation_unscaled",
    recurrent,
    "validation preprocessed otherwise",
    {"arrange": faults.validation_times(40.0, 300.0)},
    belief=True,
)
broken(
    "recurrent",
    "saturated",
    recurrent,
    "initial weights too large",
    {"initializer": keras.initializers.RandomNormal(0, 100.0)},
    also={"rate": 0.003},
    cell="GRU",
)


def holes(x, rng):
    x = np.array(x)
    x[rng.permutation(len(x))[:20], 3] = np.nan
    return x


# -- forecasts ---------------------------------------------------------------------------------------------------------


def forecasting(kit: Kit, *, how="lstm", level=0.0, epochs=15, rate=5e-3) -> Run:
    x, y = data.forecast(kit.rng)
    x, y = kit.get("series", lambda x: x)(x), kit.get("series", lambda x: x)(y)
    y = y + np.float32(level)
    entry = [keras.Input((16, 1))]
    if how == "lstm":
        body = [layers.LSTM(16)]
    elif how == "causal":
        body = [layers.Conv1D(12, 2, padding="causal", dilation_rate=d, **kit.hidden()) for d in (1, 2, 4)]
        body.append(layers.Flatten())
    else:
        body = [layers.Flatten(), kit.dense(24)]
    model = keras.Sequential([*entry, *body, kit.head(1)])
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=rate), metrics=["mae"])
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("forecasting", "lstm", forecasting)
healthy("forecasting", "causal_convolutions", forecasting, how="causal", epochs=12)
healthy("forecasting", "dense_level_of_eighteen", forecasting, how="dense", level=18.0, epochs=60, rate=1e-2)
broken(
    "forecasting",
    "relu_head",
    forecasting,
    "targets out of reach",
    {"head": "relu"},
    also={"units": lambda y: y - 3},
)
broken(
    "forecasting",
    "sigmoid_head",
    forecasting,
    "targets out of reach",
    {"head": "sigmoid"},
    how="causal",
    epochs=12,
)
broken("forecasting", "prices", forecasting, "targets unscaled", {"units": lambda y: 40000 + 3000 * y})
broken("forecasting", "rate", forecasting, "rate too high", {"rate": 5.0}, how="causal", epochs=12)
broken(
    "forecasting", "zeros", forecasting, "all weights zero", {"initializer": "zeros"}, how="causal", epochs=12
)
broken(
    "forecasting",
    "shuffled",
    forecasting,
    "labels shuffled",
    {"arrange": faults.shuffled},
    how="dense",
    epochs=15,
)
broken(
    "forecasting",
    "binary_loss",
    forecasting,
    "cross-entropy for quantities",
    {"loss": "binary_crossentropy"},
    how="dense",
    level=18.0,
    epochs=60,
    rate=1e-2,
)
broken(
    "forecasting",
    "readings_in_pascal",
    forecasting,
    "inputs unscaled",
    {"inputs": lambda x: 101325 + 400 * x},
)


# -- transformers ------------------------------------------------------------------------------------------------------


def transformer(
    kit: Kit, *, first=True, vocabulary=200, depth=1, epochs=12, rate=2e-3, what="sentences"
) -> Run:
    if what == "sentences":
        x, y = data.sentences(kit.rng, vocabulary=vocabulary)
        task = "sparse"
    else:  # predict the next token, like a language model
        x = np.cumsum(kit.rng.integers(1, 3, (500, 16)), 1) % 12
        x, y, task = x[:, :-1].astype("int32"), x[:, 1:].astype("int32"), next_token
    width = 24
    entry = keras.Input(x.shape[1:], dtype="int32")
    stream = Places()(layers.Embedding(vocabulary, width)(entry))
    if what == "sentences":
        for _ in range(depth):
            stream = encoder(kit, stream, width, 2, first=first, dropout=0.1)
        stream = layers.GlobalAveragePooling1D()(stream)
        model = keras.Model(entry, kit.head(2, "softmax")(stream))
    else:
        normal = layers.LayerNormalization()(stream)
        attention = layers.MultiHeadAttention(2, 12)(normal, normal, use_causal_mask=True)
        stream = layers.Add()([stream, attention])
        stream = layers.Add()(
            [stream, layers.Dense(width)(kit.dense(48)(layers.LayerNormalization()(stream)))]
        )
        model = keras.Model(entry, kit.head(12, kit.get("lm_head", None))(stream))
    loss = "sparse_categorical_crossentropy"
    if what != "sentences":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    return kit.run(model, x, y, task, epochs=epochs)


def next_token(model, x, y):
    """Accuracy, rescaled: there are two possible next tokens, so 0.5 is the best accuracy."""
    guess = model.predict(x, verbose=0)
    return 2 * (np.mean(guess.argmax(-1) == y) - 1 / 12) if np.isfinite(guess).all() else -1.0


healthy("transformer", "norm_first", transformer)
healthy("transformer", "norm_after", transformer, first=False, epochs=14)
healthy("transformer", "language_model", transformer, what="tokens", vocabulary=12, epochs=10, rate=5e-3)
broken("transformer", "rate", transformer, "rate too high", {"rate": 3.0})
broken("transformer", "rate_low", transformer, "rate too low", {"rate": 1e-7})
broken("transformer", "labels_one_two", transformer, "labels beyond the units", {"targets": lambda y: y + 1})
broken(
    "transformer",
    "tanh_head",
    transformer,
    "logits as probabilities",
    {"head": "tanh"},
    first=False,
    epochs=14,
    rate=4e-3,
)
broken(
    "transformer",
    "in_order",
    transformer,
    "missing shuffle",
    {"arrange": faults.in_order, "options": {"shuffle": False}},
    epochs=6,
)
broken("transformer", "labels_shuffled", transformer, "labels shuffled", {"arrange": faults.shuffled})
broken(
    "transformer",
    "decay",
    transformer,
    "decay too strong",
    {"optimizer_options": {"weight_decay": 100.0}},
    also={"optimizer": "AdamW"},
)


# -- text with embeddings ----------------------------------------------------------------------------------------------


def text(kit: Kit, *, how="mean", vocabulary=600, classes=2, binary=True, epochs=10, rate=5e-3) -> Run:
    x, y = data.sentences(kit.rng, vocabulary=vocabulary, classes=classes)
    entry = keras.Input((16,), dtype="int32")
    stream = layers.Embedding(vocabulary, 16, mask_zero=how == "gru")(entry)
    if how == "mean":
        stream = layers.GlobalAveragePooling1D()(stream)
    elif how == "gru":
        stream = layers.GRU(16)(stream)
    else:
        stream = layers.GlobalMaxPooling1D()(layers.Conv1D(24, 3, **kit.hidden())(stream))
    stream = layers.Dropout(0.2)(kit.dense(16)(stream))
    one = classes == 2 and binary
    model = keras.Model(
        entry, kit.head(1, "sigmoid")(stream) if one else kit.head(classes, "softmax")(stream)
    )
    loss = "binary_crossentropy" if one else "sparse_categorical_crossentropy"
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    return kit.run(model, x, y.astype("float32") if one else y, "binary" if one else "sparse", epochs=epochs)


healthy("text_embedding", "mean_of_vectors", text)
healthy("text_embedding", "gru_masked", text, how="gru")
healthy("text_embedding", "convolution_five_topics", text, how="conv", classes=5, vocabulary=2000)
healthy("text_embedding", "vocabulary_of_20000", text, vocabulary=20000)
broken("text_embedding", "softmax_on_one", text, "softmax on one unit", {"head": "softmax"})
broken("text_embedding", "labels_one_five", text, "labels outside 0..1", {"targets": lambda y: 1 + 4 * y})
broken(
    "text_embedding",
    "lacking",
    text,
    "classes validation alone has",
    {"arrange": faults.lacking},
    how="conv",
    classes=5,
    vocabulary=2000,
)
broken("text_embedding", "dead", text, "units dead", {"bias": keras.initializers.Constant(-20.0)})
broken(
    "text_embedding", "rate", text, "rate too high", {"rate": 30.0}, how="conv", classes=5, vocabulary=2000
)
broken(
    "text_embedding",
    "exponential",
    text,
    "logits as probabilities",
    {"head": "exponential"},
    how="gru",
    rate=0.02,
)
broken(
    "text_embedding",
    "by_heart",
    text,
    "overfitting",
    {"arrange": lambda t, v, rng: ((t[0][:40], t[1][:40]), v)},
    also={"epochs": 60},
    how="conv",
    classes=2,
)


def frozen_embedding(kit: Kit, *, classes=3, epochs=20, how="mean") -> Run:
    """Pretrained word vectors, which stay frozen; the opinion words of a class lie close together."""
    vocabulary, width = 400, 20
    x, y = data.sentences(kit.rng, vocabulary=vocabulary, classes=classes)
    vectors = 0.4 * kit.rng.normal(size=(vocabulary, width))
    for label in range(classes):
        vectors[1 + 30 * label : 31 + 30 * label] += kit.rng.normal(size=width)
    if kit.get("untrained"):
        vectors = np.zeros((vocabulary, width))
    table = layers.Embedding(
        vocabulary, width, embeddings_initializer=keras.initializers.Constant(vectors), trainable=False
    )
    entry = keras.Input((16,), dtype="int32")
    stream = table(entry)
    stream = layers.GlobalAveragePooling1D()(stream) if how == "mean" else layers.GRU(24)(stream)
    model = keras.Model(entry, kit.head(classes, "softmax")(kit.dense(32)(stream)))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=5e-3), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("frozen_embedding", "mean", frozen_embedding)
healthy("frozen_embedding", "gru", frozen_embedding, how="gru", epochs=12)
broken("frozen_embedding", "all_frozen", frozen_embedding, "layers frozen", {"weights": faults.freeze})
broken("frozen_embedding", "vectors_of_zeros", frozen_embedding, "all weights zero", {"untrained": True})
broken(
    "frozen_embedding",
    "tanh_head",
    frozen_embedding,
    "logits as probabilities",
    {"head": "tanh"},
    how="gru",
    epochs=12,
)
broken(
    "frozen_embedding",
    "labels_constant",
    frozen_embedding,
    "labels constant",
    {"arrange": faults.constant_labels},
)


# -- sets and copies ---------------------------------------------------------------------------------------------------


def sets(kit: Kit, *, how="sum", epochs=25) -> Run:
    """Regression on a set of points, whose order does not matter."""
    x = kit.rng.normal(size=(700, 10, 3)).astype("float32")
    y = (np.abs(x[..., 0]).sum(1) + x[..., 1].max(1)).astype("float32")
    entry = keras.Input((10, 3))
    each = kit.dense(32)(kit.dense(32)(entry))
    pooled = ops.sum(each, axis=1) if how == "sum" else ops.mean(each, axis=1)
    model = keras.Model(entry, kit.head(1)(kit.dense(32)(pooled)))
    kit.compile(model, "mse", optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, "regress", epochs=epochs)


healthy("sets", "sum", sets)
healthy("sets", "mean", sets, how="mean", epochs=30)
broken("sets", "unscaled", sets, "inputs unscaled", {"inputs": lambda x: 900 + 250 * x})
broken("sets", "grams", sets, "targets unscaled", {"units": lambda y: 1000 * y})
broken("sets", "sigmoid_head", sets, "targets out of reach", {"head": "sigmoid"})
broken("sets", "zeros", sets, "all weights zero", {"initializer": "zeros"}, how="mean", epochs=30)
broken(
    "sets", "nan", sets, "NaN in the inputs", {"arrange": lambda t, v, rng: ((points(t[0], rng), t[1]), v)}
)


def points(x, rng):
    x = np.array(x)
    x[rng.permutation(len(x))[:10], 0, 0] = np.nan
    return x
