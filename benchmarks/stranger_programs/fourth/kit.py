"""The registry of the fourth unseen set: the kit of the third set, and a few more causes."""

import keras
import numpy as np

from benchmarks.stranger_programs.third import kit as third

# Causes that the third set did not have; the codes are chosen by their meaning. An empty set: no code names it.
NEW = {
    "gradient_stopped": third.CODES["frozen"] | third.CODES["vanishing"],
    "wrong_variables": third.CODES["frozen"],
    "class_missing": third.CODES["validation_lacks_class"],
    "broadcast_targets": set(),
    "end_not_marked": set(),
}
third.CODES.update(NEW)


class Stepping(keras.Model):
    """A model with a custom training step, which reports its loss by its own mean."""

    @property
    def metrics(self):
        return [self.tracker]

    def told(self, loss):
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def registry(which):
    """`(programs, healthy, broken)` for a set, to register its programs; `which` is in the names of their twins."""
    programs = {}

    class Program(third.Program):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.twin = self.twin.replace("third", which, 1)

    def add(*args, **options):
        program = Program(*args, **options)
        programs[program.name] = program

    def healthy(family, name, make, doc, *, enough=0.25, also=None, **variant):
        add(family, name, make, doc, enough=enough, also=also, variant=variant)

    def broken(family, name, make, cause, doc, fault, *, also=None, belief=False, curable=True, **variant):
        options = {"cause": cause, "fault": fault, "also": also, "belief": belief, "curable": curable}
        add(family, f"broken_{name}", make, doc, variant=variant, **options)

    return programs, healthy, broken


PROGRAMS, healthy, broken = registry("fourth")


def surprise(found, y):
    """The gain in log-likelihood of labels 0 and 1 over a constant guess of their share, relative to the latter."""
    found, share = np.clip(np.ravel(found), 1e-4, 1 - 1e-4), np.mean(y)
    y = np.ravel(y)
    known = -np.mean(y * np.log(found) + (1 - y) * np.log(1 - found))
    return 1 - known / -(share * np.log(share) + (1 - share) * np.log(1 - share))
