"""At which training budget averages pay off: no average, EMA, SWA, snapshots and views, after 10, 30 and 100 epochs.

    python benchmarks/averages.py --data cifar.npz fashion.npz --seeds 3 --out runs/averages.jsonl
    python benchmarks/averages.py --table --out runs/averages.jsonl

Trains with `recipes.train` and its defaults on few images, where a run of 100 epochs is affordable and overfits. Every
row costs the same number of epochs. The EMA is computed in the same run as "no average", so that the difference between
the two rows is due to the average alone. Every finished run is one line of JSON in `--out` and is not repeated. Gains
are paired differences of test accuracy, in percentage points, from no average with the same seed, with their standard
errors.
"""

import argparse
import json
import sys
from pathlib import Path

import keras
import numpy as np
from defaults import NETWORKS, cpu, load, read
from tables import heading, row

import recipes
from recipes import callbacks, ensemble

SINGLE = "no average"
#: The arguments of `recipes.train` for each kind of training.
RUNS = {
    "plain": {},
    "constant": {"schedule": None},
    "swa": {"average": "swa"},
    "snapshots": {"snapshots": 5},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["fashion_mnist"])
    parser.add_argument("--network", choices=NETWORKS, default="plain_cnn")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--most-seconds", type=float, default=float("inf"), help="CPU minutes after which it stops"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/averages.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    parser.add_argument("--quick", action="store_true", help="a small part, into a separate file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.network, arguments.out = (
            ["digits"],
            "mlp",
            Path("runs/averages-quick.jsonl"),
        )
        arguments.train, arguments.test, arguments.epochs, arguments.seeds = 200, 100, [5, 10], 2
    if not arguments.table:
        study(arguments)
    tables(read(arguments.out))


def study(arguments):
    """Make the runs that are missing in `--out`: for each seed, short budgets first, each on all data sets."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = {
        (one["data"], one["network"], one["epochs"], one["seed"], one["run"]) for one in read(arguments.out)
    }
    sets = {name: load(name, arguments.train, arguments.test) for name in arguments.data}
    for seed in range(arguments.seeds):
        for epochs in arguments.epochs:
            for name, (train, test) in sets.items():
                for run in RUNS:
                    key = (Path(name).stem, arguments.network, epochs, seed, run)
                    if key in done:
                        continue
                    if cpu() > arguments.most_seconds:
                        return
                    facts = dict(zip(("data", "network", "epochs", "seed", "run"), key, strict=True))
                    facts |= one_run(run, train, test, facts, arguments.batch)
                    with arguments.out.open("a") as file:
                        print(json.dumps(facts), file=file)
                    print(json.dumps(facts), file=sys.stderr, flush=True)


def one_run(run, train, test, facts, batch):
    """Test accuracies in percent of all methods that this training yields, and its CPU seconds."""
    (x, y), (images, labels) = train, test
    classes = int(max(y.max(), labels.max())) + 1
    keras.utils.set_random_seed(facts["seed"])
    model = NETWORKS[facts["network"]](x.shape[1:], classes, "identity", "softmax")
    began, before = cpu(), BeforeAverage(images)
    steps = -(-len(x) // batch) * facts["epochs"]
    extra = (
        [before, callbacks.ExponentialMovingAverage(1 - 1 / min(1000, max(10, steps / 10)))]
        if run in ("plain", "constant")
        else []
    )
    trained = recipes.train(
        model,
        (x, y),
        epochs=facts["epochs"],
        batch_size=batch,
        seed=facts["seed"],
        callbacks=extra,
        preflight=False,
        monitor=False,
        verbose=0,
        **RUNS[run],
    )
    seconds = cpu() - began
    if run == "snapshots":
        answers = []
        for member in trained.snapshots.members:
            model.set_weights(member.get_weights())
            answers.append(model.predict(images, batch_size=500, verbose=0))
        found = {"snapshots, 5 cycles": np.mean(answers, axis=0)}
    elif run == "swa":
        found = {"SWA": model.predict(images, batch_size=500, verbose=0)}
    else:
        found = {"EMA": model.predict(images, batch_size=500, verbose=0), **before.found}
    if run == "constant":
        found = {"constant rate": found[SINGLE], "constant rate, EMA": found["EMA"]}
    keras.backend.clear_session()
    scores = {name: 100 * float((each.argmax(-1) == labels).mean()) for name, each in found.items()}
    return {"accuracy": scores, "seconds": seconds}


class BeforeAverage(keras.callbacks.Callback):
    """Predicts with the final weights of the run, before the averaging callback after it replaces them."""

    def __init__(self, images):
        super().__init__()
        self.images, self.found = images, {}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 < self.params["epochs"]:
            return
        self.found[SINGLE] = self.model.predict(self.images, batch_size=500, verbose=0)
        for name, views in (
            ("mirror image", ensemble.flips()),
            ("nine shifts of a pixel", ensemble.shifts(1)),
        ):
            answer = ensemble.predict_tta(self.model, self.images, views, batch_size=1000)
            self.found[f"no average, {name}"] = answer


def tables(runs):
    """A table per data set and network, with a row per method and a column per budget."""
    for data, network in sorted({(one["data"], one["network"]) for one in runs}):
        mine = [one for one in runs if (one["data"], one["network"]) == (data, network)]
        budgets = sorted({one["epochs"] for one in mine})
        scores = {}  # method -> epochs -> seed -> accuracy
        for one in mine:
            for method, accuracy in one["accuracy"].items():
                scores.setdefault(method, {}).setdefault(one["epochs"], {})[one["seed"]] = accuracy
        heading("method", *(f"{epochs} epochs" for epochs in budgets), title=f"Averages: {data}, {network}")
        for method, of_budget in sorted(scores.items(), key=lambda item: item[0] != SINGLE):
            row(
                method,
                *(
                    cell(method, of_budget.get(epochs, {}), scores[SINGLE].get(epochs, {}))
                    for epochs in budgets
                ),
            )


def cell(method, mine, single):
    both = sorted(set(mine) & set(single))
    if not both:
        return ""
    if method == SINGLE:
        return f"{np.mean(list(mine.values())):.2f} ({len(mine)})"
    gains = np.array([mine[seed] - single[seed] for seed in both])
    error = f" ± {gains.std(ddof=1) / np.sqrt(len(gains)):.2f}" if len(gains) > 1 else ""
    return f"{gains.mean():+.2f}{error}"


if __name__ == "__main__":
    main()
