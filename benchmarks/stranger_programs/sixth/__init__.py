"""The sixth unseen set: by somebody who did not know the rules, checked and frozen before the doctor saw it.

Left out are programs that are not what they say they are, before any doctor saw them.
"""

from benchmarks.stranger_programs.sixth import clocks, lenses, offices, workshops  # noqa: F401 - they register
from benchmarks.stranger_programs.sixth.kit import PROGRAMS as WRITTEN

DROPPED: tuple[str, ...] = ()
PROGRAMS = {name: program for name, program in WRITTEN.items() if name not in DROPPED}
