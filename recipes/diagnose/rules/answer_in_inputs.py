"""Whether the inputs of a model contain its labels (target leakage)."""

import keras
import numpy as np

from recipes.diagnose.checks.sample import Sample

_FEWEST = 50  # examples; fewer may agree by chance
_MOST = 1000
_EXACT = 1e-6  # tolerance, as a share of the largest absolute target
_FEWEST_COLUMNS = 5  # columns of a table; with fewer, one column that determines the label is no surprise
_NEARLY_ALL = 0.95  # share of a column's variance that lies between the classes


def answer_in_inputs(sample: Sample, classes: bool) -> str | None:
    """Describe where the inputs of all examples that are looked at contain the label.

    Three cases count:

    1. A whole input equals the labels, and the model has several inputs, or sample weights of 0 leave out some labels.
       The network then only has to copy.
    2. One column of measured numbers equals the single target, or has one value for each class. For sequences, only the
       last time step is looked at, since a memory task has its answer in the first one.
    3. In a table, the ranges of values of one column do not overlap between classes, and no other column comes close.

    Args:
        sample: The batches that were read. Inputs and labels are arrays with one batch axis each.
        classes: Whether the labels are classes.

    Returns:
        Half a sentence, such as "column 3 (counted from 0) tells the answer by itself"; None where the inputs do not
        contain the label.
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
        given = part.dtype.kind != "f" and part[0].size == 1  # the input is the class on purpose
        if told and not given and _same(part, labels):
            return f"input {number + 1} of {len(inputs)} is the labels, number for number"
    if any(part.dtype.kind != "f" for part in inputs):
        return None  # token ids or other category numbers
    one_each = _one_each(labels, classes)
    if one_each is None:
        return None
    for number, part in enumerate(inputs):
        rows = part[:, -1] if part.ndim == 3 else part
        rows = rows.reshape(len(rows), -1).astype("float64")
        series = part.ndim == 3 and part.shape[1] > _FEWEST_COLUMNS and not classes
        if not np.isfinite(rows).all() or (rows.shape[1] + len(inputs) < 3 and not series):
            continue  # if the only number tells the answer, that is the task
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
    """Each leaf of the batches, concatenated up to 1,000 examples; None unless all are numeric and of one shape."""
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
        for part in parts:  # copies only the examples that are looked at
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
    """One label per example, one-hot rows as class numbers; None where an example has several labels."""
    rows = labels.reshape(len(labels), -1)
    if rows.shape[1] > 1 and classes and ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all():
        return rows.argmax(axis=1)
    return rows[:, 0] if rows.shape[1] == 1 else None


def _class_column(rows, labels):
    """The first column that is constant within each class and differs between all classes; None if there is none."""
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
    """The one column of a table whose ranges of values do not overlap between classes; None if there is none.

    Every other column must have at most half of its variance between classes. A column that was filled in because of
    the answer looks like this: a closing date, or the number of a refund.
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
    # The column is constant, for example empty, in all classes but one.
    still = [part[:, best] for part in parts if np.ptp(part[:, best]) == 0]
    filled = len(still) == len(parts) - 1
    if told[best] < (0.5 if filled else _NEARLY_ALL):
        return None
    ends = sorted((part[:, best].min(), part[:, best].max()) for part in parts)
    apart = all(high < low for (_, high), (low, _) in zip(ends, ends[1:], strict=False))
    return best if apart else None


def _same_column(rows, targets):
    """The first column that equals the targets; None if there is none.

    A column that is only a linear function of the targets may well be what there is to learn.
    """
    if len(np.unique(targets)) < _FEWEST // 5:
        return None  # with so few distinct values, columns may agree for other reasons
    same = np.abs(rows - targets[:, None].astype("float64")) <= _EXACT * max(np.abs(targets).max(), 1e-12)
    found = same.all(axis=0)
    return int(np.argmax(found)) if found.any() else None
