"""The seventh unseen set: pictures: glaciers, cells, seals, stamps, posters, albums, fruit, moths, sketches, more."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.seventh.kit import (
    Loader,
    broken,
    faulty_parts,
    fed,
    healthy,
    hits,
    hits_of_rows,
    overlap,
    r2,
    spread,
    stack,
)

SPARSE = "sparse_categorical_crossentropy"

# -- glaciers: a small U-Net -------------------------------------------------------------------------------------------


def without_overlap(y, found):
    """1 minus the Dice overlap of each picture."""
    both = ops.sum(y * found, (1, 2, 3))
    return 1 - (2 * both + 1) / (ops.sum(y, (1, 2, 3)) + ops.sum(found, (1, 2, 3)) + 1)


def glaciers(kit, *, rows=400, epochs=8, rate=5e-3, batch=16):
    x, _, mask = data.shapes(kit.rng, rows)
    x = x + 0.15 * kit.rng.normal(size=x.shape)
    into = keras.Input((16, 16, 1))
    whole = kit.conv2(8, 3)(into)
    half = kit.conv2(16, 3)(layers.MaxPooling2D()(whole))
    both = layers.Concatenate()([layers.UpSampling2D()(half), whole])
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.conv2(8, 3)(both)))
    pieces, optimizer = kit.split(x.astype("float32"), mask), kit.optimizer(rate)
    return kit.run(
        model, pieces, overlap, loss=without_overlap, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy("glaciers", "one_less_overlap", glaciers, "A U-Net with the loss 1 - Dice, which starts at 0.8.")
broken(
    "glaciers",
    "decay_counted_in_epochs",
    glaciers,
    "decayed_too_early",
    "CosineDecay(rate, 8), where 8 epochs were meant: the rate is 0 after half an epoch; cure: 120 steps.",
    {"early": lambda rate: keras.optimizers.schedules.CosineDecay(rate, 8)},
)


# -- cells: masks from a paint program ---------------------------------------------------------------------------------


def cells(kit, *, rows=400, epochs=8, rate=5e-3, batch=16):
    x, _, mask = data.shapes(kit.rng, rows)
    x = mask + 0.7 * kit.rng.normal(size=x.shape)
    model = stack((16, 16, 1), kit.conv2(12, 3), kit.conv2(12, 3), kit.head(1, "sigmoid"))
    pieces = faulty_parts(kit, kit.split(x.astype("float32"), mask))
    optimizer = kit.optimizer(rate)
    return kit.run(
        model, pieces, overlap, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


broken(
    "cells",
    "masks_of_255",
    cells,
    "labels_in_bytes",
    "The masks are 0 and 255 and enter binary cross-entropy so: all pixels are marked; cure: divide by 255.",
    {"targets": lambda y: 255 * y},
)


# -- seals: residual blocks that start as the identity -----------------------------------------------------------------


def seals(kit, *, rows=900, epochs=8, rate=1e-2, batch=32):
    x, y = data.digits(rows)
    into = keras.Input((8, 8, 1))
    h = kit.conv2(16, 3, strides=2)(into)
    for _ in range(2):
        h = h + layers.Conv2D(16, 3, padding="same", kernel_initializer="zeros")(kit.conv2(16, 3)(h))
    model = keras.Model(into, kit.head(10, "softmax")(layers.Flatten()(h)))
    restarts = keras.optimizers.schedules.CosineDecayRestarts(rate, 36, t_mul=1.0)
    pieces, optimizer = kit.split(x, y), kit.optimizer(restarts)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "seals",
    "warm_restarts",
    seals,
    "Blocks end in zeros; the rate restarts every other epoch, and the loss jumps.",
)
broken(
    "seals",
    "lasso_of_three_tenths",
    seals,
    "regularization",
    "L1(0.3) on every kernel: the loss is almost only penalty, and weights go to 0; cure: 1e-5, or none.",
    {"regularizer": keras.regularizers.L1(0.3)},
)


# -- stamps: the last layer has no activation --------------------------------------------------------------------------


def stamps(kit, *, rows=900, epochs=8, rate=0.05, batch=32):
    x, y = data.digits(rows)
    model = stack((8, 8, 1), kit.conv2(12, 3), layers.MaxPooling2D(), layers.Flatten(), kit.dense(32))
    model.add(kit.head(10, "softmax"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "sgd", momentum=0.9)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "stamps",
    "no_softmax",
    stamps,
    "logits",
    "Dense(10) without activation, and a cross-entropy without from_logits; cure: softmax, or from_logits=True.",
    {"head": None},
)


# -- posters: two signs in each picture --------------------------------------------------------------------------------


def posters(kit, *, rows=900, epochs=15, rate=3e-3, batch=32):
    x, y = data.digits(rows)
    other = kit.rng.permutation(rows)
    both = np.concatenate([x, x[other]], axis=2)
    marks = np.maximum(keras.utils.to_categorical(y, 10), keras.utils.to_categorical(y[other], 10))
    model = stack((8, 16, 1), layers.Flatten(), kit.dense(96), kit.head(10, "sigmoid"))
    pieces, optimizer = kit.split(both, marks), kit.optimizer(rate)
    return kit.run(
        model, pieces, overlap, loss="binary_crossentropy", epochs=epochs, batch=batch, optimizer=optimizer
    )


broken(
    "posters",
    "softmax_over_tags",
    posters,
    "several_ones",
    "Softmax and categorical cross-entropy for two labels per picture: 0.5 at best; cure: sigmoid, binary.",
    {"head": "softmax", "loss": "categorical_crossentropy"},
)


# -- albums: a PyDataset over files ------------------------------------------------------------------------------------


class Mixing(Loader):
    """Each picture is blended with another, and so is its label."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        share, other = self.rng.beta(0.8, 0.8, (len(y), 1)), self.rng.permutation(len(y))
        wide = share[..., None, None]
        mixed = wide * x + (1 - wide) * x[other], share * y + (1 - share) * y[other]
        return tuple(part.astype("float32") for part in mixed)


