"""Faults that curves hardly show, each beside a healthy run that looks like it."""

import dataclasses
import types

import keras
import numpy as np
import pytest

from recipes import diagnose
from recipes.diagnose.checks import own_gradients
from recipes.diagnose.checks.gradient_check import GradientReport, VariableCheck
from recipes.diagnose.checks.learning_rate_range_test import _alike, _far_up, _result
from recipes.diagnose.checks.overcome import overcome
from recipes.diagnose.checks.overfit_small_sample import OverfitSmallSample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.checks.why_stuck import why_stuck
from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.answer_in_inputs import _column_apart
from recipes.diagnose.rules.clipping_rules import clipping
from recipes.diagnose.rules.curve_rules import Curves
from recipes.diagnose.rules.data_rules import _mismatch
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.input_facts import column_facts, number_facts
from recipes.diagnose.rules.layer_facts import _describe_layer
from recipes.diagnose.rules.layer_rules import LayerStatistics, judge
from recipes.diagnose.rules.model_rules import _softmax_over_one
from recipes.diagnose.rules.read_curves import read_curves
from recipes.diagnose.rules.schedule_rules import judge_schedule
from recipes.diagnose.rules.shuffled_labels import shuffled_labels

RNG = np.random.default_rng(0)
STEPS = np.arange(0, 400, 8)  # of ten epochs of 40 steps


