"""Distill a large network into a small one: keras.distillation.Distiller, trained by recipes.train.

    python examples/distill.py

Trains a teacher on the 1797 digits of scikit-learn, then two students of sixteen units. One learns only from the
labels; the other also imitates the teacher's softened answers (Hinton et al. 2015, section 2,
https://arxiv.org/abs/1503.02531). Prints the validation accuracy of all three. Writes the run of the distilled student
to runs/distill/student, and this student without its teacher to runs/distill/student.keras. Takes about a minute on
two cores.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras

import recipes
from recipes import data, plot

TEMPERATURE = 3.0  # softens the answers of teacher and student; 1 leaves them unchanged


def network(units, name):
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        keras.layers.Flatten(),
        keras.layers.Dense(units, "relu"),
        keras.layers.Dense(10),  # logits, which the student imitates
    ]
    return keras.Sequential(layers, name=name)


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/distill"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")

    train, validation, info = data.load("digits")
    options = {"epochs": 2 if arguments.quick else 20, "info": info, "augment": None, "verbose": 0}

    keras.utils.set_random_seed(0)
    teacher = recipes.train(compiled(network(256, "teacher")), train, validation, **options)
    alone = recipes.train(compiled(network(16, "alone")), train, validation, **options)

    student = network(16, "student")
    imitation = keras.distillation.LogitsDistillation(temperature=TEMPERATURE)
    distiller = keras.distillation.Distiller(teacher.model, student, distillation_losses=imitation)
    distilled = recipes.train(
        compiled(distiller), train, validation, run_dir=arguments.out / "student", **options
    )
    student.save(arguments.out / "student.keras")

    for name, run in (("teacher", teacher), ("student alone", alone), ("student distilled", distilled)):
        print(f"{name:18} validation accuracy {run.history['val_accuracy'][-1]:.2%}")
    histories = {"teacher": teacher.history, "alone": alone.history, "distilled": distilled.history}
    plot.compared_curves(histories, metrics=["accuracy"]).savefig(arguments.out / "curves.png", dpi=100)
    print(
        f"Look at {arguments.out}: curves.png shows the gap between teacher and students; student.keras is the "
        "distilled student."
    )


if __name__ == "__main__":
    main()
