"""The command line: train, check, predict, evaluate, explain and pack, each a function of a few lines."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes._version import __version__

__all__ = ["BadInputError", "main"]

_MODELS = ("auto", "mlp", "plain_cnn", "resnet", "efficientnet_lite0")
_METHODS = ("grad_cam", "saliency", "smooth_grad", "integrated_gradients", "occlusion")
_FEWEST_STEPS = 20  # of an epoch
_SMALL = 64  # pixels; larger images go to a pretrained network


class BadInputError(Exception):
    """Something the reader gave cannot be used; its text is the one line they get."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: List of words, as in `sys.argv[1:]`, which None takes.

    Returns:
        0 when it worked; 1 for an error that `check` found; 2 for input that cannot be used (one line on stderr) and
        wrong usage; 3 where `check` skipped checks; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = options.run(options)
    except (BadInputError, ValueError, TypeError, ImportError, OSError) as error:
        print(f"recipes {options.command}: {_one_line(error)}", file=sys.stderr)
        return 2  # 1 is an error that was found
    except KeyboardInterrupt:
        print(f"recipes {options.command}: interrupted", file=sys.stderr)
        return 130
    return status or 0


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m recipes",
        description="Train an image classifier, see why it is not learning, see what it learned.",
        epilog="Exit status: 0 when it worked, 1 for an error that check found, 2 for wrong usage or input that cannot "
        "be used, 3 where checks were skipped for want of time, 130 after Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"keras-recipes {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train on a folder of images or a named data set, and write a report",
        description="Train with every default and write model.keras, best.keras, history.csv, curves.png, "
        "findings.json, record.npz, run.json and report.html.",
    )
    _data_options(train)
    train.add_argument(
        "--epochs", type=_positive, default=30, help="passes over the training images (default: 30)"
    )
    train.add_argument(
        "--out", type=Path, default=Path("runs/train"), help="folder for all files (default: runs/train)"
    )
    train.add_argument(
        "--batch-size",
        type=_positive,
        help=f"images a step (default: 128, fewer where an epoch would have less than {_FEWEST_STEPS} steps)",
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run in --out, with the same arguments",
    )
    train.add_argument("--quiet", action="store_true", help="print nothing but the last line")
    train.set_defaults(run=_train)
    check = commands.add_parser(
        "check",
        help="check data and model before training",
        description="Run all checks before training and print one table: check, verdict, result, remedy. Exits with 1 "
        "for an error, with 3 where checks were skipped for want of time, else with 0.",
    )
    _data_options(check)
    check.add_argument(
        "--seconds",
        type=_seconds,
        default=30.0,
        help="time for the work of all checks, compilation of training steps not counted (default: 30)",
    )
    check.add_argument(
        "--allow-skipped",
        action="store_true",
        help="exit with 0, not 3, where checks were skipped for want of time",
    )
    check.add_argument(
        "--try",
        dest="try_remedies",
        action="store_true",
        help="at an error or a warning, try its remedies on copies of the model for as many seconds again",
    )
    check.set_defaults(run=_check)
    explain = commands.add_parser(
        "explain",
        help="show what a trained model looks at in images",
        description="Write, for each image, a picture of it under the map of what spoke for the predicted class.",
    )
    explain.add_argument(
        "model", metavar="MODEL", type=Path, help="a .keras file, such as runs/train/model.keras"
    )
    explain.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="JPEG, PNG, GIF or BMP files")
    explain.add_argument("--method", choices=_METHODS, default="grad_cam", help="(default: grad_cam)")
    explain.add_argument("--target", type=int, help="class number to explain (default: the predicted class)")
    explain.add_argument(
        "--out",
        type=Path,
        default=Path("runs/explain"),
        help="folder for the pictures (default: runs/explain)",
    )
    explain.set_defaults(run=_explain)
    _finished_run_commands(commands)
    return parser


