"""Schedules, callbacks, checks, training and search with whatever arguments: right, or refused in our own words."""

import math

import keras
import numpy as np
import pytest
from hostile_values import ANYTHING, arguments, arrays, example_count, explained, often
from hypothesis import given
from hypothesis import strategies as st

import recipes
from recipes import callbacks, diagnose, initialize, layers, schedules, tune

RATE = st.floats(1e-4, 1.0)
STEPS = st.integers(1, 50)


# Schedules.

SCHEDULES = {
    schedules.Cosine: {"rate": RATE, "steps": STEPS, "final": st.just(0.0)},
    schedules.Linear: {"rate": RATE, "steps": STEPS, "final": st.just(0.0)},
    schedules.Step: {"rate": RATE, "boundaries": st.just([3, 7]), "factor": st.floats(0.1, 0.9)},
    schedules.InverseSquareRoot: {"rate": RATE, "timescale": STEPS},
    schedules.Cyclic: {
        "low": st.floats(1e-4, 1e-3),
        "high": RATE,
        "half_cycle": STEPS,
        "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
        "gamma": st.floats(0.9, 1.0),
    },
    schedules.CosineRestarts: {
        "rate": RATE,
        "steps": STEPS,
        "growth": st.integers(1, 3),
        "decay": st.floats(0.1, 1.0),
        "final": st.just(0.0),
    },
    schedules.OneCycle: {"peak": RATE, "steps": st.integers(10, 50), "tail": st.floats(0.05, 0.3)},
    schedules.Warmup: {
        "schedule": st.builds(schedules.Cosine, RATE, STEPS),
        "steps": STEPS,
        "start": st.just(0.0),
    },
}


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
@example_count(30)
@given(st.data())
def test_schedules_give_finite_rates_or_refuse(kind, data):
    chosen = data.draw(arguments(SCHEDULES[kind]))
    made = explained(kind, **chosen)
    if made is None:
        return
    rates = [float(made(step)) for step in (0, 1, 7, 10_000)]
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates), (chosen, rates)
    keras.optimizers.SGD(made)


@example_count(30)
@given(arguments({"rate": RATE, "batch": st.integers(1, 512), "base_batch": st.integers(1, 512)}))
def test_rates_scale_or_refuse(chosen):
    explained(schedules.scale_for_batch, **chosen)


# Callbacks: made, and used in a fit of two epochs.

EVERY = {"every_steps": st.integers(1, 3)}
CALLBACKS = {
    callbacks.WarmupDecay: {
        "warmup": st.one_of(st.integers(0, 3), st.floats(0, 0.5)),
        "decay": st.sampled_from(["cosine", "linear", "step", "inverse_sqrt"]),
        "start": st.just(0.0),
        "final": st.just(0.0),
        "until": st.floats(0.75, 1),
        "boundaries": st.just((0.5, 0.75)),
        "factor": st.floats(0.1, 0.9),
        "learning_rate": st.sampled_from([None, 0.1]),
    },
    callbacks.LearningRate: {"schedule": st.builds(schedules.Cosine, RATE, STEPS)},
    callbacks.EarlyStopping: {
        "monitor": st.just("loss"),
        "min_delta": st.floats(0, 0.1),
        "patience": st.integers(0, 2),
        "mode": st.sampled_from(["auto", "min"]),
        "start_from_epoch": st.integers(0, 1),
        "keep_initial_weights": st.booleans(),
    },
    callbacks.UpdateRatioMonitor: {"low": st.floats(1e-6, 1e-4), "high": st.floats(1e-2, 1), **EVERY},
    callbacks.GradientMonitor: {
        "vanishing": st.just(1e-3),
        "exploding": st.just(1e3),
        "spike": st.floats(2, 20),
    },
    callbacks.ActivationMonitor: {"saturated": st.floats(0.1, 0.9), "collapsed": st.just(1e-4), **EVERY},
    callbacks.DeadReluDetector: {"warn_above": st.floats(0.1, 1), "samples": st.integers(1, 8), **EVERY},
    callbacks.NonFiniteGuard: {
        "restore": st.booleans(),
        "factor": st.floats(0.1, 0.9),
        "most_restores": st.integers(1, 3),
        "copy_every": st.integers(1, 5),
        **EVERY,
    },
    callbacks.TrainingDoctor: {"act": st.sampled_from(["report", "stop"]), "verbose": st.just(0), **EVERY},
    callbacks.ExponentialMovingAverage: {
        "decay": st.floats(0.1, 0.99),
        "warmup": st.booleans(),
        "every_updates": st.integers(1, 3),
    },
    callbacks.StochasticWeightAveraging: {
        "start": st.one_of(st.just(1), st.floats(0, 0.5)),
        "every_epochs": st.integers(1, 3),
    },
    callbacks.SnapshotEnsemble: {
        "cycles": st.integers(1, 3),
        "last": st.sampled_from([None, 1]),
        "learning_rate": st.sampled_from([None, 0.1]),
        "overwrite": st.booleans(),
    },
    callbacks.FastGeometricEnsembling: {
        "cycles": st.integers(1, 2),
        "start": st.floats(0.25, 0.5),
        "high": st.floats(0.2, 0.9),
        "low": st.floats(0.01, 0.1),
    },
}
GENERATOR = np.random.default_rng(0)
VECTORS, CLASSES = GENERATOR.normal(size=(24, 4)).astype("float32"), np.arange(24) % 3


