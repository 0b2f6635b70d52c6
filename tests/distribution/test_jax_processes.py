"""Plain `fit` with our callbacks, layers and augmentation on Keras' JAX backend, in one process and in two."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plain_fits
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Two backends, two ways to sum; training carries it along.
CLOSE = {"rtol": 2e-3, "atol": 2e-4}


def start(folder, index, count, port, cases, *dies_in):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",  # comes with keras-recipes[test]
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles in half the time
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    with open(folder / f"errors{index}.txt", "w") as errors:
        command = [sys.executable, plain_fits.__file__, folder, index, count, port, ",".join(cases), *dies_in]
        return subprocess.Popen([*map(str, command)], env=environment, stdout=errors, stderr=errors)


def end(folder, processes, seconds=240):
    """Wait for all processes, and read what each found."""
    until = time.monotonic() + seconds
    try:
        for index, process in enumerate(processes):
            code = process.wait(until - time.monotonic())
            assert code == 0, (folder / f"errors{index}.txt").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"result{index}.json").read_text()) for index in range(len(processes))]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """What one process finds on TensorFlow, in a run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("tensorflow")
    return {name: plain_fits.run(name, folder) for name in plain_fits.CASES}


def assert_same(found, expected):
    for name, other in found.items():
        one = expected[name]
        assert other["history"].keys() == one["history"].keys()
        for key, values in one["history"].items():
            np.testing.assert_allclose(other["history"][key], values, **CLOSE, err_msg=f"{name}: {key}")
        # A run that was resumed has the rates of its second part.
        np.testing.assert_allclose(
            other["rates"], one["rates"][len(one["rates"]) - len(other["rates"]) :], rtol=1e-5
        )
        assert (
            len(other["members"]) == len(one["members"]) == (2 if name in ("geometric", "snapshots") else 0)
        )
        for mine, theirs in zip(
            [other["weights"], *other["members"]], [one["weights"], *one["members"]], strict=True
        ):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(a, b, **CLOSE, err_msg=name)


def test_layers_schedules_callbacks_and_augmentation_give_the_same_numbers_on_jax(on_tensorflow, tmp_path):
    (result,) = end(tmp_path, [start(tmp_path, 0, 1, 0, plain_fits.CASES)])
    assert result["backend"] == "jax"
    assert_same(result["cases"], on_tensorflow)
    stopped = result["cases"]["decay"]["history"]["loss"]
    assert 1 < len(stopped) < plain_fits.EPOCHS and len(result["cases"]["one cycle"]["rates"]) > 8


def test_two_processes_train_as_one_also_when_one_is_killed_and_the_run_resumed(on_tensorflow, tmp_path):
    port, cases = free_port(), ("decay", "snapshots")
    processes = [start(tmp_path, 0, 2, port, cases), start(tmp_path, 1, 2, port, cases, 3)]
    try:
        assert processes[1].wait(240) == -signal.SIGKILL, (tmp_path / "errors1.txt").read_text()[-3000:]
        try:
            processes[0].wait(5)  # it may notice that the other has gone; a scheduler would end it
        except subprocess.TimeoutExpired:
            processes[0].kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert not (tmp_path / "result0.json").exists()

    port = free_port()
    first, second = end(tmp_path, [start(tmp_path, index, 2, port, cases) for index in range(2)])
    assert first["cases"] == second["cases"]
    assert second["written"] == [] and any("snapshot2" in file for file in first["written"])
    done = {name: case["epochs_done"] for name, case in first["cases"].items()}
    assert done["snapshots"] in (2, 3) and done["decay"] == len(first["cases"]["decay"]["history"]["loss"])
    assert len(first["cases"]["snapshots"]["rates"]) < plain_fits.EPOCHS * plain_fits.STEPS
    assert_same(first["cases"], on_tensorflow)
    assert not [path.name for path in tmp_path.rglob(".part-*")]
