"""The third unseen set: grades, survival, clicks, claims, weighted tasks, experts, directions, mixtures."""

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

from benchmarks.stranger_programs.third.kit import (
    above_chance,
    broken,
    explained,
    freeze,
    healthy,
    mixed_up,
    predicted,
    ranked,
)

# -- ordinal_grades: five ordered grades as four thresholds ------------------------------------------------------------


def grades(kit, *, rows=1500, epochs=10, rate=3e-3, depth=2, loss="binary_crossentropy"):
    x = kit.rng.normal(size=(rows, 8)).astype("float32")
    latent = x[:, 0] + np.abs(x[:, 1]) + np.sin(2 * x[:, 2]) + 0.3 * kit.rng.normal(size=rows)
    grade = np.digitize(latent, np.quantile(latent, [0.3, 0.5, 0.7, 0.9]))
    y = (grade[:, None] > np.arange(4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((8,)), *[kit.dense(32) for _ in range(depth)], kit.dropout(0.0), kit.head(4, "sigmoid")]
    )

    def score(model, x, y):
        found = (predicted(model, x) > kit.part("threshold", 0.5)).sum(-1)
        return explained(found, y.sum(-1))

    pieces = kit.split(kit.inputs(x), kit.targets(y))
    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


healthy(
    "ordinal_grades",
    "accuracy_misnamed",
    grades,
    "The accuracy that Keras shows for thresholds is meaningless and hardly changes, but the grades are learned.",
)
healthy(
    "ordinal_grades",
    "hinge_on_thresholds",
    grades,
    "Squared hinge on a tanh head with 0/1 thresholds, dropout of 0.6.",
    loss="squared_hinge",
    also={"head": "tanh", "dropout": 0.6, "threshold": 0.0},
    epochs=14,
)
broken(
    "ordinal_grades",
    "creeping_sgd",
    grades,
    "rate_too_low",
    "SGD at 1e-5 hardly moves from its start; cure: 0.1.",
    {"rate": 1e-5},
    also={"optimizer": "sgd"},
    rate=0.1,
    epochs=14,
)
broken(
    "ordinal_grades",
    "ten_sigmoid_layers",
    grades,
    "vanishing",
    "Through nine sigmoid layers no gradient passes; cure: relu.",
    {"activation": "sigmoid"},
    depth=9,
)
broken(
    "ordinal_grades",
    "grades_of_the_neighbour",
    grades,
    "labels_mixed_up",
    "Grades were joined to the wrong rows; cure: join by the key.",
    {"rows": mixed_up},
    curable=False,
)


# -- survival: proportional hazards with censoring ---------------------------------------------------------------------


def partial_likelihood(sign=1.0):
    def loss(y, risk):
        time, event = y[:, 0], y[:, 1]
        later = ops.cast(time[None] >= time[:, None], "float32")
        risk = risk[:, 0]
        total = ops.log(ops.sum(later * ops.exp(risk)[None], axis=1))
        return -sign * ops.mean((risk - total) * event)

    return loss


