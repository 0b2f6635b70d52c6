"""Five networks from one training: snapshots at the lowest points of a cyclic learning rate, averaged into one model.

    python examples/snapshot_ensemble.py    # 1000 training and 4000 test digits: two minutes on two cores

Prints the error of each snapshot, of their average, and of one network that was trained as usual for the same time.
With so few images the average is about as good as that network, not better; `benchmarks/ensembles.py` measures the gain
of other kinds of averaging at the same cost. Writes to runs/snapshot_ensemble/ the snapshots, ensemble.keras (all
members as one model), rates.png (the cyclic rate) and disagreement.png (how much the members differ; an average can
gain only from differences).
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import callbacks, data, ensemble, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50, help="epochs of all cycles together")
    parser.add_argument(
        "--rate", type=float, default=0.1, help="learning rate of SGD with momentum at each restart"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two cycles of one epoch on a small part of the data"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/snapshot_ensemble"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")

    test, train, info = data.load(arguments.data, validation=0.2)  # few training and many test images
    cycles, epochs = arguments.cycles, arguments.epochs
    if arguments.quick:
        train, test, cycles, epochs = train.take(256), test.take(256), 2, 2
    train = train.cache().shuffle(1000, seed=0).batch(50).prefetch(2)
    images, labels = next(iter(test.batch(5000)))
    images, labels = images.numpy(), labels.numpy()

    def fit(callback):
        keras.utils.set_random_seed(0)
        model = models.plain_cnn(info.image_shape, len(info.class_names), filters=(16, 32, 64), convs=1)
        model.compile(keras.optimizers.SGD(arguments.rate, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(train, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback])
        return model

    def predict(model):
        return model.predict(images, batch_size=500, verbose=0)

    def error(probabilities):
        return float((probabilities.argmax(-1) != labels).mean())

    usual = error(predict(fit(callbacks.WarmupDecay(warmup=0.05, decay="cosine"))))
    snapshots = callbacks.SnapshotEnsemble(cycles, folder=arguments.out / "snapshots", overwrite=True)
    fit(snapshots)

    members = np.stack([predict(member) for member in snapshots.members])
    alone = [error(member) for member in members]
    together = [error(members[: count + 1].mean(axis=0)) for count in range(cycles)]
    averaged = snapshots.ensemble()
    averaged.save(arguments.out / "ensemble.keras")

    steps = snapshots.ends[-1]
    rates = plot.learning_rates(
        snapshots.schedule(np.arange(steps)), snapshots.ends, steps_per_epoch=steps // epochs
    )
    rates.savefig(arguments.out / "rates.png", dpi=100)
    figure = plot.disagreement(ensemble.disagreement(members), member_errors=alone, ensemble_errors=together)
    figure.savefig(arguments.out / "disagreement.png", dpi=100)

    print("error of each snapshot:      ", "  ".join(f"{100 * value:.2f} %" for value in alone))
    print(f"error of their average:        {100 * error(predict(averaged)):.2f} %")
    print(f"one network, same epochs:      {100 * usual:.2f} %")
    print(f"Look at {arguments.out}: disagreement.png shows how much an average of the snapshots can gain.")


if __name__ == "__main__":
    main()
