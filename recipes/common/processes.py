"""One training run in several processes, on Keras' JAX backend: which of them writes files, and waiting for all."""

from typing import Any

import keras


def process_count() -> int:
    """Number of processes of the run: 1, but for `keras.distribution.initialize` on the JAX backend."""
    if keras.backend.backend() != "jax":
        return 1
    import jax  # noqa: PLC0415 - an optional library

    return jax.process_count()


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    if keras.backend.backend() != "jax":
        return True
    import jax  # noqa: PLC0415 - an optional library

    return jax.process_index() == 0


def meet(place: str) -> None:
    """Wait until every process of the run has come here, so that what the first has written is there for all.

    Args:
        place: A name for the place, the same in every process.
    """
    if process_count() > 1:
        from jax.experimental import multihost_utils  # noqa: PLC0415 - an optional library

        multihost_utils.sync_global_devices(place)


def refuse_several_machines(strategy: Any) -> None:
    """Say where to go instead of `MultiWorkerMirroredStrategy`.

    Keras 3.15 on TensorFlow cannot `fit` in it: it hands PerReplica values to tf.convert_to_tensor.

    Raises:
        ValueError: for that strategy.
    """
    import tensorflow as tf  # noqa: PLC0415 - other backends do without

    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "recipes.train expects a strategy of one machine, such as tf.distribute.MirroredStrategy: Keras 3 cannot "
            "fit in MultiWorkerMirroredStrategy. Received MultiWorkerMirroredStrategy. For several machines use "
            "KERAS_BACKEND=jax with keras.distribution.DataParallel, plain fit and recipes.callbacks.Backup."
        )
