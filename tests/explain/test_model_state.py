"""A map is that of the model as it is now, whatever was changed since the last one."""

import collections
import functools
import gc
import sys
import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.engine import tracing

pytestmark = pytest.mark.numerics
layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 12, 12, 3)).astype("float32")


class Holder:
    """A plain object of the user, with state."""

    def __init__(self):
        self.factor = 1.0
        self.list = [1.0]


class Scaled(layers.Layer):
    """Reads everything that a layer may read: attributes, containers, objects, its class, a closure."""

    gain = 1.0

    def __init__(self, **options):
        super().__init__(**options)
        self.factor, self.several, self.named, self._hidden = 1.0, [1.0, 2.0], {"a": 1.0}, 1.0
        self.array, self.holder, self.function, self.calls = np.ones(2, "float32"), Holder(), lambda x: x, 0

    def call(self, inputs):
        self.calls += 1
        factors = [self.factor, self.several[0], self.named["a"], self._hidden, self.array[0], self.gain]
        factors += [self.holder.factor, self.holder.list[0], 1.0 if self.trainable else 1.5]
        return self.function(inputs * float(np.prod(factors)))


def build():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.LeakyReLU(negative_slope=0.1, name="leaky"),
            Scaled(name="scaled"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation="tanh", name="hidden"),
            layers.Dense(5),
        ]
    )


@pytest.fixture
def model():
    return build()


def gradient(model):
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = model(images, training=False)[:, 1]
    return np.abs(tape.gradient(score, images)).max(-1)


def counted(factor):
    """A function that closes over a number, and what changes the number."""

    def function(x):
        return x * factor

    def change():
        nonlocal factor
        factor = 1.5

    return function, change


def lora(model):
    model.get_layer("hidden").enable_lora(2)
    model.get_layer("hidden").lora_kernel_b.assign(np.full((2, 6), 0.5, "float32"))


def another_kernel(model):
    kernel = keras.Variable(np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype("float32"))
    object.__setattr__(model.get_layer("conv"), "_kernel", kernel)


