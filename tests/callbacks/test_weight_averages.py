import keras
import numpy as np
import pytest

from recipes import ensemble
from recipes.callbacks import ExponentialMovingAverage, StochasticWeightAveraging

EPOCHS, STEPS, BATCH = 4, 5, 4
RATE = 0.3


class Diary(keras.callbacks.Callback):
    """The weights after every execution, as training sees them."""

    def on_train_begin(self, logs=None):
        self.pages = []

    def on_train_batch_end(self, batch, logs=None):
        self.pages.append([np.array(value) for value in self.model.trainable_variables])


def build(dtype=None, optimizer=None, **options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh", dtype=dtype), keras.layers.Dense(1, dtype=dtype)]
    )
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **options)
    return model


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(STEPS * BATCH, 3)).astype("float32")
    return inputs, np.sin(inputs.sum(1, keepdims=True)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def fresh(model):
    model.set_weights(build().get_weights())
    return model


def fit(model, data, *callbacks, epochs=EPOCHS, **options):
    return model.fit(
        *data, epochs=epochs, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks), **options
    )


def exponential(pages, decay, warmup=False, power=1):
    """The average by a loop in float64."""
    average = [value.astype("float64") for value in pages[0]]
    for number, page in enumerate(pages[1:], start=2):
        keep = min(decay, (1 + number * power) / (10 + number * power)) if warmup else decay
        keep = keep**power
        average = [keep * a + (1 - keep) * value for a, value in zip(average, page, strict=True)]
    return average


def assert_same(weights, expected, **tolerance):
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, wanted, **{"rtol": 2e-5, "atol": 1e-6, **tolerance})


@pytest.mark.parametrize("warmup", [False, True])
def test_polyak_is_the_loop_over_every_step(fresh, data, warmup):
    diary = Diary()
    fit(fresh, data, diary, ExponentialMovingAverage(0.8, warmup=warmup))
    assert len(diary.pages) == EPOCHS * STEPS
    assert_same(fresh.get_weights(), exponential(diary.pages, 0.8, warmup))


def test_polyak_without_warmup_is_kerass_use_ema(fresh, data):
    theirs = build(optimizer=keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.8))
    fit(theirs, data)
    fit(fresh, data, ExponentialMovingAverage(0.8, warmup=False))
    assert_same(fresh.get_weights(), theirs.get_weights())


def test_training_itself_is_untouched_and_one_instance_serves_two_fits(fresh, data):
    alone, beside, average = Diary(), Diary(), ExponentialMovingAverage(0.8)
    fit(fresh, data, alone)
    for _ in range(2):
        fresh.set_weights(build().get_weights())
        fit(fresh, data, beside, average, validation_data=data)
        assert_same(
            [p for page in beside.pages for p in page],
            [p for page in alone.pages for p in page],
            rtol=0,
            atol=0,
        )
        assert_same(fresh.get_weights(), exponential(alone.pages, 0.8, warmup=True))


@pytest.mark.parametrize("first", [True, False])
def test_validation_checkpoints_and_stopping_see_the_average(fresh, data, tmp_path, first):
    diary, average = Diary(), ExponentialMovingAverage(0.8)
    others = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.EarlyStopping(restore_best_weights=True),
    ]
    history = fit(
        fresh,
        data,
        diary,
        *([average, *others] if first else [*others, average]),
        epochs=2,
        validation_data=data,
    ).history
    for epoch in (1, 2):
        expected = exponential(diary.pages[: epoch * STEPS], 0.8, warmup=True)
        saved = build()
        saved.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert_same(saved.get_weights(), expected)
        saved.set_weights([value.astype("float32") for value in expected])
        assert saved.evaluate(*data, verbose=0) == pytest.approx(history["val_loss"][epoch - 1], rel=1e-4)
    assert_same(fresh.get_weights(), exponential(diary.pages, 0.8, warmup=True))


