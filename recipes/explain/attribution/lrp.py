"""Layer-wise relevance propagation: the score is propagated back through the layers, in proportion to contributions."""

import re
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_number, is_one_of
from recipes.explain.attribution import lrp_rules
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, check_flag, shares

_layers = keras.layers


def _kinds(*names):
    """Keras' layers of these names; `*` stands for the numbers of axes 1, 2 and 3."""
    return tuple(
        getattr(_layers, name.replace("*", number))
        for name in names
        for number in ("123" if "*" in name else " ")
        if hasattr(_layers, name.replace("*", number))
    )


_WEIGHTED = _kinds("Dense", "Conv*D")
# These are linear too, but always follow the epsilon rule.
_LINEAR = (
    *_kinds("BatchNormalization", "Rescaling", "Normalization", "Resizing", "CenterCrop", "UpSampling*D"),
    *_kinds(
        "DepthwiseConv*D", "SeparableConv*D", "Conv*DTranspose", "AveragePooling*D", "GlobalAveragePooling*D"
    ),
)
# Operations of `keras.ops` and Python's operators, and layers of the same name.
_TERMS = ("Add", "Average", "Subtract")
_FACTORS = ("Multiply", "Divide", "TrueDivide")
_AVERAGES = ("Mean", "Sum", "AveragePool")
_MOVES = (
    "Functional",
    "Relu",
    "Reshape",
    "GetItem",
    "ExpandDims",
    "Squeeze",
    "Transpose",
    "Concatenate",
    "Pad",
    "Max",
)
# The ordinary gradient of these layers propagates relevance correctly: they move values, or pass the largest one.
_MOVING = (
    *_kinds(
        "InputLayer",
        "Flatten",
        "Reshape",
        "Permute",
        "Identity",
        "Concatenate",
        "ZeroPadding*D",
        "Cropping*D",
    ),
    *_kinds("Dropout", "SpatialDropout*D", "GaussianNoise", "GaussianDropout", "ActivityRegularization"),
    *_kinds("MaxPooling*D", "GlobalMaxPooling*D", "Activation"),
)
_RECTIFIERS = (_layers.ReLU, _layers.LeakyReLU, _layers.PReLU, _layers.ELU)


@shares(AttributionOptions)
def lrp(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    rule: Literal["epsilon", "alpha_beta", "composite"] = "composite",
    epsilon: float = 1e-6,
    alpha: float = 2.0,
    reduce: Reduce = "sum",
    return_layers: bool = False,
    **options: Unpack[AttributionOptions],
) -> FloatArray | tuple[FloatArray, dict[str, FloatArray]]:
    """LRP: the relevance of each pixel, found by distributing the score from layer to layer among the contributions.

    A unit distributes its relevance among the units below in proportion to their contributions to it. The share of the
    biases is not passed on. Without biases the map adds up to the score.

    Source: Bach et al. 2015, "On Pixel-Wise Explanations", equations 58 (epsilon) and 60 (alpha-beta),
    https://doi.org/10.1371/journal.pone.0130140. The composite is EpsilonPlus of Kohlbrenner et al. 2020, "Towards Best
    Practice in Explaining Neural Network Decisions with LRP", section III, https://arxiv.org/abs/1910.09840: epsilon
    for Dense layers, alpha 1 and beta 0 for convolutions. The sums of a residual network follow the epsilon rule, and
    so do batch normalization, average pooling, resizing and depthwise, separable and transposed convolutions. In max
    pooling the largest value gets all relevance. Elementwise nonlinearities pass the relevance on unchanged.

    Args:
        model, images, target: As in every method; see `recipes.explain`. A Sequential or Functional model, also nested,
            of Dense, convolution, pooling, normalization, resizing, sums, differences, averages, concatenation and
            elementwise nonlinearities.
        rule: `"epsilon"`, `"alpha_beta"` or `"composite"`.
        epsilon: Stabilizer of the denominators, > 0, as a share of the largest denominator of an image in a layer.
        alpha: Weight of positive contributions, >= 1; negative contributions have the weight `alpha - 1`. It is used
            only for `"alpha_beta"`.
        reduce: How channels are reduced: `"sum"` keeps the sum; `"mean"`, `"absmax"`, `"l2"`, or None to keep them.
        return_layers: Whether to return the relevance at each layer too, which shows how much is conserved.
        options: The options of `AttributionOptions`. The model is always traced.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image. With `return_layers`,
        `(maps, layers)`: layers is a dictionary from path to float32 `(n,)`.

    Raises:
        ValueError: when the model has a layer without a rule (attention, gates, custom layers), which the message
            names, or when an argument is outside its range.
    """
    if not is_one_of(rule, ("epsilon", "alpha_beta", "composite")):
        raise UsageError(
            f"lrp expects rule to be 'epsilon', 'alpha_beta' or 'composite'. Received {rule!r}. Leave it out for the "
            "composite."
        )
    if not is_number(epsilon) or not epsilon > 0 or not is_number(alpha) or not alpha >= 1:
        raise UsageError(
            f"lrp expects epsilon > 0 and alpha >= 1. Received epsilon={epsilon}, alpha={alpha}. Leave them out."
        )
    check_flag("lrp", "return_layers", return_layers)
    task = Task("lrp", model, images, target, gradient=True, **{**options, "compile": True})
    if task.tokens:
        raise UsageError("lrp expects images or features. Received token ids. Use gradient_times_input.")
    settings = (rule, float(epsilon), float(alpha) if rule == "alpha_beta" else 1.0)
    sums = []

    def explain(rows):
        tensors = task.inputs.tensors(rows)
        arguments, _ = task.arguments(rows, tensors)
        relevance, kept = task.evaluate(
            _relevance, [*tensors, *arguments], spec=task.target.spec, wrt=task.inputs.wrt, settings=settings
        )
        sums.append({path: tracing.array(one) for path, one in kept.items()})
        return reduce_channels(tracing.array(relevance), reduce, task.channel_axis)

    maps = task.each_chunk(explain)
    if not return_layers:
        return maps
    return maps, {path: np.concatenate([one[path] for one in sums]) for path in sums[0]}


