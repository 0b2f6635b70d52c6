"""Kill a process again and again, at random moments and in the middle of writing, and check that nothing is lost.

Workers are killed by SIGKILL, which no program can catch, or by SIGTERM, on which a run writes a backup at its current
batch. Every second kill comes at a random moment, the others while a file is being written: there is a `.part-` file in
the folder, the lock of a journal (for which Optuna then waits half a minute), or the rollback journal of SQLite. Seven
jobs are killed:

- `train`: `recipes.train` with monitors, an average, early stopping, a backup every two steps, and `keep` for the last
  two backups and the two best epochs; an epoch is short compared with the writing
- `snapshots`: `recipes.train(snapshots=3)`
- `mixed`: mixup on a batched data set, with averaged weights
- `folder`: class-balanced images of `data.load` with default monitors and gradient accumulation
- `tune` and `sqlite`: `tune.search` with a journal, and with SQLite
- `report`: `Run.report` that overwrites an existing page

The next worker first opens every file of the folder, then continues with `resume=True`. Other files of the user lie
beside and inside the folder, and are compared after each kill. A run that ends in spite of the kills must have the same
weights, optimizer state, seeds, history and snapshots as an uninterrupted run, bit for bit. Then the next run begins.

Run: `python benchmarks/interruptions.py` (105 kills, about 12 minutes; `--kills 4 --jobs train` for a part of it).
Prints one line per kill, and after every finished run how many kills were tried and survived. With `--out`, each
finished run is a line of JSON in a file, and the next call continues after these runs. `--minutes` stops the killing,
finishes the runs that have begun, and prints the counts so far. Exits with 1 if a run did not survive.
"""

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

JOBS = ("train", "snapshots", "mixed", "folder", "tune", "sqlite", "report")
TRAINING = ("train", "snapshots", "mixed", "folder")
PLANTED = ("notes.txt", "run/notes.txt", "run/weights/mine.keras", "run/snapshots-of-mine.npz")
SECONDS_BEFORE_GIVING_UP = 120.0
TRIALS = 6


def main():
    options = _options()
    # Imported once, in the parent process of all workers. It runs nothing, because threads do not survive a fork.
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import recipes  # noqa: F401

    runs = _read(options.out)
    draw = random.Random(f"{options.seed} {len(runs)}")
    until = time.monotonic() + 60 * options.minutes
    home = Path(tempfile.mkdtemp(prefix="interruptions-"))
    try:
        share, rest = divmod(options.kills, len(options.jobs))
        jobs = []
        for place, job in enumerate(options.jobs):
            begun = [run for run in runs if run["job"] == job]
            killed = sum(len(run["kills"]) for run in begun)
            wanted = share + (place < rest)
            jobs.append(interrupt(job, range(killed, wanted), draw, home / job, until, quiet=options.quiet))
        while jobs:  # jobs take turns, so that a shorter call also kills every job
            job = jobs.pop(0)
            for run in job:
                jobs.append(job)
                if run is not None:
                    runs.append(run)
                    _write(options.out, run)
                    print(_summary(runs), flush=True)
                break
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(", ".join(f"{job}: {_counts(runs, job)[0]} kills" for job in options.jobs))
    by = [tuple(kill) for run in runs for kill in run["kills"]]
    print(", ".join(f"{' '.join(kind)}: {by.count(kind)}" for kind in sorted(set(by))))
    print(_summary(runs))
    for run in runs:
        if run["wrong"]:
            print(f"{run['job']}, run {run['run']}, after {len(run['kills'])} kills: {run['wrong']}")
    return 1 if any(run["wrong"] for run in runs) else 0


