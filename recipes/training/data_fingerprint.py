"""Whether two runs were given the same data: a hash of it, where two readings of it agree."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import fresh_copy, identity_of, without_autotune
from recipes.common.types import Data

NOT_FIXED = "order not fixed"
_SECONDS = 1.0  # of each of two readings
_MOST_SECONDS = 20.0  # of reading again what an earlier run has read


def fingerprint(data: Data | None, before: Any = None) -> dict[str, Any] | None:
    """Describe data so that another run can tell whether its data is the same.

    Arrays are hashed whole. Files of `data.load` are told apart by their names below the folder, sizes and labels, and
    none is read. Any other data set is hashed over the examples that one second of reading gives. They are read twice:
    when the two readings differ, as they do for a data set that reshuffles, it is recorded as "order not fixed".

    Args:
        data: As in `recipes.train`.
        before: The fingerprint of an earlier run; as many examples are read as in that run.

    Returns:
        A dict that JSON can hold; None when `data` is None.
    """
    if data is None:
        return None
    if isinstance(data, tf.data.Dataset):
        files = identity_of(data)
        if files is not None:
            return files
        known = before if isinstance(before, Mapping) else {}
        return _of_dataset(fresh_copy(data), known)
    arrays = [np.asarray(array) for array in data]
    return {
        "kind": "arrays",
        "shapes": [list(array.shape) for array in arrays],
        "dtypes": [str(array.dtype) for array in arrays],
        "sha256": _hash(arrays),
    }


def _of_dataset(dataset, before):
    about = {
        "kind": "tf.data",
        "elements": str(dataset.element_spec),
        "cardinality": int(dataset.cardinality()),
    }
    wanted = before.get("read") if isinstance(before.get("read"), int) else None
    first, count = _read(dataset, wanted)
    if wanted is not None and count < wanted and count != about["cardinality"]:
        return {**about, "read": wanted, "sha256": before.get("sha256")}  # too slow to read as much again
    second, again = _read(dataset, count)
    return {**about, "read": count, "sha256": first if (first, count) == (second, again) else NOT_FIXED}


def _read(dataset, count):
    """A hash over the first examples, and their number: `count`, or as many as one second gives."""
    digest, seen, start = hashlib.sha256(), 0, time.monotonic()
    limit = _SECONDS if count is None else _MOST_SECONDS
    for element in without_autotune(dataset if count is None else dataset.take(count)):
        for part in tf.nest.flatten(element):
            part = part.to_tensor() if isinstance(part, tf.RaggedTensor) else part
            _add(digest, part.numpy() if hasattr(part, "numpy") else part)
        seen += 1
        if time.monotonic() - start > limit:
            break
    return digest.hexdigest(), seen


def _hash(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        _add(digest, array)
    return digest.hexdigest()


def _add(digest, array):
    array = np.asarray(array)
    digest.update(f"{array.dtype} {array.shape} ".encode())
    if array.dtype.hasobject:  # strings
        digest.update(repr(array.tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
