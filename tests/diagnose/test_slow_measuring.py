"""What the measuring of steps, stages, machine and epochs rests on."""

import gc
import re
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.callbacks import TrainingDoctor, epoch_clock, training_doctor
from recipes.common.epoch_times import parts_of_epoch
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


def test_a_shuffle_is_not_filled_but_its_filling_counted():
    seen = []

    def slow():
        for number in range(1000):
            time.sleep(0.002)
            seen.append(number)
            yield number

    chain = tf.data.Dataset.from_generator(slow, output_signature=tf.TensorSpec((), "int64"))
    chain = chain.apply(tf.data.experimental.assert_cardinality(1000))
    stages = measure_stages(
        describe_stages(chain.shuffle(5000).batch(8).map(lambda x: x + 1)), batch=8, seconds=0.4
    )
    shuffle = stages[-3]
    assert shuffle.kind == "shuffle" and shuffle.held == 1000  # no more than there are
    np.testing.assert_allclose(shuffle.filling, (1000 - 16) * stages[-4].wall / 8)
    assert 2.0 < shuffle.filling <= stages[-1].first and len(seen) < 600
    # What a generator takes is its own, not that of the one tensor behind it.
    python = next(stage for stage in stages if stage.python)
    assert python.cost > 0.015 and all(stage.seconds == 0 for stage in stages if stage.name == "Tensor")


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


class Collects(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        gc.collect()


def test_garbage_is_counted_a_step():
    model = small_model()
    with kept(model):
        found = time_steps(model, slices().batch(16), 0.1, callbacks=[Collects()], fewest=4, shuffle=False)
    assert 0.5 * found.callbacks["Collects"] < found.garbage <= 1.01 * found.callbacks["Collects"]


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
    always, once = [0.5, 0.6, 0.7] * 3, [0.5, 0.95, 0.6]
    own_work_ends = [0.5, 0.6, 0.7, 0.9, 0.95, 0.9]
    shares = iter([*always, *once, *own_work_ends])
    monkeypatch.setattr(processors, "_share_got", lambda: next(shares))
    assert [processors.machine_is_busy() for _ in range(3)] == [True, False, False]
    assert not list(shares)
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
    assert capsys.readouterr().out.count("of an epoch are spent on validation") == 1
    assert 0 < doctor.times["validation"] < doctor.times["epoch"]
    assert set(doctor.times) >= {"steps", "first", "callbacks", "validation", "garbage", "epoch"}
    assert len(doctor.epoch_times) == 4 and doctor.epoch_times[-1] == doctor.times


def test_the_doctor_ends_with_a_line_on_where_the_time_went(capsys, monkeypatch):
    monkeypatch.setattr(training_doctor, "_LONG_EPOCH", 0.0)
    monkeypatch.setattr(training_doctor, "_LONG", 2.0)  # no part is long
    small_model().fit(IMAGES, LABELS, batch_size=32, epochs=3, verbose=0, callbacks=[TrainingDoctor()])
    out = capsys.readouterr().out
    assert out.count("TrainingDoctor: an epoch takes") == 1 and "steps" in out and "callbacks" in out
    assert sum(map(int, re.findall(r"\((\d+)%\)", out))) == 100


def row(epoch, steps, callbacks, validation, first=0.0, garbage=0.0):
    return {
        "steps": steps,
        "callbacks": callbacks,
        "validation": validation,
        "first": first,
        "garbage": garbage,
        "epoch": epoch,
    }


def test_the_parts_of_an_epoch_add_up_where_epochs_differ(capsys):
    doctor = TrainingDoctor()
    # Medians of each part would come to 5 of 20 s. An epoch of one step has no usual step for the first to exceed.
    doctor._clock.epochs = [
        row(49.0, 45.0, 2.0, 2.0),
        row(20.0, 14.0, 3.0, 2.0),
        row(5.0, 1.0, 3.8, 0.1),
        row(30.0, 2.0, 0.1, 27.0),
    ]
    doctor._say_how_long_it_took()
    out = capsys.readouterr().out
    assert (
        "an epoch takes 20 s: steps with their input 14 s (70%), callbacks 3 s (15%), validation 2 s (10%)"
        in out
    )
    assert "the rest 1 s (5%); the first one took 29 s more" in out


def test_rounded_percentages_of_an_epoch_come_to_a_hundred():
    thirds = row(3.0, 1.0, 1.0, 1.0)
    words = {"steps": "a", "callbacks": "b", "validation": "c"}
    assert [percent for _, _, percent in parts_of_epoch(thirds, words)] == [34, 33, 33]


class Dawdles(keras.callbacks.Callback):
    """Takes 5 ms a batch, and 50 ms an epoch."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.005)

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.05)


def slow_batches(count, seconds):
    def slow(images):
        time.sleep(seconds)
        return images

    def batch(images, labels):
        return tf.ensure_shape(tf.numpy_function(slow, [images], tf.float32), (None, 8, 8, 3)), labels

    return slices().batch(16).repeat(count // 4).map(batch)


def test_the_doctor_tells_waiting_from_callbacks():
    doctor, model = TrainingDoctor(verbose=0, every_steps=2), small_model()
    model.fit(slow_batches(8, 0.05), epochs=2, verbose=0, callbacks=[Dawdles(), doctor, Dawdles()])
    for row in doctor.epoch_times:
        assert row["input"] >= 0.25 * row["epoch"] - row["first"]  # TensorFlow makes batches meanwhile
        assert row["callbacks"] >= 8 * 2 * 0.005 + 2 * 0.05
        whole = sum(seconds for name, seconds in row.items() if name != "epoch")
        np.testing.assert_allclose(whole, row["epoch"], atol=1e-3)
    assert doctor.times["callbacks"] < 0.8 * doctor.times["epoch"]


def test_waiting_is_not_known_inside_xla():
    doctor, model = TrainingDoctor(verbose=0, every_steps=2), small_model()
    model.jit_compile = True
    model.fit(IMAGES, LABELS, batch_size=16, epochs=1, verbose=0, callbacks=[doctor])
    assert "input" not in doctor.times and "callbacks" in doctor.times and len(doctor.record) == 2


def test_steps_that_begin_an_epoch_are_apart():
    model = small_model()
    with kept(model):
        found = time_steps(model, slices().batch(16).take(3), 0.0, fewest=7, shuffle=False)
        single = time_steps(model, slices().batch(64), 0.0, fewest=3, shuffle=False)
    assert len(found.function) == 5  # of 8 steps those in place 0, 3 and 6 begin one of three epochs
    assert len(single.function) == 3  # where all begin one, all are kept but the first


def test_data_without_a_batch_end_the_measuring():
    model = small_model()
    with kept(model), pytest.raises(ValueError, match="at least one batch"):
        time_steps(model, slices().filter(lambda image, label: label > 9).batch(4), 0.1, shuffle=False)


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
