"""The sixth unseen set: time and text: kelvin, indicators, voices, essays, headlines, a vote, addresses, mail."""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.sixth.kit import balanced, broken, flowing, healthy, hits, r2

SPARSE = "sparse_categorical_crossentropy"

# -- kelvin: tomorrow's temperature ------------------------------------------------------------------------------------


def kelvin(kit, *, rows=1200, epochs=12, rate=5e-3, batch=32, past=14):
    time = np.arange(rows + past)
    curve = 283 + 9 * np.sin(2 * np.pi * time / 120) + 4 * np.sin(2 * np.pi * time / 7)
    curve += kit.rng.normal(size=len(time))
    x = np.stack([curve[i : i + past] for i in range(rows)])[..., None].astype("float32")
    pieces = kit.split(kit.inputs(x), curve[past:, None].astype("float32"))
    into = keras.Input((past, 1))
    h = layers.LSTM(16)(layers.Rescaling(0.1, -28.0)(into))
    out = layers.Rescaling(10.0, 280.0)(kit.head(1)(h))
    loss, optimizer = "mae", kit.optimizer(rate)
    return kit.run(
        keras.Model(into, out), pieces, r2, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer
    )


healthy(
    "kelvin",
    "two_hundred_and_eighty",
    kelvin,
    "Inputs and targets around 283, which layers of the model scale and scale back.",
)


# -- indicators: means of the last days --------------------------------------------------------------------------------


def first_days_empty(rng, x, y, *rest):
    """The mean of the last thirty days has no value in the first days of each year."""
    x = np.array(x)
    x[rng.random(len(x)) < 0.02, -1] = np.nan
    return (x, y, *rest)


def indicators(kit, *, rows=1500, epochs=12, rate=3e-3, batch=32):
    pace = np.repeat(kit.rng.normal(size=rows // 5), 5)[:rows] * 0.01
    gain = pace[:, None] + 0.01 * kit.rng.normal(size=(rows, 12))
    x = np.concatenate([gain * 100, gain.mean(1, keepdims=True) * 300], axis=1).astype("float32")
    y = (pace + 0.002 * kit.rng.normal(size=rows) > 0).astype("float32")[:, None]
    model = keras.Sequential([keras.Input((13,)), kit.dense(24), kit.dropout(0.3), kit.head(1, "sigmoid")])
    loss, optimizer, pieces = "binary_crossentropy", kit.optimizer(rate), kit.split(x, y)
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "indicators",
    "mean_of_days_not_there",
    indicators,
    "nan_inputs",
    "The moving mean is NaN if there are too few days before; cure: leave these rows out.",
    {"rows": first_days_empty},
    curable=False,
)


# -- voices: mean and deviation over time ------------------------------------------------------------------------------


def voices(kit, *, rows=900, epochs=12, rate=4e-3, batch=32, length=20):
    y = kit.rng.integers(0, 4, rows)
    spread = np.array([[0.4, 1.2], [1.2, 0.4], [0.4, 0.4], [1.2, 1.2]])[y]
    x = spread[:, None] * kit.rng.normal(size=(rows, length, 2))
    x[kit.rng.random(rows) < 0.03] = 0
    into = keras.Input((length, 2))
    h = kit.conv1(16, 3)(kit.conv1(16, 3)(into))
    spread = ops.mean((h - ops.mean(h, axis=1, keepdims=True)) ** 2, axis=1)
    h = layers.Concatenate()([ops.mean(h, axis=1), ops.sqrt(spread + kit.part("epsilon", 1e-6))])
    model = keras.Model(into, kit.head(4, "softmax")(h))
    pieces, optimizer = kit.split(x.astype("float32"), y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "voices",
    "some_are_silent",
    voices,
    "The model computes deviations over time; three in a hundred rows are all 0.",
)
broken(
    "voices",
    "root_of_nothing",
    voices,
    "infinite_loss",
    "The deviation of a silent row is the root of 0, whose slope is infinite; cure: add 1e-6 under the root.",
    {"epsilon": 0.0},
    curable=False,
)


# -- essays: texts of any length ---------------------------------------------------------------------------------------


def essays(kit, *, rows=1000, epochs=8, rate=5e-3, batch=32, length=80):
    short, y = data.sentences(kit.rng, rows, vocabulary=200, length=10, opinions=20)
    x = np.zeros((rows, length), "int32")
    x[:, :10] = np.maximum(short, 1)
    mask = kit.part("mask", True)
    model = keras.Sequential(
        [keras.Input((length,), dtype="int32"), layers.Embedding(200, 16, mask_zero=mask)]
    )
    model.add(layers.LSTM(16))
    model.add(kit.head(1, "sigmoid"))
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    pieces = kit.split(x, y.astype("float32")[:, None])
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "essays",
    "seven_eighths_are_padding",
    essays,
    "Ten words followed by seventy zeros, which a mask skips.",
)
broken(
    "essays",
    "padding_forgets",
    essays,
    "no_mask",
    "No mask: the LSTM runs over seventy zeros and forgets the text; cure: mask_zero=True.",
    {"mask": False},
    curable=False,
)


