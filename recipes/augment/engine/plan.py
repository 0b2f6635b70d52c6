"""Plan a list of operations: their random draws, their passes, and the few functions that run."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color_maps import build_color, color_needs_mean
from recipes.augment.engine.geometry import build_geometry, split_reads
from recipes.augment.engine.mixing import build_mixing, draw_partner, draw_weight
from recipes.augment.engine.operation import STAGES, Drawn, Frame, Operation, leaves, stage_order
from recipes.augment.engine.points import PointOperation, build_points
from recipes.augment.engine.spatial_filters import build_filter

# Odd 64-bit offsets between the seeds of one batch, so that no two batches of a run share a seed.
_NORMAL, _NOISE = 0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D
#: The batches of an epoch are numbered from the epoch's number times this.
EPOCH = 2**32
_WEIGHT, _PARTNER = 0x369DEA0F31A53F85, 0x27D4EB2F165667C5


class Draws(NamedTuple):
    """The random numbers of a batch.

    Attributes:
        uniform, normal: Float32 `(numbers, batch)`, one row for each name that an operation draws.
        noise: A key, int32 `(batch, 2)`, for each operation that needs noise.
        mixture: A weight and a partner, each `(batch,)`, for each mixing operation.
        epoch: Number of the epoch, a scalar; negative if it is not known.
    """

    uniform: Any
    normal: Any
    noise: tuple
    mixture: tuple
    epoch: Any


@dataclasses.dataclass
class Slot:
    """One operation in the plan: the `Frame` of its input, the position of its draws, and when it acts."""

    op: Any
    frame: Frame
    rows: slice
    normal_rows: slice
    noise_index: int | None
    mixture_index: int | None
    gates: tuple
    functions: dict = dataclasses.field(default_factory=dict)

    def shared(self, key: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """One traced function for compiled and plain code, if both are the same; this saves tracing time."""
        if key not in self.functions:
            self.functions[key] = tf.function(function, autograph=False)
        return self.functions[key]

    def drawn(self, draws: Draws) -> Drawn:
        """The numbers of this operation by name."""
        named = _named(self.op.draws, draws.uniform, self.rows)
        named.update(_named(self.op.normal_draws, draws.normal, self.normal_rows))
        if self.noise_index is not None:
            named["noise"] = draws.noise[self.noise_index]
        return named

    def mixture(self, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
        return draws.mixture[self.mixture_index]

    def active(self, draws: Draws) -> tf.Tensor | None:
        """Bool `(batch,)`: the images on which this operation acts; None if it acts on all."""
        result = None
        for gate in self.gates:
            here = gate(draws.uniform)
            result = here if result is None else result & here
        if self.op.until_epoch is not None:
            early = tf.fill(tf.shape(self.mixture(draws)[0]), draws.epoch < self.op.until_epoch)
            result = early if result is None else result & early
        return result


class Plan:
    """The functions for images of one `Frame`, and how many random numbers they use.

    Attributes:
        first, last: The `Frame` of the input and the `Frame` of the output.
        passes: The `Slot`s of each pass over the images, in order.
        mixes: Whether images are mixed, so that labels change.
        views: The number of output images per input image.
    """

    def __init__(self, operations: Sequence[Operation], frame: Frame, dtype: str) -> None:
        self.first = self._frame = frame
        self._uniforms = self._normals = self._noises = 0
        self._alphas: list[float] = []
        self.views, self._shared = 1, (0, 0, 0)
        self.passes = [
            [slot for op in group for slot in self._place(op, ())] for group in split_passes(operations)
        ]
        self.last = self._frame
        self._dtype = dtype
        self.mixes = any(slot.op.stage == "mix" for one in self.passes for slot in one)
        self._ends = any(slot.op.until_epoch is not None for one in self.passes for slot in one)
        if self.mixes and self.views > 1:
            raise ValueError(
                "augment.Pipeline expects several views of each image or mixed images, not both: a mixture has no "
                "other views. Received both. Leave out MixUp and CutMix, or write AugMix(views=1)."
            )

    def steps(self, *, compiled: bool) -> list[tuple[str, Callable[..., Any]]]:
        """The functions that run, in order, in their version for XLA or for plain TensorFlow.

        Returns:
            list of `(kind, function)`; kind "image" takes `(images, draws)`, kind "mix" takes
            `(images, labels, sample_weight, draws)`.
        """
        keep_integers = compiled and self._dtype == "uint8"
        steps = [step for one in self.passes for step in _pass_steps(one, compiled, keep_integers)]
        if any(slot.op.leaves_range for one in self.passes for slot in one):
            _at_last(steps, "image", lambda images: _clip(images, self.last))
        steps = steps or [("image", lambda images, draws: images)]
        _at_last(steps, None, lambda images: _cast(images, self._dtype))
        return steps

    def geometry(self) -> list[Any]:
        """The `Slot`s of the operations that move pixels, in order."""
        moving = []
        for one in self.passes:
            moving += [slot for slot in one if slot.op.stage == "geometry"]
            moving += [slot for group in moved_by_filters(one) for slot in group]
        return moving

    def changes_colors(self) -> bool:
        """Whether any operation changes colors, erases or filters, that is, does more than move pixels and mix."""
        return any(slot.op.stage not in ("geometry", "mix") for one in self.passes for slot in one)

    def draw_part(self, seed: tf.Tensor, size: tf.Tensor, first: tf.Tensor, whole: tf.Tensor) -> Draws:
        """The random numbers of `size` images from number `first` on, in a batch of `whole` images without mixing."""
        draws = self.draw(seed, whole)
        start, end = first * self.views, (first + size) * self.views
        uniform = draws.uniform[:, start:end] if self._uniforms else draws.uniform
        normal = draws.normal[:, start:end] if self._normals else draws.normal
        return draws._replace(
            uniform=uniform, normal=normal, noise=tuple(key[start:end] for key in draws.noise)
        )

    def draw(self, seed: tf.Tensor, batch: tf.Tensor) -> Draws:
        """All random numbers of one batch, from a seed int64 `(2,)`. Never compiled: XLA draws other numbers."""
        shift = lambda step, index=0: seed + tf.constant([step + index * 2**40, 0], tf.int64)  # noqa: E731
        batch = batch * self.views
        uniform = normal = tf.zeros((1, 1))
        if self._uniforms:
            uniform = tf.random.stateless_uniform((self._uniforms, batch), seed)
        if self._normals:
            normal = tf.random.stateless_normal((self._normals, batch), shift(_NORMAL))
        noise = [
            tf.random.stateless_uniform(
                (batch, 2), shift(_NOISE, index), minval=None, maxval=None, dtype=tf.int32
            )
            for index in range(self._noises)
        ]
        mixture = [
            (draw_weight(shift(_WEIGHT, index), batch, alpha), draw_partner(shift(_PARTNER, index), batch))
            for index, alpha in enumerate(self._alphas)
        ]
        epoch = seed[1] // EPOCH if self._ends else 0
        uniforms, normals, noises = self._shared
        if self.views > 1:
            uniform, normal = self._one_for_all(uniform, uniforms), self._one_for_all(normal, normals)
            noise[:noises] = [tf.repeat(key[:: self.views], self.views, 0) for key in noise[:noises]]
        return Draws(uniform, normal, tuple(noise), tuple(mixture), epoch)

    def _one_for_all(self, numbers, rows):
        """Copy the draw of each image's first view to all of its views, in the first `rows` rows."""
        if rows == 0:
            return numbers
        shared = tf.repeat(numbers[:rows, :: self.views], self.views, 1)
        return tf.concat([shared, numbers[rows:]], 0)

    def _place(self, op, gates):
        """The slots of one operation; for a group, the slots of its members."""
        if op.gated and op.probability < 1:
            row, chance = self._take(1).start, op.probability
            gates = (*gates, lambda uniform: uniform[row] < chance)
        members = getattr(op, "operations", None)
        if members is None:
            return [self._slot(op, gates)]
        op.check(self._frame)
        rows = self._take(len(op.draws))
        opened = []
        for index, member in enumerate(members):
            chosen = lambda uniform, index=index: op.chosen(_named(op.draws, uniform, rows), index)  # noqa: E731
            opened.append((member, (*gates, chosen) if op.chosen else gates))
        placed = [slot for member, own in opened for slot in self._place(member, own)]
        return sorted(placed, key=lambda slot: stage_order(slot.op))

    def _slot(self, op, gates):
        frame = self._frame
        op.check(frame)
        self._frame = op.after(frame)
        start = self._normals
        self._normals += len(op.normal_draws)
        noise_index = mixture_index = None
        if op.pixel_noise:
            noise_index = self._noises
            self._noises += 1
        if op.stage == "mix":
            mixture_index = len(self._alphas)
            self._alphas.append(op.alpha)
        if op.views > 1:
            gates = (*gates, self._see(op))
        rows = self._take(len(op.draws))
        return Slot(op, frame, rows, slice(start, self._normals), noise_index, mixture_index, gates)

    def _see(self, op):
        """Start several views per image here; return the gate that does not change the first view."""
        if self.views > 1:
            raise ValueError(
                f"augment.{op.name} expects to be the only operation that makes views. Received another one. "
                "Leave one out, or write views=1."
            )
        self.views, self._shared = op.views, (self._uniforms, self._normals, self._noises)
        return lambda uniform: tf.range(tf.shape(uniform)[1]) % op.views != 0

    def _take(self, count):
        self._uniforms += count
        return slice(self._uniforms - count, self._uniforms)


