"""Attention rollout and gradient-weighted relevance against a transformer written out in numpy."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.attribution.attention import grid_of

layers, ops = keras.layers, keras.ops
SIDE, PATCH, WIDTH, HEADS, CLASSES = 4, 2, 8, 2, 3
PATCHES = (SIDE // PATCH) ** 2


@keras.saving.register_keras_serializable("tests")
class Prefix(layers.Layer):
    """Class tokens before the patches."""

    def __init__(self, count=1, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def build(self, shape):
        self.tokens = self.add_weight(
            shape=(self.count, shape[-1]), initializer="random_normal", name="tokens"
        )

    def call(self, patches):
        tokens = ops.broadcast_to(self.tokens, (ops.shape(patches)[0], self.count, patches.shape[-1]))
        return ops.concatenate([tokens, patches], 1)


class ByHand(layers.Layer):
    """Attention as many people write it."""

    def __init__(self, windows=1, **kwargs):
        super().__init__(**kwargs)
        self.mix, self.out, self.windows = layers.Dense(3 * WIDTH), layers.Dense(WIDTH), windows

    def build(self, shape):
        self.mix.build(shape)
        self.out.build((*shape[:-1], WIDTH))

    def call(self, x):
        length = x.shape[1]
        part = length // self.windows
        mixed = ops.reshape(self.mix(x), (-1, part, 3, HEADS, WIDTH // HEADS))
        q, k, v = (ops.transpose(mixed[:, :, i], (0, 2, 1, 3)) for i in range(3))
        scores = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) / np.sqrt(WIDTH // HEADS))
        return self.out(ops.reshape(ops.transpose(scores @ v, (0, 2, 1, 3)), (-1, length, WIDTH)))


def transformer(*args, **options):
    """A `built` transformer in float64: large attention weights would make 1e-7 of float32 to 1e-4."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        return built(*args, **options)
    finally:
        keras.config.set_dtype_policy(before)