def _finished_run_commands(commands):
    predict = commands.add_parser(
        "predict",
        help="name the classes of photos",
        description="Print one line per image: file, likeliest classes. Files that do not decode are named on "
        "stderr, as left out.",
    )
    predict.add_argument(
        "folder", metavar="RUN", type=Path, help="folder of a finished run, such as runs/train"
    )
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or patterns")
    predict.add_argument("--top", type=_positive, default=3, help="classes per image (default: 3)")
    predict.add_argument(
        "--csv", type=Path, help="write file, label, confidence and all probabilities to this file"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(run=_predict)
    evaluate = commands.add_parser(
        "evaluate",
        help="score a finished run on a labeled folder",
        description="Print accuracy with its 95 % interval, precision, recall, F1 and AUROC of each class, and "
        "the most confused classes.",
    )
    evaluate.add_argument(
        "folder", metavar="RUN", type=Path, help="folder of a finished run, such as runs/train"
    )
    evaluate.add_argument(
        "data", metavar="FOLDER", help="a folder with a sub-folder per class, or with a test/ in it"
    )
    evaluate.add_argument("--labels", help="CSV file or regular expression that says the classes")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=_evaluate)
    pack = commands.add_parser(
        "pack",
        help="decode a folder of photos ahead, into one file",
        description="Write a file that train, evaluate and recipes.data.load read without decoding.",
    )
    pack.add_argument("data", metavar="FOLDER", help="folder of images")
    pack.add_argument("file", metavar="FILE", help="file to write, such as photos.packed")
    pack.add_argument("--image-size", type=_positive, help="side in pixels to resize to")
    pack.add_argument("--fit", choices=("crop", "pad", "stretch"), default="crop", help="(default: crop)")
    pack.add_argument("--labels", help="CSV file or regular expression that says the classes")
    pack.add_argument("--skip-bad", action="store_true", help="leave out files that do not decode")
    pack.add_argument("--json", action="store_true", help="print JSON")
    pack.set_defaults(run=_pack)


def _data_options(parser):
    parser.add_argument(
        "data",
        metavar="FOLDER_OR_NAME",
        help="a folder with one sub-folder of images per class, or a name: digits, mnist5k, mnist, fashion_mnist, "
        "cifar10, cifar100",
    )
    parser.add_argument(
        "--image-size",
        type=_positive,
        help="side in pixels to resize to, for folders with images of several sizes",
    )
    parser.add_argument(
        "--model",
        choices=_MODELS,
        default="auto",
        help=f"auto: a ResNet-20 up to {_SMALL} pixels, else a pretrained EfficientNet-Lite0 with a new head "
        "(default: auto)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")


def _seconds(text):
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expects a number of seconds above 0, received {text}")
    return number


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expects a whole number >= 1, received {text}")
    return number


def _train(options):
    import recipes  # noqa: PLC0415 - the command starts without it
    from recipes.common.optional import optional  # noqa: PLC0415 - the command starts without it

    optional(
        "recipes train, which writes a report,", "jinja2", "Jinja2", "report"
    )  # before hours of training
    train, validation, info, model, compiled = _open(options)
    run = recipes.train(
        model,
        train,
        validation,
        epochs=options.epochs,
        batch_size=options.batch_size or _batch_size(info.counts["train"]),
        run_dir=options.out,
        resume=options.resume,
        seed=options.seed,
        info=info,
        verbose=0 if options.quiet else "auto",
        **compiled,
    )
    from recipes.report import write_report  # noqa: PLC0415 - the command starts without it

    title = f"{model.name} on {options.data}"
    path = write_report(
        run, options.out / "report.html", validation=validation, class_names=info.class_names, title=title
    )
    accuracy = run.history.get("val_accuracy", [float("nan")])[-1]
    print(f"validation accuracy {accuracy:.2%}; report in {path}")


def _batch_size(examples):
    """The largest of 128, 64, 32 and 16 with enough steps an epoch to learn something."""
    return next((size for size in (128, 64, 32) if examples >= size * _FEWEST_STEPS), 16)


