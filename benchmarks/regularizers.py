"""What each regularizer, and each initialization of a deep network, gains on real images: three seeds each.

    python benchmarks/regularizers.py            # about five minutes on two idle cores

1. A perceptron of two hidden layers on 1000 MNIST digits, tested on 4000 others: few enough to overfit.
2. ResNet-20 on 900 of scikit-learn's digits of 8 x 8 pixels, tested on the rest.
3. ResNet-56 on the same digits: He initialization and LSUV, with and without batch normalization; without it also
   Fixup.

Settings are common ones, mostly those of the papers. Nothing is tuned, so the table shows what a user gets without
tuning. Accuracies are those of the last epoch: the mean over the seeds, the lowest and the highest.
"""

import argparse

import keras
import numpy as np
from tables import heading, row

from recipes import data, initialize, layers, models

SEEDS = (0, 1, 2)
COLUMNS = ("", "training", "test", "lowest", "highest")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", type=int, nargs="+", default=[1, 2, 3], help="which of the three experiments to run"
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="runs per row")
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    for part in arguments.parts:
        (perceptrons, residual_networks, deep_starts)[part - 1](seeds)


def perceptrons(seeds):
    train, test = arrays("mnist5k", 1000)
    dense = keras.layers.Dense
    networks = {
        "plain": lambda: perceptron(lambda: dense(512, activation="relu")),
        "dropout 0.5": lambda: perceptron(lambda: dense(512, activation="relu"), dropout=0.5),
        "DropConnect 0.5": lambda: perceptron(lambda: layers.DropConnect(dense(512, activation="relu"), 0.5)),
        "max-norm 3": lambda: perceptron(
            lambda: dense(512, activation="relu", kernel_constraint=layers.MaxNorm(3.0))
        ),
        # With Glorot initialization the columns have a norm of about 1, so they never reach the paper's limit of 3.
        "max-norm 1": lambda: perceptron(
            lambda: dense(512, activation="relu", kernel_constraint=layers.MaxNorm(1.0))
        ),
        "L2 1e-3": lambda: penalized(l2=1e-3),
        "elastic net 1e-5, 1e-3": lambda: penalized(l1=1e-5, l2=1e-3),
        "maxout of 2": lambda: perceptron(lambda: layers.Maxout(512)),
        "maxout of 2, dropout 0.5": lambda: perceptron(lambda: layers.Maxout(512), dropout=0.5),
    }
    heading(*COLUMNS, title="Perceptron, 512-512, 1000 MNIST digits, 30 epochs of Adam at 1e-3")
    for name, build in networks.items():
        report(name, runs(build, keras.optimizers.Adam(1e-3), train, test, 30, seeds))


def residual_networks(seeds):
    train, test = arrays("digits", 900)
    networks = {
        "plain": {},
        "stochastic depth 0.5": {"stochastic_depth": 0.5},
        "stochastic depth 0.2": {"stochastic_depth": 0.2},
        "dropout 0.3": {"dropout": 0.3},
        "weight decay 5e-4": {"weight_decay": 5e-4},
        "maxout of 2": {"activation": "maxout"},
    }
    heading(*COLUMNS, title="ResNet-20, 900 digits of 8 x 8, 15 epochs of SGD at 0.05")
    for name, options in networks.items():

        def build(options=options):
            return models.resnet((8, 8, 1), 10, depth=20, **options)

        report(name, runs(build, keras.optimizers.SGD(0.05, momentum=0.9), train, test, 15, seeds))


def deep_starts(seeds):
    train, test = arrays("digits", 900)

    def normalized():
        return models.resnet((8, 8, 1), 10, depth=56)

    def bare():
        return models.resnet((8, 8, 1), 10, depth=56, norm=None)

    starts = {
        normalized: {"batch normalization, He": None, "batch normalization, LSUV": lsuv},
        bare: {"none, He": he, "none, LSUV": lsuv, "none, Fixup": None},
    }
    heading(*COLUMNS, title="ResNet-56, 900 digits of 8 x 8, 8 epochs of SGD at 0.05")
    for build, named in starts.items():
        model = None  # one network, traced once, for all initializations
        for name, start in named.items():
            optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
            results, model = runs_of(model, build, optimizer, train, test, 8, seeds, start)
            report(name, results)


def perceptron(hidden, dropout=0.0):
    stack = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 127.5, -1.0), keras.layers.Flatten()]
    for _ in range(2):
        stack += [hidden(), keras.layers.Dropout(dropout)]
    return keras.Sequential([*stack, keras.layers.Dense(10, activation="softmax")])


def penalized(**factors):
    model = perceptron(lambda: keras.layers.Dense(512, activation="relu"))
    layers.add_l1_l2(model, **factors)
    return model


def he(model, images):
    """He initialization of every convolution, in place of the small and zero weights of Fixup."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(keras.initializers.HeNormal()(layer.kernel.shape))


def lsuv(model, images):
    initialize.lsuv(model, images[:256])


def runs(build, optimizer, train, test, epochs, seeds):
    return runs_of(None, build, optimizer, train, test, epochs, seeds, None)[0]


def runs_of(model, build, optimizer, train, test, epochs, seeds, start):
    """Train one compiled model from each seed; the first call makes and traces it."""
    results = []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        fresh = build()
        if start is not None:
            start(fresh, train[0])
        if model is None:
            model = fresh
            model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        else:
            model.set_weights(fresh.get_weights())
            for variable in model.optimizer.variables:
                if variable is not model.optimizer.learning_rate:
                    variable.assign(np.zeros(variable.shape))
        history = model.fit(*train, batch_size=64, epochs=epochs, verbose=0).history
        accuracy = model.evaluate(*test, batch_size=500, verbose=0)[1]
        results.append((history["accuracy"][-1], accuracy, history["loss"][-1]))
    return results, model


def arrays(name, count):
    train, _, _ = data.load(name, validation=0)
    images, labels = zip(*train.as_numpy_iterator(), strict=True)
    images, labels = np.stack(images), np.array(labels)
    return (images[:count], labels[:count]), (images[count:], labels[count:])


def report(name, results):
    training, test, losses = np.array(results).T
    if not np.isfinite(losses).all():
        row(name, "", f"diverged in {int((~np.isfinite(losses)).sum())} of {len(losses)} runs", "", "")
        return
    row(name, f"{training.mean():.1%}", f"{test.mean():.1%}", f"{test.min():.1%}", f"{test.max():.1%}")


if __name__ == "__main__":
    main()
