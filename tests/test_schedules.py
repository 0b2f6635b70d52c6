import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import schedules

ALL = {
    "warmup": schedules.Warmup(schedules.Cosine(0.4, 12), steps=4, start=0.1),
    "warmup_keras": schedules.Warmup(keras.optimizers.schedules.ExponentialDecay(0.4, 5, 0.5), steps=3),
    "step": schedules.Step(0.4, [5, 9], factor=0.1),
    "cosine": schedules.Cosine(0.4, 12, final=0.01),
    "linear": schedules.Linear(0.4, 12, final=0.01),
    "inverse_sqrt": schedules.InverseSquareRoot(0.4, timescale=4),
    "cyclic": schedules.Cyclic(0.1, 0.5, half_cycle=3),
    "cyclic2": schedules.Cyclic(0.1, 0.5, half_cycle=3, mode="triangular2"),
    "cyclic_exp": schedules.Cyclic(0.1, 0.5, half_cycle=3, mode="exp_range", gamma=0.9),
    "restarts": schedules.CosineRestarts(0.4, 5, growth=1.5, decay=0.5, final=0.01),
    "one_cycle": schedules.OneCycle(0.4, 16),
    "triangle": schedules.Triangle(0.1, 0.5, 7),
    "join": schedules.Join([schedules.Cosine(0.4, 6), schedules.Triangle(0, 0.2, 5), 0.01], [4, 12]),
    "join_keras": schedules.Join([keras.optimizers.schedules.ExponentialDecay(0.4, 5, 0.5), 0.1], [8]),
}


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


@pytest.fixture(scope="module")
def in_graph():
    """`{name: rates at steps 0..19}` from one compiled function, with int64 steps as an optimizer has them."""

    @tf.function(input_signature=[tf.TensorSpec((), "int64")])
    def step_all(step):
        return {name: schedule(step) for name, schedule in ALL.items()}

    found = [step_all(tf.constant(step, "int64")) for step in range(20)]
    return {name: np.array([float(row[name]) for row in found]) for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_the_graph_the_host_and_an_array_of_steps_give_the_same_rates(in_graph, name):
    eager = rates(ALL[name], range(20))
    np.testing.assert_allclose(in_graph[name], eager, rtol=3e-7, atol=2e-7)
    if ALL[name].elementwise:
        np.testing.assert_allclose(np.asarray(ALL[name](np.arange(20))), eager, rtol=3e-7, atol=2e-7)


@pytest.mark.parametrize("name", ALL)
def test_a_schedule_comes_back_from_json_with_the_same_rates(name):
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(ALL[name])))
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is type(ALL[name])
    np.testing.assert_array_equal(rates(again, range(0, 20, 3)), rates(ALL[name], range(0, 20, 3)))