def test_steps_per_execution_samples_each_execution_with_the_decay_of_its_steps(data):
    model, diary = build(steps_per_execution=STEPS), Diary()
    fit(model, data, diary, ExponentialMovingAverage(0.8, warmup=False))
    assert len(diary.pages) == EPOCHS
    assert_same(model.get_weights(), exponential(diary.pages, 0.8, power=STEPS))


def test_every_and_gradient_accumulation_sample_updates_not_batches(data):
    model, diary = build(optimizer=keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)), Diary()
    fit(model, data, diary, ExponentialMovingAverage(0.8, warmup=False))
    updated = diary.pages[1::2]
    assert_same(model.get_weights(), exponential(updated, 0.8))
    model.set_weights(build().get_weights())
    fit(model, data, diary, ExponentialMovingAverage(0.8, warmup=False, every_updates=5))
    assert_same(model.get_weights(), exponential(updated[4::5], 0.8, power=5))


def test_mixed_precision_averages_in_float32(data):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=8.0)
    model, diary, average = (
        build("mixed_float16", optimizer),
        Diary(),
        ExponentialMovingAverage(0.8, warmup=False),
    )
    fit(model, data, diary, average)
    assert {other.dtype for other in average._others} == {"float32"}
    assert_same(model.get_weights(), exponential(diary.pages, 0.8))


def test_two_replicas_average_as_one(fresh, data, two_replicas):
    with two_replicas.scope():
        mirrored = build()
    for model in (fresh, mirrored):
        fit(model, data, ExponentialMovingAverage(0.8), epochs=2, validation_data=data)
    assert_same(mirrored.get_weights(), fresh.get_weights(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [lambda: ExponentialMovingAverage(0.8), lambda: StochasticWeightAveraging(start=1)],
    ids=["ema", "swa"],
)
def test_a_resumed_run_ends_as_the_whole_one(fresh, data, make):
    fit(fresh, data, make(), validation_data=data)
    whole = fresh.get_weights()

    fresh.set_weights(build().get_weights())
    kept = {}

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                kept.update(weights=self.model.get_weights(), state=first.get_state())
                raise KeyboardInterrupt

    first = make()
    with pytest.raises(KeyboardInterrupt):
        fit(fresh, data, first, Kill(), validation_data=data)
    fresh.set_weights([value * 0 for value in whole])

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.set_weights(kept["weights"])
            second.set_state(kept["state"])

    second = make()
    fit(fresh, data, second, Resume(), initial_epoch=2, validation_data=data)
    assert_same(fresh.get_weights(), whole, rtol=0, atol=0)
    # With nothing left to do the average is still the model's.
    second = make()
    fit(fresh, data, second, Resume(), epochs=2, initial_epoch=2, validation_data=data)
    assert_same(fresh.get_weights(), kept["weights"], rtol=0, atol=0)


def test_a_model_that_its_first_batch_builds_is_averaged_too(data):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = keras.layers.Dense(1), keras.layers.BatchNormalization()

        def call(self, inputs, training=False):
            return self.norm(self.dense(inputs), training=training)

    model, diary = Plain(), Diary()
    model.compile(keras.optimizers.SGD(RATE), "mse")
    fit(model, data, diary, ExponentialMovingAverage(0.8))
    assert_same(model.trainable_variables, exponential(diary.pages, 0.8, warmup=True))


def test_after_an_interruption_the_average_can_be_had(fresh, data):
    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(diary.pages) == 7:
                raise KeyboardInterrupt

    diary, average = Diary(), ExponentialMovingAverage(0.8, warmup=False)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh, data, average, diary, Kill())
    assert_same(fresh.get_weights(), diary.pages[-1], rtol=0, atol=0)
    average.put_in_model()
    average.put_in_model()
    assert_same(fresh.get_weights(), exponential(diary.pages, 0.8))


