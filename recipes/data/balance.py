"""Draw classes evenly, whatever their frequencies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.validation import is_one_of

_BALANCES = ("classes", "sqrt")


def check_balance(balance: Any) -> None:
    """Raise a `ValueError` for another `balance` than None, "classes" or "sqrt"."""
    if balance is not None and not is_one_of(balance, _BALANCES):
        raise ValueError(
            f"data.load expects balance to be None, 'classes' or 'sqrt'. Received balance={balance!r}. "
            "'classes' draws all classes equally often, 'sqrt' by the square root of their number of images."
        )


def balanced_places(labels: np.ndarray, balance: str, seed: int) -> Callable[..., tf.data.Dataset]:
    """How places in an epoch become numbers of examples, so that classes are drawn evenly.

    An epoch has as many examples as there are images. Each class gets its share of the places (largest remainders
    first); which image of the class stands at a place is drawn, with replacement, from the position of the place in the
    epoch. So an order of the places that is new in every epoch draws new images in every epoch, and the same order
    draws the same images, however often and wherever it is read.

    Args:
        labels: Class numbers, int64 `(n,)`.
        balance: "classes": equal shares; "sqrt": shares by the square root of the classes' numbers of images.
        seed: Integer.

    Returns:
        function `(tf.data.Dataset of places in 0..n-1, first=0) -> tf.data.Dataset of numbers in 0..n-1`, where `first`
        is how many places of the epoch were left out before.
    """
    counts = np.bincount(labels)
    there = np.flatnonzero(counts)
    wanted = np.ones(len(there)) if balance == "classes" else np.sqrt(counts[there])
    exact = len(labels) * wanted / wanted.sum()
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: len(labels) - quota.sum()]] += 1
    classes = np.random.default_rng(seed).permutation(np.repeat(there, quota))
    sorted_rows = tf.constant(np.argsort(labels, kind="stable"))
    first = tf.constant(np.cumsum(np.concatenate([[0], counts[:-1]])))
    counts, classes = tf.constant(counts.astype(np.int64)), tf.constant(classes)

    def draw(step, place):
        wanted = tf.gather(classes, place)
        seeds = tf.stack([tf.cast(place, tf.int64) * 2**31 + step, tf.constant(seed, tf.int64)])
        share = tf.random.stateless_uniform((), seeds, dtype=tf.float64)
        among = tf.gather(counts, wanted)
        within = tf.minimum(tf.cast(share * tf.cast(among, tf.float64), tf.int64), among - 1)
        return tf.gather(sorted_rows, tf.gather(first, wanted) + within)

    return lambda places, first=0: places.enumerate(start=first).map(draw)