def scheduled(rates, losses):
    record = types.SimpleNamespace(learning_rate=np.asarray(rates), step=STEPS, epoch=STEPS // 40)
    record = type("Probed", (), {**vars(record), "__len__": lambda self: len(STEPS)})()
    return judge_schedule(record, Curves({"loss": np.asarray(losses)}, 1.0, steps=400, planned=10))


STANDING = [0.8, *[0.75] * 9]
FALLING = np.linspace(0.9, 0.6, 10)


@pytest.mark.parametrize(
    ("rates", "losses", "told"),
    [
        (0.01 * 0.1 ** (STEPS / 12), STANDING, "warning"),  # written for epochs, counted in steps
        (0.01 * np.maximum(0, 1 - STEPS / 30), STANDING, "warning"),
        (0.01 * np.maximum(0, 1 - STEPS / 30), [0.3, *[0.2] * 9], "info"),  # all was learned by then
        (0.005 * (1 + np.cos(np.pi * STEPS / 400)), STANDING, None),  # a cosine that ends with the run
        (0.01 * (STEPS % 80 < 40) + 1e-9, STANDING, None),  # it comes back
        (0.01 * 0.1 ** (STEPS / 12), FALLING, None),  # something else moves the weights
    ],
)
def test_a_rate_that_is_gone_early_is_told_where_the_loss_stands_still(rates, losses, told):
    found = scheduled(rates, losses)
    assert [(f.code, f.severity) for f in found] == ([("decayed_too_early", told)] if told else [])


def test_a_range_test_goes_on_where_batches_differ_more_than_the_loss_is_large():
    first = np.array([-6.0, 4.0, 3.0, -0.9])  # of heavy-tailed targets, with a mean near 0
    rounds = np.concatenate([first, first, first - 0.1])
    assert not _far_up(_alike(rounds, 4), first)
    assert _far_up(_alike(np.concatenate([first, first + 40]), 4), first)


@pytest.mark.parametrize(("rise", "told"), [(1.0, "rate_too_high"), (-0.4, None)])
def test_a_rate_is_too_high_where_the_loss_at_that_rate_stands_above_its_start(rise, told):
    rates = np.geomspace(1e-6, 10, 80)
    dip = -0.5 * np.exp(-0.5 * (np.log10(rates / 1e-4) / 0.3) ** 2)
    losses = 2 + dip + rise * (rates > 3e-3)
    found = _result(rates, losses, 0.7, 0.05).findings
    assert [f.code for f in found] == ([told] if told else [])


@pytest.mark.parametrize(("last", "severity"), [(-4.0, "info"), (0.9, "warning")])
def test_a_range_test_does_not_contradict_a_loss_that_falls_at_the_own_rate(last, severity):
    plain = {"name": "overfit_small_sample", "result": "", "findings": []}
    losses = np.linspace(1.0, last, 60).astype("float32")
    learns = OverfitSmallSample(
        **plain, losses=losses, accuracies=None, outcome="crept", seconds_per_step=0.1
    )
    high = Finding("rate_too_high", "warning", None, 0, "", "")
    ranged = Check(name="learning_rate_range_test", result="", findings=[high])
    assert [f.severity for f in overcome([learns, ranged])] == [severity]


def layer(name, kind="", std=1.0, rms=1.0, weights="kernel"):
    rest = dict.fromkeys(("mean", "zero_fraction"), 0.0)
    nan = dict.fromkeys(("saturated_fraction", "dead_fraction", "gradient_rms"), float("nan"))
    sizes = {"std": std, "sample_std": std, "input_rms": rms, "input_std": rms}
    return LayerStatistics(
        name, name, kind, **rest, **nan, **sizes, finite=True, has_kernel=weights == "kernel", weights=weights
    )


@pytest.mark.parametrize(("std", "told"), [(4e6, ["initial_scale_too_large"]), (0.6, [])])
def test_a_recurrence_that_explodes_before_training_is_named(std, told):
    words = layer("Embedding", std=0.03, rms=float("nan"), weights="table")
    found = judge([words, layer("SimpleRNN", std=std, rms=0.03), layer("Dense", "softmax", rms=std)])
    assert [f.code for f in found] == told
    assert not told or "recurrent_initializer" in found[0].remedy


@pytest.mark.parametrize(("limit", "told"), [(1e-4, ["clipping_too_hard"]), (1.0, [])])
def test_clipping_is_named_where_a_model_is_stuck_before_training(limit, told):
    found = why_stuck([], {"kernel": 3.0, "bias": 4.0}, {"global_clipnorm": limit})
    assert [f.code for f in found] == told
    assert not told or "5" in found[0].evidence


@pytest.mark.parametrize(("shrink", "told"), [(0.15, ["vanishing"]), (0.7, [])])
def test_a_gradient_that_fades_through_sigmoids_is_named_where_a_model_is_stuck(shrink, told):
    deep = [dataclasses.replace(layer(f"d{n}", "sigmoid"), gradient_rms=shrink ** (8 - n)) for n in range(8)]
    found = why_stuck([*deep, layer("head", "softmax")], {}, {})
    assert [f.code for f in found] == told
    assert not told or "relu" in found[0].remedy


@pytest.mark.parametrize(("outcome", "severity"), [("stuck", "warning"), ("crept", "info"), (None, "info")])
def test_raw_inputs_are_a_warning_before_training_where_nothing_was_learned(outcome, severity):
    raw = Check(
        name="model_check", result="", findings=[Finding("unscaled_inputs", "warning", None, 0, "", "")]
    )
    plain = {"name": "overfit_small_sample", "result": "", "findings": [], "seconds_per_step": 0.1}
    tried = (
        [OverfitSmallSample(**plain, losses=np.ones(60), accuracies=None, outcome=outcome)] if outcome else []
    )
    assert [f.severity for f in overcome([raw, *tried])] == [severity]


def table(rows=300):
    labels = (RNG.random(rows) < 0.1).astype(int)
    return RNG.normal(size=(rows, 6)), labels


def test_a_column_that_was_filled_in_because_of_the_answer_is_found():
    rows, labels = table()
    rows[:, 4] = 3 * labels + 0.1 * RNG.normal(size=len(rows))
    assert _column_apart(rows, labels) == 4


def test_classes_that_stand_apart_in_many_columns_are_no_leak():
    rows, labels = table()
    assert _column_apart(rows + 30 * labels[:, None], labels) is None
    assert _column_apart(rows, (rows[:, 2] > 1).astype(int)) is None  # a threshold is what there is to learn


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda x: x * 180 / np.pi, True), (lambda x: x + 273, True), (lambda x: 2 * x, False)],
)
def test_one_column_of_validation_in_another_unit_is_a_mismatch(change, told):
    rows = RNG.normal(size=(400, 12)).astype("float32") * np.array([1000, *[1] * 11], "float32")
    train, validation = rows[:200], rows[200:].copy()
    validation[:, 7] = change(validation[:, 7])
    facts = [{**number_facts([part]), **column_facts([part])} for part in (train, validation)]
    assert [f.evidence.startswith("Column 7 ") for f in _mismatch(*facts)] == [True] * told


@pytest.mark.parametrize(("losses", "told"), [([40, 45, 60], 2), ([40, 9, 3], None)])
def test_raw_inputs_are_told_at_once_where_the_loss_has_gone_up(losses, told):
    statistics = vars(layer("Dense", "relu", rms=150.0))
    quiet = {"task": {"kind": "values", "loss": "mse", "outputs": 1}, "layers": [], "optimizer": {}}
    task = {"activation": "linear", "from_logits": False, "own_step": False, "output_shape": (1,)}
    quiet["task"] |= task
    book = Casebook(
        {**quiet, "output_layers": [], "statistics": [statistics], "baseline": 1.0, "unknown": {}}
    )
    said = []
    for epoch in range(1, 4):
        found = book.update({"loss": losses[:epoch]}, None, planned=20, steps=40 * epoch)
        said += [epoch] * any(f.code == "unscaled_inputs" for f in found)
    assert said == ([told] if told else [])