def _named(names, numbers, rows):
    """The rows of numbers of one operation, by name."""
    return {name: numbers[rows.start + place] for place, name in enumerate(names)}


def moved_by_filters(slots: Sequence[Slot]) -> list[list[Slot]]:
    """The geometric part of each filter of a pass that moves pixels, each as a list of one slot."""
    return [
        [dataclasses.replace(slot, op=slot.op.moved_by())]
        for slot in slots
        if slot.op.stage == "filter" and slot.op.moves
    ]


def split_passes(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Divide the list where it goes back to an earlier stage: one list of operations per pass."""
    passes, current = [], []
    rank, fill, erased = 0, None, False
    for op in operations:
        parts = leaves(op)
        stages = [STAGES[part.stage] for part in parts]
        fills = [part.fill for part in parts if part.stage == "geometry" and part.fill is not None]
        other_fill = fill is not None and any(one != fill for one in fills)
        # Contrast measures the mean of its input, which has to include the holes that were erased before.
        measures = erased and any(part.needs_mean for part in parts)
        if current and (min(stages) < rank or other_fill or measures):
            passes.append(current)
            current, rank, fill, erased = [], 0, None, False
        current.append(op)
        rank = max([rank, *stages])
        fill = fills[0] if fills else fill
        erased = erased or any(part.stage == "erase" for part in parts)
    return [*passes, current] if current else passes


def _pass_steps(slots, compiled, keep_integers):
    geometry = [slot for slot in slots if slot.op.stage == "geometry"]
    color = [slot for slot in slots if slot.op.stage in ("color", "erase")]
    reads = split_reads(geometry) if geometry else []
    steps = [
        ("image", step)
        for read in reads
        for step in build_geometry(read, compiled=compiled, keep_integers=keep_integers)
    ]
    if color:
        painted = build_color(color, compiled=compiled, keep_integers=keep_integers)
        if reads and reads[-1].exact and not color_needs_mean(color):
            # Whole-pixel reads are cheap enough inside the color loop; interpolation would be computed several times.
            moved = steps.pop()[1]
            steps.append(("image", lambda images, draws: painted(moved(images, draws), draws)))
        else:
            steps.append(("image", painted))
    filters = [slot for slot in slots if slot.op.stage == "filter"]
    for group in _runs_of_points(filters):
        if compiled and isinstance(group[0].op, PointOperation):
            steps.append(("image", build_points(group)))
        else:
            steps += [("image", step) for slot in group for step in build_filter(slot, compiled=compiled)]
    mixing = [slot for slot in slots if slot.op.stage == "mix"]
    return steps + [("mix", build_mixing(slot, keep_integers=keep_integers)) for slot in mixing]


def _runs_of_points(slots):
    """The filters of a pass in groups; consecutive point operations form one group."""
    groups = []
    for slot in slots:
        point = isinstance(slot.op, PointOperation)
        if groups and point and isinstance(groups[-1][-1].op, PointOperation):
            groups[-1].append(slot)
        else:
            groups.append([slot])
    return groups


def _at_last(steps, kind, change):
    """Append a change of the images to the last step of this kind (None: the last step of any kind)."""
    for place in reversed(range(len(steps))):
        step_kind, step = steps[place]
        if kind in (None, step_kind):
            steps[place] = (step_kind, _then(step, change, step_kind))
            return


def _then(step, change, kind):
    if kind == "image":
        changed = lambda images, draws: change(step(images, draws))  # noqa: E731
        changed.compiles = getattr(step, "compiles", False)
        return changed

    def mixing(images, labels, sample_weight, draws):
        images, *rest = step(images, labels, sample_weight, draws)
        return change(images), *rest

    return mixing


def _clip(images, frame):
    if images.dtype == tf.uint8:
        return images
    low, high = (float(edge[0]) if np.all(edge == edge[0]) else edge for edge in (frame.low, frame.high))
    return tf.minimum(tf.maximum(images, low), high)


def _cast(images, dtype):
    if dtype == "uint8" and images.dtype.is_floating:
        images = tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0.0, 255.0)
    return tf.cast(images, dtype)
