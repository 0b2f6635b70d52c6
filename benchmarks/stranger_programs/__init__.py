"""Programs of strangers: small Keras programs that train well, and small programs with a known fault.

They were written before the doctor's rules or without knowing them, from what people ask and publish (questions on
programming sites, example galleries, toy experiments of papers), and are not changed when a rule changes. A program
that turns out not to be what it declares to be may be taken out; it is then listed in `WITHDRAWN`, with the reason.
"""

from benchmarks.stranger_programs import (  # noqa: F401 - they register programs
    asked,
    asked_steps,
    fifth,
    fourth,
    own_steps,
    pictures,
    sequences,
    seventh,
    sixth,
    tables,
    third,
)
from benchmarks.stranger_programs.kit import CAUSES as CAUSES
from benchmarks.stranger_programs.kit import PROGRAMS as PROGRAMS
from benchmarks.stranger_programs.kit import Kit as Kit
from benchmarks.stranger_programs.kit import Program as Program
from benchmarks.stranger_programs.kit import Run as Run
from benchmarks.stranger_programs.kit import unseen_families as unseen_families

PROGRAMS.update(third.PROGRAMS)
PROGRAMS.update(fourth.PROGRAMS)
PROGRAMS.update(fifth.PROGRAMS)
PROGRAMS.update(sixth.PROGRAMS)
PROGRAMS.update(seventh.PROGRAMS)

# Written from public questions, after the first unseen third had been looked at and before the next rule changed.
UNSEEN_2 = (
    "denoising",
    "density",
    "equation",
    "few_steps",
    "fine_tuning",
    "graphs",
    "keypoints",
    "loaders",
    "marks",
    "next_character",
    "policy",
    "powers",
    "ranking",
    "rare_events",
    "recommender",
    "seq2seq",
    "spectra",
    "threshold",
    "two_inputs",
)
# Written by somebody who knew neither the rules nor the first two sets, and frozen before the doctor was run on it.
UNSEEN_3 = tuple(sorted({program.family for program in third.PROGRAMS.values()}))
# A second such set: its author knew neither the rules nor the earlier sets; it was frozen before the doctor was run.
UNSEEN_4 = tuple(sorted({program.family for program in fourth.PROGRAMS.values()}))
# A third such set, by another author.
UNSEEN_5 = tuple(sorted({program.family for program in fifth.PROGRAMS.values()}))
# A fourth such set, by another author.
UNSEEN_6 = tuple(sorted({program.family for program in sixth.PROGRAMS.values()}))
# A fifth such set, by another author.
UNSEEN_7 = tuple(sorted({program.family for program in seventh.PROGRAMS.values()}))
WITHDRAWN: dict[str, str] = {}
# A third of the families, drawn by `unseen_families` and not looked at while rules are changed.
UNSEEN = (
    "accumulation",
    "class_weights",
    "contrastive",
    "counts",
    "dense",
    "mixup",
    "multi_output",
    "noise_floor",
    "one_epoch",
    "own_layers",
    "quantiles",
    "regression_offset",
    "residual_plain",
    "transformer",
)
