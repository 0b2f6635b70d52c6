"""The fifth unseen set: pictures: three digits at once, cracks, changes, colors, folders, orientations, a till."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.fifth.kit import broken, healthy, hits, r2
from benchmarks.stranger_programs.third.kit import predicted

# -- captcha: three digits in one picture ------------------------------------------------------------------------------


def captcha(kit, *, rows=1500, epochs=14, rate=4e-3, batch=32):
    digits, labels = data.digits(1700)
    which = kit.rng.integers(0, len(digits), (rows, 3))
    x = np.concatenate([digits[which[:, place]] for place in range(3)], axis=2)
    x = np.clip(x + 0.1 * kit.rng.normal(size=x.shape), 0, 1).astype("float32")
    model = keras.Sequential(
        [keras.Input((8, 24, 1)), kit.conv2(16, 3), layers.MaxPooling2D(), kit.conv2(24, 3)]
    )
    for layer in (layers.Flatten(), kit.dense(64), kit.head(30), layers.Reshape((3, 10)), layers.Softmax()):
        model.add(layer)
    pieces = kit.split(kit.inputs(x), labels[which])
    return kit.run(
        model,
        pieces,
        hits,
        loss="sparse_categorical_crossentropy",
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "captcha",
    "three_answers_to_one_picture",
    captcha,
    "30 units reshaped to (3, 10), labels (n, 3), softmax after the reshape.",
)
broken(
    "captcha",
    "divided_by_255_twice",
    captcha,
    "inputs_not_scaled",
    "The loader divides by 255, and the program does it again, so inputs are around 1e-5; cure: divide once.",
    {"inputs": lambda x: x / 65025},
    also={"optimizer": "sgd"},
    rate=0.2,
)


# -- cracks: few pixels of many ----------------------------------------------------------------------------------------


def tversky(y, found):
    hit = ops.sum(y * found, axis=(1, 2, 3))
    missed, wrong = ops.sum(y * (1 - found), axis=(1, 2, 3)), ops.sum((1 - y) * found, axis=(1, 2, 3))
    return (1 - (hit + 1) / (hit + 0.6 * missed + 0.4 * wrong + 1)) ** 0.75


def overlap(model, x, y):
    """Intersection over union."""
    found, y = predicted(model, x) > 0.5, y > 0.5
    return (found & y).sum() / max((found | y).sum(), 1)


def cracks(kit, *, rows=600, epochs=12, rate=5e-3, batch=16, loss=tversky, noise=0.35):
    row, column = np.mgrid[:16, :16]
    begin, slope = kit.rng.uniform(2, 13, (rows, 1, 1)), kit.rng.uniform(-0.4, 0.4, (rows, 1, 1))
    y = (np.abs(row - begin - slope * (column - 8)) < 0.6) & (np.abs(column - 8) < 5)
    x = 0.6 - 0.5 * y + noise * kit.rng.normal(size=y.shape)
    model = keras.Sequential([keras.Input((16, 16, 1)), kit.conv2(16, 5), kit.conv2(16, 5)])
    model.add(layers.Conv2D(1, 1, activation="sigmoid"))
    pieces = kit.split(
        kit.inputs(x[..., None].astype("float32")), kit.targets(y[..., None].astype("float32"))
    )
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, overlap, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "cracks",
    "focal_tversky_alone",
    cracks,
    "One pixel in thirty is a crack; the only loss is a power of a Tversky index, which starts near 1.",
)
broken(
    "cracks",
    "masks_in_bytes",
    cracks,
    "labels_in_bytes",
    "Masks of 0 and 255, as in the files, with binary cross-entropy: all becomes a crack; cure: divide by 255.",
    {"targets": lambda y: 255 * y},
    loss="binary_crossentropy",
)


# -- change_map: find what is new in the second picture ----------------------------------------------------------------


def second_of_others(rng, x, y):
    """A data set of pairs whose two halves were shuffled separately."""
    return {**x, "after": x["after"][rng.permutation(len(y))]}, y


def change_map(kit, *, rows=700, epochs=12, rate=5e-3, batch=16):
    coarse = kit.rng.random((rows, 4, 4))
    before = coarse.repeat(4, 1).repeat(4, 2)
    y = np.zeros((rows, 16, 16))
    for one in y:
        top, left = kit.rng.integers(1, 10, 2)
        one[top : top + 5, left : left + 5] = 1
    after = before + y * kit.rng.choice([-0.5, 0.5], (rows, 1, 1))
    x = {"before": before, "after": after}
    x = {k: (v + 0.1 * kit.rng.normal(size=v.shape))[..., None].astype("float32") for k, v in x.items()}
    into = {name: keras.Input((16, 16, 1), name=name) for name in x}
    eye = kit.conv2(12, 3)
    gap = ops.abs(eye(into["before"]) - eye(into["after"]))
    out = layers.Conv2D(1, 1, activation="sigmoid")(kit.conv2(12, 3)(gap))
    return kit.run(
        keras.Model(into, out),
        kit.split(x, y[..., None].astype("float32")),
        overlap,
        loss="binary_crossentropy",
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "change_map",
    "absolute_difference_of_one_eye",
    change_map,
    "The same convolution processes both pictures, and only the absolute difference is used.",
)
broken(
    "change_map",
    "halves_shuffled_apart",
    change_map,
    "labels_mixed_up",
    "The pictures before and after show different places; cure: one permutation for both.",
    {"rows": second_of_others, "validation_rows": second_of_others},
    curable=False,
)


# -- colouring: predict two color channels of a gray picture -----------------------------------------------------------


def colouring(kit, *, rows=600, epochs=12, rate=5e-3, batch=16):
    angle = kit.rng.uniform(0, 2 * np.pi, (rows, 1, 1, 1))
    row, column = np.mgrid[:12, :12]
    along = np.cos(angle[..., 0]) * column + np.sin(angle[..., 0]) * row
    gray = np.sin(0.5 * along + kit.rng.uniform(0, 6, (rows, 1, 1)))[..., None]
    y = np.concatenate([80 * np.tanh(2 * gray), 60 * (gray**2 - 0.5)], axis=-1)
    y += 4 * kit.rng.normal(size=y.shape)
    x = gray + 0.1 * kit.rng.normal(size=gray.shape)
    model = keras.Sequential([keras.Input((12, 12, 1)), kit.conv2(16, 3), kit.conv2(16, 3)])
    model.add(layers.Conv2D(2, 3, padding="same", activation=kit.part("head", "tanh")))
    model.add(layers.Rescaling(kit.part("span", 110.0)))
    pieces = kit.split(x.astype("float32"), y.astype("float32"))
    return kit.run(model, pieces, r2, loss="mae", epochs=epochs, batch=batch, optimizer=kit.optimizer(rate))


healthy(
    "colouring",
    "tanh_times_110",
    colouring,
    "Channels from -100 to 100; a last layer multiplies a tanh by 110; the loss stays above 5.",
)
broken(
    "colouring",
    "tanh_against_a_hundred",
    colouring,
    "head_cannot_reach",
    "The same tanh without this factor; cure: multiply by 110.",
    {"span": 1.0},
    curable=False,
)


# -- folders: uint8 pictures, one folder per class ---------------------------------------------------------------------


def listed_otherwise(rng, x, y):
    """The validation folders were listed in another order, so the classes have other numbers."""
    return x, 1 + (y + 1) % 5


def folders(kit, *, rows=1200, epochs=10, rate=4e-3, batch=32):
    x, y = data.digits(1790)
    x, y = x[(y > 0) & (y < 6)][:rows], y[(y > 0) & (y < 6)][:rows]
    x = np.round(255 * x).astype("uint8")
    model = keras.Sequential([keras.Input((8, 8, 1), dtype="uint8"), layers.Rescaling(1 / 32, -4)])
    for layer in (
        kit.conv2(12, 3),
        kit.norm(),
        layers.GlobalAveragePooling2D(),
        kit.dense(32),
        kit.head(6, "softmax"),
    ):
        model.add(layer)
    loss, optimizer = "sparse_categorical_crossentropy", kit.optimizer(rate)
    pieces = kit.split(x, y.astype("int64"))
    return kit.run(model, pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "folders",
    "bytes_and_a_unit_to_spare",
    folders,
    "uint8 pictures that the model scales to -4..4, and labels from 1 to 5 for six units.",
)
broken(
    "folders",
    "validation_listed_otherwise",
    folders,
    "validation_otherwise",
    "The validation labels come from another order of folders; cure: give the class names.",
    {"validation_rows": listed_otherwise},
    belief=True,
    curable=False,
)
broken(
    "folders",
    "norm_keeps_its_first_means",
    folders,
    "batch_norm",
    "BatchNormalization with momentum 0.9999 in some 150 steps: it predicts with the initial statistics; cure: 0.9.",
    {"momentum": 0.9999},
)


# -- orientation: a rotation from points -------------------------------------------------------------------------------


def turned(y, found):
    """A distance for which q and -q are the same rotation."""
    return 1 - ops.sum(y * found, axis=-1) ** 2


def orientation(kit, *, rows=2500, epochs=14, rate=4e-3, batch=32):
    y = kit.rng.normal(size=(rows, 4)) * [1.5, 1, 1, 1]
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    w, i, j, k = y.T
    turn = np.stack(
        [1 - 2 * (j * j + k * k), 2 * (i * j - k * w), 2 * (i * k + j * w), 2 * (i * j + k * w)]
        + [1 - 2 * (i * i + k * k), 2 * (j * k - i * w), 2 * (i * k - j * w), 2 * (j * k + i * w)]
        + [1 - 2 * (i * i + j * j)],
        axis=1,
    ).reshape(-1, 3, 3)
    x = turn @ np.array([[1, 0, 0.5], [0, 1, -0.5], [0, 0, 1]]) + 0.03 * kit.rng.normal(size=(rows, 3, 3))

    def score(model, x, y):
        found, usual = predicted(model, x), np.linalg.eigvalsh(y.T @ y / len(y)).max()
        return (np.mean((found * y).sum(1) ** 2) - usual) / (1 - usual) if np.isfinite(found).all() else -1.0

    model = keras.Sequential([keras.Input((3, 3)), layers.Flatten(), kit.dense(64), kit.dense(64)])
    for layer in (kit.head(4), layers.UnitNormalization()):
        model.add(layer)
    pieces = kit.split(x.astype("float32"), y.astype("float32"))
    return kit.run(
        model, pieces, score, loss=turned, epochs=epochs, batch=batch, optimizer=kit.optimizer(rate)
    )


healthy(
    "orientation",
    "unit_quaternions",
    orientation,
    "Outputs of length 1 whose sign does not matter, so their distance to the targets is meaningless.",
)


# -- counter: a shop's till, with inputs of all types ------------------------------------------------------------------


def in_cents(x):
    return {**x, "amount": 1e6 + 1e5 * x["amount"]}


def counter(kit, *, rows=2000, epochs=10, rate=3e-3, batch=32):
    picture, kind, _ = data.shapes(kit.rng, rows)
    clerk, card = kit.rng.integers(0, 12, rows), kit.rng.random(rows) < 0.5
    amount = kit.rng.normal(size=(rows, 1))
    habit = kit.rng.normal(size=12)
    drive = habit[clerk] + 1.5 * (kind == 1) + card * amount[:, 0] + 0.2 * kit.rng.normal(size=rows)
    y = (drive > np.median(drive))[:, None]
    x = {"picture": (255 * picture).astype("uint8"), "clerk": clerk, "card": card[:, None], "amount": amount}
    kinds = {"picture": "uint8", "clerk": "int64", "card": "bool", "amount": "float64"}
    into = {name: keras.Input(value.shape[1:], name=name, dtype=kinds[name]) for name, value in x.items()}
    seen = layers.Rescaling(1 / 255)(into["picture"])
    seen = layers.GlobalMaxPooling2D()(kit.conv2(8, 3)(layers.MaxPooling2D()(kit.conv2(8, 3)(seen))))
    parts = [seen, layers.Embedding(12, 4)(into["clerk"])]
    parts += [ops.cast(into[name], "float32") for name in ("card", "amount")]
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.dense(32)(layers.Concatenate()(parts))))

    def score(model, x, y):
        found = predicted(model, x)
        return 2 * np.mean((found > 0.5) == y) - 1 if np.isfinite(found).all() else -1.0

    pieces = kit.split(kit.inputs(x), y)
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "counter",
    "four_kinds_of_numbers",
    counter,
    "uint8, integers, booleans and float64 in one dictionary; targets are booleans.",
)
broken(
    "counter",
    "amounts_in_cents",
    counter,
    "inputs_not_scaled",
    "One input of four is an amount in cents, around a million; cure: standardize it.",
    {"inputs": in_cents},
)
