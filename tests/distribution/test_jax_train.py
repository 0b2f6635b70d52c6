"""`recipes.train` on Keras' JAX backend, in one process and in two."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_several_machines import free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "jax_train.py"


def start(folder, index, count, port, *dies_in):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # The first compiles in half the time; two devices are for one process that trains on both.
        "XLA_FLAGS": "--xla_backend_optimization_level=0"
        + " --xla_force_host_platform_device_count=2" * (count == 1),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    with open(folder / f"errors{index}.txt", "w") as errors:
        command = [sys.executable, SCRIPT, folder, index, count, port, *dies_in]
        return subprocess.Popen([*map(str, command)], env=environment, stdout=errors, stderr=errors)


def end(folder, processes):
    try:
        for index, process in enumerate(processes):
            assert process.wait(240) == 0, (folder / f"errors{index}.txt").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
    count = len(processes)
    return [json.loads((folder / f"jax-{count}-{index}.json").read_text()) for index in range(count)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return end(folder, [start(folder, 0, 1, 0)])[0]


def test_a_run_that_is_interrupted_on_jax_ends_bit_for_bit_as_the_whole_one(alone):
    assert alone["stopped"] == alone["whole"]
    assert len(alone["whole"]["loss"]) == 4 and np.isfinite(alone["whole"]["val_loss"]).all()


def test_predict_tta_on_jax_is_the_mean_over_both_views(alone):
    assert alone["views"] < 1e-6


def test_trials_of_remedies_on_jax_are_refused_in_words(alone):
    assert "expects preflight='try' only on the TensorFlow backend. Received it on 'jax'" in alone["refused"]


@pytest.mark.parametrize("other", ["unwatched", "usual"])
def test_a_run_on_jax_is_the_same_with_monitors_bit_for_bit(alone, other):
    for name in ("weights", "loss", "val_loss"):
        assert alone[other][name] == alone["whole"][name]
    assert alone["whole"]["record"]["step"] == list(range(0, 16, 2))
    assert alone["usual"]["record"]["step"]


def test_the_last_snapshot_on_jax_is_what_the_run_ends_with(alone):
    first, last = alone["snapshots"]["members"]
    assert last == alone["snapshots"]["weights"] != first


def test_the_report_of_a_run_on_jax_shows_what_the_probe_saw(alone):
    assert "</html>" in alone["report"] and "update" in alone["report"].lower()


def test_two_devices_on_jax_train_as_one(alone):
    count, found = alone["devices"]
    assert count == 2 and found["record"]["step"] == alone["whole"]["record"]["step"]
    for name in ("weights", "loss", "val_loss"):
        for mine, theirs in zip(found[name], alone["whole"][name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(found["record"]["update"], alone["whole"]["record"]["update"], rtol=5e-3)


def test_two_jax_processes_train_as_one_with_one_writer_after_a_kill(tmp_path):
    processes = [
        start(tmp_path, index, 2, port, *dies)
        for port in [free_ports()]
        for index, dies in ((0, ()), (1, (2,)))
    ]
    try:
        assert processes[1].wait(240) == -signal.SIGKILL, (tmp_path / "errors1.txt").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert {"backup.npz", "run.json"} <= {file.name for file in (tmp_path / "together").iterdir()}
    port = free_ports()
    first, second = end(tmp_path, [start(tmp_path, index, 2, port) for index in range(2)])
    assert first["weights"] == second["weights"] and first["record"] == second["record"]
    assert first["record"]["step"] == list(range(0, 16, 2))
    assert len(first["loss"]) == 4
    assert "model.keras" in {file.name for file in (tmp_path / "together").iterdir()}
