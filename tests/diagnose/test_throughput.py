"""Why is it slow: stages by what they do, work by closed forms, causes by numbers that are given, and all put back."""

import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import diagnose, plot
from recipes.common.datasets import (
    _graph_of,
    is_parallelized_by_itself,
    is_prefetched_by_itself,
    stages_of,
    with_calls,
)
from recipes.common.models import rebuild
from recipes.diagnose.speed import measured_run, speed_rules, speed_trials
from recipes.diagnose.speed.graph_work import Machine, Work, work_of
from recipes.diagnose.speed.input_stages import describe_stages
from recipes.diagnose.speed.measured_run import MeasuredRun, real_data
from recipes.diagnose.speed.slowdown import CODES
from recipes.diagnose.speed.speed_rules import predicted
from recipes.diagnose.speed.step_times import StepTimes
from recipes.diagnose.speed.throughput import _parts, _transfer

IMAGES, LABELS = np.zeros((64, 8, 8, 3), "float32"), np.arange(64) % 3


def small_model(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **options)
    return model


def slices():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def decode(file, label):
    return tf.io.decode_jpeg(file, channels=3), label


def in_python(image, label):
    return tf.ensure_shape(tf.numpy_function(np.flip, [image], tf.float32), (8, 8, 3)), label


def noisy(image, label):
    return image + tf.random.uniform((8, 8, 3)), label


def test_a_stage_is_known_by_the_operations_in_its_function():
    layer = keras.layers.RandomFlip()
    files = tf.data.Dataset.from_tensors((tf.io.encode_jpeg(np.zeros((8, 8, 3), "uint8")), 0)).repeat(4)
    chain = files.map(decode, num_parallel_calls=3).cache().shuffle(10).batch(2)
    chain = chain.map(lambda x, y: (layer(x, training=True), y)).prefetch(2)
    stages = describe_stages(chain)
    assert [stage.kind for stage in stages[-6:]] == [
        *("decode", "cache", "shuffle", "batch", "augment", "prefetch")
    ]
    assert stages[-6].calls == 3 and not stages[-6].batched
    assert stages[-2].variables and stages[-2].calls == 1 and stages[-2].batched
    assert stages[-4].buffer == 10
    python = describe_stages(slices().map(in_python))[-1]
    assert python.kind == "python" and python.python
    generated = tf.data.Dataset.from_generator(
        lambda: iter([1.0, 2.0]), output_signature=tf.TensorSpec((), "float32")
    )
    assert any(stage.python for stage in describe_stages(generated))
    assert describe_stages(slices().map(noisy))[-1].kind == "augment"


def test_maps_made_parallel_give_the_same_elements():
    chain = (
        slices().map(lambda x, y: (x + tf.cast(y, "float32"), y)).map(lambda x, y: (2 * x, y), 1).batch(16)
    )
    parallel = with_calls(chain, 4)
    graph = parallel._as_serialized_graph().numpy()
    assert graph.count(b"ParallelMapDatasetV2") >= 2 and chain.element_spec == parallel.element_spec
    for one, other in zip(chain, parallel, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_a_model_is_built_again_in_another_dtype():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
            keras.layers.Dense(2, dtype="mixed_bfloat16"),
        ]
    )
    twin = rebuild(model, "float32")
    assert [layer.compute_dtype for layer in twin.layers] == ["float32", "float32"]
    assert [layer.compute_dtype for layer in rebuild(model).layers] == ["float64", "bfloat16"]
    mixed = rebuild(model, "mixed_float16")
    assert [layer.compute_dtype for layer in mixed.layers] == ["float16", "float16"]


def test_operations_of_the_graph_are_those_of_the_formulas():
    inputs = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    hidden = keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False)(hidden)
    hidden = keras.layers.Flatten()(hidden)
    model = keras.Model(inputs, keras.layers.Dense(10, use_bias=False)(hidden))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    work = work_of(model, tf.zeros((4, 16, 16, 3)))
    forward = 2 * 4 * (256 * 8 * 27 + 256 * 8 * 25 + 2048 * 10)
    assert work.flops == 3 * forward
    assert work.weights == work.gradients == 4 * (27 * 8 + 25 * 8 + 20480)
    assert work.optimizer == pytest.approx(2 * work.weights, abs=64)
    assert work.activations == 4 * (2 * 256 * 8 + 10)


