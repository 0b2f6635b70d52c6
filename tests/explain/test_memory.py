"""How much an explanation asks of the machine: the evaluations in one pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

layers = keras.layers
COUNT = 9  # images, one more than a batch


class Counting(layers.Layer):
    """The identity, which notes how many images each pass brings."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def call(self, inputs):
        note = tf.numpy_function(lambda size: self.passes.append(int(size)), [tf.shape(inputs)[0]], [])
        with tf.control_dependencies([note]):
            return tf.identity(inputs)


def counted():
    counting = Counting()
    stack = [layers.Conv2D(24, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((10, 10, 1)), counting, *stack]), counting


@pytest.mark.parametrize(
    "method, options, evaluations",
    [
        (explain.saliency, {}, COUNT),
        (explain.grad_cam, {}, COUNT),
        (explain.smooth_grad, {"samples": 11}, COUNT * 11),
        (explain.integrated_gradients, {"steps": 13}, COUNT * 13),
        (explain.occlusion, {"patch": 3, "stride": 2}, COUNT * 25),
        (explain.rise, {"masks": 30}, COUNT * 30),
        (explain.score_cam, {"top": None}, COUNT * 24),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.filterwarnings("ignore:score_cam found no place:UserWarning")
def test_no_pass_holds_more_than_batch_size_images_whatever_the_samples(method, options, evaluations):
    model, counting = counted()
    images = np.random.default_rng(0).uniform(size=(COUNT, 10, 10, 1)).astype("float32")
    maps = method(model, images, 1, batch_size=8, **options)
    assert maps.shape == (COUNT, 10, 10)
    assert max(counting.passes) <= 8
    assert sum(counting.passes) >= evaluations  # all of the work went through that layer
