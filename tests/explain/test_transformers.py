"""The grid of tokens is found on transformers of many kinds, written small from their papers, and on a ConvNeXt."""

import keras
import numpy as np
import pytest

from recipes import explain

layers, ops = keras.layers, keras.ops
WIDTH, HEADS = 8, 2


def image(height=12, width=20):
    return np.random.default_rng(0).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def block(x, name, attend):
    normed = layers.LayerNormalization()(x)
    x = layers.Add()([x, attend(normed)])
    return layers.Add(name=name)([x, layers.Dense(WIDTH, activation="gelu")(layers.LayerNormalization()(x))])


def attend(normed):
    return layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normed, normed)


class ClassTokens(layers.Layer):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def build(self, shape):
        self.tokens = self.add_weight(shape=(1, self.count, shape[-1]), initializer="random_normal")

    def call(self, patches):
        tokens = ops.broadcast_to(self.tokens, (ops.shape(patches)[0], self.count, patches.shape[-1]))
        return ops.concatenate([tokens, patches], 1)


def deit(inputs, special=2):
    """Touvron et al. 2021, 2012.12877: a class and a distillation token, whose heads are averaged."""
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 4, 4)(inputs))
    x = block(ClassTokens(special)(x), "block", attend) if special else block(x, "block", attend)
    return layers.Average()([layers.Dense(3)(x[:, place]) for place in range(special)])


def cct(inputs):
    """Hassani et al. 2021, 2104.05704: convolution and pooling make the tokens, a softmax over them pools."""
    x = layers.MaxPooling2D(3, 2, "same")(layers.Conv2D(WIDTH, 3, 2, "same", activation="relu")(inputs))
    x = block(layers.Reshape((-1, WIDTH))(x), "block", attend)
    weights = ops.transpose(ops.softmax(layers.Dense(1)(x), axis=1), (0, 2, 1))
    return layers.Dense(3)(ops.squeeze(ops.matmul(weights, x), 1))


def swin(inputs):
    """Liu et al. 2021, 2103.14030: attention within windows of 3 x 5 patches, shifted in the second block."""

    def within(shift):
        def windowed(normed):
            x = ops.roll(ops.reshape(normed, (-1, 6, 10, WIDTH)), (-shift, -shift), (1, 2))
            x = ops.transpose(ops.reshape(x, (-1, 2, 3, 2, 5, WIDTH)), (0, 1, 3, 2, 4, 5))
            x = attend(ops.reshape(x, (-1, 15, WIDTH)))
            x = ops.transpose(ops.reshape(x, (-1, 2, 2, 3, 5, WIDTH)), (0, 1, 3, 2, 4, 5))
            return ops.reshape(
                ops.roll(ops.reshape(x, (-1, 6, 10, WIDTH)), (shift, shift), (1, 2)), (-1, 60, WIDTH)
            )

        return windowed

    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 2, 2)(inputs))
    x = block(block(x, "first", within(0)), "block", within(1))
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


def mobile_vit(inputs):
    """Mehta & Rastegari 2021, 2110.02178: attention over the same pixel of all 2 x 2 patches, folded back to a map."""
    x = layers.Conv2D(WIDTH, 3, 2, "same", activation="swish")(inputs)
    unfolded = ops.transpose(ops.reshape(x, (-1, 3, 2, 5, 2, WIDTH)), (0, 2, 4, 1, 3, 5))
    x = block(ops.reshape(unfolded, (-1, 15, WIDTH)), "within", attend)
    folded = ops.transpose(ops.reshape(x, (-1, 2, 2, 3, 5, WIDTH)), (0, 3, 1, 4, 2, 5))
    x = layers.Conv2D(WIDTH, 1, name="block")(ops.reshape(folded, (-1, 6, 10, WIDTH)))
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def conv_next(inputs):
    """Liu et al. 2022, 2201.03545: no attention at all."""
    x = layers.LayerNormalization()(layers.Conv2D(WIDTH, 4, 4)(inputs))
    branch = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(x))
    branch = layers.Dense(WIDTH)(layers.Dense(4 * WIDTH, activation="gelu")(branch))
    x = layers.Add(name="block")([x, branch])
    return layers.Dense(3)(layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x)))


GRIDS = {
    "vit": (lambda inputs: deit(inputs, 1), (3, 5)),
    "deit": (deit, (3, 5)),
    "cct": (cct, (3, 5)),
    "swin": (swin, (6, 10)),
    "mobile_vit": (mobile_vit, (6, 10)),
    "conv_next": (conv_next, (3, 5)),
}


def build(name, height=12, width=20):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((height, width, 3))
    return keras.Model(inputs, GRIDS[name][0](inputs))


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_of_tokens_is_found(name):
    model, (rows, columns) = build(name), GRIDS[name][1]
    # Behind the only attention nothing but class tokens counts.
    tokens = [layer.name for layer in model.layers if isinstance(layer, ClassTokens)]
    layer = (tokens or ["block"])[0]
    maps = explain.grad_cam(model, image(), 1, layer=layer, resize=False, relu=False)
    assert maps.shape == (1, rows, columns) and np.abs(maps).max() > 0
    output = keras.Model(model.inputs[0], model.get_layer(layer).output)
    values = output(image()).numpy()
    if values.ndim == 3:
        special = values.shape[1] - rows * columns
        values = values[:, special:].reshape(1, rows, columns, -1)
    # The weights are what the map says of the values: one for each channel.
    solution, *_ = np.linalg.lstsq(values.reshape(-1, WIDTH), maps.ravel(), rcond=None)
    np.testing.assert_allclose(
        values.reshape(-1, WIDTH) @ solution, maps.ravel(), atol=1e-4 * np.abs(maps).max()
    )


