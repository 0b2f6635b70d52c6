"""Memory that a loop of runs adds: plain `fit`, `fit` with our monitors, `recipes.train`, `tune.search`.

TensorFlow keeps the graph of every train function until the process ends (see `recipes.common.memory`). Each kind of
run is repeated in a separate process. After each run, garbage is collected and the resident memory of the process is
read; the slope of a line through the last two thirds is what a run adds.

Run: `python benchmarks/memory.py` (50 runs of each, about 5 minutes; `--runs 6 --only fit train` for a part).
"""

import argparse
import gc
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

KINDS = {
    "fit": "plain `model.fit`",
    "monitors": "`model.fit` with `callbacks.default_monitors()`",
    "train": "`recipes.train` as it is, with checks and monitors",
    "tune": "a trial of `tune.search`",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(slope_of(options.one, options.runs))
        return
    print(f"**Memory** added by each of {options.runs} runs in a row, MB\n")
    print("| run | MB a run |\n|---|---|")
    for kind in options.only:
        command = [sys.executable, __file__, "--one", kind, "--runs", str(options.runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"| {KINDS[kind]} | {float(done.stdout.split()[-1]):.2f} |", flush=True)


def slope_of(kind, runs):
    """MB per run, by least squares over the last two thirds of the runs."""
    import numpy as np

    again = _jobs()[kind]
    megabytes = []
    for _ in range(runs):
        again()
        gc.collect()
        with open("/proc/self/statm") as file:
            megabytes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    first = runs // 3
    return np.polyfit(np.arange(first, runs), megabytes[first:], 1)[0]


def _jobs():
    import keras
    import numpy as np

    import recipes
    from recipes import callbacks, tune

    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (256, 8, 8, 1)).astype("uint8"), np.arange(256) % 10

    def model(rate=None):
        layers = keras.layers
        built = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Rescaling(1 / 128),
                layers.Flatten(),
                layers.Dense(16, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
        if rate is not None:
            built.compile(
                keras.optimizers.SGD(rate, momentum=0.9),
                "sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
        return built

    def fit(**options):
        model(0.01).fit(*data, batch_size=64, epochs=2, verbose=0, **options)

    def search():
        stages = {"coarse": {"trials": 1, "epochs": 2}, "fine": {"trials": 0}}
        tune.search(model, data, data, {"rate": (1e-3, 0.1)}, **stages, verbose=0)

    return {
        "fit": fit,
        "monitors": lambda: fit(callbacks=callbacks.default_monitors()),
        "train": lambda: recipes.train(model(), data, epochs=2, batch_size=64, verbose=0),
        "tune": search,
    }


if __name__ == "__main__":
    main()
