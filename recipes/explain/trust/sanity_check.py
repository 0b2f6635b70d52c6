"""Sanity check: does a map change when the weights of the network are randomized?"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from recipes.common.traversal import Node, walk
from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.score_cam import unit_range
from recipes.explain.engine import layer_lookup
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Layer, Target, defaults_of


@dataclasses.dataclass
class SanityCheck:
    """The similarity of maps before and after layers are re-initialized; each array is float32 `(layers, n)`.

    Args:
        layers: Paths of the layers, from the output down, in the order in which they were re-initialized.
        rank_correlation: Spearman correlation of the raw maps, -1 to 1.
        absolute_rank_correlation: Spearman correlation of their absolute values, -1 to 1.
        ssim: Structural similarity of the absolute maps, each stretched to 0..1; 1 for identical pictures.
    """

    layers: list[str]
    rank_correlation: FloatArray
    absolute_rank_correlation: FloatArray
    ssim: FloatArray

    @property
    def similarity(self) -> float:
        """Mean rank correlation of the absolute maps; near 0 if the maps depend on the learned weights."""
        return float(self.absolute_rank_correlation.mean())

    def __str__(self) -> str:
        rows = [
            f"{path:<40} {signed:8.2f} {absolute:8.2f} {ssim:8.2f}"
            for path, signed, absolute, ssim in zip(
                self.layers,
                self.rank_correlation.mean(1),
                self.absolute_rank_correlation.mean(1),
                self.ssim.mean(1),
                strict=True,
            )
        ]
        return "\n".join([f"{'re-initialized down to':<40} {'rank':>8} {'|rank|':>8} {'ssim':>8}", *rows])


def sanity_check(
    model: keras.Model,
    images: Inputs,
    method: Callable[..., ArrayLike],
    target: Target = None,
    *,
    kind: Literal["cascading", "independent"] = "cascading",
    at: Sequence[Layer] | None = None,
    seed: int = 0,
    **options: Any,
) -> SanityCheck:
    """Compare the maps of a model with its maps after its layers were re-initialized one after the other.

    A map that hardly changes does not show what the network learned. The weights of each layer are drawn again from its
    own initializers. They are restored afterwards, also after an exception; the model is not traced again.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3,
    https://arxiv.org/abs/1810.03292. There, Grad-CAM and the gradient pass the test, guided backpropagation does not.

    Args:
        model: A built `keras.Model`.
        images: As for `method`.
        method: An attribution such as `explain.grad_cam`: `(model, images, target, **options) -> maps`.
        target: As for `method`. None is the class that the trained model predicts for each image, in all comparisons.
        kind: `"cascading"` re-initializes from the output down and keeps the new weights of each layer;
            `"independent"` re-initializes one layer at a time.
        at: Layers (objects, names, paths or indices) after which maps are compared; None takes every layer with
            weights. The cascade also re-initializes all layers between them.
        seed: Integer that fixes the new weights.
        options: Passed to `method`.

    Returns:
        A `SanityCheck`; `print` shows it as a table.

    Raises:
        ValueError: when there is no layer with weights, `kind` is unknown, or the method does not return maps.
    """
    if kind not in ("cascading", "independent"):
        raise UsageError(
            f"sanity_check expects kind to be 'cascading' or 'independent'. Received {kind!r}. Write 'cascading' for "
            "the paper's main test."
        )
    nodes = layers_with_weights(model)[::-1]
    stops = (
        [node.path for node in nodes]
        if at is None
        else [layer_lookup.find(model, one, method="sanity_check").path for one in at]
    )
    nodes = nodes[: 1 + max((place for place, node in enumerate(nodes) if node.path in stops), default=-1)]
    if not nodes:
        raise UsageError(
            f"sanity_check expects layers with weights to re-initialize. Found none in {at or model.name}. "
            "Leave `at` out."
        )
    task = predicting("sanity_check", model, images, target, options)
    target = task.target.index[:, 0] if target is None else target

    def explain():
        return as_batch("sanity_check", method(model, images, target, **options), task)

    before = explain()
    saved = [(weight, weight.numpy()) for weight in model.weights]
    maps, paths = [], []
    try:
        for number, node in enumerate(nodes):
            if kind == "cascading" or node.path in stops:
                reinitialize(node.operation, [seed, number])
            if node.path in stops:
                maps.append(explain())
                paths.append(node.path)
            if kind == "independent":
                _restore(saved)
    finally:
        _restore(saved)
    return SanityCheck(
        paths,
        np.stack([rank_correlation(before, after) for after in maps]),
        np.stack([rank_correlation(np.abs(before), np.abs(after)) for after in maps]),
        np.stack([_ssim(np.abs(before), np.abs(after)) for after in maps]),
    )


def layers_with_weights(model: keras.Model) -> list[Node]:
    """The nodes with float weights of their own, from the input up."""
    return [node for node in walk(model) if own_weights(node.operation)]


def own_weights(layer: Any) -> list[keras.Variable]:
    """The float weights of a layer that do not belong to a layer inside it."""
    inner = {id(weight) for node in walk(layer) for weight in getattr(node.operation, "weights", ())}
    return [
        weight
        for weight in getattr(layer, "weights", ())
        if id(weight) not in inner and tf.as_dtype(weight.dtype).is_floating
    ]


def reinitialize(layer: Any, seed: Sequence[int]) -> None:
    """Draw a layer's own weights again from its initializers.

    If the layer does not keep the initializer of a weight, the values of the weight are permuted, which keeps their
    distribution but destroys what was learned.
    """
    generator = np.random.default_rng(seed)
    for weight in own_weights(layer):
        names = (
            f"{weight.name}_initializer",
            f"{weight.name.removesuffix('_kernel')}_initializer",
            "depthwise_initializer",
        )
        initializer = next(
            (getattr(layer, name) for name in names if getattr(layer, name, None) is not None), None
        )
        if initializer is None:
            values = generator.permutation(weight.numpy().ravel()).reshape(weight.shape)
        else:
            values = _reseeded(initializer, int(generator.integers(2**31)))(weight.shape, dtype=weight.dtype)
        weight.assign(values)


def rank_correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Spearman correlation of each pair of maps, float32 `(n,)`; 0 if a map is constant."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (one, other)]
    ranks = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    norms = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    return ((ranks[0] * ranks[1]).sum(1) / np.where(norms > 0, norms, 1)).astype("float32")


def predicting(
    method: str, model: keras.Model, images: Inputs, target: Target, options: Mapping[str, Any]
) -> Task:
    """A `Task` on the images with the predicted classes as targets, for functions that run other methods."""
    shared = {name: options[name] for name in ("wrt", "compile") if name in options}
    task = Task(method, model, images, target, **{**defaults_of(AttributionOptions), **shared})
    for group in task.chunks() if target is None else ():
        task.settle(group)
    return task


def as_batch(name: str, maps: ArrayLike, task: Task) -> FloatArray:
    """The maps that a method returned, as float32 `(n, *spatial)`."""
    maps = np.asarray(maps, "float32")
    maps = maps[None] if task.inputs.single else maps
    if maps.shape[:1] != (task.count,) or maps.ndim != 1 + len(task.spatial):
        raise UsageError(
            f"{name} expects a method that returns maps of shape (n, height, width). It returned shape {maps.shape}. "
            "Pass a method such as explain.grad_cam, and reduce channels with reduce='absmax'."
        )
    return maps


def _reseeded(initializer, seed):
    """The same initializer with another seed; an initializer without a seed (zeros, ones) is returned unchanged."""
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    return type(initializer).from_config({**config, "seed": seed}) if "seed" in config else initializer


def _restore(saved):
    for weight, value in saved:
        weight.assign(value)


def _ssim(one, other):
    """Structural similarity `(n,)` of maps stretched to 0..1."""
    # Tables and signals are treated as rows; the frames of a video are placed below each other.
    one, other = (maps.reshape(len(maps), -1, maps.shape[-1]) for maps in (one, other))
    size = min(11, *one.shape[1:])
    pictures = [tf.constant(unit_range(maps)[..., None], "float32") for maps in (one, other)]
    return tf.image.ssim(*pictures, max_val=1.0, filter_size=size - (size + 1) % 2).numpy()