@pytest.mark.parametrize(
    ("name", "layer"),
    [("deit", "class_tokens"), ("cct", "block"), ("swin", "first"), ("mobile_vit", "block")],
)
def test_without_a_layer_tokens_are_taken_where_the_last_attention_reads_them(name, layer):
    model = build(name)
    maps, found = explain.grad_cam(model, image(), 1, resize=False, relu=False, return_layer=True)
    assert found == next(one.name for one in model.layers if one.name.startswith(layer))
    assert maps.shape == (1, *GRIDS[name][1]) and np.abs(maps).max() > 0


def test_registers_are_neither_class_tokens_nor_patches():
    """Of five tokens before the patches the first is asked."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 20, 3))
    model = keras.Model(inputs, deit(inputs, 5))
    assert explain.grad_cam(model, image(), 1, resize=False).shape == (1, 3, 5)
    maps = explain.attention_rollout(model, image(), resize=False)
    kinds = layers.LayerNormalization, layers.MultiHeadAttention
    norm, attention = (next(one for one in model.layers if isinstance(one, kind)) for kind in kinds)
    normed = keras.Model(inputs, norm.output)(image())
    _, scores = attention(normed, normed, return_attention_scores=True)
    np.testing.assert_allclose(maps.ravel(), scores.numpy().mean(1)[0, 0, 5:] / 2, rtol=1e-4)


def test_a_layer_of_which_the_class_token_alone_counts_is_warned_of():
    with pytest.warns(UserWarning, match="found no gradient at layer 'block'"):
        maps = explain.grad_cam(build("vit"), image(), 1, layer="block")
    assert not maps.any()


def test_what_windows_are_folded_back_to_is_the_last_map():
    """Attention within windows of a map, whose sum with it reaches the head."""
    inputs = keras.Input((12, 20, 3))
    stem = layers.Conv2D(WIDTH, 2, 2)(inputs)
    windows = ops.transpose(ops.reshape(stem, (-1, 2, 3, 2, 5, WIDTH)), (0, 1, 3, 2, 4, 5))
    x = ops.reshape(attend(ops.reshape(windows, (-1, 15, WIDTH))), (-1, 2, 2, 3, 5, WIDTH))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 6, 10, WIDTH))
    x = layers.Add(name="folded")([x, stem])
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    maps, found = explain.grad_cam(model, image(), 1, resize=False, return_layer=True)
    assert found == "folded" and maps.shape == (1, 6, 10)


def unfolded(x):
    """Four pixels of each patch on an axis of their own, as MobileViT is written at keras.io."""
    x = layers.Reshape((4, 15, WIDTH))(x)
    return layers.Reshape((-1, WIDTH))(layers.Add()([x, attend(x)]))


def reduced(x):
    """Keys of every third token alone, as in a pyramid vision transformer."""
    return x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x[:, ::3])


@pytest.mark.parametrize("parts", [unfolded, reduced])
def test_attention_to_other_tokens_than_those_of_the_image_is_refused(parts):
    inputs = keras.Input((12, 20, 3))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 2, 2)(inputs))
    x = parts(x + attend(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    with pytest.raises(ValueError, match="same tokens of the whole image"):
        explain.attention_rollout(model, image())


@pytest.mark.parametrize("name", ["vit", "deit", "cct"])
def test_attention_finds_the_grid(name):
    assert explain.attention_rollout(build(name), image(), resize=False).shape == (1, *GRIDS[name][1])
    assert explain.attention_relevance(build(name), image(), 1, resize=False).shape == (1, *GRIDS[name][1])


@pytest.mark.parametrize("name", ["swin", "mobile_vit", "conv_next"])
def test_attention_that_is_not_of_the_whole_image_is_refused(name):
    with pytest.raises(ValueError, match="same tokens of the whole image|has none"):
        explain.attention_relevance(build(name), image(), 1)


def test_a_grid_that_the_sides_do_not_give_is_that_of_the_patches():
    """Thirteen rows make three patches of four."""
    model = build("vit", 13, 20)
    assert explain.grad_cam(model, image(13), 1, resize=False).shape == (1, 3, 5)


class WithScores(layers.Layer):
    """A block of the kind that returns its scores too, or None where nobody asked for them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(WIDTH)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, tokens):
        return tokens + self.dense(tokens), None


class Encoder(layers.Layer):
    """Such a block inside a layer, as keras-hub nests them."""

    def __init__(self, **kwargs):
        super().__init__(name="encoder", **kwargs)
        self.block = WithScores(name="block")

    def build(self, shape):
        self.block.build(shape)

    def call(self, tokens):
        return self.block(tokens)[0]


def test_a_block_that_returns_no_scores_beside_its_tokens_is_a_layer_as_any():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 20, 3))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 4, 4)(inputs))
    x = Encoder()(x)
    plain = layers.Identity(name="plain")(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(plain)))
    for method in (explain.grad_cam, explain.ablation_cam):
        one, other = (method(model, image(), 1, layer=name) for name in ("block", "plain"))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    one, other = (
        explain.layer_integrated_gradients(model, image(), 1, layer=name) for name in ("block", "plain")
    )
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
