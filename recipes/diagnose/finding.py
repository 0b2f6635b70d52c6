"""Findings: problems with their evidence and remedy, and which finding explains which."""

import html
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace

SEVERITIES = ("error", "warning", "info")
_GONE_WITH_IT = " (these should go away with it)"

# Causes before symptoms: data, model and loss, initialization, optimizer, layers during training, curves.
CODES = (
    "nan_input",
    "labels_out_of_range",
    "label_count",
    "labels_constant",
    "constant_inputs",
    "softmax_on_one_unit",
    "softmax_twice",
    "logits_as_probabilities",
    "sigmoid_with_categorical_loss",
    "rectified_output",
    "unreachable_targets",
    "loss_turned",
    "zero_initialization",
    "symmetric_initialization",
    "trainable_switched",
    "frozen",
    "frozen_statistics",
    "unscaled_inputs",
    "unscaled_targets",
    "batch_too_small",
    "nan_source",
    "initial_scale_too_large",
    "initial_scale_too_small",
    "dead_at_start",
    "clipping_too_hard",
    "regularization_too_strong",
    "missing_shuffle",
    "labels_shuffled",
    "rate_too_high",
    "decayed_too_early",
    "stopped_too_early",
    "rate_too_low",
    "batch_norm_statistics",
    "data_leak",
    "exploding",
    "dead_relu",
    "saturated",
    "vanishing",
    "train_validation_mismatch",
    "regularization_absent",
    "overfitting",
    "diverged",
    "update_ratio_high",
    "update_ratio_low",
    "bouncing",
    "noisy",
    "not_learning",
    "underfitting",
    "plateau_then_drop",
    "still_falling",
    "imbalanced",
    "initial_loss",
    "overfit_small_sample",
    "gradient_check",
)
_CURVES = {
    "diverged",
    "bouncing",
    "noisy",
    "not_learning",
    "underfitting",
    "plateau_then_drop",
    "still_falling",
    "initial_loss",
    "overfit_small_sample",
}
_INSIDE = {"exploding", "vanishing", "dead_relu", "saturated", "update_ratio_high", "update_ratio_low"}
_RATE = {"rate_too_high", "rate_too_low"}
_GAP = {"train_validation_mismatch", "overfitting", "regularization_absent"}
_SYMPTOMS = _CURVES | _INSIDE | _RATE | {"decayed_too_early", "batch_too_small"}
_SCALE = {"initial_scale_too_large", "initial_scale_too_small", "dead_at_start", "nan_source"}

