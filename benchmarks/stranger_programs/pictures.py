"""Families whose inputs are pictures."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, broken, healthy

# -- convolutional networks --------------------------------------------------------------------------------------------


def cnn(kit: Kit, *, what="digits", norm=False, rescale=False, epochs=10, rate=3e-3) -> Run:
    if what == "digits":
        x, y = data.digits(900)
    elif what == "gratings":
        x, y = data.gratings(kit.rng)
    elif what == "pairs":  # two gratings laid over each other, possibly of the same class
        (one, y), (two, z) = data.gratings(kit.rng, count=700), data.gratings(kit.rng, count=700)
        x, y = (one + two) / 2, np.maximum(np.eye(3)[y], np.eye(3)[z]).astype("float32")
    else:
        x, y, _ = data.shapes(kit.rng)
    if rescale:
        x = np.round(255 * (x - x.min()) / (x.max() - x.min())).astype("float32")
    body = []
    for filters in (8, 16):
        body.append(kit.conv(filters, activation=None if norm else "relu"))
        if norm:
            body += [layers.BatchNormalization(momentum=kit.get("momentum", 0.9)), layers.ReLU()]
        body.append(layers.MaxPooling2D())
    entry = [layers.Rescaling(1 / 255)] if rescale and not kit.get("raw") else []
    model = keras.Sequential([keras.Input(x.shape[1:]), *entry, *body, layers.Flatten(), kit.dense(32)])
    several = what == "pairs"
    model.add(kit.head(3, "sigmoid") if several else kit.head(int(y.max()) + 1, "softmax"))
    loss = "binary_crossentropy" if several else "sparse_categorical_crossentropy"
    kit.compile(model, loss, optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    return kit.run(model, x, y, "binary" if several else "sparse", epochs=epochs)


healthy("cnn", "two_gratings", cnn, what="pairs", epochs=15)
broken(
    "cnn",
    "two_gratings_softmax",
    cnn,
    "several ones under softmax",
    {"head": "softmax", "loss": "categorical_crossentropy"},
    what="pairs",
    epochs=15,
)
broken("cnn", "softmax_twice", cnn, "softmax twice", {"again": True}, rate=1e-3, epochs=8)
broken(
    "cnn",
    "tiny_normal",
    cnn,
    "initial weights too small",
    {"initializer": keras.initializers.RandomNormal(0, 1e-4)},
)
healthy("cnn", "digits", cnn)
healthy("cnn", "gratings_batch_norm", cnn, what="gratings", norm=True)
healthy("cnn", "shapes_from_bytes", cnn, what="shapes", rescale=True, epochs=14)
broken("cnn", "rate", cnn, "rate too high", {"rate": 3.0}, what="gratings")
broken("cnn", "rate_low", cnn, "rate too low", {"rate": 1e-7})
broken(
    "cnn",
    "bytes_sgd",
    cnn,
    "inputs unscaled",
    {"raw": True},
    also={"optimizer": "SGD", "rate": 0.05},
    what="shapes",
    rescale=True,
    epochs=14,
)
broken(
    "cnn",
    "validation_in_bytes",
    cnn,
    "validation preprocessed otherwise",
    {"arrange": faults.validation_times(255.0)},
    belief=True,
    what="shapes",
    epochs=14,
)
broken("cnn", "tanh_head", cnn, "logits as probabilities", {"head": "tanh"})
broken("cnn", "relu_head", cnn, "rectified head under cross-entropy", {"head": "relu"}, what="gratings")
broken("cnn", "lagging_statistics", cnn, "batch norm lags", {"momentum": 0.9999}, what="gratings", norm=True)
broken("cnn", "labels_shuffled", cnn, "labels shuffled", {"arrange": faults.shuffled})
broken(
    "cnn",
    "shuffled_and_nan",
    cnn,
    "NaN in the inputs",
    {"arrange": faults.shuffled_with_nan},
    what="gratings",
)
broken(
    "cnn",
    "split_by_class",
    cnn,
    "classes validation alone has",
    {"arrange": faults.split_by_class},
    what="shapes",
    epochs=14,
)
broken("cnn", "in_order", cnn, "missing shuffle", {"arrange": faults.in_order, "options": {"shuffle": False}})
broken("cnn", "one_picture", cnn, "inputs constant", {"arrange": faults.constant_inputs}, what="gratings")
broken(
    "cnn", "labels_halved", cnn, "labels not whole", {"targets": lambda y: y / 2}, what="digits", epochs=11
)


# -- residual networks without normalization ---------------------------------------------------------------------------


def residual(kit: Kit, *, blocks=4, skip="scaled", what="gratings", epochs=12, rate=2e-3) -> Run:
    x, y = data.gratings(kit.rng) if what == "gratings" else data.digits(700)
    entry = keras.Input(x.shape[1:])
    stream = kit.conv(12)(entry)
    stream = layers.AveragePooling2D(2)(stream)
    last = {"zero": {"kernel_initializer": "zeros"}, "scaled": {}}[skip]
    for _ in range(blocks):
        branch = kit.conv(12)(stream)
        second = {
            "kernel_initializer": kit.get("initializer", "glorot_uniform"),
            **last,
            **kit.get("second", {}),
        }
        branch = layers.Conv2D(12, 3, padding="same", **second)(branch)
        if skip == "scaled":
            branch = layers.Rescaling(kit.get("branch", 0.3))(branch)
        stream = layers.Add()([stream, branch])
    pooled = layers.GlobalAveragePooling2D()(layers.Activation("relu")(stream))
    model = keras.Model(entry, kit.head(int(y.max()) + 1, "softmax")(pooled))
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=rate), metrics=["accuracy"]
    )
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("residual_plain", "scaled_branches", residual)
healthy("residual_plain", "zero_last_layer", residual, skip="zero")
healthy("residual_plain", "digits_six_blocks", residual, what="digits", blocks=6, epochs=18, rate=4e-3)
broken(
    "residual_plain",
    "branches_of_ten",
    residual,
    "activations explode",
    {"branch": 10.0},
    also={"initializer": "he_normal", "optimizer": "SGD", "rate": 0.01},
    blocks=8,
)
broken("residual_plain", "zeros", residual, "all weights zero", {"initializer": "zeros"})
broken(
    "residual_plain",
    "large",
    residual,
    "initial weights too large",
    {"initializer": keras.initializers.RandomNormal(0, 3.0)},
    blocks=6,
)
broken(
    "residual_plain",
    "dead",
    residual,
    "units dead",
    {
        "bias": keras.initializers.Constant(-40.0),
        "second": {"bias_initializer": keras.initializers.Constant(-40.0)},
    },
)
broken("residual_plain", "labels_from_one", residual, "labels beyond the units", {"targets": lambda y: y + 1})
broken(
    "residual_plain",
    "penalty",
    residual,
    "penalty too strong",
    {"regularizer": keras.regularizers.L2(1.0)},
    what="digits",
    blocks=2,
    epochs=18,
    rate=4e-3,
)


# -- vision transformers -----------------------------------------------------------------------------------------------


class Places(layers.Layer):
    """Adds a learned vector to each position of a sequence."""

    def build(self, shape):
        self.table = self.add_weight(
            shape=shape[1:], initializer=keras.initializers.RandomNormal(0, 0.02), name="table"
        )

    def call(self, inputs):
        return inputs + self.table


def encoder(kit, stream, width, heads, *, dropout=0.0, first=True):
    """A transformer block with the normalization first (as in vision transformers) or last."""
    attention = layers.MultiHeadAttention(heads, width // heads, dropout=dropout)
    if first:
        normal = layers.LayerNormalization(epsilon=1e-6)(stream)
        stream = layers.Add()([stream, attention(normal, normal)])
        branch = layers.LayerNormalization(epsilon=1e-6)(stream)
        branch = kit.dense(2 * width, "gelu")(branch)
        return layers.Add()([stream, layers.Dense(width)(branch)])
    stream = layers.LayerNormalization()(layers.Add()([stream, attention(stream, stream)]))
    branch = layers.Dense(width)(kit.dense(2 * width, "relu")(stream))
    return layers.LayerNormalization()(layers.Add()([stream, branch]))


def vit(kit: Kit, *, what="digits", patch=2, width=24, depth=2, how="mean", epochs=15, rate=3e-3) -> Run:
    x, y = data.digits(800) if what == "digits" else data.gratings(kit.rng, count=600)
    if kit.get("bytes"):
        x = np.round(255 * (x - x.min()) / (x.max() - x.min())).astype("float32")
    entry = keras.Input(x.shape[1:])
    if how == "einsum":
        size = x.shape[1] // patch
        tokens = layers.Reshape((size, patch, size, patch))(entry)
        tokens = layers.Reshape((size * size, patch * patch))(layers.Permute((1, 3, 2, 4))(tokens))
        tokens = layers.EinsumDense("bnc,cd->bnd", output_shape=(size * size, width), bias_axes="d")(tokens)
    else:
        tokens = layers.Conv2D(width, patch, strides=patch)(entry)
        tokens = layers.Reshape((-1, width))(tokens)
    stream = Places()(tokens)
    for _ in range(depth):
        stream = encoder(kit, stream, width, 3)
    stream = layers.LayerNormalization()(stream)
    pooled = layers.GlobalAveragePooling1D()(stream)
    model = keras.Model(entry, kit.head(int(y.max()) + 1, "softmax")(pooled))
    kit.compile(
        model, "sparse_categorical_crossentropy",
        optimizer=kit.optimizer("AdamW", rate, weight_decay=1e-4), metrics=["accuracy"],
    )  # fmt: skip
    return kit.run(model, x, y, "sparse", epochs=epochs)


healthy("vit", "digits", vit)
healthy("vit", "gratings_einsum", vit, what="gratings", patch=3, how="einsum", epochs=20)
broken("vit", "rate", vit, "rate too high", {"rate": 1.0})
broken("vit", "rate_low", vit, "rate too low", {"rate": 1e-7})
broken("vit", "decay", vit, "decay too strong", {"optimizer_options": {"weight_decay": 60.0}})
broken("vit", "relu_head", vit, "rectified head under cross-entropy", {"head": "relu"})
broken(
    "vit",
    "labels_lacking",
    vit,
    "classes validation alone has",
    {"arrange": faults.lacking},
    what="gratings",
    patch=3,
    how="einsum",
    epochs=20,
)
broken("vit", "tanh_head", vit, "logits as probabilities", {"head": "tanh"})
broken("vit", "frozen", vit, "layers frozen", {"weights": faults.freeze})
broken("vit", "sensor_counts", vit, "inputs unscaled", {"inputs": lambda x: 5000 + 250 * x}, how="einsum")


# -- segmentation: a class per pixel -----------------------------------------------------------------------------------


def segmentation(kit: Kit, *, how="sigmoid", epochs=8) -> Run:
    x, _, mask = data.shapes(kit.rng, count=350)
    entry = keras.Input((16, 16, 1))
    fine = kit.conv(8)(entry)
    coarse = kit.conv(16)(layers.MaxPooling2D()(fine))
    merged = layers.Concatenate()([fine, layers.UpSampling2D()(coarse)])
    merged = kit.conv(8)(merged)
    if how == "softmax":
        out = layers.Conv2D(2, 1, activation=kit.get("head", "softmax"))(merged)
        y, loss = mask[..., 0].astype("int32"), "sparse_categorical_crossentropy"
    else:
        out = layers.Conv2D(1, 1, activation=kit.get("head", "sigmoid"))(merged)
        y, loss = mask, dice if how == "dice" else "binary_crossentropy"

    def score(model, x, y):
        guess = model.predict(x, verbose=0)
        if not np.isfinite(guess).all():
            return -1.0
        guess = guess.argmax(-1) if how == "softmax" else guess[..., 0] > 0.5
        true = np.asarray(y).reshape(guess.shape) > 0.5
        return np.sum(guess * true) / max(1, np.sum((guess + true) > 0))

    kit.compile(
        model := keras.Model(entry, out), loss, optimizer=kit.optimizer(rate=4e-3), metrics=["accuracy"]
    )
    return kit.run(model, x, y, score, epochs=epochs, batch=16)


def dice(true, guess):
    overlap = ops.sum(true * guess, axis=(1, 2, 3))
    return 1 - (2 * overlap + 1) / (ops.sum(true, axis=(1, 2, 3)) + ops.sum(guess, axis=(1, 2, 3)) + 1)


healthy("segmentation", "sigmoid", segmentation)
healthy("segmentation", "softmax_of_two", segmentation, how="softmax")
healthy("segmentation", "dice", segmentation, how="dice", epochs=10)
broken("segmentation", "mask_of_bytes", segmentation, "labels outside 0..1", {"targets": lambda y: 255 * y})
broken("segmentation", "softmax_on_one", segmentation, "softmax on one unit", {"head": "softmax"})
broken("segmentation", "exponential", segmentation, "logits as probabilities", {"head": "exponential"})
broken(
    "segmentation",
    "relu",
    segmentation,
    "rectified head under cross-entropy",
    {"head": "relu"},
    how="softmax",
)
broken("segmentation", "linear", segmentation, "logits as probabilities", {"head": None}, how="softmax")
broken(
    "segmentation",
    "mask_of_three",
    segmentation,
    "labels beyond the units",
    {"targets": lambda y: 3 * y},
    how="softmax",
)


# -- autoencoders ------------------------------------------------------------------------------------------------------


def autoencoder(kit: Kit, *, how="dense", epochs=20) -> Run:
    x, _ = data.digits(800)
    if how == "dense":
        x = x.reshape(len(x), 64)
        model = keras.Sequential([keras.Input((64,)), kit.dense(48), layers.Dense(12), kit.dense(48)])
        model.add(kit.head(64, "sigmoid"))
        loss = "binary_crossentropy"
    elif how == "denoise":
        clean = x.reshape(len(x), 64)
        model = keras.Sequential(
            [keras.Input((64,)), layers.GaussianNoise(0.2), kit.dense(64), kit.dense(64)]
        )
        model.add(kit.head(64, "sigmoid"))
        x, loss = clean, "mse"
    else:
        model = keras.Sequential([keras.Input((8, 8, 1)), kit.conv(8), layers.MaxPooling2D(), kit.conv(4)])
        model.add(layers.UpSampling2D())
        model.add(kit.conv(8))
        model.add(layers.Conv2D(1, 3, padding="same", activation=kit.get("head")))
        loss = "mae"
    scale = kit.get("scale")
    x = x * np.float32(scale) if scale else x
    kit.compile(model, loss, optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, x, "reproduce", epochs=epochs)


healthy("autoencoder", "dense_bce", autoencoder)
healthy("autoencoder", "denoising", autoencoder, how="denoise")
healthy("autoencoder", "convolutional_mae", autoencoder, how="conv", epochs=12)
broken("autoencoder", "bytes_under_bce", autoencoder, "labels outside 0..1", {"scale": 255})
broken(
    "autoencoder", "bytes_under_sigmoid", autoencoder, "targets out of reach", {"scale": 255}, how="denoise"
)
broken(
    "autoencoder",
    "tanh_under_bce",
    autoencoder,
    "logits as probabilities",
    {"head": "tanh"},
    also={"rate": 0.02},
)
broken(
    "autoencoder", "exponential_under_bce", autoencoder, "logits as probabilities", {"head": "exponential"}
)
broken(
    "autoencoder",
    "softmax_head",
    autoencoder,
    "targets out of reach",
    {"head": "softmax"},
    how="denoise",
    epochs=21,
)
broken(
    "autoencoder",
    "tiny_normal",
    autoencoder,
    "initial weights too small",
    {"initializer": keras.initializers.RandomNormal(0, 1e-5)},
    how="conv",
    epochs=12,
)
broken(
    "autoencoder",
    "dead_code",
    autoencoder,
    "units dead",
    {"bias": keras.initializers.Constant(-60.0)},
    how="conv",
    epochs=12,
)


# -- a pretrained backbone ---------------------------------------------------------------------------------------------


def backbone(kit: Kit, *, how="frozen", epochs=12) -> Run:
    """A backbone is trained on digits 0-4; its layers are frozen, and a new head learns 5-9."""
    x, y = data.digits(1500)
    old, new = y < 5, y >= 5
    body = keras.Sequential(
        [keras.Input((8, 8, 1)), kit.conv(12), layers.MaxPooling2D(), kit.conv(16), layers.Flatten()]
    )
    first = keras.Sequential([body, layers.Dense(5, activation="softmax")])
    first.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    first.fit(x[old], y[old], epochs=3, verbose=0)
    body.trainable = how != "frozen"
    entry = keras.Input((8, 8, 1))
    head = kit.head(5, "softmax")
    model = keras.Model(entry, head(body(entry, training=False)))
    if kit.get("freeze_head"):
        head.trainable = body.trainable = False
    rate = 5e-3 if how == "frozen" else 5e-4
    kit.compile(
        model, "sparse_categorical_crossentropy", optimizer=kit.optimizer(rate=rate), metrics=["accuracy"]
    )
    return kit.run(model, x[new], (y[new] - 5).astype("int32"), "sparse", epochs=epochs)


healthy("frozen_backbone", "new_head", backbone)
healthy("frozen_backbone", "fine_tuned", backbone, how="tuned", epochs=8)
broken("frozen_backbone", "all_frozen", backbone, "layers frozen", {"freeze_head": True})
broken("frozen_backbone", "rate", backbone, "rate too high", {"rate": 30.0}, how="tuned", epochs=8)
broken(
    "frozen_backbone", "labels_not_moved", backbone, "labels beyond the units", {"targets": lambda y: y + 5}
)
broken("frozen_backbone", "tanh", backbone, "logits as probabilities", {"head": "tanh"})


# -- mixup and augmentation in the pipeline ----------------------------------------------------------------------------


def mixup(kit: Kit, *, how="mixup", epochs=14) -> Run:
    x, y = data.digits(700) if how != "flip" else data.gratings(kit.rng)
    classes = int(y.max()) + 1
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), kit.conv(8), layers.MaxPooling2D(), layers.Flatten(), kit.dense(48)]
    )
    model.add(kit.head(classes, "softmax"))
    kit.compile(model, "categorical_crossentropy", optimizer=kit.optimizer(rate=3e-3), metrics=["accuracy"])
    run = kit.run(model, x, np.eye(classes, dtype="float32")[y], "onehot", epochs=epochs)

    def mix(images, labels):
        share = tf.random.stateless_uniform((), (kit.seed, 1)) if kit.get("stuck") else tf.random.uniform(())
        share = tf.maximum(share, 1 - share)
        return (
            share * images + (1 - share) * tf.roll(images, 1, 0),
            share * labels + (1 - share) * tf.roll(labels, 1, 0),
        )

    def flip(images, labels):
        flipped = tf.where(tf.random.uniform((tf.shape(images)[0], 1, 1, 1)) < 0.5, images, -images)
        return flipped, labels

    order = tf.data.Dataset.from_tensor_slices(run.train)
    if kit.get("shuffle", True):
        order = order.shuffle(700, seed=kit.seed)
    run.train = order.batch(32).map(kit.get("map", flip if how == "flip" else mix))
    run.validation = tf.data.Dataset.from_tensor_slices(run.validation).batch(64)
    return run


def lose_pairs(images, labels):
    """Mixes pictures in pairs, as mixup does, but only shuffles the labels."""
    return 0.5 * images + 0.5 * tf.roll(images, 1, 0), tf.random.shuffle(labels)


healthy("mixup", "digits", mixup)
healthy("mixup", "random_inversion", mixup, how="flip")
broken("mixup", "labels_shuffled", mixup, "labels shuffled", {"map": lose_pairs})
broken(
    "mixup",
    "in_order",
    mixup,
    "missing shuffle",
    {"arrange": lambda t, v, rng: (sorted_rows(t), v), "shuffle": False},
    epochs=7,
)
broken("mixup", "softmax_twice", mixup, "softmax twice", {"again": True}, epochs=8)
broken("mixup", "linear_head", mixup, "logits as probabilities", {"head": None})
broken("mixup", "rate", mixup, "rate too high", {"rate": 2.0}, how="flip")


def sorted_rows(train):
    order = np.argsort(train[1].argmax(-1), kind="stable")
    return train[0][order], train[1][order]