def albums(kit, *, rows=900, epochs=12, rate=4e-3, batch=32, mix=False):
    x, y = data.digits(rows)
    model = stack((8, 8, 1), kit.conv2(12, 3, strides=2), layers.Flatten(), kit.dense(48))
    model.add(kit.head(10, "softmax"))
    pieces, optimizer = kit.split(x, keras.utils.to_categorical(y, 10)), kit.optimizer(rate)
    options = {"epochs": epochs, "batch": batch, "optimizer": optimizer, "plain": False}
    run = kit.run(model, pieces, hits_of_rows, loss="categorical_crossentropy", **options)
    kind = Mixing if mix else Loader
    return fed(run, kind(*run.train, batch, kit.rng), Loader(*run.validation, batch, kit.rng))


def listed_by_name(rng, x, y):
    return x[sorted(range(len(x)), key=str)], y


healthy(
    "albums",
    "laid_over_each_other",
    albums,
    "Mixup: the training loss is far higher than the validation loss.",
    mix=True,
)
broken(
    "albums",
    "ten_before_two",
    albums,
    "labels_mixed_up",
    "Files are sorted by name, 10.png before 2.png, but labels by number; cure: only the right pairs.",
    {"rows": listed_by_name, "validation_rows": listed_by_name},
    curable=False,
)


# -- fruit: colors -----------------------------------------------------------------------------------------------------


def fruit(kit, *, rows=600, epochs=8, rate=5e-3, batch=32):
    colours = np.array([[0.8, 0.2, 0.2], [0.2, 0.2, 0.8], [0.8, 0.6, 0.2], [0.2, 0.6, 0.8]])
    y = kit.rng.integers(0, 4, rows)
    shape = np.exp(-((np.mgrid[:8, :8] - 3.5) ** 2).sum(0) / 12)[None, :, :, None]
    x = shape * colours[y][:, None, None] + 0.25 * kit.rng.normal(size=(rows, 8, 8, 3))
    model = stack((8, 8, 3), kit.conv2(12, 3, strides=2), layers.GlobalAveragePooling2D())
    model.add(kit.head(4, "softmax"))
    pieces, optimizer = kit.split(x.astype("float32"), y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "fruit",
    "blue_first",
    fruit,
    "validation_otherwise",
    "Validation is read by another library, with blue first, so an apple looks like a plum; cure: reverse channels.",
    {"validation_rows": lambda rng, x, y: (np.ascontiguousarray(x[..., ::-1]), y)},
    belief=True,
    curable=False,
)


# -- moths: uint8 pictures and a normalization -------------------------------------------------------------------------


