"""The third unseen set: heartbeats, two towers, a translation, density maps."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs.third.kit import above_chance, broken, explained, healthy, predicted

# -- heartbeats: five classes, most beats are normal -------------------------------------------------------------------


def beats(
    kit,
    *,
    rows=1500,
    epochs=8,
    rate=3e-3,
    batch=32,
    half=False,
    weighed=False,
    even=False,
    loss="sparse_categorical_crossentropy",
    head="softmax",
):
    y = kit.rng.choice(5, rows, p=[0.2] * 5 if even else [0.52, 0.12, 0.12, 0.12, 0.12])
    time = np.linspace(-1, 1, 64)
    middle = 0.15 * kit.rng.normal(size=(rows, 1))
    width = np.array([0.06, 0.06, 0.14, 0.06, 0.06])[y][:, None]
    before = np.array([0.3, 0.0, 0.0, 0.3, 0.3])[y][:, None]
    after = np.array([0.4, 0.4, -0.4, -0.4, 1.0])[y][:, None]
    x = np.exp(-(((time - middle) / width) ** 2)) + before * np.exp(-(((time - middle + 0.4) / 0.1) ** 2))
    x += after * np.exp(-(((time - middle - 0.45) / 0.15) ** 2)) + 0.12 * kit.rng.normal(size=x.shape)
    keras.config.set_dtype_policy("mixed_bfloat16" if half else "float32")
    model = keras.Sequential(
        [
            keras.Input((64, 1)),
            kit.conv1(16, 7, strides=2),
            kit.conv1(24, 5, strides=2),
            kit.norm(),
            layers.Flatten(),
            kit.dropout(0.2),
            kit.dense(32),
            kit.head(5, head, dtype="float32"),
        ]
    )
    keras.config.set_dtype_policy("float32")
    pieces = kit.split(kit.inputs(x[..., None].astype("float32")), y)
    pieces = [(x, kit.targets(y)) for x, y in pieces[:2]] + pieces[2:]
    fit = (
        {"class_weight": {kind: 1 / share for kind, share in enumerate(np.bincount(y) / rows)}}
        if weighed
        else {}
    )

    def score(model, x, y):
        found = predicted(model, x).argmax(-1)
        return above_chance(np.mean([np.mean(found[y == kind] == kind) for kind in range(5)]), 0.2)

    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=batch,
        fit=fit,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


def lacks_rare(rng, x, y, *rest):
    keep = y < 2
    return (x[keep], y[keep], *rest)


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
healthy(
    "heartbeats",
    "bfloat_and_weights",
    beats,
    "Half precision and class weights of 2 to 8, so the loss is five times the usual.",
    half=True,
    weighed=True,
)
healthy(
    "heartbeats",
    "sigmoids_for_kinds",
    beats,
    "Five sigmoids with a sparse cross-entropy, which is unusual but classifies well.",
    head="sigmoid",
)
broken(
    "heartbeats",
    "logits_as_probabilities",
    beats,
    "logits",
    "Neither the head nor the loss has a softmax; cure: softmax, or from_logits=True.",
    {"head": None, "loss": "sparse_categorical_crossentropy"},
    cure={"loss": LOGITS},
)
broken(
    "heartbeats",
    "softmax_twice",
    beats,
    "logits",
    "The head has a softmax and so has the loss (from_logits=True), so SGD gets hardly any gradient; cure: only one.",
    {"head": "softmax"},
    also={"optimizer": "sgd"},
    loss=LOGITS,
    head=None,
    epochs=6,
    rate=0.03,
)
broken(
    "heartbeats",
    "labels_from_one",
    beats,
    "label_range",
    "Classes are numbered from 1 to 5 for five outputs; cure: subtract 1.",
    {"targets": lambda y: y + 1},
)
broken(
    "heartbeats",
    "rare_kinds_not_in_training",
    beats,
    "validation_lacks_class",
    "The training rows have only the first two classes; cure: a stratified split.",
    {"rows": lacks_rare},
    curable=False,
)


# -- two_towers: users and items, the others of the batch are the negatives --------------------------------------------


def in_batch(y, towers):
    user, thing = ops.split(towers, 2, axis=-1)
    close = ops.matmul(user, ops.transpose(thing)) / 0.2
    return -ops.mean(ops.diagonal(ops.log_softmax(close, axis=-1)))


def towers(kit, *, rows=2500, epochs=6, rate=3e-3, batch=64, wide=24):
    taste = kit.rng.normal(size=(30, 6))
    thing = kit.rng.integers(0, 30, rows)
    user = (taste[thing] + 0.5 * kit.rng.normal(size=(rows, 6))) @ kit.rng.normal(size=(6, 10))
    user = kit.inputs((user / user.std()).astype("float32"))
    into = keras.Input((10,), name="user"), keras.Input((1,), name="thing", dtype="int32")
    left = layers.UnitNormalization()(kit.dense(wide, None)(kit.dense(48)(into[0])))
    right = layers.UnitNormalization()(layers.Flatten()(layers.Embedding(30, wide)(into[1])))
    model = keras.Model(list(into), layers.Concatenate()([left, right]))
    pieces = kit.split((user, thing[:, None]), thing.astype("float32")[:, None])
    pieces = [({"user": user, "thing": thing}, y) for (user, thing), y in pieces]

    def score(model, x, y):
        both = predicted(model, x)
        things = predicted(model, {"user": np.zeros((30, 10), "float32"), "thing": np.arange(30)[:, None]})[
            :, wide:
        ]
        return above_chance((both[:, :wide] @ things.T).argmax(1) == x["thing"][:, 0], 1 / 30)

    return kit.run(
        model, pieces, score, loss=in_batch, epochs=epochs, batch=batch, optimizer=kit.optimizer(rate)
    )


def by_thing(rng, x, y):
    order = np.argsort(y[:, 0], kind="stable")
    return {name: value[order] for name, value in x.items()}, y[order]


healthy(
    "two_towers",
    "negatives_repeat",
    towers,
    "The loss cannot fall to 0, because a batch of 128 has each of 30 items about four times.",
    batch=128,
    epochs=12,
)
healthy(
    "two_towers",
    "targets_unused",
    towers,
    "The loss does not use the targets; RMSprop with momentum.",
    also={"optimizer": "rmsprop", "optimizer_options": {"momentum": 0.5}},
    epochs=8,
)
broken(
    "two_towers",
    "batches_of_one_thing",
    towers,
    "order",
    "Rows are sorted by item and not shuffled, so every negative is the item itself; cure: shuffle=True.",
    {"rows": by_thing, "shuffle": False},
    cure={"shuffle": True},
)
broken(
    "two_towers",
    "join_found_nothing",
    towers,
    "constant_inputs",
    "The join of the users' features failed and was filled with zeros; cure: mend the join.",
    {"inputs": lambda x: 0 * x},
    curable=False,
)


# -- translation: a code that runs backwards, with teacher forcing -----------------------------------------------------


def translation(kit, *, rows=2500, length=4, words=9, epochs=12, rate=1e-2, wide=48):
    x = kit.rng.integers(1, words, (rows, length))
    code = np.concatenate([[0], 1 + kit.rng.permutation(words - 1)])
    y = code[x[:, ::-1]]
    given = np.concatenate([np.zeros((rows, 1), int), y[:, :-1]], 1)
    given = kit.part("given", lambda given, y: given)(given, y)
    into = (
        keras.Input((length,), name="text", dtype="int32"),
        keras.Input((length,), name="given", dtype="int32"),
    )
    state = layers.GRU(wide)(layers.Embedding(words, 16)(into[0]))
    told = layers.GRU(wide, return_sequences=True)(layers.Embedding(words, 16)(into[1]), initial_state=state)
    model = keras.Model(list(into), kit.head(words, "softmax")(told))
    pieces = [({"text": text, "given": given}, y) for (text, given), y in kit.split((x, given), y)]

    def score(model, x, y):
        said = np.zeros_like(y)
        for step in range(length):
            before = np.concatenate([np.zeros((len(y), 1), int), said[:, :-1]], 1)
            seen = kit.part("given", lambda given, y: given)(before, said)
            said[:, step] = predicted(model, {"text": x["text"], "given": seen})[:, step].argmax(-1)
        return above_chance(said == y, 1 / (words - 1))

    loss = "sparse_categorical_crossentropy"
    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=64,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "translation",
    "teacher_forced",
    translation,
    "The validation loss uses teacher forcing, the skill does not.",
)
healthy(
    "translation",
    "adam_slow_memory",
    translation,
    "Adam with beta_1 = 0.5 and epsilon = 1e-3.",
    also={"optimizer_options": {"beta_1": 0.5, "epsilon": 1e-3}},
    rate=2e-2,
)
broken(
    "translation",
    "sees_what_it_says",
    translation,
    "leak",
    "The decoder's input is not shifted, so it contains the word to predict: the loss goes to zero, but nothing is "
    "translated; cure: shift.",
    {"given": lambda given, y: y},
    curable=False,
)
broken(
    "translation",
    "rate_of_a_half",
    translation,
    "rate_too_high",
    "Adam at a rate of 0.5 on recurrent layers; cure: 0.01.",
    {"rate": 0.5},
)


# -- density_map: how many dots, where ---------------------------------------------------------------------------------


def density(kit, *, rows=500, epochs=8, rate=4e-3, loss="mse", unit=1.0):
    x = 0.3 * kit.rng.normal(size=(rows, 16, 16))
    y = np.zeros((rows, 16, 16))
    for row in range(rows):
        for a, b in kit.rng.integers(1, 15, (kit.rng.integers(0, 9), 2)):
            x[row, a - 1 : a + 2, b] += 1
            x[row, a, b - 1 : b + 2] += 1
            y[row, a, b] = unit
    into = keras.Input((16, 16, 1))
    fine = kit.norm()(kit.conv2(12, 3)(into))
    coarse = kit.conv2(16, 3)(layers.MaxPooling2D()(fine))
    joined = layers.Concatenate()([fine, layers.UpSampling2D()(coarse)])
    out = layers.Conv2D(1, 3, padding="same", activation=kit.part("head", None))(joined)
    pieces = kit.split(
        kit.inputs(x[..., None].astype("float32")), kit.targets(y[..., None].astype("float32"))
    )

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(
        keras.Model(into, out),
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=25,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "density_map",
    "nearly_all_zero",
    density,
    "98 of 100 targets are zero: the loss begins at that of always predicting zero and seems to stay there.",
    epochs=12,
    rate=6e-3,
)
healthy(
    "density_map",
    "hundredfold",
    density,
    "Each dot counts as 100, so the loss begins near 150.",
    unit=100.0,
    rate=3e-2,
    epochs=12,
)
broken(
    "density_map",
    "absolute_error_on_rare_dots",
    density,
    "wrong_loss",
    "The absolute error is smallest if all predictions are zero, which is the median; cure: mse.",
    {"loss": "mae", "head": "relu"},
    epochs=12,
    rate=6e-3,
)
broken(
    "density_map",
    "norm_that_never_learns",
    density,
    "batch_norm",
    "Batch norm with momentum 0.9999 keeps its first statistics, so validation uses another network; cure: 0.9.",
    {"momentum": 0.99999},
    also={"inputs": lambda x: 40 * x + 100},
    epochs=12,
    rate=6e-3,
)
