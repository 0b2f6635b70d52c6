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
        self.compile, self.verbose = compile, verbose
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

    def chunks(self, count=None):
        return engine.chunks(self.count if count is None else count, self.batch_size)

    def progress(self, total, unit="evaluation"):
        """A bar for long work: `.add(done)`."""
        return Progress(total, self.verbose, long=total > 20 * self.batch_size, unit=unit)

    def input_gradient(self, rows, images=None):
        """`(gradients, scores)` of at most `batch_size` evaluations: `images`, or those of `rows` "
        "themselves."""
        tensors = self.inputs.tensors(rows, images)
        arguments, scores = self._arguments(rows, tensors)
        gradients, values, index = self._evaluate(
            kernels.input_gradient, [*tensors, *arguments], spec=self.target.spec, wrt=self.inputs.wrt
        )
        return engine.array(gradients), engine.array(values) if scores is None else scores, index.numpy()

    def layer_gradient(self, rows, call):
        """`(activations, gradients)` at a layer (None: the last feature map), in the layer's own layout."""
        tensors = self.inputs.tensors(rows)
        arguments, _ = self._arguments(rows, tensors)
        activations, gradients, _, _ = self._evaluate(
            kernels.layer_gradient,
            [*tensors, *arguments],
            spec=self.target.spec,
            call=call,
            rank=self.inputs.images.ndim,
        )
        return engine.array(activations), engine.array(gradients)

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

    def activations(self, rows, call, images=None):
        """What a layer returns, float32, in its own layout."""
        tensors = self.inputs.tensors(rows, images)
        return engine.array(
            engine.evaluate(
                self.model,
                kernels.activation,
                tensors,
                compile=self.compile,
                keys=self.inputs.keys,
                call=call,
            )
        )

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
        return result


class Progress:
    """`keras.utils.Progbar` when asked for, or by itself when the work is long."""

    def __init__(self, total, verbose, *, long, unit):
        shown = long if verbose == "auto" else bool(verbose)
        self.bar = keras.utils.Progbar(total, unit_name=unit) if shown else None

    def add(self, done):
        if self.bar:
            self.bar.add(done)


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
