import keras
import numpy as np
import pytest

from recipes.callbacks import FastGeometricEnsembling, SnapshotEnsemble
from recipes.ensemble import average, load_snapshots

RUN, EPOCHS = 20, 4
ROWS = np.eye(RUN, dtype="float32"), np.zeros((RUN, 1), "float32")


@keras.saving.register_keras_serializable(package="test_snapshot_ensemble")
def the_output(labels, outputs):
    """A loss whose gradient is the input."""
    return outputs


def build(optimizer=None, units=1, **options):
    """As many weights as steps, so that each weight writes down the rate of its step."""
    dense = keras.layers.Dense(units, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((RUN,)), dense])
    model.compile(optimizer or keras.optimizers.SGD(0.8), loss=the_output, **options)
    return model


@pytest.fixture(scope="module")
def compiled():
    return build()


@pytest.fixture
def model(compiled):
    compiled.set_weights([np.zeros((RUN, 1))])
    compiled.optimizer.learning_rate = 0.8
    return compiled


def run(model, callback, epochs=1, **options):
    """One pass of RUN batches, as `epochs` epochs; the rate of every step."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(ROWS).batch(1)
    options = {"epochs": epochs, "steps_per_epoch": RUN // epochs, "verbose": 0, "shuffle": False, **options}
    if options["initial_epoch"] if "initial_epoch" in options else False:
        data = data.skip(options["initial_epoch"] * options["steps_per_epoch"])
    model.fit(data, callbacks=callback if isinstance(callback, list) else [callback], **options)
    return -model.get_weights()[0].ravel()


def huang(cycles, run=RUN, peak=0.8):
    """Equation 2 of the paper, for cycles that divide the run; t counts from 1."""
    length = int(np.ceil(run / cycles))
    return [peak / 2 * (np.cos(np.pi * ((t - 1) % length) / length) + 1) for t in range(1, run + 1)]


def test_the_rate_is_the_papers_and_snapshots_are_the_weights_at_its_bottoms(model, tmp_path):
    callback = SnapshotEnsemble(4, folder=tmp_path / "snapshots")
    rates = run(model, callback, epochs=EPOCHS)
    np.testing.assert_allclose(rates, huang(4), rtol=1e-5)
    assert callback.ends == [5, 10, 15, 20]
    for end, member in zip(callback.ends, callback.members, strict=True):
        np.testing.assert_array_equal(
            -member.get_weights()[0].ravel(), np.where(np.arange(RUN) < end, rates, 0)
        )
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == [
        *(f"snapshot{number}.npz" for number in (1, 2, 3, 4)),
        "snapshots.json",
    ]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.8)


def test_cycles_that_do_not_divide_the_run_differ_by_a_step_and_all_reach_their_bottom(model):
    callback = SnapshotEnsemble(3, learning_rate=0.4)
    rates = run(model, callback, epochs=2)
    lengths = np.diff([0, *callback.ends])
    assert callback.ends[-1] == RUN and lengths.max() - lengths.min() == 1
    expected = [0.2 * (1 + np.cos(np.pi * step / length)) for length in lengths for step in range(length)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_ensemble_is_one_model_of_the_last_members_that_saves_and_loads(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((RUN,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.8), "sparse_categorical_crossentropy")
    callback = SnapshotEnsemble(4, last=2, folder=tmp_path / "snapshots")
    model.fit(ROWS[0], np.arange(RUN) % 3, epochs=4, batch_size=4, verbose=0, callbacks=[callback])
    members = load_snapshots(tmp_path / "snapshots", model)
    assert len(members) == 4
    expected = (members[2].predict(ROWS[0], verbose=0) + members[3].predict(ROWS[0], verbose=0)) / 2
    assert np.abs(members[2].get_weights()[0] - members[3].get_weights()[0]).max() > 1e-3
    callback.ensemble().save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded.predict(ROWS[0], verbose=0), expected, rtol=1e-6)
    np.testing.assert_allclose(average(members[-2:]).predict(ROWS[0], verbose=0), expected, rtol=1e-6)


def test_executions_and_accumulation_move_a_snapshot_to_where_weights_can_be_read():
    optimizer = keras.optimizers.SGD(0.8, gradient_accumulation_steps=2)
    model = build(optimizer, steps_per_execution=4)
    callback = SnapshotEnsemble(3)
    rates = run(model, callback)
    assert callback.ends == [8, 12, 20]  # the multiples of 4 nearest to 6.7, 13.3 and 20
    expected = [0.2 * (1 + np.cos(np.pi * step / length)) for length in (4, 2, 4) for step in range(length)]
    np.testing.assert_allclose(rates, np.repeat(expected, 2), rtol=1e-5)
    for end, member in zip(callback.ends, callback.members, strict=True):
        assert np.count_nonzero(member.get_weights()[0]) == end


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.get_weights()[0][11] != 0:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_in_its_folder(model, tmp_path):
    whole = run(model, SnapshotEnsemble(4), epochs=EPOCHS)
    model.set_weights([np.zeros((RUN, 1))])
    with pytest.raises(KeyboardInterrupt):
        run(model, [SnapshotEnsemble(4, folder=tmp_path), Kill()], epochs=EPOCHS)
    model.set_weights([np.where(np.arange(RUN) < 10, -whole, 0)[:, None]])
    again = SnapshotEnsemble(4, folder=tmp_path)
    rates = run(model, again, epochs=EPOCHS, initial_epoch=2)
    np.testing.assert_array_equal(rates, whole)
    assert [np.count_nonzero(member.get_weights()[0]) for member in again.members] == [5, 10, 15, 20]
    finished = SnapshotEnsemble(4, folder=tmp_path)
    model.fit(*ROWS, epochs=EPOCHS, initial_epoch=EPOCHS, batch_size=4, verbose=0, callbacks=[finished])
    assert len(finished.members) == 4


def test_nothing_of_another_run_or_model_is_overwritten_or_mixed(model, tmp_path):
    run(model, SnapshotEnsemble(2, folder=tmp_path), epochs=2)
    kept = (tmp_path / "snapshot1.npz").read_bytes()
    with pytest.raises(ValueError, match="overwrite=True"):
        run(model, SnapshotEnsemble(2, folder=tmp_path), epochs=2)
    with pytest.raises(ValueError, match="settings of the interrupted run"):
        run(model, SnapshotEnsemble(3, folder=tmp_path), epochs=2, initial_epoch=1)
    with pytest.raises(ValueError, match="the model they were taken from"):
        load_snapshots(tmp_path, build(units=2))
    with pytest.raises(ValueError, match="folder of the interrupted run"):
        run(model, SnapshotEnsemble(2, folder=tmp_path / "none"), epochs=2, initial_epoch=1)
    with pytest.raises(ValueError, match="with none"):
        load_snapshots(tmp_path / "none", model)
    assert (tmp_path / "snapshot1.npz").read_bytes() == kept
    (tmp_path / "snapshot1.npz").unlink()
    with pytest.raises(ValueError, match="without .*snapshot1.npz"):
        run(model, SnapshotEnsemble(2, folder=tmp_path), epochs=2, initial_epoch=1)
    (tmp_path / "mine.txt").write_text("notes")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "snapshot1.npz").write_text("the reader's own")
    with pytest.raises(ValueError, match="holds snapshot1.npz"):
        run(model, SnapshotEnsemble(2, folder=tmp_path / "own"), epochs=2)
    model.set_weights([np.zeros((RUN, 1))])
    run(model, SnapshotEnsemble(4, folder=tmp_path, overwrite=True), epochs=2)
    assert len(load_snapshots(tmp_path, model, last=3)) == 3
    assert (tmp_path / "mine.txt").read_text() == "notes"
    with pytest.raises(ValueError, match="between 1 and 4, the number of snapshots"):
        load_snapshots(tmp_path, model, last=5)


def test_a_crash_while_writing_leaves_no_half_file(model, tmp_path, monkeypatch):
    run(model, SnapshotEnsemble(2, folder=tmp_path), epochs=2)
    before = (tmp_path / "snapshot1.npz").read_bytes()

    def half(file, **arrays):
        file.write(b"half of")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", half)
    from recipes.checkpoints.ensemble_snapshots import SnapshotFolder

    with pytest.raises(OSError, match="disk full"):
        SnapshotFolder(tmp_path).save(1, model)
    assert (tmp_path / "snapshot1.npz").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_fast_geometric_cycles_are_the_papers_and_end_at_their_last_bottom(model):
    callback = FastGeometricEnsembling(3, start=0.5, high=0.5, low=0.125)
    rates = run(model, callback)
    assert callback.ends == [12, 16, 20]
    # Equations of section 5 with c = 4, from step 10 on; i counts from 1.
    expected = []
    for i in range(1, 11):
        t = ((i - 1) % 4 + 1) / 4
        expected.append(
            (1 - 2 * t) * 0.4 + 2 * t * 0.1 if t <= 0.5 else (2 - 2 * t) * 0.1 + (2 * t - 1) * 0.4
        )
    np.testing.assert_allclose(rates[10:], expected, rtol=1e-5)
    np.testing.assert_allclose(rates[:10], 0.4 + 0.2 * (1 + np.cos(np.pi * np.arange(10) / 10)), rtol=1e-5)
    assert [np.count_nonzero(member.get_weights()[0]) for member in callback.members] == [12, 16, 20]


class Plain(keras.Model):
    """Without a `get_config` of its own; Keras writes one where it can read the arguments."""

    def __init__(self, build_dense):
        super().__init__()
        self.dense = build_dense()

    def call(self, inputs):
        return self.dense(inputs)


class Forgetful(Plain):
    """Its configuration leaves an argument out."""

    def get_config(self):
        return {}


@pytest.mark.parametrize(("kind", "steps"), [(Plain, 0), (Forgetful, 1)])
def test_a_model_that_cannot_be_built_twice_is_refused_before_its_second_batch(kind, steps):
    model, seen = kind(lambda: keras.layers.Dense(1)), []
    model.compile(keras.optimizers.SGD(0.8), loss=the_output)
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    with pytest.raises(ValueError, match="build a second time"):
        model.fit(*ROWS, batch_size=5, verbose=0, callbacks=[count, SnapshotEnsemble(2)])
    assert len(seen) == steps


def test_snapshots_of_a_model_with_unregistered_parts_are_read_back(tmp_path):
    class Own(keras.layers.Layer):
        def __init__(self, power, **options):
            super().__init__(**options)
            self.power = power

        def call(self, inputs):
            return inputs**self.power

        def get_config(self):
            return {**super().get_config(), "power": self.power}

    def doubled(inputs):
        return 2 * inputs

    inputs = keras.Input((RUN,))
    dense = keras.layers.Dense(1, activation=doubled, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(inputs, dense(Own(3)(inputs)))
    model.compile(keras.optimizers.SGD(0.8), loss=the_output)
    callback = SnapshotEnsemble(2, folder=tmp_path)
    run(model, callback)
    first, last = load_snapshots(tmp_path, model)
    np.testing.assert_array_equal(last.get_weights()[0], model.get_weights()[0])
    row = 2 * ROWS[0][:1] ** 3 @ first.get_weights()[0]
    np.testing.assert_allclose(first.predict(ROWS[0][:1], verbose=0), row, rtol=1e-6)


def test_snapshots_are_loaded_into_built_models_only(model, tmp_path):
    run(model, SnapshotEnsemble(2, folder=tmp_path))
    with pytest.raises(ValueError, match="model that is built"):
        load_snapshots(tmp_path, Plain(lambda: keras.layers.Dense(1)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SnapshotEnsemble(0), "cycles >= 1"),
        (lambda: SnapshotEnsemble(3, last=4), "last between 1"),
        (lambda: SnapshotEnsemble(3, learning_rate=0.0), "learning_rate above 0"),
        (lambda: FastGeometricEnsembling(3, start=1.0), "start as a part"),
        (lambda: FastGeometricEnsembling(3, high=0.1, low=0.2), "low < high"),
    ],
)
def test_impossible_arguments_say_what_to_do(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_more_cycles_than_steps_and_unknown_lengths_are_refused(model):
    import tensorflow as tf

    with pytest.raises(ValueError, match="room for its cycles"):
        run(model, SnapshotEnsemble(RUN + 1))
    unknown = tf.data.Dataset.from_tensor_slices(ROWS).batch(1).filter(lambda row, label: True)
    with pytest.raises(ValueError, match="length of the run"):
        model.fit(unknown, verbose=0, shuffle=False, callbacks=[SnapshotEnsemble(2)])


def test_an_unregistered_layer_is_no_hindrance_to_an_ensemble():
    class Twice(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    inputs = keras.Input((RUN,))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(inputs, Twice()(dense(inputs)))
    model.compile(keras.optimizers.SGD(0.8), loss=the_output)
    callback = SnapshotEnsemble(2)
    run(model, callback)
    np.testing.assert_allclose(
        callback.members[-1].predict(ROWS[0], verbose=0), model.predict(ROWS[0], verbose=0), rtol=1e-6
    )
