"""Attention of a transformer as a map: rollout, and relevance weighted by gradients."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Target, shares


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
    """How much of each patch the attention of all layers carries to the class token, whatever the class.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3,
    https://arxiv.org/abs/2005.00928: the attention of a layer, averaged over heads and mixed half and half with the
    identity for the skip connection, is multiplied from the first layer to the last. One forward pass.

    Attention is found in the traced model: a softmax over `(n, heads, tokens, tokens)`, in a
    `keras.layers.MultiHeadAttention` or written by hand. The model is always traced.

    Args:
        model, images: As in every method, see `recipes.explain`. A model with one image input.
        target: Taken as by every method, without influence on the map.
        tokens: `(rows, columns)` of the patches; None takes the grid of the map they are made of, or one of the
            sides of the image. Tokens before them, up to two, are class tokens, whose rows are averaged (DeiT's second
            one is for distillation); without one the rows of all patches are.
        resize: Resize to the image, linearly; False keeps the grid.
        options: Those of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: no such attention, or attention within windows, whose tokens are not those of the image; tokens
            that make no grid.
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
    """How much each patch matters to the score through the attention of all layers: gradient times attention.

    Source: Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability", equations 5 and 6,
    https://arxiv.org/abs/2103.15679: attention times its gradient, the positive part averaged over heads, is added up
    from the first layer to the last, `R + A R`. One forward pass, and the gradient down to the first attention.

    Args, Returns, Raises: As `attention_rollout`; the target and the score are those of every attribution.
    """
    return _maps("attention_relevance", model, images, target, tokens, resize, True, options)


def roll_out(attentions: Sequence[FloatArray], start: FloatArray | None = None) -> FloatArray:
    """Section 3: the product of all layers' attention, each mixed with the identity.

    Args:
        attentions: For each layer `(n, heads, tokens, tokens)`; rows sum to 1.
        start: `(rows, tokens)`, what is asked of the output's tokens, such as a row that picks the class token; None
            asks for each.

    Returns:
        `(n, rows, tokens)`: how much of each token of the input (columns) is in what was asked for.
    """
    result = _rows(attentions, start)
    for attention in reversed(attentions):
        mixed = 0.5 * attention.mean(1)
        mixed[:, range(mixed.shape[-1]), range(mixed.shape[-1])] += 0.5
        mixed /= mixed.sum(-1, keepdims=True)
        result = _product(result, mixed)
    return result


def relevance(
    attentions: Sequence[FloatArray], gradients: Sequence[FloatArray], start: FloatArray | None = None
) -> FloatArray:
    """Equations 5 and 6: `R <- R + E_h[(grad A * A)^+] R`, from the identity; shapes and `start` as in `roll_out`."""
    result = _rows(attentions, start)
    for attention, gradient in zip(reversed(attentions), reversed(gradients), strict=True):
        result = result + _product(result, np.maximum(gradient * attention, 0).mean(1))
    return result


def _rows(attentions, start):
    tokens = attentions[0].shape[-1]
    start = np.eye(tokens, dtype="float32") if start is None else start
    return np.broadcast_to(start, (len(attentions[0]), *start.shape))


def _product(left, right):
    # TensorFlow's product of small matrices: numpy's wakes threads that wait longer than they work.
    return tf.linalg.matmul(left, right).numpy()


def grid_of(
    method: str, count: int, shape: tuple[int, ...], tokens: tuple[int, int] | None
) -> tuple[int, ...]:
    """`(class tokens, rows, columns)` of so many tokens for an image; `(class tokens, steps)` for text or a signal."""
    for special in (0, 1, 2):
        patches = count - special
        if tokens is not None:
            if tokens[0] * tokens[1] == patches:
                return special, *tokens
            continue
        if len(shape) == 1:  # text and signals: a token for every place
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
        attentions, gradients = _attention(task, rows, weighted)
        count = attentions[0].shape[-1]
        found = tokens or (cam.grid_before(task, None, count) if len(task.spatial) == 2 else None)
        special, *grid = grid_of(method, count, task.seen_shape, found)
        # Only the mean of the rows of class tokens (without them, of all) is asked for: a row goes through the layers.
        asked = np.zeros((1, count), "float32")
        asked[:, : special or count] = 1 / (special or count)
        flow = relevance(attentions, gradients, asked) if weighted else roll_out(attentions, asked)
        maps.append(task.turned(flow[:, 0, special:].reshape(len(flow), *grid)))
    maps = np.concatenate(maps)
    return task.finish(task.resized(maps) if resize else maps)


def _attention(task, rows, weighted):
    """`(attentions, gradients)` of a chunk: for each layer `(n, heads, tokens, tokens)`; gradients where asked for."""
    tensors = task.inputs.tensors(rows)
    arguments, _ = task.arguments(rows, tensors)
    found = task.evaluate(_attention_pass, [*tensors, *arguments], spec=task.target.spec, weighted=weighted)
    values = [tracing.array(one) for one in found]
    if any(len(one) != len(tensors[0]) for one in values) or len({one.shape[-1] for one in values}) > 1:
        raise UsageError(
            f"{task.method} expects every layer to attend to the same tokens of the whole image. Model "
            f"'{task.model.name}' has attention of {sorted({one.shape for one in values})} for {len(tensors[0])} "
            "images: within windows, or over a grid merged on the way. Use grad_cam, which needs no attention."
        )
    half = len(values) // 2 if weighted else len(values)
    return values[:half], values[half:]


def _attention_pass(
    model: keras.Model, *tensors: tf.Tensor, spec: Any, keys: Any, inputs: int, weighted: bool
) -> list[tf.Tensor]:
    """Kernel: the attention of all layers, in the order they are computed, and then its gradients where asked for."""
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    scores, _ = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    found = [
        operation.outputs[0]
        for operation in graph.get_operations()[before:]
        if operation.type == "Softmax" and _is_attention(operation.outputs[0].shape)
    ]
    if not found:
        raise UsageError(
            f"explain expects attention to look at: a softmax over (n, heads, tokens, tokens). '{model.name}' has none "
            "that can be seen: no attention, or one that is fused (flash attention) or compiled by itself. Turn flash "
            "attention off, or use grad_cam, which needs no attention."
        )
    attentions = [tf.cast(one, "float32") for one in found]
    if not weighted:
        return attentions
    gradients = tf.gradients(scores, found)
    if any(one is None for one in gradients):
        raise UsageError(
            f"explain expects a score that depends on the attention of every layer. In '{model.name}' it does not, or "
            "not in a differentiable way. Use attention_rollout, which takes no gradient."
        )
    return attentions + [tf.cast(one, "float32") for one in gradients]


def _is_attention(shape):
    return shape.rank == 4 and shape[-1] is not None and shape[-1] == shape[-2] and shape[-1] > 1
