"""The fourth unseen set: its author knew neither the rules nor the doctor's results; frozen before the doctor was run.

Programs were left out before the doctor was run, if they were not what they declare to be, or if there was no time to
check them.
"""

from benchmarks.stranger_programs.fourth import records, series, worlds  # noqa: F401 - they register programs
from benchmarks.stranger_programs.fourth.kit import PROGRAMS as WRITTEN

DROPPED = (
    "robot_arm/broken_validation_in_degrees",
    "heat_rod/broken_force_with_wrong_sign",
    "molecules/dictionary_of_a_graph",
    "molecules/broken_empty_column_sliced",
    "molecules/broken_energies_in_raw_units",
    "hetero_noise/broken_column_against_row",
    "hetero_noise/broken_spread_may_be_negative",
    "clock_hands/down_to_minus_one",
    "clock_hands/broken_similarity_minimized",
    "clock_hands/broken_rate_of_a_hundred_thousandth",
    "rainfall/broken_linear_head_under_poisson",
    "instance_bags/attention_over_a_bag",
    "instance_bags/broken_optimizer_of_the_last_layer",
    "faces/cosines_with_a_margin",
    "faces/broken_two_identities_never_seen",
    "reviews/broken_sigmoid_twice",
    "activity/gravity_left_in",
    "activity/broken_gravity_in_metres",
)
PROGRAMS = {name: program for name, program in WRITTEN.items() if name not in DROPPED}
