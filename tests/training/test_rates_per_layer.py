"""A rate per layer through `recipes.train`: the optimizer, the schedules over it, probe, findings, files, resume."""

import json

import keras
import numpy as np
import pytest
from quick_runs import quietly

from recipes import callbacks
from recipes.common.optimizers import factors_of, rates_of
from recipes.diagnose.rules.record_rules import judge_record

RATES = {"conv": 0.1, "head": 1.0}
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module")
def digits():
    random = np.random.default_rng(0)
    return random.integers(0, 255, (96, 8, 8, 1)).astype("uint8"), np.arange(96) % 3


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax", name="dense"),
        ]
    )


def test_the_first_update_of_a_layer_is_its_factor_times_the_plain_one(digits):
    start, changes = network().get_weights(), []
    for rates in (None, RATES):
        model = network()
        options = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.1, "schedule": None}
        quietly(model, digits, epochs=1, batch_size=96, rates=rates, **options)
        changes.append([a - b for a, b in zip(model.get_weights(), start, strict=True)])
    for factor, one, other in zip([0.1, 0.1, 1, 1], *changes, strict=True):
        np.testing.assert_allclose(other, factor * one, atol=1e-6)


def test_a_compiled_model_gets_the_factors_into_its_own_optimizer(digits):
    model = network()
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, LOSS)
    quietly(model, digits, epochs=1, rates=0.5)
    assert model.optimizer is optimizer
    assert list(factors_of(optimizer).values()) == [0.5, 0.5, 1.0, 1.0]


def test_rates_that_fit_no_layer_are_refused_before_training(digits):
    with pytest.raises(ValueError, match="'stem', which fits none of .* It has conv, dense"):
        quietly(network(), digits, epochs=1, rates={"stem": 0.1})


@pytest.mark.parametrize("rates", [0, 1.5, "fast", [0.1]])
def test_rates_of_another_kind_are_refused(digits, rates):
    with pytest.raises(ValueError, match="expects rates as factors by layer"):
        quietly(network(), digits, epochs=1, rates=rates)


def test_a_run_with_rates_resumes_bit_for_bit(digits, tmp_path):
    options = {"epochs": 3, "batch_size": 32, "rates": RATES, "optimizer": "adamw"}
    whole, parts = network(), network()
    quietly(whole, digits, run_dir=tmp_path / "whole", **options)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quietly(network(), digits, run_dir=tmp_path / "parts", callbacks=[Stop()], **options)
    quietly(parts, digits, run_dir=tmp_path / "parts", resume=True, **options)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_with_other_rates_is_no_continuation(digits, tmp_path):
    quietly(network(), digits, epochs=1, rates=RATES, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="rates"):
        quietly(network(), digits, epochs=2, rates=0.5, run_dir=tmp_path / "run", resume=True)


def test_a_run_folder_holds_a_model_with_an_optimizer_of_keras(digits, tmp_path):
    run = quietly(network(), digits, epochs=1, rates=RATES, optimizer="adamw", run_dir=tmp_path / "run")
    loaded = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert type(loaded.optimizer) is keras.optimizers.AdamW
    moments = [v for v in run.model.optimizer.variables if "momentum" in v.path]
    found = [v for v in loaded.optimizer.variables if "momentum" in v.path]
    np.testing.assert_array_equal(found[0], moments[0])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["rates"] == RATES


def test_groups_stand_in_the_record(digits):
    watch = callbacks.UpdateRatioMonitor(every_steps=1, warn=False)
    run = quietly(network(), digits, epochs=1, batch_size=32, rates=RATES, callbacks=[watch])
    record = watch.record
    axis = record.axes["variables"]
    assert axis["factor"].tolist() == [0.1, 0.1, 1.0, 1.0] and run.history["loss"]


def test_a_layer_is_judged_by_its_update_over_its_factor(digits):
    model = network()
    watch = callbacks.UpdateRatioMonitor(low=1e-3, high=1.0, every_steps=1, strict=True)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    quietly(
        network(), digits, epochs=1, batch_size=32, rates={"conv": 1e-9}, callbacks=[watch], optimizer="adam"
    )
    # |dW|/|W| of conv is 1e-9 of a usual one: by itself it would be far under `low`, and warn.
    assert watch.ratios["conv"] < 1e-8 < watch.ratios["dense"]


