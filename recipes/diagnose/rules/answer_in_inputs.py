"""Whether what a model has to answer stands among its inputs."""

import keras
import numpy as np

from recipes.diagnose.checks.sample import Sample

_FEWEST = 50  # examples; fewer may agree by chance
_MOST = 1000
_EXACT = 1e-6  # of the largest target
_FEWEST_COLUMNS = 5  # of a table, for one that tells all to be odd
_NEARLY_ALL = 0.95  # of the variance of a column, between classes


def answer_in_inputs(sample: Sample, classes: bool) -> str | None:
    """Where the answer stands among the inputs of every example that is looked at, in words, or None.

    That is a whole input that equals the labels, of a model with several inputs, or of one whose weights leave out
    labels: a network that only has to copy is given its task so. And one column, of measured numbers, that has one
    value for each class, or is the single target; of sequences only in their last step, as a task
    to remember has its answer at the first. Of a table also the one column whose values lie apart for all classes.

    Args:
        sample: What was read; inputs and labels are arrays of one batch axis each.
        classes: Whether labels are classes.
    """
    inputs = _joined([batch[0] for batch in sample.batches])
    labels = _joined([batch[1] for batch in sample.batches])
    if (
        inputs is None
        or labels is None
        or len(labels) != 1
        or not classes
        and labels[0].dtype.kind not in "iuf"
    ):
        return None
    labels = labels[0]
    if len(labels) < _FEWEST or any(len(part) != len(labels) for part in inputs):
        return None
    for number, part in enumerate(inputs):
        told = len(inputs) > 1 or _some_weigh_nothing(sample)
        given = part.dtype.kind != "f" and part[0].size == 1  # on purpose, as to a loss that needs the class
        if told and not given and _same(part, labels):
            return f"input {number + 1} of {len(inputs)} is the labels, number for number"
    if any(part.dtype.kind != "f" for part in inputs):
        return None  # numbers of words or things
    one_each = _one_each(labels, classes)
    if one_each is None:
        return None
    for number, part in enumerate(inputs):
        rows = part[:, -1] if part.ndim == 3 else part
        rows = rows.reshape(len(rows), -1).astype("float64")
        series = part.ndim == 3 and part.shape[1] > _FEWEST_COLUMNS and not classes
        if not np.isfinite(rows).all() or (rows.shape[1] + len(inputs) < 3 and not series):
            continue  # a single number that tells the answer is the task
        column = _class_column(rows, one_each) if classes else _same_column(rows, one_each)
        told = "tells the answer by itself"
        if column is None and classes and part.ndim == 2:
            column, told = _column_apart(rows, one_each), "sets all classes apart, and no other does"
        if column is not None:
            where = "of the last step " if part.ndim == 3 else ""
            which = f" of input {number + 1}" if len(inputs) > 1 else ""
            return f"column {column} {where}(counted from 0){which} {told}"
    return None


def _joined(batches):
    """The leaves of all batches joined to some examples, or None where they are not arrays of numbers."""
    leaves = [keras.tree.flatten(batch) for batch in batches]
    good = all(
        isinstance(part, np.ndarray) and part.ndim and part.dtype.kind in "biuf"
        for one in leaves
        for part in one
    )
    shapes = {tuple(part.shape[1:] for part in one) for one in leaves}
    if not good or len(shapes) != 1:
        return None
    joined = []
    for parts in zip(*leaves, strict=True):
        some = []
        for part in parts:  # no more is copied than is looked at
            some.append(part[: _MOST - sum(map(len, some))])
        joined.append(np.concatenate(some))
    return joined


def _some_weigh_nothing(sample):
    weights = [batch[2] for batch in sample.batches]
    return all(isinstance(part, np.ndarray) and part.size for part in weights) and any(
        (part == 0).any() for part in weights
    )


def _same(part, labels):
    if part.size != labels.size or len(np.unique(labels)) < 2:
        return False
    return bool(np.array_equal(part.reshape(len(part), -1), labels.reshape(len(labels), -1)))


def _one_each(labels, classes):
    """One number per example, or None where there are several."""
    rows = labels.reshape(len(labels), -1)
    if rows.shape[1] > 1 and classes and ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all():
        return rows.argmax(axis=1)
    return rows[:, 0] if rows.shape[1] == 1 else None


def _class_column(rows, labels):
    """The column with one value for each class, and another for each."""
    kinds = np.unique(labels)
    if not 2 <= len(kinds) <= len(labels) // 4:
        return None
    still, values = np.ones(rows.shape[1], bool), []
    for kind in kinds:
        of_it = rows[labels == kind]
        still &= np.ptp(of_it, axis=0) == 0
        values.append(of_it[0])
    values = np.sort(np.stack(values), axis=0)
    still &= (np.diff(values, axis=0) > 0).all(axis=0)
    return int(np.argmax(still)) if still.any() else None


def _column_apart(rows, labels):
    """The one column of a table in which classes stand apart with a gap, where all others tell far less.

    So looks what was filled in because of the answer: a date of closing, the number of a refund.
    """
    kinds, counts = np.unique(labels, return_counts=True)
    if rows.shape[1] < _FEWEST_COLUMNS or not 2 <= len(kinds) <= 20 or counts.min() < 5:
        return None
    spread = rows.std(axis=0)
    parts = [rows[labels == kind] for kind in kinds]
    within = sum(len(part) * part.var(axis=0) for part in parts) / len(rows)
    told = 1 - np.divide(within, spread**2, out=np.ones_like(spread), where=spread > 0)
    best = int(np.argmax(told))
    if np.delete(told, best).max() > 0.5:
        return None
    # Empty, or one other value, in the whole of a class, and never in another.
    still = [part[:, best] for part in parts if np.ptp(part[:, best]) == 0]
    filled = len(still) == len(parts) - 1
    if told[best] < (0.5 if filled else _NEARLY_ALL):
        return None
    ends = sorted((part[:, best].min(), part[:, best].max()) for part in parts)
    apart = all(high < low for (_, high), (low, _) in zip(ends, ends[1:], strict=False))
    return best if apart else None


def _same_column(rows, targets):
    """The column that is the target. One that lies on a line with it may well be what there is to learn."""
    if len(np.unique(targets)) < _FEWEST // 5:
        return None  # so few values agree for other reasons
    same = np.abs(rows - targets[:, None].astype("float64")) <= _EXACT * max(np.abs(targets).max(), 1e-12)
    found = same.all(axis=0)
    return int(np.argmax(found)) if found.any() else None