# -- headlines: word ids -----------------------------------------------------------------------------------------------


def headlines(kit, *, rows=1200, epochs=8, rate=5e-3, batch=32, length=12):
    x, y = data.sentences(kit.rng, rows, vocabulary=400, length=length, opinions=25, classes=3)
    x = (x * 7919) % 20011
    into = keras.Input((length,), dtype="int32")
    if kit.part("embedded", True):
        h = layers.GlobalAveragePooling1D()(layers.Embedding(20011, 16)(into))
    else:
        h = kit.dense(64)(kit.dense(64)(ops.cast(into, "float32")))
    model = keras.Model(into, kit.head(3, "softmax")(h))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "headlines",
    "numbers_taken_for_quantities",
    headlines,
    "inputs_not_scaled",
    "Word ids go straight into a dense layer, as if 20,000 were more than 3; cure: an embedding.",
    {"embedded": False},
    curable=False,
)


# -- vote: three networks in one ---------------------------------------------------------------------------------------


def vote(kit, *, rows=1000, epochs=8, rate=0.2, batch=32):
    x, y = data.digits(rows)
    into = keras.Input((8, 8, 1))
    parts = [kit.head(10, "softmax")(kit.dense(size)(layers.Flatten()(into))) for size in (16, 32, 48)]
    model = keras.Model(into, layers.Average()(parts))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=kit.part("from_logits", False))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate, "sgd")
    return kit.run(model, pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "vote",
    "mean_taken_for_logits",
    vote,
    "softmax_twice",
    "from_logits=True is left from a model without softmax: a softmax of probabilities; cure: from_logits=False.",
    {"from_logits": True},
    curable=False,
)


# -- addresses: which links are harmful --------------------------------------------------------------------------------


def addresses(kit, *, rows=1500, epochs=8, rate=0.01, batch=32, length=24):
    x = kit.rng.integers(1, 40, (rows, length))
    y = np.arange(rows) % 4
    for row in np.flatnonzero(y):
        at = kit.rng.integers(0, length - 3)
        x[row, at : at + 3] = [[7, 31, 7], [7, 31, 9], [9, 31, 7]][y[row] - 1]
    model = keras.Sequential(
        [keras.Input((length,), dtype="int64"), layers.Embedding(40, 8), kit.conv1(24, 3)]
    )
    model.add(layers.GlobalMaxPooling1D())
    model.add(kit.head(4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return flowing(
        kit, kit.run(model, pieces, hits, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)
    )


broken(
    "addresses",
    "loss_by_its_name",
    addresses,
    "logits",
    "The loss, given by its name, takes logits for probabilities and clips them at 0; cure: from_logits=True.",
    {"loss": SPARSE},
)


# -- comments: yes or no with one unit ---------------------------------------------------------------------------------


def comments(kit, *, rows=900, epochs=8, rate=5e-3, batch=32):
    x, y = data.sentences(kit.rng, rows, vocabulary=300, length=16, opinions=20)
    into = keras.Input((16,), dtype="int32")
    h = layers.Embedding(300, 16)(into)
    gate = layers.Softmax(axis=1)(layers.Dense(1)(h))
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.dense(16)(ops.sum(gate * h, axis=1))))
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    pieces = kit.split(x, y.astype("float32")[:, None])
    run = kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)
    return flowing(kit, run, buffer=64)


healthy(
    "comments",
    "softmax_of_one_unit_over_time",
    comments,
    "A softmax over positions, with one unit each: this is attention, not a mistake.",
)
broken(
    "comments",
    "softmax_over_one_answer",
    comments,
    "one_unit_softmax",
    "The head is one unit with softmax, which is always 1; cure: sigmoid.",
    {"head": "softmax"},
)


# -- stance: one unit with a loss for several classes ------------------------------------------------------------------


def stance(kit, *, epochs=8, rate=5e-3, batch=32):
    x, y = data.words(kit.rng, 900, classes=2)
    model = keras.Sequential([keras.Input((300,)), kit.dense(32), kit.dropout(0.4), kit.head(1, "sigmoid")])
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    pieces = kit.split(x, y.astype("float32")[:, None])
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "stance",
    "categorical_of_one_unit",
    stance,
    "categorical_of_one_unit",
    "categorical_crossentropy for one unit: the output is divided by itself, so the loss is 0; cure: binary.",
    {"loss": "categorical_crossentropy"},
)


