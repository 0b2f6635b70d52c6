"""Receptive fields against the support of the gradient, and the patches cut out by them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.layers import IdentityShortcut


def _positive(layer):
    """Positive weights, so that no path cancels another."""
    for variable in layer.weights:
        if "moving" not in variable.path:
            variable.assign(np.full(variable.shape, 0.5, "float32"))


def _branched():
    image = keras.Input((19, 23, 2))
    x = keras.layers.Conv2D(3, 3, strides=2, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    left = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=2)(x)
    left = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(left)
    right = IdentityShortcut(4, 2)(x)
    return keras.Model(image, keras.layers.Add(name="end")([left, right]))


def _padded():
    inner = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.ZeroPadding2D(((0, 1), (2, 0))),
            keras.layers.Conv2D(3, (3, 2), strides=2),
        ],
        name="inner",
    )
    layers = [keras.Input((20, 17, 2)), inner, keras.layers.Cropping2D(((1, 0), (0, 1)))]
    layers += [
        keras.layers.AveragePooling2D(3, 2, padding="same"),
        keras.layers.Activation("softplus", name="end"),
    ]
    return keras.Sequential(layers)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = keras.layers.SeparableConv2D(3, 5, padding="same")
        self.end = keras.layers.Conv2D(2, 2, strides=3, name="end")

    def call(self, images):
        return self.end(keras.ops.tanh(self.first(images) / 1e3))


@pytest.mark.parametrize("build", [_branched, _padded, Subclassed])
def test_receptive_field_is_the_support_of_the_gradient(build):
    model = build()
    if not model.built:
        model(np.zeros((1, 21, 18, 2), "float32"))
    _positive(model)
    shape = (21, 18) if build is Subclassed else model.input_shape[1:3]
    field = explain.receptive_field(model, "end", size=shape)
    images = tf.ones((1, *shape, 2))
    for position in [(0, 0), (field.map[0] - 1, field.map[1] - 1), (field.map[0] // 2, field.map[1] // 2)]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            unit = model(images, training=False)[0, position[0], position[1], 0]
        support = np.argwhere(np.abs(tape.gradient(unit, images)[0]).sum(-1) > 0)
        assert (*support.min(0), *(support.max(0) + 1)) == field.visible(position)
    # Away from the border the box is seen whole.
    middle = (field.map[0] // 2, field.map[1] // 2)
    clipped = np.clip(field.box(middle), 0, (*shape, *shape))
    assert tuple(clipped) == field.visible(middle)


def test_a_layer_after_a_global_average_sees_the_whole_image(trained_cnn):
    field = explain.receptive_field(trained_cnn[0], "logits")
    assert field.size == (8, 8) and field.map == (1, 1)


def test_maximal_patches_are_those_of_a_loop_over_all_activations(trained_cnn):
    model, images, _ = trained_cnn
    maps = keras.Model(model.inputs[0], model.get_layer("conv1").output).predict(images, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(100)
    found = explain.maximal_patches(model, dataset, "conv1", [2, 7], k=5)
    same = explain.maximal_patches(model, images, "conv1", 7, k=5, batch_size=64)
    np.testing.assert_array_equal(same.patches, found.patches[1])
    padded = np.pad(images.astype("float32"), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=127.5)
    for row, channel in enumerate((2, 7)):
        order = np.argsort(-maps[..., channel].max((1, 2)), kind="stable")[:5]
        np.testing.assert_allclose(found.scores[row], maps[order, ..., channel].max((1, 2)), rtol=1e-5)
        for place, index in enumerate(found.indices[row]):
            y, x = np.unravel_index(maps[index, ..., channel].argmax(), (8, 8))
            np.testing.assert_array_equal(found.patches[row, place], padded[index, y : y + 3, x : x + 3])
            assert tuple(found.boxes[row, place]) == (y - 1, x - 1, y + 2, x + 2)


def test_maximal_patches_refuses_too_few_images_and_channels_out_of_range(trained_cnn):
    model, images, _ = trained_cnn
    with pytest.raises(ValueError, match="at least k=9 images. Received 4"):
        explain.maximal_patches(model, images[:4], "conv1", 0)
    with pytest.raises(ValueError, match="channels in 0 ... 15"):
        explain.maximal_patches(model, images[:9], "conv1", 16)
