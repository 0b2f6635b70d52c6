"""read_curves: hand-made curves of each kind, with and without noise, and healthy ones that stay without findings."""

import re

import numpy as np
import pytest

from recipes.diagnose import Finding, read_curves
from recipes.diagnose.finding import CODES, EXPLAINS, arrange
from recipes.diagnose.rules.curve_rules import Curves, values_of
from recipes.diagnose.rules.read_curves import curve_findings, slope
from recipes.diagnose.rules.schedule_rules import judge_schedule, stopped_early
from recipes.probe.record import Probe, Record

LOG10 = np.log(10)


def codes(history, **known):
    findings = read_curves(history, **known)
    return {finding.code: finding for finding in [*findings, *(c for f in findings for c in f.consequences)]}


def noisy(values, seed, size=0.02):
    return (np.asarray(values) * (1 + size * np.random.default_rng(seed).normal(size=len(values)))).tolist()


def healthy(epochs, seed):
    time = np.arange(epochs)
    loss = 0.3 + 2 * np.exp(-time / (epochs / 4))
    return {"loss": noisy(loss, seed), "val_loss": noisy(loss + 0.1, seed + 100)}


@pytest.mark.parametrize("epochs", [2, 3, 5, 8, 12, 30, 100])
def test_healthy_curves_give_nothing_above_info(epochs):
    for seed in range(20):
        findings = read_curves(healthy(epochs, seed), initial=LOG10)
        assert all(finding.severity == "info" for finding in findings), [str(f) for f in findings]


def test_divergence_names_its_epoch():
    found = codes({"loss": [2.3, 1.9, float("nan"), float("nan")]})
    assert found["diverged"].epoch == 3 and found["diverged"].severity == "error"
    assert codes({"loss": [2.3, 4, 9, 30]})["diverged"].severity == "error"


def test_a_loss_that_stays_at_log_c_never_learned_and_a_short_plateau_did():
    for seed in range(10):
        assert "not_learning" in codes({"loss": noisy([2.3] * 6, seed, 0.005)}, initial=LOG10)
    assert "not_learning" in codes({"loss": [2.31, 2.30, 2.30]})  # without knowing C
    assert "not_learning" not in codes({"loss": [2.3, 2.2, 1.5, 1.0]}, initial=LOG10)
    # An easy task learned within its first epoch is flat as well.
    assert not codes({"loss": [0.05, 0.05, 0.05], "accuracy": [0.99, 0.99, 0.99]})


def test_a_rate_too_high_bounces_and_one_too_low_falls_along_a_line():
    for seed in range(10):
        up_and_down = 1.5 + 0.5 * (-1) ** np.arange(12)
        assert "bouncing" in codes({"loss": noisy(up_and_down, seed)}, initial=LOG10)
        line = 2.3 - 0.02 * np.arange(10)
        assert "rate_too_low" in codes({"loss": noisy(line, seed, 0.0005)}, initial=LOG10)


def test_a_loss_that_has_nearly_ended_its_fall_is_not_still_falling():
    assert "still_falling" not in codes({"loss": [0.56, 0.11, 0.0734, 0.0181, 0.0037]}, initial=0.693)
    assert "still_falling" in codes({"loss": [0.68, 0.6, 0.52, 0.44, 0.36]}, initial=0.693)


@pytest.mark.parametrize(("accuracy", "told"), [(1.0, False), (0.9, True)])
def test_a_loss_that_only_makes_right_answers_surer_is_not_still_falling(accuracy, told):
    history = {"loss": [0.68, 0.3, 0.15, 0.11, 0.07], "accuracy": [0.6, 0.7, 0.8, 0.85, accuracy]}
    assert ("still_falling" in codes(history, initial=0.693)) == told


def test_a_plateau_before_the_drop_is_told_from_a_curve_that_just_bends():
    late = [2.3] * 5 + list(2.3 * np.exp(-np.arange(1, 8) / 2))
    assert codes({"loss": late})["plateau_then_drop"].epoch == 6
    assert "plateau_then_drop" not in codes({"loss": list(2.3 * np.exp(-np.arange(12) / 4))})


def test_overfitting_begins_after_the_best_validation_epoch():
    time = np.arange(20)
    for seed in range(10):
        loss = noisy(2 * np.exp(-time / 3) + 0.02, seed)
        validation = noisy(2 * np.exp(-time / 3) + 0.4 + 0.06 * np.maximum(time - 7, 0), seed + 50, 0.01)
        found = codes({"loss": loss, "val_loss": validation}, initial=LOG10)["overfitting"]
        assert found.severity == "warning" and 6 <= found.epoch <= 12
        best = int(np.argmin(validation)) + 1
        assert found.epoch == best + 1
    # Rising once, in the last epoch, is noise.
    assert "overfitting" not in codes(
        {"loss": [2, 1.5, 1, 0.8, 0.6, 0.5], "val_loss": [2, 1.6, 1.2, 1, 0.9, 1.3]}
    )


