"""Kill one of two TensorFlow workers at random moments, start both again, and compare with an uninterrupted run.

    python benchmarks/worker_kills.py --out kills.jsonl             20 kills, some ten minutes on one core
    python benchmarks/worker_kills.py --out kills.jsonl --minutes 12    stop after this time; the next call continues
    python benchmarks/worker_kills.py --out kills.jsonl --show      only print the results in the file

Every trial is a separate run: `recipes.train` under `MultiWorkerStrategy` on loopback, a small network with dropout and
synchronized batch normalization, photos on disk of which each worker reads and augments its part, an average of
weights, and a backup every 3 of its 48 steps. One of the two workers, chosen at random, is killed by SIGKILL at a
random step, at a random moment within it. After the other one has ended, both are started again, several times if
necessary. A trial counts as survived if weights and history of both workers are those of the uninterrupted run, bit
for bit.

Workers are forked from one process that has imported TensorFlow, which saves most of the start-up time.
"""

import argparse
import atexit
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

EPOCHS, BATCH, IMAGES = 6, 12, 96
STEPS = EPOCHS * IMAGES // BATCH
TOGETHER = 2  # trials at the same time, because the surviving workers mostly wait


def photos(folder):
    """Two classes of small pictures on disk."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(IMAGES):
        bright = number % 2
        place = folder / ("bright" if bright else "dark")
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(40 * bright, 180 + 40 * bright, (12, 12, 3), "uint8")
        Image.fromarray(pixels).save(place / f"{number}.png")


def train(folder, out, ports, index):
    """One worker of one run: writes a mark for each step to `out`.steps, and hashes of the result to `out`."""
    import keras
    import numpy as np

    import recipes
    from recipes.distribution import MultiWorkerStrategy

    strategy = MultiWorkerStrategy([f"127.0.0.1:{port}" for port in ports], index)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 128, -1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(2, "softmax"),
        ]
    )
    train, _, info = recipes.data.load(folder / "photos", image_size=12, validation=0, verbose=0)
    marks = open(f"{out}.steps", "a")

    def mark(batch, logs):
        marks.write("x")
        marks.flush()
        time.sleep(0.03)  # as long as a step of a larger network, so that the kill hits different moments

    run = recipes.train(
        model,
        train,
        info=info,
        epochs=EPOCHS,
        batch_size=BATCH,
        strategy=strategy,
        average="ema",
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=mark)],
        monitor=False,  # monitors would trace once more in each of some hundred starts
        preflight=False,
        run_dir=folder / "run",
        resume=True,
        backup_every=3,
        verbose=0,
    )
    history = {name: values for name, values in run.history.items() if "seconds" not in name}
    of_weights = hashlib.sha256()
    for array in run.model.get_weights():
        of_weights.update(np.ascontiguousarray(array).tobytes())
    of_history = hashlib.sha256(json.dumps(history, sort_keys=True).encode())
    Path(out).write_text(f"{of_weights.hexdigest()[:16]} {of_history.hexdigest()[:16]}")


def fork(folder, ports, index):
    """Start a worker and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(folder / f"log{index}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train(folder, folder / f"out{index}", ports, index)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(code)


def free_ports():
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class Trial:
    """One run, killed once (`kill`) or never; call `poll` repeatedly until there is a `result`."""

    def __init__(self, number, base, kill):
        self.number, self.kill = number, kill
        self.draw = random.Random(number)
        self.after = self.draw.uniform(0, 0.95 * STEPS)  # steps
        self.folder = Path(tempfile.mkdtemp(prefix=f"trial{number}-", dir=base))
        os.symlink(base / "photos", self.folder / "photos")
        self.result, self.starts, self.killed = None, 0, None
        self._start()

    def _start(self):
        self.starts += 1
        ports = free_ports()
        self.workers = {fork(self.folder, ports, index): index for index in range(2)}
        self.codes, self.at = {}, None

    def steps(self):
        file = self.folder / "out0.steps"
        return file.stat().st_size if file.exists() else 0

    def poll(self):
        for worker in [one for one in self.workers if one not in self.codes]:
            done, status = os.waitpid(worker, os.WNOHANG)
            if done:
                self.codes[worker] = os.waitstatus_to_exitcode(status)
                if self.killed and "ended after" not in self.killed and self.codes[worker] != -signal.SIGKILL:
                    self.killed["ended after"] = round(time.monotonic() - self.hit, 1)
        if self.kill and self.killed is None and not self.codes:
            self._perhaps_kill()
        if len(self.codes) == 2:
            self._ended()

    def _perhaps_kill(self):
        if self.at is None and self.steps() > self.after:
            self.at = time.monotonic() + self.draw.uniform(0, 0.06)  # within this step or the next
        if self.at is not None and time.monotonic() >= self.at:
            victim = self.draw.choice(sorted(self.workers))
            self.hit = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            self.killed = {"worker": self.workers[victim], "step": self.steps()}

    def _ended(self):
        whole = [self.folder / f"out{index}" for index in range(2)]
        if all(code == 0 for code in self.codes.values()) and all(file.exists() for file in whole):
            found = [file.read_text() for file in whole]
            self.result = {
                "trial": self.number,
                "digests": found,
                "starts": self.starts,
                **(self.killed or {}),
            }
        elif self.starts >= 4:
            log = (self.folder / "log0").read_text()[-1500:]
            self.result = {"trial": self.number, "digests": [], "starts": self.starts, "log": log}
        else:
            for file in whole:
                file.unlink(missing_ok=True)
            self._start()


def show(rows):
    reference = next((row["digests"] for row in rows if row["trial"] == 0), None)
    trials = [row for row in rows if row["trial"] and "worker" in row]
    same = [row for row in trials if row["digests"] == reference and len(set(row["digests"])) == 1]
    weights = [
        row for row in trials if {one.split()[0] for one in row["digests"]} == {reference[0].split()[0]}
    ]
    ends = sorted(row["ended after"] for row in trials if "ended after" in row)
    print(f"uninterrupted: both workers equal: {bool(reference) and len(set(reference)) == 1}")
    print(
        f"killed: {len(trials)}; equal to the uninterrupted run, bit for bit: weights {len(weights)}, all {len(same)}"
    )
    print(f"victims: {[sum(row['worker'] == index for row in trials) for index in range(2)]}")
    print(f"steps at the kill: {sorted(row['step'] for row in trials)} of {STEPS}")
    if ends:
        print(f"the other worker ended after {ends[0]} to {ends[-1]} s, median {ends[len(ends) // 2]} s")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="file of results, one JSON line per trial")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--show", action="store_true", help="run nothing, only print the results in the file")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in open(arguments.out)] if arguments.out.exists() else []
    if not arguments.show:
        rows = run(arguments, rows)
    show(rows)


def run(arguments, rows):
    from recipes import callbacks, data, training  # noqa: F401 - imported before the forks
    from recipes.distribution import MultiWorkerStrategy  # noqa: F401 - the same

    until, base = time.monotonic() + 60 * arguments.minutes, Path(tempfile.mkdtemp(prefix="worker-kills-"))
    photos(base / "photos")
    done = {row["trial"] for row in rows if row["digests"] and (not row["trial"] or "worker" in row)}
    left = [number for number in range(arguments.kills + 1) if number not in done]
    active = []
    while (left or active) and time.monotonic() < until:
        while left and len(active) < TOGETHER:
            number = left.pop(0)
            active.append(Trial(number, base, kill=number > 0))
        for trial in list(active):
            trial.poll()
            if trial.result is not None:
                active.remove(trial)
                rows.append(trial.result)
                with open(arguments.out, "a") as file:
                    file.write(json.dumps(trial.result) + "\n")
                print({**trial.result, "digests": [one[:8] for one in trial.result["digests"]]}, flush=True)
        time.sleep(0.02)
    for trial in active:
        for worker in trial.workers:
            if worker not in trial.codes:
                os.kill(worker, signal.SIGKILL)
    return rows


if __name__ == "__main__":
    main()