def test_the_largest_batch_fills_nine_tenths_of_the_free_memory():
    work = Work(1e9, 1e6, activations=1000.0, weights=2e5, optimizer=4e5, gradients=2e5, batch=32)
    machine = Machine(flops=1e11, bandwidth=1e9, memory=2e6)
    assert work.largest_batch(machine) == (0.9 * 2e6 - 8e5) / 1000
    assert work.best_seconds(machine) == 1e9 / 1e11


def run_of(chain=None, *, real=0.1, alone=0.02, read=0.1, costs=(), traces=1, jit=False, **rest):
    """A run whose times are given."""
    model = small_model(jit_compile=jit)
    stages = [] if chain is None else describe_stages(chain)
    for stage, (seconds, first, size) in zip(stages[-len(costs) :], costs, strict=True):
        object.__setattr__(stage, "seconds", seconds)
        object.__setattr__(stage, "first", first)
        object.__setattr__(stage, "bytes", size)
    for stage in stages[: len(stages) - len(costs)]:
        object.__setattr__(stage, "seconds", 0.0)
    callbacks = rest.pop("spent", {})
    retraced = rest.pop("retraced", ())
    return MeasuredRun(
        *(model, (chain,), {}, (IMAGES[:16], LABELS[:16]), [], stages),
        StepTimes(np.full(10, real), callbacks, traces=traces, retraced=retraced),
        StepTimes(np.full(10, alone)),
        input_seconds=read,
        **rest,
    )


JPEGS = tf.data.Dataset.from_tensor_slices((np.full(64, b""), LABELS))
CHAINS = {
    "python_map": slices().map(in_python).batch(16),
    "decoded_every_epoch": JPEGS.map(decode, num_parallel_calls=4).batch(16),
    "map_per_example": slices().map(noisy, num_parallel_calls=4).batch(16),
}


@pytest.mark.parametrize("code", CHAINS)
def test_a_stage_that_steps_wait_for_is_named_with_what_it_costs(code):
    run = run_of(CHAINS[code], costs=[(0.06, 0.0, 1000.0), (0.02, 0.0, 1000.0)])
    (found,) = predicted(run)
    assert found.code == code and not found.tried
    # It is three quarters of the input, and the step waits 80 of 100 ms.
    np.testing.assert_allclose(found.after, 0.1 - 0.75 * 0.08)
    assert predicted(run_of(CHAINS[code], real=0.021, costs=[(0.06, 0.0, 1e3), (0.02, 0.0, 1e3)])) == []
    cached = CHAINS[code].cache().prefetch(2)
    assert predicted(run_of(cached, costs=[(0.06, 0.0, 1e3), (0.02, 0.0, 1e3), (0, 0, 0), (0, 0, 0)])) == []


def test_a_keras_layer_inside_tf_data_is_named():
    layer = keras.layers.RandomFlip()
    chain = slices().batch(16).map(lambda x, y: (layer(x, training=True), y), 4)
    (found,) = predicted(run_of(chain, costs=[(0.01, 0, 0), (0.05, 0, 0)]))
    assert found.code == "keras_layer_in_map" and "Pipeline" in found.remedy


def test_a_table_of_words_is_no_layer_with_variables():
    words = keras.layers.TextVectorization(vocabulary=["a", "b"])
    chain = tf.data.Dataset.from_tensor_slices((["a b", "b"] * 32, LABELS)).map(lambda x, y: (words(x), y), 4)
    chain = chain.padded_batch(16)
    (found,) = predicted(run_of(chain, costs=[(0.05, 0, 100.0), (0.01, 0, 0)]))
    assert found.code == "map_per_example" and "Pipeline" not in found.remedy
    learned = keras.layers.Dense(3)
    learned.build((None, 8, 8, 3))
    chain = slices().batch(16).map(lambda x, y: (learned(x), y), 4)
    (found,) = predicted(run_of(chain, costs=[(0.01, 0, 0), (0.05, 0, 0)]))
    assert "its weights" in found.evidence and "Pipeline" not in found.remedy