def test_warmup_first_step_takes_one_increment_and_last_reaches_the_peak():
    warmup = schedules.Warmup(schedules.Linear(0.8, 4), steps=4)
    np.testing.assert_allclose(rates(warmup, range(8)), [0.2, 0.4, 0.6, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(
        rates(schedules.Warmup(0.8, 2, start=0.4), range(4)), [0.6, 0.8, 0.8, 0.8], rtol=1e-6
    )


def test_warmup_of_one_step_is_the_schedule_itself():
    cosine = schedules.Cosine(0.8, 10)
    np.testing.assert_array_equal(rates(schedules.Warmup(cosine, 1), range(12)), rates(cosine, range(12)))


def test_warmup_with_cosine_is_keras_cosine_decay_one_step_earlier():
    ours = schedules.Warmup(schedules.Cosine(0.4, 12, final=0.04), steps=5)
    keras_one = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0, warmup_target=0.4, warmup_steps=5, decay_steps=12, alpha=0.1
    )
    np.testing.assert_allclose(rates(ours, range(20)), rates(keras_one, range(1, 21)), rtol=1e-5, atol=1e-7)


def test_cosine_and_linear_agree_with_keras_and_stay_at_their_end():
    steps = range(16)
    keras_cosine = keras.optimizers.schedules.CosineDecay(0.4, 12, alpha=0.025)
    np.testing.assert_allclose(rates(ALL["cosine"], steps), rates(keras_cosine, steps), rtol=1e-5)
    keras_linear = keras.optimizers.schedules.PolynomialDecay(0.4, 12, end_learning_rate=0.01)
    np.testing.assert_allclose(rates(ALL["linear"], steps), rates(keras_linear, steps), rtol=1e-5)


def test_step_lowers_at_its_boundary_one_step_before_keras():
    np.testing.assert_allclose(
        rates(ALL["step"], [0, 4, 5, 8, 9, 99]), [0.4, 0.4, 0.04, 0.04, 0.004, 0.004], rtol=1e-6
    )
    keras_one = keras.optimizers.schedules.PiecewiseConstantDecay([4, 8], [0.4, 0.04, 0.004])
    np.testing.assert_allclose(rates(ALL["step"], range(12)), rates(keras_one, range(12)), rtol=1e-6)


def test_warmup_and_inverse_square_root_are_the_transformers_rate():
    warmup, model_width = 40, 512
    peak = 1 / math.sqrt(model_width * warmup)
    ours = schedules.Warmup(schedules.InverseSquareRoot(peak, timescale=warmup), warmup)
    paper = [model_width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in range(1, 201)]
    np.testing.assert_allclose(np.asarray(ours(np.arange(200))), paper, rtol=1e-6)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_is_the_formula_of_smith(mode):
    low, high, stepsize, gamma = 0.1, 0.5, 3, 0.9
    expected = []
    for iteration in range(25):
        cycle = math.floor(1 + iteration / (2 * stepsize))
        distance = max(0, 1 - abs(iteration / stepsize - 2 * cycle + 1))
        shrink = 2.0 ** (1 - cycle) if mode == "triangular2" else 1.0
        decline = gamma**iteration if mode == "exp_range" else 1.0
        expected.append((low + (high - low) * distance * shrink) * decline)
    ours = schedules.Cyclic(low, high, stepsize, mode=mode, gamma=gamma)
    np.testing.assert_allclose(np.asarray(ours(np.arange(25))), expected, rtol=1e-5)


@pytest.mark.parametrize(("growth", "decay"), [(1, 1.0), (1, 0.5), (2, 0.8), (3, 1.0)])
def test_restarts_agree_with_a_loop_over_the_periods(growth, decay):
    expected, length, top = [], 7, 0.4
    while len(expected) < 100:
        expected += [0.02 + 0.5 * (top - 0.02) * (1 + math.cos(math.pi * t / length)) for t in range(length)]
        length, top = length * growth, top * decay
    ours = schedules.CosineRestarts(0.4, 7, growth=growth, decay=decay, final=0.02)
    np.testing.assert_allclose(np.asarray(ours(np.arange(100))), np.maximum(expected, 0.02)[:100], rtol=1e-5)


def test_restarts_fall_on_their_step_far_into_a_long_run():
    ours = schedules.CosineRestarts(1.0, 1000, growth=2)
    starts = [1000 * (2**period - 1) for period in range(1, 14)]  # up to 8 191 000 steps
    np.testing.assert_array_equal(rates(ours, starts), 1.0)
    assert rates(ours, [start - 1 for start in starts]).max() < 1e-5


def test_restarts_agree_with_keras():
    ours = schedules.CosineRestarts(0.4, 8, growth=2, decay=0.9)
    keras_one = keras.optimizers.schedules.CosineDecayRestarts(0.4, 8, t_mul=2.0, m_mul=0.9)
    within = [
        step for step in range(50) if step not in (8, 24)
    ]  # Keras' logarithm may miss a restart by a rounding error
    np.testing.assert_allclose(rates(ours, within), rates(keras_one, within), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "tail", "top"), [(101, 0.1, 45), (100, 0.0, 50), (4, 0.1, 1), (1000, 0.5, 250)]
)
def test_one_cycle_is_straight_lines_between_its_corners(steps, tail, top):
    ours = schedules.OneCycle(0.5, steps, tail=tail)
    low, tiny, last = 0.02, 0.00002, steps - 1
    corners, heights = [0, top, 2 * top, last], [low, 0.5, low, tiny]
    if tail == 0:  # no room for the tail: the triangle's last step is cut off
        corners, heights = [0, top, 2 * top], [low, 0.5, low]
    steps_run = np.arange(steps)
    np.testing.assert_allclose(np.asarray(ours(steps_run)), np.interp(steps_run, corners, heights), rtol=2e-5)
    assert float(ours(last + 50)) == float(ours(last))


