"""The data of one training run: opened, checked, augmented, and handed out for each purpose it is read for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import as_share, without_autotune
from recipes.common.input_shapes import check_inputs
from recipes.common.processes import is_first_process, process_count, process_index
from recipes.common.types import Data
from recipes.distribution import MultiWorkerStrategy
from recipes.training.accepted_data import Source, open_source
from recipes.training.data_checks import checked
from recipes.training.default_augmentation import choose_pipeline
from recipes.training.epoch_stream import stream
from recipes.training.maps import augmented, judges_classes, map_size, weighted
from recipes.training.settings import Settings

_STATISTICS_STEPS = 100  # batches that are enough for batch-normalization statistics


@dataclass(frozen=True)
class TrainingData:
    """Training and validation data of one run.

    Attributes:
        source: The training data as it came.
        validation: The validation data as it came, or None.
        classes: Number of classes that labels must fit, or None where they are not class labels.
        class_weight: A weight for every class, or None.
        maps: `(height, width)` where labels are a class for every pixel; else None.
        steps: Batches per epoch.
        augmentation: The description of the augmentation for the user.
        prepare: function `(batch, place) -> batch`: checked and augmented. It is traced once, for the look, the checks,
            the statistics and the training.
        label_spec: Shape and dtype of a batch of labels after the augmentation.
        one_hot: Whether integer labels become one-hot labels, as the loss wants them.
        share: `(index, count)` where each of several workers reads and augments its part of every batch; else None.
        unmixed: function `(epoch, step, count) -> bool (count,)`: which examples of a batch the augmentation mixes with
            no other; None where it mixes none.
    """

    source: Source
    validation: Source | None
    classes: int | None
    class_weight: dict[int, float] | None
    maps: tuple[int | None, int | None] | None
    steps: int
    augmentation: str
    prepare: Callable[[tuple[Any, ...], tf.Tensor], tuple[Any, ...]]
    label_spec: tf.TensorSpec
    one_hot: bool = False
    share: tuple[int, int] | None = None
    unmixed: Callable[[int, int, int], np.ndarray] | None = None

    def for_loss(self, one_hot: bool) -> TrainingData:
        """The same data with the labels that the compiled loss takes."""
        return dataclasses.replace(self, one_hot=one_hot and self.classes is not None)

    def keeping(self, kept: np.ndarray | None) -> TrainingData:
        """The same data; `kept` are the numbers that its examples have in the user's data set, None for all of them."""
        return dataclasses.replace(self, source=dataclasses.replace(self.source, kept=kept))

    def training(self, *, first_epoch: int, first_step: int, epochs: int) -> tf.data.Dataset:
        """The batches of all epochs from `first_epoch` on, one after another; `first_step` of them blank."""
        batches = stream(
            self.source,
            first_epoch=first_epoch,
            first_step=first_step,
            epochs=epochs,
            steps=self.steps,
            transform=self._prepared,
            share=self.share,
        )
        return batches if self.share is None else as_share(batches)

    def unaugmented(self) -> tf.data.Dataset:
        """One epoch of the images as they came, with the labels that the loss takes; it leaves the training's order."""
        check = checked("train", self.classes, self.maps)
        plain = dataclasses.replace(self, prepare=lambda batch, place: check(batch))
        return plain.preview()

    def preview(self) -> tf.data.Dataset:
        """One epoch as the training will see it; reading it leaves the order of the training as it is."""
        return stream(
            self.source.preview, first_epoch=0, epochs=1, steps=self.steps, transform=self._prepared
        )

    def for_statistics(self) -> tf.data.Dataset:
        """Augmented training batches for batch-normalization statistics."""
        steps = min(self.steps, _STATISTICS_STEPS)
        return stream(self.source.preview, first_epoch=0, epochs=1, steps=steps, transform=self.prepare)

    def validation_batches(self) -> tf.data.Dataset | None:
        """The validation data as `fit` reads it, or None."""
        return self._validation_batches(self.validation)

    def validation_preview(self) -> tf.data.Dataset | None:
        """The validation data for looking at it, or None."""
        return self._validation_batches(self.validation and self.validation.preview)

    @property
    def fit_class_weight(self) -> dict[int, float] | None:
        """What `fit` is given as `class_weight`; where each pixel has a class, the batches hold the weights."""
        return None if self.maps is not None else self.class_weight

    def _prepared(self, batch, place):
        batch = self._labels_for_loss(self.prepare(batch, place))
        if self.maps is not None and self.class_weight is not None:
            return weighted(batch, self.class_weight)
        return batch

    def _labels_for_loss(self, batch):
        if not self.one_hot or batch[1].shape.rank != (1 if self.maps is None else 3):
            return batch
        return (batch[0], tf.one_hot(tf.cast(batch[1], tf.int64), self.classes), *batch[2:])

    def _validation_batches(self, source):
        if source is None:
            return None
        check = checked("validation", self.classes, self.maps)
        batches = source.batches(tf.constant(0, tf.int64))
        batches = batches.map(lambda *batch: self._labels_for_loss(check(batch)), num_parallel_calls=2)
        return without_autotune(batches.prefetch(2))


