"""Five training scripts, each with a typical mistake of students: what the doctor says, and the corrected run.

    python examples/debug_broken_training.py

Every script trains on the 1797 digits of scikit-learn. Prints, for each script, the accuracy that it reaches, the first
finding with its evidence and remedy, and the accuracy after the remedy. Writes a report with figures for each script to
runs/debug_broken_training/.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras

from recipes import data
from recipes.callbacks import TrainingDoctor
from recipes.report import write_report
from recipes.training.run import Run


def network(*, scale=True, output: str | None = "softmax", start="he_normal", frozen=False):
    layers = [keras.Input((8, 8, 1))]
    if scale:
        layers.append(keras.layers.Rescaling(1 / 127.5, offset=-1))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(64, "relu", kernel_initializer=start, trainable=not frozen, name="first"),
        keras.layers.Dense(64, "relu", kernel_initializer=start, trainable=not frozen, name="second"),
        keras.layers.Dense(10, output, name="scores"),
    ]
    return keras.Sequential(layers, name="student")


def compiled(model, rate=0.05, from_logits=False):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
    return model


# The mistake in words, the model with the mistake, and the model after the remedy of the finding.
SCRIPTS = {
    "forgets that the last layer gives logits": (
        lambda: compiled(network(output=None)),
        lambda: compiled(network(output=None), from_logits=True),
    ),
    "leaves pixels at 0..255": (
        lambda: compiled(network(scale=False)),
        lambda: compiled(network()),
    ),
    "starts all weights at zero": (
        lambda: compiled(network(start="zeros")),
        lambda: compiled(network(start="he_normal")),
    ),
    "copies a learning rate from another optimizer": (
        lambda: compiled(network(), rate=20.0),
        lambda: compiled(network(), rate=0.05),
    ),
    "freezes layers that were never pretrained": (
        lambda: compiled(network(frozen=True)),
        lambda: compiled(network()),
    ),
}


def fit(model, train, validation, epochs):
    """Train with a doctor watching: `(run, validation accuracy of the last epoch)`."""
    doctor = TrainingDoctor(train=train, validation=validation, verbose=0)
    history = model.fit(
        train, validation_data=validation, epochs=epochs, shuffle=False, callbacks=[doctor], verbose=0
    )
    run = Run(model=model, history=history.history, findings=doctor.findings, record=doctor.record)
    return run, history.history["val_accuracy"][-1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=6, help="passes over the 1617 training images")
    parser.add_argument("--quick", action="store_true", help="two scripts, two epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/debug_broken_training"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")

    train, validation, info = data.load("digits", verbose=0)
    train, validation = train.shuffle(2000, seed=0).batch(32), validation.batch(256)
    scripts, epochs = list(SCRIPTS.items()), arguments.epochs
    if arguments.quick:
        scripts, epochs = scripts[:2], 2
    for number, (mistake, (broken, mended)) in enumerate(scripts, start=1):
        keras.utils.set_random_seed(0)
        run, before = fit(broken(), train, validation, epochs)
        page = write_report(
            run,
            arguments.out / f"{number}.html",
            validation=validation,
            class_names=info.class_names,
            title=mistake,
        )
        keras.utils.set_random_seed(0)
        _, after = fit(mended(), train, validation, epochs)
        finding = run.findings[0]
        print(
            f"\n{number}. A student {mistake}: {before:.1%} of the validation images are classified correctly."
        )
        print(f"   {finding.title}{f' in {finding.layer}' if finding.layer else ''}: {finding.evidence}")
        print(f"   {finding.remedy}")
        print(f"   After the remedy: {after:.1%}. Report: {page}")
    print(f"\nLook at the reports in {arguments.out}: the first lines say what is wrong and what to do.")


if __name__ == "__main__":
    main()
