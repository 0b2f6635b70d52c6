"""What every check before training gives back."""

from dataclasses import dataclass

from recipes.diagnose.finding import SEVERITIES, Finding


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: Of the function that made it.
        result: What was measured, in one line.
        findings: list of `Finding`; empty when nothing is wrong.
        seconds: Seconds it took as part of `preflight`, compilation included; NaN by itself.
    """

    name: str
    result: str
    findings: list[Finding]
    seconds: float = float("nan")

    @property
    def verdict(self) -> str:
        """The worst severity among the findings, or "ok"."""
        return min((f.severity for f in self.findings), key=SEVERITIES.index, default="ok")

    @property
    def remedy(self) -> str:
        """The remedy of the worst finding, or an empty string."""
        worst = min(self.findings, key=lambda f: SEVERITIES.index(f.severity), default=None)
        return "" if worst is None else worst.remedy

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.result}", *(f"  {finding}" for finding in self.findings)])
