"""diagnose and TrainingDoctor: static faults by name, records made by hand, and live runs stopped or left alone."""

import json

import keras
import numpy as np
import pytest

from recipes import Run, diagnose, plot
from recipes.callbacks import TrainingDoctor
from recipes.diagnose import Finding
from recipes.diagnose.finding import Findings
from recipes.diagnose.rules.diagnose import judge
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.record_rules import judge_record
from recipes.diagnose.rules.run_facts import describe
from recipes.probe import Probe, Record


def model_with(last, loss="sparse_categorical_crossentropy", hidden=None, optimizer="adam"):
    hidden = hidden or keras.layers.Dense(16, "relu", name="hidden")
    model = keras.Sequential([keras.Input((6,)), hidden, *last])
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


Dense = keras.layers.Dense
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STATIC = {
    "softmax_on_one_unit": lambda: model_with([Dense(1, "softmax", name="out")], "binary_crossentropy"),
    "softmax_twice": lambda: model_with([Dense(4, "softmax"), keras.layers.Softmax(name="again")]),
    "logits_as_probabilities": lambda: model_with([Dense(4, name="out")]),
    "sigmoid_with_categorical_loss": lambda: model_with([Dense(4, "sigmoid", name="out")]),
    "rectified_output": lambda: model_with([Dense(4, "relu", name="out")], LOGITS),
    "regularization_too_strong": lambda: model_with(
        [keras.layers.Dropout(0.9, name="most"), Dense(4, "softmax")]
    ),
    "symmetric_initialization": lambda: model_with(
        [Dense(4, "softmax")], hidden=Dense(8, "relu", kernel_initializer="ones", name="same")
    ),
    "frozen": lambda: model_with(
        [Dense(4, "softmax")], hidden=Dense(8, "relu", trainable=False, name="fixed")
    ),
}


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("code", STATIC)
def test_what_model_and_loss_tell_alone_has_its_name(code):
    found = diagnose.diagnose(model=STATIC[code]())
    assert [finding.code for finding in found] == [code]
    assert found[0].layer and found[0].evidence and found[0].remedy


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_with([Dense(4, "softmax")]),
        lambda: model_with([Dense(4)], LOGITS),
        lambda: model_with([Dense(4), keras.layers.Softmax()]),
        lambda: model_with([Dense(4), keras.layers.Activation("softmax", dtype="float32")]),
        lambda: model_with([Dense(1, "sigmoid")], "binary_crossentropy"),
        lambda: model_with([Dense(3, "sigmoid")], "binary_crossentropy"),
        lambda: model_with([Dense(1)], "mse"),
        lambda: model_with([Dense(1, "tanh")], "hinge"),
        lambda: model_with([Dense(2)], lambda y, p: keras.ops.mean((y - p) ** 2)),
    ],
)
def test_models_as_they_should_be_are_left_in_peace(make):
    assert diagnose.diagnose(model=make()) == []


def test_weights_loaded_into_frozen_layers_are_no_mistake():
    model = STATIC["frozen"]()
    model.layers[0].set_weights(
        [np.random.default_rng(0).normal(size=w.shape) for w in model.layers[0].get_weights()]
    )
    assert diagnose.diagnose(model=model) == []


