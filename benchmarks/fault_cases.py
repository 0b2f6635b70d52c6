"""The runs of `faults.py`: what is trained, which fault it has, and what the diagnosis should say."""

import math
from dataclasses import dataclass, field

import keras
import numpy as np

from recipes import models

SUBJECTS = ("clusters", "digits", "cnn", "resnet", "regression")
CLASSIFIERS = SUBJECTS[:4]
SMALL = ("clusters", "digits", "cnn", "regression")
IMAGES = ("digits", "cnn", "resnet")


@dataclass
class Case:
    """The settings of one run; a fault changes them before the model is built."""

    subject: str
    seed: int
    x: np.ndarray
    y: np.ndarray
    xv: np.ndarray
    yv: np.ndarray
    outputs: int
    loss: object
    options: dict
    optimizer: object = field(default_factory=lambda: keras.optimizers.Adam(2e-3))
    batch: int = 32
    epochs: int = 6
    shuffle: bool = True
    callbacks: list = field(default_factory=list)
    edit: object = None  # model -> model, after building and before compiling
    layer: object = None  # model -> names of the layers that may be blamed

    def build(self):
        keras.utils.set_random_seed(self.seed)
        shape, options = self.x.shape[1:], {**self.options}
        builder = {"cnn": models.plain_cnn, "resnet": models.resnet}.get(self.subject, models.mlp)
        model = builder(shape, self.outputs, **options)
        model = self.edit(model) or model if self.edit else model
        model.compile(
            self.optimizer, self.loss, metrics=["accuracy"] if self.subject != "regression" else None
        )
        return model


def case(subject, seed):
    """The healthy run on a subject (a data set and its network)."""
    x, y, xv, yv = _data(subject, seed)
    common = {"outputs": 10, "loss": "sparse_categorical_crossentropy"}
    if subject == "regression":
        options = {"hidden": (64, 64, 64), "classifier_activation": None}
        return Case(subject, seed, x, y, xv, yv, outputs=1, loss="mse", options=options)
    if subject in ("clusters", "digits"):
        options = {"hidden": (64, 64, 64)}
    elif subject == "cnn":
        options = {"filters": (8, 16, 16), "convs": 1, "norm": None}
    else:
        options = {"depth": 8}
        common["epochs"] = 5
    return Case(subject, seed, x, y, xv, yv, options=options, **common)


def _data(subject, seed):
    rng = np.random.default_rng(1000 + seed)
    if subject == "clusters":
        centers = rng.normal(size=(10, 20))
        y = rng.integers(0, 10, 2000)
        x = (centers[y] + 0.6 * rng.normal(size=(2000, 20))).astype("float32")
        return x[:1600], y[:1600], x[1600:], y[1600:]
    if subject == "regression":
        x = rng.normal(size=(2000, 8)).astype("float32")
        y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] + 0.1 * rng.normal(size=2000)
        y = ((y - y.mean()) / y.std()).astype("float32")[:, None]
        return x[:1600], y[:1600], x[1600:], y[1600:]
    from recipes import data

    name, counts = {"digits": ("digits", (1400, 300)), "cnn": ("mnist5k", (1600, 400))}.get(
        subject, ("mnist5k", (800, 200))
    )
    train, held_out, _ = data.load(name, seed=seed, verbose=0)
    x, y = next(iter(train.batch(counts[0])))
    validation = train.skip(counts[0]).concatenate(held_out)
    xv, yv = next(iter(validation.batch(counts[1])))
    return x.numpy().astype("float32"), y.numpy(), xv.numpy().astype("float32"), yv.numpy()


def hidden_kernels(model):
    """All layers with kernels, except the last one."""
    return [layer for layer in model.layers if getattr(layer, "kernel", None) is not None][:-1]


