"""The data that throughput reads: batches as `fit` gets them, from copies, so that the user's data stay as they are."""

import copy
import random
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import fresh_copy, is_batched, pairs_of, without_autotune
from recipes.common.types import Data
from recipes.data.packed import free_memory
from recipes.diagnose.speed.input_stages import SHUFFLED, Stage, describe_stages

_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def opened(
    train: "Data | keras.utils.PyDataset", model: keras.Model, batch_size: int
) -> tuple[tuple[Any, ...], dict[str, Any], list[Stage]]:
    """Turn training data into what `fit` takes, and describe its pipeline.

    Args:
        train: As for `fit`: arrays, a `tf.data.Dataset` of batches or of examples, or a `keras.utils.PyDataset`.
        model: The model, whose input shapes tell batches from examples.
        batch_size: Examples per batch, where `train` is not batched.

    Returns:
        `(positional arguments of fit, options of fit, stages)`. Only a `tf.data.Dataset` has stages.
    """
    if isinstance(train, tf.data.Dataset):
        train = pairs_of(train)
        if not is_batched(train.element_spec, model):
            train = train.batch(batch_size)
        return (train,), {"shuffle": False}, describe_stages(train)
    if isinstance(train, keras.utils.PyDataset):
        return (_copied(train),), {}, []
    arrays = tuple(train) if isinstance(train, (tuple, list)) else (train,)
    options = {"batch_size": batch_size}
    if len(arrays) == 3:  # the third positional argument of fit is batch_size
        options["sample_weight"] = arrays[2]
    return arrays[:2], options, []


def _copied(dataset):
    """A copy of a PyDataset: its hooks may shuffle lists and arrays in place, and draw random numbers."""
    try:
        twin = copy.copy(dataset)
    except Exception:
        return dataset
    room = free_memory() / 4
    for name, value in vars(dataset).items():
        if isinstance(value, (list, dict, set, *_GENERATORS)):
            fresh = copy.copy(value) if isinstance(value, (list, dict, set)) else copy.deepcopy(value)
        elif isinstance(value, np.ndarray) and not isinstance(value, np.memmap) and value.nbytes < room:
            room -= value.nbytes
            fresh = value.copy()
        else:
            continue
        object.__setattr__(twin, name, fresh)
    return twin


def first_batch(data: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """The first batch, as a tuple of tensors.

    Args:
        data: Positional arguments of `fit`, as `opened` returns them.
        options: Options of `fit`, as `opened` returns them.

    Raises:
        ValueError: when the data have no batch.
    """
    first, batch = data[0], None
    if isinstance(first, tf.data.Dataset):
        batch = next(iter(without_autotune(fresh_copy(first, SHUFFLED))), None)
    elif isinstance(first, keras.utils.PyDataset):
        batch = first[0] if first.num_batches != 0 else None
    elif len(keras.tree.flatten(first)[0]):
        most, weights = options["batch_size"], options.get("sample_weight")
        parts = data if weights is None else (*data, weights)
        batch = keras.tree.map_structure(lambda array: np.asarray(array[:most]), parts)
    if batch is None:
        raise ValueError(
            "throughput expects data with at least one batch. Received an empty data set. Check its filter."
        )
    batch = batch if isinstance(batch, tuple) else tuple(batch) if isinstance(batch, list) else (batch,)
    return keras.tree.map_structure(tf.convert_to_tensor, batch)


def reading(data: tuple[Any, ...], seconds: float) -> float:
    """Clock time of reading a PyDataset, in seconds per batch; 0 for arrays.

    Args:
        data: Positional arguments of `fit`, as `opened` returns them.
        seconds: Time after which reading stops.
    """
    if not isinstance(data[0], keras.utils.PyDataset):
        return 0.0
    start, count = time.perf_counter(), 0
    for number in range(data[0].num_batches or 1):
        data[0][number]
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return (time.perf_counter() - start) / max(count, 1)


def batches_of(data: tuple[Any, ...], options: dict[str, Any], seconds: float) -> int | None:
    """Batches per epoch; None where the data set is infinite, or where counting takes longer than `seconds`."""
    first = data[0]
    if isinstance(first, keras.utils.PyDataset):
        return first.num_batches
    if not isinstance(first, tf.data.Dataset):
        return -(-len(keras.tree.flatten(first)[0]) // options["batch_size"])
    count = int(first.cardinality())
    if count != tf.data.UNKNOWN_CARDINALITY:
        return count if count >= 0 else None
    start, count = time.perf_counter(), 0
    for _ in without_autotune(fresh_copy(first, SHUFFLED)):
        count += 1
        if time.perf_counter() - start > seconds:
            return None
    return count
