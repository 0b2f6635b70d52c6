"""The seventh unseen set: its author did not know the rules; checked and frozen before the doctor was run on it."""

from benchmarks.stranger_programs.seventh import galleries, harbours, ledgers  # noqa: F401 - they register programs
from benchmarks.stranger_programs.seventh.kit import PROGRAMS

__all__ = ["PROGRAMS"]
