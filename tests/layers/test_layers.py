"""Every layer against numpy loops or Keras' own, and what all of them must do inside Keras."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import layers

pytestmark = pytest.mark.numerics


def images(batch=3, height=7, width=6, channels=4, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, height, width, channels)).astype("float32")


# ---------------------------------------------------------------- what all layers do

MAKERS = {
    "maxout": lambda policy=None: layers.Maxout(5, 3, kernel_constraint=layers.MaxNorm(2.0), dtype=policy),
    "maxout_conv": lambda policy=None: layers.MaxoutConv2D(
        5, (3, 2), 3, strides=(2, 1), padding="same", kernel_regularizer="l2", dtype=policy
    ),
    "drop_connect": lambda policy=None: layers.DropConnect(
        keras.layers.Conv2D(5, 3, activation="relu", dtype=policy), 0.5, seed=3, dtype=policy
    ),
    "stochastic_depth": lambda policy=None: layers.StochasticDepth(0.5, seed=3, dtype=policy),
    "fractional_random": lambda policy=None: layers.FractionalMaxPooling2D(1.4, seed=3, dtype=policy),
    "fractional_pseudo": lambda policy=None: layers.FractionalMaxPooling2D(
        1.3, pseudo_random=True, overlapping=True, seed=3, dtype=policy
    ),
    "instance_norm": lambda policy=None: layers.InstanceNormalization(epsilon=1e-3, dtype=policy),
    "identity_shortcut": lambda policy=None: layers.IdentityShortcut(6, 2, dtype=policy),
    "scalar_affine": lambda policy=None: layers.ScalarAffine(use_gain=True, dtype=policy),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_layer_saves_loads_takes_any_batch_and_tells_its_shape(maker, tmp_path):
    model = keras.Sequential([keras.Input((7, 6, 4)), maker()])
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for batch in (1, 5):
        x = images(batch)
        np.testing.assert_array_equal(loaded(x), model(x))
        assert model(x).shape[1:] == model.output_shape[1:]
        assert model.layers[0].compute_output_shape((batch, 7, 6, 4)) == tuple(model(x).shape)
    ours, theirs = model.layers[0].get_config(), loaded.layers[0].get_config()
    assert {**theirs, "layer": None} == {**ours, "layer": None}  # a wrapped layer is Keras' own to save
    # The same seed draws the same, so a loaded model trains as the saved one would have.
    np.testing.assert_array_equal(maker_outputs(loaded.layers[0]), maker_outputs(model.layers[0]))


def maker_outputs(layer):
    x = images(4)
    fresh = layer.__class__.from_config(layer.get_config())
    fresh.build(x.shape)
    fresh.set_weights(layer.get_weights())
    return fresh(x, **training(fresh))


def training(layer):
    return {"training": True} if layer._call_has_training_arg else {}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_layer_computes_in_half_precision_and_keeps_float32_weights(maker):
    single = maker()
    single.build((3, 7, 6, 4))
    half = maker("mixed_float16")
    half.build((3, 7, 6, 4))
    half.set_weights(single.get_weights())
    assert {variable.dtype for variable in half.weights} <= {"float32"}
    x = images() * 30  # large enough for a float16 sum of squares to lose its digits
    outputs = half(x)
    assert outputs.dtype == tf.float16
    np.testing.assert_allclose(outputs, single(x), rtol=4e-3, atol=0.15)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(half(x, **training(half)), "float32"))
    gradients = tape.gradient(loss, [variable.value for variable in half.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


# ---------------------------------------------------------------- maxout


def test_maxout_is_the_largest_of_its_affine_pieces():
    layer = layers.Maxout(3, pieces=4, bias_initializer="normal")
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    outputs = layer(x)
    kernel, bias = (np.asarray(variable) for variable in layer.weights)
    expected = np.empty((2, 5, 3))
    for example, place, unit in itertools.product(range(2), range(5), range(3)):
        columns = [piece * 3 + unit for piece in range(4)]
        expected[example, place, unit] = max(x[example, place] @ kernel[:, c] + bias[c] for c in columns)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_maxout_of_a_function_and_its_negative_is_the_absolute_value():
    layer = layers.Maxout(2, use_bias=False)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    layer.build(x.shape)
    layer.kernel.assign(np.concatenate([np.eye(2), -np.eye(2)], axis=1))
    np.testing.assert_array_equal(layer(x), np.abs(x))


@pytest.mark.parametrize("layer", [layers.Maxout(4), layers.MaxoutConv2D(4, 1)])
def test_maxout_refuses_another_number_of_channels_than_it_was_built_for(layer):
    layer(np.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 1"):
        layer(np.zeros((1, 2, 2, 3)))


def test_maxout_conv_refuses_images_smaller_than_its_kernel():
    assert layers.MaxoutConv2D(4, 3, padding="same")(np.zeros((1, 2, 2, 1))).shape == (1, 2, 2, 4)
    with pytest.raises(ValueError, match=r"at least its kernel_size=\(3, 3\). Received shape \(1, 2, 2, 1\)"):
        layers.MaxoutConv2D(4, 3)(np.zeros((1, 2, 2, 1)))


def test_maxout_conv_is_maxout_at_every_place():
    conv = layers.MaxoutConv2D(3, 2, pieces=3, strides=2, bias_initializer="normal")
    x = images()
    outputs = conv(x)
    dense = layers.Maxout(3, pieces=3)
    dense.build((None, 16))
    dense.set_weights([np.reshape(conv.kernel, (16, 9)), np.asarray(conv.bias)])
    for row, column in itertools.product(range(3), range(3)):
        patch = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(3, 16)
        np.testing.assert_allclose(outputs[:, row, column], dense(patch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 0])
def test_maxout_needs_two_pieces(pieces):
    with pytest.raises(ValueError, match=f"pieces >= 2. Received 4 outputs, pieces={pieces}"):
        layers.Maxout(4, pieces)
    with pytest.raises(ValueError, match=f"MaxoutConv2D .* pieces={pieces}"):
        layers.MaxoutConv2D(4, 3, pieces)


# ---------------------------------------------------------------- drop connect


def test_drop_connect_masks_weights_once_a_batch_and_not_the_bias():
    layer = layers.DropConnect(keras.layers.Dense(50), 0.4, seed=1)
    layer.build((None, 40))
    kernel = np.random.default_rng(0).normal(size=(40, 50)).astype("float32")
    layer.layer.set_weights([kernel, np.full(50, 7.0, "float32")])
    # Rows of the identity read the masked kernel out; the zero row reads the bias.
    outputs = np.asarray(layer(np.eye(40, dtype="float32"), training=True)) - 7
    kept = np.abs(outputs) > 1e-5
    np.testing.assert_allclose(outputs[kept], kernel[kept] / 0.6, rtol=1e-4, atol=1e-5)
    assert abs(kept.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / 2000)
    again = np.asarray(layer(np.eye(40, dtype="float32"), training=True)) - 7
    assert not np.allclose(again, outputs)
    np.testing.assert_array_equal(layer.layer.kernel, kernel)


def test_drop_connect_keeps_the_expectation_and_is_the_plain_layer_at_inference():
    layer = layers.DropConnect(keras.layers.Conv2D(2, 3), 0.3, seed=0)
    x = images(1)
    plain = np.asarray(layer(x))
    np.testing.assert_array_equal(plain, layer.layer(x))
    step = tf.function(lambda policy=None: layer(x, training=True))
    draws = np.stack([step() for _ in range(600)])
    error = draws.std(axis=0) / np.sqrt(600)
    assert np.all(np.abs(draws.mean(axis=0) - plain) < 5 * error)


def test_drop_connect_gradients_reach_kept_weights_only_and_fit_trains_them(digits):
    layer = layers.DropConnect(keras.layers.Dense(6), 0.5, seed=1)
    layer.build((None, 5))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.eye(5, dtype="float32"), training=True))
    gradient = tape.gradient(loss, layer.layer.kernel.value)
    assert set(np.unique(gradient)) == {0.0, 2.0}  # 1 / (1 - rate) where kept
    pixels, labels = digits
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.DropConnect(keras.layers.Dense(64, activation="relu"), 0.5, seed=0),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(pixels.reshape(-1, 64) / 255.0, labels, epochs=4, verbose=0)
    assert model.evaluate(pixels.reshape(-1, 64) / 255.0, labels, verbose=0)[1] > 0.9


def test_drop_connect_refuses_layers_without_a_kernel_and_rates_outside_0_1():
    for layer in (keras.layers.ReLU(), keras.layers.BatchNormalization(), "dense"):
        with pytest.raises(ValueError, match="expects a layer with a kernel"):
            layers.DropConnect(layer, 0.5)
    for rate in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match=rf"rate in \[0, 1\).*rate={rate}"):
            layers.DropConnect(keras.layers.Dense(2), rate)


# ---------------------------------------------------------------- stochastic depth


def test_stochastic_depth_drops_whole_examples_and_keeps_the_expectation():
    layer = layers.StochasticDepth(0.3, seed=5)
    x = np.ones((2000, 2, 3, 1), "float32")
    outputs = np.asarray(layer(x, training=True)).reshape(2000, -1)
    assert np.all(outputs == outputs[:, :1])
    np.testing.assert_allclose(np.unique(outputs), [0, 1 / 0.7], rtol=1e-6)
    assert abs((outputs[:, 0] == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    np.testing.assert_array_equal(layer(x), x)


def test_linear_decay_gives_the_papers_survival_probabilities():
    # Section 4 of the paper: 54 blocks, p_L = 0.5; its footnote has an expected 40 blocks of 54 kept.
    rates = layers.linear_decay(0.5, 54)
    assert rates[-1] == 0.5 and rates[26] == 0.25
    assert sum(1 - rate for rate in rates) == pytest.approx((3 * 54 - 1) / 4)


def test_stochastic_depth_refuses_rates_outside_0_1():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"rate in \[0, 1\)"):
            layers.StochasticDepth(rate)
        with pytest.raises(ValueError, match=r"rate in \[0, 1\)"):
            layers.linear_decay(rate, 3)
    with pytest.raises(ValueError, match="blocks >= 1"):
        layers.linear_decay(0.5, 0)


# ---------------------------------------------------------------- fractional pooling


def column_numbers(size):
    """An image whose pixel in row i has value i, so that a maximum names the last row of its region."""
    return np.broadcast_to(np.arange(size, dtype="float32")[None, :, None, None], (1, size, 5, 1))


@pytest.mark.parametrize("pseudo_random", [False, True])
@pytest.mark.parametrize(("size", "ratio"), [(25, 2**0.5), (36, 1.9), (9, 1.1), (6, 1.2), (3, 1.9), (2, 1.5)])
def test_regions_tile_the_image_with_steps_of_one_and_two(size, ratio, pseudo_random):
    layer = layers.FractionalMaxPooling2D(ratio, pseudo_random=pseudo_random, seed=0)
    seen = set()
    for _ in range(8):
        last_rows = np.asarray(layer(column_numbers(size), training=True))[0, :, 0, 0].astype(int)
        steps = np.diff(last_rows, prepend=-1)
        assert set(steps) <= {1, 2} and last_rows[-1] == size - 1
        seen.add(tuple(steps))
    floor = {25: 17, 36: 18, 9: 8, 6: 5, 3: 2, 2: 1}[size]
    assert len(steps) == floor
    assert len(seen) > 1 or size / floor in (1.0, 2.0)


def test_overlapping_regions_share_a_row_with_the_next():
    plain, overlapping = (
        layers.FractionalMaxPooling2D(1.5, overlapping=overlap, seed=0) for overlap in (False, True)
    )
    x = column_numbers(12)
    ends, shared = (np.asarray(layer(x, training=True))[0, :, 0, 0] for layer in (plain, overlapping))
    np.testing.assert_array_equal(shared, np.minimum(ends + 1, 11))


@pytest.mark.parametrize("overlapping", [False, True])
def test_pooling_agrees_with_tensorflow_given_the_same_cuts(overlapping):
    x = np.random.default_rng(0).normal(size=(2, 17, 13, 3)).astype("float32")
    layer = layers.FractionalMaxPooling2D(1.6, overlapping=overlapping, pseudo_random=True, seed=4)
    rows, columns = (np.asarray(layer._cuts(size, layer._output_size(size), False)) for size in (17, 13))
    # The operation behind tf.nn.fractional_max_pool's gradient: it takes the cuts and the maxima, and finds each
    # maximum's pixel again; only the right maxima are found.
    outputs = layer(x)
    gradient = tf.raw_ops.FractionalMaxPoolGrad(
        orig_input=x,
        orig_output=outputs,
        out_backprop=tf.ones_like(outputs),
        row_pooling_sequence=rows.astype("int64"),
        col_pooling_sequence=columns.astype("int64"),
        overlapping=overlapping,
    )
    inputs = tf.Variable(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs))
    np.testing.assert_array_equal(tape.gradient(loss, inputs), gradient)


def test_pseudo_random_cuts_are_the_papers_formula():
    layer = layers.FractionalMaxPooling2D(1.5, pseudo_random=True)
    size, output_size = 25, 16
    alpha = size / output_size
    papers = set()
    for u in np.linspace(0.001, 0.999, 400):
        cuts = np.ceil(alpha * (np.arange(output_size + 1) + u))
        papers.add(tuple(np.diff(cuts).astype(int)))
    from recipes.layers.fractional_max_pooling import pseudo_random_cuts

    ours = {
        tuple(np.diff(pseudo_random_cuts(size, layer._output_size(size), phase)).astype(int))
        for phase in range(output_size)
    }
    assert ours == papers and len(ours) == output_size


def test_inference_repeats_and_training_differs():
    layer = layers.FractionalMaxPooling2D(1.5, seed=0)
    x = images(height=12, width=12)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))


@pytest.mark.parametrize("ratio", [1.0, 2.0, 0.5, 3])
def test_fractional_pooling_refuses_other_ratios(ratio):
    with pytest.raises(ValueError, match=rf"ratio in \(1, 2\). Received ratio={ratio}"):
        layers.FractionalMaxPooling2D(ratio)


def test_fractional_pooling_asks_for_a_known_size():
    with pytest.raises(ValueError, match="of known size"):
        layers.FractionalMaxPooling2D(1.5)(keras.Input((None, 8, 3)))


# ---------------------------------------------------------------- instance normalization


def test_instance_normalization_is_group_normalization_with_a_group_a_channel():
    ours = layers.InstanceNormalization(epsilon=1e-3)
    keras_own = keras.layers.GroupNormalization(groups=-1, epsilon=1e-3)
    x = images() * 5 + 3
    ours.build(x.shape)
    keras_own.build(x.shape)
    weights = [np.random.default_rng(seed).normal(size=4) for seed in (1, 2)]
    ours.set_weights(weights)
    keras_own.set_weights(weights)
    np.testing.assert_allclose(ours(x), keras_own(x), rtol=1e-5, atol=1e-5)


def test_instance_normalization_ignores_each_channels_contrast_and_brightness():
    layer = layers.InstanceNormalization(epsilon=1e-9, center=False, scale=False)
    x = images()
    contrast = np.random.default_rng(1).uniform(0.5, 9, (3, 1, 1, 4)).astype("float32")
    np.testing.assert_allclose(layer(x * contrast + 4), layer(x), rtol=1e-3, atol=1e-4)


def test_instance_normalization_refuses_vectors_and_a_useless_epsilon():
    with pytest.raises(ValueError, match="LayerNormalization"):
        layers.InstanceNormalization()(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="epsilon > 0"):
        layers.InstanceNormalization(epsilon=0)


# ---------------------------------------------------------------- max-norm and shortcuts


@pytest.mark.parametrize(
    ("layer", "unit_axes"),
    [
        (keras.layers.Dense(6), -1),
        (keras.layers.Conv2D(6, 3), -1),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (-2, -1)),
        (keras.layers.Conv2DTranspose(6, 3), -2),
    ],
    ids=["dense", "conv", "depthwise", "transpose"],
)
def test_max_norm_limits_each_units_response(layer, unit_axes):
    layer.build((None, 8, 8, 4))
    kernel = layer.weights[0]
    constraint = layers.MaxNorm(2.0, unit_axes=unit_axes)
    large = np.random.default_rng(0).normal(size=kernel.shape).astype("float32") * 4
    limited = np.asarray(constraint(keras.ops.convert_to_tensor(large)))
    axes = (unit_axes,) if isinstance(unit_axes, int) else unit_axes
    for unit in itertools.product(*(range(large.shape[axis]) for axis in axes)):
        index = [slice(None)] * large.ndim
        for axis, number in zip(axes, unit, strict=True):
            index[axis] = number
        norm = np.linalg.norm(large[tuple(index)])
        assert norm > 2
        np.testing.assert_allclose(limited[tuple(index)], large[tuple(index)] * 2 / norm, rtol=1e-5)
    np.testing.assert_array_equal(constraint(keras.ops.convert_to_tensor(large / 1000)), large / 1000)


def test_max_norm_agrees_with_keras_on_dense_and_holds_after_a_step_on_conv():
    kernel = np.random.default_rng(0).normal(size=(9, 5)).astype("float32") * 3
    np.testing.assert_allclose(
        layers.MaxNorm(1.5)(keras.ops.convert_to_tensor(kernel)),
        keras.constraints.MaxNorm(1.5)(keras.ops.convert_to_tensor(kernel)),
        rtol=1e-5,
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), keras.layers.Conv2D(3, 8, kernel_constraint=layers.MaxNorm(0.5))]
    )
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.fit(images(height=8, width=8), np.ones((3, 1, 1, 3)), verbose=0)
    norms = np.linalg.norm(np.reshape(model.layers[0].kernel, (-1, 3)), axis=0)
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)


def test_max_norm_refuses_a_limit_of_zero():
    with pytest.raises(ValueError, match="limit > 0"):
        layers.MaxNorm(0)


def test_identity_shortcut_subsamples_and_pads():
    x = images()
    outputs = np.asarray(layers.IdentityShortcut(6, 2)(x))
    np.testing.assert_array_equal(outputs[..., :4], x[:, ::2, ::2])
    assert not outputs[..., 4:].any() and outputs.shape == (3, 4, 3, 6)
    with pytest.raises(ValueError, match="use a 1x1 Conv2D"):
        layers.IdentityShortcut(3)(x)
    with pytest.raises(ValueError, match="strides=0"):
        layers.IdentityShortcut(3, 0)


class Counting(keras.layers.Dense):
    """A Dense layer with a penalty, a metric and a statistic of its own."""

    def build(self, input_shape):
        super().build(input_shape)
        self.largest = self.add_weight(name="largest", shape=(), initializer="zeros", trainable=False)
        self.mean_input = keras.metrics.Mean(name="mean_input")

    def call(self, inputs):
        self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(inputs)))
        self.mean_input.update_state(inputs)
        self.add_loss(3 * keras.ops.mean(inputs))
        return super().call(inputs)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_drop_connect_keeps_what_the_wrapped_layer_does_besides(policy):
    inputs = np.random.default_rng(0).uniform(0, 1, (5, 3)).astype("float32")
    inner = Counting(4, activity_regularizer=keras.regularizers.L2(0.5), dtype=policy)
    layer = layers.DropConnect(inner, 0.5, seed=0, dtype=policy)
    outputs = np.asarray(keras.ops.cast(layer(inputs, training=True), "float32"))
    expected = [3 * inputs.mean(), 0.5 * (outputs**2).sum() / 5]
    np.testing.assert_allclose(sorted(float(loss) for loss in layer.losses), sorted(expected), rtol=2e-2)
    np.testing.assert_allclose(inner.largest, inputs.max(), rtol=1e-2)
    np.testing.assert_allclose(inner.mean_input.result(), inputs.mean(), rtol=1e-2)


def test_drop_connect_drops_from_a_frozen_layer_as_dropout_does():
    layer = layers.DropConnect(keras.layers.Dense(50, use_bias=False), 0.5, seed=0)
    layer.build((None, 20))
    layer.layer.trainable = False
    ones, kernel = np.ones((1, 20), "float32"), layer.layer.kernel.numpy()
    np.testing.assert_allclose(layer(ones), ones @ kernel, rtol=1e-5)
    assert np.abs(layer(ones, training=True) - ones @ kernel).max() > 0.1
    np.testing.assert_array_equal(layer.layer.kernel, kernel)


def test_drop_connect_in_fit_trains_with_the_activity_penalty():
    """One step of SGD on the penalty alone, worked out by hand for a rate of 0.5 and the mask that was drawn."""
    layer = layers.DropConnect(
        keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", activity_regularizer="l2"),
        0.5,
        seed=0,
    )
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda labels, outputs: 0.0 * outputs)
    model.fit(np.ones((1, 6), "float32"), np.zeros((1, 1)), verbose=0)
    moved = 1 - layer.layer.kernel.numpy()[:, 0]
    kept = int((moved != 0).sum())
    np.testing.assert_allclose(moved[moved != 0], 0.01 * 2 * (2 * kept) * 2, rtol=1e-5)
    assert 0 < kept < 6
