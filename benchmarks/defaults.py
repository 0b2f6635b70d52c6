"""Which defaults of `recipes.train` are best: one factor at a time, each compared with a reference of the same seed.

    python benchmarks/defaults.py --data fashion_mnist --network mlp --arms rate muon --out runs/defaults.jsonl
    python benchmarks/defaults.py --data cifar.npz --network resnet8 --arms rate muon peer --seeds 5
    python benchmarks/defaults.py --table --out runs/defaults.jsonl

Every finished run is one line of JSON in `--out` and is not repeated, so an interrupted study continues where it
stopped. The full-size confirmation is `--data cifar.npz --train 20000 --test 10000 --epochs 15 --network resnet14
--arms confirm --seeds 3`; each of its runs takes some 2,200 seconds of CPU time.

`--data` is a name that `recipes.data.load` knows, or an .npz file with x_train, y_train, x_test, y_test. Gains are
paired differences of test accuracy, in percentage points, from SGD at 0.05. `peer` is a script written by hand in
plain Keras, with 1x1 convolutions as shortcuts and with logits, at four rates.
"""

import argparse
import json
import math
import resource
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

import recipes
from recipes import augment, data, models

#: The arguments of `recipes.train` for each arm, written out, so that an arm stays the same when a default changes.
SGD = {
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "warmup": 0.05,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "augment": "standard",
}
REFERENCE = "SGD 0.05"  # the default until version 2
MUON = {**SGD, "optimizer": "muon_sgd"}
ARMS = {
    "rate": {f"SGD {rate}": {**SGD, "learning_rate": rate} for rate in (0.05, 0.1, 0.2, 0.4)},
    "muon": {f"MuonSGD {rate}": {**MUON, "learning_rate": rate} for rate in (0.05, 0.1, 0.2, 0.4)},
    "sgd_tricks": {
        "SGD 0.2": SGD,
        "SGD 0.1, batch 64": {**SGD, "learning_rate": 0.1, "batch_size": 64},
        "SGD 0.2, no augmentation": {**SGD, "augment": None},
        "SGD 0.2, projection shortcuts": {**SGD, "shortcuts": "projection"},
    },
    "tricks": {
        "MuonSGD 0.2": MUON,
        "warm-up 10 %": {**MUON, "warmup": 0.1},
        "no warm-up": {**MUON, "warmup": 0},
        "weight decay 2e-3": {**MUON, "weight_decay": 2e-3},
        "no weight decay": {**MUON, "weight_decay": 0.0},
        "linear decay": {**MUON, "schedule": "linear"},
        "label smoothing 0.1": {**MUON, "label_smoothing": 0.1},
        "no augmentation": {**MUON, "augment": None},
        "average of weights": {**MUON, "average": "ema"},
        "medium augmentation": {**MUON, "augment": "medium"},
        "medium augmentation, label smoothing 0.1": {**MUON, "augment": "medium", "label_smoothing": 0.1},
        "label smoothing 0.1, no warm-up": {**MUON, "warmup": 0, "label_smoothing": 0.1},
        "label smoothing 0.1, weight decay 2e-3": {**MUON, "weight_decay": 2e-3, "label_smoothing": 0.1},
        "label smoothing 0.1, projection shortcuts": {
            **MUON,
            "label_smoothing": 0.1,
            "shortcuts": "projection",
        },
        "batch 64": {**MUON, "batch_size": 64},
        "batch 64, rate 0.1": {**MUON, "learning_rate": 0.1, "batch_size": 64},
        "projection shortcuts": {**MUON, "shortcuts": "projection"},
    },
    "adaptive": {
        "MuonSGD 0.2": MUON,
        "Adam 1e-3": {**SGD, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0},
        "AdamW 3e-3": {**SGD, "optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.05},
    },
    "peer": {f"by hand, rate {rate}": {"by_hand": rate} for rate in (0.05, 0.1, 0.2, 0.4)},
    "confirm": {
        "defaults": {},
        "SGD 0.05": {**SGD, "learning_rate": 0.05},
        "SGD 0.2": SGD,
        "by hand, rate 0.2": {"by_hand": 0.2},
    },
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--network", choices=NETWORKS, default="plain_cnn")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["rate"])
    parser.add_argument("--only", nargs="+", help="names of arms to run; all by default")
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--most-seconds", type=float, default=math.inf, help="CPU minutes after which it stops"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/defaults.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    parser.add_argument("--quick", action="store_true", help="a small part, into a separate file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.network, arguments.out = "digits", "mlp", Path("runs/defaults-quick.jsonl")
        arguments.train, arguments.test, arguments.epochs, arguments.seeds = 200, 100, 1, 2
    if not arguments.table:
        study(arguments)
    for title, rows in tables(read(arguments.out)).items():
        heading("arm", "test accuracy, %", "gain", "training accuracy, %", "CPU s", title=title)
        for cells in rows:
            row(*cells)


def study(arguments):
    """Make the runs that are missing in `--out`, all arms of a seed before the next seed."""
    arms = {name: options for group in arguments.arms for name, options in ARMS[group].items()}
    if arguments.only:
        arms = {name: options for name, options in arms.items() if name in arguments.only}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sets = load(arguments.data, arguments.train, arguments.test)
    fixed = {
        "data": Path(arguments.data).stem,
        **{name: getattr(arguments, name) for name in ("network", "train", "test", "epochs", "batch")},
    }
    done = {key(one) for one in read(arguments.out)}
    for seed in range(arguments.seeds):
        for name, options in arms.items():
            facts = {**fixed, "arm": name, "seed": seed}
            if key(facts) in done:
                continue
            if cpu() > arguments.most_seconds:
                return
            facts |= one_run(options, sets, facts)
            with arguments.out.open("a") as file:
                print(json.dumps(facts), file=file)
            print(json.dumps(facts), file=sys.stderr, flush=True)


def one_run(options, sets, facts):
    """Accuracies in percent and CPU seconds of one run."""
    (x, y), test = sets
    classes = int(max(y.max(), test[1].max())) + 1
    keras.utils.set_random_seed(facts["seed"])
    began, options = cpu(), dict(options)
    batch = options.pop("batch_size", facts["batch"])
    if "by_hand" in options:
        model = NETWORKS[facts["network"]](x.shape[1:], classes, "projection", None)
        history = by_hand(model, x, y, facts["epochs"], batch, options["by_hand"], facts["seed"])
    else:
        if options.get("augment") in ("medium", "strong"):
            kind = "photos" if x.shape[-1] == 3 else "symbols"
            options["augment"] = augment.standard(
                x.shape[1:], kind=kind, strength=options["augment"], classes=classes, seed=facts["seed"]
            )
        model = NETWORKS[facts["network"]](
            x.shape[1:], classes, options.pop("shortcuts", "identity"), "softmax"
        )
        run = recipes.train(
            model,
            (x, y),
            epochs=facts["epochs"],
            batch_size=batch,
            seed=facts["seed"],
            preflight=False,
            monitor=facts["arm"] == "defaults",
            verbose=0,
            **options,
        )
        history = run.history
    spent = cpu() - began
    scores = np.concatenate([model.predict_on_batch(part) for part in np.array_split(test[0], 10)])
    accuracy = 100 * float((scores.argmax(-1) == test[1]).mean())
    last = [100 * float(value) for value in history["accuracy"][-1:]]
    keras.backend.clear_session()
    return {"accuracy": accuracy, "training": last[0], "seconds": spent, "loss": float(history["loss"][-1])}


def by_hand(model, x, y, epochs, batch, rate, seed):
    """The peer: plain Keras with the tricks that every tutorial has."""
    steps, count = -(-len(x) // batch) * epochs, len(x)
    photos = x.shape[-1] == 3

    @tf.function
    def crop(images, labels):
        images = tf.cast(images, tf.float32)
        if photos:
            images = tf.image.random_flip_left_right(images)
        side = images.shape[1]
        padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
        shifts = tf.random.uniform((tf.shape(images)[0], 2), 0, 9, tf.int32)
        rows, columns = (shifts[:, axis, None] + tf.range(side)[None] for axis in (0, 1))
        padded = tf.gather(padded, rows, axis=1, batch_dims=1)
        return tf.gather(padded, columns, axis=2, batch_dims=1), labels

    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(count, seed=seed).batch(batch).map(crop)
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            # While the layer is built, its argument counts; afterwards, the attribute of the variable does.
            layer.kernel.regularizer = keras.regularizers.L2(2.5e-4)
    climb = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - climb, 0.0, warmup_target=rate, warmup_steps=climb
    )
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(batches.prefetch(2), epochs=epochs, verbose=0).history


def residual(depth):
    def build(shape, classes, shortcuts, activation):
        if shortcuts == "identity":
            return models.resnet(shape, classes, depth=depth, classifier_activation=activation)
        return projected(shape, classes, depth, activation)

    return build


def projected(shape, classes, depth, activation):
    """The basic ResNet with 1x1 convolutions as shortcuts where the shape changes."""
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)

    def convolved(x, filters, size, strides=1):
        x = keras.layers.Conv2D(
            filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        return keras.layers.BatchNormalization()(x)

    x = keras.layers.ReLU()(convolved(x, 16, 3))
    for stage in range(3):
        for block in range((depth - 2) // 6):
            filters, strides = 16 * 2**stage, 2 if stage and not block else 1
            shortcut = convolved(x, filters, 1, strides) if strides > 1 else x
            inner = keras.layers.ReLU()(convolved(x, filters, 3, strides))
            x = keras.layers.ReLU()(keras.layers.Add()([shortcut, convolved(inner, filters, 3)]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation=activation)(x))


def plain_cnn(shape, classes, shortcuts, activation):
    return models.plain_cnn(shape, classes, classifier_activation=activation)


def plain_without_norm(shape, classes, shortcuts, activation):
    return models.plain_cnn(
        shape, classes, norm=None, filters=(16, 32, 64), convs=1, classifier_activation=activation
    )


def mlp(shape, classes, shortcuts, activation):
    return models.mlp(shape, classes, classifier_activation=activation)


def separable(shape, classes, shortcuts, activation):
    """A network from outside this library: depthwise convolutions, normalization, ReLU6."""
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    for filters, strides in ((16, 1), (32, 2), (64, 1), (64, 2), (128, 1)):
        x = keras.layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(x)
        x = keras.layers.Conv2D(filters, 1, use_bias=False)(keras.layers.BatchNormalization()(x))
        x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation=activation)(x))


def convmixer(shape, classes, shortcuts, activation, width=64, depth=4):
    """Trockman and Kolter 2022: patches, then depthwise and 1x1 convolutions with GELU; not used for any choice."""
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(width, 4, 4, activation="gelu")(x)
    x = keras.layers.BatchNormalization()(x)
    for _ in range(depth):
        inner = keras.layers.DepthwiseConv2D(5, padding="same", activation="gelu")(x)
        x = keras.layers.Add()([keras.layers.BatchNormalization()(inner), x])
        x = keras.layers.Conv2D(width, 1, activation="gelu")(x)
        x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation=activation)(x))


