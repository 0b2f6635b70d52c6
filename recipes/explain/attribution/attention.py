"""Maps from the attention of a transformer: attention rollout, and relevance weighted by gradients."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.dataflow import PRODUCTS
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Target, shares

_METHODS = "attention_rollout and attention_relevance"


@shares(AttributionOptions)
def attention_rollout(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    tokens: tuple[int, int] | None = None,
    resize: bool = True,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Attention rollout: how much of each patch the attention of all layers carries to the class token.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3,
    https://arxiv.org/abs/2005.00928. The attention of each layer is averaged over heads and mixed half and half with
    the identity, which stands for the skip connection. These matrices are multiplied from the first layer to the last.
    It takes one forward pass and does not depend on the class.

    Attention is found in the traced model: a softmax over `(n, heads, tokens, tokens)`, or without heads, in a
    `keras.layers.MultiHeadAttention` or written by hand. The model is always traced.

    Args:
        model, images: As in every method; see `recipes.explain`. The model has one image input.
        target: Accepted as in every method, but without effect on the map.
        tokens: `(rows, columns)` of the patches. None takes the grid of the map that the patches are made from, or a
            grid in the proportions of the image. One or two tokens before the patches are class tokens, whose rows are
            averaged (DeiT's second token is for distillation). If there are more, the first is the class token and the
            others are registers. Without a class token, the rows of all patches are averaged.
        resize: Whether to resize the map linearly to the size of the image; False keeps the grid.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: when no such attention is found, when it works within windows, along an axis or between other tokens
            than those of the image, or when the tokens do not form a grid.
    """
    return _maps("attention_rollout", model, images, target, tokens, resize, False, options)


