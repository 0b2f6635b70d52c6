"""Keras' `fit`, `evaluate` and `predict` on several TensorFlow machines, without touching Keras."""

from __future__ import annotations

import inspect
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from recipes.common import processes
from recipes.common.backends import require_tensorflow
from recipes.common.datasets import is_share, reads_generator
from recipes.common.traversal import layers_of
from recipes.distribution.clusters import resolve_cluster

_COMMUNICATION = {
    "auto": tf.distribute.experimental.CommunicationImplementation.AUTO,
    "ring": tf.distribute.experimental.CommunicationImplementation.RING,
    "nccl": tf.distribute.experimental.CommunicationImplementation.NCCL,
}

_TAKES_MEAN = re.compile(r"\b(reduce_)?(mean|sum)\(")
_DIVIDES = re.compile(r"compute_loss|num_replicas_in_sync|compute_average_loss|super\(\)\.train_step")


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` under which Keras 3 trains, evaluates and predicts.

    Keras 3's `fit` fails under TensorFlow's strategy (keras-team/keras#20585): it hands `Strategy.reduce` a whole
    batch, which it cannot take, and asks for the mean of scalar logs over their first axis, which they do not have.
    This strategy's public `reduce` answers these two as Keras means them. Whatever TensorFlow accepts goes to
    TensorFlow as it is, so `reduce("SUM", per_example, axis=0)` in a custom training loop means what it always meant.
    When a later version of Keras asks correctly, this code is not reached.

    Every worker runs the same script. `batch_size` counts the examples of all workers together; every batch is dealt
    out evenly, and each worker's mean counts the same, so a last batch that does not divide weighs its examples a
    little unequally. Build and compile the model in `with strategy.scope():`, or hand the strategy to
    `recipes.train(strategy=)`. A `train_step` of your own has to take its loss from `self.compute_loss`, or to divide
    it by `strategy.num_replicas_in_sync`, as TensorFlow adds up the workers' gradients. `BatchNormalization` needs
    `synchronized=True`; without it every worker keeps statistics of its own, which is warned about.
    `steps_per_execution` must be 1: the loop that Keras writes for more does not trace under several workers. A Python
    generator is refused: in a strategy Keras reads some of its batches before training, and they would be lost.

    Args:
        cluster: Addresses "host:port" of all workers, in the same order on each. None takes them from TF_CONFIG, else
            from SLURM.
        index: Place of this process in `cluster`, from 0. Only together with `cluster`.
        communication: "auto", "ring" (any device, over gRPC) or "nccl" (NVIDIA GPUs).
        port: With SLURM, the first port of each machine.

    Raises:
        ValueError: where the machines are not named, or named wrongly, and for another `communication`.
        RuntimeError: on another backend than TensorFlow.

    Example:
        >>> strategy = recipes.distribution.MultiWorkerStrategy(["10.0.0.1:9876", "10.0.0.2:9876"], index=0)
        >>> with strategy.scope():
        ...     model = build()
        ...     model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(images, labels, batch_size=256)

    Make the strategy in the first lines of the script: TensorFlow requires it before anything else is done.
    """

    def __init__(
        self,
        cluster: Sequence[str] | None = None,
        index: int | None = None,
        *,
        communication: Literal["auto", "ring", "nccl"] = "auto",
        port: int = 8888,
    ) -> None:
        """See the class."""
        require_tensorflow(
            "MultiWorkerStrategy", "whose machines it joins; on JAX call keras.distribution.set_distribution"
        )
        if communication not in _COMMUNICATION:
            raise ValueError(
                f"MultiWorkerStrategy expects communication='auto', 'ring' or 'nccl'. Received {communication!r}. Take "
                "'auto' unless TensorFlow chose wrongly."
            )
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=_COMMUNICATION[communication]
        )
        resolver = resolve_cluster(cluster, index, port)
        _say_who_is_waited_for(resolver)
        super().__init__(resolver, options)
        self._logs = _StepLogs()
        resolver = self.cluster_resolver
        jobs = resolver.cluster_spec().as_dict()
        addresses = {
            f"{job}:{number}": address
            for job in ("chief", "worker")
            for number, address in enumerate(jobs.get(job, []))
        }
        processes.join(_place(resolver), len(addresses), self._meet, addresses)

    def run(
        self, fn: Callable, args: tuple = (), kwargs: dict[str, Any] | None = None, options: Any = None
    ) -> Any:
        """TensorFlow's `run`; notes which values are the logs of a step of Keras, for `reduce`."""
        step = inspect.unwrap(fn)
        model, name = getattr(step, "__self__", None), getattr(step, "__name__", "")
        of_keras = isinstance(model, keras.Model) and name in ("train_step", "test_step")
        if of_keras:
            _check_model(model, self.num_replicas_in_sync, trains=name == "train_step")
        outputs = super().run(fn, args, kwargs, options)
        self._logs.values = tf.nest.flatten(outputs) if of_keras else []
        return outputs

    def experimental_distribute_dataset(self, dataset: Any, options: Any = None) -> Any:
        """TensorFlow's method, which deals every batch out; batches that are one worker's part already are left alone.

        Raises:
            ValueError: where the workers' data sets have different lengths, because those with longer ones would wait
                for ever; for a Python generator, of which Keras would lose batches.
        """
        if reads_generator(dataset):
            raise ValueError(
                "MultiWorkerStrategy expects data that can be read from the beginning again: in a strategy Keras "
                "reads some batches before it trains. Received a Python generator, which gives each batch once, so "
                "these would be lost. Give a keras.utils.PyDataset, or "
                "tf.data.Dataset.from_generator(function, output_signature=...)."
            )
        self._check_lengths(dataset)
        if is_share(dataset):
            return self.distribute_datasets_from_function(lambda _: dataset, options)
        return super().experimental_distribute_dataset(dataset, options)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """Reduce over all workers.

        Args:
            reduce_op: "SUM" or "MEAN".
            value: A value that is different on each replica. Of a tuple, list or dictionary of such values (a batch
                whose shapes Keras wants to know) the part of this worker is returned.
            axis: An axis to reduce too, as in TensorFlow. It is ignored for scalars and for the logs of a step of
                Keras, which have no axis of examples: their mean is over the replicas, as with one machine.

        Returns:
            A tensor, the same on every worker.
        """
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        if axis is not None and (self._logs.hold(value) or _rank(self, value) == 0):
            axis = None
        return super().reduce(reduce_op, value, axis)

    def _check_lengths(self, dataset):
        length = float(dataset.cardinality())
        total, squares = (
            float(self.reduce("SUM", self.run(_given, (value,)), axis=None))
            for value in (tf.constant(length, tf.float64), tf.constant(length**2, tf.float64))
        )
        if squares * self.num_replicas_in_sync != total**2:
            own = "of unknown length" if length < 0 else f"of {length:.0f} batches in all its epochs"
            raise ValueError(
                "MultiWorkerStrategy expects data sets of equally many batches on every worker: a worker that has one "
                f"more would wait for the others for ever. Received other lengths than the one here, {own}. Give the "
                "same data on every worker, where it is dealt out, or cut all to one length with take(batches)."
            )

    def _meet(self) -> None:
        """Wait for all workers."""
        self.reduce("SUM", self.run(_one), axis=None)


class _StepLogs(threading.local):
    """The values that Keras' last step gave to `reduce`, in the thread that traces the step."""

    values: list[Any] = []

    def hold(self, value: Any) -> bool:
        return any(value is mine for mine in self.values)


@tf.function
def _given(value):
    return value


@tf.function
def _one():
    return tf.ones(())


def _check_model(model, replicas, trains):
    if model.steps_per_execution > 1:
        raise ValueError(
            "MultiWorkerStrategy expects steps_per_execution=1: TensorFlow cannot trace Keras' loop of steps over "
            f"several workers. Received {model.steps_per_execution} in {model.name!r}. Compile the model without it."
        )
    if trains:
        _check_own_step(model, replicas)
    own = [
        layer.name
        for layer in layers_of(model, keras.layers.BatchNormalization)
        if layer.trainable and not layer.synchronized
    ]
    if trains and own:
        warnings.warn(
            f"MultiWorkerStrategy expects BatchNormalization(synchronized=True). Received "
            f"{', '.join(own[:3])}{' and others' * (len(own) > 3)} of {model.name!r} without it: the moving statistics "
            "come from this worker's images alone, so the workers' models differ. Write synchronized=True, or call "
            "recipes.ensemble.refresh_batch_norm before you save.",
            stacklevel=2,
        )


def _check_own_step(model, replicas):
    """Warn where the source of a training step shows a mean that is not divided by the number of replicas."""
    step = type(model).train_step
    if step is keras.Model.train_step or replicas == 1:
        return
    try:
        source = inspect.getsource(step)
    except (OSError, TypeError):  # typed into a console
        return
    if _TAKES_MEAN.search(source) and not _DIVIDES.search(source):
        warnings.warn(
            f"MultiWorkerStrategy expects the loss of {type(model).__name__}.train_step divided by "
            f"strategy.num_replicas_in_sync, as self.compute_loss does it: TensorFlow adds up the gradients of all "
            f"{replicas} replicas. Received a mean that is not, which trains as at {replicas} times the rate. Take "
            "self.compute_loss(x, y, y_pred), or divide.",
            stacklevel=2,
        )


def _say_who_is_waited_for(resolver):
    """Print for whom the strategy waits: TensorFlow waits without a message, and does not react to Ctrl-C."""
    jobs, own = resolver.cluster_spec().as_dict(), (resolver.task_type, resolver.task_id)
    others = [
        address
        for job, addresses in jobs.items()
        for number, address in enumerate(addresses)
        if (job, number) != own
    ]
    if others:
        more = f" and {len(others) - 3} others" if len(others) > 3 else ""
        print(
            f"MultiWorkerStrategy: waiting for {', '.join(others[:3])}{more} to start.",
            file=sys.stderr,
            flush=True,
        )


def _rank(strategy, value):
    return strategy.experimental_local_results(value)[0].shape.rank


def _place(resolver):
    """Number of this process among all; a chief comes first."""
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", []))
    return resolver.task_id + (0 if resolver.task_type == "chief" else chiefs)
