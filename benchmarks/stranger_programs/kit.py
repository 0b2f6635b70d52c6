"""What every program is made of: a registry, a run, and a kit whose parts a fault may replace.

A family is a function from a `Kit` to a `Run`. Without a fault it is healthy. A fault is a dictionary that replaces
parts (the rate, the activation of the head, the labels), so that every broken program has a repaired
twin: the same function, the same seed, no fault.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import layers

PROGRAMS: dict[str, "Program"] = {}

# cause -> (codes of `recipes.diagnose.finding.CODES` that name it correctly, whether a remedy can cure it
# without another data set). A symptom ("diverged", "not_learning") names no cause.
CAUSES: dict[str, tuple[frozenset[str], bool]] = {
    cause: (frozenset(codes.split()), curable)
    for cause, codes, curable in (
        ("rate too high", "rate_too_high update_ratio_high bouncing", True),
        ("rate too low", "rate_too_low update_ratio_low", True),
        ("rate decayed too early", "decayed_too_early rate_too_low", True),
        ("decay too strong", "regularization_too_strong", True),
        ("penalty too strong", "regularization_too_strong", True),
        ("clipping too hard", "clipping_too_hard", True),
        ("all weights zero", "zero_initialization symmetric_initialization", True),
        ("all weights equal", "symmetric_initialization", True),
        ("initial weights too large", "initial_scale_too_large exploding saturated", True),
        ("initial weights too small", "initial_scale_too_small vanishing", True),
        ("units dead", "dead_relu dead_at_start", True),
        ("gradients vanish", "vanishing saturated", True),
        ("activations explode", "exploding initial_scale_too_large", True),
        ("layers frozen", "frozen", True),
        ("inputs unscaled", "unscaled_inputs", True),
        ("inputs constant", "constant_inputs", False),
        ("targets unscaled", "unscaled_targets", True),
        ("targets out of reach", "unreachable_targets rectified_output unscaled_targets", True),
        ("labels outside 0..1", "labels_out_of_range", True),
        ("labels beyond the units", "labels_out_of_range label_count", True),
        ("labels not whole", "labels_out_of_range", True),
        ("several ones under softmax", "labels_out_of_range label_count unreachable_targets", True),
        ("labels constant", "labels_constant", False),
        ("labels shuffled", "labels_shuffled", False),
        ("classes validation alone has", "labels_out_of_range label_count train_validation_mismatch", False),
        ("missing shuffle", "missing_shuffle", True),
        ("data leak", "data_leak", False),
        ("validation preprocessed otherwise", "train_validation_mismatch", False),
        ("softmax on one unit", "softmax_on_one_unit", True),
        ("softmax twice", "softmax_twice", True),
        ("logits as probabilities", "logits_as_probabilities", True),
        ("rectified head under cross-entropy", "rectified_output logits_as_probabilities", True),
        ("cross-entropy for quantities", "labels_out_of_range unreachable_targets", True),
        ("NaN in the inputs", "nan_input", False),
        ("NaN from a layer", "nan_source", False),
        ("batch norm lags", "batch_norm_statistics", True),
        ("batch too small", "batch_too_small batch_norm_statistics", True),
        ("overfitting", "overfitting regularization_absent", False),
        ("too small a network", "underfitting", False),
        ("classes out of balance", "imbalanced", True),
        ("gradient wrong", "gradient_check", False),
    )
}


@dataclass
class Run:
    """A compiled model, its data, and a measure of skill: 0 is knowing nothing, 1 is perfect."""

    model: keras.Model
    train: object
    validation: object
    epochs: int
    score: Callable[[keras.Model], float]
    batch: int | None = 32
    options: dict = field(default_factory=dict)
    preflight: bool = True  # a plain compiled model
    believed: Callable[[keras.Model], float] = lambda model: 0.0
    doctor_data: bool = True  # the data are (inputs, labels), as the doctor expects

    def fit(self, *callbacks):
        data = self.train if isinstance(self.train, tuple) else (self.train,)
        weights = {"sample_weight": data[2]} if len(data) > 2 else {}
        batch = {"batch_size": self.batch} if isinstance(self.train, tuple | np.ndarray) else {}
        own = self.options.get("callbacks", [])
        rest = {key: value for key, value in self.options.items() if key != "callbacks"}
        return self.model.fit(
            *data[:2],
            validation_data=self.validation,
            epochs=self.epochs,
            verbose=0,
            callbacks=[*own, *callbacks],
            **batch,
            **weights,
            **rest,
        )

    def skill(self) -> float:
        """The score on held-out data; a model that predicts NaN knows nothing."""
        return honest(self.score(self.model))

    def reported(self) -> float:
        """The score on the program's own validation data, which its user believes."""
        return honest(self.believed(self.model))


