"""Weight penalties for a model that was built without them."""

import keras

from recipes.common.models import set_kernel_regularizer
from recipes.common.traversal import layers_of, own_trainable_variables
from recipes.common.validation import is_number


def add_l1_l2(model: keras.Model, *, l1: float = 0.0, l2: float = 0.0) -> list[str]:
    """Add elastic-net penalties to every kernel of an existing model; biases and normalizations get none.

    `fit` then minimizes `loss + sum over kernels (l1 * |W| + l2 * W^2)`, as if every layer had been made with
    `kernel_regularizer=keras.regularizers.L1L2(l1, l2)`. Call it before `fit`; a compiled model stays compiled.
    Source: Zou & Hastie 2005, equation 3, https://doi.org/10.1111/j.1467-9868.2005.00503.x. The factors are scaled
    as in Keras: the gradient of the penalty is `l1 * sign(W) + 2 * l2 * W`, so a paper's weight decay of 1e-4 is
    `l2=0.5e-4`.

    Args:
        model: A built `keras.Model`. Kernels are the weights named `kernel` or ending in `_kernel`, at any depth of
            nested models.
        l1: Factor of the sum of absolute weights, >= 0.
        l2: Factor of the sum of squared weights, >= 0.

    Returns:
        The paths of the kernels that are now penalized, in the model's order.

    Raises:
        ValueError: when a factor is negative or both are 0, when the model is not built or has no kernel, or when a
            kernel already has a penalty. The model is then unchanged.
    """
    if not is_number(l1) or not is_number(l2) or l1 < 0 or l2 < 0 or l1 == l2 == 0:
        raise ValueError(
            f"add_l1_l2 expects l1 >= 0 and l2 >= 0, at least one of them above 0. Received l1={l1}, l2={l2}. "
            "Start from l2=1e-4."
        )
    layers = layers_of(model, include_self=True)
    owned = [
        (layer, variable)
        for layer in layers
        for variable in own_trainable_variables(layer)
        if variable.name == "kernel" or variable.name.endswith("_kernel")
    ]
    if not owned:
        raise ValueError(
            f"add_l1_l2 expects a built model with kernels. Received {model.name!r}, which has none yet. "
            "Call model.build(input_shape), or the model on one batch, first."
        )
    penalized = [variable.path for _, variable in owned if variable.regularizer is not None]
    if penalized:
        raise ValueError(
            f"add_l1_l2 expects kernels without a penalty. Received a model in which {penalized} have one. "
            "Build those layers without kernel_regularizer."
        )
    for layer, variable in owned:
        variable.regularizer = keras.regularizers.L1L2(l1, l2)
        # The layer's own argument is set too, so that a saved model still has its penalties after loading.
        # (A depthwise convolution calls its weight `kernel` and the argument `depthwise_regularizer`.)
        for name in (variable.name.removesuffix("_kernel"), "depthwise"):
            if hasattr(layer, f"{name}_regularizer"):
                setattr(layer, f"{name}_regularizer", variable.regularizer)
                break
    for layer in layers:
        # Attention layers rebuild their inner layers from this argument when they are loaded.
        if isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
            set_kernel_regularizer(layer, keras.regularizers.L1L2(l1, l2))
    # Functions traced earlier do not include the penalties; fit and evaluate will trace new ones.
    model.train_function = None
    model.test_function = None
    return [variable.path for _, variable in owned]