def built(special=1, attention="keras", windows=1, pooled=False):
    """A vision transformer of two blocks on 2 x 2 patches; the class is read off the first token, their mean, or where
    they are `pooled` off their sum by a softmax over them, as in CCT."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(WIDTH, PATCH, PATCH)(inputs)
    x = layers.Reshape((-1, WIDTH))(x)
    x = Prefix(special)(x) if special else x
    for _ in range(2):
        normed = layers.LayerNormalization()(x)
        if attention == "keras":
            attended = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normed, normed)
        else:
            attended = ByHand(windows)(normed)
        x = x + attended
        x = x + layers.Dense(WIDTH, activation="tanh")(x)
    if pooled:
        x = (ops.transpose(ops.softmax(layers.Dense(1)(x), 1), (0, 2, 1)) @ x)[:, 0]
    else:
        x = layers.GlobalAveragePooling1D()(x) if special != 1 else x[:, 0]
    model = keras.Model(inputs, layers.Dense(CLASSES, "softmax")(x))
    for weight in model.weights:  # attention far from even, so that a wrong formula shows
        if "kernel" in weight.name:
            weight.assign(2.5 * weight)
    return model


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def forward(model, image, given=None):
    """`(attentions (2, heads, t, t), logits)` of one image in float64; `given` puts others in place, `{block: a}`."""
    values = [np.asarray(weight, "float64") for weight in model.weights]
    kernel, bias = values[0], values[1]
    patches = image.reshape(SIDE // PATCH, PATCH, -1, PATCH, 1).transpose(0, 2, 1, 3, 4).reshape(PATCHES, -1)
    x = patches @ kernel.reshape(-1, WIDTH) + bias
    place = 2
    if any(isinstance(layer, Prefix) for layer in model.layers):
        x, place = np.concatenate([values[2], x]), 3
    attentions = []
    by_hand = any(isinstance(layer, ByHand) for layer in model.layers)
    for block in range(2):
        gamma, beta = values[place : place + 2]
        place += 2
        normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta
        if by_hand:
            mix, mix_bias, out, out_bias = values[place : place + 4]
            place += 4
            parts = (normed @ mix + mix_bias).reshape(-1, 3, HEADS, WIDTH // HEADS)
            q, k, v = (parts[:, i] for i in range(3))
            out = out.reshape(HEADS, WIDTH // HEADS, WIDTH)
        else:
            qk, qb, kk, kb, vk, vb, out, out_bias = values[place : place + 8]
            place += 8
            q, k, v = (np.einsum("tc,chd->thd", normed, a) + b for a, b in ((qk, qb), (kk, kb), (vk, vb)))
        scores = softmax(np.einsum("thd,shd->hts", q, k) / np.sqrt(WIDTH // HEADS))
        scores = (given or {}).get(block, scores)
        attentions.append(scores)
        x = x + np.einsum("hts,shd,hdc->tc", scores, v, out) + out_bias
        dense, dense_bias = values[place : place + 2]
        place += 2
        x = x + np.tanh(x @ dense + dense_bias)
    prefixes = [layer for layer in model.layers if isinstance(layer, Prefix)]
    pooled = x[0] if prefixes and prefixes[0].count == 1 else x.mean(0)
    if len(values) > place + 2:
        weights, bias = values[place : place + 2]
        pooled, place = softmax((x @ weights + bias)[:, 0]) @ x, place + 2
    return np.stack(attentions), pooled @ values[place] + values[place + 1]


def slopes(model, image, target):
    """The gradient of a logit by each entry of each attention, by central differences."""
    attentions, _ = forward(model, image)
    found = np.zeros_like(attentions)
    for block, *entry in np.ndindex(found.shape):
        ends = []
        for change in (1e-5, -1e-5):
            moved = attentions[block].copy()
            moved[tuple(entry)] += change
            ends.append(forward(model, image, {block: moved})[1][target])
        found[(block, *entry)] = (ends[0] - ends[1]) / 2e-5
    return found


KINDS = {"ViT": (1, False), "DeiT": (2, False), "CCT": (0, True), "mean": (0, False)}


@pytest.fixture(
    scope="module",
    params=[
        *((kind, way) for kind in ("ViT", "DeiT", "CCT") for way in ("keras", "by hand")),
        ("mean", "keras"),
    ],
    ids=" ".join,
)
def case(request):
    special, pooled = KINDS[request.param[0]]
    images = np.random.default_rng(3).normal(size=(2, SIDE, SIDE, 1)).astype("float32")
    return transformer(special, request.param[1], pooled=pooled), images, special


def test_the_numpy_transformer_is_the_keras_one(case):
    model, images, _ = case
    for image, expected in zip(images, model.predict(images, verbose=0), strict=True):
        np.testing.assert_allclose(softmax(forward(model, image)[1]), expected, rtol=1e-4)


def test_rollout_multiplies_the_attention_of_all_layers(case):
    model, images, special = case
    maps = explain.attention_rollout(model, images, resize=False)
    for image, found in zip(images, maps, strict=True):
        flow = np.eye(PATCHES + special)
        for attention in forward(model, image)[0]:
            flow = (0.5 * attention.mean(0) + 0.5 * np.eye(PATCHES + special)) @ flow
        rows = flow[:special] if special else flow
        np.testing.assert_allclose(found.ravel(), rows[:, special:].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(explain.attention_rollout(model, images, 2, resize=False), maps)


def test_relevance_adds_up_gradient_times_attention(case):
    model, images, special = case
    targets = np.array([2, 0])
    maps = explain.attention_relevance(model, images, targets, resize=False, batch_size=1)
    for image, target, found in zip(images, targets, maps, strict=True):
        attentions, _ = forward(model, image)
        flow = np.eye(PATCHES + special)
        for attention, slope in zip(attentions, slopes(model, image, target), strict=True):
            flow = flow + np.maximum(attention * slope, 0).mean(0) @ flow
        rows = flow[:special] if special else flow
        np.testing.assert_allclose(found.ravel(), rows[:, special:].mean(0), rtol=1e-5, atol=1e-5)


def test_without_a_layer_the_tokens_that_enter_the_last_attention_are_looked_at(case):
    model, images, _ = case
    norms = [layer for layer in model.layers if isinstance(layer, layers.LayerNormalization)]
    pooling = [layer for layer in model.layers if isinstance(layer, layers.Dense) and layer.units == 1]
    read = (pooling or norms[1:])[0].input._keras_history.operation
    maps, path = explain.grad_cam(model, images, 1, relu=False, resize=False, return_layer=True)
    assert path == read.name and np.abs(maps).max() > 0
    np.testing.assert_array_equal(
        maps, explain.grad_cam(model, images, 1, layer=read, relu=False, resize=False)
    )


def one_head(x, axis):
    """Attention without weights and heads, with or without an axis for the one head."""
    rows = x[:, None] if axis else x
    mixed = ops.softmax(rows @ ops.swapaxes(rows, -1, -2)) @ rows
    return mixed[:, 0] if axis else mixed


def test_one_head_needs_no_axis_of_its_own():
    images = np.random.default_rng(3).normal(size=(2, SIDE, SIDE, 1)).astype("float32")
    for method in (explain.attention_rollout, explain.attention_relevance):
        one, other = (
            method(seen_by(functools.partial(one_head, axis=axis)), images, 1) for axis in (False, True)
        )
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_attention_maps_are_resized_to_the_image():
    model, images = transformer(2), np.random.default_rng(3).normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    assert explain.attention_relevance(model, images[0], 1).shape == (SIDE, SIDE)
    np.testing.assert_allclose(
        explain.attention_relevance(model, images, lambda logits: logits[:, 1])[0],
        explain.attention_relevance(model, images[0], 1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_grids_are_found_with_up_to_two_class_tokens():
    assert grid_of("rollout", 197, (224, 224), None) == (1, 14, 14)
    assert grid_of("rollout", 198, (224, 224), None) == (2, 14, 14)
    assert grid_of("rollout", 196, (224, 224), None) == (0, 14, 14)
    assert grid_of("rollout", 51, (64, 128), (5, 10)) == (1, 5, 10)
    with pytest.raises(ValueError, match=r"Give tokens=\(rows, columns\)"):
        grid_of("rollout", 7, (224, 224), None)


def test_attention_within_windows_is_refused():
    model = transformer(0, "by hand", windows=2)
    with pytest.raises(ValueError, match="attend to the same tokens of the whole image"):
        explain.attention_rollout(model, np.zeros((2, SIDE, SIDE, 1), "float32"))


def seen_by(attend):
    """A network whose second attention is `attend(x)`."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Reshape((PATCHES, WIDTH))(layers.Conv2D(WIDTH, PATCH, PATCH)(inputs))
    x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
    x = layers.GlobalAveragePooling1D()(x + attend(x))
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax")(x))