def test_validation_that_never_followed_is_no_overfitting_but_a_mismatch():
    loss = [1.5, 0.8, 0.4, 0.2, 0.1, 0.08]
    found = codes({"loss": loss, "val_loss": [2.3, 2.4, 2.9, 3.1, 3.0, 3.3]}, initial=LOG10)
    assert found["train_validation_mismatch"].severity == "warning"


def test_settled_high_and_close_is_underfitting():
    time = np.arange(12)
    loss = 1.6 + 0.7 * np.exp(-time)
    found = codes({"loss": loss.tolist(), "val_loss": (loss + 0.02).tolist()}, initial=LOG10)
    assert "1.6 and the validation loss at 1.62" in found["underfitting"].evidence


def test_a_validation_loss_that_rises_has_not_settled():
    # Of a network on 135 photos: 0.5143 is the median of the last training losses alone.
    loss = [1.74, 0.72, 0.69, 0.68, 0.66, 0.64, 0.62, 0.6026, 0.5066, 0.5231, 0.4454, 0.5221]
    held_out = [9.3, 1.2, 0.8, 0.7, 0.66, 0.6, 0.55, 0.4835, 0.5266, 0.5511, 0.5764, 0.5876]
    found = codes({"loss": loss, "val_loss": held_out}, initial=np.log(2))
    assert "underfitting" not in found and "overfitting" in found
    # The same, level in the end, is not called overfitting but underfitting.
    found = codes({"loss": loss, "val_loss": [*held_out[:8], 0.5, 0.49, 0.5, 0.495]}, initial=np.log(2))
    assert "underfitting" in found and "overfitting" not in found


def test_decay_in_the_second_epoch_of_ten_is_too_early_and_cosine_is_not():
    loss = [2.0, 1.6] + [1.58] * 8
    early = {"loss": loss, "learning_rate": [0.1, 0.1] + [1e-4] * 8}
    assert codes(early, initial=LOG10)["decayed_too_early"].epoch == 3
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(10) / 10))
    assert "decayed_too_early" not in codes({"loss": loss, "learning_rate": cosine.tolist()}, initial=LOG10)


def test_noise_between_epochs_is_said_as_info():
    jumps = 2 * np.exp(-np.arange(16) / 6) * (1 + 0.35 * (-1) ** np.arange(16))
    assert codes({"loss": jumps.tolist()})["noisy"].severity == "info"


@pytest.mark.parametrize(
    ("history", "code"),
    [
        ({"loss": [2.3, 1.9, float("nan")]}, "diverged"),
        ({"loss": [2.3, 4, 9, 30]}, "diverged"),
        ({"loss": [9.0, 9.1, 9.0, 9.1, 9.0, 9.1]}, "not_learning"),
        ({"loss": [2.3] * 5 + list(2.3 * np.exp(-np.arange(1, 8) / 2))}, "plateau_then_drop"),
        ({"loss": [2.0, 1.6] + [1.58] * 8, "learning_rate": [0.1] * 2 + [1e-4] * 8}, "decayed_too_early"),
        ({"loss": [2.3, 1.5, 1.0], "val_loss": [2.3, 1.9, float("inf")]}, "train_validation_mismatch"),
        (
            {"loss": [1.5, 0.8, 0.4, 0.2, 0.1, 0.08], "val_loss": [2.3, 2.4, 2.9, 3.1, 3.0, 3.3]},
            "train_validation_mismatch",
        ),
        ({"loss": 0.7 ** np.arange(9), "val_loss": 0.7 + 0.2 * abs(np.arange(9) - 3)}, "overfitting"),
        ({"loss": 2.3 - 0.02 * np.arange(10)}, "rate_too_low"),
        ({"loss": [0.68, 0.6, 0.52, 0.44, 0.36]}, "still_falling"),
        ({"loss": [2.0, 1.8, 1.6], "val_loss": [2.0, 1.9, 1.8]}, "stopped_too_early"),
    ],
)
def test_findings_count_the_epochs_before_their_curves(history, code):
    def found(earlier):
        curves = Curves(values_of(history), LOG10, steps=1000, earlier=earlier)
        return next(one for one in [*curve_findings(curves), *stopped_early(curves, 20)] if one.code == code)

    def numbered(finding):  # in the text of a finding
        return [int(one) for one in re.findall(r"epoch (\d+)", finding.evidence)]

    alone, later = found(0), found(7)
    assert later.epoch == (None if alone.epoch is None else alone.epoch + 7)
    assert numbered(later) == [epoch + 7 for epoch in numbered(alone)]
    length = len(history["loss"])
    counted = f"{length} epochs" in alone.evidence
    assert (f"{length} epochs (8 to {length + 7})" in later.evidence) == counted
    assert "epochs=10" not in alone.remedy or "epochs=17" in later.remedy


