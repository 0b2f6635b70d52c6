"""The sixth unseen set: its author did not know the rules; checked and frozen before the doctor was run on it.

Programs that are not what they declare to be were left out before the doctor was run on them.
"""

from benchmarks.stranger_programs.sixth import clocks, lenses, offices, workshops  # noqa: F401 - they register programs
from benchmarks.stranger_programs.sixth.kit import PROGRAMS as WRITTEN

DROPPED: tuple[str, ...] = ()
PROGRAMS = {name: program for name, program in WRITTEN.items() if name not in DROPPED}
