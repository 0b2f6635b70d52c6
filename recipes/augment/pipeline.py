"""The pipeline: a list of operations that augments batches, in tf.data or as a function."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from recipes.augment.engine.annotations import BoxFormat, PointFormat
from recipes.augment.engine.batch_layout import Batch, check_batch, check_mask_fill, take_apart
from recipes.augment.engine.operation import Frame, Operation, from_config, leaves, to_config
from recipes.augment.engine.plan import EPOCH, split_passes
from recipes.augment.engine.roles import Role, check_roles
from recipes.augment.engine.stages import Engine
from recipes.augment.engine.views_of_an_image import check_views_alone, refuse_unweighted, weighted
from recipes.augment.epochs import EpochCounter
from recipes.augment.pipeline_arguments import (
    DEFAULTS,
    as_seed,
    as_tensor,
    check_counts,
    check_formats,
    checked_dtype,
    checked_operations,
    checked_range,
    data_mean,
    named_parts,
    preview_rows,
    stacked,
)
from recipes.data.shard import check_shard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recipes.common.types import Images, Labels, ValueRange


class Pipeline:
    """Augment batches of images: every image its own draw, exactly the same again for the same seed.

    In tf.data, `dataset.batch(128).apply(pipeline).prefetch(2)`, it is a function of the seed, the number of the
    epoch and the number of the batch: the same bytes on every run, whatever `num_parallel_calls`, other images in
    every epoch. See `apply` for starting in the middle of a run. `pipeline(images, labels, seed=(a, b))` is the
    same computation on one batch. `dataset.map(pipeline)` works too, but a map does not know which batch it is
    given: it draws from TensorFlow's stateful generator, and parallel calls race for its numbers.

    **Order.** Stages run geometry -> color and erasing -> blur and noise -> mixing, inside a stage in the order of
    the list. The geometry of a pass is composed and the images are read once (flips and whole-pixel crops exactly,
    the rest bilinearly); what one operation moves out of the image another can move back in. Where that would change
    what an operation does, there are two reads, one after the other: `RandomResizedCrop` and `ScaleCrop` beside
    operations that fill borders, and zooms that are antialiased beside turns. All colors are composed to one affine
    map per image. A list that goes back to an earlier stage (erase, then rotate), or that fills borders in two ways,
    is cut into passes, which `repr` shows; each costs a further run over the images.

    **Range.** Values may leave the range on the way; they are clipped once, at the end of the last color, blur or
    noise (to the normalized range after `Normalize`). `dtype="uint8"` rounds.

    **Labels** change only when an operation mixes images, and then leave as rows (batch, classes). Sample weights
    are blended with the same shares.

    **What belongs to pixels moves with them**, when it is declared: in a call by name, `pipeline(images, labels,
    masks=masks, boxes=boxes)`, in a data set by `roles`, a role for each name in the batch (a key, a path such as
    "objects/bbox", or a position in a tuple such as "1/0"):

    - "masks" `(batch, height, width[, channels])`, any dtype: the nearest pixel. Outside is `mask_fill`, or what the
      operation's `fill` says where that is "edge" or "reflect". `MixUp` and `CutMix` turn class numbers into shares of
      `classes` and mix these.
    - "heatmaps" of this shape, float: read as the images are, zero outside, not clipped. "pixel_weights" of this shape:
      the nearest pixel, zero outside.
    - "boxes" `(batch, n, 4)` or `(batch, 4)` in `box_format`: the smallest box about the moved outline, cut to the
      image. A box of which less than `smallest_box_share` is left becomes a row of -1, and its entry in "box_labels"
      `(batch, n)` -1. Rows of -1 come in as "no box": `padded_batch` makes them. Boxes leave as float32.
    - "keypoints" `(batch, ..., 2)` in `keypoint_format`, or with a visibility as third number: exact. A point outside
      keeps its coordinates, and gets visibility 0. Two negative coordinates mean "no point". They leave as float32.
    - "images", "labels", "sample_weight" say where these are; "unchanged" that something needs no moving.

    Where geometry is involved, anything else whose shape can belong to pixels (of rank 3 or more; `(batch, 4)` that is
    neither shares nor zeros and ones; one number for each pixel) or whose name says so is refused. What the shape
    cannot tell, such as `(batch, 2)`, is taken for a label. Erasing paints over images only.

    **Speed.** With `jit_compile="auto"`, batches of at least 65 536 values, and of 32 images where a policy such as
    `RandAugment` or `AugMix` is in the list, run as XLA programs, compiled at the first batch of each shape (about 0.3
    to 1 s for each of one to three programs, once more for a smaller last batch); smaller ones run as plain TensorFlow,
    which gives the same pixels to 1e-4 of the value range. Without XLA, a direct call and a data set agree to 1e-5 of
    the range (policies that count in whole levels, to a level): in a graph TensorFlow reorders arithmetic. With XLA
    they are equal to the last bit.

    Args:
        operations: list of operations such as `augment.Flip()`.
        value_range: `(low, high)` of the pixels that come in. Floats outside are an error.
        classes: Number of classes; needed to mix integer labels. When given, labels of any dtype are checked, and
            numbers `(batch,)` are classes even as floats; without it floats are quantities, which `MixUp` blends.
        seed: Integer. Same seed, same draws.
        jit_compile: "auto", True, or False (never XLA; works everywhere).
        dtype: "float32", "float16", "bfloat16" or "uint8", of the images that come out. Keras' dtype policy has
            no say.
        roles: `{name: role}` for what is in a batch besides images and labels, as described above.
        box_format: "rel_yxyx" (top, left, bottom, right as fractions of the sides, as in TFDS), "rel_xyxy", or in
            pixels from the upper left edge "yxyx", "xyxy" or "xywh" (left, top, width, height, as in COCO); "cxcywh" is
            the middle and the sides, "rel_cxcywh" as fractions, as YOLO writes boxes.
        keypoint_format: "yx" or "xy" in pixels, where (0, 0) is the middle of the first pixel, or "rel_yx" or "rel_xy",
            fractions of the sides.
        smallest_box_share: Share of its area that must be left of a box, in [0, 1].
        mask_fill: Value of masks outside the image, such as 255 for "ignore".

    Raises:
        ValueError: at `apply` or at the call, when operations, shapes, dtypes or labels do not fit together.
        tf.errors.InvalidArgumentError: inside tf.data, when pixels or labels are out of range.

    Example:
        >>> pipeline = augment.Pipeline([augment.Flip(), augment.PadCrop(4), augment.MixUp(0.2)], classes=10, seed=1)
        >>> model.fit(train.batch(128).apply(pipeline).prefetch(2), epochs=30)
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        value_range: "ValueRange" = (0, 255),
        classes: int | None = None,
        seed: int = 0,
        jit_compile: Literal["auto", True, False] = "auto",
        dtype: Literal["float32", "float16", "bfloat16", "uint8"] = "float32",
        roles: Mapping[str, Role] | None = None,
        box_format: BoxFormat = "rel_yxyx",
        keypoint_format: PointFormat = "yx",
        smallest_box_share: float = 0.1,
        mask_fill: float = 0,
    ) -> None:
        self.operations = checked_operations(operations)
        self.value_range = checked_range(value_range)
        check_counts(classes, seed, jit_compile)
        self.classes, self.seed, self.jit_compile = classes, int(seed), jit_compile
        self.dtype = checked_dtype(dtype, self._parts(), self.value_range)
        self.roles = check_roles(roles)
        check_formats(box_format, keypoint_format, smallest_box_share, mask_fill)
        self.box_format, self.keypoint_format = box_format, keypoint_format
        self.smallest_box_share, self.mask_fill = smallest_box_share, mask_fill
        self._engines: dict[tuple[Any, ...], Engine] = {}
        self._calls = 0

    def apply(
        self,
        dataset: tf.data.Dataset,
        *,
        first_epoch: int = 0,
        epoch: "int | tf.Tensor | None" = None,
        shard: tuple[int, int] | None = None,
        num_parallel_calls: int | None = tf.data.AUTOTUNE,
    ) -> tf.data.Dataset:
        """A data set of augmented batches. `dataset.apply(pipeline)` is this with its defaults.

        The draws of a batch depend on three numbers only: the seed, the epoch, and the place of the batch in the
        epoch. The epoch is counted here: the first time the result is iterated is `first_epoch`, the next time the
        one after it, and so on. A run stopped after 7 epochs goes on with the images it would have seen:

            train = pipeline.apply(batches, first_epoch=7)

        Everything that starts an iterator and reads from it counts, a look at `next(iter(train))` too (but not the one
        that Keras takes to build a model under `MirroredStrategy`). Where that is a danger, name the epoch instead; it
        may be a tensor, so that one data set holds a whole run:

            run = tf.data.Dataset.range(7, 30).flat_map(lambda e: pipeline.apply(batches, epoch=e))

        A run in several processes gives each its own part of the data, and says here which part that is, or all
        would draw the same. Batch number b of process i of n then has the draws of batch b * n + i of one process, so
        the parts together are, byte for byte, what one process makes of the same batches dealt out in turn:

            train = pipeline.apply(mine.batch(32, drop_remainder=True), shard=(i, n))

        Args:
            dataset: `tf.data.Dataset` of batches: images, `(images, labels)`, `(images, labels, sample_weight)` or
                dicts; images `(batch, height, width, channels)`, uint8 or float, with height, width and channels
                known; and whatever `roles` name.
            first_epoch: Number of the epoch of the first iteration, >= 0.
            epoch: Number of the one epoch this data set stands for, an int or an integer tensor; every iteration
                then gives the same images. Excludes `first_epoch`.
            shard: `(index, count)`: `dataset` holds part `index` of `count`, as from `data.load(shard=)` or
                `batches.shard(count, index)`. None for a whole data set, also under `MirroredStrategy`, which deals
                out augmented batches.
            num_parallel_calls: As in `tf.data.Dataset.map`; no influence on what comes out.

        Returns:
            `tf.data.Dataset` of the same structure. Its iterators can be saved in a `tf.train.Checkpoint`.

        Raises:
            ValueError: see the class.
        """
        if epoch is not None and first_epoch != 0:
            raise ValueError(
                f"Pipeline.apply expects first_epoch or epoch. Received first_epoch={first_epoch} and epoch={epoch}. "
                "Use first_epoch=7 to go on counting from 7, epoch=7 for that one epoch alone."
            )
        if not isinstance(first_epoch, int | np.integer) or first_epoch < 0:
            raise ValueError(
                f"Pipeline.apply expects first_epoch to be a whole number >= 0. Received {first_epoch!r}. "
                "Epochs count from 0: first_epoch=7 after seven finished ones; a tensor goes into epoch=."
            )
        index, count = check_shard(shard, "Pipeline.apply")
        self._check(take_apart(dataset.element_spec, self.roles))
        batch_numbers = functools.partial(_batch_numbers, index=index, count=count)
        numbers = (
            EpochCounter(first_epoch).dataset().flat_map(batch_numbers)
            if epoch is None
            else batch_numbers(epoch)
        )
        size = dataset.cardinality()
        numbered = tf.data.Dataset.zip(dataset, numbers)
        if tf.executing_eagerly() and size != tf.data.UNKNOWN_CARDINALITY:
            # Without this, `fit` would not know the length of an epoch before the first is over.
            numbered = numbered.apply(tf.data.experimental.assert_cardinality(size))
        augment = lambda element, number: self._augment(element, tf.stack([self._seed_word, number]))  # noqa: E731
        if num_parallel_calls is None:
            result = numbered.map(augment)
        else:
            result = numbered.map(augment, num_parallel_calls=num_parallel_calls, deterministic=True)
        if epoch is not None:
            return result
        # A saved iterator holds its epoch; the count of epochs stays with the data set.
        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        return result.with_options(options)

    def batch_seed(self, epoch: int, batch: int) -> tuple[int, int]:
        """The seed pair that `apply` uses for a batch: `pipeline(images, labels, seed=pipeline.batch_seed(3, 0))`."""
        return self._seed_word, epoch * EPOCH + batch

    @tf.autograph.experimental.do_not_convert
    def __call__(
        self,
        images: "Images | Mapping[str, Any] | tf.data.Dataset",
        labels: "Labels | None" = None,
        sample_weight: "Labels | None" = None,
        *,
        masks: Any = None,
        heatmaps: Any = None,
        pixel_weights: Any = None,
        boxes: Any = None,
        box_labels: Any = None,
        keypoints: Any = None,
        seed: "Sequence[int] | tf.Tensor | None" = None,
        part: "tuple[int | tf.Tensor, int | tf.Tensor] | None" = None,
    ) -> Any:
        """Augment one batch, or every batch of a data set.

        Args:
            images: `(batch, height, width, channels)`, tensor or numpy array; or a dict that holds them, or a whole
                `tf.data.Dataset`, for which this is `apply`.
            labels: `(batch,)` or `(batch, classes)`, or None.
            sample_weight: `(batch,)` or None.
            masks, heatmaps, pixel_weights, boxes, box_labels, keypoints: What moves with the pixels, of the shapes that
                the class describes; each may be a dict or list of several.
            seed: Two integers; the same two give the same images. None takes the next of the pipeline's own draws.
            part: `(first, whole)` where these images are those from number `first` on of a batch of `whole`, which
                several processes share: they come out as they would among the others. None for a whole batch.

        Returns:
            What was given, augmented: `images`, `(images, labels)` or `(images, labels, sample_weight)`; tensors. With
            anything that moves with the pixels, a dict by the names of the arguments that were given.
        """
        if isinstance(images, tf.data.Dataset):
            return self.apply(images)
        if isinstance(images, list) and all(getattr(one, "ndim", None) == 3 for one in images):
            images = stacked(images)
        moving = {
            "masks": masks,
            "heatmaps": heatmaps,
            "pixel_weights": pixel_weights,
            "boxes": boxes,
            "box_labels": box_labels,
            "keypoints": keypoints,
        }
        element, roles = named_parts(images, labels, sample_weight, moving, self.roles)
        element = tf.nest.map_structure(as_tensor, element)
        batch = take_apart(element, roles)
        self._check(batch)
        refuse_unweighted(batch, self._parts())
        if part is not None and self.mixes:
            raise ValueError(
                "augment.Pipeline expects a whole batch where images are mixed with one another. Received a part "
                "(part=). Leave MixUp and CutMix out, or give every process whole batches."
            )
        if not tf.executing_eagerly():
            seed = self._next_seed() if seed is None else as_seed(seed)
            augmented = self._engine(batch.images).transform(batch, seed, part)
        else:
            engine = self._engine(batch.images)
            engine.check_values(batch)
            seed = self._next_seed() if seed is None else as_seed(seed)
            augmented = engine.transform(batch, seed, part)
        return augmented[0] if isinstance(augmented, tuple) and len(augmented) == 1 else augmented

    def preview(self, images: "Images", *, columns: int = 8, seed: int = 0) -> "Figure":
        """Draw what the pipeline makes of some images: one row an image, the image itself first.

        Args:
            images: `(n, height, width, channels)` or one image, in the pipeline's value range.
            columns: Pictures in a row, the original included, >= 2.
            seed: Integer, for other draws.

        Returns:
            `matplotlib.figure.Figure`.
        """
        from recipes.plot import grid  # noqa: PLC0415 - brings matplotlib

        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        if columns < 2 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                "Pipeline.preview expects images of shape (n, height, width, channels) and columns >= 2. Received "
                f"shape {images.shape} and columns={columns}. For a few images write pipeline.preview(images[:6])."
            )
        drawn = [self(images, seed=(self._seed_word + seed, column)).numpy() for column in range(columns - 1)]
        last = self._engine(as_tensor(images[:1])).plan.last
        rows = preview_rows(images, drawn, self.value_range, (last.low, last.high))
        titles = ["original", *[""] * (columns * len(images) - 1)]
        return grid(rows, titles=titles, columns=columns, size=1.2)

    def get_config(self) -> dict[str, Any]:
        return {
            "operations": [to_config(op) for op in self.operations],
            **{name: getattr(self, name) for name in DEFAULTS},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Pipeline":
        return cls(**{**config, "operations": from_config(list(config["operations"]))})

    def __getstate__(self) -> dict[str, Any]:
        # Compiled programs belong to one process; they are made again where the pipeline is unpickled.
        return {**self.__dict__, "_engines": {}}

    def __repr__(self) -> str:
        passes = split_passes(self.operations)
        lines = ["Pipeline(["]
        for number, group in enumerate(passes, 1):
            if len(passes) > 1:
                lines.append(f"    # pass {number} of {len(passes)}")
            lines += [f"    {op!r}," for op in group]
        options = [
            f"{name}={getattr(self, name)!r}"
            for name, usual in DEFAULTS.items()
            if getattr(self, name) != usual
        ]
        return "\n".join([*lines, ", ".join(["]", *options]) + ")"])

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, so that labels leave as rows of shares."""
        return any(part.stage == "mix" for part in self._parts())

    def unmixed(self, images: tf.TensorSpec, count: int, seed: "Sequence[int]") -> "np.ndarray":
        """Which examples of a batch leave as themselves alone, without a share of another.

        Args:
            images: Shape `(batch, height, width, channels)` and dtype of the images that come in.
            count: Examples of the batch.
            seed: As for a call, such as `batch_seed(epoch, batch)`.

        Returns:
            bool `(count,)`.
        """
        if not self.mixes:
            return np.ones(count, bool)
        return self._engine(images).unmixed(count, as_seed(seed))

    @property
    def _seed_word(self):
        return self.seed % 2**60

    def _engine(self, images):
        """The `Engine` for images of this shape and dtype."""
        key = (*images.shape[1:], images.dtype.name)
        if key not in self._engines:
            height, width, channels = images.shape[1:]
            low, high = (np.full(channels, edge, "float32") for edge in self.value_range)
            self._engines[key] = Engine(
                self.operations,
                Frame(height, width, channels, low, high, data_mean(self._parts(), channels)),
                jit_compile=self.jit_compile,
                classes=self.classes,
                value_range=self.value_range,
                dtype=self.dtype,
                box_format=self.box_format,
                keypoint_format=self.keypoint_format,
                smallest_box_share=self.smallest_box_share,
                mask_fill=self.mask_fill,
            )
        return self._engines[key]

    def _parts(self):
        return [part for op in self.operations for part in leaves(op)]

    def _check(self, batch: Batch):
        parts = self._parts()
        check_views_alone(batch, parts)
        check_batch(
            batch,
            geometric=any(part.stage == "geometry" or part.moves for part in parts),
            mixing=next((part.name for part in parts if part.stage == "mix"), None),
            classes=self.classes,
            value_range=self.value_range,
        )
        check_mask_fill(batch, self.mask_fill)
        self._engine(batch.images)

    @tf.autograph.experimental.do_not_convert  # there is nothing in it to convert, and that takes seconds
    def _augment(self, element, seed):
        """One batch inside a graph."""
        batch = take_apart(weighted(element, self._parts()), self.roles)
        refuse_unweighted(batch, self._parts())
        return self._engine(batch.images).transform(batch, seed)

    def _next_seed(self):
        """The pipeline's own next draw: counted when called directly, stateful inside somebody's graph."""
        if tf.executing_eagerly():
            self._calls += 1
            return as_seed((self._seed_word, -self._calls))
        if any(part.until_epoch is not None for part in self._parts()):
            raise ValueError(
                "augment.Pipeline expects to know the epoch where until_epoch is given. Received a call in a graph "
                "without seed, as dataset.map(pipeline) makes it. Write dataset.apply(pipeline)."
            )
        return tf.random.uniform((2,), maxval=2**62, dtype=tf.int64, seed=self.seed)


def _batch_numbers(epoch, *, index, count):
    """Numbers of the batches of an epoch, endless, int64; no number is used in two epochs or two shards."""
    start = tf.cast(epoch, tf.int64) * EPOCH + index
    return tf.data.Dataset.counter(start=start, step=count, dtype=tf.int64)