CHANGES = {
    "lora": lora,
    "int8": lambda model: model.get_layer("hidden").quantize("int8"),
    "half precision": lambda model: setattr(model.get_layer("conv"), "dtype_policy", "mixed_bfloat16"),
    "activation": lambda model: setattr(model.get_layer("hidden"), "activation", lambda x: 1.5 * x),
    "partial": lambda model: setattr(
        model.get_layer("hidden"),
        "activation",
        functools.partial(keras.activations.leaky_relu, negative_slope=2.0),
    ),
    "slope": lambda model: setattr(model.get_layer("leaky"), "negative_slope", 0.7),
    "another variable": another_kernel,
    "last layer": lambda model: (model.pop(), model.add(layers.Dense(3))),
    "frozen": lambda model: setattr(model.get_layer("scaled"), "trainable", False),
    "plain number": lambda model: setattr(model.get_layer("scaled"), "factor", 1.5),
    "private number": lambda model: setattr(model.get_layer("scaled"), "_hidden", 1.5),
    "in a list": lambda model: model.get_layer("scaled").several.__setitem__(0, 1.5),
    "in a dict": lambda model: model.get_layer("scaled").named.__setitem__("a", 1.5),
    "in an array": lambda model: model.get_layer("scaled").array.__setitem__(0, 1.5),
    "in an object": lambda model: setattr(model.get_layer("scaled").holder, "factor", 1.5),
    "in a list of an object": lambda model: model.get_layer("scaled").holder.list.__setitem__(0, 1.5),
    "a method": lambda model: object.__setattr__(
        model.get_layer("scaled"), "call", lambda inputs: 2 * inputs
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_model_gives_its_new_map(model, name):
    before = explain.saliency(model, IMAGES, 1)
    CHANGES[name](model)
    expected = gradient(model)
    assert np.abs(expected - before).max() > 1e-3 * np.abs(before).max()
    np.testing.assert_allclose(
        explain.saliency(model, IMAGES, 1), expected, rtol=1e-3, atol=1e-3 * expected.max()
    )


def test_a_changed_closure_or_class_gives_a_new_map(model, monkeypatch):
    model.get_layer("scaled").function, change = counted(1.0)
    explain.saliency(model, IMAGES, 1)
    change()
    np.testing.assert_allclose(explain.saliency(model, IMAGES, 1), gradient(model), rtol=1e-4)
    monkeypatch.setattr(Scaled, "gain", 1.5)
    np.testing.assert_allclose(explain.saliency(model, IMAGES, 1), gradient(model), rtol=1e-4)


def test_a_replaced_layer_of_a_list_gives_a_new_map():
    class Blocks(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(3), layers.Dense(3, activation="tanh")]

        def call(self, inputs):
            for block in self.blocks:
                inputs = block(inputs)
            return keras.ops.mean(inputs, axis=(1, 2))

    model = Blocks()
    model(IMAGES)
    explain.saliency(model, IMAGES, 1)
    model.blocks[1] = layers.Dense(3)
    model.blocks[1].build((2, 12, 12, 3))
    np.testing.assert_allclose(explain.saliency(model, IMAGES, 1), gradient(model), rtol=1e-4)


def test_the_address_of_a_dead_function_is_no_excuse():
    inputs = keras.Input((4, 4, 1))
    activation = layers.Activation("relu")
    model = keras.Model(inputs, layers.Flatten()(activation(inputs)))
    for factor in range(1, 9):
        activation.activation = eval(f"lambda x: x * {factor}.0")  # dies when the next one comes
        maps = explain.saliency(model, np.ones((1, 4, 4, 1), "float32"), 0, score="probability")
        assert maps.max() == factor


def test_training_leaves_the_traces_alone(model):
    for _ in range(3):  # the counter of calls settles
        explain.saliency(model, IMAGES, 1)
        explain.grad_cam(model, IMAGES, 1)
        model(IMAGES)
    before = list(tracing.record_of(model).traces.values())
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros((2, 5)), verbose=0)
    model.predict(IMAGES, verbose=0)
    explain.saliency(model, IMAGES, 1)
    assert len(before) == 2
    assert all(old is new for old, new in zip(before, tracing.record_of(model).traces.values(), strict=True))


def test_what_is_noted_of_a_model_keeps_nothing_alive():
    model = build()
    holder = model.get_layer("scaled").holder
    holder.variable = tf.Variable(1.0)
    # An activation that knows its model must not keep it either.
    holder.model = model
    model.get_layer("hidden").activation = model.get_layer("scaled").call
    explain.saliency(model, IMAGES, 1)
    variable, owner, layer = (weakref.ref(one) for one in (holder.variable, model, model.layers[0]))
    del holder.variable
    assert variable() is None
    del model, holder
    gc.collect()
    assert owner() is None and layer() is None


FACTOR = 1.0
SETTINGS = {"factor": 1.0}
ELSEWHERE = types.ModuleType("settings_of_the_user")
ELSEWHERE.factor = 1.0


class Constants:
    """A class used as a list of settings, read by its name."""

    factor = 1.0


class Slotted:
    """An object without a `__dict__`."""

    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 1.0


def scale(inputs, factor=1.0):
    return inputs * factor


class ByName(layers.Layer):
    """Reads what stands outside of it: globals, a helper, another module, a class, objects without attributes."""

    def __init__(self):
        super().__init__()
        self.slotted, self.queue = Slotted(), collections.deque([1.0])

    def call(self, inputs):
        factor = FACTOR * SETTINGS["factor"] * ELSEWHERE.factor * Constants.factor
        return scale(inputs) * factor * self.slotted.factor * self.queue[0]


def edited(layer, monkeypatch):
    """What an editor's reload does: other code in the same function object."""
    monkeypatch.setattr(scale, "__code__", (lambda inputs, factor=1.0: inputs * 2 * factor).__code__)


OUTSIDE = {
    "a global": lambda layer, patch: patch.setattr(sys.modules[__name__], "FACTOR", 2.0),
    "in a global dict": lambda layer, patch: patch.setitem(SETTINGS, "factor", 2.0),
    "in another module": lambda layer, patch: patch.setattr(ELSEWHERE, "factor", 2.0),
    "in a class of settings": lambda layer, patch: patch.setattr(Constants, "factor", 2.0),
    "a helper": lambda layer, patch: patch.setattr(sys.modules[__name__], "scale", lambda x: 2 * x),
    "defaults of a helper": lambda layer, patch: patch.setattr(scale, "__defaults__", (2.0,)),
    "code of a helper": edited,
    "in a slot": lambda layer, patch: setattr(layer.slotted, "factor", 2.0),
    "in a queue": lambda layer, patch: layer.queue.__setitem__(0, 2.0),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_a_layer_reads_from_outside_gives_a_new_map(name, monkeypatch):
    layer = ByName()
    model = keras.Sequential([keras.Input((3, 3, 1)), layer, layers.Flatten()])
    image = np.ones((1, 3, 3, 1), "float32")
    assert explain.saliency(model, image, 0, score="probability").max() == 1
    OUTSIDE[name](layer, monkeypatch)
    assert explain.saliency(model, image, 0, score="probability").max() == 2