def activations(model):
    """Activation layers, which are separate layers in the networks of `models`."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


# Faults: each changes a Case in place.


def rate_too_high(c):
    c.optimizer = keras.optimizers.SGD(20.0, momentum=0.9)


def adam_rate_too_high(c):
    c.optimizer = keras.optimizers.Adam(1.0)


def rate_too_low(c):
    c.optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)


def adam_rate_too_low(c):
    c.optimizer = keras.optimizers.Adam(1e-7)


def decayed_too_early(c):
    c.epochs, rate = 8, {"clusters": 2e-4, "regression": 5e-4}.get(c.subject, 5e-4)
    c.optimizer = keras.optimizers.Adam(rate)
    c.callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch: rate if epoch < 1 else rate * 1e-4)]


def zero_initialization(c):
    c.options["initializer"] = "zeros"


def symmetric_initialization(c):
    c.options["initializer"] = keras.initializers.Constant(0.02)


def initial_scale_too_large(c):
    c.options |= {"initializer": keras.initializers.RandomNormal(stddev=5.0), "norm": None}


def initial_scale_too_small(c):
    c.options |= {"initializer": keras.initializers.RandomNormal(stddev=1e-5), "norm": None}


def unscaled_inputs(c):
    factor = 127.5 if c.subject in IMAGES else 300.0
    c.x, c.xv = c.x * factor, c.xv * factor


def shrunken_inputs(c):
    if c.subject in IMAGES:
        c.x, c.xv = (127.5 + (x - 127.5) * 2e-3 for x in (c.x, c.xv))
    else:
        c.x, c.xv = c.x * 2e-3, c.xv * 2e-3


def softmax_twice(c):
    c.edit = lambda model: keras.Model(model.input, keras.layers.Softmax(name="again")(model.outputs[0]))


def logits_as_probabilities(c):
    c.options["classifier_activation"] = None


def softmax_on_one_unit(c):
    c.outputs, c.loss = 2, "binary_crossentropy"
    c.y, c.yv = (c.y >= 5).astype("float32")[:, None], (c.yv >= 5).astype("float32")[:, None]

    def edit(model):
        last = keras.layers.Dense(1, activation="softmax", name="one")
        return keras.Model(model.input, last(model.layers[-2].output))

    c.edit = edit


def sigmoid_with_categorical_loss(c):
    c.options["classifier_activation"] = "sigmoid"


def rectified_output(c):
    c.options["classifier_activation"] = "relu"
    c.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def labels_shuffled(c):
    c.y = np.random.default_rng(c.seed).permutation(c.y)


def labels_constant(c):
    c.y = np.full_like(c.y, 3)


def missing_shuffle(c):
    order = np.argsort(c.y, kind="stable")
    c.x, c.y, c.shuffle = c.x[order], c.y[order], False


def frozen(c):
    def edit(model):
        for layer in hidden_kernels(model):
            layer.trainable = False

    c.edit, c.layer = edit, lambda model: [hidden_kernels(model)[0].name]


def _kill(model, number, value=-100.0):
    """Push the inputs of one activation layer far below zero; returns the name of this layer."""
    target = activations(model)[number]
    before = target.input._keras_history.operation
    variable = getattr(before, "beta", None)
    variable = before.bias if variable is None else variable
    variable.assign(np.full(variable.shape, value, "float32"))
    return target.name


def dead_at_start(c):
    c.edit = lambda model: _kill(model, 1) and None
    c.layer = lambda model: [activations(model)[1].name]


def dead_relu(c):
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                _kill(self.model, 1)

    c.callbacks, c.epochs = [Kill()], 8
    c.layer = lambda model: [activations(model)[1].name]


def saturated(c):
    c.options |= {
        "activation": "tanh",
        "norm": None,
        "initializer": keras.initializers.RandomNormal(stddev=2.0),
    }


def vanishing(c):
    c.options |= {"activation": "sigmoid", "norm": None, "initializer": "glorot_uniform"}
    if c.subject == "cnn":
        c.options |= {"filters": (8, 8, 16), "convs": 3}
    else:
        c.options["hidden"] = (64,) * 10
    c.optimizer = keras.optimizers.SGD(0.05, momentum=0.9)


def _log(x):
    return keras.ops.log(x)


def nan_source(c):
    c.options["activation"] = _log
    c.layer = lambda model: [activations(model)[0].name]


def nan_input(c):
    c.x = c.x.copy()
    c.x[len(c.x) // 2].flat[3] = np.nan


def penalty_too_strong(c):
    c.options["weight_decay"] = 3.0


def dropout_too_strong(c):
    c.options["dropout"] = 0.95


def weight_decay_too_strong(c):
    c.optimizer = keras.optimizers.AdamW(2e-3, weight_decay=100.0)


def overfitting(c):
    c.x, c.y, c.epochs, c.batch = c.x[:80], c.y[:80].copy(), 30, 16
    c.optimizer = keras.optimizers.Adam(5e-3)
    rng = np.random.default_rng(c.seed)
    if c.subject == "regression":
        c.y = c.y + rng.normal(size=c.y.shape).astype("float32")
    else:
        wrong = rng.random(80) < 0.3
        c.y[wrong] = rng.integers(0, 10, wrong.sum())


def averages_too_slow(c):
    c.options["norm"] = "batch"

    def edit(model):
        for layer in norms(model):
            layer.momentum = 0.9999

    c.edit = edit


def averages_frozen(c):
    c.options["norm"] = "batch"

    def edit(model):
        for layer in norms(model):
            layer.trainable = False

    c.edit = edit


def data_leak(c):
    c.xv, c.yv = c.x[: len(c.xv)].copy(), c.y[: len(c.xv)].copy()


def validation_scaled_differently(c):
    c.xv = c.xv / 255


def constant_inputs(c):
    c.x, c.xv = np.zeros_like(c.x), np.zeros_like(c.xv)


def clipping_too_hard(c):
    c.optimizer = keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=1e-6)


def batch_too_small(c):
    c.x, c.y, c.batch, c.epochs = c.x[:400], c.y[:400], 1, 3
    c.optimizer = keras.optimizers.SGD(0.01, momentum=0.9)


def unscaled_targets(c):
    c.y, c.yv = c.y * 3000 + 20000, c.yv * 3000 + 20000


def unreachable_targets(c):
    c.options["classifier_activation"] = "relu"


_RATE = {"rate_too_high", "diverged", "exploding", "nan_source", "bouncing", "not_learning", "dead_relu"}
_SLOW = {"rate_too_low", "not_learning", "clipping_too_hard"}
_SCALE = {
    "initial_scale_too_large",
    "initial_scale_too_small",
    "exploding",
    "vanishing",
    "saturated",
    "dead_at_start",
}
_LOSS = {
    "softmax_twice",
    "softmax_on_one_unit",
    "logits_as_probabilities",
    "sigmoid_with_categorical_loss",
    "rectified_output",
    "unreachable_targets",
}
_STRONG = {"regularization_too_strong", "underfitting", "not_learning"}
_GAP = {"overfitting", "train_validation_mismatch", "batch_norm_statistics", "regularization_absent"}

# fault: (subjects, right code or codes, family). With weights so large that tanh saturates, either code is right.
FAULTS = {
    rate_too_high: (SUBJECTS, "rate_too_high", _RATE),
    adam_rate_too_high: (SUBJECTS, "rate_too_high", _RATE),
    rate_too_low: (SUBJECTS, "rate_too_low", _SLOW),
    adam_rate_too_low: (SUBJECTS, "rate_too_low", _SLOW),
    decayed_too_early: (CLASSIFIERS, "decayed_too_early", _SLOW | {"decayed_too_early"}),
    zero_initialization: (
        SUBJECTS,
        "zero_initialization",
        {"zero_initialization", "symmetric_initialization"},
    ),
    symmetric_initialization: (SUBJECTS, "symmetric_initialization", {"symmetric_initialization"}),
    initial_scale_too_large: (SUBJECTS, "initial_scale_too_large", _SCALE),
    initial_scale_too_small: (SUBJECTS, "initial_scale_too_small", _SCALE),
    unscaled_inputs: (SUBJECTS, "unscaled_inputs", {"unscaled_inputs"}),
    shrunken_inputs: (SUBJECTS, "unscaled_inputs", {"unscaled_inputs"}),
    softmax_twice: (CLASSIFIERS, "softmax_twice", _LOSS),
    logits_as_probabilities: (CLASSIFIERS, "logits_as_probabilities", _LOSS),
    softmax_on_one_unit: (CLASSIFIERS, "softmax_on_one_unit", _LOSS),
    sigmoid_with_categorical_loss: (CLASSIFIERS, "sigmoid_with_categorical_loss", _LOSS),
    rectified_output: (CLASSIFIERS, "rectified_output", _LOSS),
    unreachable_targets: (("regression",), "unreachable_targets", _LOSS),
    labels_shuffled: (CLASSIFIERS, "labels_shuffled", {"labels_shuffled", "not_learning"} | _GAP),
    labels_constant: (CLASSIFIERS, "labels_constant", {"labels_constant"}),
    missing_shuffle: (CLASSIFIERS, "missing_shuffle", {"missing_shuffle", "labels_constant"}),
    frozen: (SUBJECTS, "frozen", {"frozen"}),
    dead_at_start: (SUBJECTS, "dead_at_start", {"dead_at_start", "dead_relu"}),
    dead_relu: (SUBJECTS, "dead_relu", {"dead_at_start", "dead_relu"}),
    saturated: (SUBJECTS, ("saturated", "initial_scale_too_large"), _SCALE),
    vanishing: (("clusters", "digits", "cnn", "regression"), "vanishing", _SCALE),
    nan_source: (SUBJECTS, "nan_source", {"nan_source", "diverged", "rate_too_high"}),
    nan_input: (SUBJECTS, "nan_input", {"nan_input"}),
    penalty_too_strong: (SUBJECTS, "regularization_too_strong", _STRONG),
    dropout_too_strong: (SUBJECTS, "regularization_too_strong", _STRONG),
    weight_decay_too_strong: (SUBJECTS, "regularization_too_strong", _STRONG),
    overfitting: (SUBJECTS, "overfitting", _GAP),
    averages_too_slow: (SUBJECTS, "batch_norm_statistics", _GAP),
    averages_frozen: (SUBJECTS, "batch_norm_statistics", _GAP),
    data_leak: (SUBJECTS, "data_leak", {"data_leak"}),
    validation_scaled_differently: (SUBJECTS, "train_validation_mismatch", _GAP),
    constant_inputs: (SUBJECTS, "constant_inputs", {"constant_inputs"}),
    clipping_too_hard: (SUBJECTS, "clipping_too_hard", _SLOW),
    batch_too_small: (SUBJECTS, "batch_too_small", {"batch_too_small", "noisy", "bouncing", "rate_too_high"}),
    unscaled_targets: (("regression",), "unscaled_targets", {"unscaled_targets"}),
}


def _optimizer(make):
    def change(c):
        c.optimizer = make()

    return change


def _options(**options):
    return lambda c: c.options.update(options)


def _batch(size):
    def change(c):
        c.batch = size

    return change


def _cosine(c):
    steps = math.ceil(len(c.x) / c.batch) * c.epochs
    c.optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9)


# Healthy variations: name -> (subjects, change).
HEALTHY = {
    "sgd": (SUBJECTS, _optimizer(lambda: keras.optimizers.SGD(0.03, momentum=0.9))),
    "sgd plain": (("clusters", "digits", "regression"), _optimizer(lambda: keras.optimizers.SGD(0.1))),
    "rmsprop": (SUBJECTS, _optimizer(lambda: keras.optimizers.RMSprop(1e-3))),
    "adamw": (SUBJECTS, _optimizer(lambda: keras.optimizers.AdamW(2e-3, weight_decay=1e-2))),
    "adam fast": (SMALL, _optimizer(lambda: keras.optimizers.Adam(5e-3))),
    "adam slow": (SMALL, _optimizer(lambda: keras.optimizers.Adam(5e-4))),
    "cosine": (SUBJECTS, _cosine),
    "batch 8": (("clusters", "digits", "regression"), _batch(8)),
    "batch 128": (SMALL, _batch(128)),
    "tanh": (SUBJECTS, _options(activation="tanh", initializer="glorot_uniform")),
    "elu": (SMALL, _options(activation="elu")),
    "leaky": (SMALL, _options(activation="leaky_relu")),
    "shallow": (("clusters", "digits", "regression"), _options(hidden=(64,))),
    "deep": (("clusters", "digits", "regression"), _options(hidden=(64,) * 6)),
    "batch norm": (("clusters", "digits", "cnn", "regression"), _options(norm="batch")),
    "dropout": (SUBJECTS, _options(dropout=0.2)),
    "weight decay": (SUBJECTS, _options(weight_decay=1e-4)),
    "glorot": (SMALL, _options(initializer="glorot_uniform")),
    "clipped": (SMALL, _optimizer(lambda: keras.optimizers.Adam(2e-3, clipnorm=1.0))),
}
