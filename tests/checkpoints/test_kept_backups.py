"""Backups that stay: the last ones, those of the best epochs, their index, and the seal on each file."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.checkpoints import load_backup, load_snapshots
from recipes.checkpoints.backup_file import RunState, newest_whole, read_backup
from recipes.checkpoints.callback_state import CallbackStates
from recipes.checkpoints.kept_backups import Keep, KeptBackups
from recipes.common.files import Archive, checksum
from recipes.common.history_table import read_history
from recipes.training.run_description import check_checksums
from recipes.training.run_folder import FORMAT, read_settings

FIXTURE = Path(__file__).with_name("run_2_0_0")  # a finished run without its model.keras
SCORES = [0.3, 0.9, 0.5, 0.8, 0.9]


def build():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


class Scored(keras.callbacks.Callback):
    """Logs a score that the test knows."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = SCORES[epoch]


def train(folder, **options):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(48, 4)).astype("float32"), np.arange(48) % 3
    off = {"augment": None, "preflight": False, "monitor": False, "verbose": 0, "batch_size": 16}
    return recipes.train(build(), data, **{**off, "epochs": 5, "run_dir": folder, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    keep = {"last": 2, "best": 2, "metric": "score"}
    return folder, train(folder, keep=keep, callbacks=[Scored()], snapshots=1)


def copy_of(finished, folder):
    for file in finished[0].rglob("*.*"):
        target = folder / file.relative_to(finished[0])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder


def test_the_best_epochs_of_a_metric_stay(finished):
    folder, run = finished
    assert {file.name for file in folder.glob("*.npz")} == {"last.npz", "best-2.npz", "best-5.npz"}
    index = json.loads((folder / "backups.json").read_text())
    listed = {entry["file"]: (entry["epoch"], entry["metrics"]["score"]) for entry in index["backups"]}
    assert listed == {"last.npz": (5, 0.9), "best-2.npz": (2, 0.9), "best-5.npz": (5, 0.9)}
    assert index["backups"][-1]["metrics"]["loss"] == run.history["loss"][1]


def test_a_best_backup_gives_a_model_the_weights_of_its_epoch(finished):
    folder, run = finished
    model = build()
    about = load_backup(folder / "best-5.npz", model)
    assert (about["epoch"], about["batch"], about["metrics"]["score"]) == (5, 0, 0.9)
    for expected, received in zip(run.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    with pytest.raises(
        ValueError, match="load_backup expects the model that was saved in .*best-2.npz.*shape"
    ):
        load_backup(
            folder / "best-2.npz", keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
        )


def test_best_backups_of_epochs_to_come_belong_to_another_run(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    kept = KeptBackups(folder, Keep(best=2, metric="score", mode="max"))
    kept.go_on(folder / "best-2.npz", 2)
    assert not (folder / "best-5.npz").exists() and (folder / "best-2.npz").exists()


def test_a_best_backup_is_gone_on_from_where_all_others_are_damaged(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    last = bytearray((folder / "last.npz").read_bytes())
    last[len(last) // 2] ^= 255
    (folder / "last.npz").write_bytes(last)
    path, wrong = newest_whole(KeptBackups(folder, Keep()).files())
    assert path == folder / "best-5.npz" and len(wrong) == 1 and "last.npz" in wrong[0]


@pytest.mark.parametrize("name", ["run.json", "snapshots/snapshots.json", "best.keras", "best-2.npz"])
def test_a_changed_file_of_a_finished_run_is_named(finished, tmp_path, name):
    folder = copy_of(finished, tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(
        content.replace(b"5", b"6", 1) if name.endswith(".json") else content[:-1] + b"x"
    )
    with pytest.raises(ValueError, match=f"{name}.*SHA-256"):
        recipes.load_run(folder)


@pytest.mark.parametrize("name", ["last.npz", "snapshots/snapshot1.npz"])
def test_an_archive_written_again_with_other_numbers_is_refused(finished, tmp_path, name):
    folder = copy_of(finished, tmp_path)
    with np.load(folder / name) as file:
        arrays = dict(file)
    largest = max((key for key in arrays if arrays[key].dtype == "float32"), key=lambda key: arrays[key].size)
    arrays[largest] = arrays[largest] + 1
    np.savez(folder / name, **arrays)
    with pytest.raises(ValueError, match=f"{name}.*SHA-256 is another"):
        if "snapshots" in name:
            load_snapshots(folder / "snapshots", build())
        else:
            load_backup(folder / name, build())


def test_a_model_is_saved_as_it_was_when_the_copy_was_taken(tmp_path):
    model = build()
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
    before = model.get_weights()
    moments = [np.asarray(variable) for variable in model.optimizer.variables]
    state = RunState.of(model, CallbackStates([]), epoch=1, history=[{"loss": 1.0}])
    model.fit(np.ones((8, 4)), np.ones(8), verbose=0)
    state.save_model(model, tmp_path / "then.keras")
    then = keras.saving.load_model(tmp_path / "then.keras")
    for expected, received in zip(before, then.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    for expected, received in zip(moments, then.optimizer.variables, strict=True):
        np.testing.assert_array_equal(received, expected)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_a_kill_between_a_checksum_and_its_file_leaves_both_valid(tmp_path):
    """However often: the file that stays is never the last one that was promised."""
    (tmp_path / "history.csv").write_text("epoch\n1\n")
    kept = KeptBackups(tmp_path, Keep())
    kept.expect({"history.csv": checksum(tmp_path / "history.csv")})
    for later in ("a", "b", "c"):  # killed before each was written
        KeptBackups(tmp_path, Keep()).expect({"history.csv": later * 64})
        assert KeptBackups(tmp_path, Keep()).changed() == []
    (tmp_path / "history.csv").write_text("epoch\n2\n")
    assert KeptBackups(tmp_path, Keep()).changed() == ["history.csv"]


def test_the_seal_of_an_archive_is_no_entry_of_it(finished):
    with Archive(finished[0] / "last.npz", "a backup", "Remove it.") as archive:
        assert "sha256" not in archive and "sha256" not in list(archive)
    assert read_backup(finished[0] / "last.npz")["epoch"] == 5


@pytest.mark.parametrize(
    "keep", [0, True, "all", {"best": -1}, {"worst": 1}, {"best": 2, "metric": "depth"}, {"mode": "up"}]
)
def test_another_keep_is_refused(keep):
    with pytest.raises(ValueError, match="recipes.train expects keep.* Received"):
        Keep.of(keep)


def test_a_metric_that_nobody_logs_is_named_after_the_first_epoch(tmp_path):
    with pytest.raises(ValueError, match="Received metric='val_f1', and the history has accuracy, loss"):
        train(tmp_path, keep={"best": 1, "metric": "val_f1"}, epochs=2)


def test_the_settings_of_a_run_written_by_2_0_0_are_read():
    settings = read_settings(FIXTURE)
    assert (settings["format"], settings["finished"], settings["epochs"]) == (FORMAT, True, 2)
    assert (
        settings["architecture"][1].startswith("classes: Dense(")
        and settings["train_data"]["kind"] == "arrays"
    )
    assert settings["versions"]["keras-recipes"] == "2.0.0"
    losses = read_history(FIXTURE / "history.csv")["loss"]
    np.testing.assert_allclose(losses, [1.3430932760238647, 1.1965339183807373])


def test_snapshots_written_by_2_0_0_are_read():
    before, last = load_snapshots(FIXTURE / "snapshots", build())
    np.testing.assert_allclose(before.get_weights()[1], [0.02504075, -0.04616919, 0.02112843], rtol=1e-6)
    np.testing.assert_allclose(
        last.get_weights()[0],
        [
            [-0.26374465, 0.53564763, 0.7647328],
            [-0.4609038, -0.6055519, -0.81288165],
            [0.22555546, -0.82146126, 0.33302706],
            [-0.73692614, 0.42756677, -0.5191191],
        ],
        rtol=1e-6,
    )


def test_the_checksums_of_a_run_written_by_2_0_0_are_compared(tmp_path):
    folder = shutil.copytree(FIXTURE, tmp_path / "run")
    settings = read_settings(folder)
    listed = {name for name in settings["checksums"] if (folder / name).exists()}
    assert listed == {"history.csv", "findings.json"} | {
        f"snapshots/{name}" for name in ("snapshot1.npz", "snapshot2.npz", "snapshots.json")
    }
    check_checksums(folder, settings)
    content = (folder / "snapshots" / "snapshot2.npz").read_bytes()
    (folder / "snapshots" / "snapshot2.npz").write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="snapshot2.npz.*SHA-256"):
        check_checksums(folder, settings)
