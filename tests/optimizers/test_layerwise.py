"""Each variable's update is its factor times that of the plain optimizer, whatever else the optimizer does."""

import keras
import numpy as np
import pytest
from keras import optimizers as known

from recipes.optimizers import MuonSGD, begin_updates, layerwise, layerwise_class, rate_factors
from recipes.optimizers.layerwise import plain_class

FACTORS = {"low": 0.1, "high": 0.5}

OPTIMIZERS = {
    "sgd": lambda: known.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda: known.AdamW(0.01, weight_decay=0.1),
    "muon": lambda: known.Muon(0.01, weight_decay=0.1, adam_weight_decay=0.05, exclude_layers=["head"]),
    "muon_sgd": lambda: MuonSGD(0.1, sgd_only=["head"], weight_decay=0.01),
    "clipped": lambda: known.Adam(0.01, global_clipnorm=0.3),
    "accumulating": lambda: known.AdamW(0.01, weight_decay=0.1, gradient_accumulation_steps=2),
    "rmsprop": lambda: known.RMSprop(0.01, momentum=0.9, centered=True),
    "nadam": lambda: known.Nadam(0.01),
    "lamb": lambda: known.Lamb(0.01),
    "lion": lambda: known.Lion(0.01, weight_decay=0.1),
    "adafactor": lambda: known.Adafactor(0.01, relative_step=False),
    "schedule": lambda: known.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9),
}


def network(seed=0):
    keras.utils.set_random_seed(seed)
    make = keras.layers.Dense
    return keras.Sequential(
        [keras.Input((4,)), make(5, name="low"), make(4, name="high"), make(3, name="head")], name="net"
    )


def updates(optimizer, model, steps=4):
    """What each of some steps changes, from the same weights and with the same gradients in every step."""
    variables, start = model.trainable_variables, model.get_weights()
    random = np.random.default_rng(1)
    changes = []
    for _ in range(steps):
        model.set_weights(start)
        gradients = [random.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        changes.append([np.array(v) - w for v, w in zip(variables, start, strict=True)])
    model.set_weights(start)
    return changes


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_is_the_factor_times_that_of_the_plain_optimizer(name):
    model = network()
    plain = updates(OPTIMIZERS[name](), model)
    ours = updates(layerwise(OPTIMIZERS[name](), model, FACTORS), model)
    for expected, found in zip(plain, ours, strict=True):
        for factor, one, other in zip([0.1, 0.1, 0.5, 0.5, 1, 1], expected, found, strict=True):
            np.testing.assert_allclose(other, factor * one, atol=1e-6, rtol=0)
    assert np.abs(plain[-1][0]).max() > 1e-4  # there was an update


def test_global_clipping_measures_the_gradients_of_all_layers():
    model = network()
    optimizer = layerwise(known.SGD(1.0, global_clipnorm=1.0), model, FACTORS)
    gradients = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    norm = np.sqrt(sum(g.size for g in gradients))
    start = model.get_weights()
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
    change = [a - b for a, b in zip(start, model.get_weights(), strict=True)]
    for factor, one in zip([0.1, 0.1, 0.5, 0.5, 1, 1], change, strict=True):
        np.testing.assert_allclose(one, factor / norm, rtol=1e-4)


def test_schedule_free_moves_in_proportion_to_the_factor():
    model = network()
    moved = []
    for optimizer in (known.ScheduleFreeAdamW(0.01), layerwise(known.ScheduleFreeAdamW(0.01), model, 0.5)):
        start, random = model.get_weights(), np.random.default_rng(0)
        for _ in range(4):
            gradients = [random.normal(size=v.shape).astype("float32") for v in model.trainable_variables]
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
        moved.append([a - b for a, b in zip(model.get_weights(), start, strict=True)])
        model.set_weights(start)
    for factor, one, other in zip([0.25, 0.25, 0.5, 0.5, 1, 1], *moved, strict=True):
        np.testing.assert_allclose(other, factor * one, atol=1e-6)


def test_moving_average_follows_the_weights_that_moved_less():
    model = network()
    optimizer = layerwise(known.SGD(0.1, use_ema=True, ema_momentum=0.5), model, FACTORS)
    kernel, gradient = model.layers[0].kernel, np.ones((4, 5), "float32")
    expected, average = np.array(kernel), None
    for _ in range(3):
        gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
        expected = expected - 0.1 * 0.1 * gradient
        average = expected if average is None else 0.5 * average + 0.5 * expected
    np.testing.assert_allclose(optimizer._model_variables_moving_average[0], average, atol=1e-6)


def test_mixed_precision_scales_the_same_updates():
    with_policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 4)).astype("float32"), np.arange(16) % 3
    changes = []
    for factors in (None, FACTORS):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Dense(u, name=n, dtype=with_policy)
            for u, n in ((5, "low"), (4, "high"), (3, "head"))
        ]
        model = keras.Sequential([keras.Input((4,)), *layers])
        optimizer = known.LossScaleOptimizer(known.SGD(0.1), initial_scale=64.0)
        optimizer = optimizer if factors is None else layerwise(optimizer, model, factors)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        start = model.get_weights()
        model.fit(x, y, batch_size=16, epochs=1, verbose=0)
        changes.append([a - b for a, b in zip(model.get_weights(), start, strict=True)])
    for factor, one, other in zip([0.1, 0.1, 0.5, 0.5, 1, 1], *changes, strict=True):
        np.testing.assert_allclose(other, factor * one, atol=1e-6)
    assert np.abs(changes[0][0]).max() > 1e-4


