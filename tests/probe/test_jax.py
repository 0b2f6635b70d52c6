"""The probe on Keras' JAX backend beside the one on TensorFlow; JAX comes with the tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import probed_fits
import pytest

from recipes.probe import Record
from recipes.probe.record import COLUMNS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the script found on JAX, the dead units of TensorFlow, and both records."""
    folder = tmp_path_factory.mktemp("probed")
    weights = probed_fits.network().get_weights()
    weights[5][3] = -100.0  # the bias of a unit that is dead from the start
    np.savez(folder / "start.npz", *weights)
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, probed_fits.__file__, str(folder)]
    with open(folder / "errors.txt", "w") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
    try:
        dead = probed_fits.watched(folder, "tensorflow")
        assert process.wait(400) == 0, (folder / "errors.txt").read_text()[-3000:]
    finally:
        process.kill()
        process.wait()
    records = [Record.load(folder / f"{name}.npz") for name in ("jax", "tensorflow")]
    return json.loads((folder / "found.json").read_text()), dead, *records


def test_every_column_on_jax_is_that_of_tensorflow(found):
    _, _, jax, tensorflow = found
    assert len(jax) == len(tensorflow) == 8 and jax.measured == tensorflow.measured
    for axis, entries in tensorflow.axes.items():
        for key, values in entries.items():
            np.testing.assert_array_equal(jax.axes[axis][key], values, err_msg=f"{axis} {key}")
    for name in set(COLUMNS) - {"seconds"}:
        np.testing.assert_allclose(
            getattr(jax, name), getattr(tensorflow, name), rtol=2e-3, atol=1e-6, err_msg=name
        )
    name = jax.axes["activations"]["name"][0]
    np.testing.assert_allclose(jax.activity(name)[1], tensorflow.activity(name)[1], atol=0.02)


def test_the_first_update_on_jax_is_rate_times_gradient(found):
    jax = found[2]
    np.testing.assert_allclose(jax.update_norm[0], probed_fits.RATE * jax.gradient_norm[0], rtol=1e-4)


def test_dead_units_on_jax_are_those_of_tensorflow(found):
    assert found[0]["dead"] == found[1]
    assert found[0]["dead"]["dense"] == [3]


def test_the_guard_on_jax_names_the_input_of_the_step_that_holds_a_nan(found):
    step, what, layer, _, _ = found[0]["poisoned"]
    assert (step, what, layer) == (2, "input", "")


def test_the_guard_on_jax_puts_the_last_good_weights_back(found):
    # Once: the second epoch meets the same batch, and there the guard gives up.
    assert found[0]["restored"][3] == 1


@pytest.mark.parametrize("case", ["jit", "no jit", "three steps an execution, every other writes"])
def test_training_on_jax_is_the_same_bit_for_bit_with_monitors(found, case):
    assert found[0]["same"][case]