def test_rates_of_an_earlier_model_are_not_those_of_these_curves():
    """Ten epochs of ten steps, the last eight of them of the model whose curves are judged."""
    record = Record()
    for step in range(5, 100, 10):
        rate = 0.1 if step < 30 else 1e-6  # gone in the fourth epoch, which is the second of the curves
        record.add(Probe(step, step // 10, {"loss": 2.0, "learning_rate": rate}))
    curves = Curves({"loss": np.full(8, 2.0)}, LOG10, steps=80, planned=8, earlier=2)
    (found,) = judge_schedule(record, curves)
    assert found.epoch == 4 and "By step 35 of 100 " in found.evidence and "at step 95 " in found.evidence


def test_theil_sen_slope_is_not_moved_by_an_outlier():
    values = 3.0 - 0.25 * np.arange(11)
    values[5] = 100
    np.testing.assert_allclose(slope(values), -0.25)


def test_a_history_without_loss_or_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="loss"):
        read_curves({"accuracy": [1.0]})
    with pytest.raises(ValueError, match="one length"):
        read_curves({"loss": [1.0, 2.0], "val_loss": [1.0]})


def test_causes_come_first_and_hold_what_they_explain():
    def made(code, severity, layer=None):
        return Finding(code, severity, layer, None, "Evidence.", "Remedy.")

    found = arrange(
        [
            made("not_learning", "warning"),
            made("data_leak", "warning"),
            made("unscaled_inputs", "error"),
            made("dead_relu", "error", "a"),
        ]
    )
    assert [finding.code for finding in found] == ["unscaled_inputs", "data_leak"]
    assert {finding.code for finding in found[0].consequences} == {"dead_relu", "not_learning"}
    # What is only information hides no warning.
    assert len(arrange([made("unscaled_inputs", "info"), made("not_learning", "warning")])) == 2
    assert Finding.from_dict(found[0].to_dict()) == found[0]
    with pytest.raises(ValueError, match="CODES"):
        made("bad_luck", "error")


def test_no_two_codes_explain_each_other():
    for root, symptoms in EXPLAINS.items():
        assert root in CODES and symptoms <= set(CODES)
        for symptom in symptoms - {root}:
            later = CODES.index(symptom) > CODES.index(root)
            assert later or root not in EXPLAINS.get(symptom, ()), (root, symptom)


def test_losses_below_zero_are_judged_by_what_they_gained():
    assert not codes({"loss": [-0.95, -0.951, -0.9512, -0.9508, -0.9506]})
    assert "overfitting" not in codes(
        {
            "loss": [1.2, 0.6, 0.2, -0.1, -0.4, -0.7, -0.9, -1],
            "val_loss": [1.1, 0.5, 0.1, -0.05, 0.02, 0.03, 0.05, 0.04],
        }
    )
    assert codes({"loss": [-0.5, -0.6, -0.3, 2.0, 9.0, 40.0]})["diverged"].severity == "error"


def test_a_cross_entropy_below_zero_names_the_labels():
    found = codes({"loss": [-0.2, -1.9, -4.6, -9.5], "accuracy": [0.44, 0.5, 0.5, 0.5]})
    assert found["labels_out_of_range"].severity == "error" and "y - 1" in found["labels_out_of_range"].remedy


def test_a_loss_of_exactly_zero_is_not_called_learned():
    assert codes({"loss": [0.0] * 5, "accuracy": [0.1] * 5})["not_learning"].severity == "error"
    assert not codes({"loss": [0.0] * 5, "accuracy": [1.0] * 5})


def test_a_regression_that_comes_down_from_far_is_not_diverged():
    assert "diverged" not in codes({"loss": [534, 516, 500, 485, 470, 455]}, initial=19.6)
    stuck = codes({"loss": [534, 536, 533, 535, 534, 536]}, initial=19.6)
    assert list(stuck) == ["not_learning"] and stuck["not_learning"].severity == "error"


def test_small_noise_above_the_floor_is_told_from_nothing_learned():
    noise_floor = [1.02, 0.95, 0.92, 0.91, 0.905, 0.905]
    findings = read_curves({"loss": noise_floor, "val_loss": noise_floor}, initial=1.0)
    assert all(finding.severity == "info" for finding in findings)


def test_a_loss_far_above_the_probed_one_is_told_as_the_epochs():
    from types import SimpleNamespace

    from recipes.diagnose.rules.record_rules import _against

    view = SimpleNamespace(began=0.69, initial=0.6931, now=4.8e8, step=[0, 4], loss=[0.7, 24.0])
    assert "The mean loss of the last epoch is 4.8e+08; always" in _against(view, 24.0)
    view.now = 20.0
    assert "At step 4, the last one looked at, the loss of a batch was about 24; always" in _against(
        view, 24.0
    )


@pytest.mark.parametrize(("training", "told"), [(0.5894, False), (0.3, True)])
def test_a_network_that_is_worse_on_its_training_examples_does_not_memorize_them(training, told):
    # Six epochs on 135 photos, 15 to validate: 67 % of the training answers are right.
    history = {
        "loss": [1.1, 0.75, 0.6763, 0.65, 0.62, training],
        "val_loss": [0.7, 0.6, 0.4431, 0.5, 0.52, 0.5335],
    }
    assert ("overfitting" in codes(history, initial=0.693)) == told
