import numpy as np
import pytest

from recipes.probe import Probe, Record

AXES = {
    "inputs": {"name": ["input", "target", "sample_weight"]},
    "variables": {
        "name": ["a/kernel", "a/bias"], "layer": ["a", "a"], "layer_class": ["Dense"] * 2,
        "role": ["kernel", "bias"], "size": [6, 3], "depth": [0, 0],
    },
    "layers": {"name": ["a", "b"], "layer": ["a", "b"], "layer_class": ["Dense"] * 2, "kind": ["relu", "tanh"]},
    "activations": {
        "name": ["a", "b"], "layer": ["a", "b"], "layer_class": ["Dense"] * 2, "kind": ["relu", "tanh"],
        "units": [3, 2], "depth": [0, 1],
    },
}  # fmt: skip


def filled(count, broken_at=None, **limits):
    record = Record(**limits)
    record.describe(
        AXES, ["weight_norm", "update_norm", "output_finite", "mean"], ["lstm runs inside a loop"]
    )
    for step in range(count):
        values = {
            "weight_norm": np.array([2.0, 0.0]),
            "update_norm": np.array([step, 1.0]),
            "output_finite": np.array([True, broken_at is None or step < broken_at]),
            "mean": np.array([step, -step]),
        }
        record.add(Probe(step, step // 10, values, np.arange(5) + step))
    return record


def test_columns_are_arrays_of_probes_by_axis_with_nan_where_nothing_was_measured():
    record = filled(4)
    np.testing.assert_array_equal(record.step, [0, 1, 2, 3])
    np.testing.assert_array_equal(record.mean, [[0, 0], [1, -1], [2, -2], [3, -3]])
    np.testing.assert_array_equal(
        record.update_ratio, [[0, np.nan], [0.5, np.nan], [1, np.nan], [1.5, np.nan]]
    )
    assert np.isnan(record.gradient_norm).all() and record.gradient_norm.shape == (4, 2)
    assert record.input_finite.all() and record.input_finite.shape == (4, 3)
    steps, rates = record.activity("b")
    np.testing.assert_array_equal(rates, [[3, 4], [4, 5], [5, 6], [6, 7]])
    np.testing.assert_array_equal(steps, record.step)


def test_long_runs_are_thinned_but_keep_the_newest_and_the_first_broken_row():
    record = filled(1000, broken_at=333, limit=64, unit_bytes=20 * 32)
    assert len(record) <= 64
    assert record.step[0] == 0 and record.step[-1] == 999 and 333 in record.step
    assert np.diff(record.step).max() <= 32
    steps, _ = record.activity("a")
    assert len(steps) <= 32 and steps[-1] == 999


def test_what_is_saved_is_loaded_without_pickle(tmp_path):
    record = filled(7)
    record.cost = {"probes": 7}
    record.save(tmp_path / "record")
    for copy in (Record.load(tmp_path / "record"), Record.from_bytes(record.to_bytes())):
        for name in ("step", "epoch", "weight_norm", "output_finite", "mean", "gradient_norm"):
            np.testing.assert_array_equal(getattr(copy, name), getattr(record, name))
            assert getattr(copy, name).dtype == getattr(record, name).dtype
        np.testing.assert_array_equal(copy.activity("a")[1], record.activity("a")[1])
        np.testing.assert_array_equal(copy.axes["variables"]["role"], ["kernel", "bias"])
        assert copy.unseen == record.unseen and copy.cost == record.cost and copy.measured == record.measured
        copy.add(Probe(7, 0, {"mean": np.array([7, 7])}))
        assert len(copy) == 8


def test_a_model_that_changes_starts_the_record_afresh_and_says_so():
    record = filled(3)
    changed = {**AXES, "layers": {key: value[:1] for key, value in AXES["layers"].items()}}
    record.describe(changed, [], [])
    assert len(record) == 0 and "model changed after step 2" in record.notes[0]


def test_other_files_and_unknown_names_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="written by Record.save"):
        Record.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="Give one of these: a, b"):
        filled(1).activity("c")
    with pytest.raises(AttributeError, match="has the columns"):
        _ = filled(1).gradients