def interrupt(job, kills, draw, home, until, *, quiet):
    """Kill workers of one job, once for each number in `kills`, and finish the last run.

    Yields:
        None after each worker. After each run, which is compared with an uninterrupted one: a dict of the `job`, the
        number of the `run`, its `kills` as pairs of a signal and a moment, and what was `wrong` ("" if it survived).
    """
    if not kills:
        return
    home.mkdir(parents=True)
    started = time.perf_counter()
    alone = _Worker(job, _plant(home / "alone"), home / "result-alone.json")
    seconds = alone.wait_for_end()
    if alone.failure:
        wrong = f"the uninterrupted worker failed: {alone.failure}"
        yield {"job": job, "run": 0, "kills": [], "wrong": wrong}
        return
    work = time.perf_counter() - started - seconds["ready"]
    numbers, number, failures = list(kills), 0, 0
    while numbers and failures <= 3 and time.monotonic() < until:
        number += 1
        folder, result = _plant(home / f"world{number}"), home / f"result{number}.json"
        done, wrong, ended = [], "", False
        while numbers and not (ended or wrong) and time.monotonic() < until:
            worker = _Worker(job, folder, result)
            aimed = numbers[0] % 2 == 1
            by = signal.SIGTERM if job in TRAINING and numbers[0] % 3 == 2 else signal.SIGKILL
            ended = worker.kill_somewhere(folder, draw, work, aimed=aimed, by=by)
            wrong = worker.failure or _planted_changed(folder)
            if ended and not done:
                work = min(work, worker.seconds)  # the machine may be less busy now than in the first run
            if not ended:
                done.append([by.name, "in writing" if worker.hit else "at a moment"])
                if not quiet:
                    print(f"{job} {numbers[0] + 1}: killed by {' '.join(done[-1])}", flush=True)
                numbers.pop(0)
            yield None
        if not ended and not wrong:
            worker = _Worker(job, folder, result)
            worker.wait_for_end()
            wrong = worker.failure
        wrong = wrong or _compare(home / "result-alone.json", result) or _planted_changed(folder)
        wrong = wrong or (f"leftovers {_leftovers(folder)}" if _leftovers(folder) else "")
        shutil.rmtree(folder, ignore_errors=True)
        failures += bool(wrong)
        yield {"job": job, "run": number, "kills": done, "wrong": wrong}


def _counts(runs, job=None):
    """The kills that were tried and that were survived; in a run that went wrong, one kill was not survived."""
    mine = [run for run in runs if job in (None, run["job"])]
    tried = sum(len(run["kills"]) for run in mine)
    return tried, tried - sum(bool(run["wrong"]) for run in mine)


def _summary(runs):
    return "tried {}, survived {}".format(*_counts(runs))


def _read(file):
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    return [json.loads(line) for line in lines]


def _write(file, run):
    if file is not None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(run) + "\n")


