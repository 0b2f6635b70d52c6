"""What every attribution does before and after its own arithmetic."""

import keras
import numpy as np

from recipes.explain import engine, kernels, layers, targets
from recipes.explain.inputs import Inputs


class Task:
    """Images and a target, checked, with the kernels bound to them.

    Rows are image numbers: `rows[i]` says whose target evaluation `i` has, so that one chunk may mix images,
        samples and
    masks freely and a result never depends on what shares its chunk.

    Args:
        method: The public function's name, for errors.
        model, images, target, score, batch_size, wrt, compile, verbose: As in `recipes.explain`.
        gradient: True when the method differentiates by the input.
    """

    def __init__(
        self,
        method,
        model,
        images,
        target,
        *,
        score,
        batch_size,
        wrt,
        compile,
        verbose="auto",
        gradient=False,
    ):
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise layers.UsageError(
                f"{method} expects batch_size to be a whole number of evaluations, at least 1. "
                f"Received {batch_size!r}. It bounds the memory; 64 suits most machines."
            )
        self.method, self.model, self.batch_size = method, model, int(batch_size)
        self.compile, self.verbose, self.bar = compile, verbose, None
        self.inputs = Inputs(model, images, wrt=wrt, method=method)
        if gradient:
            self.inputs.need_gradient()
        if self.inputs.single and np.ndim(target) == 1 and not callable(target) and len(target) > 1:
            target = np.asarray(target)[None]
        self.target = targets.parse(target, model, self.inputs.count, score=score, method=method)
        self.channels_first = layers.data_format(model) == "channels_first"
        self._checked = False

    @property
    def count(self):
        return self.inputs.count

    @property
    def spatial(self):
        """Spatial shape of the explained input."""
        shape = self.inputs.images.shape
        return shape[2:] if self.channels_first else shape[1:-1]

    @property
    def channel_axis(self):
        """Channel axis of the explained input."""
        return 1 if self.channels_first else -1

    def chunks(self):
        """Slices of images of at most `batch_size`."""
        return [slice(start, stop) for start, stop in engine.chunks(self.count, self.batch_size)]

    def each_group(self, explain, evaluations):
        """Concatenate `explain(group)` over slices of images, so that memory never grows with their number.

        Args:
            explain: Takes a slice of images, returns an array with one row for each.
            evaluations: How many passes one image takes, for the progress bar.
        """
        total = evaluations * self.count
        if total > 20 * self.batch_size if self.verbose == "auto" else self.verbose:
            self.bar = keras.utils.Progbar(total, unit_name="evaluation")
        return np.concatenate([explain(group) for group in self.chunks()])

    def input_gradient(self, rows, images=None):
        """`(gradients, scores, index)` of at most `batch_size` evaluations: `images`, or those of `rows` "
        "themselves."""
        tensors = self.inputs.tensors(rows, images)
        arguments, scores = self._arguments(rows, tensors)
        gradients, values, index = self._evaluate(
            kernels.input_gradient, [*tensors, *arguments], spec=self.target.spec, wrt=self.inputs.wrt
        )
        return engine.array(gradients), engine.array(values) if scores is None else scores, index.numpy()

    def guided_gradient(self, rows, kernel, rule):
        """Gradients with a rule at every rectifier (see `guided`)."""
        tensors = self.inputs.tensors(rows)
        arguments, _ = self._arguments(rows, tensors)
        gradients, _, _ = self._evaluate(
            kernel, [*tensors, *arguments], spec=self.target.spec, wrt=self.inputs.wrt, rule=rule
        )
        return engine.array(gradients)

    def settle(self, group, *, forward=False):
        """Fix the predicted classes of a group at its unchanged images, for methods that change them.

        Args:
            group: Slice of images.
            forward: Use the forward pass; else the gradient's, which gradient methods trace anyway.

        Returns:
            The scores of the unchanged images, `(n,)`.
        """
        *_, scores, index = self.scores(group) if forward else self.input_gradient(group)
        self.target.index[group] = index
        return scores

    def copies(self, group, samples, change):
        """Cut samples x images of a group into full chunks of evaluations, sample by sample.

        All images share a sample before the next begins, so what is drawn for a sample is drawn once.

        Args:
            group: Slice of images.
            samples: Changed copies per image.
            change: `change(batch, sample, rows)` writes copy number `sample` of the group's images `rows`
                into `batch`.

        Yields:
            `(pieces, rows, images)`: the changed images, whose rows they are, and the runs that share a
            sample, as `(place in the chunk, sample, slice of the group)`.
        """
        count = len(range(self.count)[group])
        for start, stop in engine.chunks(samples * count, self.batch_size):
            images = np.empty((stop - start, *self.inputs.images.shape[1:]), "float32")
            pieces, first = [], start
            while first < stop:
                sample, row = divmod(first, count)
                length = min(count - row, stop - first)
                place, chosen = slice(first - start, first - start + length), slice(row, row + length)
                change(images[place], sample, chosen)
                pieces.append((place, sample, chosen))
                first += length
            yield pieces, group.start + np.arange(start, stop) % count, images

    def sampled_gradients(self, group, samples, change):
        """`(rows, gradients, sample)` of every changed copy (see `copies`): a slice of the group, one "
        "gradient each."""
        for pieces, rows, images in self.copies(group, samples, change):
            gradients, _, _ = self.input_gradient(rows, images)
            for place, sample, chosen in pieces:
                yield chosen, gradients[place], sample

    def sampled_scores(self, group, samples, change):
        """`(rows, scores, sample)` of every changed copy (see `copies`), forward only."""
        for pieces, rows, images in self.copies(group, samples, change):
            scores, _ = self.scores(rows, images)
            for place, sample, chosen in pieces:
                yield chosen, scores[place], sample

    def layer_pass(self, rows, call):
        """`(activations, gradients, scores, index)` at a layer (None: the last feature map), in the "
        "layer's layout."""
        tensors = self.inputs.tensors(rows)
        arguments, scores = self._arguments(rows, tensors)
        activations, gradients, values, index = self._evaluate(
            kernels.layer_gradient,
            [*tensors, *arguments],
            spec=self.target.spec,
            call=call,
            rank=self.inputs.images.ndim,
        )
        scores = engine.array(values) if scores is None else scores
        return engine.array(activations), engine.array(gradients), scores, index.numpy()

    def scores(self, rows, images=None):
        """`(scores (n,), index)` of at most `batch_size` evaluations, forward only."""
        tensors = self.inputs.tensors(rows, images)
        if self.target.function is not None:
            outputs = self._evaluate(kernels.outputs, tensors, spec=self.target.spec)
            return engine.array(targets.call_function(self.target, outputs)), self.target.index[rows]
        values, index = self._evaluate(
            kernels.score, [*tensors, self.target.index[rows]], spec=self.target.spec
        )
        return engine.array(values), index.numpy()

    def activations(self, rows, call):
        """`(activations, call)`: what a layer (None: the last feature map) returns, float32, in its own "
        "layout."""
        call = call or engine.default_layer(self.model, self.target.spec)
        if call is None:
            activations, *_ = self.layer_pass(rows, None)
            return activations, engine.default_layer(self.model, self.target.spec)
        tensors = self.inputs.tensors(rows)
        result = engine.evaluate(
            self.model, kernels.activation, tensors, compile=self.compile, keys=self.inputs.keys, call=call
        )
        return engine.array(result), call

    def finish(self, maps):
        """Maps as they leave: float32, without the batch axis when one image came without it."""
        maps = np.ascontiguousarray(maps, dtype="float32")
        return maps[0] if self.inputs.single else maps

    def _arguments(self, rows, tensors):
        if self.target.function is None:
            return [self.target.index[rows]], None
        outputs = self._evaluate(kernels.outputs, tensors, spec=self.target.spec)
        scores, cotangents = targets.cotangents(self.target, outputs)
        return cotangents, engine.array(scores)

    def _evaluate(self, kernel, tensors, **static):
        result = engine.evaluate(
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
        if self.bar:
            self.bar.add(len(tensors[0]))
        return result


def reduce_channels(values, how, axis):
    """Collapse the channel axis of signed values.

    Args:
        values: `(n, ..., channels, ...)`.
        how: `"absmax"`, `"mean"`, `"sum"`, `"l2"`, or None (keep the channels).
        axis: The channel axis.
    """
    reductions = {
        None: lambda v: v,
        "absmax": lambda v: np.abs(v).max(axis),
        "mean": lambda v: v.mean(axis),
        "sum": lambda v: v.sum(axis),
        "l2": lambda v: np.sqrt(np.square(v).sum(axis)),
    }
    if how not in reductions:
        raise layers.UsageError(
            f"explain expects reduce to be 'absmax', 'mean', 'sum', 'l2' or None. Received {how!r}. "
            "None returns one value per channel."
        )
    return reductions[how](values)


def at_least_one(method, name, value):
    """Refuse a count below 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise layers.UsageError(
            f"{method} expects {name} to be a whole number, at least 1. Received {value!r}. "
            f"More {name} give a cleaner map and cost as much more."
        )
