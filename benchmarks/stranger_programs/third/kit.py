"""What the programs of the third unseen set share, written without knowing the rules or the other kit.

A program is a function from a `Kit` to a `Run`. It asks the kit for its parts (`kit.rate(1e-3)`, `kit.head(4)`), and
the kit returns what the program wants, unless a fault, or a change that cures it, replaces this part.
So the twin of a broken program is the same program without its fault, and `build(seed, change={...})` applies a remedy.
The objects have the attributes that `benchmarks/strangers.py` uses.
"""

import keras
import numpy as np
from keras import layers

from benchmarks.stranger_programs.kit import CAUSES

PROGRAMS = {}

# cause -> the codes that name it correctly: those of the same cause in the other kit, or else chosen by their meaning.
# Filled in before the doctor was run on these programs. An empty set: the doctor has no code for it.
SAME = {
    "rate_too_high": "rate too high",
    "rate_too_low": "rate too low",
    "decayed_too_early": "rate decayed too early",
    "regularization": "penalty too strong",
    "dropout": "penalty too strong",
    "clipping": "clipping too hard",
    "zero_initialization": "all weights zero",
    "large_initialization": "initial weights too large",
    "dead_relu": "units dead",
    "vanishing": "gradients vanish",
    "inputs_not_scaled": "inputs unscaled",
    "targets_not_scaled": "targets unscaled",
    "head_cannot_reach": "targets out of reach",
    "frozen": "layers frozen",
    "order": "missing shuffle",
    "batch_norm": "batch too small",
    "logits": "logits as probabilities",
    "label_range": "labels beyond the units",
    "exploding": "activations explode",
    "one_unit_softmax": "softmax on one unit",
    "labels_mixed_up": "labels shuffled",
    "nan_inputs": "NaN in the inputs",
    "leak": "data leak",
    "validation_otherwise": "validation preprocessed otherwise",
    "constant_targets": "labels constant",
    "infinite_loss": "NaN from a layer",
    "constant_inputs": "inputs constant",
}
OTHER = {
    "wrong_axis": {"labels_shuffled"},  # rows that belong to other labels
    "wrong_loss": {"labels_out_of_range", "unreachable_targets", "label_count"},
    "validation_lacks_class": {
        "train_validation_mismatch",
        "labels_constant",
        "labels_out_of_range",
        "label_count",
    },
    "wrong_sign": set(),
    "weights_misplaced": set(),
}
CODES = {cause: CAUSES[name][0] for cause, name in SAME.items()} | OTHER


def take(data, index):
    """The given rows of an array, or of each array in a tuple, list or dict."""
    if isinstance(data, dict):
        return {name: value[index] for name, value in data.items()}
    if isinstance(data, tuple | list):
        return type(data)(value[index] for value in data)
    return data[index]


def count(data):
    if isinstance(data, dict):
        return count(next(iter(data.values())))
    return len(data[0]) if isinstance(data, tuple | list) else len(data)


class Kit:
    def __init__(self, seed, parts):
        self.seed, self.parts, self.rng = seed, parts, np.random.default_rng(seed)

    def part(self, name, usual=None):
        return self.parts.get(name, usual)

    def activation(self, usual="relu"):
        return self.part("activation", usual)

    def options(self, **usual):
        """Options of every hidden layer with weights, such as the initializer and the penalty."""
        initializer, regularizer = self.part("initializer"), self.part("regularizer")
        if initializer is not None:
            usual["kernel_initializer"] = initializer
        if regularizer is not None:
            usual["kernel_regularizer"] = regularizer
        if self.part("bias") is not None:
            usual["bias_initializer"] = keras.initializers.Constant(self.part("bias"))
        return usual

    def dense(self, units, activation="relu", **options):
        return layers.Dense(units, self.activation(activation), **self.options(**options))

    def conv1(self, filters, size, activation="relu", **options):
        options = (
            self.options(padding="same", **options) if "padding" not in options else self.options(**options)
        )
        return layers.Conv1D(filters, size, activation=self.activation(activation), **options)

    def conv2(self, filters, size, activation="relu", **options):
        options = self.options(**{"padding": "same", **options})
        return layers.Conv2D(filters, size, activation=self.activation(activation), **options)

    def head(self, units, usual=None, **options):
        return layers.Dense(units, self.part("head", usual), **options)

    def norm(self, momentum=0.9):
        return layers.BatchNormalization(momentum=self.part("momentum", momentum))

    def dropout(self, share):
        return layers.Dropout(self.part("dropout", share))

    def loss(self, usual):
        return self.part("loss", usual)

    def inputs(self, x):
        return self.part("inputs", lambda x: x)(x)

    def targets(self, y):
        return self.part("targets", lambda y: y)(self.part("units", lambda y: y)(y))

    def optimizer(self, rate=1e-3, name="adam", **options):
        rate = self.part("rate", rate)
        if self.part("early") is not None:
            rate = self.part("early")(rate)
        options = {**options, **self.part("optimizer_options", {})}
        return keras.optimizers.get(
            {"class_name": self.part("optimizer", name), "config": {"learning_rate": rate, **options}}
        )

    def split(self, x, y, *, validation=0.2, test=0.25):
        """Three parts in random order: training, validation and held-out data."""
        order = self.rng.permutation(count(x))
        kept, shown = int(test * len(order)), int(validation * len(order))
        pieces = order[kept + shown :], order[kept : kept + shown], order[:kept]
        return [(take(x, piece), take(y, piece)) for piece in pieces]

    def run(
        self,
        model,
        pieces,
        score,
        *,
        loss=None,
        epochs=5,
        batch=32,
        plain=True,
        fit=None,
        optimizer=None,
        **compiled,
    ):
        """Compile the model and make a run. `score(model, x, y)` is the skill: 0 knows nothing, 1 is perfect."""
        train, validation, test = pieces
        train = self.part("rows", lambda rng, *data: data)(self.rng, *train)
        validation = self.part("validation_rows", lambda rng, *data: data)(self.rng, *validation)
        self.part("weights", lambda model: None)(model)
        if loss is not None:
            compiled["loss"] = self.loss(loss)
        model.compile(optimizer=optimizer or self.optimizer(), **compiled)
        options = {"epochs": epochs, "batch_size": batch, **(fit or {}), **self.part("options", {})}
        if "batch" in self.parts:
            options["batch_size"] = self.parts["batch"]
        if "shuffle" in self.parts:
            options["shuffle"] = self.parts["shuffle"]
        return Run(model, train, validation, test, score, options, plain)


