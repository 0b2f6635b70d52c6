"""What one batch shows before training of bounds, of the loss, of raw inputs and of weights that nobody trains."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from recipes.diagnose.checks.loss_source import loss_reads
from recipes.diagnose.checks.output_reach import output_reach
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.overfit_small_sample import _judge
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.checks.why_stuck import why_stuck
from recipes.diagnose.rules.class_recall import positives
from recipes.diagnose.rules.data_facts import describe_data
from recipes.diagnose.rules.data_rules import judge_data
from recipes.diagnose.rules.model_rules import judge_model
from recipes.diagnose.rules.recall_rules import has_rare_ones, judge_recall
from recipes.diagnose.rules.run_facts import describe, describe_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
QUANTITY = (80 * np.tanh(X[:, :1]) + RNG.normal(size=(64, 1))).astype("float32")


def judged(model, x, y, loss):
    model.compile("sgd", loss)
    return {f.code: f for f in judge_model(describe(model, (x, y)))}


def network(*last):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), *last])


@pytest.mark.parametrize(
    ("last", "bounds"),
    [
        (lambda: [layers.Dense(1)], {}),
        (lambda: [layers.Dense(1, kernel_initializer="zeros")], {}),
        (lambda: [layers.Dense(1, "tanh"), layers.Rescaling(110.0)], {"low": -110.0, "high": 110.0}),
        (
            lambda: [layers.Dense(1), layers.Lambda(lambda z: 3 + 2 * ops.sigmoid(z))],
            {"low": 3.0, "high": 5.0},
        ),
        (lambda: [layers.Dense(1, "relu")], {"low": 0.0}),
        (lambda: [layers.Dense(2), layers.UnitNormalization()], {"low": -1.0, "high": 1.0}),
    ],
)
def test_bounds_of_outputs_are_those_of_the_function_behind_the_weights(last, bounds):
    model = network(*last())
    before = [w.copy() for w in model.get_weights()]
    assert output_reach(model, X) == [pytest.approx(bounds, rel=1e-2, abs=1e-5)]
    assert all(np.array_equal(*both) for both in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(("span", "told"), [(1.0, "error"), (110.0, None)])
def test_a_bound_that_no_activation_names_is_held_against_the_targets(span, told):
    found = judged(network(layers.Dense(1, "tanh"), layers.Rescaling(span)), X, QUANTITY, "mae")
    finding = found.get("unreachable_targets")
    assert (finding and finding.severity) == told
    assert told is None or "reach -1 to 1" in finding.evidence


def of_logarithms(y, found):
    return ops.mean((ops.log(y) - found) ** 2)


def of_roots(y, found):
    return ops.mean(ops.sqrt(ops.relu(ops.abs(y - found) - 1e3)))


@pytest.mark.parametrize(
    ("loss", "said"),
    [(of_logarithms, "a logarithm, infinite at 0"), (of_roots, "a square root"), ("mse", None)],
)
def test_a_loss_that_is_no_number_is_told_with_what_it_computes(loss, said):
    finding = judged(network(layers.Dense(1)), X, np.maximum(QUANTITY, 0), loss).get("nan_source")
    assert (finding is None) == (said is None)
    assert said is None or said in finding.evidence


def test_functions_that_a_loss_calls_are_read_too():
    model = network(layers.Dense(1))
    model.compile("sgd", lambda y, found: of_logarithms(y, found) / ops.std(y))
    assert loss_reads(model) == ["a division, infinite at 0", "a logarithm, infinite at 0 and NaN below"]


@pytest.mark.parametrize(("unit", "told"), [(1e6, True), (1.0, False)])
def test_one_input_of_several_in_another_unit_is_named(unit, told):
    pictures = RNG.random((64, 6, 6, 1)).astype("float32")
    x = {"picture": pictures, "amount": unit * X[:, :1]}
    inputs = {name: keras.Input(part.shape[1:], name=name) for name, part in x.items()}
    seen = layers.Flatten()(layers.Conv2D(2, 3, activation="relu")(inputs["picture"]))
    hidden = layers.Dense(4, "relu")(layers.Concatenate()([seen, inputs["amount"]]))
    model = keras.Model(inputs, layers.Dense(1, "sigmoid")(hidden))
    found = judged(model, x, (X[:, 0] > 0).astype("float32"), "binary_crossentropy")
    assert ("unscaled_inputs" in found) == told
    assert "initial_scale_too_large" not in found
    assert not told or "input amount" in found["unscaled_inputs"].evidence


@pytest.mark.parametrize(("hidden", "told"), [(True, True), (False, False)])
def test_a_network_within_a_lambda_is_told_as_weights_that_nobody_trains(hidden, told):
    block = keras.Sequential([keras.Input((4,)), layers.Dense(16, "tanh")])
    first = layers.Lambda(lambda x: block(x), output_shape=(16,)) if hidden else block
    found = judged(keras.Sequential([keras.Input((4,)), first, layers.Dense(1)]), X, X[:, :1], "mse")
    assert ("frozen" in found) == told


@pytest.mark.parametrize(("axis", "told"), [(1, True), (-1, False)])
def test_a_softmax_along_another_axis_than_the_classes_is_told(axis, told):
    steps = keras.Sequential([keras.Input((6, 4)), layers.Dense(3), layers.Softmax(axis=axis)])
    x = RNG.normal(size=(16, 6, 4)).astype("float32")
    found = judged(steps, x, x[..., :3].argmax(-1), "sparse_categorical_crossentropy")
    assert ("another axis" in getattr(found.get("logits_as_probabilities"), "evidence", "")) == told


@pytest.mark.parametrize(
    ("change", "code"), [(100.0, "train_validation_mismatch"), (float("nan"), "nan_input"), (1.0, None)]
)
def test_each_of_several_inputs_is_held_against_that_of_validation(change, code):
    first, second = X, RNG.normal(size=(64, 2)).astype("float32")
    changed = (
        np.where(RNG.random(second.shape) < 0.1, change, second) if np.isnan(change) else change * second
    )
    samples = [
        Sample([({"first": first, "second": x}, X.sum(axis=1), None)], ordered=False, whole=True)
        for x in (second, changed)
    ]
    model = network(layers.Dense(1))
    model.compile("sgd", "mse")
    parts = [describe_data(sample, task_of(model)) for sample in samples]
    facts = {"train": parts[0], "validation": parts[1], "overlap": {"same": 0, "examples": 64, "whole": True}}
    found = judge_data({"data": facts, "task": vars(task_of(model))})
    assert [f.code for f in found if f.severity != "info"] == ([code] if code else [])
    assert code is None or "second" in found[0].evidence


@pytest.mark.parametrize(("limit", "told"), [(1e-6, ["clipping_too_hard"]), (1.0, [])])
def test_a_clipped_number_is_named_where_a_model_is_stuck_before_training(limit, told):
    assert [f.code for f in why_stuck([], {"kernel": 3.0}, {"clipvalue": limit}, 900)] == told


def test_a_loss_that_is_no_number_before_any_step_is_not_laid_to_the_rate():
    found = _judge("exploded", [float("nan")], None, float("nan"), float("nan"), 0.1)
    assert [f.code for f in found] == ["nan_source"]


class Own(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.inner = keras.Sequential([keras.Input((4,)), layers.Dense(units, "softmax")])

    def train_step(self, data):
        return {}


@pytest.mark.parametrize(("units", "first", "told"), [(4, 1, True), (4, 0, False), (5, 1, False)])
def test_class_numbers_from_one_are_told_of_a_training_step_of_its_own(units, first, told):
    model = Own(units)
    model.compile("sgd")
    model.built = True
    facts = describe_model(model)
    facts["data"] = {
        "train": describe_data(
            Sample([(X, first + np.arange(64) % 4, None)], ordered=False, whole=True), task_of(model)
        )
    }
    assert ("labels_out_of_range" in [f.code for f in judge_data(facts)]) == told


@pytest.mark.parametrize(("bias", "told"), [(-5.0, True), (0.0, False)])
def test_sigmoids_that_never_say_yes_are_told(bias, told):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, "sigmoid", bias_initializer=keras.initializers.Constant(bias))]
    )
    model.compile("sgd", "binary_crossentropy")
    x = RNG.normal(size=(900, 4)).astype("float32")
    labels = (RNG.random((900, 3)) < 0.05).astype("int32")
    facts = {"positives": positives(model, (x, labels))}
    assert [f.code for f in judge_recall(facts)] == ["imbalanced"] * told
    data = {"label_kinds": 2, "label_zeros": float((labels == 0).mean())}
    assert has_rare_ones({"task": vars(task_of(model)), "data": {"train": data}})
