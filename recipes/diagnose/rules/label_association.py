"""Whether labels belong to their inputs, judged by nearest neighbors and by single columns."""

import math
from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.output_task import Head, Task, labels_of
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.rules.input_facts import SOME, as_rows, first_rows
from recipes.diagnose.rules.label_forms import by_position, class_numbers, flattened

_MOST_TARGETS = 32  # numbers in the target of one example
_MOST_WORDS = 5000  # distinct token ids


def association(labels: np.ndarray, numbers: list[np.ndarray]) -> dict[str, float]:
    """As `neighbor_agreement` and `column_association`, for numeric targets: by the correlation of ranks.

    Args:
        labels: `(n, ...)`, numbers.
        numbers: Inputs of each batch.

    Returns:
        dict with "target_association" (as `column_association`), "target_agreement" (correlation of a target's rank
        with that of the nearest example) and "target_error" (standard error of a correlation). Empty where too little
        is known.
    """
    flat = flattened(labels)
    columns = flat[:, None] if flat.ndim == 1 else flat
    if columns.shape[1] > _MOST_TARGETS or flat.dtype.kind not in "biuf" or not np.isfinite(flat).all():
        return {}
    some = first_rows(numbers, SOME)
    targets = columns[: len(some)].astype("float64")
    good = np.isfinite(some).all(axis=1)
    some, targets = some[good], targets[good]
    targets = targets[:, targets.std(axis=0) > 0]
    if len(some) < 100 or not targets.shape[1]:
        return {}
    # With ranks, the long tail of a distribution does not dominate.
    ranks = np.argsort(np.argsort(targets, axis=0, kind="stable"), axis=0).astype("float64")
    strength = _strongest(some, list(ranks.T))
    nearest = _nearest(some)
    near = [np.corrcoef(column, column[nearest])[0, 1] for column in ranks.T if column[nearest].std() > 0]
    return {
        "target_association": strength,
        "target_agreement": float(np.mean(near)) if near else 0.0,
        "target_error": 1 / math.sqrt(len(some)),
    }


def association_by_place(
    labels: np.ndarray, places: int, task: Task, numbers: list[np.ndarray]
) -> dict[str, Any]:
    """As `neighbor_agreement` and `column_association`, for examples with a class at each of their positions.

    Args:
        labels: `(n, ...)`.
        places: Number of positions of one example.
        task: What the output is for.
        numbers: Inputs of each batch.

    Returns:
        dict with "column_association" and the facts of `neighbor_agreement`; empty where too little is known.
    """
    some = first_rows(numbers, SOME)
    flat = class_numbers(by_position(labels[: len(some)], task), task)
    if flat is None or len(labels) < len(some) or not np.isfinite(some).all() or len(some) < 100:
        return {}
    classes = flat.reshape(len(some), places)
    wanted = []
    for place in np.unique(np.linspace(0, places - 1, 8).astype(int)):
        values, counts = np.unique(classes[:, place], return_counts=True)
        if len(values) > 1:
            wanted.append(classes[:, place] == values[counts.argmax()])
    if not wanted:
        return {}
    strength = _strongest(some, wanted)
    alike = np.mean(classes[_nearest(some)] == classes, axis=1)
    shares = np.stack([np.mean(classes == value, axis=0) for value in np.unique(classes)])
    return {
        "column_association": strength,
        "neighbor_agreement": float(alike.mean()),
        "neighbor_chance": float(np.square(shares).sum(axis=0).mean()),
        "neighbor_error": max(float(alike.std()), 1e-6) / math.sqrt(len(some)),
        "neighbor_examples": len(some),
    }


def of_all_inputs(sample: Sample, numbers: list[np.ndarray]) -> list[np.ndarray]:
    """The inputs of each batch as rows, with several inputs side by side.

    Args:
        sample: The batches that were read.
        numbers: The first input of each batch, returned as it is where others are not numbers or there are none.

    Returns:
        A list with one array per batch.
    """
    leaves = [keras.tree.flatten(batch[0]) for batch in sample.batches]
    if len(leaves[0]) == 1 or any(part.dtype.kind not in "biuf" for part in leaves[0]):
        return numbers
    return [np.concatenate([as_rows(part) for part in parts], axis=1) for parts in leaves]


def column_association(numbers: np.ndarray, labels: np.ndarray) -> float:
    """The largest correlation of a column with a class, in standard errors above the largest one expected by chance.

    Above 0, labels belong to their inputs, even where noise hides that from nearest neighbors. By chance, the
    correlation of a column with "is of this class" has a standard deviation of 1 / sqrt(n). The largest of m such
    correlations is about sqrt(2 ln m) times that.

    Args:
        numbers: `(n, columns)`, float32.
        labels: Class numbers, `(n,)`.
    """
    good = np.isfinite(numbers).all(axis=1)
    numbers, labels = (numbers, labels) if good.all() else (numbers[good], labels[good])
    if len(numbers) < 20:
        return 0.0
    values, counts = np.unique(labels, return_counts=True)
    return _strongest(numbers, [labels == value for value in values[np.argsort(-counts)][:20]])


