"""Runs that are cut off: by SIGKILL, Ctrl-C, a callback, a full or read-only disk, a file that goes bad."""

import os
import resource
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fresh_process import FreshProcess

import recipes
from recipes import data, explain, tune
from recipes.callbacks import Backup, GradientMonitor

HOUSE = Path(__file__).parents[2]


def small_model(compiled=False):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    return (images[:240], labels[:240]), (images[240:340], labels[240:340])


def train(model, split, folder, **options):
    off = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    return recipes.train(
        model, *split, **{**off, "epochs": 4, "batch_size": 60, "run_dir": folder, "resume": True, **options}
    )


@pytest.fixture(scope="module")
def whole_of(split, tmp_path_factory):
    """The run with some options that nothing interrupted."""
    runs = {}

    def get(**options):
        key = str(options)
        if key not in runs:
            runs[key] = train(
                small_model(compiled=True), split, tmp_path_factory.mktemp("whole") / "run", **options
            )
        return runs[key]

    return get


@pytest.fixture(scope="module")
def whole(whole_of):
    return whole_of()


def assert_same(run, whole):
    for expected, received in zip(whole.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.history["val_loss"], whole.history["val_loss"], rtol=1e-5)


def assert_as_before(model):
    """No hook is left on the model, and the rate is the compiled one."""
    assert not {"train_step", "train_function"} & {
        n for n in vars(model) if "run_once" in repr(vars(model)[n])
    }
    assert not any("call" in vars(layer) for layer in model.layers)
    assert "apply" not in vars(model.optimizer)
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.05, rtol=1e-6)


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_where_it_was(tmp_path):
    """The short form of benchmarks/interruptions.py, which says what it checks."""
    script = HOUSE / "benchmarks/interruptions.py"
    process = FreshProcess(script, "--kills", "2", "--jobs", "train", folder=tmp_path)
    assert process.wait() == 0 and "tried 2, survived 2" in process.printed, (
        process.printed + process.complained[-2000:]
    )


def test_half_a_line_in_a_journal_is_cut_off_and_the_search_goes_on(split, tmp_path):
    journal = tmp_path / "study.journal"

    def build(rate):
        model = small_model()
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def search(trials):
        return tune.search(
            build,
            *split,
            {"rate": (1e-3, 0.1)},
            coarse={"trials": trials, "epochs": 1},
            fine={"trials": 0},
            storage=journal,
            verbose=0,
        )

    search(1)
    whole_lines = journal.read_bytes()
    journal.write_bytes(whole_lines + b'{"op_code": 4, "wor')
    assert len(search(2).trials) == 2
    assert journal.read_bytes().startswith(whole_lines) and b'"wor{' not in journal.read_bytes()


def test_a_callback_that_raises_leaves_a_clean_model_and_a_run_to_go_on_from(split, whole, tmp_path):
    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 10:  # in the middle of the third epoch of 4 steps
                raise ZeroDivisionError("the reader's own mistake")

    model = small_model(compiled=True)
    with pytest.raises(ZeroDivisionError, match="own mistake"):
        train(model, split, tmp_path / "run", callbacks=[GradientMonitor(every_steps=1), Broken()])
    assert_as_before(model)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "backup.npz",
        "backups.json",
        "best.keras",
        "history.csv",
        "run.json",
    }
    model.fit(*split[0], verbose=0)  # as if nothing had been
    assert_same(
        train(
            small_model(compiled=True), split, tmp_path / "run", callbacks=[GradientMonitor(every_steps=1)]
        ),
        whole,
    )


# Where Ctrl-C strikes: at a call of a function, counted from 1, by file and name; in a run with what options.
PHASES = {
    "checks": ("recipes/diagnose/checks/model_copy.py", None, 4, {"preflight": True}),
    "checks, later": ("recipes/diagnose/checks/overfit_small_sample.py", None, 2, {"preflight": True}),
    "training": ("callbacks/rate_driver.py", "on_train_batch_end", 6, {}),
    "validation": ("keras/src/callbacks/callback_list.py", "on_test_batch_end", 3, {}),
    "averaging": ("callbacks/weight_average.py", "put_in_model", 2, {"average": "ema"}),
    "writing a snapshot": ("recipes/common/files.py", "write_archive", 1, {"snapshots": 2}),
    "listing a snapshot": ("recipes/checkpoints/ensemble_snapshots.py", "fingerprint", 1, {"snapshots": 2}),
    "writing the backup": ("recipes/checkpoints/backup_file.py", "_to_numpy", 15, {}),
    "writing best.keras": ("keras/src/saving/saving_lib.py", "_save_state", 9, {}),
    "writing the curves": ("recipes/plot/curves.py", None, 1, {}),
    "the last line": ("recipes/training/run_description.py", "add_checksums", 1, {}),
}