@pytest.mark.filterwarnings("ignore:.*optimizer.*")
def test_a_saved_model_goes_on_with_its_factors_as_if_it_had_not_been_saved(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(32, 4)).astype("float32"), np.arange(32) % 3
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(layerwise(known.AdamW(0.01), model, FACTORS), loss)
    model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.factors == model.optimizer.factors == [0.1, 0.1, 0.5, 0.5, 1, 1]
    assert isinstance(loaded.optimizer, known.AdamW)
    for one in (model, loaded):
        one.fit(x, y, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_variables_excluded_from_weight_decay_stay_excluded():
    model = network()
    plain = known.AdamW(0.01, weight_decay=0.5)
    plain.exclude_from_weight_decay(var_names=["bias"])
    optimizer = layerwise(plain, model, FACTORS)
    for layer in model.layers:
        layer.bias.assign(keras.ops.ones_like(layer.bias))
    optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    np.testing.assert_array_equal(model.layers[0].bias, 1)


def test_a_variable_that_begins_late_takes_the_first_step_of_adam():
    model = network()
    optimizer = layerwise(known.Adam(0.01), model, {"low": 1.0})
    variables = model.trainable_variables
    late, early = variables[:2], variables[2:]
    optimizer.build(variables)
    for _ in range(50):
        optimizer.apply([keras.ops.ones(v.shape) for v in early], early)
    begin_updates(optimizer, late)
    before = np.array(late[0])
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    # Bias correction undone, the first step of Adam is the rate times the sign; without a clock it would be 2.3 times.
    np.testing.assert_allclose(before - np.array(late[0]), 0.01, rtol=1e-4)


@pytest.mark.parametrize("kind", [known.Ftrl, known.Adafactor])
def test_optimizers_not_in_proportion_to_their_rate_are_refused(kind):
    with pytest.raises(ValueError, match="in proportion to its learning rate"):
        layerwise(kind(0.01), network(), 0.5)


def test_another_set_of_variables_than_the_factors_were_made_for_is_refused():
    model = network()
    optimizer = layerwise(known.SGD(0.1), model, 0.5)
    with pytest.raises(ValueError, match="make the optimizer anew"):
        optimizer.build(model.trainable_variables[2:])


def test_the_class_of_a_layerwise_optimizer_is_made_once():
    assert layerwise_class(known.Adam) is layerwise_class(layerwise_class(known.Adam))
    assert plain_class(layerwise_class(known.Adam)) is known.Adam


def nested():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="one"),
            keras.layers.BatchNormalization(name="norm"),
        ],
        name="stem",
    )
    image = keras.Input((8, 8, 3))
    x = inner(image)
    short = keras.layers.Conv2D(4, 1, name="short", padding="same")(x)
    long = keras.layers.Conv2D(4, 3, name="long1", padding="same")(x)
    long = keras.layers.Conv2D(4, 3, name="long2", padding="same")(long)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([short, long]))
    return keras.Model(image, keras.layers.Dense(2, name="classes")(x), name="net")


def by_layer(model, rates):
    factors = rate_factors(model, rates)
    return {v.path.split("/")[-2]: f for v, f in zip(model.trainable_variables, factors, strict=True)}


def test_decay_by_depth_follows_the_longest_way_of_the_graph_into_nested_models():
    found = by_layer(nested(), 0.5)
    # one (and its norm) -> long1 -> long2 -> classes; short is beside long1.
    assert found == {"one": 0.125, "norm": 0.125, "short": 0.25, "long1": 0.25, "long2": 0.5, "classes": 1.0}


def test_decay_by_depth_of_a_deep_network_spans_twelve_groups():
    layers = [keras.layers.Dense(3, name=f"d{i}") for i in range(37)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    factors = rate_factors(model, 0.75)[::2]
    assert factors[-1] == 1.0
    np.testing.assert_allclose(factors[:3], [0.75**12] * 3)
    exponents = np.round(np.log(factors[:-1]) / np.log(0.75)).astype(int)
    assert exponents.tolist() == np.repeat(np.arange(12, 0, -1), 3).tolist()


def test_the_innermost_name_decides_the_factor():
    found = by_layer(nested(), {"stem": 0.1, "norm": 0.3, "long*": 0.5, "long2": 0.7})
    assert found == {"one": 0.1, "norm": 0.3, "short": 1.0, "long1": 0.5, "long2": 0.7, "classes": 1.0}


def test_regular_expressions_fit_whole_names_or_paths():
    found = by_layer(nested(), {"stem/(one|norm)": 0.1, "long[12]": 0.5})
    assert (found["one"], found["norm"], found["long2"], found["short"]) == (0.1, 0.1, 0.5, 1.0)


def test_head_is_the_layer_of_the_classes_where_no_layer_has_that_name():
    found = by_layer(nested(), {"head": 2.0, "backbone": 0.1})
    assert found.pop("classes") == 2.0
    assert set(found.values()) == {0.1}


def test_a_name_that_fits_no_layer_is_refused_with_the_names_there_are():
    with pytest.raises(
        ValueError, match=r"'bakbone', which fits none of 'net'. It has stem, long1, short, long2, classes"
    ):
        rate_factors(nested(), {"bakbone": 0.1})


def test_the_layer_of_a_variable_is_named():
    with pytest.raises(ValueError, match="A variable goes with its layer: write 'long1'"):
        rate_factors(nested(), {"long1/kernel": 0.1})


def test_a_name_that_fits_frozen_layers_alone_is_refused():
    model = nested()
    model.get_layer("stem").trainable = False
    with pytest.raises(ValueError, match="'stem', which fits only frozen layers"):
        rate_factors(model, {"stem": 0.1})
