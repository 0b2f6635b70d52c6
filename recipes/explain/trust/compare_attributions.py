"""Compare attribution methods on the user's own model and images, so that one can be chosen by evidence."""

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray, Inputs, Verbose
from recipes.explain.attribution.ablation_cam import ablation_cam
from recipes.explain.attribution.attention import attention_relevance, attention_rollout
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.class_activation_map import class_activation_map
from recipes.explain.attribution.eigen_cam import eigen_cam
from recipes.explain.attribution.expected_gradients import expected_gradients
from recipes.explain.attribution.finer_cam import finer_cam
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.attribution.grad_cam_plus_plus import grad_cam_plus_plus
from recipes.explain.attribution.gradient_times_input import gradient_times_input
from recipes.explain.attribution.guided import deconvnet, guided_backprop
from recipes.explain.attribution.guided_grad_cam import guided_grad_cam
from recipes.explain.attribution.hires_cam import hires_cam
from recipes.explain.attribution.integrated_gradients import integrated_gradients
from recipes.explain.attribution.layer_cam import layer_cam
from recipes.explain.attribution.layer_integrated_gradients import layer_integrated_gradients
from recipes.explain.attribution.lrp import lrp
from recipes.explain.attribution.occlusion import occlusion
from recipes.explain.attribution.rise import rise
from recipes.explain.attribution.saliency import saliency
from recipes.explain.attribution.score_cam import score_cam
from recipes.explain.attribution.smooth_grad import smooth_grad
from recipes.explain.attribution.xgrad_cam import xgrad_cam
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Baseline, Target, defaults_of
from recipes.explain.trust.deletion import deletion, insertion
from recipes.explain.trust.map_measures import (
    completeness,
    infidelity,
    max_sensitivity,
    randomized_logits,
    sparseness,
)
from recipes.explain.trust.pointing_game import pointing_game
from recipes.explain.trust.road import road
from recipes.explain.trust.sanity_check import as_batch, layers_with_weights, predicting, sanity_check
from recipes.explain.trust.stability import stability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS = {
    method.__name__: method
    for method in (
        *(saliency, gradient_times_input, smooth_grad, integrated_gradients, guided_backprop, deconvnet),
        *(guided_grad_cam, class_activation_map, grad_cam, grad_cam_plus_plus, layer_cam, score_cam),
        *(hires_cam, xgrad_cam, eigen_cam, ablation_cam, finer_cam, occlusion, rise),
        *(attention_rollout, attention_relevance, expected_gradients, lrp),
    )
}
# The method with its map as result, not with the values of the layer.
_METHODS["layer_integrated_gradients"] = functools.wraps(layer_integrated_gradients)(
    functools.partial(layer_integrated_gradients, as_map=True)
)
# The meaning of a larger figure.
_METRICS = {
    "deletion": "lower is better",
    "insertion": "higher is better",
    "sanity": "nearer 0 is better",
    "stability": "higher is better",
    "pointing": "higher is better",
    "road": "higher is better",
    "infidelity": "lower is better",
    "max_sensitivity": "lower is better",
    "completeness": "lower is better, of maps in units of the score",
    "sparseness": "higher is sparser",
    "randomized_logits": "nearer 0 is better",
}


Metric: TypeAlias = Literal[
    "deletion",
    "insertion",
    "sanity",
    "stability",
    "pointing",
    "road",
    "infidelity",
    "max_sensitivity",
    "completeness",
    "sparseness",
    "randomized_logits",
]