@pytest.mark.parametrize(
    ("outcome", "compared", "told"), [("learned", False, 1), ("stuck", False, 0), ("learned", True, 0)]
)
def test_labels_of_others_are_suspected_where_only_a_few_batches_can_be_learned(outcome, compared, told):
    belong = {"neighbor_agreement": 0.9, "neighbor_chance": 0.5, "neighbor_error": 0.02, "examples": 400}
    facts = {"few_batches": outcome, "data": {"train": belong if compared else {}}}
    curves = Curves({"loss": np.full(8, 0.7)}, 0.693, steps=400)
    assert len(shuffled_labels(facts, curves)) == told


@pytest.mark.parametrize(("axis", "told"), [(-1, 1), (1, 0)])
def test_a_softmax_over_one_number_is_told_of_any_layer(axis, told):
    candidates = keras.Input((8, 3))
    softmax = keras.layers.Softmax(axis=axis)
    keras.Model(candidates, keras.layers.Flatten()(softmax(keras.layers.Dense(1)(candidates))))
    facts = {"layers": [_describe_layer("softmax", softmax)], "task": {"outputs": 8}}
    assert len(_softmax_over_one(facts)) == told


@pytest.mark.parametrize(("fall", "told"), [(0.05, True), (0.2, False)])
def test_a_straight_line_that_comes_down_is_no_rate_far_too_low(fall, told):
    loss = list(np.linspace(1.0, 1.0 - fall, 9))
    assert ("rate_too_low" in {f.code for f in read_curves({"loss": loss, "val_loss": loss})}) == told


@pytest.mark.parametrize(("numeric", "severity"), [(0.0, "info"), (0.3, "error")])
def test_a_gradient_in_the_place_of_none_is_no_fault(numeric, severity, monkeypatch):
    wrong = VariableCheck("dense/kernel", "dense", 1.0, -0.4, numeric, 0)
    report = GradientReport((wrong,), ("dense",), "float64", 8)
    monkeypatch.setattr(own_gradients, "gradient_check", lambda *arguments: report)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    found = own_gradients.check_own_gradients(model, types.SimpleNamespace(batches=[(None,)]), ["dense"])
    assert [finding.severity for finding in found.findings] == [severity]


@pytest.mark.parametrize(("handled", "severity"), [(True, "info"), (False, "error")])
def test_empty_cells_that_the_model_fills_are_no_fault(handled, severity):
    rows, labels = RNG.normal(size=(200, 5)).astype("float32"), RNG.integers(0, 2, 200)
    rows[RNG.random(rows.shape) < 0.1] = np.nan
    cells = keras.Input((5,))
    kept = keras.ops.where(keras.ops.isnan(cells), 0.0, cells) if handled else cells
    model = keras.Model(cells, keras.layers.Dense(1, "sigmoid")(keras.layers.Dense(8, "relu")(kept)))
    model.compile("adam", "binary_crossentropy")
    said = diagnose.preflight(model, (rows, labels), training=False, verbose=0).findings
    said += diagnose.diagnose(model=model, train=(rows, labels))
    assert [finding.severity for finding in said if finding.code == "nan_input"] == [severity] * 2


@pytest.mark.parametrize(("wanders", "severity"), [(True, "info"), (False, "warning")])
def test_a_series_that_wanders_off_in_the_time_after_is_no_mismatch(wanders, severity):
    walk = 0.1 * np.cumsum(np.random.default_rng(3).normal(size=2000)) if wanders else RNG.normal(size=2000)
    pieces = np.stack([walk[start : start + 16] for start in range(1900)])[:, :, None].astype("float32")
    train = pieces[:1000]
    facts = [{**number_facts([part]), "input_shape": [16, 1]} for part in (train, train + 1.5 * train.std())]
    assert [f.severity for f in _mismatch(*facts)] == [severity]


@pytest.mark.parametrize(("limit", "told"), [(1e-5, ["clipping_too_hard"]), (0.05, [])])
def test_a_gradient_that_is_cut_number_by_number_is_named(limit, told):
    record = types.SimpleNamespace(axes={"variables": {"size": np.array([100, 25])}})
    seen = {"optimizer": {"clipvalue": limit}, "learned": False, "kernels": np.array([0, 1]), "epoch": [0]}
    view = types.SimpleNamespace(record=record, gradient=np.array([[2.0, 0.5]] * 4), **seen)
    assert [f.code for f in clipping(view)] == told