def open_data(model: keras.Model, train: Data, validation: Data | None, settings: Settings) -> TrainingData:
    """Look at the data of a run without consuming it, and say how it is read.

    Raises:
        ValueError, TypeError: for data that cannot be right, as `open_source`; for class weights of classes that the
            model does not have.
    """
    maps = map_size(model, settings)
    classes = number_of_classes(model, settings, maps)
    class_weight = weight_of_each(settings.class_weight, classes)
    how = {"model": model, "batch_size": settings.batch_size, "classes": classes, "seed": settings.seed}
    how["maps"] = maps
    source = open_source(train, "train", shuffle=True, **how)
    held_out = open_source(validation, "validation", shuffle=False, **how) if validation is not None else None
    _check_devices({"train": source, "validation": held_out}, settings)
    if class_weight is not None and len(source.element_spec) == 3:
        raise ValueError(
            "recipes.train expects class_weight, or a weight with every example, not both. Received class_weight "
            "and train with weights. Multiply them into one: map (image, label, weight) to weight * class weight."
        )
    steps = steps_of_an_epoch(source, settings.steps_per_epoch)
    pipeline, said = choose_pipeline(source, classes, settings)
    if class_weight is not None and pipeline is not None and pipeline.mixes:
        raise ValueError(
            "recipes.train expects class_weight, or an augmentation that mixes images, not both: for a mixed label "
            "`fit` would take only the weight of the larger share. Received class_weight and MixUp or CutMix. Draw "
            "the classes evenly, data.load(..., balance='classes') or 'sqrt', or leave the mixing out."
        )
    prepare = _preparation(pipeline, checked("train", classes, maps), maps is not None)
    seen, spec, *_ = stream(source, first_epoch=0, epochs=1, steps=1, transform=prepare).element_spec
    check_inputs("recipes.train", "train", model, seen)  # an augmentation may change the size
    if held_out is not None:
        check_inputs("recipes.train", "validation", model, held_out.element_spec[0])
    unmixed = (
        None if pipeline is None or not pipeline.mixes or maps is not None else _unmixed(pipeline, source)
    )
    share = share_of(source, pipeline, settings)
    return TrainingData(
        source,
        held_out,
        classes,
        class_weight,
        maps,
        steps,
        said,
        prepare,
        spec,
        share=share,
        unmixed=unmixed,
    )


def _check_devices(sources, settings):
    """Refuse batches that JAX cannot deal out evenly over the devices of this process."""
    spread = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if not isinstance(spread, keras.distribution.DataParallel):
        return
    devices = int(spread.device_mesh.devices.size) // process_count()
    for name, source in sources.items():
        if source is None or source.batched or not source.examples or source.endless:
            continue
        count, size = source.examples, settings.batch_size
        last = 0 if name == "train" and settings.steps_per_epoch else count % size
        uneven = [one for one in (min(size, count), last) if one % devices]
        if uneven:
            raise ValueError(
                f"recipes.train expects batches in {name} that divide over the {devices} devices of "
                f"keras.distribution. Received {count} images in batches of {size}, of which one has {uneven[0]}. "
                f"Leave {uneven[0] % devices} of them out, or give another batch_size."
            )