class Table(dict[str, dict[str, float]]):
    """`{method: {"deletion": ..., "seconds": ...}}`, printed as a table. `refused` tells why a method has no row."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, str] = {}

    def __str__(self) -> str:
        columns = list(next(iter(self.values()))) if self else []
        width = max(map(len, [*self, *self.refused, "method"]))
        wide = [max(12, len(name) + 2) for name in columns]
        lines = [
            f"{'method':<{width}}"
            + "".join(f"{name:>{space}}" for name, space in zip(columns, wide, strict=True))
        ]
        lines += [
            f"{name:<{width}}"
            + "".join(f"{row[one]:{space}.3f}" for one, space in zip(columns, wide, strict=True))
            for name, row in self.items()
        ]
        lines += [f"{name}: {_METRICS[name]}" for name in columns if name in _METRICS]
        return "\n".join(lines + [f"{name} was left out: {reason}" for name, reason in self.refused.items()])


class Comparison(NamedTuple):
    """The result of `compare`: a `Table` and a matplotlib `Figure`."""

    table: Table
    figure: "Figure"

    def __str__(self) -> str:
        return str(self.table)


def compare(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    methods: Sequence[str | Callable[..., ArrayLike]] | Mapping[str, Callable[..., ArrayLike]] = (
        *("saliency", "smooth_grad", "integrated_gradients", "guided_backprop", "grad_cam", "layer_cam"),
    ),
    metrics: Sequence[Metric] = (*("deletion", "insertion", "sanity", "stability"),),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    boxes: Sequence[ArrayLike] | None = None,
    baseline: Baseline | Literal["impute"] = "blur",
    steps: int = 20,
    shown: int = 4,
    seed: int = 0,
    verbose: Verbose = 1,
) -> Comparison:
    """Measure several attribution methods on the same images and target, beside a random map and an edge detector.

    Args:
        model, images, target: As in every method; see `recipes.explain`. None is the predicted class, which is kept
            in all measurements.
        methods: Names of methods, functions with the same arguments, or `{name: function}`. A method that cannot
            explain the model (guided backpropagation without rectifiers) or whose maps are all constant has no row in
            the table, which tells why. A single constant map is not counted in the means.
        metrics: Names of measures. `"deletion"` and `"insertion"` are mean areas of the curves. `"sanity"` is the mean
            rank correlation with the maps after the output layer, the upper half, and all layers with weights were
            re-initialized. `"stability"` is the mean of the smallest rank correlation under small noise. For
            `"pointing"`, `"road"`, `"infidelity"`, `"max_sensitivity"`, `"completeness"`, `"sparseness"` and
            `"randomized_logits"` see the functions of these names.
        options: `{name: {option: value}}` for the methods, such as `{"occlusion": {"patch": 8}}`.
        boxes: For `"pointing"`, as in `pointing_game`.
        baseline: The values of deleted pixels and the start of insertion, as in `deletion`.
        steps: Number of steps of deletion and insertion.
        shown: Largest number of images in the figure.
        seed: Integer that fixes the random map, the re-initialized weights, and the noise.
        verbose: 1 shows a progress bar over the methods, 0 shows nothing.

    Returns:
        `(table, figure)`. The table is a dict of dicts that prints as a table: means over the images, and the seconds
        that the method takes after its first call. The figure has one row of maps per image, with the deletion and
        insertion areas below them.

    Raises:
        ValueError: when a method or metric is unknown, or `boxes` is missing for "pointing" or given without it.
    """
    from recipes.plot.attributions import attributions  # noqa: PLC0415 - brings matplotlib

    named = _named(methods)
    unknown = set(metrics) - set(_METRICS)
    if unknown or ("pointing" in metrics) != (boxes is not None):
        raise UsageError(
            f"compare expects metrics among {list(_METRICS)}, and boxes exactly when 'pointing' is one of them. "
            f"Received metrics={tuple(metrics)}, boxes={'given' if boxes is not None else None}. "
            "See pointing_game for the form of boxes."
        )
    task = predicting("compare", model, images, target, {})
    target = task.target.index[:, 0] if target is None else target
    judge = _Judge(model, images, target, task, boxes, baseline, steps, seed)
    table, maps, captions, layers = Table(), {}, {}, {}
    named = {**named, "random": _random(task, seed), "edges": edges(task)}
    bar = keras.utils.Progbar(len(named), unit_name="method") if verbose else None
    for name, method in named.items():
        if bar and table:
            bar.update(len(table) + len(table.refused))
        chosen = (options or {}).get(name, {})
        try:
            method(model, images, target, **chosen)  # traces the model, so that tracing is not measured
        except UsageError as refusal:
            table.refused[name] = str(refusal)
            continue
        start = time.perf_counter()
        values = method(model, images, target, **chosen)
        seconds = time.perf_counter() - start
        batch = as_batch("compare", values, task)
        flat = np.ptp(batch.reshape(len(batch), -1), axis=1) == 0
        if flat.all():
            table.refused[name] = "Its maps are the same everywhere, so they contain no information."
            continue
        measured = {
            metric: np.where(flat, np.nan, judge.measure(metric, method, chosen, values))
            for metric in metrics
        }
        table[name] = {metric: _finite_mean(figures) for metric, figures in measured.items()} | {
            "seconds": seconds
        }
        maps[name] = batch[:shown]
        captions[name] = _captions(measured, len(maps[name]))
        if (layer := _layer_of(method, chosen, task)) is not None:
            layers[name] = layer
    if bar:
        bar.update(len(named), finalize=True)
    return Comparison(table, attributions(_pictures(task, shown), maps, captions=captions, layers=layers))


@dataclasses.dataclass
class _Judge:
    """The model, images and settings on which every method is measured."""

    model: keras.Model
    images: Inputs
    target: Target
    task: Task
    boxes: Sequence[ArrayLike] | None
    baseline: Baseline | Literal["impute"]
    steps: int
    seed: int

    def measure(
        self, metric: str, method: Callable, chosen: Mapping[str, Any], values: ArrayLike
    ) -> FloatArray:
        """One figure per image, `(n,)`."""
        model, images, target = self.model, self.images, self.target
        if metric in ("deletion", "insertion"):
            curve = deletion if metric == "deletion" else insertion
            found = curve(model, images, values, target, steps=self.steps, baseline=self.baseline)
            return np.atleast_1d(found.area)
        if metric == "sanity":
            nodes = layers_with_weights(model)
            at = [nodes[place].operation for place in sorted({0, len(nodes) // 2, len(nodes) - 1})]
            check = sanity_check(model, images, method, target, at=at, seed=self.seed, **chosen)
            return check.absolute_rank_correlation.mean(0)
        if metric == "stability":
            return stability(
                model, images, method, target, samples=5, seed=self.seed, **chosen
            ).rank_correlation
        if metric in ("road", "infidelity", "completeness"):
            found = {"road": road, "infidelity": infidelity, "completeness": completeness}[metric](
                model, images, values, target
            )
            return np.atleast_1d(found.combined if metric == "road" else found)
        if metric == "sparseness":
            return sparseness(as_batch("compare", values, self.task))
        if metric in ("max_sensitivity", "randomized_logits"):
            measure = max_sensitivity if metric == "max_sensitivity" else randomized_logits
            return measure(model, images, method, target, seed=self.seed, **chosen)
        boxes = [self.boxes] if self.task.inputs.single else self.boxes
        return pointing_game(as_batch("compare", values, self.task), boxes)


def _finite_mean(figures):
    return float(np.mean(figures[np.isfinite(figures)]))


def _captions(measured, count):
    """The areas under the curves, as one text per image."""
    shown = [metric for metric in ("deletion", "insertion") if metric in measured]
    return [
        "\n".join(f"{metric} {measured[metric][number]:.2f}" for metric in shown) for number in range(count)
    ]


def _layer_of(method, chosen, task):
    """Path of the layer whose maps a method used, or None if the method uses no layer."""
    if "layer" not in inspect.signature(method).parameters:
        return None
    if chosen.get("layer") is not None:
        return layer_lookup.find(task.model, chosen["layer"], call_index=chosen.get("call_index")).path
    place = tracing.default_layer(task.model, task.target.spec)
    return None if place is None else place.path


def _pictures(task, shown):
    """The first images, channels last, with a number of channels that can be drawn."""
    pictures = task.inputs.images[:shown]
    axis = task.channel_axis
    pictures = pictures[..., None] if axis is None else np.moveaxis(pictures, axis, -1)
    return pictures if pictures.shape[-1] in (1, 3, 4) else pictures.mean(-1, keepdims=True)


def _named(methods):
    if isinstance(methods, Mapping):
        return methods
    unknown = [method for method in methods if not callable(method) and method not in _METHODS]
    if unknown or not len(methods):
        raise UsageError(
            f"compare expects methods among {list(_METHODS)}, or functions of (model, images, target). "
            f"Received {unknown or 'none'}. Pass others as {{name: function}}."
        )
    return {
        method.__name__ if callable(method) else method: method if callable(method) else _METHODS[method]
        for method in methods
    }


def edges(task: Task) -> Callable[..., FloatArray]:
    """A method that does not use the network: an edge detector, the length of the image's gradient at each pixel.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 5, https://arxiv.org/abs/1810.03292: a map
    that looks like an edge map may tell nothing about the model.
    """

    def detect(_: keras.Model, images: Inputs, *__: Any, **___: Any) -> FloatArray:
        given = Task("edges", task.model, images, 0, **defaults_of(AttributionOptions))
        values = np.asarray(given.inputs.images, "float32")
        if task.channel_axis is not None and not task.tokens:
            values = values.mean(task.channel_axis)
        axes = [axis for axis in range(1, values.ndim) if values.shape[axis] > 1]
        slopes = [np.gradient(values, axis=axis) for axis in axes] or [0 * values]
        maps = np.sqrt(sum(np.square(slope) for slope in slopes))
        return maps[0] if given.inputs.single else maps

    return detect


def _random(task, seed):
    """A method that returns a new map of noise at each call, to measure what chance gives."""
    generator = np.random.default_rng(seed)
    shape = task.spatial if task.inputs.single else (task.count, *task.spatial)
    return lambda *_: generator.random(shape, dtype="float32")
