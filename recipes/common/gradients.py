"""The gradient of a function of one array, on the backend that Keras runs on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def value_and_gradient(function: Callable[[Any], Any], point: np.ndarray) -> tuple[float, np.ndarray]:
    """The value of a function and its gradient.

    Args:
        function: A function from a float32 tensor to a scalar tensor, made of Keras operations.
        point: Where the gradient is taken, an array of any shape.

    Returns:
        `(value, gradient)`, the gradient float64 of the shape of `point`; zeros where the value does not depend on it.

    Raises:
        RuntimeError: on another backend than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    point = np.asarray(point, "float32")
    if backend == "jax":
        import jax  # noqa: PLC0415 - an optional library

        value, gradient = jax.value_and_grad(function)(point)
    elif backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 - the other backends do without

        start = tf.constant(point)
        with tf.GradientTape() as tape:
            tape.watch(start)
            value = function(start)
        gradient = tape.gradient(value, start)
    else:
        raise RuntimeError(
            f"The gradient expects the TensorFlow or JAX backend. Received {backend!r}. Set KERAS_BACKEND=tensorflow "
            "before importing keras."
        )
    return float(value), np.zeros_like(point, "float64") if gradient is None else np.asarray(
        gradient, "float64"
    )
