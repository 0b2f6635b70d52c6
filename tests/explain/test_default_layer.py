"""Which feature map an activation map is made of when no layer is named."""

import keras
import numpy as np
import pytest

from recipes import explain

pytestmark = pytest.mark.numerics
layers, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 12, 12, 3)).astype("float32")


def conv(name, filters=4, **options):
    return layers.Conv2D(filters, 3, padding="same", activation="relu", name=name, **options)


def chosen(model, images, target, expected, **options):
    """The default map is the one of the layer expected, traced as well as eager."""
    named = explain.grad_cam(model, images, target, layer=expected, relu=False, **options)
    assert np.abs(named).max() > 0
    for compile in ("auto", False):
        maps = explain.grad_cam(model, images, target, relu=False, compile=compile, **options)
        np.testing.assert_allclose(maps, named, atol=1e-5 * np.abs(named).max())


def second_class(outputs):
    return ops.mean(outputs[..., 1], axis=(1, 2))


@pytest.mark.parametrize("ending", ["linear", "softmax", "upsampled"])
def test_a_segmentation_network_is_explained_below_its_output(ending):
    inputs = keras.Input((12, 12, 3))
    skip = conv("above")(inputs)
    x = layers.UpSampling2D()(conv("below", strides=2)(skip))
    x = conv("last")(layers.Concatenate()([skip, x]))
    x = layers.Conv2D(3, 1, activation="softmax" if ending == "softmax" else None)(x)
    if ending == "upsampled":
        x = layers.Softmax()(layers.UpSampling2D(interpolation="bilinear")(x))
    chosen(keras.Model(inputs, x), IMAGES, second_class, "last")


def test_a_network_of_one_map_has_none_below_its_output():
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, layers.Conv2D(3, 1)(inputs))
    with pytest.raises(ValueError, match="map below the output.*layer="):
        explain.grad_cam(model, IMAGES, second_class)


def test_heads_of_boxes_are_explained_at_the_map_they_share():
    inputs = keras.Input((12, 12, 3))
    shared = conv("shared")(inputs)
    heads = {
        name: layers.Reshape((-1, size))(layers.Conv2D(size, 1)(conv(f"tower_{name}")(shared)))
        for name, size in (("classes", 3), ("boxes", 4))
    }
    chosen(
        keras.Model(inputs, heads), IMAGES, {"classes": lambda one: ops.mean(one[..., 1], axis=1)}, "shared"
    )


def test_a_classifying_head_is_explained_at_its_own_map():
    inputs = keras.Input((12, 12, 3))
    first = conv("first")(inputs)
    second = conv("second")(first)
    heads = {
        "early": layers.Dense(3)(layers.GlobalAveragePooling2D()(first)),
        "late": layers.Dense(3)(layers.GlobalAveragePooling2D()(second)),
    }
    model = keras.Model(inputs, heads)
    chosen(model, IMAGES, {"late": 1}, "second")
    chosen(model, IMAGES, {"early": 1}, "first")


def test_a_branch_of_a_residual_block_is_never_taken():
    """Below the last sum with more than one pixel, as in a ResNet50V2 of 32 pixels."""
    inputs = keras.Input((12, 12, 3))
    x = conv("stem", strides=4)(inputs)
    x = layers.Add(name="sum")([x, conv("branch")(x)])
    deep = layers.Conv2D(8, 3, strides=3, name="down")(conv("inside")(x))
    short = layers.Conv2D(8, 1, strides=3)(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Add()([deep, short]))))
    chosen(model, IMAGES, 1, "sum")


def test_the_tower_of_the_input_is_explained():
    left, right = keras.Input((12, 12, 3), name="left"), keras.Input((12, 12, 3), name="right")
    tower = keras.Sequential(
        [keras.Input((12, 12, 3)), conv("shared"), layers.GlobalAveragePooling2D()], name="tower"
    )
    model = keras.Model([left, right], layers.Dense(2)(layers.Concatenate()([tower(left), tower(right)])))
    images = [IMAGES, 2 * IMAGES[:, ::-1]]
    for number, name in enumerate(("left", "right")):
        expected = explain.grad_cam(
            model, images, 1, wrt=name, layer="tower/shared", call_index=number, relu=False
        )
        assert np.abs(expected).max() > 0
        for options in ({}, {"layer": "tower/shared"}, {"compile": False}):
            maps = explain.grad_cam(model, images, 1, wrt=name, relu=False, **options)
            np.testing.assert_allclose(maps, expected, atol=1e-6)


class Folded(keras.Model):
    """Sees the frames of a video as one large batch."""

    def __init__(self, frame, head):
        super().__init__()
        self.frame, self.head = frame, head

    def call(self, inputs):
        features = self.frame(ops.reshape(inputs, (-1, 8, 8, 1)))
        return self.head(ops.mean(ops.reshape(features, (-1, 3, 4)), axis=1))


@pytest.mark.parametrize("way", ["sliced", "backwards", "unstacked", "folded", "distributed"])
def test_frames_of_a_video_make_one_map(way):
    keras.utils.set_random_seed(0)
    frame = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    )
    head, inputs = layers.Dense(2), keras.Input((3, 8, 8, 1))
    features = {
        "sliced": lambda: [frame(inputs[:, number]) for number in range(3)],
        "backwards": lambda: [frame(inputs[:, number]) for number in (2, 1, 0)],
        "unstacked": lambda: [frame(one) for one in ops.unstack(inputs, axis=1)],
        "distributed": lambda: ops.unstack(layers.TimeDistributed(frame)(inputs), axis=1),
    }
    if way == "folded":
        model = Folded(frame, head)
        model(np.zeros((1, 3, 8, 8, 1), "float32"))
    else:
        model = keras.Model(inputs, head(ops.mean(ops.stack(features[way](), axis=1), axis=1)))
    if not head.built:
        head.build((None, 4))
    video = RNG.normal(size=(2, 3, 8, 8, 1)).astype("float32")
    maps = explain.grad_cam(model, video, 1, relu=False, resize=False)
    activations = np.stack([frame.layers[0](video[:, number]) for number in range(3)], axis=1)
    # Behind averages over 36 places and 3 frames, each place has the gradient weight / 108.
    expected = activations @ (head.kernel.numpy()[:, 1] / 108)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize("again", ["reshaped", "upsampled"])
def test_what_is_made_of_a_vector_again_is_no_map_of_the_input(again):
    inputs = keras.Input((12, 12, 3))
    x = conv("below")(inputs)
    if again == "reshaped":
        x = layers.Reshape((4, 4, 2))(layers.Dense(32)(layers.Flatten()(x)))
    else:
        x = layers.UpSampling2D(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.GlobalAveragePooling2D()(conv("decoder")(x))
    chosen(keras.Model(inputs, layers.Dense(3)(x)), IMAGES, 1, "below")


def test_the_default_layer_is_that_of_the_size_of_the_images_whichever_came_last():
    """At the smaller size the last map has a single pixel and the one before is taken."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="first")(inputs)
    x = keras.layers.Conv2D(5, 3, strides=4, padding="same", activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    large, small = images, images[:, :8, :8]
    names = [explain.grad_cam(model, one, 1, return_layer=True)[1] for one in (large, small, large)]
    assert names == ["second", "first", "second"]
    shapes = [
        explain.layer_integrated_gradients(model, one, 1, steps=2).shape for one in (small, large, small)
    ]
    assert shapes == [(2, 4, 4, 4), (2, 4, 4, 5), (2, 4, 4, 4)]