def survival(kit, *, rows=1600, epochs=10, rate=3e-3, batch=64):
    x = kit.rng.normal(size=(rows, 6)).astype("float32")
    hazard = np.exp(1.5 * x[:, 0] - 1.2 * x[:, 1] ** 2 + x[:, 2])
    time, end = kit.rng.exponential(1 / hazard), kit.rng.exponential(2.0, rows)
    y = np.stack([np.minimum(time, end), time < end], 1).astype("float32")
    model = keras.Sequential(
        [keras.Input((6,)), kit.dense(32), kit.dropout(0.0), kit.dense(32), kit.dropout(0.0), layers.Dense(1)]
    )

    def score(model, x, y):
        risk = predicted(model, x)[:, 0]
        pairs = (y[:, None, 0] < y[None, :, 0]) & (y[:, None, 1] > 0)
        return np.mean(np.sign(risk[:, None] - risk[None])[pairs]) if np.isfinite(risk).all() else -1

    loss = partial_likelihood(kit.part("sign", 1.0))
    return kit.run(
        model,
        kit.split(kit.inputs(x), y),
        score,
        loss=loss,
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "survival",
    "loss_depends_on_batch",
    survival,
    "Partial likelihood: the loss is about the logarithm of the batch size and falls by only a tenth.",
    batch=128,
    epochs=14,
)
healthy(
    "survival",
    "huge_dropout",
    survival,
    "Dropout of 0.7 twice; it ranks well nevertheless.",
    also={"dropout": 0.7},
    epochs=20,
)
broken(
    "survival",
    "likelihood_not_negated",
    survival,
    "wrong_sign",
    "The log-likelihood is minimized: the loss falls forever and the ranking is reversed; cure: the minus sign.",
    {"sign": -1.0},
    curable=False,
)
broken(
    "survival",
    "columns_swapped",
    survival,
    "labels_mixed_up",
    "The loss takes the event for the time and the time for the event; cure: swap the columns back.",
    {"rows": lambda rng, x, y: (x, y[:, ::-1]), "validation_rows": lambda rng, x, y: (x, y[:, ::-1])},
    curable=False,
)
broken(
    "survival",
    "dropout_swallows_all",
    survival,
    "dropout",
    "Dropout(0.99) twice in narrow layers; cure: Dropout(0.3).",
    {"dropout": 0.99},
)


# -- ad_clicks: categories as embeddings beside numbers ----------------------------------------------------------------


def clicks(kit, *, rows=3000, epochs=6, rate=5e-3, share=0.3, weighed=False, loss="binary_crossentropy"):
    site, hour, segment = (kit.rng.integers(0, size, rows) for size in (40, 24, 12))
    number = kit.rng.normal(size=(rows, 5)).astype("float32")
    number[:, 4] = 0  # a column that is not filled yet
    taste = kit.rng.normal(size=(40, 12))
    logit = 2 * taste[site, segment] + np.sin(hour / 24 * 2 * np.pi) + 1.5 * number[:, 0]
    y = (logit + kit.rng.logistic(size=rows) * 0.4 > np.quantile(logit, 1 - share)).astype("float32")
    x = {"site": site, "hour": hour, "segment": segment, "number": kit.inputs(number)}
    into = {
        name: keras.Input(
            (1,) if name != "number" else (5,), name=name, dtype="float32" if name == "number" else "int32"
        )
        for name in x
    }
    x = {name: value if value.ndim == 2 else value[:, None] for name, value in x.items()}
    sizes = {"site": 40, "hour": 24, "segment": 12}
    known = [
        layers.Flatten()(layers.Embedding(size, 6, trainable=kit.part("embedded", True))(into[name]))
        for name, size in sizes.items()
    ]
    hidden = kit.dense(48)(layers.Concatenate()([*known, into["number"]]))
    model = keras.Model(into, kit.head(1, "sigmoid")(kit.dense(24)(hidden)))
    options = {"class_weight": {0: 1.0, 1: 1 / share}} if weighed else {}
    pieces = kit.split(x, kit.targets(y[:, None]))

    def score(model, x, y):
        return ranked(predicted(model, x)[:, 0], y[:, 0])

    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        fit=options,
        optimizer=kit.optimizer(rate),
        metrics=["accuracy"],
    )


def leak(rng, x, y, *rest):
    return ({**x, "number": np.concatenate([x["number"][:, :4], 2 * y - 1], 1).astype("float32")}, y, *rest)


healthy(
    "ad_clicks",
    "one_in_twelve",
    clicks,
    "8 % clicks with class weights of 12: accuracy falls below that of always saying no, but the ranking is good.",
    share=0.08,
    weighed=True,
)
healthy(
    "ad_clicks",
    "focal",
    clicks,
    "Focal loss, whose values are tiny, with a large batch.",
    loss=keras.losses.BinaryFocalCrossentropy(gamma=2.0),
    rate=1e-2,
)
broken(
    "ad_clicks",
    "softmax_of_one",
    clicks,
    "one_unit_softmax",
    "Softmax over a single unit is always 1; cure: sigmoid.",
    {"head": "softmax"},
)
broken(
    "ad_clicks",
    "click_among_the_inputs",
    clicks,
    "leak",
    "A column is filled only after the click, in training and validation, so it has the answer; cure: drop the column.",
    {"rows": leak, "validation_rows": leak},
    belief=True,
    curable=False,
)


