"""The sixth unseen set: pictures: patches, plates, knots, holes, eyes, fields, leaves, scans, lanterns."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.sixth.kit import broken, flowing, healthy, hits, overlap, r2
from benchmarks.stranger_programs.third.kit import in_order

SPARSE = "sparse_categorical_crossentropy"

# -- patches: a small vision transformer -------------------------------------------------------------------------------


def patches(kit, *, rows=900, epochs=10, rate=3e-3, batch=32):
    x, y = data.digits(rows)
    into = keras.Input((8, 8, 1))
    h = layers.Reshape((16, 24))(layers.Conv2D(24, 2, 2)(into))
    h = h + layers.Embedding(16, 24)(ops.arange(16))
    for _ in range(2):
        g = layers.LayerNormalization()(h)
        h = h + layers.MultiHeadAttention(2, 12)(g, g)
        h = h + layers.Dense(24)(layers.Dense(48, "gelu")(layers.LayerNormalization()(h)))
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    model = keras.Model(into, kit.head(10, "softmax")(h))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "adamw", weight_decay=1e-3)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "patches",
    "sixteen_tokens",
    patches,
    "Patches of 2 x 2 as tokens: the loss is flat for an epoch, then it falls.",
)
broken(
    "patches",
    "rate_of_a_convolution",
    patches,
    "rate_too_high",
    "A rate of 0.1 with Adam, copied from a program with SGD; cure: 1e-3.",
    {"rate": 0.1},
)
broken(
    "patches",
    "decay_of_a_paper",
    patches,
    "weight_decay",
    "weight_decay=30 for AdamW; the paper multiplies it by another rate. Weights go to 0; cure: 1e-3.",
    {"optimizer_options": {"weight_decay": 30.0}},
)


# -- mixer: only dense layers, over positions and over channels in turn -----------------------------------------------


def mixer(kit, *, rows=900, epochs=12, rate=4e-3, batch=32):
    x, y = data.gratings(kit.rng, rows, classes=4)
    into = keras.Input((12, 12, 1))
    h = layers.Reshape((16, 16))(layers.Conv2D(16, 3, 3)(into))
    for _ in range(2):
        g = layers.Permute((2, 1))(layers.LayerNormalization()(h))
        h = h + layers.Permute((2, 1))(layers.Dense(16)(layers.Dense(32, "gelu")(g)))
        h = h + layers.Dense(16)(layers.Dense(32, "gelu")(layers.LayerNormalization()(h)))
    model = keras.Model(into, kit.head(4, "softmax")(layers.GlobalAveragePooling1D()(h)))
    y = keras.utils.to_categorical(y, 4)

    def score(model, x, y):
        return hits(model, x, y.argmax(1))

    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.3)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("mixer", "smoothed_by_three_tenths", mixer, "Label smoothing keeps the loss above 0.8.")


# -- plates: four convolutions without normalization -------------------------------------------------------------------


def plates(kit, *, rows=800, epochs=12, rate=0.1, batch=32):
    x, y = data.digits(rows)
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for size in (12, 16, 16, 24):
        model.add(kit.conv2(size, 3))
    for layer in (layers.MaxPooling2D(), layers.Flatten(), kit.dense(32), kit.head(10, "softmax")):
        model.add(layer)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "sgd")
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "plates",
    "plain_sgd",
    plates,
    "Four convolutions and SGD: nothing is learned for some epochs, then all at once.",
)
broken(
    "plates",
    "deviation_of_a_thousandth",
    plates,
    "small_initialization",
    "RandomNormal(stddev=0.001) in all layers: the signal vanishes after five of them; cure: He initialization.",
    {"initializer": keras.initializers.RandomNormal(stddev=0.001)},
)


# -- knots: layers of tanh ---------------------------------------------------------------------------------------------


def knots(kit, *, rows=900, epochs=15, rate=0.05, batch=32):
    x, y = data.digits(rows)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    for size in (128, 128, 128):
        model.add(kit.dense(size, "tanh"))
    model.add(kit.head(10, "softmax"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "sgd")
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "knots",
    "deviation_of_one",
    knots,
    "large_initialization",
    "RandomNormal(stddev=1) for layers of 128 tanh units, saturated from the start; cure: Glorot initialization.",
    {"initializer": keras.initializers.RandomNormal(stddev=1.0)},
)


# -- pinholes: one pixel of two hundred --------------------------------------------------------------------------------


def pinholes(kit, *, rows=500, epochs=12, rate=5e-3, batch=16):
    y = (kit.rng.random((rows, 16, 16, 1)) < 0.005).astype("float32")
    bright = kit.rng.random((rows, 16, 16, 1)) < 0.01
    x = 0.5 * kit.rng.normal(size=y.shape) + 3 * y
    x += 3 * bright + 3 * np.roll(bright, 1, axis=2)
    x += 3 * np.roll(y, 1, axis=1)
    prior = -float(np.log(199))
    model = keras.Sequential([keras.Input((16, 16, 1)), kit.conv2(12, 3), kit.conv2(12, 3)])
    model.add(layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(prior)))
    loss = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.75)
    pieces, optimizer = kit.split(x.astype("float32"), y), kit.optimizer(rate)
    return kit.run(model, pieces, overlap, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "pinholes",
    "loss_of_a_thousandth",
    pinholes,
    "A focal loss, with the head's bias set to the share of holes, so the loss starts near 0.",
)
broken(
    "pinholes",
    "prior_in_every_layer",
    pinholes,
    "dead_relu",
    "The head's bias of -5 was given to all convolutions, so no unit is ever above 0; cure: zeros.",
    {"bias": -5.3},
)


# -- eyes: corners in pixels -------------------------------------------------------------------------------------------


def eyes(kit, *, rows=900, epochs=15, rate=5e-3, batch=32):
    at = kit.rng.uniform(3, 20, (rows, 2))
    row, column = np.mgrid[:24, :24]
    x = np.exp(-((row - at[:, :1, None]) ** 2 + (column - at[:, 1:, None]) ** 2) / 8)
    x = (255 * np.clip(x + 0.1 * kit.rng.random(x.shape), 0, 1)).astype("uint8")[..., None]
    start = keras.initializers.Constant(0.0 if kit.part("head") else 12.0)
    model = keras.Sequential([keras.Input((24, 24, 1), dtype="uint8"), layers.Rescaling(1 / 128)])
    for layer in (kit.conv2(8, 3, strides=2), kit.conv2(12, 3, strides=2), layers.Flatten(), kit.dense(32)):
        model.add(layer)
    model.add(kit.head(2, bias_initializer=start))
    pieces, optimizer = kit.split(x, at.astype("float32")), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="huber", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "eyes",
    "sigmoid_for_pixels",
    eyes,
    "head_cannot_reach",
    "The head has a sigmoid, but positions go up to 20; cure: no activation, or positions from 0 to 1.",
    {"head": "sigmoid"},
)


# -- fields: segmentation into four classes ----------------------------------------------------------------------------


def found_fields(model, x, y):
    """The mean overlap of the classes that are not ground."""
    found = model.predict(x, verbose=0).argmax(-1)
    pairs = [(found == kind, y == kind) for kind in (1, 2, 3)]
    return np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs])


def fields(kit, *, rows=400, epochs=12, rate=8e-3, batch=16):
    x, kind, mask = data.shapes(kit.rng, rows)
    y = (mask[..., 0] * (kind[:, None, None] + 1)).astype("float32")
    shade = np.array([0, 0.6, 1.2, 1.8])[y.astype(int)][..., None]
    x = (shade + 0.15 * kit.rng.normal(size=x.shape)).astype("float32")
    model = keras.Sequential([keras.Input((16, 16, 1)), kit.conv2(12, 3), kit.conv2(12, 3)])
    model.add(layers.Conv2D(4, 1, activation="softmax"))
    train, validation, test = kit.split(x, y)
    train, validation = [(x, kit.targets(y)) for x, y in (train, validation)]
    pieces, optimizer = (train, validation, test), kit.optimizer(rate)
    return kit.run(model, pieces, found_fields, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "fields",
    "nine_tenths_are_ground",
    fields,
    "A class for each pixel, of which nine in ten are the same; accuracy starts at 0.9.",
)
broken(
    "fields",
    "rescaled_with_the_pictures",
    fields,
    "labels_not_whole",
    "The generator of masks has rescale=1/255 like that of pictures, so all classes become 0; cure: no rescale.",
    {"targets": lambda y: y / 255},
)


# -- leaves: validation is loaded in another way -----------------------------------------------------------------------


def in_bytes(rng, x, y, *rest):
    return (255 * x, y, *rest)


def leaves(kit, *, rows=700, epochs=10, rate=4e-3, batch=32):
    x, y = data.gratings(kit.rng, rows, classes=4, noise=0.6)
    x = (x - x.min()) / (x.max() - x.min())
    model = keras.Sequential([keras.Input((12, 12, 1)), kit.conv2(12, 5)])
    model.add(layers.GlobalMaxPooling2D())
    model.add(kit.head(4, "softmax"))
    pieces, optimizer = kit.split(x.astype("float32"), y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "leaves",
    "validation_in_bytes",
    leaves,
    "validation_otherwise",
    "Only the training generator has rescale=1/255; validation pixels are 0 to 255; cure: rescale both.",
    {"validation_rows": in_bytes},
    belief=True,
    curable=False,
)


# -- scans: batch normalization with one example -----------------------------------------------------------------------


def scans(kit, *, rows=500, epochs=5, rate=2e-3, batch=32):
    x, y = data.digits(rows)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(48, use_bias=False)])
    for layer in (
        kit.norm(),
        layers.ReLU(),
        layers.Dense(48),
        kit.norm(),
        layers.ReLU(),
        kit.head(10, "softmax"),
    ):
        model.add(layer)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "scans",
    "one_scan_at_a_time",
    scans,
    "batch_norm",
    "batch_size=1 to save memory: minus its own mean, every row is 0; cure: 16, or another normalization.",
    {"batch": 1},
)


# -- species: the last fifth of the rows -------------------------------------------------------------------------------


def species(kit, *, rows=1000, epochs=12, rate=4e-3, batch=32):
    x, y = data.blobs(kit.rng, rows, classes=6, columns=12, spread=1.3)
    train, validation, test = kit.split(x, y)
    if kit.part("sorted", False):
        x, y = in_order(kit.rng, *[np.concatenate([a, b]) for a, b in zip(train, validation, strict=True)])
        train, validation = (x[: len(train[0])], y[: len(train[0])]), (x[len(train[0]) :], y[len(train[0]) :])
    model = keras.Sequential([keras.Input((12,)), kit.dense(32), kit.head(6, "softmax")])
    pieces, optimizer = (train, validation, test), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "species",
    "last_fifth_of_a_sorted_file",
    species,
    "classes_unseen",
    "validation_split takes the last rows of a file sorted by species, which training never sees; cure: shuffle.",
    {"sorted": True},
    curable=False,
)


# -- lanterns: one folder after the other ------------------------------------------------------------------------------


def lanterns(kit, *, rows=900, epochs=4, rate=5e-3, batch=32):
    x, y = data.digits(rows)
    model = keras.Sequential([keras.Input((8, 8, 1)), kit.conv2(12, 3), layers.Flatten()])
    for layer in (kit.dense(32), kit.head(10, "softmax")):
        model.add(layer)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    run = kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)
    return flowing(kit, run, buffer=kit.part("buffer"))


broken(
    "lanterns",
    "buffer_of_sixteen",
    lanterns,
    "order",
    "Files come class by class, and shuffle(16) mixes only sixteen of them; cure: a buffer for all.",
    {"rows": in_order, "buffer": 16},
)


# -- stairs: ten layers ------------------------------------------------------------------------------------------------


def stairs(kit, *, rows=900, epochs=12, rate=2e-3, batch=32):
    x, y = data.digits(rows)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    for _ in range(9):
        model.add(kit.dense(32, "elu"))
    model.add(kit.head(10, "softmax"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "stairs",
    "nine_sigmoids",
    stairs,
    "vanishing",
    "Nine sigmoid layers, each of which passes at most a quarter of the gradient; cure: elu.",
    {"activation": "sigmoid"},
)


# -- herbs: a network that was trained on other data -------------------------------------------------------------------


def herbs(kit, *, epochs=15, rate=5e-3, batch=32):
    x, y = data.digits(1790)
    before, now = y < 5, y >= 5
    body = keras.Sequential(
        [keras.Input((8, 8, 1)), kit.conv2(12, 3, strides=2), kit.conv2(16, 3, strides=2)]
    )
    body.add(layers.GlobalAveragePooling2D())
    if kit.part("trained", True):
        teacher = keras.Sequential([body, layers.Dense(5)])
        teacher.compile(
            keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        teacher.fit(x[before], y[before], epochs=12, verbose=0)
    body.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 1)), body, kit.head(5, "softmax")])
    pieces, optimizer = kit.split(x[now], y[now] - 5), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("herbs", "nine_tenths_are_frozen", herbs, "A frozen backbone that was trained on other digits.")
broken(
    "herbs",
    "frozen_without_weights",
    herbs,
    "frozen",
    "weights=None and trainable=False: the backbone keeps random weights; cure: load weights, or train it.",
    {"trained": False},
    curable=False,
)