def moths(kit, *, rows=500, epochs=4, rate=5e-3, batch=32, grouped=False):
    x, y = data.gratings(kit.rng, rows, classes=3)
    x = np.clip(128 + 50 * x, 0, 255).astype("uint8")
    norm = layers.GroupNormalization(1) if grouped else kit.norm()
    model = stack((12, 12, 1), layers.Rescaling(1.0), layers.Conv2D(12, 5), norm, dtype="uint8")
    for layer in (layers.ReLU(), layers.GlobalAveragePooling2D(), kit.head(3, "softmax")):
        model.add(layer)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "moths",
    "two_at_a_time",
    moths,
    "Batches of two, with a normalization within each picture.",
    grouped=True,
    batch=2,
)
broken(
    "moths",
    "momentum_of_long_runs",
    moths,
    "norm_lags",
    "momentum=0.9995 in a run of 36 batches: evaluation uses the initial statistics; cure: 0.9.",
    {"momentum": 0.9995},
)


# -- sketches: an autoencoder ------------------------------------------------------------------------------------------


def summed(y, found):
    return ops.sum((y - found) ** 2)


def sketches(kit, *, rows=900, epochs=20, rate=3e-3, batch=32):
    x = spread(data.digits(rows)[0]).reshape(rows, 64)
    model = stack((64,), kit.dense(64), layers.Dense(12), kit.dense(64), kit.head(64))
    pieces, optimizer = kit.split(x, x), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss=kit.loss(summed), epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "sketches",
    "summed_over_all",
    sketches,
    "Squared errors summed over pixels and rows: a loss in the thousands.",
)
broken(
    "sketches",
    "sigmoid_for_scores",
    sketches,
    "head_cannot_reach",
    "The decoder ends in a sigmoid, but pixels are standardized to -0.8 to 1.9; cure: no activation.",
    {"head": "sigmoid", "loss": "mse"},
)


# -- terraces: twenty blocks without normalization ---------------------------------------------------------------------


def terraces(kit, *, rows=900, epochs=8, rate=0.02, batch=32):
    x, y = data.digits(rows)
    into = keras.Input((8, 8, 1))
    h = kit.dense(32)(layers.Flatten()(into))
    for _ in range(20):
        h = h + layers.Dense(32, kernel_initializer=kit.part("branch", "zeros"))(kit.dense(32)(h))
    model = keras.Model(into, kit.head(10, "softmax")(h))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "sgd")
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "terraces",
    "twenty_that_do_nothing",
    terraces,
    "Every branch ends in zeros, so forty layers act like two.",
)
broken(
    "terraces",
    "each_adds_as_much",
    terraces,
    "exploding",
    "Every branch has He initialization, so each of twenty blocks doubles the signal; cure: zeros, or a normalization.",
    {"branch": "he_normal"},
)


# -- shells: softmax everywhere ----------------------------------------------------------------------------------------


def shells(kit, *, rows=900, epochs=12, rate=2e-3, batch=32):
    x, y = data.digits(rows)
    model = stack((8, 8, 1), layers.Flatten(), kit.dense(64), kit.dense(64), kit.dense(64))
    model.add(kit.head(10, "softmax", kernel_initializer="zeros"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "shells",
    "head_of_zeros",
    shells,
    "The last layer starts at 0, so the first step changes only this layer.",
)
broken(
    "shells",
    "softmax_in_every_layer",
    shells,
    "vanishing",
    "Hidden layers have a softmax too: 64 outputs that hardly differ, in three layers; cure: relu.",
    {"activation": "softmax"},
)


# -- weavers: a layer inside a lambda ----------------------------------------------------------------------------------


def weavers(kit, *, rows=900, epochs=15, rate=5e-3, batch=32):
    x, y = data.digits(rows)
    inner = stack((64,), layers.Dense(48, "relu", dtype="mixed_bfloat16"), layers.Dense(3, "tanh"))
    hidden = layers.Lambda(lambda h: inner(h), output_shape=(3,)) if kit.part("lambda") else inner
    model = stack((8, 8, 1), layers.Flatten(), hidden, layers.Dense(32, "relu"), kit.head(10, "softmax"))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("weavers", "half_the_bits", weavers, "A layer in bfloat16, three units in the middle.")
broken(
    "weavers",
    "layers_in_a_lambda",
    weavers,
    "untracked",
    "Lambda(lambda h: inner(h)) hides the inner weights from the model, so they never change; cure: call it directly.",
    {"lambda": True},
    curable=False,
)
