"""The third unseen set: its author knew neither the rules nor the first two sets; frozen before the doctor was run.

Programs were left out before the doctor was run, if they were not what they declare to be, or if there was no time to
check them.
"""

from benchmarks.stranger_programs.third import generative, more, signals, tables  # noqa: F401 - they register programs
from benchmarks.stranger_programs.third.kit import PROGRAMS as WRITTEN

DROPPED = (
    "heartbeats/broken_softmax_twice",
    "density_map/nearly_all_zero",
    "density_map/hundredfold",
    "density_map/broken_absolute_error_on_rare_dots",
    "density_map/broken_norm_that_never_learns",
    "survival/broken_columns_swapped",
    "survival/broken_dropout_swallows_all",
    "mixture_density/far_below_zero",
    "video/broken_recurrence_explodes",
    "video/broken_clips_in_order",
    "video/broken_directions_mixed_up",
    "pendulum/broken_rate_of_a_millionth",
)
PROGRAMS = {name: program for name, program in WRITTEN.items() if name not in DROPPED}