def test_a_shuffle_of_decoded_images_costs_an_epoch_its_filling():
    chain = JPEGS.repeat(100).map(decode).shuffle(1000).batch(16)
    costs = [(0.0, 0.1, 1e5), (0.0, 4.1, 1e5), (0.0, 4.2, 1e5)]
    (found,) = predicted(run_of(chain, real=0.02, costs=costs, epoch_steps=100))
    assert found.code == "shuffle_decoded" and "100 MB" in found.evidence
    np.testing.assert_allclose(found.before - found.after, 4.0 / 100)
    few = JPEGS.map(decode).shuffle(1000).batch(16)
    (found,) = predicted(run_of(few, real=0.02, costs=costs, epoch_steps=100))
    assert "6 MB" in found.evidence  # of the 64 that are there
    names = slices().shuffle(1000).batch(16)  # nothing was computed before
    assert predicted(run_of(names, real=0.02, costs=costs, epoch_steps=100)) == []


def test_long_validation_and_costly_callbacks_are_named():
    (found,) = predicted(run_of(real=0.02, validation=0.02, epoch_steps=50))
    assert found.code == "long_validation"
    np.testing.assert_allclose(found.after, 0.04 - 0.8 * 0.02)
    (found,) = predicted(run_of(real=0.02, spent={"Slow": 0.02, "Quick": 1e-4}))
    assert found.code == "batch_callback" and "Slow" in found.evidence
    np.testing.assert_allclose(found.gain, 0.02 / 0.0401)


def test_tracing_is_not_taken_for_waiting():
    (found,) = predicted(run_of(slices().batch(16), read=1e-3, costs=[(0, 0, 0)], traces=9))
    assert found.code == "retracing" and found.after == pytest.approx(0.02)
    (found,) = predicted(run_of(real=0.02, spent={"Own": 0.05}, retraced=("forward",)))
    assert found.code == "retracing" and "forward" in found.evidence
    ragged = slices().padded_batch(16, ((None, None, 3), ()))
    (found,) = predicted(run_of(ragged, read=1e-3, costs=[(0, 0, 0)], jit=True))
    assert found.code == "retracing" and "XLA" in found.evidence


class Sleeps(keras.callbacks.Callback):
    """Takes as long as the step does, whatever else this machine has to do."""

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(max(0.03, time.perf_counter() - self.began))


@pytest.fixture(scope="module")
def measured():
    """An eager model, a slow callback, and what was before: one measurement for several tests."""
    model = small_model(run_eagerly=True, metrics=["accuracy"])
    train = slices().shuffle(64, seed=3).batch(16)
    model.fit(train, epochs=1, verbose=0, shuffle=False)
    before = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    found = diagnose.throughput(model, train, (IMAGES, LABELS), callbacks=[Sleeps()], seconds=2.0, verbose=0)
    after = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    return found, model, before, after


def test_measuring_leaves_no_trace_in_the_model(measured):
    _, model, before, after = measured
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.run_eagerly and model.train_function is not None
    assert "train_step" not in vars(model) and not model.stop_training


def test_planted_causes_are_found_and_drawn(measured):
    found = measured[0]
    codes = {one.code for one in found.findings}
    assert codes >= {"batch_callback", "run_eagerly"} and codes <= set(CODES)
    assert found.parts["callbacks"] > 0.03
    np.testing.assert_allclose(sum(found.parts.values()), found.step_seconds, rtol=0.05)
    assert {"shuffle", "batch"} <= set(found.input_parts)
    np.testing.assert_allclose(sum(found.input_parts.values()), sum(one.seconds for one in found.stages))
    text = str(found)
    assert "run_eagerly=False" in text and "Sleeps" in text and "an estimate" in text
    figure = plot.throughput(found)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "as it is" and len(labels) == 1 + len(found.findings)