@pytest.mark.parametrize(("start", "every", "sampled"), [(0.5, 1, [2, 3]), (1, 2, [1, 3]), (0, 3, [0, 3])])
def test_swa_is_the_plain_mean_over_ends_of_epochs(fresh, data, start, every, sampled):
    diary, average = Diary(), StochasticWeightAveraging(start, every)
    fit(fresh, data, diary, average, validation_data=data)
    ends = [diary.pages[(epoch + 1) * STEPS - 1] for epoch in sampled]
    assert average.samples == len(sampled)
    assert_same(fresh.get_weights(), [np.mean(values, axis=0) for values in zip(*ends, strict=True)])


def test_swa_that_never_begins_says_so(fresh, data):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    diary = Diary()
    with pytest.warns(UserWarning, match="Give an earlier start"):
        fit(fresh, data, diary, StochasticWeightAveraging(0.75), Stop())
    assert_same(fresh.get_weights(), diary.pages[-1], rtol=0, atol=0)


@pytest.fixture(scope="module")
def noisy_digits(digits):
    """Training digits with every third label wrong, which keeps the weights moving; and clean ones."""
    images, labels = digits
    random = np.random.default_rng(0)
    inputs, wrong = images.reshape(-1, 64) / np.float32(16), labels.copy()
    chosen = random.random(len(labels)) < 0.3
    wrong[chosen] = random.integers(0, 10, chosen.sum())
    return (inputs[:1400], wrong[:1400]), (inputs[1400:], labels[1400:])


def with_norms():
    keras.utils.set_random_seed(0)
    hidden = [
        layer
        for _ in range(3)
        for layer in (
            keras.layers.Dense(48),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        )
    ]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.SGD(3.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_averaged_weights_need_their_own_batch_norm_statistics(noisy_digits):
    train, validation = noisy_digits
    model = with_norms()
    first = model.get_weights()
    results = {}
    for kind, refresh in (("wrong", False), ("right", train[0])):
        keras.utils.set_random_seed(0)
        model.set_weights(first)
        average = StochasticWeightAveraging(start=2, data=refresh)
        model.fit(*train, epochs=8, batch_size=64, verbose=0, callbacks=[average])
        results[kind] = model.evaluate(*validation, verbose=0, return_dict=True)
        if kind == "wrong":
            ensemble.refresh_batch_norm(model, train[0])
            results["cured"] = model.evaluate(*validation, verbose=0, return_dict=True)
    assert results["wrong"]["loss"] > results["right"]["loss"] + 0.05
    assert results["wrong"]["accuracy"] < results["right"]["accuracy"] - 0.02
    assert results["cured"] == pytest.approx(results["right"])


def test_swa_asks_for_data_when_there_are_norms_to_refresh(noisy_digits):
    train, _ = noisy_digits
    model = with_norms()
    with pytest.raises(ValueError, match="data=train"):
        model.fit(*train, epochs=2, verbose=0, callbacks=[StochasticWeightAveraging(0.5)])
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(*train, epochs=2, batch_size=700, verbose=0, callbacks=[StochasticWeightAveraging(0.5)])


def test_an_optimizer_that_averages_already_is_refused(data):
    model = build(optimizer=keras.optimizers.SGD(RATE, use_ema=True))
    with pytest.raises(ValueError, match="use_ema"):
        fit(model, data, ExponentialMovingAverage(0.8))


@pytest.mark.parametrize(
    ("build_it", "says"),
    [
        (lambda: ExponentialMovingAverage(1.0), r"decay in \[0, 1\)"),
        (lambda: ExponentialMovingAverage(0.9, every_updates=0), "number of updates"),
        (lambda: StochasticWeightAveraging(1.0), "a part of the run"),
        (lambda: StochasticWeightAveraging(-1), "a part of the run"),
        (lambda: StochasticWeightAveraging(0.5, every_epochs=0), "number of epochs"),
    ],
)
def test_impossible_arguments_say_what_to_do(build_it, says):
    with pytest.raises(ValueError, match=says):
        build_it()


def test_a_start_after_the_end_is_refused(fresh, data):
    with pytest.raises(ValueError, match="before the end of the run"):
        fit(fresh, data, StochasticWeightAveraging(start=EPOCHS))