def _strongest(numbers, wanted):
    """The largest correlation of a column with one of `wanted`, in standard errors above that expected by chance."""
    centered = numbers - numbers.mean(axis=0)
    size = np.sqrt(np.einsum("ij,ij->j", centered, centered))
    varying = size > 1e-6 * max(size.max(), 1e-30)
    best = 0.0
    for one in wanted:
        apart = one - np.mean(one)
        along = np.abs(apart.astype("float32") @ centered)[varying]
        spread = max(float(np.sqrt(np.sum(np.square(apart)))), 1e-30)
        best = max(best, float((along / (size[varying] * spread)).max(initial=0.0)))
    tried = max(2, int(varying.sum()) * len(wanted))
    return best * math.sqrt(len(numbers)) - math.sqrt(2 * math.log(tried))


def _nearest(numbers):
    """The index of the nearest other row, after standardizing columns. Changes `numbers` in place, to save memory."""
    numbers -= numbers.mean(axis=0)
    scale = np.sqrt(np.einsum("ij,ij->j", numbers, numbers) / len(numbers))
    numbers /= np.where(scale > 1e-6 * max(scale.max(), 1e-30), scale, 1)
    squares = np.einsum("ij,ij->i", numbers, numbers)
    distances = squares[:, None] + squares[None] - 2 * (numbers @ numbers.T)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def neighbor_agreement(numbers: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How often the nearest other example has the same label, and how often a random one would.

    Args:
        numbers: `(n, columns)`, float32. Standardized in place, to save memory.
        labels: Class numbers, `(n,)`.

    Returns:
        dict with "neighbor_agreement" and "neighbor_chance", both in [0, 1], "neighbor_error" (standard error of the
        agreement by chance) and "neighbor_examples"; empty for fewer than 20 examples.
    """
    good = np.isfinite(numbers).all(axis=1)
    if not good.all():
        numbers, labels = numbers[good], labels[good]
    if len(numbers) < 20:
        return {}
    return _agreement(_nearest(numbers), labels)


def _agreement(nearest, labels):
    agreement = np.mean(labels[nearest] == labels)
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    chance = float(np.sum(np.square(shares)))
    error = np.sqrt(max(chance * (1 - chance), 1e-12) / len(labels))
    return {
        "neighbor_agreement": float(agreement),
        "neighbor_chance": chance,
        "neighbor_error": float(error),
        "neighbor_examples": len(labels),
    }


def words_agreement(ids: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """As `neighbor_agreement`, for token ids: the nearest text is the one that shares most words, in any order.

    Texts are compared by the cosine of their token counts, weighted by tf-idf (Salton & Buckley 1988,
    https://doi.org/10.1016/0306-4573(88)90021-0). So padding, which every text has, counts for nothing.

    Args:
        ids: Whole numbers, `(n, tokens)`.
        labels: Class numbers, `(n,)`.

    Returns:
        As `neighbor_agreement`; empty where there are more than 5,000 distinct ids.
    """
    words, places = np.unique(ids, return_inverse=True)
    if len(words) > _MOST_WORDS or len(ids) < 20:
        return {}
    counts = np.zeros((len(ids), len(words)), "float32")
    np.add.at(counts, (np.arange(len(ids))[:, None], places.reshape(len(ids), -1)), 1)
    weighted = np.log1p(counts) * np.log(len(ids) / (counts > 0).sum(axis=0))
    size = np.sqrt(np.einsum("ij,ij->i", weighted, weighted))
    weighted /= np.where(size > 0, size, 1)[:, None]
    alike = weighted @ weighted.T
    np.fill_diagonal(alike, -np.inf)
    return _agreement(alike.argmax(axis=1), labels)


def order_of(labels: np.ndarray) -> dict[str, float]:
    """Correlation of each target with that of the next example, in the order of the data.

    Args:
        labels: `(n, ...)`, one number per example.

    Returns:
        `{"target_next"}`; empty where an example has several numbers, or where there are fewer than 100 examples.
    """
    flat = labels.reshape(len(labels), -1)[:, 0].astype("float64")
    if flat.shape[0] != labels.size or len(flat) < 100 or not np.isfinite(flat).all() or not flat.std() > 0:
        return {}
    return {"target_next": float(np.corrcoef(flat[1:], flat[:-1])[0, 1])}


def belongs(sample: Sample, head: Head, number: int, numbers: list[np.ndarray]) -> dict[str, Any]:
    """How strongly the labels of one of several outputs depend on the inputs.

    Args:
        sample: The batches that were read.
        head: The output.
        number: Position of the output among all outputs, from 0.
        numbers: Inputs of each batch.

    Returns:
        For classes the facts of `column_association` and `neighbor_agreement`, for numbers those of `association`.
    """
    labels = np.concatenate([labels_of(head, batch[1], number) for batch in sample.batches])
    inputs = of_all_inputs(sample, numbers)
    if not head.task.classification:
        return association(labels, inputs)
    numbered = class_numbers(flattened(labels), head.task)
    if numbered is None or numbered.ndim != 1 or len(np.unique(numbered)) < 2:
        return {}
    some = first_rows(inputs, SOME)
    strength = column_association(some, numbered[: len(some)])
    return {"column_association": strength, **neighbor_agreement(some, numbered[: len(some)])}