def _relevance(
    model: keras.Model, *tensors: tf.Tensor, spec: Any, keys: Any, inputs: int, wrt: int, settings: Any
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Kernel of `(relevance of the input, relevance at each layer's output)`."""
    wrappers, outputs = _wrappers(model, settings), {}

    def noted(path, wrap):
        def inside(call):
            stand_in = wrap(call)

            def see(*args, **kwargs):
                output = stand_in(*args, **kwargs)
                outputs[path] = output
                return output

            return see

        return inside

    with tf.GradientTape(persistent=False, watch_accessed_variables=False) as tape:
        tape.watch(tensors[wrt])
        with tracing.intercepted({node.operation: noted(node.path, wrap) for node, wrap in wrappers}):
            scores, _ = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    found = tape.gradient(scores, [tensors[wrt], *outputs.values()], output_gradients=scores)
    if found[0] is None:
        raise UsageError(
            "lrp expects a score that depends on the input. Received one that does not. Choose another target."
        )
    kept = {
        path: tf.reduce_sum(tf.reshape(one, (tf.shape(one)[0], -1)), 1)
        for path, one in zip(outputs, found[1:], strict=True)
        if one is not None
    }
    return found[0], kept


def _wrappers(model, settings):
    """`(Node, wrapper)` of each layer that distributes relevance by a rule; raises for layers without a rule."""
    found, unknown = [], []
    for node in walk(model):
        operation, name = node.operation, type(node.operation).__name__
        activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
        activated = {"linear", "relu"} | (lrp_rules.ELEMENTWISE if type(operation) in _WEIGHTED else set())
        if type(operation) in _RECTIFIERS or _snake(name) in lrp_rules.ELEMENTWISE:
            found.append((node, lrp_rules.passed))
        elif type(operation) is _layers.Activation and activation in lrp_rules.ELEMENTWISE:
            found.append((node, lrp_rules.passed))
        elif isinstance(operation, (*_WEIGHTED, *_LINEAR, *_MOVING)) and activation not in activated:
            unknown.append(f"{node.path} ({activation})")
        elif type(operation) in _WEIGHTED:
            found.append((node, lrp_rules.weighted(operation, settings)))
        elif type(operation) in _LINEAR:
            found.append((node, lrp_rules.shared(settings[1])))
        elif name in _TERMS and type(operation).__module__.startswith("keras."):
            found.append((node, lrp_rules.summed(settings[1])))
        elif name in _AVERAGES and type(operation).__module__.startswith("keras."):
            found.append((node, lrp_rules.shared(settings[1])))
        elif name in _FACTORS and type(operation).__module__.startswith("keras.src.ops."):
            found.append((node, lrp_rules.scaled(node.path)))
        elif not _moves(operation, name):
            unknown.append(f"{node.path} ({name})")
    if unknown or not isinstance(model, (keras.Sequential, *_functional())):
        raise UsageError(
            f"lrp expects layers for which it has a rule. Model '{model.name}' has others: "
            f"{', '.join(unknown[:8]) or type(model).__name__}. Use integrated_gradients, which works with any model."
        )
    return found


def _moves(operation, name):
    """Whether an operation only moves values or contains other layers; random augmentation is off at inference."""
    of_keras = type(operation).__module__.startswith("keras.src.")
    return type(operation) in (*_MOVING, keras.Sequential) or (
        of_keras and (name in _MOVES or name.startswith("Random"))
    )


def _functional():
    return (type(keras.Model(one := keras.Input((1,)), one)),)


def _snake(name):
    """The function name for the class name of a `keras.ops` operation: `leaky_relu` for `LeakyRelu`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