@shares(AttributionOptions)
def attention_relevance(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    tokens: tuple[int, int] | None = None,
    resize: bool = True,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Attention relevance: how much each patch matters to the score through the attention of all layers.

    Source: Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability", equations 5 and 6,
    https://arxiv.org/abs/2103.15679. `A` is attention times its gradient, the positive part averaged over heads. The
    relevance `R` is updated from the first layer to the last by `R + A R`. It takes one forward pass, and the gradient
    down to the first attention. `R` begins as the identity. So without a class token each patch has a constant
    relevance of 1 / patches, and only the part above it differs between patches. Subtract this constant before you take
    shares or sums.

    Args, Returns, Raises: As in `attention_rollout`; target and score are used as in every attribution.
    """
    return _maps("attention_relevance", model, images, target, tokens, resize, True, options)


def roll_out(attentions: Sequence[tf.Tensor], asked: tf.Tensor) -> tf.Tensor:
    """The product of all layers' attention, each mixed with the identity, from the last layer to the first.

    Source: Abnar & Zuidema 2020, section 3.

    Args:
        attentions: The attention of each layer, `(n, heads, tokens, tokens)`; rows sum to 1.
        asked: `(n, rows, tokens)`, weights of the output tokens, such as a row that picks the class token. A few rows
            cost less than the whole product.

    Returns:
        `(n, rows, tokens)`: the share of each input token (columns) in each row of `asked`.
    """
    for attention in reversed(attentions):
        mean = tf.reduce_mean(attention, 1)
        share = asked / (1 + tf.reduce_sum(mean, -1))[:, None]  # rows of the mixture sum to 1
        asked = share + tf.matmul(share, mean)
    return asked


def relevance(attentions: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor], asked: tf.Tensor) -> tf.Tensor:
    """The relevance `R <- R + E_h[(grad A * A)^+] R`, starting from the identity; Chefer et al. 2021, equations 5, 6.

    Shapes and `asked` are as in `roll_out`; `gradients` have the shapes of `attentions`.
    """
    for attention, gradient in zip(reversed(attentions), reversed(gradients), strict=True):
        asked += tf.matmul(asked, tf.reduce_mean(tf.nn.relu(gradient * attention), 1))
    return asked


def grid_of(
    method: str, count: int, shape: tuple[int, ...], tokens: tuple[int, int] | None
) -> tuple[int, ...]:
    """`(leading tokens, rows, columns)` of `count` tokens of an image; `(leading tokens, steps)` for text or a signal.

    More than two leading tokens are accepted only when `tokens`, the grid, is given.

    Raises:
        ValueError: when the tokens do not form a grid.
    """
    for special in range(cam.CLASS_TOKENS + 1 if tokens is None else cam.LEADING + 1):
        patches = count - special
        if tokens is not None:
            if tokens[0] * tokens[1] == patches:
                return special, *tokens
            continue
        if len(shape) == 1:  # text and signals: one token per position
            if patches == shape[0]:
                return special, patches
            continue
        rows = round(np.sqrt(patches * shape[0] / shape[1]))
        if rows and patches % rows == 0 and rows * shape[1] == patches // rows * shape[0]:
            return special, rows, patches // rows
    raise UsageError(
        f"{method} expects tokens of a grid of patches, with up to two class tokens before them. Received attention "
        f"over {count} tokens for an image of {shape} and tokens={tokens}. Give tokens=(rows, columns)."
    )


def _maps(method, model, images, target, tokens, resize, weighted, options):
    task = Task(method, model, images, target, **{**options, "compile": True})
    maps = []
    for rows in task.chunks():
        flow = _flow(task, rows, weighted)
        count = flow.shape[-1]
        found = tokens or (cam.grid_before(task, None, count) if len(task.spatial) == 2 else None)
        special, *grid = grid_of(method, count, task.seen_shape, found)
        asked = special if special <= cam.CLASS_TOKENS else 1  # registers have no part in the output
        maps.append(task.turned(flow[:, asked, special:].reshape(len(flow), *grid)))
    maps = np.concatenate(maps)
    return task.finish(task.resized(maps) if resize else maps)


def _flow(task, rows, weighted):
    """The flow from each token, `(n, 3, tokens)`, to all output tokens, to the first one, and to the first two."""
    tensors = task.inputs.tensors(rows)
    arguments, _ = task.arguments(rows, tensors)
    flow, shapes = task.evaluate(
        _attention_pass, [*tensors, *arguments], spec=task.target.spec, weighted=weighted
    )
    shapes = shapes.numpy()
    if (shapes[:, 0] != len(tensors[0])).any() or len(set(shapes[:, -1])) > 1:
        raise UsageError(
            f"{task.method} expects every layer to attend to the same tokens of the whole image. Model "
            f"'{task.model.name}' has attention of shapes {sorted(set(map(tuple, shapes.tolist())))} for "
            f"{len(tensors[0])} images: within windows, or over a grid that is merged between layers. Use grad_cam, "
            "which needs no attention."
        )
    return tracing.array(flow)


def _attention_pass(
    model: keras.Model, *tensors: tf.Tensor, spec: Any, keys: Any, inputs: int, weighted: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Kernel of `(flow, shapes)`: the flow of `_flow`, and the shape of each layer's attention, `(layers, 4)`."""
    graph = tf.compat.v1.get_default_graph()
    before, unseen = len(graph.get_operations()), []
    with tracing.intercepted(_watched(model, graph, unseen)):
        scores, _ = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    made = graph.get_operations()[before:]
    weights = [one.outputs[0] for one in made if one.type == "Softmax"]
    _refuse_parts(model, weights)
    found = [one for one in weights if _is_attention(one.shape)]
    unseen += _inside_functions(graph, made)
    if found and unseen:
        raise UsageError(
            f"{_METHODS} expect to see the attention of every layer. In '{model.name}' that of "
            f"{', '.join(unseen)} is fused or compiled by itself, so that its softmax is not in the model's graph. "
            "Take tf.function off it, or use grad_cam, which needs no attention."
        )
    if not found:
        raise UsageError(
            f"{_METHODS} expect a model with attention: a softmax over (n, heads, tokens, tokens). '{model.name}' has "
            "none that can be seen: either no attention, or one that is fused (flash attention) or compiled by itself. "
            "Turn flash attention off, or use grad_cam, which needs no attention."
        )
    gradients = tf.gradients(scores, found) if weighted else []
    if any(one is None for one in gradients):
        raise UsageError(
            f"attention_relevance expects a score that depends on the attention of every layer. In '{model.name}' it "
            "does not, or not in a differentiable way. Use attention_rollout, which takes no gradient."
        )
    shapes, images = tf.stack([tf.shape(_by_head(one)) for one in found]), tf.shape(tensors[0])[0]
    count = found[0].shape[-1]
    asked = np.zeros((3, count), "float32")
    asked[0], asked[1, 0], asked[2, :2] = 1 / count, 1, 0.5

    def through():
        rows = tf.broadcast_to(asked, [images, *asked.shape])
        attentions, slopes = (
            [_by_head(tf.cast(one, "float32")) for one in part] for part in (found, gradients)
        )
        return relevance(attentions, slopes, rows) if weighted else roll_out(attentions, rows)

    nothing = tf.zeros([images, *asked.shape])
    if any(one.shape[-1] != count for one in found):
        return nothing, shapes
    return tf.cond(tf.reduce_all(shapes[:, 0] == images), through, lambda: nothing), shapes


def _watched(model, graph, unseen):
    """Wrappers (see `tracing.intercepted`) of Keras' attention layers; `unseen` collects layers without a softmax."""

    def wrapper(path):
        def wrap(call):
            def stand_in(*args, **kwargs):
                query = args[0] if args else kwargs.get("query")
                if len(query.shape) > 3:  # the softmax is then over several axes, in other operations
                    raise _of_parts(
                        model, f"layer '{path}', to which tokens come in shape {_written(query.shape)}"
                    )
                before = len(graph.get_operations())
                outputs = call(*args, **kwargs)
                if not any(one.type == "Softmax" for one in graph.get_operations()[before:]):
                    unseen.append(f"layer '{path}'")
                return outputs

            return stand_in

        return wrap

    kinds = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention
    return {node.operation: wrapper(node.path) for node in walk(model) if isinstance(node.operation, kinds)}


def _inside_functions(graph, operations):
    """Names of the functions, called directly or through others, that hold a softmax and batched matrix products."""
    named = [
        value
        for one in operations
        if one.type.endswith("PartitionedCall")
        for value in [one.node_def.attr["f"]]
    ]
    if not named:
        return []
    bodies = {one.signature.name: one.node_def for one in graph.as_graph_def().library.function}
    left, seen, found = [one.func.name for one in named], set(), []
    while left:
        name = left.pop()
        if name in seen or name not in bodies:
            continue
        seen.add(name)
        kinds = {node.op for node in bodies[name]}
        if "Softmax" in kinds and kinds & {"BatchMatMulV2", "BatchMatMulV3", "Einsum"}:
            found.append(f"function '{name}'")
        left += [value.func.name for node in bodies[name] for value in node.attr.values() if value.func.name]
    return found


def _is_attention(shape):
    """Whether a shape is that of attention from all tokens to all, with several heads or without an axis for heads."""
    return shape.rank in (3, 4) and shape[-1] is not None and shape[-1] == shape[-2] and shape[-1] > 1


def _by_head(attention):
    """Attention as `(n, heads, tokens, tokens)`, with an axis added where there is none for the one head."""
    return attention if attention.shape.rank == 4 else attention[:, None]


def _refuse_parts(model, weights):
    """Raise when a softmax weighs values, but not from all tokens to all tokens."""
    for one in weights:
        square = _is_attention(one.shape)
        if one.shape.rank > 3 and not square and _weighs(one):
            raise _of_parts(model, f"attention of shape {_written(one.shape)}")


def _of_parts(model, which):
    return UsageError(
        f"{_METHODS} expect every layer to attend to the same tokens of the whole image, from each of them. Model "
        f"'{model.name}' has {which}: within windows, on unfolded maps, along one axis, or from or to other tokens. "
        "Use grad_cam, which needs no attention."
    )


def _written(shape):
    return f"({', '.join('n' if size is None else str(size) for size in shape)})"


def _weighs(tensor):
    """Whether a batched matrix product uses the tensor, directly or after casts, reshapes or transpositions."""
    kept = ("Cast", "Identity", "Reshape", "Transpose")
    return any(
        one.type in PRODUCTS or (one.type in kept and any(map(_weighs, one.outputs)))
        for one in tensor.consumers()
    )