NETWORKS = {
    "resnet8": residual(8),
    "resnet14": residual(14),
    "plain_cnn": plain_cnn,
    "plain_without_norm": plain_without_norm,
    "mlp": mlp,
    "separable": separable,
    "convmixer": convmixer,
}


def load(name, train, test):
    """`((x, y), (x, y))`, uint8 images and integer labels: the first ones in a fixed random order."""
    if name.endswith(".npz"):
        with np.load(name) as file:
            order = np.random.default_rng(0).permutation(len(file["x_train"]))[:train]
            return (file["x_train"][order], file["y_train"][order]), (
                file["x_test"][:test],
                file["y_test"][:test],
            )
    first, second, _ = data.load(name)
    x, y = next(iter(first.concatenate(second).batch(train + test)))
    x, y = x.numpy(), y.numpy()
    return (x[:train], y[:train]), (x[train:], y[train:])


def tables(runs):
    """`{title: rows}` of each study: each arm's means, and its gain over the first arm on the seeds that both have."""
    found = {}
    for one in runs:
        title = f"{one['data']}, {one['network']}: {one['train']} images, {one['epochs']} epochs, batch {one['batch']}"
        found.setdefault(title, {}).setdefault(one["arm"], {})[one["seed"]] = one
    return {title: [cells(arm, arms) for arm in arms] for title, arms in found.items()}


def cells(arm, arms):
    mine, reference = arms[arm], arms.get(REFERENCE, next(iter(arms.values())))
    both = sorted(set(mine) & set(reference))
    gains = np.array([mine[seed]["accuracy"] - reference[seed]["accuracy"] for seed in both])
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    gain = "" if mine is reference or not both else f"{gains.mean():+.2f} ± {error:.2f}"

    def mean(name):
        return np.mean([one[name] for one in mine.values()])

    return (
        f"{arm} ({len(mine)})",
        f"{mean('accuracy'):.2f}",
        gain,
        f"{mean('training'):.1f}",
        f"{mean('seconds'):.0f}",
    )


def key(one):
    return tuple(one[name] for name in ("data", "network", "train", "test", "epochs", "batch", "arm", "seed"))


def read(path):
    """The finished runs; a line that an interruption cut off is ignored."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return [json.loads(line) for line in lines]


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
