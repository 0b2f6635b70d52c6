"""The registry of the sixth unseen set: the earlier kits, a few more causes, and data pipelines instead of arrays."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.stranger_programs.fifth.kit import hits, r2
from benchmarks.stranger_programs.fourth import kit as fourth
from benchmarks.stranger_programs.kit import CAUSES
from benchmarks.stranger_programs.third import kit as third

# Causes that no earlier set had; the codes are chosen by their meaning. An empty set: no code names it.
NEW = {
    "labels_not_whole": CAUSES["labels not whole"][0] | CAUSES["labels constant"][0],
    "several_ones": CAUSES["several ones under softmax"][0],
    "softmax_twice": CAUSES["softmax twice"][0] | CAUSES["logits as probabilities"][0],
    "classes_unseen": CAUSES["classes validation alone has"][0] | CAUSES["missing shuffle"][0],
    "small_initialization": CAUSES["initial weights too small"][0],
    "weight_decay": CAUSES["decay too strong"][0],
    "log_of_negative": CAUSES["NaN from a layer"][0],
    "batch_of_one": {"batch_too_small"},
    "categorical_of_one_unit": CAUSES["softmax on one unit"][0] | {"label_count", "labels_out_of_range"},
    "no_mask": CAUSES["gradients vanish"][0],
    "mask_inverted": set(),
    "no_second_derivative": set(),
}
third.CODES.update(NEW)


PROGRAMS, healthy, broken = fourth.registry("sixth")


class Fed(third.Run):
    """A run whose data come from a data pipeline."""

    def fit(self, *callbacks):
        options = {k: v for k, v in self.options.items() if k not in ("batch_size", "shuffle", "callbacks")}
        callbacks = [*self.options.get("callbacks", []), *callbacks]
        found = {"validation_data": self.validation, "callbacks": callbacks, **options}
        return self.model.fit(self.train, verbose=0, **found)

    def reported(self):
        return third.finite(self.score(self.model, *self.arrays[1][:2]))


def flowing(kit, run, *, buffer=None, change=None):
    """A `tf.data` pipeline: slices of the arrays, shuffled with a buffer, changed, and batched."""
    size = run.options["batch_size"]
    shown = tf.data.Dataset.from_tensor_slices(run.validation).batch(size)
    rows = tf.data.Dataset.from_tensor_slices(run.train)
    rows = rows.shuffle(buffer or third.count(run.train[1]), seed=kit.seed)
    rows = rows if change is None else rows.map(change)
    return fed(run, rows.batch(size).prefetch(2), shown)


def fed(run, train, validation):
    found = Fed(run.model, train, validation, run.test, run.score, run.options, run.preflight)
    found.arrays = run.train, run.validation
    return found


class Loader(keras.utils.PyDataset):
    """A loader whose rows have a new order in every epoch."""

    def __init__(self, x, y, size, rng, *, apart=False):
        super().__init__()
        self.x, self.y, self.size, self.rng, self.apart = x, y, size, rng, apart
        self.on_epoch_end()

    def __len__(self):
        return int(np.ceil(len(self.y) / self.size))

    def __getitem__(self, index):
        place = slice(index * self.size, (index + 1) * self.size)
        rows = self.order[place]
        return self.x[rows], self.y[place] if self.apart else self.y[rows]

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.y))


def balanced(model, x, y):
    """The mean recall of both classes, rescaled so that one half is 0."""
    found, y = third.predicted(model, x), np.ravel(y) > 0.5
    if not np.isfinite(found).all():
        return -1.0
    right = (np.ravel(found) > 0.5) == y
    return right[y].mean() + right[~y].mean() - 1


def overlap(model, x, y):
    """F1 score over all labels."""
    found = third.predicted(model, x) > 0.5
    return 2 * (found & (y > 0.5)).sum() / max(found.sum() + (y > 0.5).sum(), 1)


__all__ = ["PROGRAMS", "Loader", "balanced", "broken", "fed", "flowing", "healthy", "hits", "overlap", "r2"]
