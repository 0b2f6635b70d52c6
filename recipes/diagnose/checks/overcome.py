"""Findings of checks before training that another check shows to be harmless."""

import dataclasses

from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding

# Codes that are harmless where the model could overfit a few batches.
_OVERCOME = {
    "unscaled_inputs",
    "unscaled_targets",
    "initial_loss",
    "initial_scale_too_large",
    "saturated",
    "sigmoid_with_categorical_loss",
}


def overcome(checks: list[Check]) -> list[Finding]:
    """The findings of all checks, where warnings that another check shows to be harmless become "info".

    They are those on the scale of inputs, targets and outputs, where the model overfits a few batches. Those of the
    range test become "info" where the loss of a few batches falls at the rate in question. And "unscaled_inputs"
    becomes "info" where neither the first loss nor the few batches show a problem.

    Args:
        checks: The checks that have run.
    """
    learned = any(getattr(check, "outcome", None) == "learned" for check in checks)
    falls = any(getattr(check, "came_down", False) for check in checks)
    lost = any(getattr(check, "outcome", None) in ("stuck", "exploded") for check in checks)
    warned = {f.code for check in checks for f in check.findings if f.severity == "warning"}
    lost = lost or "initial_loss" in warned

    def harmless(check, finding):
        by_rate = check.name == "learning_rate_range_test" and falls
        raw = finding.code == "unscaled_inputs" and not lost
        return finding.severity == "warning" and (by_rate or raw or (learned and finding.code in _OVERCOME))

    return [
        dataclasses.replace(finding, severity="info") if harmless(check, finding) else finding
        for check in checks
        for finding in check.findings
    ]
