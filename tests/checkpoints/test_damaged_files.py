"""Files of a run that are cut off, of somebody else or made to do harm: one error, the file's name and the way out."""

import io
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes.checkpoints.backup_file import read_backup, restore_run, restore_variables
from recipes.checkpoints.callback_state import CallbackStates
from recipes.common.files import Archive, read_json, remove_parts, write_atomically, write_text

FIXTURE = Path(__file__).with_name("backup_2_0_0.npz")


def fixture_model(**settings):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="softmax", name="classes", **settings)], name="m"
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, name="sgd"), "sparse_categorical_crossentropy")
    return model


def test_a_backup_written_by_2_0_0_is_read():
    model = fixture_model()
    about = restore_run(
        FIXTURE, model, epochs=3, force=True
    )  # another Keras may describe the model otherwise
    assert (about["epoch"], about["batch"]) == (1, 0) and about["history"] == [{"loss": 1.25}]
    np.testing.assert_allclose(model.get_weights()[0], np.arange(12).reshape(4, 3) / 10)
    np.testing.assert_allclose(model.optimizer.momentums[0], np.full((4, 3), 0.5))
    assert int(model.optimizer.iterations) == 6


def test_optimizer_state_is_never_read_as_anothers():
    model = fixture_model()
    model.compile(keras.optimizers.Lion(0.1, name="lion"), "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="Received another: optimizer class: SGD, now Lion"):
        restore_variables(FIXTURE, model)
    assert any("lion/" in words for words in restore_variables(FIXTURE, model, force=True))
    assert not np.any(model.optimizer.variables[2])  # its momentum begins anew


def test_a_backup_of_1_0_0_is_refused_in_one_sentence(tmp_path):
    about = json.dumps({"format": 1, "epoch": 1, "stopped": False, "history": []}).encode()
    np.savez(tmp_path / "backup.npz", about=np.frombuffer(about, np.uint8))
    with pytest.raises(ValueError, match="Received one of 1.0.0 in .*backup.npz.*Resume it with the version"):
        read_backup(tmp_path / "backup.npz")


def with_about(**changes):
    """The fixture with other entries in what it says of itself."""
    with np.load(FIXTURE) as file:
        arrays = dict(file)
    about = {**json.loads(arrays["about"].tobytes()), **changes}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    whole = io.BytesIO()
    np.savez(whole, **arrays)
    return whole.getvalue()


def with_header(shape):
    """An `.npz` file whose one array claims another shape than it has."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": shape})
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("about.npy", array.getvalue() + b"{}")
    return whole.getvalue()


def bomb():
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes(200 * 2**20))
    return whole.getvalue()


BACKUPS = {
    "empty": lambda: b"",
    "cut": lambda: FIXTURE.read_bytes()[:-200],
    "bits": lambda: FIXTURE.read_bytes().replace(b'"epoch": 1', b'"epoch": 2'),
    "other json": lambda: with_header((2,)),
    "list": lambda: with_about().replace(b"{", b"["),
    "huge header": lambda: with_header((2**50,)),
    "overflowing header": lambda: with_header((2**62, 2**62)),
    "negative header": lambda: with_header((-2,)),
    "bomb": bomb,
    "epoch": lambda: with_about(epoch="x"),
    "negative epoch": lambda: with_about(epoch=-5),
    "later epoch": lambda: with_about(epoch=7),
    "history": lambda: with_about(history=[{"loss": "low"}]),
    "callbacks": lambda: with_about(callbacks=[3]),
    "variables": lambda: with_about(variables=[]),
}


@pytest.mark.parametrize("kind", BACKUPS)
def test_a_damaged_backup_is_named_with_the_way_out(tmp_path, kind):
    path = tmp_path / "backup.npz"
    path.write_bytes(BACKUPS[kind]())
    with pytest.raises(ValueError, match="(?s)expects a backup.*backup.npz.*(Remove the file|new run_dir)"):
        read_backup(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    data = np.zeros((8, 4), "float32"), np.arange(8) % 3
    options = {"augment": None, "preflight": False, "monitor": False, "verbose": 0}
    recipes.train(model, data, epochs=1, run_dir=folder, **options)
    return folder


SETTINGS = {
    "truncated": b'{"epochs": 4, "se',
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "binary": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", ["run.json", "history.csv", "findings.json", "model.keras"])
@pytest.mark.parametrize("content", SETTINGS.values(), ids=SETTINGS)
def test_a_damaged_file_of_a_run_is_named_with_the_way_out(finished, tmp_path, name, content):
    for file in ("run.json", "history.csv", "findings.json", "model.keras"):
        (tmp_path / file).write_bytes((finished / file).read_bytes())
    if name != "run.json":  # as a run has them whose checksums nobody knows
        settings = json.loads((tmp_path / "run.json").read_text())
        del settings["sha256"]
        (tmp_path / "run.json").write_text(json.dumps({**settings, "checksums": None}))
    (tmp_path / name).write_bytes(content)
    if name == "findings.json" and content == b"[]":
        assert recipes.load_run(tmp_path).findings == []
        return
    with pytest.raises(ValueError, match=f"(?s)expects .*{name}.*Received .*(Put a copy|Remove the file)"):
        recipes.load_run(tmp_path)


def test_a_file_of_a_run_that_was_changed_later_is_named(finished, tmp_path):
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    table = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").write_text(table.replace("1,", "2,", 1))
    with pytest.raises(ValueError, match="history.csv.*SHA-256 is not the one in run.json"):
        recipes.load_run(tmp_path)


def test_a_state_that_its_callback_cannot_take_is_refused():
    model = fixture_model()
    stopper = recipes.callbacks.EarlyStopping("loss")
    stopper.set_model(model)
    stopper.on_train_begin()
    kept = [{"class": "EarlyStopping", "name": "", "number": 0, "state": {"wait": 1}}]
    with pytest.raises(ValueError, match="state of EarlyStopping.*KeyError"):
        CallbackStates([stopper]).restore(kept, {})


def test_a_file_never_chooses_where_a_callback_writes(tmp_path):
    saver, logger = (
        keras.callbacks.ModelCheckpoint(tmp_path / "mine.keras"),
        keras.callbacks.CSVLogger(tmp_path / "a.csv"),
    )
    states = CallbackStates([saver, logger])
    states.training_begins()
    wished = {"filepath": "/tmp/theirs.keras", "filename": "/tmp/theirs.csv", "sep": "x", "monitor_op": "y"}
    kept = [
        {"class": kind, "name": "", "number": 0, "state": {**wished, "best": 0.5}}
        for kind in ("ModelCheckpoint", "CSVLogger")
    ]
    states.restore(kept, {})
    assert saver.filepath == str(tmp_path / "mine.keras") and saver.best == 0.5
    assert logger.filename == str(tmp_path / "a.csv") and logger.sep == ","


def test_writing_follows_no_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    for name in ("report.html", ".part-report.html", f".part-{os.getpid()}-report.html"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    write_text(tmp_path / "report.html", "<html>")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "report.html").is_symlink()
    assert not [
        path
        for path in tmp_path.iterdir()
        if path.is_file() and not path.is_symlink() and "part" in path.name
    ]


def test_parts_of_living_processes_are_left_alone(tmp_path):
    seen = []
    write_atomically(tmp_path / "a.npz", lambda path: (path.write_text("half"), seen.append(path.name)))
    name = seen[0]
    living = tmp_path / name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    dead = tmp_path / name.replace(f"-{os.getpid()}-", "-999999999-")
    elsewhere = tmp_path / name.replace(f"-{os.getpid()}-", "-999999999-").replace(".part-", ".part-x")
    for path in (living, dead, elsewhere):
        path.write_text("half")
    remove_parts(tmp_path)
    assert living.exists() and elsewhere.exists() and not dead.exists()


def test_a_write_that_cannot_be_made_says_what_and_leaves_nothing(tmp_path):
    with pytest.raises(
        OSError, match="Cannot write .*missing/a.txt: no such file or directory. Give a folder"
    ):
        write_text(tmp_path / "missing" / "a.txt", "text")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a.txt", lambda path: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_deep_json_is_damaged_and_no_crash(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="deep.json"):
        read_json(tmp_path / "deep.json", "a table", "Remove it.")


def test_an_archive_gives_back_what_numpy_wrote(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array(True),
    }
    np.savez_compressed(tmp_path / "some.npz", **arrays)
    with Archive(tmp_path / "some.npz", "some arrays", "Remove it.") as archive:
        assert set(archive) == set(arrays)
        for name, expected in arrays.items():
            np.testing.assert_array_equal(archive[name], expected)
            assert archive[name].dtype == expected.dtype