def small_model(shape=(4,), compiled=True):
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    if not compiled:
        return model
    # Nothing is traced, so that an example costs milliseconds.
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True
    )
    return model


def fit(callback):
    return (
        small_model().fit(VECTORS, CLASSES, epochs=2, batch_size=8, verbose=0, callbacks=[callback]).history
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CALLBACKS, ids=lambda kind: kind.__name__)
@example_count(8)
@given(st.data())
def test_callbacks_work_in_a_fit_or_refuse(kind, data):
    made = explained(kind, **data.draw(arguments(CALLBACKS[kind])))
    if made is not None:
        explained(fit, made)


# Training, search and checks.

IMAGES = GENERATOR.integers(0, 256, (24, 4, 4, 1)).astype("uint8")
SETS = often(
    st.sampled_from([(IMAGES, CLASSES), (IMAGES.astype("float32"), np.eye(3, dtype="float32")[CLASSES])]),
    st.tuples(arrays(IMAGES), arrays(CLASSES)),
)
TRAIN = {
    "train": SETS,
    "validation": st.sampled_from([None, (IMAGES, CLASSES)]),
    "epochs": st.just(2),
    "batch_size": st.just(8),
    "loss": st.just("auto"),
    "metrics": st.just(("accuracy",)),
    "class_weight": st.sampled_from([None, {0: 1.0, 1: 2.0, 2: 1.0}]),
    "optimizer": st.sampled_from(["sgd", "adam"]),
    "learning_rate": st.sampled_from(["auto", 0.01]),
    "schedule": st.sampled_from(["cosine", "linear", None]),
    "warmup": st.floats(0, 0.5),
    "weight_decay": st.floats(0, 0.01),
    "label_smoothing": st.floats(0, 0.2),
    "augment": st.none(),
    "average": st.sampled_from([None, "ema", "swa"]),
    "snapshots": st.just(0),
    "early_stopping": st.sampled_from([None, 1]),
    "callbacks": st.just(()),
    "seed": st.integers(0, 9),
    "steps_per_epoch": st.none(),
    "verbose": st.just(0),
}


@pytest.mark.filterwarnings("ignore")
@example_count(30)
@given(arguments(TRAIN))
def test_runs_end_or_are_refused(chosen):
    run = explained(
        recipes.train, small_model((4, 4, 1), compiled=False), **chosen, preflight=False, monitor=False
    )
    if run is not None:
        assert run.history["loss"]
    keras.utils.clear_session(free_memory=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@example_count(30)
@given(
    arguments(
        {
            "space": often(
                st.sampled_from([{"rate": (1e-3, 1.0)}, {"rate": [0.1, 0.2]}]),
                st.dictionaries(st.sampled_from(["rate", "b"]), ANYTHING, max_size=2),
            ),
            "coarse": st.just({"trials": 1, "epochs": 1}),
            "fine": st.just({"trials": 0}),
            "metric": st.sampled_from(["val_accuracy", "val_loss"]),
            "seed": st.integers(0, 9),
            "batch_size": st.just(8),
        }
    )
)
def test_searches_end_or_are_refused(chosen):
    def build(rate):
        model = small_model()
        model.optimizer.learning_rate = rate
        return model

    data = (VECTORS, CLASSES)
    explained(tune.search, build, data, data, **{"coarse": {"trials": 1, "epochs": 1}, **chosen}, verbose=0)


CHECKS = {
    diagnose.data_check: {"train": SETS, "validation": st.sampled_from([None, (IMAGES, CLASSES)])},
    diagnose.initial_loss: {"data": SETS, "batch_size": st.integers(1, 30)},
    diagnose.activation_statistics: {"data": SETS, "batch_size": st.integers(1, 30)},
    diagnose.learning_rate_range_test: {
        "data": SETS,
        "lowest": st.just(1e-4),
        "highest": st.just(1.0),
        "steps": st.just(10),
        "batches": st.integers(1, 2),
        "batch_size": st.integers(4, 8),
        "smoothing": st.floats(0, 0.9),
        "seconds": st.just(5.0),
    },
    diagnose.overfit_small_sample: {
        "data": SETS,
        "batches": st.just(1),
        "batch_size": st.integers(4, 8),
        "steps": st.integers(1, 3),
        "learning_rate": st.sampled_from([None, 0.1]),
    },
    diagnose.gradient_check: {"batch": SETS, "samples": st.integers(1, 2), "examples": st.integers(1, 4)},
    initialize.lsuv: {
        "batch": st.sampled_from([IMAGES, IMAGES[:5]]),
        "tolerance": st.floats(0.01, 0.1),
        "max_steps": st.integers(1, 3),
        "orthonormal": st.booleans(),
        "seed": st.integers(0, 9),
    },
    layers.add_l1_l2: {"l1": st.floats(0, 0.1), "l2": st.floats(0, 0.1)},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@example_count(8)
@given(st.data())
def test_checks_and_initializers_end_or_refuse(check, data):
    explained(check, small_model((4, 4, 1)), **data.draw(arguments(CHECKS[check])))