def by_operation(x):
    heads = ops.reshape(x, (-1, PATCHES, HEADS, WIDTH // HEADS))
    return ops.reshape(
        ops.dot_product_attention(heads, heads, heads, flash_attention=True), (-1, PATCHES, WIDTH)
    )


@pytest.mark.parametrize(
    "attend",
    [
        lambda x: layers.MultiHeadAttention(HEADS, 4, flash_attention=True)(x, x),
        lambda x: layers.GroupQueryAttention(4, 2, 1, flash_attention=True)(x, x),
        by_operation,
    ],
    ids=["heads", "groups", "operation"],
)
def test_flash_attention_is_refused_with_what_to_leave_out(attend):
    model, images = seen_by(attend), np.zeros((1, SIDE, SIDE, 1), "float32")
    for method in (explain.attention_rollout, explain.attention_relevance, explain.saliency):
        with pytest.raises(ValueError, match="Leave out flash_attention=True"):
            method(model, images)


def test_the_switch_for_flash_attention_alone_leaves_the_softmax_in_sight():
    keras.config.enable_flash_attention()  # as it is by default: TensorFlow has none
    images = np.random.default_rng(3).normal(size=(1, SIDE, SIDE, 1)).astype("float32")
    model = built(1)
    found = explain.attention_rollout(model, images[0], resize=False)
    first, second = ((one.mean(0) + np.eye(PATCHES + 1)) / 2 for one in forward(model, images[0])[0])
    np.testing.assert_allclose(found.ravel(), (second @ first)[0, 1:], rtol=1e-3)


class Hidden(layers.MultiHeadAttention):
    """A function of its own inside, as one that is compiled or fused has."""

    def call(self, query, value, key=None, **options):
        return tf.function(lambda x: layers.MultiHeadAttention.call(self, x, x), autograph=False)(query)


class Compiled(ByHand):
    def call(self, x):
        return tf.function(lambda y: ByHand.call(self, y), autograph=False)(x)


@pytest.mark.parametrize(
    "attend", [lambda x: Hidden(HEADS, 4)(x, x), lambda x: Compiled()(x)], ids=["keras", "by hand"]
)
def test_attention_of_which_a_layer_is_out_of_sight_is_refused(attend):
    """Otherwise the map would be that of the other layers, without a word."""
    with pytest.raises(ValueError, match="is fused or compiled by itself"):
        explain.attention_rollout(seen_by(attend), np.zeros((1, SIDE, SIDE, 1), "float32"))


def test_a_network_without_attention_is_refused():
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    for method in (explain.attention_rollout, explain.attention_relevance):
        with pytest.raises(ValueError, match="no attention, or one that is fused"):
            method(model, np.zeros((1, 6, 6, 1), "float32"))