# -- claims: gamma-distributed amounts ---------------------------------------------------------------------------------


def gamma_loss(y, amount):
    return ops.mean(ops.log(amount) + y / amount, axis=-1)


def claims(kit, *, rows=2500, epochs=10, rate=4e-3, unit=1.0, loss=gamma_loss):
    age, value, year = (
        kit.rng.uniform(18, 80, rows),
        kit.rng.lognormal(10, 0.5, rows),
        kit.rng.integers(2005, 2021, rows),
    )
    raw = np.stack([age, value, year], 1)
    x = (raw - raw.mean(0)) / raw.std(0)
    mean = np.exp(0.8 * np.abs(x[:, 0]) + 0.5 * x[:, 1] - 0.4 * x[:, 2] - 0.5)
    y = (unit * mean * kit.rng.gamma(4, 0.25, rows)).astype("float32")
    x = raw if kit.part("raw") else x
    model = keras.Sequential([keras.Input((3,)), kit.dense(32), kit.dense(32), kit.head(1, "exponential")])

    def score(model, x, y):
        found = predicted(model, x)
        return explained(np.log(np.maximum(found, 1e-9)), np.log(y)) if np.isfinite(found).all() else -1

    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y[:, None]))
    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=32, optimizer=kit.optimizer(rate))


healthy(
    "claims", "below_zero", claims, "Gamma deviance: the loss has a logarithm and falls below zero.", unit=0.1
)
healthy(
    "claims",
    "log_error",
    claims,
    "Squared logarithmic error on a softplus head.",
    loss="mean_squared_logarithmic_error",
    also={"head": "softplus"},
)
broken(
    "claims",
    "amounts_below_zero",
    claims,
    "head_cannot_reach",
    "A linear head predicts amounts below zero, whose logarithm is NaN; cure: exponential or softplus.",
    {"head": None},
)
broken(
    "claims",
    "years_and_euros",
    claims,
    "inputs_not_scaled",
    "Inputs such as the year 2005 and 22,000 euros are not scaled; cure: standardize.",
    {"raw": True},
)


# -- weighed_tasks: class, parity and ink of a digit; tasks weighted by their learned noise ----------------------------


class Weighed(keras.Model):
    def build_weights(self):
        self.noise = self.add_weight(shape=(2,), initializer="zeros", name="log_noise")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        kind = ops.mean(keras.losses.sparse_categorical_crossentropy(y["kind"], y_pred["kind"]))
        ink = ops.mean((y["ink"] - y_pred["ink"]) ** 2)
        return ops.sum(ops.exp(-self.noise) * ops.stack([kind, ink]) + 0.5 * self.noise)


def tasks(kit, *, epochs=8, rate=3e-3, learned=False, weights=(1.0, 1.0), width=64):
    digits = load_digits()
    x = kit.inputs((digits.data / 16).astype("float32"))
    ink = x.sum(1, keepdims=True)
    y = {
        "kind": digits.target[:, None],
        "ink": kit.part("units", lambda y: y)((ink - ink.mean()) / ink.std()),
    }
    into = keras.Input((64,))
    hidden = kit.dense(width)(kit.dense(width)(into))
    kind = layers.Dense(10, kit.part("kind_head", "softmax"), name="kind")(hidden)
    out = {"kind": kind, "ink": layers.Dense(1, name="ink")(hidden)}
    model = (Weighed if learned else keras.Model)(into, out)

    def score(model, x, y):
        found = model.predict(x, verbose=0)
        right = above_chance(found["kind"].argmax(-1) == y["kind"][:, 0], 0.1)
        return (right + max(explained(found["ink"], y["ink"]), 0)) / 2

    pieces = kit.split(x, y)
    if learned:
        model.build_weights()
        return kit.run(
            model, pieces, score, epochs=epochs, batch=32, optimizer=kit.optimizer(rate), plain=False
        )
    losses = {"kind": "sparse_categorical_crossentropy", "ink": "mse"}
    return kit.run(
        model,
        pieces,
        score,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
        plain=True,
        loss=losses,
        loss_weights=dict(zip(("kind", "ink"), weights, strict=True)),
    )


