"""Which augmentation pays off in a short run: policies at equal CPU time, on two data sets.

    python benchmarks/policies.py                    about 40 minutes of CPU; continues where it was interrupted
    python benchmarks/policies.py --data fashion.npz cifar.npz
    python benchmarks/policies.py --quick            a small part, to see that it runs

Each run trains a small network from scratch on 2000 images for the same CPU time, with its augmentation included. A few
timed steps decide how many steps fit into the budget, and the learning rate falls to zero over these steps. The tables
show the error on 4000 other images in %, and the change from no augmentation with the same seed, with its standard
error. Every finished run is one line of JSON in `--out`. The strengths of `augment.standard` are also run with three
times the budget. `--data` is a name that `recipes.data.load` knows, or an .npz file with x_train, y_train, x_test,
y_test.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import augment, data

IMAGES, TEST, BATCH, TIMED = 2000, 4000, 64, 15
STANDARD = ("none", "light", "medium", "strong")
SYMBOLS = ("digits", "mnist5k")  # data sets of symbols, whose mirror images mean something else
LONGER = (*STANDARD, "light, as symbols", "medium, as symbols")
VIEWS = "light, AugMix(views=3)"


def policies(shape, name):
    """`{name: operations}` for a data set; None stands for no augmentation."""
    kind = "symbols" if name in SYMBOLS else "photos"
    light, medium, strong = (
        augment.standard(shape, kind=kind, strength=strength).operations for strength in STANDARD[1:]
    )
    learned = "svhn" if kind == "symbols" else "cifar10"
    full = {"space": "full", "fill": "edge"}
    added = {
        "light, RandAugment(2, 9)": augment.RandAugment(2, 9, **full),
        "light, TrivialAugment": augment.TrivialAugment(**full),
        "light, AutoAugment": augment.AutoAugment(learned, fill="edge"),
        "light, AugMix": augment.AugMix(fill="edge"),
        VIEWS: augment.AugMix(views=3, fill="edge"),
        "light, MixUp or CutMix": augment.OneOf([augment.MixUp(0.2), augment.CutMix(1.0)], probability=0.5),
    }
    standard = dict(zip(STANDARD, (None, light, medium, strong), strict=True))
    if shape[-1] == 1 and kind == "photos":
        for strength in STANDARD[1:3]:
            symbols = augment.standard(shape, kind="symbols", strength=strength).operations
            standard[f"{strength}, as symbols"] = symbols
    return {**standard, **{name: [*light, policy] for name, policy in added.items()}}


def network(shape, seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Rescaling(1 / 255)]
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
        ]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input(shape), *layers])


def batches(images, labels, operations, seed):
    """Endless batches `(images, rows, weights)`."""
    rows = np.eye(10, dtype="float32")[labels]
    source = tf.data.Dataset.from_tensor_slices((images, rows, np.ones(len(rows), "float32")))
    source = source.shuffle(len(images), seed=seed).batch(BATCH, drop_remainder=True)
    if operations is None:
        return source.map(lambda x, y, weight: (tf.cast(x, tf.float32), y, weight)).repeat()
    pipeline = augment.Pipeline(operations, classes=10, seed=seed)
    epochs = tf.data.Dataset.range(2**30)
    return epochs.flat_map(lambda epoch: pipeline.apply(source, epoch=epoch, num_parallel_calls=None))


class Run:
    """One policy on one data set, traced and timed once; its seeds run one after another on one stream of batches."""

    def __init__(self, images, labels, policy, operations, budget):
        self.shape = images.shape[1:]
        self.model = network(self.shape, 0)
        self.optimizer = keras.optimizers.SGD(0.0, momentum=0.9, nesterov=True)
        self.optimizer.build(self.model.trainable_variables)
        self.iterator = iter(batches(images, labels, operations, 0))
        self.step = tf.function(self._views if policy == VIEWS else self._step)
        for _ in range(TIMED):  # traces and compiles at rate 0, which the budget does not count
            self.step(*next(self.iterator))
        costs = []
        for _ in range(3):  # the best of three windows, so that other work on the machine does not count
            start = time.process_time()
            for _ in range(TIMED):
                self.step(*next(self.iterator))
            costs.append((time.process_time() - start) / TIMED)
        self.steps = int(budget / min(costs))

    def _step(self, images, rows, weights):
        self._descend(images, rows, None, keras.losses.CategoricalCrossentropy(from_logits=True))

    def _views(self, images, rows, weights):
        self._descend(images, rows, weights, augment.JensenShannonLoss(from_logits=True))

    def _descend(self, images, rows, weights, loss_of):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = loss_of(rows, self.model(images, training=True), weights)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def train(self, seed):
        """The model, trained from the initial weights of this seed."""
        self.model.set_weights(network(self.shape, seed).get_weights())
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        for number in range(self.steps):
            share = number / self.steps
            self.optimizer.learning_rate = 0.1 * min(1, 20 * share) * 0.5 * (1 + np.cos(np.pi * share))
            self.step(*next(self.iterator))
        return self.model


def error(model, images, labels):
    """The error rate in %."""
    parts = range(0, len(images), 500)
    logits = np.concatenate([model(images[start : start + 500], training=False) for start in parts])
    return float(100 * np.mean(logits.argmax(-1) != labels))


def load(name):
    """`((x, y), (x, y))`, uint8 images and integer labels: the first ones in a fixed random order."""
    if name.endswith(".npz"):
        with np.load(name) as file:
            order = np.random.default_rng(0).permutation(len(file["x_train"]))[:IMAGES]
            first = file["x_train"][order], file["y_train"][order]
            return first, (file["x_test"][:TEST], file["y_test"][:TEST])
    parts = data.load(name)[:2]
    return [
        tuple(part.numpy() for part in next(iter(one.batch(count))))
        for one, count in zip(parts, (IMAGES, TEST), strict=True)
    ]


def study(arguments):
    """Make the runs that are missing in the file."""
    plan = [(name, arguments.budget, arguments.policies) for name in arguments.data]
    if not arguments.quick and not arguments.policies:
        plan += [(name, 3 * arguments.budget, LONGER) for name in arguments.data]
    for name, budget, names in plan:
        (images, labels), test = load(name)
        chosen = {
            one: ops for one, ops in policies(images.shape[1:], name).items() if one in (names or [one])
        }
        done = {(one["data"], one["budget"], one["seed"], one["policy"]) for one in read(arguments.out)}
        runs = {}
        for seed in range(arguments.seeds):
            for policy, operations in chosen.items():
                if (Path(name).stem, budget, seed, policy) in done:
                    continue
                if policy not in runs:
                    runs[policy] = Run(images, labels, policy, operations, budget)
                found = {"data": Path(name).stem, "budget": budget, "seed": seed, "policy": policy}
                found["steps"] = runs[policy].steps
                found["error"] = error(runs[policy].train(seed), *test)
                with open(arguments.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                print(found, flush=True)


def read(path):
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def tables(runs):
    found = {}
    for one in runs:
        found.setdefault((one["data"], one["budget"]), {}).setdefault(one["policy"], {})[one["seed"]] = one
    for (name, budget), arms in found.items():
        title = f"{name}, {IMAGES} images, {budget:g} CPU-seconds"
        heading("policy (seeds)", "error %", "change", "steps", title=title)
        for policy, mine in arms.items():
            both = sorted(set(mine) & set(arms["none"]))
            change = np.array([mine[seed]["error"] - arms["none"][seed]["error"] for seed in both])
            spread = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else float("nan")
            row(
                f"{policy} ({len(mine)})",
                f"{np.mean([one['error'] for one in mine.values()]):.2f}",
                "" if policy == "none" else f"{change.mean():+.2f} ± {spread:.2f}",
                f"{np.mean([one['steps'] for one in mine.values()]):,.0f}",
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mnist5k", "fashion_mnist"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--policies", nargs="+", help="names of policies, with none among them")
    parser.add_argument("--budget", type=float, default=8, help="CPU seconds per run")
    parser.add_argument("--out", type=Path, default=Path("runs/policies.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.seeds, arguments.budget = ["digits"], 1, 0.2
        arguments.out = Path("runs/policies-quick.jsonl")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        study(arguments)
    tables(read(arguments.out))


if __name__ == "__main__":
    main()