def test_measuring_leaves_the_order_of_a_shuffled_data_set_alone():
    def orders(look):
        keras.utils.set_random_seed(0)
        train = tf.data.Dataset.from_tensor_slices((IMAGES, np.arange(64))).shuffle(64, seed=1).batch(16)
        if look:
            model = small_model()
            labeled = train.map(lambda x, y: (x, y % 3))
            diagnose.throughput(model, labeled, seconds=0.5, verbose=0)
        return [np.concatenate([y for _, y in train.as_numpy_iterator()]) for _ in range(2)]

    np.testing.assert_array_equal(orders(True), orders(False))


class Slow(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.order, self.rng, self.epochs = np.arange(64), np.random.default_rng(3), []

    def __len__(self):
        return 4

    def __getitem__(self, number):
        time.sleep(0.15)
        rows = self.order[16 * number : 16 * number + 16]
        return IMAGES[rows], LABELS[rows], np.ones(16, "float32")

    def on_epoch_end(self):
        self.rng.shuffle(self.order)
        self.epochs.append(1)


def test_a_slow_pydataset_is_named_as_python_on_a_copy():
    data = Slow()
    found = diagnose.throughput(small_model(), data, seconds=1.0, verbose=0)
    (python,) = [one for one in found.findings if one.code == "python_map"]
    assert "Slow.__getitem__" in python.evidence and python.gain > 0.4
    np.testing.assert_array_equal(data.order, np.arange(64))
    assert data.epochs == [] and data.rng.integers(10**9) == np.random.default_rng(3).integers(10**9)


def test_arrays_with_weights_are_measured_as_fit_takes_them():
    seen = []

    class Counted(keras.losses.Loss):
        def __call__(self, truth, answers, sample_weight=None):
            seen.append(sample_weight is not None)
            return keras.ops.mean(answers)

    model = small_model()
    model.compile("sgd", Counted())
    found = diagnose.throughput(
        model, (IMAGES, LABELS, np.ones(64, "float32")), batch_size=16, seconds=0.3, verbose=0
    )
    assert found.examples == 16 and seen and all(seen)


def test_a_trial_that_gained_but_once_gained_nothing(monkeypatch):
    monkeypatch.setattr(measured_run, "machine_is_busy", lambda: False)
    run = run_of()
    times = iter([0.1, 0.05, 0.1, 0.11])
    step = lambda seconds: StepTimes(np.full(4, next(times)))  # noqa: E731
    assert run.ratio(step, step) == pytest.approx(1.1)
    times = iter([0.1, 0.05, 0.1, 0.085])  # a tenth and a half: no fifth both times
    assert run.ratio(step, step, least=0.2) == pytest.approx(0.85)
    monkeypatch.setattr(measured_run, "machine_is_busy", lambda: True)
    times = iter([0.4, 0.1, 0.4, 0.1])
    by_processor = lambda seconds: StepTimes(np.ones(4), processor=next(times))  # noqa: E731
    assert run.ratio(by_processor, by_processor) == pytest.approx(0.25)


def test_on_a_busy_machine_the_processors_tell_what_is_not_prefetched():
    costs = [(0.0, 0.0, 0.0), (0.003, 0.0, 0.0)]
    run = run_of(slices().batch(16).map(noisy_batch), real=0.02, read=0.01, costs=costs, busy=True)
    run.alone.processor, run.real.processor = 0.006, 0.009
    (found,) = speed_trials._prefetch(run)
    np.testing.assert_allclose(found.before - found.after, 0.02 / 3)  # a third of the processors' time
    prefetched = run_of(slices().batch(16).prefetch(2), real=0.02, read=0.01, costs=costs, busy=True)
    prefetched.alone.processor, prefetched.real.processor = 0.006, 0.009
    assert prefetched.beside == 0 and run_of(real=0.02, busy=True).beside == 0
    run = run_of(real=0.2, busy=True)  # the clock says that steps wait, and the processors that they compute
    assert not run.computes
    run.alone.processor, run.real.processor = 0.006, 0.009
    assert run.computes


def test_what_time_does_not_suffice_for_is_predicted():
    run = run_of(best=0.002)
    run.model.run_eagerly = True
    (eager,) = speed_trials._eager(run)
    run.model.run_eagerly = False
    np.testing.assert_allclose(eager.after, 0.1 / 3)
    run = run_of(real=0.02, best=0.002)
    (batch,) = speed_trials._batch(run)
    # Of 20 ms a tenth is computing, and four times as much of it is in a step on four times the examples.
    np.testing.assert_allclose((batch.before, batch.after), (4 * 0.02, 0.02 + 0.3 * 0.02))
    assert not eager.tried and not batch.tried and "would take" in batch.evidence
    assert "for 64 examples" in str(batch)
    assert speed_trials.tried(run)[1] == ["small_batch"]


def test_half_precision_is_tried_where_a_step_is_long(monkeypatch):
    monkeypatch.setattr(speed_trials, "machine_is_busy", lambda: False)
    run = run_of(real=0.02, deadline=1e12)
    run.alone.processor, run.ratio = 0.02, lambda changed, unchanged, least: 0.5
    (found,) = speed_trials._mixed_precision(run)
    assert found.code == "mixed_precision" and found.tried and "mixed_bfloat16" in found.remedy
    np.testing.assert_allclose(found.after, 0.01)
    run.ratio = lambda changed, unchanged, least: 0.9
    assert list(speed_trials._mixed_precision(run)) == []


def test_a_busy_machine_gets_predictions_of_parallel_maps(monkeypatch):
    monkeypatch.setattr(speed_trials, "machine_is_busy", lambda: True)
    monkeypatch.setattr(speed_trials, "cores", lambda: 4)
    run = run_of(slices().batch(16).map(noisy_batch), costs=[(0.0, 0, 0), (0.08, 0, 0)], deadline=1e12)
    (found,) = speed_trials._serial_map(run)
    assert found.code == "serial_map" and not found.tried
    np.testing.assert_allclose(found.after, 0.1 - 0.08 * 3 / 4)


def noisy_batch(images, labels):
    return images + tf.random.uniform((8, 8, 3)), labels


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: (keras.Sequential([keras.layers.Dense(1)]), (IMAGES, LABELS)), "built and compiled"),
        (lambda: (small_model(), (image for image in IMAGES)), "from_generator"),
        (lambda: (small_model(), slices().batch(4).take(0)), "at least one batch"),
        (lambda: (small_model(), (IMAGES[:0], LABELS[:0])), "at least one batch"),
        (lambda: (small_model(), IMAGES), "Received x alone"),
        (lambda: ((IMAGES, LABELS), small_model()), "of class tuple"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        diagnose.throughput(*arguments(), seconds=1.0)


def test_what_is_behind_the_last_prefetch_is_not_made_ahead():
    chain = slices().batch(16).prefetch(2).map(noisy_batch)
    costly = run_of(chain, costs=[(0.01, 0, 0), (0.0, 0, 0), (0.08, 0, 0)])
    cheap = run_of(chain, costs=[(0.09, 0, 0), (0.0, 0, 0), (0.001, 0, 0)])
    assert not costly.is_prefetched and cheap.is_prefetched


def test_workers_and_the_step_share_the_processors(monkeypatch):
    monkeypatch.setattr(speed_rules, "cores", lambda: 2)
    run = run_of(real=0.158, alone=0.045, read=0.137)
    run.data = (Slow(),)
    (found,) = predicted(run)
    # 137 ms of Python and 45 ms of computing need 91 ms of two processors.
    np.testing.assert_allclose(found.after, (0.137 + 0.045) / 2)
    assert "workers=2" in found.remedy


def test_a_call_holds_no_more_steps_than_an_epoch():
    run = run_of(real=0.001, alone=0.001, epoch_steps=4)
    (found,) = speed_trials._steps_per_execution(run)
    assert "steps_per_execution=4." in found.remedy
    assert list(speed_trials._steps_per_execution(run_of(real=0.001, alone=0.001, epoch_steps=1))) == []


def test_what_only_a_trial_would_tell_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr(speed_trials, "machine_is_busy", lambda: True)
    run = run_of(real=0.02, deadline=1e12)
    run.alone.processor = 0.02
    assert set(speed_trials.tried(run)[2]) == {"mixed_precision", "xla"}
    monkeypatch.setattr(speed_trials, "machine_is_busy", lambda: False)
    run = run_of(real=0.02, jit=True)
    assert speed_trials.tried(run)[2] == {"xla": "there was no time to try it"}


def test_bringing_a_batch_to_an_accelerator_is_a_part(monkeypatch):
    batch = (tf.zeros((64, 32, 32, 3)), tf.zeros(64))
    assert _transfer(batch) == 0  # there is none
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [SimpleNamespace(name="/CPU:0")])
    assert 0 < _transfer(batch) < 1
    run = run_of(real=0.02, alone=0.01, read=0.1, refilling=0.003)
    parts = _parts(run)
    assert parts["transfer"] > 0 and parts["input"] == pytest.approx(0.013)
    np.testing.assert_allclose(sum(parts.values()), run.total)