def record_of(
    rows, layers=("one", "two", "three", "out"), kinds=("relu", "relu", "relu", "softmax"), units=4
):
    """A record made by hand: each row gives per-layer gradient, weight and update norms, loss, rates, finiteness."""
    count = len(layers)
    depth = np.arange(count)
    axes = {
        "inputs": {"name": np.array(["input", "target", "sample_weight"])},
        "variables": {
            "name": np.array([f"{layer}/kernel" for layer in layers]),
            "layer": np.array(layers),
            "layer_class": np.array(["Dense"] * count),
            "role": np.array(["kernel"] * count),
            "size": np.full(count, 16),
            "depth": depth,
        },
        "layers": {
            "name": np.array(layers),
            "layer": np.array(layers),
            "layer_class": np.array(["Dense"] * count),
            "kind": np.array(kinds),
        },
        "activations": {
            "name": np.array(layers),
            "layer": np.array(layers),
            "layer_class": np.array(["Dense"] * count),
            "kind": np.array(kinds),
            "units": np.full(count, units),
            "depth": depth,
        },
    }
    record = Record()
    for number, row in enumerate(rows):
        values = {
            "loss": row.get("loss", 2.3),
            "learning_rate": row.get("rate", 0.01),
            "weight_norm": np.full(count, 4.0),
            "update_norm": np.broadcast_to(np.float32(row.get("update", 4e-3)), (count,)),
            "gradient_norm": np.broadcast_to(np.float32(row.get("gradient", 1.0)), (count,)),
            "input_finite": np.array(row.get("input", [True] * 3)),
            "weight_finite": np.array(row.get("weights", [True] * count)),
            "update_finite": np.array(row.get("updates", [True] * count)),
            "output_finite": np.array(row.get("outputs", [True] * count)),
            "saturated_fraction": np.broadcast_to(np.float32(row.get("saturated", np.nan)), (count,)),
        }
        record.describe(axes, values, [])
        rates = np.asarray(row.get("rates", np.full(count * units, 0.5)), "float32")
        record.add(Probe(10 * number, number // 2, values, rates))
    return record


def judged(rows, facts=None, learned=False, **options):
    return [
        (f.code, f.layer)
        for f in judge_record(record_of(rows, **options), facts or {}, learned=learned, initial=2.3)
    ]


def test_a_record_of_a_healthy_run_gives_nothing():
    assert judged([{"loss": 2.3 - 0.1 * i} for i in range(10)]) == []


def test_the_first_layer_with_nan_is_named_and_a_rate_that_blew_up_is_told_from_a_broken_layer():
    broken = {"outputs": [True, False, False, False], "updates": [False] * 4, "loss": np.nan}
    assert judged([{}, {}, broken]) == [("nan_source", "two")]
    assert judged([{}, {"loss": 90.0, "update": 12.0}, broken]) == [("rate_too_high", None)]
    assert judged([{}, {"input": [False, True, True], "loss": np.nan}]) == [("nan_input", None)]


def test_a_kernel_that_begins_at_zero_neither_explodes_nor_lets_others_vanish():
    record = record_of([{"loss": 2.3 - 0.02 * i} for i in range(6)])
    for row in record._rows:
        row["weight_norm"] = np.array([4.0, 4.0, 0.0, 4.0])
    assert judge_record(record, {}, initial=2.3) == []


def test_weights_that_a_penalty_has_shrunk_are_the_cause_of_steps_that_look_long():
    record = record_of([{"loss": 2.6, "update": 0.4} for _ in range(6)])
    for number, row in enumerate(record._rows):
        row["weight_norm"] = np.array([4.0, 4.0, 4.0 * 0.3**number, 4.0])
    layer = {"name": "three", "penalty_rate": 0.5}
    codes = {f.code for f in judge_record(record, {"layers": [layer]}, initial=2.3)}
    assert "regularization_too_strong" in codes
    quiet = judge_record(record, {"layers": [{**layer, "penalty_rate": 1e-4}]}, initial=2.3)
    assert "regularization_too_strong" not in {f.code for f in quiet}


def test_dead_layers_are_told_by_when_they_died():
    alive, dead = np.full(16, 0.5), np.full(16, 0.5)
    dead[4:8] = 0
    assert judged([{"rates": alive}] * 3 + [{"rates": dead}] * 3) == [("dead_relu", "two")]
    assert judged([{"rates": dead}] * 4) == [("dead_at_start", "two")]
    half = np.full(16, 0.5)
    half[4:6] = 0
    assert judged([{"rates": half}] * 4) == []


def test_gradients_that_vanish_are_named_unless_the_run_learns():
    rows = [{"gradient": [1e-6, 1e-4, 1e-2, 1.0]}] * 5
    assert judged(rows) == [("vanishing", "one")]
    assert judged(rows, learned=True) == []


def test_update_ratios_and_clipping_name_the_rate():
    assert judged([{"update": 4e-6}] * 6) == [("rate_too_low", None)]
    assert judged([{"update": 4e-6}] * 6, learned=True) == []
    assert judged([{"update": 4.0, "loss": 9.0}] * 6) == [("rate_too_high", None)]
    clipped = {"optimizer": {"clipnorm": 1e-4, "global_clipnorm": None}}
    assert ("clipping_too_hard", None) in judged([{}] * 6, facts=clipped)
    assert judged([{}] * 6, facts={"optimizer": {"clipnorm": 1.0, "global_clipnorm": None}}) == []


def test_saturation_counts_for_tanh_and_sigmoid_but_not_for_the_output():
    kinds = ("tanh", "sigmoid", "relu", "sigmoid")
    rows = [{"saturated": [0.9, 0.2, np.nan, 0.99]}] * 4
    assert judged(rows, kinds=kinds) == [("saturated", "one")]


def blobs(count=256):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    return (2 * rng.normal(size=(4, 6))[labels] + 0.3 * rng.normal(size=(count, 6))).astype("float32"), labels


@pytest.mark.filterwarnings("ignore:.*shuffle=True.*")
def test_a_healthy_run_is_left_in_peace_and_its_weights_alone():
    x, labels = blobs()

    def fit(callbacks):
        keras.utils.set_random_seed(0)
        model = model_with([Dense(4, "softmax")], optimizer=keras.optimizers.Adam(1e-2))
        model.fit(
            x[:192],
            labels[:192],
            validation_data=(x[192:], labels[192:]),
            epochs=4,
            verbose=0,
            callbacks=callbacks,
        )
        return model.get_weights()

    doctor = TrainingDoctor(train=(x[:192], labels[:192]), validation=(x[192:], labels[192:]), strict=True)
    watched, plain = fit([doctor]), fit([])
    assert doctor.said == []
    assert all(finding.severity == "info" for finding in doctor.findings)
    assert len(doctor.record)
    for a, b in zip(watched, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_doctor_stops_a_hopeless_run_names_the_layer_and_says_it_once(capsys):
    x, labels = blobs()
    inputs = keras.Input((6,))
    hidden = keras.layers.Lambda(lambda t: keras.ops.log(t), name="logs")(Dense(8, name="before")(inputs))
    model = keras.Model(inputs, Dense(4, "softmax", name="out")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    doctor = TrainingDoctor("stop", every_steps=1, strict=True)
    history = model.fit(x, labels, epochs=5, verbose=0, callbacks=[doctor])
    assert len(history.history["loss"]) == 1
    assert (doctor.findings[0].code, doctor.findings[0].layer) == ("nan_source", "logs")
    assert capsys.readouterr().out.count("nan source") == 1
    with pytest.raises(ValueError, match="report"):
        TrainingDoctor(act="panic")


def test_a_warning_waits_for_a_second_judgement_and_an_error_does_not():
    book = Casebook({})
    flat = {"loss": [2.30, 2.31, 2.30]}
    assert book.update(flat, None) == []
    assert [f.code for f in book.update({"loss": [2.30, 2.31, 2.30, 2.30]}, None)] == ["not_learning"]
    assert book.update({"loss": [2.30, 2.31, 2.30, 2.30, 2.30]}, None) == []
    assert [f.code for f in Casebook({}).update({"loss": [2.3, float("nan")]}, None)] == ["diverged"]


def test_a_book_taken_up_after_any_epoch_ends_as_one_that_was_never_closed():
    loss = [2.3] * 5 + [1.5, 1.0, 0.6]  # said after the fourth epoch, withdrawn later
    model = model_with([Dense(4, "softmax")])
    before = describe(model, blobs())
    model.set_weights([3 * weight + 1 for weight in model.get_weights()])
    later = describe(model, blobs())
    assert later["statistics"] != before["statistics"]
    for interrupted in range(len(loss)):
        whole, parts = Casebook(before), Casebook(before)
        for epochs in range(len(loss) + 1):
            for book in (whole, parts):
                curves = {"loss": loss[:epochs]} if epochs else None
                book.update(curves, None, last=epochs == len(loss))
            if epochs == interrupted:
                state = json.loads(json.dumps(parts.state()))
                parts = Casebook(later)
                parts.take_up(state)
        assert parts.said == whole.said and parts.said[0].withdrawn
        assert parts.findings == whole.findings


@pytest.mark.parametrize(
    ("momentum", "share", "remedy"),
    [(0.99, "94%", "BatchNormalization(momentum=0.9)"), (0.9, "53%", "smaller batches")],
)
def test_averages_are_judged_by_the_steps_of_the_run_with_a_remedy_that_is_not_yet_taken(
    momentum, share, remedy
):
    model = model_with([keras.layers.BatchNormalization(momentum=momentum, name="norm"), Dense(4, "softmax")])
    book = Casebook(describe(model))
    found = book.update(
        {"loss": [2.3, 1.0], "val_loss": [2.3, 3.0]}, record_of([{}] * 2), last=True, steps=6
    )  # the last probe was at step 10 of a record made by hand
    (finding,) = [f for f in found if f.code == "batch_norm_statistics"]
    assert "After 6 steps" in finding.evidence and share in finding.evidence and finding.layer == "norm"
    assert remedy in finding.remedy and "refresh_batch_norm" in finding.remedy


def test_a_book_without_facts_takes_none_at_the_end():
    assert Casebook({}).update({"loss": [2.3, 1.0]}, None, last=True, idle_averages=(), steps=6) == []


def test_a_wrapped_finding_keeps_what_it_explains_on_a_line_of_its_own():
    symptom = diagnose.Finding("not_learning", "warning", None, 3, "Flat.", "Wait.")
    finding = diagnose.Finding("rate_too_high", "error", "one", 1, "word " * 40, "Lower it.", (symptom,))
    *text, last = finding.wrapped(60).splitlines()
    assert last == "  explains: not learning (these should go away with it)" and len(text) > 3
    assert max(map(len, text)) <= 60 and all(line.startswith("  ") for line in text[1:])
    assert " ".join(finding.wrapped(60).split()) == " ".join(str(finding).split())


def test_nothing_to_judge_is_refused():
    with pytest.raises(ValueError, match="run.history"):
        diagnose.diagnose()


def test_the_end_of_the_first_schedule_of_an_extended_run_is_no_early_decay():
    rates = [0.1, 0.07, 0.02, 1e-3, 9e-4, 8e-4, 4e-4, 2e-4, 1e-4, 0.0]
    history = {"loss": [2.0, 1.6, 1.3, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2], "learning_rate": rates}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    facts = describe(model)
    early = [one for one in judge(history, None, facts, steps=500) if one.code == "decayed_too_early"]
    assert early and early[0].epoch == 4
    extended = judge(history, None, {**facts, "extended_after": 4}, steps=500)
    assert not [one for one in extended if one.code == "decayed_too_early"]


def test_withdrawn_findings_are_not_counted_nor_drawn():
    gone = Finding("train_validation_mismatch", "info", None, 2, "GONE.", "OBSOLETE.", (), True, 4)
    holds = Finding("overfitting", "warning", None, 3, "IT DOES.", "STOP.")
    found = Findings([gone, holds])
    assert found.current == [holds]
    assert str(found).splitlines()[0] == "withdrawn: train validation mismatch (said after epoch 4)"
    assert "GONE" not in str(found) + found._repr_html_()
    assert "1 finding (1 withdrawn)" in repr(Run(None, {"loss": [1.0]}, [gone, holds]))
    drawn = plot.curves({"loss": [1.0, 0.5, 0.4]}, findings=found)
    assert drawn.get_suptitle().startswith("warning: overfitting")
    assert plot.curves({"loss": [1.0, 0.5]}, findings=[gone]).get_suptitle() == ""
