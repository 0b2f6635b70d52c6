"""The seventh unseen set: by somebody who did not know the rules, checked and frozen before the doctor saw it.

Left out are programs that are not what they say they are, or were not checked in time, before any doctor saw them.
"""

from benchmarks.stranger_programs.seventh import galleries, harbours, ledgers  # noqa: F401 - they register
from benchmarks.stranger_programs.seventh.kit import PROGRAMS as WRITTEN

DROPPED: tuple[str, ...] = (
    "rivers/broken_litres_a_second",
    "ferry/broken_norm_of_a_thousandth",
    "rosters/broken_by_class",
    "rosters/never_shuffled",
    "parrots/half_is_dropped_twice",
    "twins/broken_slope_of_a_root",
    "twins/some_are_the_same",
    "calls/counts_up_to_hundred",
    "grades/above_each_edge",
    "gauges/likelihood_of_a_normal",
    "kilns/one_step_of_four",
    "sparks/broken_one_of_thirty",
)
PROGRAMS = {name: program for name, program in WRITTEN.items() if name not in DROPPED}
