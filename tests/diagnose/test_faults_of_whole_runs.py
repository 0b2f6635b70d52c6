"""Faults that only a whole run shows: rates, an end that comes too soon, labels beside those of validation."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from recipes.diagnose.checks.output_task import heads_of, task_of
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.rules.batch_rules import sorted_batches
from recipes.diagnose.rules.curve_rules import Curves
from recipes.diagnose.rules.data_facts import describe_data, label_facts
from recipes.diagnose.rules.data_rules import judge_data
from recipes.diagnose.rules.diagnose import judge
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.frozen_rules import never_given
from recipes.diagnose.rules.layer_facts import _describe_layer
from recipes.diagnose.rules.metric_rules import without_floor
from recipes.diagnose.rules.model_rules import _loops
from recipes.diagnose.rules.own_loss_rules import stretched
from recipes.diagnose.rules.recall_rules import is_imbalanced
from recipes.diagnose.rules.record_rules import judge_record
from recipes.diagnose.rules.schedule_rules import far_from_usual, spent_while_falling, stopped_early
from recipes.diagnose.rules.shuffled_labels import shuffled_beside, shuffled_labels

STANDING = np.array([8.0, 5.0, 4.2, 4.1, *[4.1] * 8])
CUT = np.array([1e-2, 1e-2, 5e-4, 2.5e-5, 1.25e-6, *[1e-7] * 7])


def curves(loss, *, rate=None, validation=None, initial=None, accuracy=None, planned=None, steps=None):
    values = {"loss": loss, "learning_rate": rate, "val_loss": validation, "accuracy": accuracy}
    values = {name: np.asarray(value, "float64") for name, value in values.items() if value is not None}
    return Curves(values, initial, None, planned=planned, steps=steps)


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("loss", "rate", "accuracy", "told"),
    [
        (STANDING, CUT, None, True),
        (STANDING, CUT[::-1], None, False),  # it rises
        (0.02 + STANDING * (np.arange(12) < 3), CUT, None, False),  # all was learned by then
        (STANDING, CUT, np.linspace(0.5, 0.99, 12), False),
        (np.geomspace(8, 1, 12), CUT, None, False),  # something else moves the weights
        (STANDING, 1e-2 * 0.5 ** np.arange(12), None, False),  # a thousandth is left at the very end
    ],
)
def test_a_rate_that_is_gone_while_the_loss_falls_is_told(loss, rate, accuracy, told):
    assert bool(spent_while_falling(None, curves(loss, rate=rate, accuracy=accuracy))) == told


@pytest.mark.parametrize(("validation", "told"), [(STANDING - np.arange(12), True), (STANDING[::-1], False)])
def test_cuts_after_every_gain_tell_of_a_plateau_of_the_wrong_mode(validation, told):
    found = spent_while_falling(None, curves(STANDING, rate=CUT, validation=validation))
    assert ("mode='min'" in found[0].remedy) == told


@pytest.mark.parametrize(
    ("validation", "planned", "told"),
    [([3.0, 2.9, 2.8, 2.7], 20, True), ([3.0, 2.9, 2.8, 2.7], 4, False), ([3.0, 2.9, 2.95, 2.7], 20, False)],
)
def test_a_run_that_ends_while_validation_gains_in_every_epoch_is_told(validation, planned, told):
    run = curves([3.1, 3.0, 2.9, 2.8], validation=validation, initial=3.0)
    assert codes(stopped_early(run, planned)) == (["stopped_too_early"] if told else [])


@pytest.mark.parametrize(
    ("name", "rate", "last", "told"),
    [
        ("Adam", 0.5, 1.6, True),
        ("SGD", 0.5, 1.6, False),
        ("Adam", 0.5, 0.1, False),
        ("Adam", 0.05, 1.6, False),
    ],
)
def test_a_rate_far_from_usual_is_told_where_little_was_learned(name, rate, last, told):
    run = curves([5.0, 3.0, 2.0, last, last], initial=2.0)
    assert bool(far_from_usual({"name": name, "rate": rate}, run, None)) == told


@pytest.mark.parametrize(("shape", "level", "told"), [([], 4.0, True), ([1], 4.0, False), ([], 1.0, False)])
def test_targets_stretched_over_outputs_are_told_by_a_loss_at_their_variance(shape, level, told):
    data = {"labels_shape": shape, "target_variance": 4.0, "label_kinds": 500, "label_whole": False}
    facts = {
        "task": {"kind": "unknown"},
        "outputs": [{"shape": [1]}],
        "data": {"train": data | {"label_low": -5.0, "label_high": 5.0}},
    }
    assert codes(stretched(facts, curves([level * 1.01, *[level] * 7], steps=400))) == ["label_count"] * told


@pytest.mark.parametrize(
    ("there", "here", "told"), [(0.9, 0.11, True), (0.12, 0.11, False), (0.9, 0.85, False)]
)
def test_labels_that_belong_in_validation_alone_are_an_error(there, here, told):
    def part(agreement):
        known = {"agreement": agreement, "chance": 0.1, "error": 0.015, "examples": 400}
        return {f"neighbor_{name}": value for name, value in known.items()} | {"examples": 400}

    found = shuffled_beside({"data": {"train": part(here), "validation": part(there)}})
    assert [(f.code, f.severity) for f in found] == ([("labels_shuffled", "error")] if told else [])


def test_training_labels_that_are_mostly_missing_are_not_taken_for_shuffled():
    known = {"target_error": 0.03, "examples": 1000, "label_low": 0.0, "target_association": 0.0}
    train = known | {"target_agreement": 0.01, "target_mean": -0.6, "target_std": 1.0}  # -1 is not known
    for mean, told in ((1.5, False), (-0.5, True)):
        validation = known | {"target_agreement": 0.82, "target_mean": mean, "target_std": 1.1}
        found = shuffled_beside({"data": {"train": train, "validation": validation}})
        assert codes(found) == ["labels_shuffled"] * told


@pytest.mark.parametrize(("last", "told"), [(2.3, True), (900.0, False)])
def test_labels_are_not_suspected_where_steps_threw_the_loss_far_up(last, told):
    data = {"neighbor_agreement": 0.1, "neighbor_chance": 0.1, "neighbor_error": 0.02, "examples": 400}
    run = curves([last] * 6, initial=2.3, steps=400)
    assert bool(shuffled_labels({"data": {"train": data}}, run)) == told


@pytest.mark.parametrize(("examples", "told"), [(135, False), (2000, True)])
def test_labels_of_a_few_photos_that_look_no_more_alike_by_class_are_not_suspected(examples, told):
    # Ants and bees, 64 pixels, from scratch: right labels, and 15 photos to validate.
    error = (0.25 / examples) ** 0.5
    data = {
        "neighbor_agreement": 0.54 if examples < 200 else 0.51,
        "neighbor_chance": 0.5,
        "neighbor_error": error,
    }
    loss, validation = (
        [1.34, 1.0, 0.56, 0.62, 0.53, 0.53, 0.49, 0.46],
        [0.77, 1.93, 9.3, 1.43, 1.81, 1.05, 1.04, 1.04],
    )
    run = curves(loss, validation=validation, initial=0.7, steps=72)
    found = shuffled_labels({"data": {"train": {**data, "examples": examples}}}, run)
    assert codes(found) == ["labels_shuffled"] * told


@pytest.mark.parametrize(("steps", "planned", "told"), [(36, 4, False), (120, 4, True), (36, None, True)])
def test_labels_are_not_suspected_in_a_run_that_was_too_short_to_show_anything(steps, planned, told):
    # Cats and dogs, 64 pixels, four epochs of nine steps: right labels, called shuffled in two of eight runs.
    data = {"neighbor_agreement": 0.43, "neighbor_chance": 0.5, "neighbor_error": 0.043, "examples": 135}
    run = curves(
        [0.75, 0.72, 0.71, 0.7],
        validation=[0.8, 0.75, 0.72, 0.71],
        initial=0.693,
        steps=steps,
        planned=planned,
    )
    found = shuffled_labels({"data": {"train": data}}, run)
    assert codes(found) == ["labels_shuffled"] * told


@pytest.mark.parametrize(
    ("initializer", "told"), [("orthogonal", False), ("random_normal", False), (6.0, True)]
)
def test_a_recurrence_that_starts_far_from_orthogonal_is_told(initializer, told):
    if told:
        initializer = keras.initializers.Orthogonal(gain=initializer)
    layer = layers.SimpleRNN(8, recurrent_initializer=initializer)
    layer.build((None, 5, 3))
    facts = {"layers": [_describe_layer("cell", layer.cell)]}
    assert codes(_loops(facts)) == ["initial_scale_too_large"] * told


@pytest.mark.parametrize(("spent", "told"), [(8, True), (2, False)])
def test_a_third_of_a_run_on_the_way_to_the_mean_is_a_warning(spent, told):
    loss = np.concatenate([np.linspace(9e6, 3e6, spent), np.geomspace(1.5e6, 2e5, 20 - spent)])
    facts = {"task": {"kind": "values", "loss": "mean_squared_error"}, "layers": [], "optimizer": {}}
    data = {"target_mean": 3000.0, "target_std": 1500.0, "label_counts_match": True, "labels_finite": True}
    facts |= {
        "data": {"train": data | {"examples": 400, "ordered": False}},
        "baseline": 2.2e6,
        "output_layers": [],
    }
    facts["task"] |= {"activation": None, "from_logits": False, "outputs": 1, "own_step": False}
    found = [
        f for f in judge({"loss": list(loss)}, None, facts, steps=800, planned=20) if f.severity != "info"
    ]
    assert codes(found) == ["unscaled_targets"] * told


def test_one_batch_of_one_class_tells_of_order_where_neighbors_share_labels():
    record = types.SimpleNamespace(one_label=np.array([1.0, 0, 0, 0]), examples=np.full(4, 32))
    for same_next, told in ((0.9, True), (0.1, False)):
        data = {
            "class_counts": {str(k): 48 for k in range(10)},
            "same_next": same_next,
            "same_by_chance": 0.1,
        }
        view = types.SimpleNamespace(record=record, facts={"data": {"train": data}}, epoch=[0])
        assert codes(sorted_batches(view)) == ["missing_shuffle"] * told


@pytest.mark.parametrize(("last", "told"), [("softmax", True), (None, False)])
def test_class_numbers_under_a_loss_of_the_users_own_are_counted_behind_a_softmax(last, told):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, last)])
    model.compile("sgd", lambda y, found: found)
    facts = label_facts(np.repeat([0, 1, 2, 3], [50, 2, 2, 2]), task_of(model))
    assert ("class_counts" in facts) == told
    assert is_imbalanced({"data": {"train": facts}}) == told


def test_a_loss_without_floor_is_told_of_a_training_step_of_its_own():
    falling = Curves({"loss": -(np.arange(1.0, 13) ** 4)}, minimized=False)
    assert codes(without_floor(falling)) == ["loss_turned"]
    assert not without_floor(Curves({"loss": -1 + np.geomspace(2, 0.1, 12)}, minimized=False))


@pytest.mark.parametrize(("first", "said"), [(1e6, True), (30.0, False)])
def test_raw_inputs_are_said_after_one_epoch_where_the_loss_is_out_of_measure(first, said):
    book = Casebook({"task": {"kind": "values", "loss": "mse"}, "baseline": 1.0, "layers": []})
    book._loss = np.array([first])
    assert book._lost(1) == said


def test_empty_cells_are_no_fault_while_all_that_comes_of_them_is_finite():
    n = 4
    good, none = np.ones((n, 1), bool), np.zeros((n, 0), bool)
    parts = {
        "input_finite": np.array([[False, True, True]] * n),
        "weight_finite": good,
        "output_finite": good,
        "update_finite": none,
    }
    numbers = {
        "loss": np.ones(n),
        "step": np.arange(n),
        "epoch": np.zeros(n),
        "learning_rate": np.full(n, 0.1),
    }
    sizes = {f"{name}_norm": np.ones((n, 0)) for name in ("weight", "gradient")} | {
        "update_ratio": np.ones((n, 0))
    }
    axes = {"axes": {"variables": {}, "activations": {}, "layers": {}}}
    more = {"one_label": np.full(n, np.nan), "examples": np.full(n, 32)}
    record = type("Seen", (), {**parts, **numbers, **sizes, **axes, **more, "__len__": lambda self: n})()
    assert "nan_input" not in codes(judge_record(record, {}))
    record.loss = np.full(n, np.nan)
    assert codes(judge_record(record, {})) == ["nan_input"]


@pytest.mark.parametrize(("moves", "told"), [(0.0, True), (0.1, False)])
def test_kernels_as_drawn_that_no_optimizer_is_given_are_told(moves, told):
    weight = np.ones((4, 2)) + moves * np.arange(4)[:, None]
    gradient = np.array([[np.nan, 1.0]] * 4)
    names = ["first", "last"]
    view = types.SimpleNamespace(
        learned=False, count=4, kernels=np.array([0, 1]), weight=weight, gradient=gradient
    )
    view.step, view.epoch, view.layer = np.arange(4), np.zeros(4), lambda column: names[column]
    view.facts = {"layers": [{"name": name, "kernel": {"fresh": True}} for name in names]}
    view.facts["task"] = {"own_step": True}
    assert [(f.code, f.layer) for f in never_given(view)] == [("frozen", "first")] * told


def test_targets_that_come_sorted_are_known_from_data_sets_alone():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(200, 3)).astype("float32"), np.linspace(-1, 1, 200)
    for ordered, codes_found in ((True, ["missing_shuffle"]), (False, [])):
        facts = describe_data(Sample([(x, y, None)], ordered=ordered, whole=True), task_of(model))
        found = judge_data({"data": {"train": facts}, "task": vars(task_of(model))})
        assert [f.code for f in found if f.code == "missing_shuffle"] == codes_found


def test_labels_of_each_of_several_outputs_are_held_against_the_inputs():
    inputs = keras.Input((3,))
    model = keras.Model(
        inputs, {"a": layers.Dense(2, "softmax", name="a")(inputs), "b": layers.Dense(1, name="b")(inputs)}
    )
    model.compile("sgd", {"a": "sparse_categorical_crossentropy", "b": "mse"})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype("float32")
    y = {"a": (x[:, 0] > 0).astype("int32"), "b": x[:, 1:2]}
    order = rng.permutation(300)
    parts = [
        describe_data(Sample([(x, labels, None)], ordered=False, whole=True), task_of(model), heads_of(model))
        for labels in (y, {name: part[order] for name, part in y.items()})
    ]
    assert codes(shuffled_beside({"data": {"train": parts[1], "validation": parts[0]}})) == [
        "labels_shuffled"
    ]
    assert not shuffled_beside({"data": {"train": parts[0], "validation": parts[0]}})
