"""What averaging gains: weights, snapshots, independent networks and views, at the same total training budget.

    python benchmarks/ensembles.py         # 2000 images each, three seeds: some 15 minutes of CPU time
    python benchmarks/ensembles.py --data mnist5k fashion_mnist cifar10 --train 5000 --epochs 50

A small plain CNN is trained on few images, so that there is something to gain, and tested on all other images. Every
row costs `--epochs` epochs of training in total, except where it says "five times". Errors are means over seeds, with
the standard deviation between seeds. `gain` is relative to the single model of the same seed, with its standard error.
Data sets that cannot be loaded are named and skipped.
"""

import argparse
import time

import keras
import numpy as np
from tables import heading, row

from recipes import callbacks, data, ensemble, models

MEMBERS = 5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["mnist5k", "fashion_mnist", "cifar10"])
    parser.add_argument(
        "--train", type=int, default=2000, help="number of training images; the rest are for the test"
    )
    parser.add_argument("--test", type=int, default=10000, help="largest number of test images")
    parser.add_argument(
        "--epochs", type=int, default=25, help=f"of the whole budget; a multiple of {MEMBERS}"
    )
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.1, help="peak learning rate of SGD with momentum 0.9")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--filters", type=int, nargs="+", default=[8, 16, 32])
    arguments = parser.parse_args()
    for name in arguments.data:
        try:
            train, test, info = data.load(name)
        except (
            Exception
        ) as error:  # no internet connection, or a package is missing: name the data set and continue
            print(f"\n{name}: left out ({str(error).splitlines()[0]})")
            continue
        compare(name, info, *split(train, test, arguments), arguments)


def split(train, test, arguments):
    """`(train, test)` as arrays, of the sizes asked for."""
    whole = train.concatenate(test)
    images, labels = next(iter(whole.batch(arguments.train + arguments.test)))
    images, labels = images.numpy(), labels.numpy()
    return (images[: arguments.train], labels[: arguments.train]), (
        images[arguments.train :],
        labels[arguments.train :],
    )


def compare(name, info, train, test, arguments):
    print(
        f"\n{name}: {len(train[0])} images to train on, {len(test[0])} to test on, {arguments.epochs} epochs"
    )
    began, results = time.time(), {}
    trainer = Trainer(info, train, test, arguments)
    for seed in range(arguments.seeds):
        for method, error in run_all(trainer, seed).items():
            results.setdefault(method, []).append(100 * error)
        print(f"  seed {seed}: {time.time() - began:.0f} s", flush=True)
    single = np.array(results["single model, cosine"])
    heading(
        "method",
        "error %",
        "gain",
        title=f"{name}: {len(train[0])} training images, {arguments.epochs} epochs",
    )
    for method, errors in results.items():
        errors = np.array(errors)
        gain = single - errors
        spread = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
        deviation = errors.std(ddof=1) if len(errors) > 1 else float("nan")
        row(method, f"{errors.mean():.2f} ± {deviation:.2f}", f"{gain.mean():+.2f} ± {spread:.2f}")


class Trainer:
    """One compiled network that is reset for every run, so that the benchmark does not measure tracing."""

    def __init__(self, info, train, test, arguments):
        self.info, self.train, self.arguments = info, train, arguments
        self.images, self.labels = test
        self.model = self.build()
        optimizer = keras.optimizers.SGD(arguments.rate, momentum=0.9, nesterov=True)
        self.model.compile(optimizer, "sparse_categorical_crossentropy")
        optimizer.build(self.model.trainable_variables)
        self.begin = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]

    def build(self):
        classes = len(self.info.class_names)
        return models.plain_cnn(self.info.image_shape, classes, filters=self.arguments.filters, convs=1)

    def fit(self, seed, epochs, *extra):
        """Probabilities of the test images after a run with this seed."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(self.build().get_weights())
        for variable, value in zip(self.model.optimizer.variables, self.begin, strict=True):
            variable.assign(value)
        batch = self.arguments.batch
        self.model.fit(*self.train, epochs=epochs, batch_size=batch, verbose=0, callbacks=list(extra))
        return self.predict()

    def predict(self):
        return self.model.predict(self.images, batch_size=500, verbose=0)

    def error(self, probabilities):
        return float((probabilities.argmax(-1) != self.labels).mean())


def cosine(**options):
    return callbacks.WarmupDecay(warmup=0.05, **options)


def run_all(trainer, seed):
    """Error on the test images of every method, for one seed."""
    epochs, side, error = trainer.arguments.epochs, trainer.info.image_shape[0], trainer.error
    seeds = [1000 * seed + number for number in range(MEMBERS)]
    full = [trainer.fit(seeds[0], epochs, cosine())]
    found = {"single model, cosine": error(full[0])}
    views = {
        "  + ten crops, enlarged by 4 pixels": ensemble.ten_crop(side, scales=(side + 4,)),
        "  + image and mirror image": ensemble.flips(),
        "  + nine shifts of 1 pixel": ensemble.shifts(1),
    }
    for method, view in views.items():
        found[method] = error(ensemble.predict_tta(trainer.model, trainer.images, view, batch_size=1000))

    polyak = callbacks.ExponentialMovingAverage(0.99)
    found["Polyak average, 0.99, cosine"] = error(trainer.fit(seeds[0], epochs, cosine(), polyak))
    held = {"until": 0.75, "final": 0.3}
    found["last weights of the SWA schedule"] = error(trainer.fit(seeds[0], epochs, cosine(**held)))
    swa = callbacks.StochasticWeightAveraging(0.75, data=trainer.train[0])
    found["SWA from 75 % of the run"] = error(trainer.fit(seeds[0], epochs, cosine(**held), swa))
    for name, kind in {
        "snapshot ensemble": callbacks.SnapshotEnsemble,
        "fast geometric ensemble": callbacks.FastGeometricEnsembling,
    }.items():
        snapshots = kind(MEMBERS)
        trainer.fit(seeds[0], epochs, snapshots)
        answers = []
        for member in snapshots.members:
            trainer.model.set_weights(member.get_weights())
            answers.append(trainer.predict())
        found[f"{name}, {MEMBERS} cycles"] = error(np.mean(answers, axis=0))
        found[f"  last member of the {name}"] = error(answers[-1])
        tell(seed, name, answers)
    full += [trainer.fit(number, epochs, cosine()) for number in seeds[1:]]
    short = [trainer.fit(number, epochs // MEMBERS, cosine()) for number in seeds]
    found["five models, a fifth of the budget each"] = error(np.mean(short, axis=0))
    found["five models, FIVE TIMES the budget"] = error(np.mean(full, axis=0))
    tell(seed, "five models, five times the budget", full)
    return found


def tell(seed, name, answers):
    apart = 100 * ensemble.disagreement(np.stack(answers))[np.triu_indices(MEMBERS, 1)].mean()
    print(f"  seed {seed}, {name}: two members disagree on {apart:.1f} %")


if __name__ == "__main__":
    main()