# Code of a cause -> codes that it can explain. A finding of such a code is listed under the cause, not beside it.
EXPLAINS = {
    "nan_input": _SYMPTOMS | _SCALE | _GAP | {"labels_shuffled", "unscaled_inputs", "batch_norm_statistics"},
    "labels_out_of_range": _SYMPTOMS
    | _GAP
    | {"nan_source", "labels_shuffled", "labels_constant", "unscaled_targets"},
    "label_count": _SYMPTOMS | _GAP | {"labels_shuffled"},
    "labels_constant": _SYMPTOMS | _GAP | {"imbalanced"},
    "constant_inputs": _SYMPTOMS | _SCALE | _GAP | {"unscaled_inputs", "labels_shuffled", "data_leak"},
    "softmax_on_one_unit": _SYMPTOMS | _GAP,
    "softmax_twice": _SYMPTOMS | {"nan_source"},
    "logits_as_probabilities": _SYMPTOMS | {"nan_source"},
    "sigmoid_with_categorical_loss": _SYMPTOMS,
    "rectified_output": _SYMPTOMS | {"dead_at_start", "nan_source"},
    "unreachable_targets": _SYMPTOMS,
    "loss_turned": _SYMPTOMS | _GAP | {"labels_shuffled"},
    "zero_initialization": _SYMPTOMS
    | {"symmetric_initialization", "initial_scale_too_small", "dead_at_start"},
    "symmetric_initialization": _SYMPTOMS | _SCALE,
    "trainable_switched": _SYMPTOMS,
    "frozen": _SYMPTOMS,
    "frozen_statistics": _GAP,
    "unscaled_inputs": _SYMPTOMS | _SCALE,
    "unscaled_targets": _SYMPTOMS,
    "nan_source": _SYMPTOMS | _GAP,
    "initial_scale_too_large": _SYMPTOMS | {"nan_source", "dead_at_start"},
    "initial_scale_too_small": _SYMPTOMS,
    "dead_at_start": _SYMPTOMS - {"batch_too_small"},
    "clipping_too_hard": _CURVES | _INSIDE | {"rate_too_low"},
    "regularization_too_strong": _SYMPTOMS | {"train_validation_mismatch"},
    "missing_shuffle": _SYMPTOMS | {"train_validation_mismatch"},
    "labels_shuffled": _SYMPTOMS | _GAP,
    "rate_too_high": _CURVES | _INSIDE | {"train_validation_mismatch"},
    "rate_too_low": _CURVES | {"update_ratio_low"},
    "decayed_too_early": _CURVES | {"update_ratio_low", "rate_too_low", "vanishing"},
    "stopped_too_early": {"not_learning", "underfitting", "still_falling", "rate_too_low"},
    "batch_norm_statistics": _GAP,
    "exploding": _CURVES | {"update_ratio_high", "saturated", "dead_relu"},
    "vanishing": _CURVES | {"update_ratio_low"},
    "dead_relu": _CURVES | {"update_ratio_low", "vanishing"},
    "saturated": _CURVES | {"update_ratio_low", "vanishing"},
    "batch_too_small": _CURVES | _INSIDE | {"rate_too_low", "dead_at_start", "batch_norm_statistics"},
    "train_validation_mismatch": {"overfitting", "regularization_absent"},
    "regularization_absent": {"overfitting"},
    "diverged": _CURVES | {"update_ratio_high"},
}
#: Codes that become "info" in a run that learned well: they are true, but harmless there. The other codes say that a
#: run cannot reach its goal, or that its numbers are wrong, however good its curves look.
SOFT = frozenset(
    {
        "unscaled_inputs",
        "unscaled_targets",
        "initial_scale_too_large",
        "initial_scale_too_small",
        "dead_at_start",
        "clipping_too_hard",
        "regularization_too_strong",
        "labels_shuffled",
        "rate_too_high",
        "decayed_too_early",
        "rate_too_low",
        "exploding",
        "dead_relu",
        "saturated",
        "vanishing",
        "batch_too_small",
        "regularization_absent",
        "overfitting",
        "update_ratio_high",
        "update_ratio_low",
        "bouncing",
        "noisy",
        "not_learning",
        "underfitting",
        "plateau_then_drop",
        "initial_loss",
        "overfit_small_sample",
        "sigmoid_with_categorical_loss",  # Keras divides the outputs by their sum
    }
)


