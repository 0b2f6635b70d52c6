"""Settings and fixtures for all tests: CPU only, two virtual devices, seeds, and small trained models."""

import gc
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0"
)  # a test runs only a few steps, so a quick compilation is better than quick steps
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# Tests run side by side. Threads of OpenBLAS that wait for a busy processor take it: 75 times the time of one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.trainers.epoch_iterator import EpochIterator

from recipes.common.datasets import without_autotune

# Two devices on one CPU, so that MirroredStrategy has something to mirror.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_xdist_auto_num_workers(config):
    """One process more than there are processors, because some tests wait for processes, signals or threads."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


def pytest_collection_finish(session):
    """Collect garbage rarely: tracing makes millions of objects, and checking them again took half of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def without_autotuning():
    """Turn off autotuning: TensorFlow 2.21 may wait up to a minute for its thread when an iterator is deleted."""
    iterate = tf.data.Dataset.__iter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda dataset: iterate(without_autotune(dataset)))
        yield


@pytest.fixture(scope="session")
def two_replicas():
    """A `MirroredStrategy` on two devices, one for the whole process.

    It uses no collective operations, because they keep their shapes from one strategy to the next in a process.

    At the end of an epoch Keras makes an iterator over both devices, and drops it at once for another. On a busy
    machine its threads are still starting then, and TensorFlow can end the process. So the dropped ones are kept.
    """
    kept, reset = [], EpochIterator.reset

    def keeping(self):
        if isinstance(self._current_iterator, tf.distribute.DistributedIterator):
            kept.append(self._current_iterator)
        reset(self)

    reduction = tf.distribute.ReductionToOneDevice()
    EpochIterator.reset = keeping
    yield tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    EpochIterator.reset = reset


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's 1797 digits: `(images, labels)`, uint8 in 0..255 of shape (n, 8, 8, 1), and int64."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8"), labels


@pytest.fixture(scope="session")
def trained_cnn(digits):
    """A small CNN on the digits, trained to over 95 %: `(model, images, labels)`; layers `conv1`, `conv2`, `logits`.

    Takes uint8 or float images in 0..255. Do not train it further: other tests share it.
    """
    keras.utils.set_random_seed(0)
    images, labels = digits
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1, name="scale"),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(2, name="pool"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            keras.layers.GlobalAveragePooling2D(name="average"),
            keras.layers.Dense(10, name="logits"),
            keras.layers.Softmax(name="probabilities"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=12, batch_size=64, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] > 0.95
    return model, images, labels