def honest(value) -> float:
    value = float(value)
    return max(value, -1.0) if np.isfinite(value) else -1.0


@dataclass(frozen=True)
class Program:
    """`build(seed)` returns a `Run`; the twin of a broken program is the same program without its fault."""

    name: str
    family: str
    make: Callable[["Kit"], Run]
    variant: dict
    fault: dict
    cause: str  # "healthy", or a key of CAUSES
    enough: float = 0.25  # the skill at which a healthy program has clearly learned
    also: dict = field(default_factory=dict)  # parts that program and twin share, instead of the usual ones
    belief: bool = False  # the fault is in what the validation reports, not in what is learned

    @property
    def healthy(self) -> bool:
        return self.cause == "healthy"

    @property
    def codes(self) -> frozenset[str]:
        return frozenset() if self.healthy else CAUSES[self.cause][0]

    @property
    def curable(self) -> bool:
        return not self.healthy and CAUSES[self.cause][1]

    @property
    def twin(self) -> str:
        """A name for the program without its fault; all programs with the same twin share it."""
        inside = ",".join(
            f"{key}={value}" for key, value in sorted({**self.variant, **self.also}.items(), key=str)
        )
        return f"{self.make.__name__}({inside})"

    def build(self, seed: int, *, repaired: bool = False, change: dict | None = None) -> Run:
        keras.utils.set_random_seed(seed)
        parts = dict(self.also) if repaired else {**self.also, **self.fault, **(change or {})}
        return self.make(Kit(seed, parts), **self.variant)


def healthy(family, label, make, *, enough=0.25, **variant):
    add(Program(f"{family}/{label}", family, make, variant, {}, "healthy", enough))


def broken(family, label, make, cause, fault, *, belief=False, also=None, **variant):
    assert cause in CAUSES, cause
    name = f"{family}/broken_{label}"
    add(Program(name, family, make, variant, fault, cause, also=also or {}, belief=belief))


def add(program):
    assert program.name not in PROGRAMS, program.name
    PROGRAMS[program.name] = program


def unseen_families(later=()) -> list[str]:
    """A third of the families without the `later` ones, drawn with a fixed seed; rules are changed without them."""
    families = sorted({program.family for program in PROGRAMS.values()} - {*later})
    random.Random(20180).shuffle(families)
    return sorted(families[: round(len(families) / 3)])


