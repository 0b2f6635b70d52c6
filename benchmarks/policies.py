"""Which augmentation pays in a short run: policies at equal CPU time, on two data sets.

    python benchmarks/policies.py                    about 12 minutes of CPU
    python benchmarks/policies.py --seeds 1 --budget 2

Each run trains a small network from scratch on 2000 images for the same CPU time, its augmentation included: the number
of steps is what fits into the budget, as a few timed steps tell, and the rate falls to zero over them. The figure
is the error on 2000 other images, in %, and the change from no augmentation, seed by seed, with its standard error.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import augment, data

SETS = {"mnist5k": ("symbols", "svhn"), "fashion_mnist": ("photos", "cifar10")}
IMAGES, BATCH, TIMED = 2000, 64, 20


def policies(shape, kind, learned):
    """`{name: operations}`; None stands for no augmentation."""
    light, medium, strong = (
        augment.standard(shape, kind=kind, strength=strength).operations
        for strength in ("light", "medium", "strong")
    )
    mixing = augment.OneOf([augment.MixUp(0.2), augment.CutMix(1.0)], probability=0.5)
    return {
        "none": None,
        "light": light,
        "medium": medium,
        "strong": strong,
        "light, TrivialAugment": [*light, augment.TrivialAugment(space="full", fill="edge")],
        "light, AutoAugment": [*light, augment.AutoAugment(learned, fill="edge")],
        "light, MixUp or CutMix": [*light, mixing],
    }


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
    rows = np.eye(10, dtype="float32")[labels]
    source = tf.data.Dataset.from_tensor_slices((images, rows))
    source = source.shuffle(len(images), seed=seed).batch(BATCH, drop_remainder=True)
    if operations is None:
        return source.map(lambda x, y: (tf.cast(x, tf.float32), y)).repeat()
    pipeline = augment.Pipeline(operations, classes=10, seed=seed)
    epochs = tf.data.Dataset.range(2**30)
    return epochs.flat_map(lambda epoch: pipeline.apply(source, epoch=epoch, num_parallel_calls=None))


def error(train, test, operations, seed, budget):
    """`(error in %, steps)` of one run."""
    model = network(train[0].shape[1:], seed)
    optimizer = keras.optimizers.SGD(0.0, momentum=0.9, nesterov=True)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, rows):
        with tf.GradientTape() as tape:
            loss = loss_of(rows, model(images, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    iterator = iter(batches(*train, operations, seed))
    for _ in range(TIMED):  # at rate 0: what is compiled and traced belongs to no policy
        step(*next(iterator))
    start = time.process_time()
    for _ in range(TIMED):
        step(*next(iterator))
    steps = int(budget / ((time.process_time() - start) / TIMED))
    for number in range(steps):
        optimizer.learning_rate = (
            0.1 * min(1, 20 * number / steps) * 0.5 * (1 + np.cos(np.pi * number / steps))
        )
        step(*next(iterator))
    logits = np.concatenate(
        [model(test[0][start : start + 500], training=False) for start in range(0, len(test[0]), 500)]
    )
    return 100 * np.mean(logits.argmax(-1) != test[1]), steps


def arrays(dataset, count):
    pairs = [(np.asarray(x), int(y)) for x, y in dataset.take(count).as_numpy_iterator()]
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--policies", nargs="+", help="names of policies; none is always among them")
    parser.add_argument("--budget", type=float, default=8, help="seconds of CPU of a run")
    arguments = parser.parse_args()
    for name in arguments.data:
        kind, learned = SETS[name]
        train, validation, _ = data.load(name)
        train, test = arrays(train, IMAGES), arrays(validation, 2000)
        chosen = policies(train[0].shape[1:], kind, learned)
        if arguments.policies:
            chosen = {policy: chosen[policy] for policy in ("none", *arguments.policies)}
        found: dict[str, list[tuple[float, int]]] = {policy: [] for policy in chosen}
        for seed in range(arguments.seeds):
            for policy, operations in chosen.items():
                found[policy].append(error(train, test, operations, seed, arguments.budget))
                wrong, steps = found[policy][-1]
                print(
                    f"{name}, seed {seed}, {policy}: {wrong:.2f} % after {steps} steps",
                    file=sys.stderr,
                    flush=True,
                )
        heading(
            "policy",
            "error %",
            "change",
            "steps",
            title=f"{name}, {IMAGES} images, {arguments.budget:g} CPU-seconds",
        )
        base = np.array([one for one, _ in found["none"]])
        for policy, runs in found.items():
            errors = np.array([one for one, _ in runs])
            change = errors - base
            spread = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else float("nan")
            row(
                policy,
                f"{errors.mean():.2f}",
                "" if policy == "none" else f"{change.mean():+.2f} ± {spread:.2f}",
                f"{np.mean([steps for _, steps in runs]):,.0f}",
            )


if __name__ == "__main__":
    main()
