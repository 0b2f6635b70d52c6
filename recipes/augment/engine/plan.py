"""From a list of operations to the few functions that run: draws, passes, stages."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color import build_color, color_needs_mean
from recipes.augment.engine.geometry import build_geometry
from recipes.augment.engine.mixing import build_mixing, draw_partner, draw_weight
from recipes.augment.engine.operation import STAGES, leaves, stage_order
from recipes.augment.engine.spatial_filters import build_filter

# Odd 64-bit steps between the seeds of one batch: no two batches of a run come to share one.
_NORMAL, _NOISE = 0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D
_WEIGHT, _PARTNER = 0x369DEA0F31A53F85, 0x27D4EB2F165667C5


class Draws(NamedTuple):
    """The random numbers of a batch: rows (batch,), pixel noise, and a weight and a partner for each mixing."""

    uniform: object
    normal: object
    noise: tuple
    mixture: tuple


@dataclasses.dataclass
class Slot:
    """One operation at its place: the frame it meets, where its draws are, and when it acts."""

    op: object
    frame: object
    rows: slice
    normal_rows: slice
    noise_index: int | None
    mixture_index: int | None
    gates: tuple

    def uniform(self, draws):
        return draws.uniform[self.rows]

    def normal(self, draws):
        return draws.normal[self.normal_rows]

    def noise(self, draws):
        return None if self.noise_index is None else draws.noise[self.noise_index]

    def mixture(self, draws):
        return draws.mixture[self.mixture_index]

    def active(self, draws):
        """Bool of shape (batch,): the images this operation acts on; None for all of them."""
        result = None
        for gate in self.gates:
            here = gate(draws.uniform)
            result = here if result is None else result & here
        return result


class Plan:
    """The functions for images of one `Frame`, and how many random numbers they use.

    Attributes:
        last: The `Frame` that leaves.
        mixes: Whether labels change.
    """

    def __init__(self, operations, frame, dtype):
        self._frame = frame
        self.uniforms = self.normals = 0
        self.noises, self.alphas = [], []
        passes = [
            [slot for op in group for slot in self._place(op, ())] for group in split_passes(operations)
        ]
        self.last = self._frame
        self._passes, self._dtype = passes, dtype
        self.mixes = any(slot.op.stage == "mix" for one in passes for slot in one)

    def steps(self, *, compiled):
        """The functions that run, in order, for XLA or written for plain TensorFlow.

        Returns:
            list of `(kind, function)`; kind "image" takes `(images, draws)`, kind "mix" takes
            `(images, labels, sample_weight, draws)`.
        """
        steps = [step for one in self._passes for step in _pass_steps(one, compiled)]
        if any(slot.op.leaves_range for one in self._passes for slot in one):
            _at_last(steps, "image", lambda images: _clip(images, self.last))
        steps = steps or [("image", lambda images, draws: images)]
        _at_last(steps, None, lambda images: _cast(images, self._dtype))
        return steps

    def draw(self, seed, batch):
        """All random numbers of one batch, from a seed of shape (2,), int64. Never compiled: XLA draws others."""
        shift = lambda step, index=0: seed + tf.constant([step + index * 2**40, 0], tf.int64)  # noqa: E731
        uniform = tf.random.stateless_uniform((max(self.uniforms, 1), batch), seed)
        normal = tf.zeros((1, 1))
        if self.normals:
            normal = tf.random.stateless_normal((self.normals, batch), shift(_NORMAL))
        noise = []
        for index, (kind, frame) in enumerate(self.noises):
            random = tf.random.stateless_normal if kind == "normal" else tf.random.stateless_uniform
            noise.append(random((batch, frame.height, frame.width, frame.channels), shift(_NOISE, index)))
        mixture = [
            (draw_weight(shift(_WEIGHT, index), batch, alpha), draw_partner(shift(_PARTNER, index), batch))
            for index, alpha in enumerate(self.alphas)
        ]
        return Draws(uniform, normal, tuple(noise), tuple(mixture))

    def _place(self, op, gates):
        """The slots of one operation, a group opened up."""
        if op.gated and op.probability < 1:
            row, chance = self._take(1).start, op.probability
            gates = (*gates, lambda uniform: uniform[row] < chance)
        members = getattr(op, "operations", None)
        if members is None:
            return [self._slot(op, gates)]
        op.check(self._frame)
        rows = self._take(op.uniforms)
        opened = []
        for index, member in enumerate(members):
            chosen = lambda uniform, index=index: op.chosen(uniform[rows], index)  # noqa: E731
            opened.append((member, (*gates, chosen) if op.chosen else gates))
        placed = [slot for member, own in opened for slot in self._place(member, own)]
        return sorted(placed, key=lambda slot: stage_order(slot.op))

    def _slot(self, op, gates):
        frame = self._frame
        op.check(frame)
        self._frame = op.after(frame)
        start = self.normals
        self.normals += op.normals
        noise_index = mixture_index = None
        if op.pixel_noise:
            noise_index = len(self.noises)
            self.noises.append((op.pixel_noise, frame))
        if op.stage == "mix":
            mixture_index = len(self.alphas)
            self.alphas.append(op.alpha)
        rows = self._take(op.uniforms)
        return Slot(op, frame, rows, slice(start, self.normals), noise_index, mixture_index, gates)

    def _take(self, count):
        self.uniforms += count
        return slice(self.uniforms - count, self.uniforms)


def split_passes(operations):
    """Cut the list where it goes back to an earlier stage: one list of operations a pass."""
    passes, current = [], []
    rank, fill, erased = 0, None, False
    for op in operations:
        parts = leaves(op)
        stages = [STAGES[part.stage] for part in parts]
        fills = [part.fill for part in parts if part.stage == "geometry" and part.fill is not None]
        other_fill = fill is not None and any(one != fill for one in fills)
        # Contrast measures the mean of what it meets, and that is with the holes already in.
        measures = erased and any(part.needs_mean for part in parts)
        if current and (min(stages) < rank or other_fill or measures):
            passes.append(current)
            current, rank, fill, erased = [], 0, None, False
        current.append(op)
        rank = max([rank, *stages])
        fill = fills[0] if fills else fill
        erased = erased or any(part.stage == "erase" for part in parts)
    return [*passes, current] if current else passes


def _pass_steps(slots, compiled):
    geometry = [slot for slot in slots if slot.op.stage == "geometry"]
    color = [slot for slot in slots if slot.op.stage in ("color", "erase")]
    steps = []
    if geometry:
        steps.append(("image", build_geometry(geometry)))
    if color:
        painted = build_color(color, compiled=compiled)
        exact = all(slot.op.whole_pixels for slot in geometry)
        if geometry and exact and not color_needs_mean(color):
            # Whole-pixel reads are cheap enough to do inside the color loop; interpolation would be repeated.
            moved = steps.pop()[1]
            steps.append(("image", lambda images, draws: painted(moved(images, draws), draws)))
        else:
            steps.append(("image", painted))
    steps += [("image", build_filter(slot)) for slot in slots if slot.op.stage == "filter"]
    return steps + [("mix", build_mixing(slot)) for slot in slots if slot.op.stage == "mix"]


def _at_last(steps, kind, change):
    """Append a change of the images to the last step of a kind (None: of any kind)."""
    for place in reversed(range(len(steps))):
        step_kind, step = steps[place]
        if kind in (None, step_kind):
            steps[place] = (step_kind, _then(step, change, step_kind))
            return


def _then(step, change, kind):
    if kind == "image":
        return lambda images, draws: change(step(images, draws))

    def mixing(images, labels, sample_weight, draws):
        images, *rest = step(images, labels, sample_weight, draws)
        return change(images), *rest

    return mixing


def _clip(images, frame):
    low, high = (float(edge[0]) if np.all(edge == edge[0]) else edge for edge in (frame.low, frame.high))
    return tf.minimum(tf.maximum(images, low), high)


def _cast(images, dtype):
    if dtype == "uint8":
        images = tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0.0, 255.0)
    return tf.cast(images, dtype)
