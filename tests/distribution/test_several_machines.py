"""Keras' fit, evaluate and predict, and recipes.train, in two TensorFlow processes beside one."""

import contextlib
import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from fresh_process import FreshProcess

from recipes.checkpoints.backup_file import read_backup
from recipes.distribution.clusters import resolve_cluster

SCRIPT = Path(__file__).parent / "several_workers.py"


def free_ports(count=2):
    """The first of several that follow one another."""
    while True:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            sockets[0].bind(("127.0.0.1", 0))
            port = sockets[0].getsockname()[1]
            try:
                for number, one in enumerate(sockets[1:], 1):
                    one.bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return port


def start(folder, task, *, count=2, dies_in=None):
    port = free_ports(count)
    return [
        FreshProcess(
            SCRIPT,
            folder,
            index,
            count,
            port,
            task,
            *([dies_in] if index == 1 and dies_in else []),
            folder=folder,
        )
        for index in range(count)
    ]


def end(folder, processes, task):
    """What each process found."""
    try:
        for process in processes:
            assert process.wait(240) == 0, process.complained[-3000:]
    finally:
        for process in processes:
            process.kill()
    count = len(processes)
    return [json.loads((folder / f"{task}-{count}-{index}.json").read_text()) for index in range(count)]


def assert_close(found, expected, *, weights, logs):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if name == "weights":
            for mine, theirs in zip(found[name], values, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=weights, atol=weights)
        else:
            np.testing.assert_allclose(found[name], values, rtol=logs, err_msg=name)


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """What two workers and one process found of plain fits: a list of two, and one."""
    folder = tmp_path_factory.mktemp("fits")
    alone, workers = start(folder, "fits", count=1), start(folder, "fits")
    return end(folder, workers, "fits"), end(folder, alone, "fits")[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "normalized", "vector"])
def test_two_workers_fit_as_one_process_does_with_the_same_batches(fits, case):
    (first, second), alone = fits
    assert first[case] == second[case]
    assert_close(first[case], alone[case], weights=2e-4 if case == "normalized" else 1e-5, logs=1e-4)


@pytest.mark.slow
def test_two_workers_evaluate_and_predict_in_order_with_a_ragged_last_batch(fits):
    (first, second), alone = fits
    for name in ("evaluate", "predict"):
        assert first[name] == second[name]
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_reduce_of_a_loop_by_hand_means_what_tensorflow_says(fits):
    # Worker 0 has 0, 1, 2 and worker 1 has 10, 11, 12.
    expected = {"sum of all": 36.0, "mean of all": 6.0, "sum": [10.0, 12.0, 14.0], "mean of scalars": 0.5}
    assert fits[0][0]["reduce"] == fits[0][1]["reduce"] == expected


@pytest.mark.slow
def test_once_keras_asks_rightly_all_of_it_reaches_tensorflow_as_it_is(fits):
    healed, plain = fits[0][0]["healed"], fits[0][0]["plain"]
    assert healed["asked"] == healed["reached"] == healed["as asked"] > 4
    for name in ("loss", "accuracy"):
        assert healed["fit"][name] == plain[name]


@pytest.mark.slow
def test_several_steps_an_execution_are_refused_in_words(fits):
    assert "expects steps_per_execution=1" in fits[0][0]["refused"]


@pytest.mark.slow
def test_statistics_of_each_worker_alone_are_warned_about_once(fits):
    (warning,) = fits[0][0]["warned"]
    assert "batch_normalization" in warning and "synchronized=True" in warning


@pytest.mark.slow
def test_train_on_two_workers_with_one_killed_within_an_epoch_ends_as_on_one_process(tmp_path):
    (alone,) = start(tmp_path, "train", count=1)
    survivor, killed = start(tmp_path, "train", dies_in=2)
    assert killed.wait(240) == -signal.SIGKILL, killed.complained[-3000:]
    assert survivor.wait(30) == 1, "the survivor did not notice"
    assert "LostWorkerError: MultiWorkerStrategy expects all 2 workers" in survivor.complained
    assert "answers from another worker, worker:1 at 127.0.0.1:" in survivor.complained
    assert not (tmp_path / "train-2-0.json").exists()

    expected = end(tmp_path, [alone], "train")[0]
    backup = read_backup(tmp_path / "watched" / "backup.npz")
    assert (backup["epoch"], backup["batch"]) in ((2, 2), (2, 4))
    first, second = end(tmp_path, start(tmp_path, "train"), "train")
    assert first == second
    files = [json.loads((tmp_path / f"written-2-{index}.json").read_text()) for index in range(2)]
    assert any("model.keras" in file for file in files[0]) and files[1] == [], "one of them writes"
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    for name, values in first["unwatched"].items():
        assert first["watched"][name] == values, "neither the kill nor monitors change a bit"
    for name in ("watched", "unwatched"):
        shared = expected[name].keys()
        assert_close({key: first[name][key] for key in shared}, expected[name], weights=2e-4, logs=2e-4)


