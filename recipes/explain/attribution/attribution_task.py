"""The common part of all attributions: what happens before and after the arithmetic of each method."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np

from recipes.common.types import FloatArray, Verbose
from recipes.common.types import Inputs as ModelInputs
from recipes.common.validation import is_whole
from recipes.explain.attribution import resize_map
from recipes.explain.attribution.progress import Progress
from recipes.explain.engine import layer_lookup, passes, targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.input_layout import layout_of, maps_of_layers, placement
from recipes.explain.engine.inputs import Inputs
from recipes.explain.engine.moved_axes import Placement
from recipes.explain.engine.options import Compile, Score, Target

#: Numbers of images: a slice, or an index array.
Rows: TypeAlias = slice | np.ndarray
#: `change(batch, sample, rows)` writes copy number `sample` of the images `rows` into `batch`.
Change: TypeAlias = Callable[[np.ndarray, int, slice], None]


class Task:
    """The checked images and target of one call, with the kernels (see `passes`) applied to them.

    Rows are image numbers: evaluation `i` has the target of image `rows[i]`. So one chunk may mix images, samples and
    masks freely, and a result never depends on the other evaluations in its chunk.

    Args:
        method: The public function's name, for errors.
        model, images, target, score, batch_size, wrt, compile, data_format, return_layer, verbose: As in
            `recipes.explain`.
        gradient: True when the method differentiates by the input.
    """

    def __init__(
        self,
        method: str,
        model: keras.Model,
        images: ModelInputs,
        target: Target,
        *,
        score: Score,
        batch_size: int,
        wrt: str | int | None,
        compile: Compile,
        data_format: str | None = None,
        return_layer: bool = False,
        verbose: Verbose = "auto",
        gradient: bool = False,
    ) -> None:
        self.method, self.model, self.batch_size = method, model, int(batch_size)
        self.compile, self.verbose, self.progress = compile, verbose, None
        self.inputs = Inputs(model, images, wrt=wrt, method=method)
        self.return_layer = bool(return_layer)
        layout = layout_of(model, self.inputs, data_format, method)
        self.layout, self.channel_axis, self.tokens = layout, layout.channel_axis, layout.tokens
        if self.tokens:
            self._check_tokens(gradient)
        elif gradient:
            self.inputs.need_gradient()
        if self.inputs.single and np.ndim(target) == 1 and not callable(target) and len(target) > 1:
            target = np.asarray(target)[None]
        self.target = targets.parse(target, model, self.inputs.count, score=score, method=method)
        self._checked, self.place = False, None

    @property
    def count(self) -> int:
        return self.inputs.count

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape of the explained input: all axes but the batch and the channels."""
        shape = self.inputs.images.shape
        return tuple(size for axis, size in enumerate(shape) if axis not in (0, self.channel_axis))

    @property
    def channels_first(self) -> bool:
        """Whether the channels of the explained input come before the spatial axes."""
        return self.channel_axis == 1 and self.inputs.images.ndim > 2

    @functools.cached_property
    def placement(self) -> Placement | None:
        """How the maps of layers are placed over the explained input; None if both have the same position and axes."""
        return placement(self.model, self.inputs, self.layout)

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """Spatial shape of the picture that the model sees after it crops, transposes or resizes its input."""
        return self.placement.shape if self.placement else self.spatial

    def maps_of_layers(self) -> list[tuple[str, tuple[int, int]]]:
        """`(path, (rows, columns))` of each layer's map, in the order of the calls; `(0, 0)` without a map."""
        return maps_of_layers(self.model, self.inputs)

    def turned(self, values: np.ndarray) -> np.ndarray:
        """Maps `(n, *spatial, ...)` of a layer, with their axes in the order of the explained input."""
        return self.placement.turned(values) if self.placement else values

    def resized(self, maps: np.ndarray) -> FloatArray:
        """Maps `(n, *spatial)` resized to the explained input, each position at the place where the model sees it."""
        return resize_map.resize(maps, self.spatial, self.placement.windows if self.placement else None)

    def over_channels(self, maps: np.ndarray) -> np.ndarray:
        """Maps `(n, *spatial)` with an axis for the channels, so that they broadcast with images."""
        last = self.channel_axis is None or self.tokens
        return maps if last else np.expand_dims(maps, self.channel_axis)

    def _check_tokens(self, gradient):
        if (gradient and self.method not in ("saliency", "gradient_times_input")) or self.method in (
            "rise",
            "score_cam",
        ):
            raise UsageError(
                f"{self.method} expects an input that can be masked or interpolated. Input "
                f"'{self.inputs.names[self.inputs.wrt]}' holds token ids, which layer '{self.tokens.path}' looks up. "
                f"Use layer_integrated_gradients(layer='{self.tokens.path}').sum(-1), saliency or "
                "gradient_times_input, which use the embeddings, or occlusion with patch=1, stride=1 and value= "
                "the id of a neutral token."
            )

    def chunks(self, passes: int = 1) -> list[slice]:
        """Slices of images, so small that `passes` evaluations of each stay within `batch_size`, but >= one image."""
        size = max(1, self.batch_size // passes)
        return [slice(start, stop) for start, stop in tracing.chunks(self.count, size)]

    def each_chunk(self, explain: Callable[[slice], np.ndarray]) -> FloatArray:
        """Maps of all images, from `explain(rows)` for slices of at most `batch_size` images."""
        return self.finish(np.concatenate([explain(rows) for rows in self.chunks()]))

    def each_group(
        self, explain: Callable[[slice], np.ndarray], evaluations: int, *, passes: int = 1
    ) -> np.ndarray:
        """Concatenate `explain(group)` over slices of images, so that memory does not grow with their number.

        Args:
            explain: Function of a slice of images that returns an array with one row per image.
            evaluations: Number of passes per image, for the progress bar.
            passes: Number of evaluations of each image that `explain` does at once.
        """
        self.progress = Progress(evaluations * self.count, self.verbose)
        values = np.concatenate([explain(group) for group in self.chunks(passes)])
        self.progress.finish()
        return values

    def input_gradient(
        self, rows: Rows, images: FloatArray | None = None, index: np.ndarray | None = None
    ) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """`(gradients, scores, index)` of at most `batch_size` evaluations.

        Args:
            rows: The images whose target and other inputs the evaluations have.
            images: Images that replace those of `rows`, or None.
            index: Targets that replace those of `rows` (see `targets.class_score`), or None.
        """
        tensors = self.inputs.tensors(rows, images)
        arguments, scores = self.arguments(rows, tensors, index)
        if self.tokens:
            _, gradients, values, index = self._at_embeddings([*tensors, *arguments])
        else:
            gradients, values, index = self.evaluate(
                passes.input_gradient, [*tensors, *arguments], spec=self.target.spec, wrt=self.inputs.wrt
            )
        return tracing.array(gradients), tracing.array(values) if scores is None else scores, index.numpy()

    def gradient_times_input(self, rows: Rows) -> FloatArray:
        """The product of the images, or of the embeddings of their tokens, with the gradient."""
        if not self.tokens:
            return self.input_gradient(rows)[0] * self.inputs.images[rows]
        tensors = self.inputs.tensors(rows)
        values, gradients, *_ = self._at_embeddings([*tensors, *self.arguments(rows, tensors)[0]])
        return tracing.array(values) * tracing.array(gradients)

    def _at_embeddings(self, tensors):
        """`(embeddings, gradients, scores, index)`."""
        return self.evaluate(
            passes.at_layer,
            tensors,
            spec=self.target.spec,
            wrt=self.inputs.wrt,
            call=self.tokens,
            rank=3,
            differentiate=True,
        )

    def guided_gradient(self, rows: Rows, kernel: Callable, **static: Any) -> FloatArray:
        """Gradients with a rule at every rectifier (see `guided`)."""
        tensors = self.inputs.tensors(rows)
        arguments, _ = self.arguments(rows, tensors)
        gradients, _, _ = self.evaluate(
            kernel, [*tensors, *arguments], spec=self.target.spec, wrt=self.inputs.wrt, **static
        )
        return tracing.array(gradients)

    def settled(self, group: slice) -> bool:
        """Whether the target of each image is known; it is not yet known where the predicted class is explained."""
        return self.target.spec.kind != "class" or self.target.index[group].min(initial=0) >= 0

    def settle(self, group: slice) -> None:
        """Predict the classes of a group from its unchanged images and keep them as targets, if none were given."""
        if not self.settled(group):
            _, self.target.index[group] = self.scores(group)

    def classes(self) -> int | None:
        """The number of classes that a class target can name; None for other targets."""
        heads, output = tracing.record_of(self.model).heads, self.target.spec.output
        if self.target.spec.kind != "class":
            return None
        if output not in heads:
            self.scores(slice(0, 1))
        return 2 if heads[output].binary else heads[output].width

    def sampled_gradients(
        self, group: slice, samples: int, change: Change, *, clean: bool = False
    ) -> Iterator[tuple[slice, FloatArray, FloatArray, int]]:
        """Gradients of changed copies of a group of images.

        Predicted classes are those of the unchanged images. These images then join the first chunk, so that they do not
        need a separate pass.

        Args:
            group: Slice of at most `batch_size` images.
            samples: Number of changed copies per image.
            change: `change(batch, sample, rows)` writes copy number `sample` of the group's images `rows`
                into `batch`. All images come with one sample number before the next number begins, so its random
                numbers are drawn once.
            clean: Whether to yield the unchanged images too, first, as sample -1.

        Yields:
            `(rows, gradients, scores, sample)`: a slice of the group, and one gradient and score per image in it.
        """
        return self._sampled(self.input_gradient, group, samples, change, clean)

    def sampled_scores(
        self, group: slice, samples: int, change: Change, *, clean: bool = False
    ) -> Iterator[tuple[slice, FloatArray, int]]:
        """`(rows, scores, sample)` of changed copies, forward only (see `sampled_gradients`)."""
        return self._sampled(self.scores, group, samples, change, clean)

    def _sampled(self, evaluate, group, samples, change, clean):
        count, shape = group.stop - group.start, self.inputs.images.shape[1:]
        settled = self.settled(group)
        first_sample = -1 if clean or not settled else 0
        for start, stop in tracing.chunks((samples - first_sample) * count, self.batch_size):
            images = np.empty((stop - start, *shape), "float32")
            pieces, done = [], start
            while done < stop:
                sample, row = divmod(done, count)
                length = min(count - row, stop - done)
                place, chosen = slice(done - start, done - start + length), slice(row, row + length)
                sample += first_sample
                if sample < 0:
                    images[place] = self.inputs.images[group][chosen]
                else:
                    change(images[place], sample, chosen)
                pieces.append((place, sample, chosen))
                done += length
            rows = group.start + np.arange(start, stop) % count
            index = None
            if not settled and start == 0:
                # The first `count` rows are the unchanged images: their predicted classes are used for the copies.
                index = targets.follow(np.arange(stop) % count)
                index[:count] = self.target.index[group]
            *values, resolved = evaluate(rows, images, index)
            if index is not None:
                self.target.index[group] = resolved[:count]
            for place, sample, chosen in pieces:
                if sample >= 0 or clean:
                    yield chosen, *(value[place] for value in values), sample

    def layer_pass(
        self,
        rows: Rows,
        call: layer_lookup.LayerCall | None,
        images: FloatArray | None = None,
        index: np.ndarray | None = None,
        *,
        differentiate: bool = True,
    ) -> tuple[FloatArray, FloatArray | None, FloatArray, np.ndarray]:
        """`(activations, gradients, scores, index)` at a layer (None: the last feature map), in the layer's layout.

        Without `differentiate` the gradients are None. The index holds the classes, also those that were predicted.
        """
        tensors = self.inputs.tensors(rows, images)
        arguments, scores = self.arguments(rows, tensors, index)
        values = self.evaluate(
            passes.at_layer,
            [*tensors, *arguments],
            spec=self.target.spec,
            wrt=self.inputs.wrt,
            call=call,
            rank=len(self.spatial) + 2,
            differentiate=differentiate,
        )
        if call is None:
            found = tracing.default_layer(self.model, self._seen)
            tracing.remember_default(self.model, self.target.spec, found)
        self.place = call or found
        activations, gradients = (
            self._by_frame(tracing.array(values[0]), len(tensors[0])),
            self._by_frame(tracing.array(values[-3]), len(tensors[0])) if differentiate else None,
        )
        return (
            activations,
            gradients,
            tracing.array(values[-2]) if scores is None else scores,
            values[-1].numpy(),
        )

    @property
    def _seen(self):
        """The key on which the last feature map depends, besides the model."""
        return self.target.spec, self.inputs.wrt, self.inputs.images.shape[1:]

    def last_map(self) -> layer_lookup.LayerCall:
        """The last feature map below the score; if it is not known yet, a pass over one image finds it."""
        tracing.record_of(self.model).refresh(self.model)
        self.place = tracing.default_layer(self.model, self._seen)
        if self.place is None:
            self.layer_pass(slice(0, 1), None, differentiate=False)
        return self.place

    def _by_frame(self, values, count):
        """Unfold maps of frames that the model folded into its batch axis: `(n, frames, ...)`."""
        shape = self.inputs.images.shape
        if len(shape) == 5 and values.ndim == 4 and len(values) == count * shape[1] != count:
            return values.reshape(count, shape[1], *values.shape[1:])
        return values

    def scores(
        self, rows: Rows, images: FloatArray | None = None, index: np.ndarray | None = None
    ) -> tuple[FloatArray, np.ndarray]:
        """`(scores (n,), index)` of at most `batch_size` evaluations, forward only (see `input_gradient`)."""
        tensors = self.inputs.tensors(rows, images)
        if self.target.function is not None:
            outputs = self.evaluate(passes.outputs, tensors, spec=self.target.spec)
            return tracing.array(targets.call_function(self.target, outputs)), self.target.index[rows]
        index = self.target.index[rows] if index is None else index
        values, index = self.evaluate(passes.score, [*tensors, index], spec=self.target.spec)
        return tracing.array(values), index.numpy()

    def finish(self, maps: np.ndarray) -> FloatArray:
        """The maps to return: float32, without the batch axis when the one image was given without it."""
        maps = np.ascontiguousarray(maps, dtype="float32")
        maps = maps[0] if self.inputs.single else maps
        return (maps, self.place.path) if self.return_layer else maps

    def arguments(
        self, rows: Rows, tensors: list[Any], index: np.ndarray | None = None
    ) -> tuple[list[Any], FloatArray | None]:
        if self.target.function is None:
            return [self.target.index[rows] if index is None else index], None
        outputs = self.evaluate(passes.outputs, tensors, evaluations=0, spec=self.target.spec)
        scores, cotangents = targets.cotangents(self.target, outputs)
        return cotangents, tracing.array(scores)

    def evaluate(
        self, kernel: Callable, tensors: list[Any], *, evaluations: int | None = None, **static: Any
    ) -> Any:
        """Run a kernel of `passes` and return its result.

        `evaluations` is the number to count for the progress bar, if it is not one per image.
        """
        result = tracing.evaluate(
            self.model,
            kernel,
            tensors,
            compile=self.compile,
            keys=self.inputs.keys,
            inputs=len(self.inputs.arrays),
            **static,
        )
        if not self._checked:
            targets.check(self.model, self.target, self.method)
            self._checked = True
        if self.progress:
            self.progress.add(len(tensors[0]) if evaluations is None else evaluations)
        return result


def at_least_one(method: str, name: str, value: int) -> None:
    """Raise `UsageError` when a count is not a whole number in 1 to 10**6."""
    if not is_whole(value) or not 1 <= value <= 10**6:
        raise UsageError(
            f"{method} expects {name} to be a whole number, at least 1 and at most a million. Received {value!r}. "
            f"More {name} give a cleaner map and take proportionally more time."
        )