def test_scale_for_batch_is_linear():
    assert schedules.scale_for_batch(0.1, 8192) == pytest.approx(3.2)
    assert schedules.scale_for_batch(0.1, 32, base_batch=128) == pytest.approx(0.025)


def test_a_compiled_model_comes_back_from_its_file_with_its_schedule(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedules.Warmup(ALL["restarts"], 3)), "mse")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.optimizer.iterations.assign(6)
    assert float(again.optimizer.learning_rate) == pytest.approx(float(ALL["restarts"](4)))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: schedules.Warmup(0.1, 0), "steps to be a whole number"),
        (lambda: schedules.Warmup(0.1, 5, start=0.2), "start between 0 and the peak"),
        (lambda: schedules.Step(0.1, [5, 3]), "rising boundaries"),
        (lambda: schedules.Step(0.1, [0]), "rising boundaries"),
        (lambda: schedules.Cosine(-0.1, 5), "rate to be a number above 0"),
        (lambda: schedules.Cosine(0.1, 5.5), "steps to be a whole number"),
        (lambda: schedules.Linear(0.1, 5, final=0.2), "final between 0 and rate"),
        (lambda: schedules.Cyclic(0.5, 0.1, 3), "0 <= low < high"),
        (lambda: schedules.Cyclic(0.1, 0.5, 3, mode="square"), "mode to be one of"),
        (lambda: schedules.Cyclic(0.1, 0.5, 3, gamma=1.5), "gamma in"),
        (lambda: schedules.CosineRestarts(0.1, 5, growth=0.5), "growth >= 1"),
        (lambda: schedules.OneCycle(0.1, 3), "4 steps or more"),
        (lambda: schedules.OneCycle(0.1, 50, start=0.2), "start <= peak"),
        (lambda: schedules.scale_for_batch(0.1, 0), "batch to be a number above 0"),
    ],
)
def test_impossible_schedules_say_what_to_do(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        build()
    assert "Received" in str(caught.value)


def test_warmup_refuses_a_bare_function():
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        schedules.Warmup(lambda step: 0.1, 5)


def test_join_gives_each_schedule_the_steps_since_its_boundary():
    """The same rates, worked out by hand with the rule of optax.join_schedules."""
    joined = schedules.Join([schedules.Linear(0.8, 4), 0.1, schedules.Cosine(0.5, 2)], [3, 5])
    np.testing.assert_allclose(rates(joined, range(8)), [0.8, 0.6, 0.4, 0.1, 0.1, 0.5, 0.25, 0], atol=1e-7)


def test_join_agrees_with_a_loop_over_its_parts():
    random = np.random.default_rng(0)
    for _ in range(20):
        parts = [schedules.Linear(random.uniform(0.1, 1), int(random.integers(1, 9))) for _ in range(4)]
        boundaries = sorted(random.integers(0, 12, 3).tolist())
        expected = []
        for step in range(15):
            place = sum(step >= boundary for boundary in boundaries)
            part, since = parts[place], step - [0, *boundaries][place]
            expected.append(part.rate * (1 - min(since / part.steps, 1)))
        np.testing.assert_allclose(schedules.Join(parts, boundaries)(np.arange(15)), expected, atol=1e-6)


def test_triangle_is_one_cycle_of_the_cyclic_rate():
    triangle, cyclic = schedules.Triangle(0.1, 0.5, 6), schedules.Cyclic(0.1, 0.5, half_cycle=3)
    np.testing.assert_allclose(rates(triangle, range(6)), rates(cyclic, range(6)), rtol=1e-6)
    np.testing.assert_allclose(rates(triangle, [6, 7, 100]), 0.1, rtol=1e-6)
    np.testing.assert_allclose(rates(schedules.Triangle(0, 0.3, 3), range(4)), [0, 0.2, 0.2, 0], atol=1e-7)


@pytest.mark.parametrize(
    "arguments", [([0.1], []), ([0.1, 0.2], [-1]), ([0.1, 0.2, 0.3], [5, 4]), (0.1, [3])]
)
def test_join_says_what_it_wants(arguments):
    with pytest.raises(ValueError, match="Join expects"):
        schedules.Join(*arguments)