def test_a_batch_in_memory_has_the_shapes_of_the_data():
    chain = slices().batch(16)
    run = run_of(chain, costs=[(0.0, 0, 0)])
    run.batch = next(iter(chain))
    (memory,) = run.from_memory()
    assert memory.element_spec == chain.element_spec
    run.share("traced", (memory,))
    assert run.functions == {(id(run.model),): "traced"}
    np.testing.assert_array_equal(next(iter(run.from_memory(2)[0]))[1], np.tile(LABELS[:16], 2))
    fixed = run_of(slices().batch(16, drop_remainder=True), costs=[(0.0, 0, 0)])
    assert fixed.from_memory(4)[0].element_spec[1].shape == (64,)


def test_tensorflow_prefetches_unless_options_forbid_it():
    chain, options = slices().batch(16), tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    assert is_prefetched_by_itself(chain) and not is_prefetched_by_itself(chain.with_options(options))
    for tuned in (chain, chain.with_options(options)):
        (copy,) = real_data((tuned,))
        names = [type(one).__name__ for one in stages_of(copy)]
        assert any("Prefetch" in name for name in names) == (tuned is chain)
    assert run_of(chain, costs=[(0.1, 0, 0)], prefetched_by_itself=True).is_prefetched


def test_a_generator_that_starts_slowly_is_named():
    generated = tf.data.Dataset.from_generator(
        lambda: iter(zip(IMAGES, LABELS, strict=True)), output_signature=slices().element_spec
    )
    chain = generated.batch(16)
    costs = [(0.001, 2.0, 0), (0.0, 2.0, 0)]
    run = run_of(chain, real=0.02, costs=costs, epoch_steps=8, refilling=0.25)
    (found,) = predicted(run)
    assert found.code == "python_map" and "until its first element" in found.evidence
    np.testing.assert_allclose((found.before, found.after), (0.27, 0.02 + 0.001 / 8), atol=1e-3)
    assert predicted(run_of(chain, real=0.02, costs=costs, epoch_steps=8000, refilling=0.00025)) == []


