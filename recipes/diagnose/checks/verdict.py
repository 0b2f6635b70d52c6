"""The result of a check before training."""

from dataclasses import dataclass

from recipes.diagnose.finding import SEVERITIES, Finding


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: Name of the check, such as "data_check".
        result: The measurements in one line.
        findings: The problems that were found; empty when nothing is wrong.
        seconds: Time that the check took as part of `preflight`, in seconds, compilation included; NaN outside of it.
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


@dataclass(frozen=True)
class Skipped:
    """A check for which there was no time.

    Attributes:
        name: Name of the check, a function of `recipes.diagnose`.
        needs: Estimated seconds of work that it needs; None where no estimate was possible.
        left: Seconds that were left for it.
    """

    name: str
    needs: float | None
    left: float

    def __str__(self) -> str:
        needs = "time" if self.needs is None else f"about {self.needs:.1f} s"
        return f"needs {needs}, {max(self.left, 0):.1f} s were left; recipes.diagnose.{self.name}(model, train) runs it"