class _Worker:
    """A forked process that inspects the folder, reports that it is ready, and does the job."""

    def __init__(self, job, folder, result):
        ready, said = os.pipe()
        self.log = folder.parent / "log.txt"
        self.failure, self.hit, self.seconds = "", False, 0.0
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ready)
            code = 1
            try:
                with open(self.log, "w") as log:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                inspect(folder / "run")
                os.write(said, b"r")
                jobs = {
                    "train": _train,
                    "snapshots": _snapshots,
                    "mixed": _mixed,
                    "folder": _folder,
                    "tune": _tune,
                    "sqlite": _sqlite,
                    "report": _report,
                }
                result_of = jobs[job]
                values = result_of(folder / "run")
                result.write_text(json.dumps(values))
                code = 0
            except SystemExit as left:
                code = left.code
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.close(said)
        self.ready = ready

    def wait_for_end(self):
        begun = time.perf_counter()
        os.read(self.ready, 1)
        seconds = time.perf_counter() - begun
        os.close(self.ready)
        _, status = os.waitpid(self.pid, 0)
        self._judge(status)
        return {"ready": seconds}

    def kill_somewhere(self, folder, draw, work, *, aimed, by):
        """Kill it at a random moment of its working time, or in the middle of a write; True if it had ended."""
        os.read(self.ready, 1)
        os.close(self.ready)
        begun, moment = time.perf_counter(), draw.uniform(0, 1.1 * work)
        writes = draw.randrange(1, 9)
        delay = draw.uniform(0, 2e-3)
        seen = None
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.seconds = passed = time.perf_counter() - begun
            if pid:
                self._judge(status)
                return True
            if aimed:
                parts = _leftovers(folder)
                fresh = [entry for entry in parts if entry != seen]
                if fresh:
                    seen, writes = fresh[0], writes - 1
                elif not parts:
                    seen = None
                self.hit = writes <= 0
                if self.hit:
                    time.sleep(delay)
            if self.hit or (not aimed and passed > moment) or passed > SECONDS_BEFORE_GIVING_UP:
                break
            time.sleep(2e-4)
        os.kill(self.pid, by)
        _, status = os.waitpid(self.pid, 0)
        if passed > SECONDS_BEFORE_GIVING_UP:
            self.failure = f"did not come to an end in {SECONDS_BEFORE_GIVING_UP:.0f} s"
        left = by == signal.SIGTERM and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 143
        if not os.WIFSIGNALED(status) and not left:  # it ended just before the kill
            self._judge(status)
            return True
        return False

    def _judge(self, status):
        if status:
            self.failure = f"status {status}: " + self.log.read_text()[-1500:]


def inspect(folder):
    """Open every file that the project wrote into a run folder; raises an error if one is damaged."""
    import keras
    import numpy as np

    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith((".part-", ".lock")) or str(path).endswith(PLANTED):
            continue
        if path.suffix == ".keras":
            keras.saving.load_model(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    file[name]
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":
            rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
            assert rows and len({len(row) for row in rows}) == 1, f"{path} has rows of several lengths"
        elif path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), f"{path} is cut off"
        elif path.suffix == ".journal":
            pass  # read by tune.search itself, which mends what a kill has cut off
        elif ".journal.lock" in path.name or ".sqlite" in path.name:
            pass  # SQLite rolls back by itself what a kill has cut off
        else:
            raise AssertionError(f"{path} is an unexpected file")


def _data():
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    return (images[:320], labels[:320]), (images[320:448], labels[320:448])


def _model(rate=None):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Flatten(),
            keras.layers.Dense(24, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    if rate is not None:
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _run(folder, data=None, **options):
    import recipes

    train, validation = _data()
    plain = {
        "batch_size": 64,
        "augment": None,
        "preflight": False,
        "run_dir": folder,
        "resume": True,
        "verbose": 0,
    }
    return recipes.train(_model(), train if data is None else data, validation, **{**plain, **options})


def _numbers(run):
    """Hashes of every variable of model, seed generators and optimizer; a loaded run has them too."""
    import numpy as np

    history = {name: values for name, values in run.history.items() if not name.startswith("monitor/")}
    variables = [*run.model.variables, *run.model.optimizer.variables]
    return {"variables": [_digest(np.asarray(variable)) for variable in variables], "history": history}


def _digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def _train(folder):
    from recipes.callbacks import GradientMonitor

    monitor = GradientMonitor(every_steps=3)
    kept = {"keep": {"last": 2, "best": 2, "metric": "val_accuracy"}, "backup_every": 2}
    run = _run(folder, epochs=8, average="ema", early_stopping=8, monitor=False, callbacks=[monitor], **kept)
    return _numbers(run)


def _mixed(folder):
    import tensorflow as tf

    from recipes import augment

    data = tf.data.Dataset.from_tensor_slices(_data()[0]).batch(64, drop_remainder=True)
    mixed = augment.Pipeline([augment.PadCrop(1), augment.MixUp(0.2)], classes=10, seed=4)
    return _numbers(_run(folder, data, epochs=6, average="swa", augment=mixed, monitor=False, backup_every=3))


def _snapshots(folder):
    run = _run(folder, epochs=6, snapshots=3, monitor=False)
    from recipes.checkpoints.ensemble_snapshots import load_snapshots

    members = load_snapshots(folder / "snapshots", _model())
    sums = [_digest(weight) for member in members for weight in member.get_weights()]
    return {**_numbers(run), "members": sums}


def _folder(folder):
    """Balanced images of `data.load`, with monitors and gradient accumulation; they lie beside the run folders."""
    import keras
    import tensorflow as tf

    from recipes import data

    photos = folder.parents[1] / "photos"
    if not photos.exists():
        images, labels = _data()[0]
        new = photos.with_name(f"photos-{os.getpid()}")
        for number, (image, label) in enumerate(zip(images[:160], labels[:160], strict=True)):
            file = new / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tf.io.encode_png(image).numpy())
        new.rename(photos)
    train, validation, info = data.load(photos, cache=None, balance="classes", verbose=0)
    model = _model()
    sgd = keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2)
    model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])
    import recipes

    options = {"epochs": 4, "batch_size": 16, "augment": None, "preflight": False, "verbose": 0, "info": info}
    run = recipes.train(model, train, validation, run_dir=folder, resume=True, backup_every=3, **options)
    return _numbers(run)


