"""The seventh unseen set: by somebody who did not know the rules, checked and frozen before the doctor saw it."""

from benchmarks.stranger_programs.seventh import galleries, harbours, ledgers  # noqa: F401 - they register
from benchmarks.stranger_programs.seventh.kit import PROGRAMS

__all__ = ["PROGRAMS"]