def test_a_map_that_tensorflow_runs_in_parallel_itself_is_no_cause(monkeypatch):
    monkeypatch.setattr(speed_trials, "machine_is_busy", lambda: True)
    monkeypatch.setattr(speed_trials, "cores", lambda: 4)
    data = slices().batch(16).map(lambda x, y: (x * 2.0, y))
    run = run_of(data, costs=[(0.0, 0, 0), (0.08, 0, 0)], deadline=1e12)
    assert [one.code for one in speed_trials._serial_map(run)] == ["serial_map"]
    run.parallelized_by_itself = True
    assert not list(speed_trials._serial_map(run))


def test_only_plain_maps_without_state_are_given_more_calls():
    def drawn(x, y):
        return x + tf.random.uniform(()), y

    def scaled(x, y):
        return x * 2.0, y

    chain = slices().map(drawn).map(scaled).map(scaled, num_parallel_calls=3)
    graph = _graph_of(with_calls(chain, 2, serial_only=True))
    assert [node.op for node in graph.node if "MapDataset" in node.op] == [
        "MapDataset",
        "ParallelMapDatasetV2",
        "ParallelMapDatasetV2",
    ]
    options = tf.data.Options()
    options.experimental_optimization.map_parallelization = False
    assert is_parallelized_by_itself(chain) and not is_parallelized_by_itself(chain.with_options(options))