def _check(options):
    from recipes import diagnose  # noqa: PLC0415 - the command starts without it
    from recipes.training.compiling import compile_model  # noqa: PLC0415 - the command starts without it
    from recipes.training.settings import Settings  # noqa: PLC0415 - the command starts without it
    from recipes.training.source import open_source  # noqa: PLC0415 - the command starts without it
    from recipes.training.train import train as train_recipe  # noqa: PLC0415 - the command starts without it

    train, validation, info, model, compiled = _open(options)
    batch_size = _batch_size(info.counts["train"])
    settings = Settings.of(train_recipe, {**compiled, "batch_size": batch_size})
    reading = {"model": model, "batch_size": batch_size, "classes": len(info.class_names)}
    source = open_source(train, "train", shuffle=True, seed=options.seed, **reading)
    compile_model(model, source, source.label_spec, settings)
    done = diagnose.preflight(model, train, validation, seconds=options.seconds)
    serious = [finding for finding in done.findings if finding.severity != "info"]
    if options.try_remedies and serious:
        try:
            diagnose.try_remedies(model, train, serious, seconds=options.seconds)
        except ValueError as error:
            print(f"no remedy was tried: {error}")
    elif done.severity == "error":
        print("--try has these remedies tried on copies of the model.")
    if done.severity == "error":
        return 1
    return 3 if done.skipped and not options.allow_skipped else 0


def _open(options):
    """Data and an uncompiled model for it: `(train, validation, info, model, options for train)`."""
    import keras  # noqa: PLC0415 - the command starts without it

    from recipes import data, models  # noqa: PLC0415 - the command starts without it

    try:
        train, validation, info = data.load(options.data, image_size=options.image_size, seed=options.seed)
    except ValueError as error:
        if options.image_size is None and "image_size" in str(error):
            sizes = str(error).partition("\n")[0].removeprefix("data.load expects ").rstrip(":")
            sizes = sizes.replace("image_size", "--image-size")
            raise BadInputError(f"expects {sizes}. Type for example --image-size 64, or 224") from error
        raise
    keras.utils.set_random_seed(options.seed)
    shape, classes = info.image_shape, len(info.class_names)
    name = options.model
    if name == "auto":
        name = "resnet" if max(shape[:2]) <= _SMALL else "efficientnet_lite0"
    if name != "efficientnet_lite0":
        builder = {"mlp": models.mlp, "plain_cnn": models.plain_cnn, "resnet": models.resnet}[name]
        return train, validation, info, builder(shape, classes), {}
    if shape[2] == 1:
        raise BadInputError(
            f"efficientnet_lite0 expects color images. Received {options.data} with one channel. Use --model resnet."
        )
    try:
        backbone = models.efficientnet_lite0(include_top=False, input_shape=shape)
    except ImportError as error:
        raise BadInputError(
            f"{error}, or type --model resnet, which learns from nothing but these images"
        ) from error
    # Only the new head learns, for which Adam at its usual rate needs no search.
    return train, validation, info, models.transfer(backbone, classes), {"optimizer": "adam"}


def _load_run(folder):
    import recipes  # noqa: PLC0415 - the command starts without it

    if not folder.is_dir():
        raise BadInputError(f"expects the folder of a finished run. Received {folder}, which is none")
    return recipes.load_run(folder)


def _predict(options):
    predictions = _load_run(options.folder).predict(options.images)
    for skipped in predictions.skipped:
        print(f"recipes predict: left out {_one_line(skipped)}", file=sys.stderr)
    if options.csv:
        predictions.to_csv(options.csv)
    print(predictions.to_json() if options.json else predictions.table(options.top))