healthy(
    "weighed_tasks",
    "noise_learned",
    tasks,
    "The loss of each task is divided by a learned noise; the sum falls below zero.",
    learned=True,
    epochs=20,
)
healthy(
    "weighed_tasks",
    "weights_of_thousandths",
    tasks,
    "Loss weights of 0.001 and 0.002: tiny losses, which do not matter to Adam.",
    weights=(0.001, 0.002),
)
broken(
    "weighed_tasks",
    "ink_in_grams",
    tasks,
    "targets_not_scaled",
    "The ink is in the thousands, so its squared error dominates the class; cure: standardize it.",
    {"units": lambda y: 3000 * y},
)
broken(
    "weighed_tasks",
    "nothing_trainable",
    tasks,
    "frozen",
    "A loop over model.layers froze the heads as well; cure: trainable = True.",
    {"weights": freeze},
)


# -- experts: linear experts chosen by a gate --------------------------------------------------------------------------


def experts(kit, *, rows=2000, epochs=12, rate=1e-2, many=6, loss="mse", callbacks=()):
    x = kit.rng.normal(size=(rows, 6)).astype("float32")
    regime = (x[:, 0] > 0).astype(int) + 2 * (x[:, 1] > 0)
    slopes = kit.rng.normal(size=(4, 4))
    slopes -= slopes.mean(0)
    y = (np.sum(slopes[regime] * x[:, 2:], 1) + 0.1 * kit.rng.normal(size=rows)).astype("float32")[:, None]
    into = keras.Input((6,))
    gate = layers.Softmax(axis=kit.part("axis", -1))(layers.Dense(many)(kit.dense(24)(into)))
    said = layers.Dense(many, **kit.options())(into)
    out = layers.Lambda(lambda pair: ops.sum(pair[0] * pair[1], axis=-1, keepdims=True))([gate, said])
    pieces = kit.split(kit.inputs(x), kit.targets(y))

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(
        keras.Model(into, out),
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        fit={"callbacks": list(callbacks)},
        optimizer=kit.optimizer(rate),
    )


healthy(
    "experts",
    "warm_restarts",
    experts,
    "Cosine rate with restarts from 0.03: the loss jumps at each.",
    rate=keras.optimizers.schedules.CosineDecayRestarts(0.03, 120),
    epochs=14,
)
healthy(
    "experts",
    "thirty_experts",
    experts,
    "Thirty experts for four regimes, most of which stay idle; Huber loss.",
    many=30,
    loss="huber",
)
broken(
    "experts",
    "weights_decay",
    experts,
    "regularization",
    "AdamW with a weight decay of 30 undoes all that is learned; cure: weight_decay=0.004.",
    {"optimizer_options": {"weight_decay": 30.0}},
    also={"optimizer": "adamw", "optimizer_options": {"weight_decay": 0.004}},
)
broken(
    "experts",
    "decayed_at_once",
    experts,
    "decayed_too_early",
    "The rate falls to a thousandth within the first ten steps; cure: let it fall over the whole training.",
    {"early": lambda rate: keras.optimizers.schedules.ExponentialDecay(rate, 10, 0.01)},
)


# -- wind_direction: an angle ------------------------------------------------------------------------------------------


def closeness(y, found):
    return -ops.mean(ops.sum(y * ops.normalize(found, axis=-1), axis=-1))