class Run:
    doctor_data = True

    def __init__(self, model, train, validation, test, score, options, plain):
        self.model, self.train, self.validation, self.test = model, train, validation, test
        self.score, self.options, self.preflight = score, options, plain

    def fit(self, *callbacks):
        options = dict(self.options)
        callbacks = [*options.pop("callbacks", []), *callbacks]
        x, y, *weight = self.train
        if weight:
            options["sample_weight"] = weight[0]
        validation = self.validation
        return self.model.fit(x, y, validation_data=validation, callbacks=callbacks, verbose=0, **options)

    def skill(self):
        return finite(self.score(self.model, *self.test[:2]))

    def reported(self):
        return finite(self.score(self.model, *self.validation[:2]))


def finite(value):
    return float(value) if np.isfinite(value) else -1.0


class Program:
    def __init__(
        self,
        family,
        name,
        make,
        doc,
        *,
        cause="healthy",
        fault=None,
        variant=None,
        also=None,
        enough=0.25,
        belief=False,
        curable=True,
        cure=None,
    ):
        self.family, self.make, self.doc, self.cause = family, make, doc, cause
        self.name, self.healthy = f"{family}/{name}", cause == "healthy"
        self.fault, self.variant, self.also = fault or {}, variant or {}, also or {}
        self.enough, self.belief, self.curable, self.cure = enough, belief, curable, cure
        self.codes = set() if self.healthy else CODES[cause]
        parts = sorted(self.variant.items()), sorted(map(str, self.also.items()))
        self.twin = f"third {family} {make.__name__} {parts[0]} {parts[1]}"

    def build(self, seed, *, repaired=False, change=None):
        keras.utils.set_random_seed(seed)
        parts = {**self.also, **({} if repaired else self.fault), **(change or {})}
        return self.make(Kit(seed, parts), **self.variant)


def healthy(family, name, make, doc, *, enough=0.25, also=None, **variant):
    program = Program(family, name, make, doc, enough=enough, also=also, variant=variant)
    PROGRAMS[program.name] = program


def broken(
    family, name, make, cause, doc, fault, *, also=None, belief=False, curable=True, cure=None, **variant
):
    """`cure`: parts that cure it, where it takes other ones than those of the twin, for `build(change=cure)`."""
    options = {
        "cause": cause,
        "fault": fault,
        "also": also,
        "belief": belief,
        "curable": curable,
        "cure": cure,
    }
    program = Program(family, f"broken_{name}", make, doc, variant=variant, **options)
    PROGRAMS[program.name] = program


# -- skill -------------------------------------------------------------------------------------------------------------


def predicted(model, x):
    return np.asarray(model.predict(x, verbose=0, batch_size=256), "float64")


def above_chance(right, chance):
    return (np.mean(right) - chance) / (1 - chance)


def classes(model, x, y):
    """Accuracy, rescaled so that always answering the most frequent class is 0."""
    found = predicted(model, x).argmax(-1)
    return above_chance(found == y, np.bincount(np.ravel(y)).max() / y.size)


def explained(found, y):
    """R2."""
    return 1 - np.mean((found - y) ** 2) / np.mean((y - y.mean(0)) ** 2)


def ranked(score, y):
    """2 AUC - 1; 0 if nothing is ranked (constant or not finite)."""
    if not np.isfinite(score).all():
        return -1.0
    gap = score[y > 0.5][:, None] - score[y < 0.5][None]
    return np.mean(np.sign(gap))


# -- faults in rows ----------------------------------------------------------------------------------------------------


def mixed_up(rng, x, y, *rest):
    """The labels are shuffled, so they belong to other rows."""
    return (x, take(y, rng.permutation(count(y))), *rest)


def in_order(rng, x, y, *rest):
    """The rows are sorted by label."""
    order = np.argsort(y[next(iter(y))] if isinstance(y, dict) else y, axis=0, kind="stable").ravel()
    return (take(x, order), take(y, order), *rest)


def with_nan(rng, x, y, *rest):
    """A few cells are missing and stay NaN."""
    x = np.array(x)
    x[rng.random(x.shape) < 0.002] = np.nan
    return (x, y, *rest)


def freeze(model):
    for layer in model.layers:
        layer.trainable = False