def _evaluate(options):
    from contextlib import redirect_stdout  # noqa: PLC0415 - the command starts without it

    from recipes import data  # noqa: PLC0415 - the command starts without it
    from recipes.data.named import SETS  # noqa: PLC0415 - the command starts without it

    run = _load_run(options.folder)
    settings, names = run.settings, run.class_names
    if names is None or len(settings.get("image_shape") or ()) != 3:
        raise BadInputError(
            f"expects a run that knows its classes. Received {options.folder}, trained without info="
        )
    how = {
        "image_size": tuple(settings["image_shape"][:2]),
        "validation": 0,
        "labels": options.labels,
        "fit": settings.get("fit") or "crop",
        "background": tuple(settings.get("background") or ()) or "white",
    }
    if options.data not in SETS:
        how["class_names"] = names
    with redirect_stdout(sys.stderr):  # what data.load remarks is no result
        try:
            test, _, info = data.load(options.data, part="test", **how)
        except ValueError as error:
            if "part='test'" not in str(error):
                raise
            test, _, info = data.load(options.data, **how)
    if info.image_shape[2] != settings["image_shape"][2]:
        channels = settings["image_shape"][2]
        test = test.map(lambda image, label: (_channels(image, channels), label))
    scores = run.evaluate(test)
    print(scores.to_json() if options.json else scores.table())


def _channels(image, count):
    import tensorflow as tf  # noqa: PLC0415 - the command starts without it

    return tf.repeat(image, 3, axis=-1) if count == 3 else tf.image.rgb_to_grayscale(image)


def _pack(options):
    from contextlib import redirect_stdout  # noqa: PLC0415 - the command starts without it

    from recipes import data  # noqa: PLC0415 - the command starts without it

    with redirect_stdout(sys.stderr):
        info = data.pack(
            options.data,
            options.file,
            options.image_size,
            fit=options.fit,
            labels=options.labels,
            on_error="skip" if options.skip_bad else "raise",
        )
    size, count = os.path.getsize(options.file), sum(info.counts.values())
    facts = {"file": options.file, "images": count, "bytes": size, "classes": len(info.class_names)}
    said = f"{options.file}: {count} images of {len(info.class_names)} classes, {size / 1e6:.1f} MB"
    print(json.dumps(facts) if options.json else said)


def _explain(options):
    import keras  # noqa: PLC0415 - the command starts without it
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes import data, explain, plot  # noqa: PLC0415 - the command starts without it

    if not options.model.exists():
        raise BadInputError(f"there is no model {options.model}")
    model = keras.saving.load_model(options.model, safe_mode=True)
    height, width, channels = model.inputs[0].shape[1:]
    size = (height, width) if height and width else None
    settings = _settings(options.model)
    # As in training, where that is known.
    how = {
        "fit": settings.get("fit") or "crop",
        "background": tuple(settings.get("background") or ()) or "white",
    }
    images = []
    for path in options.images:
        if not path.is_file():
            raise BadInputError(f"there is no image {path}")
        try:
            images.append(data.read_image(path, size, channels=channels, **how))
        except ValueError as error:
            raise BadInputError(str(error).removeprefix("data.read_image ")) from error
    batch = np.stack(images)
    maps = getattr(explain, options.method)(model, batch, options.target, verbose=0)
    predicted = np.asarray(model.predict(batch, verbose=0))
    names = _class_names(options.model, predicted.shape[-1])
    options.out.mkdir(parents=True, exist_ok=True)
    written = set()
    for path, image, map_, scores in zip(options.images, images, maps, predicted, strict=True):
        best = int(np.argmax(scores))
        # Logits are no probabilities.
        share = f" {scores[best]:.0%}" if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-2 else ""
        guess = f"{names[best]}{share}"
        given = options.target is not None and options.target != best
        title = f"{names[options.target]}, predicted {guess}" if given else guess
        name, number = f"{path.stem}.{options.method}.png", 2
        while name in written:
            name, number = f"{path.stem}-{number}.{options.method}.png", number + 1
        written.add(name)
        plot.overlay(image, map_, title=title).savefig(options.out / name, dpi=100)
        print(f"{options.out / name}: {title}")


def _settings(model_path):
    """What run.json beside a model that `recipes.train` saved holds, else an empty dictionary."""
    file = model_path.parent / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _class_names(model_path, classes):
    """Names from the run.json beside a model that `recipes.train` saved, else "class 0", "class 1" ..."""
    names = _settings(model_path).get("class_names")
    if names is None or len(names) != classes:
        return [f"class {number}" for number in range(classes)]
    return names
