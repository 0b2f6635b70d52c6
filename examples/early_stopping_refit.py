"""Find out by early stopping how long to train, then train on the validation images too.

    python examples/early_stopping_refit.py    # 500 training and 250 validation digits: about a minute on two cores

Stops when the validation loss no longer falls. Then trains again in two classical ways (Goodfellow et al. 2016,
algorithms 7.2 and 7.3), and prints the error on 4250 other images after each. Writes
runs/early_stopping_refit/curves.png.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras

from recipes import callbacks, data, models, plot, training


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument("--train", type=int, default=500, help="number of training images")
    parser.add_argument(
        "--validation", type=int, default=250, help="number of images that decide when to stop"
    )
    parser.add_argument("--patience", type=int, default=8, help="epochs without a lower validation loss")
    parser.add_argument("--epochs", type=int, default=100, help="largest number of epochs")
    parser.add_argument("--quick", action="store_true", help="a few epochs on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/early_stopping_refit"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    if arguments.quick:
        arguments.train, arguments.validation, arguments.epochs, arguments.patience = 100, 50, 3, 1
    arguments.out.mkdir(parents=True, exist_ok=True)

    first, second, info = data.load(arguments.data, validation=0.5)
    train, rest = first.take(arguments.train), first.skip(arguments.train)
    validation, test = rest.take(arguments.validation), rest.skip(arguments.validation).concatenate(second)
    if arguments.quick:
        test = test.take(200)
    test = test.batch(500).cache()

    keras.utils.set_random_seed(0)
    model = models.plain_cnn(info.image_shape, len(info.class_names), filters=(16, 32, 64), convs=1)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])

    stopper = callbacks.EarlyStopping(patience=arguments.patience)
    history = model.fit(
        train.cache().shuffle(1000, seed=0).batch(50),
        validation_data=validation.batch(500),
        epochs=arguments.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[stopper],
    )
    plot.curves(history).savefig(arguments.out / "curves.png", dpi=100)

    def error():
        return 100 * (1 - model.evaluate(test, verbose=0, return_dict=True)["accuracy"])

    print(f"stopped after epoch {len(history.epoch)}; the best epoch was {stopper.best_epoch + 1}")
    print(f"only the training images:          {error():.2f} % error")
    restarted = training.refit_on_all_data(stopper, train, validation, "restart", batch_size=50, verbose=0)
    print(f"both sets, restarted, {restarted.epochs:3d} epochs:  {error():.2f} % error")
    went_on = training.refit_on_all_data(stopper, train, validation, "continue", batch_size=50, verbose=0)
    reached = "reached" if went_on.reached else "not reached"
    print(
        f"both sets, continued, {went_on.epochs:3d} epochs:  {error():.2f} % error (training loss {reached})"
    )
    print(
        f"Look at {arguments.out / 'curves.png'}: the validation loss stops falling before the training loss."
    )


if __name__ == "__main__":
    main()
