"""The registry of the seventh unseen set: the earlier kits, a few more causes, and short ways to write a program."""

import keras
import numpy as np

from benchmarks.stranger_programs.fourth import kit as fourth
from benchmarks.stranger_programs.kit import CAUSES
from benchmarks.stranger_programs.sixth.kit import Loader, balanced, fed, flowing, hits, overlap, r2
from benchmarks.stranger_programs.third import kit as third

# Causes that no earlier set had; the codes are chosen by their meaning. An empty set: no code names it.
NEW = {
    "quantity_under_cross_entropy": CAUSES["cross-entropy for quantities"][0]
    | CAUSES["logits as probabilities"][0],
    "probabilities_as_logits": CAUSES["softmax twice"][0] | CAUSES["logits as probabilities"][0],
    "negated_inputs": CAUSES["units dead"][0],
    "encoded_apart": CAUSES["validation preprocessed otherwise"][0]
    | CAUSES["classes validation alone has"][0]
    | CAUSES["labels shuffled"][0],
    "norm_lags": CAUSES["batch norm lags"][0],
}
third.CODES.update(NEW)


PROGRAMS, healthy, broken = fourth.registry("seventh")


def stack(shape, *parts, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def faulty_parts(kit, pieces):
    """The parts, with the labels of training and validation changed by the fault; held-out labels stay true."""
    train, validation, test = pieces
    return [(train[0], kit.targets(train[1])), (validation[0], kit.targets(validation[1])), test]


def spread(x):
    """Standardize an array by its mean and standard deviation."""
    return ((x - x.mean()) / x.std()).astype("float32")


def hits_of_rows(model, x, y):
    """`hits` for labels that are rows of probabilities."""
    return hits(model, x, np.argmax(y, -1))


def surprise(model, x, y):
    return fourth.surprise(third.predicted(model, x), y)


__all__ = [
    "PROGRAMS",
    "Loader",
    "balanced",
    "broken",
    "faulty_parts",
    "fed",
    "flowing",
    "healthy",
    "hits",
    "hits_of_rows",
    "overlap",
    "r2",
    "spread",
    "stack",
    "surprise",
]