def wind(kit, *, rows=1500, epochs=10, rate=4e-3, loss="mse"):
    x = kit.rng.normal(size=(rows, 5)).astype("float32")
    angle = np.arctan2(x[:, 0] + 0.5 * x[:, 2] * x[:, 3], x[:, 1] + 0.2 * kit.rng.normal(size=rows))
    y = kit.targets(np.stack([np.sin(angle), np.cos(angle)], 1).astype("float32"))
    model = keras.Sequential([keras.Input((5,)), kit.dense(48), kit.dense(32), kit.head(2, None)])

    def score(model, x, y):
        found = predicted(model, x)
        return np.mean(np.cos(np.arctan2(*found.T) - np.arctan2(*y.T))) if np.isfinite(found).all() else -1

    return kit.run(
        model,
        kit.split(kit.inputs(10 * x), y),
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "wind_direction",
    "minus_cosine",
    wind,
    "The loss is minus the cosine: below zero from the first epoch, and at least -1.",
    loss=closeness,
)
healthy(
    "wind_direction",
    "tanh_deep",
    wind,
    "Inputs ten times too large for tanh units, which saturate but still learn.",
    also={"activation": "tanh"},
    epochs=16,
)
broken(
    "wind_direction",
    "relu_head",
    wind,
    "head_cannot_reach",
    "A ReLU head cannot predict a negative sine or cosine, so 3/4 of the compass are lost; cure: no activation.",
    {"head": "relu"},
)
broken(
    "wind_direction",
    "validation_not_scaled",
    wind,
    "validation_otherwise",
    "Validation is not preprocessed in the same way (other mean, other unit), so its results are wrong; cure: the "
    "same preprocessing.",
    {"validation_rows": lambda rng, x, y: (x / 100 + 3, y)},
    belief=True,
    curable=False,
)


# -- mixture_density: two answers to one question ----------------------------------------------------------------------


def mixture(kit, *, rows=1500, epochs=12, rate=6e-3, parts=3, scale=1.0):
    x = kit.rng.uniform(-1, 1, (rows, 1)).astype("float32")
    y = kit.rng.choice([-1, 1], (rows, 1)) * (0.6 + np.sin(3 * x) * 0.4) + 0.06 * kit.rng.normal(
        size=(rows, 1)
    )
    y = kit.targets((scale * y).astype("float32"))
    unit = y.std()

    def loss(y, out):
        weight, mean, spread = ops.split(out, 3, axis=-1)
        spread = kit.part("floor", 1e-3) + ops.softplus(spread)
        chance = ops.log_softmax(weight) - ops.log(spread) - 0.5 * ((y - mean) / spread) ** 2 - 0.919
        return -ops.logsumexp(chance, axis=-1)

    def score(model, x, y):
        found = loss(y.astype("float32"), predicted(model, x).astype("float32"))
        gain = 0.919 + 0.5 + np.log(unit) - np.mean(found)
        best = 0.919 + 0.5 + np.log(unit) - (0.919 + 0.5 + np.log(unit * 0.06 / 0.7) + np.log(2))
        return gain / best

    model = keras.Sequential(
        [keras.Input((1,)), kit.dense(32, "tanh"), kit.dense(32, "tanh"), layers.Dense(3 * parts)]
    )
    return kit.run(
        model,
        kit.split(kit.inputs(x), y),
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "mixture_density",
    "far_below_zero",
    mixture,
    "Targets of the size 0.01: the log-density loss ends near -4.",
    scale=0.05,
    epochs=14,
)
healthy(
    "mixture_density",
    "twelve_parts",
    mixture,
    "Twelve components for two answers, Adamax.",
    parts=12,
    also={"optimizer": "adamax"},
    rate=2e-2,
)
broken(
    "mixture_density",
    "adam_at_one",
    mixture,
    "rate_too_high",
    "Adam at a rate of 3 saturates the tanh layers; cure: 0.006.",
    {"rate": 3.0},
)
broken(
    "mixture_density",
    "in_micrometres",
    mixture,
    "targets_not_scaled",
    "Targets of tens of thousands: means that start at zero never reach them; cure: standardize.",
    {"units": lambda y: 2e4 * y},
)
