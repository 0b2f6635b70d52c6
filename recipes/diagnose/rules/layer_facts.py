"""Facts about the layers of a model: kernels, penalties and rates, as plain values for the rules."""

import math

import keras
import numpy as np

from recipes.common.traversal import named_operations


def describe_layers(model: keras.Model) -> list[dict]:
    """Facts about every layer that has weights or a rate such as that of dropout, in forward order if it is known.

    Args:
        model: A built `keras.Model`.

    Returns:
        A list with one dict of plain values per layer.
    """
    return [_describe_layer(name, layer) for name, layer in named_operations(model) if _counts(layer)]


def _counts(layer):
    own = getattr(layer, "_trainable_variables", None) or getattr(layer, "_non_trainable_variables", None)
    return bool(own) or isinstance(getattr(layer, "rate", None), (int, float))


def _describe_layer(name, layer):
    variables = getattr(layer, "_trainable_variables", ())
    penalties = [v.regularizer(v) for v in variables if getattr(v, "regularizer", None) is not None]
    strengths = [
        float(getattr(v.regularizer, name, 0) or 0)
        for v in variables
        for name in ("l1", "l2")
        if getattr(v, "regularizer", None) is not None
    ]
    facts = {
        "name": name,
        "layer_class": type(layer).__name__,
        "trainable": bool(getattr(layer, "trainable", True)),
        "rate": float(layer.rate) if isinstance(getattr(layer, "rate", None), (int, float)) else None,
        "momentum": None,
        "normalizes_vectors": False,
        "settled": False,
        "penalty": float(sum(float(penalty) for penalty in penalties)),
        "penalty_rate": max(strengths, default=0.0),
        "kernel": None,
    }
    if hasattr(layer, "moving_mean") and hasattr(layer, "momentum"):
        facts["momentum"] = float(layer.momentum)
        facts["settled"] = bool(np.any(keras.ops.convert_to_numpy(layer.moving_mean)))
        # Inputs are `(batch, features)`, so that mean and variance come from the batch axis alone.
        facts["normalizes_vectors"] = (
            facts["trainable"] and getattr(getattr(layer, "input_spec", None), "ndim", None) == 2
        )
    facts["softmax_over_one"] = _over_one(layer)
    table = getattr(layer, "embeddings", None)
    if table is not None:
        facts["table_zero"] = not keras.ops.convert_to_numpy(keras.ops.any(table != 0))
    loop = getattr(layer, "recurrent_kernel", None)
    if loop is not None and len(loop.shape) == 2:
        values = np.asarray(keras.ops.convert_to_numpy(loop), "float32")
        # The root mean square of the singular values: the factor by which a step multiplies the state.
        facts["loop_gain"] = float(np.linalg.norm(values) / math.sqrt(min(values.shape)))
    kernel = getattr(layer, "kernel", None)
    if kernel is None and table is None:
        own = [v for v in variables if len(v.shape) == 2]
        facts["zero_matrices"] = sum(not keras.ops.convert_to_numpy(keras.ops.any(v != 0)) for v in own)
    if kernel is None or len(kernel.shape) < 2:
        return facts
    values = np.asarray(keras.ops.convert_to_numpy(kernel), "float32")
    flat = values.reshape(-1, values.shape[-1])
    facts["kernel"] = {
        "zero": bool(not values.any()),
        "symmetric": bool(flat.shape[1] > 1 and np.all(flat == flat[:, :1])),
        "std": float(values.std()),
        "fan_in": int(flat.shape[0]),
        "inputs": _inputs_of_a_unit(layer, values.shape),
        "units": int(flat.shape[1]),
        "size": int(values.size),
        "fresh": _fresh(layer, values),
    }
    return facts


def _inputs_of_a_unit(layer, shape):
    """How many numbers a unit adds up; a depthwise convolution adds up one channel, not all that its kernel holds."""
    depthwise = isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D))
    return math.prod(shape[:-2] if depthwise else shape[:-1])


def _over_one(layer):
    """Whether the layer takes a softmax over an axis that holds one number."""
    if isinstance(layer, keras.layers.Softmax):
        axis = layer.axis
    elif getattr(layer, "activation", None) is keras.activations.softmax:
        axis = -1
    else:
        return False
    shape = (
        getattr(getattr(layer, "output", None), "shape", None)
        if getattr(layer, "_inbound_nodes", ())
        else None
    )
    return isinstance(axis, int) and shape is not None and len(shape) > 1 and shape[axis] == 1


def _fresh(layer, values):
    """Whether the kernel still has exactly the values that its own initializer gave it.

    Keras' initializers draw their seed when they are created, so calling the same one again gives the same numbers.
    """
    initializer = getattr(layer, "kernel_initializer", None)
    if initializer is None or getattr(layer, "_kernel", layer.kernel) is not layer.kernel:
        return False
    try:
        again = initializer(values.shape, dtype=layer.variable_dtype)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return bool(np.array_equal(np.asarray(keras.ops.convert_to_numpy(again), "float32"), values))