class Kit:
    """Parts for one program; the parts that the fault names are replaced."""

    def __init__(self, seed, fault):
        self.seed = seed
        self.fault = fault
        self.rng = np.random.default_rng(seed)

    def get(self, part, usual=None):
        return self.fault.get(part, usual)

    def hidden(self, activation="relu", initializer="glorot_uniform"):
        """Keyword arguments of a hidden layer with weights."""
        return {
            "activation": self.get("activation", activation),
            "kernel_initializer": self.get("initializer", initializer),
            "bias_initializer": self.get("bias", "zeros"),
            "kernel_regularizer": self.get("regularizer"),
        }

    def dense(self, units, activation="relu", initializer="glorot_uniform", **options):
        return layers.Dense(units, **self.hidden(activation, initializer), **options)

    def conv(self, filters, size=3, activation="relu", padding="same", **options):
        return layers.Conv2D(filters, size, padding=padding, **self.hidden(activation), **options)

    def head(self, units, activation=None, **options):
        options = {"kernel_initializer": self.get("initializer", "glorot_uniform"), **options}
        head = layers.Dense(
            units,
            activation=self.get("head", activation),
            kernel_regularizer=self.get("regularizer"),
            **options,
        )
        return keras.Sequential([head, layers.Softmax()]) if self.get("again") else head

    def optimizer(self, name="Adam", rate=1e-3, **options):
        rate = self.get("rate", rate)
        return getattr(keras.optimizers, self.get("optimizer", name))(
            learning_rate=rate, **{**options, **self.get("optimizer_options", {})}
        )

    def compile(self, model, loss, *, optimizer=None, metrics=(), **options):
        self.get("weights", lambda model: None)(model)
        model.compile(
            optimizer=optimizer or self.optimizer(),
            loss=self.get("loss", loss),
            metrics=list(metrics),
            **options,
        )
        return model

    def run(self, model, x, y, task, *, epochs, batch=32, split=(0.6, 0.2), **options):
        """Split the data, apply the fault to them, and choose the skill. `x` and `y` may be dictionaries."""
        count = len(next(iter(x.values())) if isinstance(x, dict) else x)
        order = self.rng.permutation(count)
        first, second = int(split[0] * count), int(sum(split) * count)
        parts = [order[:first], order[first:second], order[second:]]
        train, validation, test = [(take(x, part), take(y, part)) for part in parts]
        units = self.get("units", lambda y: y)
        train, validation, test = [(x, units(y)) for x, y in (train, validation, test)]
        inputs = self.get("inputs", lambda x: x)
        targets = self.get("targets", lambda y: y)
        train, validation = [(inputs(x), targets(y)) for x, y in (train, validation)]
        test = (inputs(test[0]), test[1])
        train, validation = self.get("arrange", lambda a, b, rng: (a, b))(train, validation, self.rng)
        score = task if callable(task) else SCORES[task]
        preflight, doctor_data = options.pop("preflight", True), options.pop("doctor_data", True)
        return Run(
            model,
            train,
            validation,
            self.get("epochs", epochs),
            lambda model: score(model, *test),
            self.get("batch", batch),
            {**options, **self.get("options", {})},
            preflight,
            lambda model: score(model, *validation[:2]),
            doctor_data,
        )


def take(data, rows):
    return {key: value[rows] for key, value in data.items()} if isinstance(data, dict) else data[rows]


def above_chance(right, chance):
    return (right - chance) / (1 - chance)


def sparse(model, x, y):
    guess = model.predict(x, verbose=0, batch_size=256)
    if not np.isfinite(guess).all():
        return -1.0
    y = np.asarray(y).reshape(-1)
    guess = guess.argmax(-1).reshape(-1)
    return above_chance(np.mean(guess == y), np.bincount(y.astype(int)).max() / len(y))


def onehot(model, x, y):
    return sparse(model, x, np.argmax(y, -1))


def binary(model, x, y, edge=0.5, guess_edge=0.5):
    guess = model.predict(x, verbose=0, batch_size=256)
    if not np.isfinite(guess).all():
        return -1.0
    y = np.asarray(y) > edge
    guess = guess.reshape(y.shape) > guess_edge
    share = y.mean(0)
    return above_chance(np.mean(guess == y), np.mean(np.maximum(share, 1 - share)))


def logit(model, x, y):
    return binary(model, x, y, guess_edge=0.0)


def sign(model, x, y):
    return binary(model, x, y, edge=0.0, guess_edge=0.0)


def regress(model, x, y):
    guess = model.predict(x, verbose=0, batch_size=256)
    if not np.isfinite(guess).all():
        return -1.0
    y = np.asarray(y, "float64").reshape(len(y), -1)
    return 1 - np.mean((guess.reshape(y.shape) - y) ** 2) / np.mean(y.var(0))


def reproduce(model, x, y):
    """Share of the inputs' variance that a reconstruction explains."""
    return regress(model, x, x)


SCORES = {
    "sparse": sparse,
    "onehot": onehot,
    "binary": binary,
    "logit": logit,
    "sign": sign,
    "regress": regress,
    "reproduce": reproduce,
}
