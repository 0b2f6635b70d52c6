"""A finished run in tracking tools, read back from their own files; nothing leaves the machine."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.diagnose import Finding
from recipes.training.run import Run


@pytest.fixture(scope="module")
def run():
    finding = Finding("dead_relu", "warning", "first", 2, "Half of its units are zero.", "Lower the rate.")
    history = {
        "loss": [2.0, 1.0],
        "val_loss": [2.5, np.nan],
        "val_accuracy": [0.25, 0.5],
        "monitor/x": [1.0, 3.0],
    }
    settings = {"epochs": 2, "compiled": {"momentum": 0.9}, "run_dir": "runs/mine", "architecture": ["a"] * 9}
    return Run(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), history, [finding], settings=settings
    )


def test_tensorboard_reads_every_epoch(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run.log_to("tensorboard", folder=tmp_path)
    assert folder == tmp_path / "mine"
    read = {part: EventAccumulator(str(folder / part)).Reload() for part in ("train", "validation")}
    values = lambda part, tag: [  # noqa: E731
        float(tf.make_ndarray(event.tensor_proto)) for event in read[part].Tensors(tag)
    ]
    assert values("train", "epoch_loss") == [2.0, 1.0] and values("train", "monitor/x") == [1.0, 3.0]
    assert values("validation", "epoch_accuracy") == [0.25, 0.5]
    words = read["train"].Tensors("findings")[0].tensor_proto.string_val[0].decode()
    assert "dead relu in first" in words


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, of the libraries it uses
def test_mlflow_reads_every_epoch(run, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/log.db"
    client = mlflow.MlflowClient(uri)
    client.create_experiment("photos", artifact_location=(tmp_path / "artifacts").as_uri())
    number = run.log_to("mlflow", tracking_uri=uri, experiment="photos")
    loss = client.get_metric_history(number, "loss")
    assert [(point.step, point.value) for point in loss] == [(1, 2.0), (2, 1.0)]
    assert [point.value for point in client.get_metric_history(number, "val_loss")] == [2.5]
    there = client.get_run(number)
    assert there.data.params["compiled.momentum"] == "0.9" and there.info.run_name == "mine"
    assert {path.name for path in (tmp_path / "artifacts").rglob("*.*")} == {"curves.png", "findings.txt"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its own
def test_wandb_keeps_an_offline_run(run, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    number = run.log_to("wandb", mode="offline", project="photos", dir=str(tmp_path))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert number in folder.name and list(folder.glob("files/media/images/curves*.png"))
    content = (folder / f"run-{number}.wandb").read_bytes()
    for words in (b"val_accuracy", b"momentum", b"dead relu"):
        assert words in content
    assert wandb.run is None


def test_another_tool_is_refused(run, monkeypatch):
    with pytest.raises(ValueError, match="'tensorboard'"):
        run.log_to("neptune")
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ImportError, match=r"keras-recipes\[wandb\]"):
        run.log_to("wandb")