# -- paragraphs: attention with a mask ---------------------------------------------------------------------------------


def paragraphs(kit, *, rows=900, epochs=10, rate=4e-3, batch=32, length=24):
    short, y = data.sentences(kit.rng, rows, vocabulary=200, length=10, opinions=15, classes=3)
    x = np.zeros((rows, length), "int32")
    x[:, :10] = np.maximum(short, 1)
    into = keras.Input((length,), dtype="int32")
    seen = ops.not_equal(into, 0)
    allowed = seen if kit.part("as_keras", True) else ops.logical_not(seen)
    h = layers.Embedding(200, 16)(into)
    asked = layers.Embedding(1, 16)(ops.zeros_like(into[:, :1]))
    h = layers.MultiHeadAttention(2, 8)(asked, h, attention_mask=ops.expand_dims(allowed, 1))
    model = keras.Model(into, kit.head(3, "softmax")(layers.Flatten()(h)))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "paragraphs",
    "one_question_to_all_words",
    paragraphs,
    "One learned query over words; a mask hides the padding.",
)
broken(
    "paragraphs",
    "true_means_hidden",
    paragraphs,
    "mask_inverted",
    "The mask is True for padding, as in another library, so attention sees only the padding; cure: invert it.",
    {"as_keras": False},
    curable=False,
)


# -- morse: a warm-up --------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("sixth")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, top, steps):
        self.top, self.steps = top, steps

    def __call__(self, step):
        return self.top * ops.minimum(ops.cast(step + 1, "float32") / self.steps, 1.0)

    def get_config(self):
        return {"top": self.top, "steps": self.steps}


def morse(kit, *, rows=1200, epochs=10, rate=5e-3, batch=32):
    x, y = data.waves(kit.rng, rows, classes=4, noise=0.6)
    model = keras.Sequential([keras.Input((24, 1)), kit.conv1(16, 5), kit.conv1(16, 5)])
    for layer in (layers.GlobalAveragePooling1D(), kit.head(4, "softmax")):
        model.add(layer)
    pieces, optimizer = kit.split(x, y), kit.optimizer(WarmUp(rate, kit.part("steps", 60)))
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "morse",
    "warm_up_without_end",
    morse,
    "rate_too_low",
    "A warm-up of 100,000 steps, as for a large model, in a run of some hundred steps; cure: a shorter warm-up.",
    {"steps": 100_000},
)


# -- tremors: a schedule -----------------------------------------------------------------------------------------------


def tremors(kit, *, rows=1200, epochs=14, rate=5e-3, batch=32):
    x, y = data.waves(kit.rng, rows, classes=4, noise=0.6)
    model = keras.Sequential([keras.Input((24, 1)), layers.GRU(16), kit.head(4, "softmax")])
    usual = keras.optimizers.schedules.CosineDecayRestarts(rate, 80)
    rate = kit.part("rate", rate)
    schedule = kit.part("early")(rate) if kit.part("early") else usual
    pieces, optimizer = kit.split(x, y), keras.optimizers.Adam(schedule)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy("tremors", "cosine_that_starts_again", tremors, "The rate falls to 0 and jumps up again.")
broken(
    "tremors",
    "steps_taken_for_epochs",
    tremors,
    "decayed_too_early",
    "ExponentialDecay halves the rate every 3 steps, where epochs were meant: it is 0 after one epoch; cure: * steps.",
    {"early": lambda rate: keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.5)},
)


# -- inbox: a comparison that is never true ----------------------------------------------------------------------------


def inbox(kit, *, epochs=10, rate=3e-3, batch=32):
    x, y = data.words(kit.rng, 900, classes=2)
    kind = np.array(["ham", "spam"])[y]
    train, validation, test = kit.split(x, kind)
    train, validation = [(x, (y == kit.part("name", "spam"))[:, None]) for x, y in (train, validation)]
    pieces = train, validation, (test[0], (test[1] == "spam")[:, None])
    model = keras.Sequential([keras.Input((300,)), kit.dense(16), kit.head(1, "sigmoid")])
    loss, optimizer = "binary_crossentropy", kit.optimizer(rate)
    return kit.run(model, pieces, balanced, loss=loss, epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "inbox",
    "spelled_otherwise",
    inbox,
    "constant_targets",
    "The class is compared with 'Spam', but the file has 'spam', so every label is False; cure: the right spelling.",
    {"name": "Spam"},
    curable=False,
)