@pytest.mark.slow
def test_three_workers_train_as_one_does_each_reading_its_part(tmp_path):
    (alone,) = start(tmp_path, "shares", count=1)
    workers = end(tmp_path, start(tmp_path, "shares", count=3), "shares")
    expected = end(tmp_path, [alone], "shares")[0]
    assert workers[0]["weights"] == workers[1]["weights"] == workers[2]["weights"]
    assert workers[0]["record"] == workers[1]["record"] == workers[2]["record"]
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(workers[0][name], expected[name], rtol=2e-4, err_msg=name)
    for mine, theirs in zip(workers[0]["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-4)
    # Two epochs of 60 images in batches of 24, 24 and 12: nobody reads what another one augments.
    assert [worker["read"] for worker in workers] == [40, 40, 40]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """What two workers and one process found of averages, snapshots, checks and a guard."""
    folder = tmp_path_factory.mktemp("kinds")
    alone, workers = start(folder, "kinds", count=1), start(folder, "kinds")
    return end(folder, workers, "kinds"), end(folder, alone, "kinds")[0]


@pytest.mark.slow
def test_workers_with_data_of_several_lengths_are_refused_before_they_wait(kinds):
    for worker in kinds[0]:
        assert "expects data sets of equally many batches on every worker" in worker["refused"]


@pytest.mark.slow
def test_a_generator_of_which_keras_would_lose_batches_is_refused(kinds):
    for worker in kinds[0]:
        assert "Received a Python generator, which gives each batch once" in worker["generator"]


@pytest.mark.slow
def test_a_training_step_whose_gradients_would_count_twice_is_warned_about(kinds):
    (warning,) = kinds[0][0]["own step"]
    assert "OwnStep.train_step divided by strategy.num_replicas_in_sync" in warning and "2 times" in warning


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swa", "snapshots", "preflight", "guard"])
def test_two_workers_end_alike_with_averages_snapshots_checks_guards(kinds, kind):
    (first, second), alone = kinds
    assert first[kind] == second[kind]
    if kind == "guard":
        assert 0 < first["restores"] == second["restores"] <= 3
        return
    for mine, theirs in zip(first[kind], alone[kind], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_the_range_test_finds_on_two_workers_what_it_finds_on_one_process(kinds):
    (first, second), alone = kinds
    assert len(first["range"]) > 5 and first["range"] == second["range"]
    np.testing.assert_allclose(first["range"], alone["range"], rtol=1e-3)


@pytest.mark.slow
def test_a_worker_ends_in_words_when_another_one_is_frozen(tmp_path):
    survivor, frozen = start(tmp_path, "frozen")
    try:
        frozen.wait_for("frozen")
        began = time.monotonic()
        # TensorFlow looks every 30 seconds, and asks three times for ten seconds.
        assert survivor.wait(60 + 60) == 1, "the survivor did not notice"
        print(f"ended after {time.monotonic() - began:.0f} s")
    finally:
        frozen.kill()
        survivor.kill()
    assert "LostWorkerError: MultiWorkerStrategy expects all 2 workers" in survivor.complained


def test_machines_are_read_from_cluster_tf_config_slurm_in_turn(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="which machines take part"):
        resolve_cluster()
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[3-4]")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    slurm = resolve_cluster(port=7000)
    assert slurm.cluster_spec().as_dict() == {"worker": ["node3:7000", "node4:7000"]}
    assert slurm.task_id == 1
    task = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    assert resolve_cluster().cluster_spec().as_dict() == {"worker": ["a:1", "b:2"]}
    given = resolve_cluster(["c:1", "d:2"], 1)
    assert (given.task_id, given.cluster_spec().as_dict()) == (1, {"worker": ["c:1", "d:2"]})


@pytest.mark.parametrize(
    ("cluster", "index", "tf_config", "words"),
    [
        (["a:1", "b"], 0, "", "host:port"),
        (["a:1", "b:99999"], 0, "", "from 1 to 65535"),
        ("http://a:1,b:2", 0, "", "host:port"),
        (["a:1", "a:1"], 0, "", "one address for each worker"),
        (["a:1", "b:2"], 2, "", "from 0 to 1"),
        (["a:1", "b:2"], None, "", "from 0 to 1"),
        (["a:1", "b:2"], True, "", "from 0 to 1"),
        (None, 1, "", "index= together with cluster="),
        (None, None, "{nonsense", "expects TF_CONFIG of the form"),
        (None, None, '{"cluster": {"worker": ["a:1"]}}', "expects TF_CONFIG of the form"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 4}}', "outside"),
        (
            None,
            None,
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
            "Leave parameter servers",
        ),
    ],
)
def test_machines_named_wrongly_are_refused_in_words(cluster, index, tf_config, words, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(ValueError, match=words):
        resolve_cluster(cluster, index)
