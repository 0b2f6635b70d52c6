"""The seven steps of choosing hyperparameters, as the lectures teach them, on real digits.

    python examples/seven_steps.py

1. Check the initial loss. 2. Overfit a small sample. 3. Find a learning rate that makes the loss fall. 4. Search
coarsely, with few epochs per trial. 5. Search more finely, with more epochs. 6. Look at the curves. 7. Go back to step
5 with what they show; this script instead trains the best settings to the end and writes a report. Needs the extra
"tune". Writes range_test.png, search.png and report.html to runs/seven_steps/. Takes about two minutes on two cores.

Source: Johnson 2019, "Deep Learning for Computer Vision", lecture 11, and CS231n,
https://cs231n.github.io/neural-networks-3/
"""

import argparse
import functools
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras

import recipes
from recipes import data, diagnose, models, plot, tune


def build(shape, classes, *, learning_rate, weight_decay, width):
    """The network of the search: an MLP of two hidden layers."""
    model = models.mlp(shape, classes, hidden=(width, width), weight_decay=weight_decay)
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument("--trials", type=int, default=16, help="coarse trials; half as many fine ones follow")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and search")
    parser.add_argument("--quick", action="store_true", help="a small part of the digits and two trials")
    parser.add_argument("--out", type=Path, default=Path("runs/seven_steps"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    name = "digits" if arguments.quick else arguments.data
    train, validation, info = data.load(name, seed=arguments.seed)
    if arguments.quick:
        train, validation = train.take(256), validation.take(64)
    batches, held_out = train.shuffle(5000, seed=arguments.seed).batch(64), validation.batch(256)
    make = functools.partial(build, info.image_shape, len(info.class_names))

    keras.utils.set_random_seed(arguments.seed)
    model = make(learning_rate=0.01, weight_decay=0.0, width=128)
    print("step 1,", diagnose.initial_loss(model, batches))
    print("step 2,", diagnose.overfit_small_sample(model, batches))
    found = diagnose.learning_rate_range_test(model, batches)
    found.plot().savefig(arguments.out / "range_test.png", dpi=100)
    print("step 3,", found)

    center = found.suggestion or 0.01
    space = {
        "learning_rate": (center / 30, center * 30),
        "weight_decay": (1e-6, 1e-2),
        "width": [64, 128, 256],
    }
    trials = 2 if arguments.quick else arguments.trials
    print(
        f"steps 4 and 5, {trials} coarse trials around a rate of {center:.2g}, then {max(1, trials // 2)} finer ones"
    )
    study = tune.search(
        make,
        batches,
        held_out,
        space,
        coarse={"trials": trials, "epochs": 1 if arguments.quick else 2},
        fine={"trials": max(1, trials // 2), "epochs": 1 if arguments.quick else 6},
        seed=arguments.seed,
    )
    plot.search_trials(study).savefig(arguments.out / "search.png", dpi=100)
    ended = [trial for trial in study.trials if "ended" in trial.user_attrs]
    print(f"   {len(ended)} trials ended early; best {study.best_value:.2%} with {study.best_params}")

    keras.utils.set_random_seed(arguments.seed)
    model = make(**study.best_params)
    epochs = 1 if arguments.quick else 20
    run = recipes.train(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=64,
        augment=None,
        info=info,
        preflight=False,
        verbose=0,
    )
    print(
        "step 6,",
        "; ".join(str(finding) for finding in diagnose.read_curves(run.history))
        or "no findings in the curves",
    )
    recipes.report.write_report(
        run, arguments.out / "report.html", validation=validation, class_names=info.class_names
    )
    print(f"step 7, trained to {run.history['val_accuracy'][-1]:.2%}")
    print(f"Look at {arguments.out}: search.png shows which settings matter, report.html shows the last run.")


if __name__ == "__main__":
    main()
