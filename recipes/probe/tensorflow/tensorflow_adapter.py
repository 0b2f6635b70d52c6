"""What the probe needs to know about Keras on TensorFlow, see `recipes.probe.adapter`."""

import keras
import tensorflow as tf

from recipes.probe.tensorflow.tensorflow_forward import Forward as Forward
from recipes.probe.tensorflow.twin import Twin as Twin

WRITES_AT_ONCE = True
SWEEP_COST = 0.05
UNSEEN = frozenset()


def several_workers(model: keras.Model) -> bool:
    """Whether other processes take part in the training, whose clocks differ."""
    return isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)


def wait_for_step(model: keras.Model) -> None:
    """Nothing to do: a call of the train function returns when the step is done, or soon after."""


def bring_back(model: keras.Model) -> None:
    """Nothing to do: the variables have their values also while Keras trains."""