def _sqlite(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return _tune(folder, f"sqlite:///{folder / 'study.sqlite'}")


def _tune(folder, storage=None):
    import optuna

    from recipes import tune

    train, validation = _data()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = tune.search(
        lambda rate: _model(rate),
        train,
        validation,
        {"rate": (1e-3, 1.0)},
        coarse={"trials": TRIALS - 2, "epochs": 2},
        fine={"trials": 2, "epochs": 2},
        storage=folder / "study.journal" if storage is None else storage,
        verbose=0,
    )
    # An interrupted trial is repeated with other random numbers, so only the number of trials can be compared.
    done = [t for t in study.trials if t.state.is_finished() and t.state.name in ("COMPLETE", "PRUNED")]
    return {"trials": [len(done)]}


def _report(folder):
    import recipes

    if not (folder / "run.json").exists() or not json.loads((folder / "run.json").read_text())["finished"]:
        _run(folder, epochs=2, monitor=False)
    _, validation = _data()
    run = recipes.Run.load(folder)
    for _ in range(4):
        run.report(folder / "report.html", validation=validation)
    return {"pages": [1]}


def _plant(folder):
    for name in PLANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the reader's own {name}")
    return folder


def _planted_changed(folder):
    for name in PLANTED:
        if not (folder / name).exists() or (folder / name).read_text() != f"the reader's own {name}":
            return f"the reader's {name} is not what it was"
    return ""


def _leftovers(folder):
    """`(name, inode)` of the files being written, of a journal's lock, and of SQLite's rollback journal."""
    found = []
    for where in (folder / "run", folder / "run" / "snapshots"):
        try:
            found += [
                (entry.name, entry.inode())
                for entry in os.scandir(where)
                if entry.name.startswith(".part-")
                or entry.name.endswith((".journal.lock", ".sqlite-journal"))
            ]
        except OSError:
            pass
    return found


def _compare(expected, received):
    expected, received = (json.loads(path.read_text()) for path in (expected, received))
    if expected.keys() != received.keys():
        return f"results {sorted(received)} in place of {sorted(expected)}"
    for name, values in expected.items():
        pairs = values.items() if isinstance(values, dict) else [(name, values)]
        for key, numbers in pairs:
            got = received[name][key] if isinstance(values, dict) else received[name]
            if got != numbers:
                return f"{key} is {got} in place of {numbers}"
    return ""


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=105, help="kills over all jobs (default: 105)")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="jobs to kill (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="minutes of killing (default: no limit)"
    )
    parser.add_argument("--out", type=Path, help="file of JSON lines to write and to continue")
    parser.add_argument("--quiet", action="store_true", help="print the counts only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
