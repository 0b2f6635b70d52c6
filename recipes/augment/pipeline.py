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
    """Augment batches of images with a separate draw for each image, repeatable from a seed.

    In tf.data, `dataset.batch(128).apply(pipeline).prefetch(2)`, the result depends only on the seed, the number of
    the epoch and the number of the batch. Every run gives the same bytes, whatever `num_parallel_calls`, and every
    epoch gives other images. See `apply` for starting in the middle of a run. `pipeline(images, labels, seed=(a, b))`
    is the same computation on one batch. `dataset.map(pipeline)` works too, but a map does not know the number of its
    batch. It draws from TensorFlow's stateful generator, and the order of parallel calls changes the draws.

    **Order.** Stages run geometry -> color and erasing -> blur and noise -> mixing, and inside a stage in the order of
    the list. The geometric operations of a pass are composed, and the images are resampled once: flips and whole-pixel
    crops exactly, the rest bilinearly. So what one operation moves out of the image, another can move back in. Images
    are resampled twice where one resampling would change the result of an operation: `RandomResizedCrop` and
    `ScaleCrop` together with operations that fill borders, and antialiased zooms together with rotations. All color
    operations are composed to one affine map per image. A list that goes back to an earlier stage (erase, then
    rotate), or that fills borders in two ways, is divided into passes, which `repr` shows. Each pass costs another run
    over the images.

    **Range.** Values may leave the range between operations. They are clipped once, after the last color, blur or
    noise operation (to the normalized range after `Normalize`). `dtype="uint8"` rounds.

    **Labels** change only when an operation mixes images; they are then returned as soft labels `(batch, classes)`.
    Sample weights are blended with the same shares.

    **Annotations of pixels are moved with the pixels** when they are declared. In a call they are declared by name,
    `pipeline(images, labels, masks=masks, boxes=boxes)`. In a data set they are declared by `roles`, a role for each
    name in the batch (a key, a path such as "objects/bbox", or a position in a tuple such as "1/0"):

    - "masks" `(batch, height, width[, channels])`, any dtype, take the nearest pixel. Outside the image they are
      `mask_fill`, or follow the operation's `fill` where that is "edge" or "reflect". `MixUp` and `CutMix` turn class
      numbers into one-hot values over `classes` and mix these.
    - "heatmaps" of this shape, float, are resampled as the images are; they are zero outside and not clipped.
      "pixel_weights" of this shape take the nearest pixel and are zero outside.
    - "boxes" `(batch, n, 4)` or `(batch, 4)` in `box_format` become the smallest box around the moved outline, cut at
      the borders of the image. When less than `smallest_box_share` of a box is left, its row becomes -1, and so does
      its entry in "box_labels" `(batch, n)`. Rows of -1 in the input mean "no box", as `padded_batch` can write them.
      Boxes are returned as float32.
    - "keypoints" `(batch, ..., 2)` in `keypoint_format`, optionally with a visibility as third number, are moved
      exactly. A point outside the image keeps its coordinates and gets visibility 0. Two negative coordinates mean "no
      point". Keypoints are returned as float32.
    - "images", "labels" and "sample_weight" tell where these are. "unchanged" marks an entry that needs no moving.

    When the list contains geometry, any other entry that may belong to pixels is refused. That is an entry of rank 3
    or more, `(batch, 4)` that is neither soft nor multi-hot labels, one number per pixel, or a name that suggests it.
    An entry whose shape does not tell, such as `(batch, 2)`, is treated as a label. Erasing changes the images only.

    **Speed.** With `jit_compile="auto"`, batches of at least 65 536 values run as XLA programs. With a policy such as
    `RandAugment` or `AugMix` in the list, batches of 32 images do too. The programs are compiled at the first batch of
    each shape. That takes about 0.3 to 1 s for each of one to three programs, and once more for a smaller last batch.
    Smaller batches run as plain TensorFlow, which gives the same pixels to 1e-4 of the value range. Without XLA, a
    direct call and a data set agree to 1e-5 of the range (to one level for policies that compute in whole levels),
    because TensorFlow reorders arithmetic in a graph. With XLA they are equal to the last bit.

    Args:
        operations: list of operations such as `augment.Flip()`.
        value_range: `(low, high)` of the input pixels. Floats outside this range raise an error.
        classes: Number of classes; needed to mix integer labels. When it is given, labels of any dtype are checked,
            and numbers `(batch,)` are class numbers even if they are floats. Without it, floats are regression
            targets, which `MixUp` blends.
        seed: Integer >= 0. The same seed gives the same draws.
        jit_compile: "auto", True, or False (never XLA; works everywhere).
        dtype: "float32", "float16", "bfloat16" or "uint8", the dtype of the images that come out. Keras' dtype policy
            has no effect on it.
        roles: `{name: role}` for the entries of a batch besides images and labels, as described above.
        box_format: "rel_yxyx" (top, left, bottom, right as fractions of the sides, as in TFDS) or "rel_xyxy". In
            pixels from the upper left corner: "yxyx", "xyxy" or "xywh" (left, top, width, height, as in COCO). "cxcywh"
            is the center and the sides in pixels, "rel_cxcywh" the same as fractions of the sides, as in YOLO.
        keypoint_format: "yx" or "xy" in pixels, where (0, 0) is the center of the first pixel, or "rel_yx" or "rel_xy",
            fractions of the sides.
        smallest_box_share: Share of its area that must remain in the image for a box to be kept, in [0, 1].
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
        """Return a data set of augmented batches. `dataset.apply(pipeline)` does the same with the default arguments.

        The draws of a batch depend on three numbers only: the seed, the epoch, and the position of the batch in the
        epoch. The data set counts its epochs: the first iteration is epoch `first_epoch`, the next iteration is the
        following epoch, and so on. A run stopped after 7 epochs continues with the images it would have seen:

            train = pipeline.apply(batches, first_epoch=7)

        Each new iterator that is read counts as an epoch, also a look at `next(iter(train))`. (The batch that Keras
        reads to build a model under `MirroredStrategy` does not count.) To avoid that, pass `epoch` instead. It may be
        a tensor, so that one data set holds a whole run:

            run = tf.data.Dataset.range(7, 30).flat_map(lambda e: pipeline.apply(batches, epoch=e))

        In a run with several processes, each process reads its own part of the data and passes here which part that
        is; otherwise all processes would use the same draws. Batch number b of process i of n has the draws of batch
        b * n + i in a single process. So all parts together hold the same bytes that a single process would produce:

            train = pipeline.apply(mine.batch(32, drop_remainder=True), shard=(i, n))

        Args:
            dataset: `tf.data.Dataset` of batches: images, `(images, labels)`, `(images, labels, sample_weight)` or
                dicts; images `(batch, height, width, channels)`, uint8 or float, with height, width and channels
                known; and whatever `roles` name.
            first_epoch: Number of the epoch of the first iteration, >= 0.
            epoch: Number of the single epoch that this data set gives, an int or an integer tensor; every iteration
                then gives the same images. It cannot be combined with `first_epoch`.
            shard: `(index, count)`: `dataset` holds part `index` of `count`, as from `data.load(shard=)` or
                `batches.shard(count, index)`. None for a whole data set, also under `MirroredStrategy`, which
                distributes the augmented batches itself.
            num_parallel_calls: As in `tf.data.Dataset.map`; it does not change the result.

        Returns:
            `tf.data.Dataset` of the same structure. Its iterators can be saved in a `tf.train.Checkpoint`.

        Raises:
            ValueError: when `first_epoch` is negative or combined with `epoch`, when `shard` is not `(index, count)`,
                or when the operations, shapes, dtypes or labels do not fit together.
        """
        if epoch is not None and first_epoch != 0:
            raise ValueError(
                f"Pipeline.apply expects first_epoch or epoch, not both. Received first_epoch={first_epoch} and "
                f"epoch={epoch}. Use first_epoch=7 to count on from epoch 7, epoch=7 for that one epoch alone."
            )
        if not isinstance(first_epoch, int | np.integer) or first_epoch < 0:
            raise ValueError(
                f"Pipeline.apply expects first_epoch to be a whole number >= 0. Received {first_epoch!r}. "
                "Epochs count from 0, so write first_epoch=7 after seven finished epochs; pass a tensor as epoch=."
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
        """The pair of seeds that `apply` uses for batch number `batch` of epoch number `epoch`, both counted from 0.

        Use it to repeat one batch: `pipeline(images, labels, seed=pipeline.batch_seed(3, 0))`.
        """
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
            images: `(batch, height, width, channels)`, tensor or numpy array; or a dict that holds them. A whole
                `tf.data.Dataset` is passed on to `apply`.
            labels: `(batch,)` or `(batch, classes)`, or None.
            sample_weight: `(batch,)` or None.
            masks, heatmaps, pixel_weights, boxes, box_labels, keypoints: Annotations that move with the pixels, in the
                shapes that the class docstring gives. Each may be a dict or list of several.
            seed: Two integers; the same two give the same images. With None every call has new draws.
            part: `(first, whole)` when these images are a part of a batch that several processes share: they start at
                image number `first` of a batch of `whole` images. They get the draws they would have in the whole
                batch. None for a whole batch.

        Returns:
            The augmented tensors in the form of the input: `images`, `(images, labels)` or `(images, labels,
            sample_weight)`. When annotations were given, a dict by the names of the arguments.

        Raises:
            ValueError: when operations, shapes, dtypes, labels or pixel values do not fit together.
            TypeError: when images or labels are not arrays or tensors.
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
                "augment.Pipeline expects a whole batch where images are mixed with one another. Received a part of "
                "a batch (part=). Leave out MixUp and CutMix, or give every process whole batches."
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
        """Draw images and their augmented versions: one row per image, with the original first.

        Args:
            images: `(n, height, width, channels)` or one image, in the pipeline's value range.
            columns: Number of pictures in a row, with the original, >= 2.
            seed: Integer; another value gives other draws.

        Returns:
            `matplotlib.figure.Figure`.

        Raises:
            ValueError: when `images` has another shape or `columns` is below 2.
        """
        from recipes.plot import grid  # noqa: PLC0415 - brings matplotlib

        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        if columns < 2 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                "Pipeline.preview expects images of shape (n, height, width, channels) and columns >= 2. Received "
                f"shape {images.shape} and columns={columns}. Write for example pipeline.preview(images[:6])."
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
        # Compiled programs belong to one process; they are compiled again where the pipeline is unpickled.
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
        """Whether images are mixed with others, so that labels are returned as soft labels `(batch, classes)`."""
        return any(part.stage == "mix" for part in self._parts())

    def unmixed(self, images: tf.TensorSpec, count: int, seed: "Sequence[int]") -> "np.ndarray":
        """Tell which examples of a batch are not mixed with another example.

        Args:
            images: Shape `(batch, height, width, channels)` and dtype of the input images.
            count: Number of examples in the batch.
            seed: Two integers as for a call, such as `batch_seed(epoch, batch)`.

        Returns:
            bool `(count,)`, True for an example without a share of another.
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

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and converting takes seconds
    def _augment(self, element, seed):
        """One batch inside a graph."""
        batch = take_apart(weighted(element, self._parts()), self.roles)
        refuse_unweighted(batch, self._parts())
        return self._engine(batch.images).transform(batch, seed)

    def _next_seed(self):
        """The seed of a call without one: a count in eager mode, TensorFlow's stateful generator in a graph."""
        if tf.executing_eagerly():
            self._calls += 1
            return as_seed((self._seed_word, -self._calls))
        if any(part.until_epoch is not None for part in self._parts()):
            raise ValueError(
                "augment.Pipeline expects to know the epoch where until_epoch is given. Received a call in a graph "
                "without seed, as in dataset.map(pipeline). Write dataset.apply(pipeline)."
            )
        return tf.random.uniform((2,), maxval=2**62, dtype=tf.int64, seed=self.seed)


def _batch_numbers(epoch, *, index, count):
    """An endless data set of int64 numbers for the batches of an epoch; no two epochs or shards share a number."""
    start = tf.cast(epoch, tf.int64) * EPOCH + index
    return tf.data.Dataset.counter(start=start, step=count, dtype=tf.int64)