def test_the_doctor_tells_the_factors_with_a_rate_that_is_too_low(digits):
    watch = callbacks.UpdateRatioMonitor(every_steps=1, warn=False)
    quietly(
        network(), digits, epochs=3, batch_size=32, rates=RATES, callbacks=[watch],
        optimizer="sgd", learning_rate=1e-9, schedule=None, weight_decay=0,
    )  # fmt: skip
    found = [one for one in judge_record(watch.record, {}) if one.code == "rate_too_low"]
    assert len(found) == 1 and "factors per layer of 0.1 (conv) to 1 (dense)" in found[0].evidence


def several(low=0.02, high=0.08):
    make = keras.optimizers.SGD
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(make(high), {".*conv.*": make(low)}))


class Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(sorted(rates_of(self.model.optimizer)))


def test_warmup_decay_moves_all_rates_of_a_multi_optimizer_together(digits):
    model, rates = network(), Rates()
    model.compile(several(), LOSS)
    quietly(model, digits, epochs=2, batch_size=24, warmup=2, schedule="linear", callbacks=[rates])
    # Two steps up to the peak, then down to zero over the six that are left.
    expected = 0.08 * np.array([0.5, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7])
    np.testing.assert_allclose([row[1] for row in rates.seen], expected, rtol=1e-5)
    np.testing.assert_allclose([row[0] for row in rates.seen], expected / 4, rtol=1e-5)
    np.testing.assert_allclose(sorted(rates_of(model.optimizer)), [0.02, 0.08], rtol=1e-6)


def test_several_steps_per_execution_give_every_rate_its_step(digits):
    weights = []
    for steps in (1, 2):
        model = network()
        model.compile(several(), LOSS, steps_per_execution=steps)
        model.fit(
            *digits, batch_size=24, epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.WarmupDecay(2)]
        )
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_range_of_rates_is_restored_from_a_state(digits):
    model = network()
    model.compile(several(), LOSS)
    driver = callbacks.WarmupDecay(0.5)
    model.fit(*digits, batch_size=48, epochs=2, verbose=0, callbacks=[driver])
    state = json.loads(json.dumps(driver.get_state()))
    for one in model.optimizer.optimizers:
        one.learning_rate = 1e-4  # as towards the end of a schedule
    again = callbacks.WarmupDecay(0.5)

    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            again.set_state(state)

    model.fit(*digits, batch_size=48, epochs=3, initial_epoch=2, verbose=0, callbacks=[again, Restore()])
    np.testing.assert_allclose(sorted(rates_of(model.optimizer)), [0.02, 0.08], rtol=1e-6)


def staged():
    model = network()
    model.get_layer("conv").trainable = False
    return model


def test_a_run_that_unfreezes_resumes_bit_for_bit(digits, tmp_path):
    options = {"epochs": 4, "batch_size": 32, "rates": RATES, "optimizer": "adamw"}
    stages = lambda: callbacks.Unfreeze({1: "conv"})  # noqa: E731 - one a run
    whole, parts = staged(), staged()
    quietly(whole, digits, digits, run_dir=tmp_path / "whole", callbacks=[stages()], **options)
    assert whole.optimizer.factors == [0.1, 0.1, 1.0, 1.0]

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quietly(staged(), digits, digits, run_dir=tmp_path / "parts", callbacks=[stages(), Stop()], **options)
    quietly(parts, digits, digits, run_dir=tmp_path / "parts", callbacks=[stages()], resume=True, **options)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    loaded = keras.models.load_model(tmp_path / "parts" / "best.keras")
    assert type(loaded.optimizer) is keras.optimizers.AdamW


@pytest.mark.parametrize("begin", [network, staged], ids=["free", "frozen"])
def test_a_finished_run_that_froze_or_freed_layers_is_returned_by_resume(digits, tmp_path, begin):
    def run():
        options = {
            "rates": RATES,
            "optimizer": keras.optimizers.Adam(1e-3),
            "callbacks": [callbacks.Unfreeze({1: "conv"})],
        }
        return quietly(
            begin(), digits, epochs=2, batch_size=48, run_dir=tmp_path / "run", resume=True, **options
        )

    for one, other in zip(run().model.get_weights(), run().model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_averaged_weights_have_the_layers_that_joined(digits):
    model = staged()
    start = np.array(model.get_layer("conv").kernel)
    stages = callbacks.Unfreeze({1: "conv"})
    quietly(model, digits, epochs=3, batch_size=32, callbacks=[stages], optimizer="adam", average="ema")
    assert np.abs(np.array(model.get_layer("conv").kernel) - start).max() > 1e-5