def share_of(source: Source, pipeline: Any, settings: Settings) -> tuple[int, int] | None:
    """`(index, count)` of this worker among all that share the batches; None where each worker reads whole batches.

    Workers read and augment whole batches where images are mixed with others of their batch, and for endless data.

    Raises:
        ValueError: for batches of fewer images than there are workers.
    """
    if not isinstance(settings.strategy, MultiWorkerStrategy):
        return None
    workers, size = process_count(), _batch_size(source, settings)
    if size is not None and size < workers:
        raise ValueError(
            f"recipes.train expects batches of at least one image per worker. Received batches of {size} for {workers} "
            "workers. Give a larger batch_size, which counts the images of all workers together."
        )
    if size is not None and size % workers and settings.verbose != 0 and is_first_process():
        print(
            f"recipes.train: batches of {size} images do not divide over {workers} workers: parts differ by one image, "
            f"and images of the smaller parts weigh a little more. batch_size={size - size % workers} would divide."
        )
    mixes = pipeline is not None and pipeline.mixes
    return None if mixes or source.endless else (process_index(), workers)


def _batch_size(source, settings):
    return tf.nest.flatten(source.element_spec)[0].shape[0] if source.batched else settings.batch_size


def _unmixed(pipeline, source):
    spec = source.element_spec[0]
    return lambda epoch, step, count: pipeline.unmixed(spec, count, pipeline.batch_seed(epoch, step))


def _preparation(pipeline, check, maps):
    @tf.function(autograph=False)
    def prepare(batch, place):
        batch = check(batch)
        if pipeline is None:
            return batch
        seed = pipeline.batch_seed(place[0], place[1])
        part = (place[2], place[3]) if place.shape[0] == 4 else None
        return augmented(pipeline, batch, seed, part) if maps else pipeline(*batch, seed=seed, part=part)

    return prepare


def number_of_classes(
    model: keras.Model, settings: Settings, maps: tuple[int | None, int | None] | None = None
) -> int | None:
    """Number of classes that labels must fit, or None where they are not class labels.

    Args:
        model: The model.
        settings: The arguments of `recipes.train`.
        maps: As from `map_size`.

    Raises:
        ValueError: when the data set says that it has another number of classes than the model has outputs.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) > 1 or (len(outputs[0].shape) != 2 and maps is None):
        return None
    width, info = outputs[0].shape[-1], settings.info
    classes = 2 if width == 1 else width
    if info is not None and len(info.class_names) != classes:
        raise ValueError(
            f"recipes.train expects one output per class, {len(info.class_names)} for {info.source}. Received a "
            f"model with {width}. Build it with classes={len(info.class_names)}."
        )
    return classes if judges_classes(model, settings) else None


def weight_of_each(class_weight: Mapping[int, float] | None, classes: int | None) -> dict[int, float] | None:
    """A weight for every class from 0 on, as Keras wants it; 1 where none is given.

    Raises:
        ValueError: for a class that the model does not have.
    """
    if not class_weight:
        return None
    count = max(class_weight) + 1 if classes is None else classes
    if min(class_weight) < 0 or max(class_weight) >= count:
        wrong = min(class_weight) if min(class_weight) < 0 else max(class_weight)
        raise ValueError(
            f"recipes.train expects class numbers in 0..{count - 1} as keys of class_weight. Received {wrong}. "
            "Give weights of classes that the model has."
        )
    return {number: float(class_weight.get(number, 1.0)) for number in range(count)}


def steps_of_an_epoch(source: Source, steps_per_epoch: int | None) -> int:
    """Number of batches per epoch.

    Raises:
        ValueError: where their number is not known, or the data set has fewer than `steps_per_epoch`.
    """
    if steps_per_epoch is not None:
        if source.steps is not None and steps_per_epoch > source.steps:
            raise ValueError(
                f"recipes.train expects at most the {source.steps} batches of train in an epoch. Received "
                f"steps_per_epoch={steps_per_epoch}. Use train.repeat()."
            )
        return int(steps_per_epoch)
    if source.steps is None:
        kind = "never ends" if source.endless else "does not know its length"
        raise ValueError(
            f"recipes.train expects to know how long an epoch is, for the schedule. Received a data set that {kind}. "
            "Give steps_per_epoch=, or apply tf.data.experimental.assert_cardinality(n)."
        )
    return source.steps