class strike:
    """Ctrl-C at the `count`th call of a function, told by the end of its file's path and its name (None: any)."""

    def __init__(self, place, function, count):
        self.place, self.function, self.count, self.seen = place, function, count, 0

    def __enter__(self):
        sys.settrace(
            self._look
        )  # without local functions: only calls, which are a quarter of what profilers see
        return self

    def __exit__(self, *error):
        sys.settrace(None)
        assert self.seen == self.count

    def _look(self, frame, event, argument):
        code = frame.f_code
        if (
            event == "call"
            and code.co_filename.endswith(self.place)
            and self.function in (None, code.co_name)
        ):
            self.seen += 1
            if self.seen == self.count:
                sys.settrace(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_leaves_whole_files_and_a_run_to_go_on_from(split, whole_of, tmp_path, phase):
    place, function, count, options = PHASES[phase]
    folder, model = tmp_path / "run", small_model(compiled=True)
    before = model.get_weights()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt), strike(place, function, count):
        train(model, split, folder, **options)
    assert_as_before(model)
    if phase.startswith("checks"):
        for expected, received in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(received, expected)
    assert not list(folder.rglob(".part-*")) and (tmp_path / "mine.txt").read_text() == "mine"
    options = {name: value for name, value in options.items() if name != "preflight"}
    assert_same(train(small_model(compiled=True), split, folder, **options), whole_of(**options))


def test_ctrl_c_in_a_search_costs_one_trial(split, tmp_path):
    built = []

    def build(rate):
        built.append(small_model(compiled=True))
        return built[-1]

    def search():
        stages = {"coarse": {"trials": 3, "epochs": 1}, "fine": {"trials": 0}}
        return tune.search(
            build, *split, {"rate": (1e-3, 0.1)}, **stages, storage=tmp_path / "journal", verbose=0
        )

    with pytest.raises(KeyboardInterrupt), strike("callbacks/training_doctor.py", "on_epoch_end", 2):
        search()
    assert_as_before(built[-1])
    states = [trial.state.name for trial in search().trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"] and len(built) == 4


def test_ctrl_c_in_an_explanation_leaves_a_model_as_it_was(split):
    model = small_model(compiled=True)
    images = split[0][0][:4]
    expected = explain.activations(small_model(compiled=True), images, "hidden")
    with pytest.raises(KeyboardInterrupt), strike("keras/src/layers/core/dense.py", "call", 1):
        explain.activations(model, images, "hidden")
    assert_as_before(model)
    np.testing.assert_array_equal(explain.activations(model, images, "hidden"), expected)


def test_a_fit_with_a_backup_that_breaks_off_leaves_a_model_for_another_fit(split, tmp_path):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise ZeroDivisionError("the reader's own mistake")

    model = small_model(compiled=True)
    for _ in range(2):  # the second goes on from the first one's backup
        with pytest.raises(ZeroDivisionError):
            callbacks = [broken := Broken(), Backup(tmp_path / "backup.npz", [broken])]
            model.fit(*split[0], epochs=4, verbose=0, callbacks=callbacks)
    assert len(model.fit(*split[0], epochs=3, verbose=0).epoch) == 3


def test_ctrl_c_in_a_report_leaves_the_page_that_was_there(whole, tmp_path, monkeypatch):
    page = whole.report(tmp_path / "report.html")
    before = page.read_text()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("recipes.report.write.figures_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole.report(page)
    monkeypatch.undo()
    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole.report(page)
    assert page.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["report.html"]


class _FillTheDisk(keras.callbacks.Callback):
    """From an epoch on, no file may grow beyond so many bytes: what a full disk does to a write, without one."""

    def __init__(self, epoch, size):
        super().__init__()
        self.epoch, self.size = epoch, size

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __enter__(self):
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        return self

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


@pytest.mark.parametrize("size", [0, 700, 4096, 12_000])
def test_a_full_disk_stops_the_run_names_the_file_and_leaves_what_was_there(split, whole, tmp_path, size):
    folder = tmp_path / "run"
    with (
        _FillTheDisk(2, size) as full,
        pytest.raises(OSError, match="room.*untouched, and a run can be resumed"),
    ):
        train(small_model(compiled=True), split, folder, callbacks=[full])
    assert not list(folder.glob(".part-*"))
    keras.saving.load_model(folder / "best.keras")
    assert_same(train(small_model(compiled=True), split, folder), whole)


def test_a_read_only_folder_is_refused_before_training(split, tmp_path_factory):
    folder = (
        Path("/tmp") / f"read-only-{os.getpid()}"
    )  # where other users may look, unlike in pytest's folders
    folder.mkdir()
    user = os.geteuid()
    try:
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)  # everything is allowed to root
        for where in (folder, folder / "new"):
            with pytest.raises(
                PermissionError, match="expects a run_dir it may write to.*Give another folder"
            ):
                train(small_model(), split, where)
    finally:
        os.seteuid(user)
        folder.rmdir()


@pytest.fixture
def folder_of_images(tmp_path, digits):
    images, labels = digits
    for number, (image, label) in enumerate(zip(images[:80], labels[:80] % 2, strict=True)):
        file = tmp_path / "images" / "ab"[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tf.io.encode_png(image).numpy())
    return tmp_path / "images"


def _cut(path):
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    "harm", [_cut, Path.unlink, lambda path: path.write_bytes(b"")], ids=["cut", "gone", "empty"]
)
def test_an_image_that_goes_bad_in_mid_run_is_named(folder_of_images, tmp_path, harm):
    train_set, validation, info = data.load(folder_of_images, cache=None)
    bad = sorted((folder_of_images / "b").iterdir())[::2]

    class Harm(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                for path in bad:
                    if path.exists():
                        harm(path)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        train(model, (train_set, validation), tmp_path / "run", callbacks=[Harm()], info=info, batch_size=8)
    assert "expects every file to decode" in str(caught.value)
    assert any(str(path) in str(caught.value) for path in bad)
    assert (tmp_path / "run/backup.npz").exists()
