"""Train the layers of a partly frozen network that learn, on features that are computed once."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import as_batches
from recipes.common.models import predict_batch
from recipes.common.traversal import graph_nodes, has_graph, layers_of
from recipes.common.types import Data, Verbose
from recipes.common.validation import is_whole
from recipes.training.train import train as train_model

if TYPE_CHECKING:
    from recipes.augment import Pipeline
    from recipes.training.run import Run


def train_head(
    model: keras.Model,
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int = 30,
    batch_size: int = 32,
    augment: Pipeline | None = None,
    views: int = 1,
    seed: int = 0,
    verbose: Verbose = "auto",
    **options: Any,
) -> Run:
    """Train the layers behind the frozen part of a network, which sees every image once: the first stage in seconds.

    The frozen layers give the same features of an image in every epoch, so the features are computed before the first
    epoch and kept in memory. The layers that learn, and random layers such as dropout, are trained on them as usual, in
    place: they are the layers of `model`.

    Augmentation cannot differ from epoch to epoch then. With `augment` each image is changed `views` times before its
    features are computed, and every epoch sees these same views; without it, the images as they are.

    Source: Yosinski et al. 2014, section 4, https://arxiv.org/abs/1411.1792 (frozen features). The time is measured in
    `benchmarks/fine_tuning.py --cached`.

    Args:
        model: A Functional or Sequential `keras.Model` whose lower part is frozen, such as `models.transfer` makes, not
            compiled. All paths from its input to the layers that learn must pass through one tensor.
        train: `tf.data.Dataset` of (image, label) or (image, label, weight), batched or not, or a tuple of such arrays.
        validation: The same, never augmented; None leaves it out.
        epochs: Passes over the features, >= 1.
        batch_size: Images, and then features, per step.
        augment: An `augment.Pipeline`, or None.
        views: Augmented copies of each image, >= 1.
        seed: Integer that fixes the order of the examples and their augmentation.
        verbose: As in `fit`.
        **options: More arguments of `recipes.train`, except `run_dir` and those about images. The default optimizer is
            Adam.

    Returns:
        The `Run` of the training on features, whose `.model` is `model`.

    Raises:
        ValueError: when no layer of the model is frozen, or all are; when its graph cannot be read, or frozen and
            learning layers meet in several places; for `run_dir`, which would keep only the head.

    Example:
        >>> model = recipes.models.transfer(recipes.models.efficientnet_lite0(include_top=False), classes=5)
        >>> recipes.training.train_head(model, train, validation, epochs=30)
        >>> run = recipes.train(model, train, validation, epochs=5, run_dir="runs/photos")
    """
    if "run_dir" in options or model.compiled:
        raise ValueError(
            "train_head expects a model that is not compiled and no run_dir, as it trains the head alone. Received "
            f"{'run_dir' if 'run_dir' in options else 'a compiled model'}. Train on with "
            "recipes.train(model, ..., run_dir=...)."
        )
    if not is_whole(views) or views < 1:
        raise ValueError(
            f"train_head expects views to be a whole number, at least 1. Received views={views!r}. Leave it out for 1."
        )
    body, head = split_at_frozen(model)
    reading = {"model": model, "batch_size": batch_size, "caller": "train_head"}
    batches = as_batches(train, name="train", **reading)
    if augment is not None:
        batches = batches.repeat(views).apply(augment)
        if verbose != 0:
            print(
                f"train_head: {views} augmented view{'s' if views > 1 else ''} of each image, the same in every epoch."
            )
    features = _features(body, batches)
    held_out = None
    if validation is not None:
        held_out = _features(body, as_batches(validation, name="validation", **reading))
    given = {"optimizer": "adam", "monitor": False, "preflight": False, **options}
    run = train_model(
        head,
        features,
        held_out,
        epochs=epochs,
        batch_size=batch_size,
        augment=None,
        seed=seed,
        verbose=verbose,
        **given,
    )
    return replace(run, model=model, validation=validation)


def split_at_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The frozen part of a network, which gives features, and the part behind it; both share the network's layers.

    Args:
        model: Functional or Sequential, built.

    Raises:
        ValueError: as in `train_head`.
    """
    graph = getattr(model, "_functional", None) or model
    if not has_graph(graph) or not model.built or len(model.inputs) != 1:
        raise ValueError(
            f"train_head expects a built Functional or Sequential model of one input. Received {model.name!r}. "
            "Use recipes.train, which trains any model."
        )
    fixed = {id(tensor): tensor for tensor in graph.inputs}
    frontier: dict[int, Any] = {}
    for node in graph_nodes(graph):
        known = [id(tensor) in fixed for tensor in node.input_tensors]
        if not known:
            continue
        if all(known) and not _moves(node.operation):
            fixed |= {id(tensor): tensor for tensor in node.outputs}
        else:
            frontier |= {id(one): one for one in node.input_tensors if id(one) in fixed}
    bodies = [keras.Model(graph.inputs[0], tensor) for tensor in frontier.values()]
    if len(bodies) != 1 or not bodies[0].weights:
        what = f"{len(frontier)} places where they meet" if len(frontier) > 1 else "none"
        raise ValueError(
            "train_head expects frozen layers first, then layers that learn, and one place where they meet. Received "
            f"{model.name!r} with {what}. Freeze its lower layers, or use recipes.train."
        )
    (tensor,) = frontier.values()
    return bodies[0], keras.Model(tensor, graph.outputs[0], name=f"{model.name}_head")


def _moves(operation):
    """Whether an operation may give other numbers in another epoch."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    inside = layers_of(operation, include_self=True)
    norms = any(isinstance(one, keras.layers.BatchNormalization) and one.trainable for one in inside)
    random = any(getattr(one, "seed_generator", None) is not None for one in inside)
    return bool(operation.trainable_variables) or norms or random


def _features(body, batches):
    """`(features, labels)`, or with the weights, as arrays."""
    call = functools.partial(predict_batch, body)
    if keras.backend.backend() == "tensorflow":
        call = tf.function(lambda images: body(images, training=False), reduce_retracing=True)
    rows = [(np.asarray(call(images)), *(np.asarray(one) for one in rest)) for images, *rest in batches]
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))
