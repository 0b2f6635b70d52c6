"""Run a plan: draw outside XLA, run each step compiled or plain, and put the batch together again."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.annotations import (
    BOX_FORMATS,
    move_boxes,
    move_keypoints,
    move_pixels,
    to_edges,
)
from recipes.augment.engine.batch_layout import Batch, class_numbers, label_rows, pairs_of_boxes
from recipes.augment.engine.operation import Frame, Operation, leaves
from recipes.augment.engine.plan import Plan
from recipes.augment.engine.roles import OF_PIXELS, may_be_boxes, may_be_flat_map

# Compiled code is always faster, but compiling costs a second or two once. From about this many values per batch on,
# it saves more than that within 1000 batches (benchmarks/augment.py --threshold).
COMPILE_FROM = 2**16
# For operations that are slow without XLA, this holds from this many images per batch on, however small they are.
COMPILE_SLOW_FROM = 32


class Engine:
    """A `Plan` for images of one shape and dtype, and the functions that run it.

    Attributes:
        plan: The `Plan`.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        frame: Frame,
        *,
        jit_compile: bool | str,
        classes: int | None,
        value_range: tuple[float, float],
        dtype: str,
        box_format: str,
        keypoint_format: str,
        smallest_box_share: float,
        mask_fill: float,
    ) -> None:
        self.plan = Plan(operations, frame, dtype)
        self.jit_compile, self.classes, self.value_range = jit_compile, classes, value_range
        self.box_format, self.keypoint_format = box_format, keypoint_format
        self.smallest_box_share, self.mask_fill = smallest_box_share, mask_fill
        self.plain = self.plan.steps(compiled=False)
        # One program per step: fused into one, XLA would compute a resampled pixel again for every use of it. Each
        # step is wrapped in its own partial; otherwise TensorFlow would treat many pipelines as one function that is
        # retraced.
        self.compiled = [
            (kind, step if getattr(step, "compiles", False) else _compiled(step))
            for kind, step in self.plan.steps(compiled=True)
        ]
        self._plain_is_slow = any(part.plain_is_slow for op in operations for part in leaves(op))
        self._movers: dict[tuple[str, ...], Any] = {}

    def transform(self, batch: Batch, seed: tf.Tensor, part: tuple[Any, Any] | None = None) -> Any:
        """Augment one batch of tensors; `seed` is int64 of shape (2,), `part` as in `Pipeline.__call__`.

        In eager mode this runs operation by operation. It is not wrapped in a `tf.function`, whose graph optimizer
        reorders arithmetic, so that the last bits could differ from the results of tf.data.
        """
        images, labels, sample_weight = batch.images, batch.labels, batch.sample_weight
        with tf.control_dependencies(self._value_checks(batch)):
            size = tf.identity(tf.shape(images)[0])
        if part is None:
            draws = self.plan.draw(seed, size)
        else:
            draws = self.plan.draw_part(seed, size, *(tf.cast(number, tf.int32) for number in part))
        images, labels, sample_weight = self._views(images, labels, sample_weight)
        mixed = [labels, sample_weight] if self.plan.mixes else [None, None]
        if mixed[0] is not None:
            mixed[0] = label_rows(labels, self.classes)
        pixel_parts = [(path, role, part) for path, role, part in batch.parts if role in OF_PIXELS]
        masks = [part for _, _, part in pixel_parts]
        movers = self._pixel_movers(tuple(role for _, role, _ in pixel_parts)) if masks else [None, None]
        compile_from = -(-COMPILE_FROM // int(np.prod(images.shape[1:])))
        if self._plain_is_slow:
            compile_from = min(compile_from, COMPILE_SLOW_FROM)
        count = images.shape[0] if images.shape[0] is not None else size * self.plan.views
        if self.jit_compile != "auto":
            large = self.jit_compile and images.shape[0] != 0  # loops over an empty batch cannot be compiled
        else:
            large = count >= compile_from

        def run(steps, mover):
            moved = mover(masks, draws) if masks else []
            return (*_present(_run(steps, [images, *mixed], draws)), *moved)

        plain, compiled = (self.plain, movers[0]), (self.compiled, movers[1])
        if not tf.is_tensor(large):
            parts = list(run(*(compiled if large else plain)))
        elif compile_from > 1:
            parts = list(tf.cond(large, lambda: run(*compiled), lambda: run(*plain)))
        else:
            parts = list(_unless_empty(large, lambda: run(*compiled)))
        last = self.plan.last
        images = tf.ensure_shape(parts.pop(0), (images.shape[0], last.height, last.width, last.channels))
        if mixed[0] is not None:
            labels = parts.pop(0)
        if mixed[1] is not None:
            sample_weight = parts.pop(0)
        moved = {path: part for (path, _, _), part in zip(pixel_parts, parts, strict=True)}
        moved.update(self._move_places(batch, draws))
        return batch.rebuild(images, labels, sample_weight, moved)

    def _views(self, images, labels, sample_weight):
        """Repeat each image and its label once per view; the weights of the views are (w, 0, 0, ...)."""
        views = self.plan.views
        if views == 1:
            return images, labels, sample_weight
        images, labels = (None if part is None else tf.repeat(part, views, 0) for part in (images, labels))
        if sample_weight is not None:
            others = tf.zeros((tf.size(sample_weight), views - 1), sample_weight.dtype)
            sample_weight = tf.reshape(tf.concat([tf.reshape(sample_weight, (-1, 1)), others], 1), (-1,))
        return images, labels, sample_weight

    def unmixed(self, count: int, seed: tf.Tensor) -> np.ndarray:
        """Which of `count` examples are not mixed, bool `(count,)`; found by mixing the rows of an identity matrix."""
        frame = next(slot.frame for one in self.plan.passes for slot in one if slot.op.stage == "mix")
        images, rows = tf.zeros((count, frame.height, frame.width, 1)), tf.eye(count)
        draws = self.plan.draw(seed, tf.constant(count))
        for kind, step in self.plain:
            if kind == "mix":
                images, rows, _ = step(images, rows, None, draws)
        return np.diag(rows.numpy()) == 1

    def check_values(self, batch: Batch) -> None:
        """Raise `ValueError` when pixels, labels or boxes are out of range; only for eager tensors."""
        for bad, message in self._value_conditions(batch):
            if bad:
                raise ValueError(message().numpy().decode())

    def _pixel_movers(self, roles):
        """The functions `(parts, draws) -> parts` for masks, heat maps and pixel weights: plain and compiled."""
        if roles not in self._movers:
            move = functools.partial(
                lambda parts, draws: move_pixels(
                    self.plan, roles, parts, draws, mask_fill=self.mask_fill, classes=self.classes
                )
            )
            self._movers[roles] = move, tf.function(move, jit_compile=True, autograph=False)
        return self._movers[roles]

    def _move_places(self, batch, draws):
        """Move boxes, their labels and keypoints, which are too few numbers to be worth compiling."""
        moved, kept = {}, {}
        for path, role, part in batch.parts:
            if role == "boxes":
                boxes = part[:, None] if part.shape.rank == 2 else part
                boxes, kept[path] = move_boxes(
                    self.plan, boxes, draws, form=self.box_format, smallest_share=self.smallest_box_share
                )
                moved[path] = boxes[:, 0] if part.shape.rank == 2 else boxes
            elif role == "keypoints":
                moved[path] = move_keypoints(self.plan, part, draws, form=self.keypoint_format)
        labels = {path: part for path, role, part in batch.parts if role == "box_labels"}
        for path, boxes in pairs_of_boxes(batch.parts).items():
            part = labels[path]
            there = tf.reshape(kept[boxes], (*_sides(kept[boxes]), *[1] * (part.shape.rank - 2)))
            moved[path] = tf.where(there, part, tf.cast(-1, part.dtype))
        return moved

    def _value_checks(self, batch):
        checks = []
        for bad, message in self._value_conditions(batch):
            fail = lambda message=message: tf.debugging.Assert(False, [message()])  # noqa: E731
            checks.append(tf.cond(bad, lambda fail=fail: _after(fail()), lambda: tf.constant(True)))
        return checks

    def _value_conditions(self, batch: Batch) -> Iterator[tuple[Any, Any]]:
        """`(bad, message)` pairs: a scalar bool and a function giving the message as a tensor."""
        yield from self._pixel_conditions(batch.images)
        yield from self._class_conditions(batch.labels)
        if self.plan.geometry():
            rows = list(batch.others)
            if not batch.declared_labels and self.classes != 4 and batch.labels is not None:
                rows.append(("labels", batch.labels))
            yield from self._row_conditions(rows)
        for path, role, part in batch.parts:
            if role == "boxes":
                yield self._corner_condition(path, part)
            if role == "boxes" and self.box_format.startswith("rel"):
                yield from self._box_conditions(path, part)
            elif role in ("boxes", "keypoints"):
                yield from self._fraction_conditions(path, role, part)
            if role == "masks" and self.plan.mixes:
                yield from self._mask_conditions(path, part)

    def _pixel_conditions(self, images):
        low, high = self.value_range
        if not images.dtype.is_floating and (low, high) == (0, 255):
            return
        smallest, largest = (tf.cast(reduce(images), tf.float32) for reduce in (tf.reduce_min, tf.reduce_max))
        slack = (high - low) * 1e-3
        inside = (smallest >= low - slack) & (largest <= high + slack)
        yield (
            ~inside,
            lambda: tf.strings.format(
                f"augment.Pipeline expects pixels in {low:g} to {high:g}, its value_range. Received {{}} "
                "to {}. Set value_range to the range of the images, or scale the images.",
                (smallest, largest),
            ),
        )
        if low >= 0 and high > 10 and images.dtype.is_floating and self.plan.changes_colors():
            yield self._fraction_of_one_condition(images, largest)

    def _fraction_of_one_condition(self, images, largest):
        """Whether pixels in 0..1 come where 0..255 is declared; noise and color changes would be far too strong."""
        small = (largest > 0) & (largest <= 1)
        fractions = tf.cond(
            small, lambda: tf.reduce_any(images != tf.round(images)), lambda: tf.constant(False)
        )
        return (
            fractions,
            lambda: tf.strings.format(
                f"augment.Pipeline expects pixels in {self.value_range[0]:g} to {self.value_range[1]:g}, its "
                "value_range. Received fractions, {} at most. Write Pipeline([...], value_range=(0, 1)).",
                (largest,),
            ),
        )

    def _class_conditions(self, labels):
        if self.classes is None or not tf.is_tensor(labels) or not class_numbers(labels, self.classes):
            return
        numbers = tf.cast(labels, tf.float64 if labels.dtype.is_floating else tf.int64)
        lowest, highest = tf.reduce_min(numbers), tf.reduce_max(numbers)
        last = self.classes - 1
        bad = ~((lowest >= 0) & (highest <= last)) & (tf.size(numbers) > 0)
        if labels.dtype.is_floating:
            bad |= ~tf.reduce_all(numbers == tf.floor(numbers))
        yield (
            bad,
            lambda: tf.strings.format(
                f"augment.Pipeline expects whole-numbered labels in 0 to {last}, as classes={self.classes} says. "
                "Received labels from {} to {}. Set classes to the number of classes, and number them from 0.",
                (lowest, highest),
            ),
        )

    def _row_conditions(self, rows):
        """Rows with the length of a box or of a flattened map; only their values tell them from soft labels."""
        pixels = self.plan.first.height * self.plan.first.width
        for path, part in rows:
            boxes = may_be_boxes(part)
            if not boxes and not may_be_flat_map(part, pixels):
                continue
            numbers = tf.cast(part, tf.float32)
            shares = (tf.reduce_min(numbers) >= 0) & tf.reduce_all(
                tf.abs(tf.reduce_sum(numbers, -1) - 1) < 1e-2
            )
            if boxes:
                shares |= tf.reduce_all((numbers == 0) | (numbers == 1))
            role = "boxes" if boxes else "heatmaps"
            yield (
                ~shares & (tf.size(numbers) > 0),
                lambda path=path, part=part, role=role: tf.constant(
                    f"augment.Pipeline expects {path!r} of shape (batch, {part.shape[-1]}) to be labels: shares that "
                    f"add up to 1, or zeros and ones. Received other numbers, which may be {role} that would not move "
                    f"with the pixels. Call pipeline(images, {role}=...), or declare in roles that they are {role!r}, "
                    "or 'labels' for numbers that do not belong to pixels."
                ),
            )

    def _corner_condition(self, path, boxes):
        """Boxes whose second corner is above or left of the first; they would be dropped like empty boxes."""
        top, left, bottom, right = tf.unstack(to_edges(boxes, self.box_format, 1, 1), axis=-1)
        given = ~tf.reduce_all(tf.cast(boxes, tf.float32) == -1, -1)
        inverted = given & ((bottom < top) | (right < left))
        order = "top, left, bottom, right" if self.box_format.endswith("yxyx") else "left, top, right, bottom"
        sides = self.box_format.endswith("wh")
        expected = "sides of boxes that are not negative" if sides else f"boxes as {order}"
        cure = (
            f"Exchange the corners with dataset.map, or write another box_format: {', '.join(map(repr, BOX_FORMATS))}, "
            "where 'rel_cxcywh' is the center and the sides, as in YOLO."
        )
        return (
            tf.reduce_any(inverted),
            lambda: tf.strings.format(
                f"augment.Pipeline expects {expected}, as box_format={self.box_format!r} says. Received boxes that end "
                f"before they begin in {path!r}, such as {{}}. {cure}",
                (tf.boolean_mask(boxes, inverted)[0],),
            ),
        )

    def _box_conditions(self, path, boxes):
        boxes = tf.cast(boxes, tf.float32)
        largest = tf.reduce_max(boxes)
        yield (
            ~(largest <= 1.5) & (tf.size(boxes) > 0),
            lambda: tf.strings.format(
                f"augment.Pipeline expects boxes as fractions of the sides, as box_format={self.box_format!r} says. "
                f"Received numbers up to {{}} in {path!r}. Write Pipeline(..., box_format='yxyx') for pixels as top, "
                "left, bottom, right, or 'xyxy' or 'xywh' for other orders.",
                (largest,),
            ),
        )

    def _fraction_conditions(self, path, role, places):
        """Fractions of the sides where pixels are declared: all lie within the first pixel and are not whole."""
        name = "box_format" if role == "boxes" else "keypoint_format"
        form = getattr(self, name)
        if form.startswith("rel") or not places.dtype.is_floating:
            return
        places = tf.cast(places[..., : 4 if role == "boxes" else 2], tf.float32)
        largest = tf.reduce_max(places)
        parts = tf.reduce_sum(tf.cast((places > 0) & (places < 1), tf.int32))
        yield (
            (largest <= 1) & (parts > 2),
            lambda: tf.strings.format(
                f"augment.Pipeline expects {role} in pixels, as {name}={form!r} says. Received numbers up to {{}} in "
                f"{path!r}, which look like fractions of the sides. Write Pipeline(..., {name}="
                f"{'rel_yxyx' if role == 'boxes' else 'rel_yx'!r}) for these, or with x first "
                f"{'rel_xyxy' if role == 'boxes' else 'rel_xy'!r}.",
                (largest,),
            ),
        )

    def _mask_conditions(self, path, masks):
        one_channel = masks.shape.rank == 3 or masks.shape[-1] == 1
        if not masks.dtype.is_floating or (one_channel and self.classes is not None):
            return
        lowest, highest = tf.reduce_min(masks), tf.reduce_max(masks)
        yield (
            ~((lowest >= 0) & (highest <= 1)) & (tf.size(masks) > 0),
            lambda: tf.strings.format(
                f"augment.Pipeline expects float masks in 0 to 1 for mixing. Received {{}} to {{}} in {path!r}. "
                "Write Pipeline(..., classes=21) for class numbers, or give one-hot masks.",
                (lowest, highest),
            ),
        )


def _compiled(step):
    return tf.function(functools.partial(step), jit_compile=True, autograph=False)


def _run(steps, parts, draws):
    images, labels, sample_weight = parts
    for kind, step in steps:
        if kind == "image":
            images = step(images, draws)
        else:
            images, labels, sample_weight = step(images, labels, sample_weight, draws)
    return images, labels, sample_weight


def _unless_empty(filled, function):
    """`function()`, or empty tensors of its shapes for an empty batch, so that nothing is traced for that case."""
    specs = []

    def run():
        parts = function()
        specs.extend((part.shape, part.dtype) for part in parts)
        return parts

    empty = lambda: tuple(tf.zeros((0, *(side or 0 for side in shape[1:])), dtype) for shape, dtype in specs)  # noqa: E731
    return tf.cond(filled, run, empty)


def _present(parts):
    return tuple(part for part in parts if part is not None)


def _sides(tensor):
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if side is None else side for axis, side in enumerate(tensor.shape)]


def _after(assertion):
    with tf.control_dependencies([assertion] if assertion is not None else []):
        return tf.constant(True)