@dataclass(frozen=True)
class Finding:
    """One problem of a model, its data or its training, or one fact worth knowing.

    Attributes:
        code: One of `recipes.diagnose.finding.CODES`, such as "dead_relu".
        severity: "error" (the run cannot reach its goal as it is), "warning" (it does worse than it could, and the
            remedy is known to help) or "info" (true, but harmless so far).
        layer: Name of the layer, or None where the finding is not about a layer.
        epoch: Epoch in which it was first seen, counted from 1 as `fit` prints them; 0 for before training; None for
            the run as a whole.
        evidence: One sentence with the numbers that show the problem.
        remedy: What to type or try.
        consequences: Findings that this one explains.
        withdrawn: Whether the finding was reported during the run but no longer holds. It is then "info".
        said_after: Epoch after which a withdrawn finding was reported, 0 for before training; None for other findings.

    Raises:
        ValueError: for an unknown code or severity.
    """

    code: str
    severity: str
    layer: str | None
    epoch: int | None
    evidence: str
    remedy: str
    consequences: tuple["Finding", ...] = ()
    withdrawn: bool = False
    said_after: int | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES or self.severity not in SEVERITIES:
            raise ValueError(
                f"Finding expects a code of recipes.diagnose.finding.CODES and a severity of {SEVERITIES}. "
                f"Received {self.code!r}, {self.severity!r}. Add a new code to CODES, in order of cause."
            )

    def __str__(self) -> str:
        if self.withdrawn:
            when = f"after epoch {self.said_after}" if self.said_after else "before training"
            where = f" in {self.layer}" if self.layer else ""
            return f"withdrawn: {self.title}{where} (said {when})"
        place = "".join(
            [
                f" in {self.layer}" if self.layer else "",
                f", epoch {self.epoch}" if self.epoch else ", before training" if self.epoch == 0 else "",
            ]
        )
        lines = [f"{self.severity}: {self.title}{place}. {self.evidence} {self.remedy}"]
        if self.consequences:
            lines.append(
                f"  explains: {', '.join(dict.fromkeys(f.title for f in self.consequences))}{_GONE_WITH_IT}"
            )
        return "\n".join(lines)

    def wrapped(self, width: int = 110) -> str:
        """The text of the finding, wrapped to lines of at most `width` characters, for a terminal."""
        lines = str(self).splitlines()
        return "\n".join("\n".join(textwrap.wrap(line, width, subsequent_indent="  ")) for line in lines)

    def _repr_html_(self) -> str:
        if self.withdrawn:
            return f"<p>{html.escape(str(self))}</p>"
        place = f" in {self.layer}" if self.layer else ""
        head = html.escape(f"{self.severity}: {self.title}{place}")
        explains = ", ".join(dict.fromkeys(finding.title for finding in self.consequences))
        more = f"<br><small>explains: {html.escape(explains)}{_GONE_WITH_IT}</small>" if explains else ""
        return f"<p><b>{head}</b><br>{html.escape(self.evidence)} <i>{html.escape(self.remedy)}</i>{more}</p>"

    @property
    def title(self) -> str:
        """The code in words, such as "dead relu"."""
        return self.code.replace("_", " ")

    def to_dict(self) -> dict:
        """The finding as a dict of plain values for JSON, which `from_dict` reads."""
        return {**vars(self), "consequences": [finding.to_dict() for finding in self.consequences]}

    @classmethod
    def from_dict(cls, values: dict) -> "Finding":
        """The finding from a dict that `to_dict` made."""
        return cls(**{**values, "consequences": tuple(cls.from_dict(v) for v in values["consequences"])})


class Findings(list[Finding]):
    """A list of findings that `print` and a notebook show one below the other."""

    @property
    def current(self) -> "Findings":
        """Those that hold: all but the withdrawn ones."""
        return Findings(finding for finding in self if not finding.withdrawn)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no findings"

    def _repr_html_(self) -> str:
        return "".join(finding._repr_html_() for finding in self) or "<p>no findings</p>"


def arrange(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity and cause, and list each symptom under the finding that explains it.

    An "info" explains only other "info". A cause gets the highest severity of what it explains. Of several findings
    with one code, as for several layers, the others are listed under the first.

    Args:
        findings: Any iterable of `Finding`, without consequences of their own.

    Returns:
        The findings that no other one explains, by severity and then by the order of `CODES`; the others are their
        `consequences`.
    """
    findings = sorted(findings, key=lambda f: (CODES.index(f.code), SEVERITIES.index(f.severity)))
    roots, under = [], {}
    for finding in findings:
        for position, root in enumerate(roots):
            strong = root.severity != "info" or finding.severity == "info"
            if strong and (root.code == finding.code or finding.code in EXPLAINS.get(root.code, ())):
                under.setdefault(position, []).append(finding)
                break
        else:
            roots.append(finding)
    nested = []
    for position, root in enumerate(roots):
        explained = tuple(under.get(position, ()))
        worst = min((root, *explained), key=lambda f: SEVERITIES.index(f.severity)).severity
        nested.append(replace(root, severity=worst, consequences=explained))
    return Findings(sorted(nested, key=lambda f: SEVERITIES.index(f.severity)))
