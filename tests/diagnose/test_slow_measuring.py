"""What the measuring of steps, stages, machine and epochs rests on."""

import gc
import time
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from recipes.callbacks import TrainingDoctor, epoch_clock, training_doctor
from recipes.diagnose.speed import input_stages, processors
from recipes.diagnose.speed.input_stages import describe_stages, measure_stages
from recipes.diagnose.speed.step_times import kept, time_steps

IMAGES, LABELS = np.zeros((64, 8, 8, 3), "float32"), np.arange(64) % 3


def slices():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def small_model():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_a_stage_costs_what_it_does():
    def busy(image, label):
        return tf.while_loop(lambda x: x[0, 0, 0] < 2000.0, lambda x: (x + 1.0,), (image,))[0], label

    stages = measure_stages(describe_stages(slices().map(busy).batch(16)), batch=16, seconds=0.9)
    costs = {stage.name: stage.seconds for stage in stages}
    assert max(costs, key=costs.get) == "Map"
    assert stages[-1].examples == 16 and stages[-2].bytes == 8 * 8 * 3 * 4 + 8


def test_a_shuffle_that_fills_long_is_filled_once_for_all_stages_after_it():
    starts = []

    def slow():
        starts.append(1)
        for number in range(16):
            time.sleep(0.01)
            yield number

    chain = tf.data.Dataset.from_generator(slow, output_signature=tf.TensorSpec((), "int64"))
    chain = chain.shuffle(16).batch(8).map(lambda x: x + 1).map(lambda x: x + 2)
    stages = measure_stages(describe_stages(chain), batch=8, seconds=0.1)
    assert [stage.seconds for stage in stages[-3:]] == [0, 0, 0]
    assert len({stage.first for stage in stages[-4:]}) == 1 and stages[-4].kind == "shuffle"
    assert len(starts) < 6


class Numbers(keras.callbacks.Callback):
    """Hands a Python number to a function after every batch; predicts on an array, which traces maps of tf.data."""

    def __init__(self):
        super().__init__()
        self.steps = 0

        @tf.function
        def scaled(number):
            return tf.range(3) * number

        self.function = scaled

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.function(self.steps)
        tf.data.Dataset.range(2).map(lambda number: number + 1)


def test_functions_traced_at_every_step_are_named_in_a_second_look_too():
    model = small_model()
    memory = slices().batch(16).repeat()
    for _ in range(2):  # TensorFlow warns twice in a process and never again
        with kept(model):
            found = time_steps(model, memory, 0.05, callbacks=[Numbers()], fewest=8, shuffle=False)
        assert found.retraced == ("scaled",) and found.traces == 1
    with kept(model):
        assert time_steps(model, memory, 0.05, fewest=8, shuffle=False).retraced == ()


def many_sines(images):
    for _ in range(10):
        images = tf.sin(images)
    return images


def test_stages_of_examples_cost_what_they_do_and_no_more():
    big = tf.data.Dataset.from_tensors(tf.zeros((64, 64, 3))).repeat()
    one, batched, mapped = measure_stages(
        describe_stages(big.batch(32).map(many_sines))[-3:], batch=32, seconds=0.6
    )
    # To hand out one tensor again and again is next to nothing; a function that takes each would cost 40 us.
    assert mapped.seconds > 5 * one.seconds and batched.seconds < mapped.seconds


def test_other_programs_time_is_no_cost_of_a_stage(monkeypatch):
    chain = slices().map(sleeps).batch(16).map(in_python_batch)
    for busy in (False, True):
        monkeypatch.setattr(input_stages, "machine_is_busy", lambda busy=busy: busy)
        stages = measure_stages(describe_stages(chain)[-3:], batch=16, seconds=0.3)
        assert [stage.waits for stage in stages] == [False, False, True]
        assert stages[2].own_wall > 0.004  # Python may sleep on any machine
        assert busy == (stages[0].own_wall == 0)


def sleeps(image, label):
    return image, label


def in_python_batch(images, labels):
    def slow(given):
        time.sleep(0.01)
        return given

    return tf.numpy_function(slow, [images], tf.float32), labels


def test_the_machine_is_busy_when_threads_do_not_get_the_processors(monkeypatch):
    shares = iter([0.5, 0.6, 0.7, 0.5, 0.95, 0.6])
    monkeypatch.setattr(processors, "_share_got", lambda: next(shares))
    assert processors.machine_is_busy()
    assert not processors.machine_is_busy()  # once it got nearly all
    monkeypatch.undo()
    assert 0 < processors._share_got() <= 1


def test_the_doctor_says_when_validation_is_as_long_as_training(capsys, monkeypatch):
    monkeypatch.setattr(training_doctor, "_LONG_EPOCH", 0.0)
    doctor = TrainingDoctor()
    model = small_model()
    longer = (np.repeat(IMAGES, 10, 0), np.repeat(LABELS, 10))
    model.fit(
        *(IMAGES, LABELS, 32, 4),
        validation_data=longer,
        validation_batch_size=8,
        verbose=0,
        callbacks=[doctor],
    )
    assert capsys.readouterr().out.count("of an epoch are validation") == 1
    assert 0 < doctor.times["validation"] < doctor.times["epoch"]
    assert set(doctor.times) == {"steps", "first", "validation", "garbage", "epoch"}
    assert len(doctor.epoch_times) == 4 and doctor.epoch_times[-1] == doctor.times


def test_the_doctor_ends_with_a_line_on_where_the_time_went(capsys, monkeypatch):
    monkeypatch.setattr(training_doctor, "_LONG_EPOCH", 0.0)
    monkeypatch.setattr(training_doctor, "_LONG", 2.0)  # no part is long
    small_model().fit(IMAGES, LABELS, batch_size=32, epochs=3, verbose=0, callbacks=[TrainingDoctor()])
    out = capsys.readouterr().out
    assert out.count("TrainingDoctor: an epoch takes") == 1 and "steps with their input" in out


def test_the_clock_of_an_epoch_counts_what_garbage_takes(monkeypatch):
    now = iter([10.0, 10.0, 11.0, 12.0, 12.5, 20.0])
    monkeypatch.setattr(epoch_clock, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    before = list(gc.callbacks)
    gc.disable()
    try:
        clock = epoch_clock.EpochClock()
        clock.epoch_begins()
        (note,) = [one for one in gc.callbacks if one not in before]
        for phase in ("stop", "start", "stop"):  # the first ends a collection that began before
            note(phase, {})
        assert clock.epoch_ends() == {
            "steps": 9.5,
            "first": 0,
            "validation": 0,
            "garbage": 0.5,
            "epoch": 10.0,
        }
        assert gc.callbacks == before
    finally:
        gc.enable()
