"""What the commands take."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from recipes._version import __version__
from recipes.cli.of_finished_runs import compare, evaluate, export, predict, report
from recipes.cli.on_files import explain, pack
from recipes.cli.train_and_check import FEWEST_STEPS, SMALL, check, train
from recipes.common.nearest import did_you_mean, nearest

_MODELS = ("auto", "mlp", "plain_cnn", "resnet", "efficientnet_lite0", "unet")
_METHODS = ("grad_cam", "saliency", "smooth_grad", "integrated_gradients", "occlusion")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; `options.run(options)` runs the one that was given."""
    root = _Parser(
        prog="recipes",
        description="Train an image classifier, see why it is not learning, see what it learned, and use it.",
        epilog="Results are on stdout, progress and remarks on stderr. Exit status: 0 when it worked, 1 for an error "
        "that check found, for an export that was refused, and where predict or explain left out photos that do not "
        "decode (0 with --skip-bad), 2 for wrong usage or input that cannot be used, 3 where checks were skipped for "
        "lack of time, 130 after Ctrl-C.",
    )
    root.add_argument("--version", action="version", version=f"keras-recipes {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _train(commands)
    _check(commands)
    _predict(commands)
    _evaluate(commands)
    _explain(commands)
    _export(commands)
    _report_and_compare(commands)
    _pack(commands)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    root.options_of = {
        name: re.findall(r"--[a-z][a-z-]+", command.format_help())
        for name, command in commands.choices.items()
    }
    return root


class _Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest command or option."""

    _words: Sequence[str] = ()
    options_of: Mapping[str, Sequence[str]] = {}

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `argparse.ArgumentParser.parse_args`."""
        self._words = sys.argv[1:] if args is None else args
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with status 2, as `argparse.ArgumentParser.error`."""
        typed = re.match(
            r"unrecognized arguments: (--[\w-]+)|argument COMMAND: invalid choice: '([^']*)'", message
        )
        if typed and typed[1]:
            command = next((word for word in self._words if word in self.options_of), None)
            message += did_you_mean(nearest(typed[1], self.options_of.get(command, ()))).replace(" ", ". ", 1)
        elif typed:
            message += did_you_mean(nearest(typed[2], self.options_of)).replace(" ", ". ", 1)
        ended = message if message.endswith(("?", ".")) else f"{message}."
        command = next((word for word in self._words if word in self.options_of), None)
        help_of = f"{self.prog} {command}" if command else self.prog
        self.exit(2, f"{self.prog}: error: {ended} How to use it: {help_of} --help\n")


def _train(commands):
    command = commands.add_parser(
        "train",
        help="train on a folder of images or a named data set, and write a report",
        description="Train with every default and write model.keras, best.keras, history.csv, curves.png, "
        "findings.json, record.npz, run.json and report.html.",
    )
    _data_options(command)
    _training_options(command)
    command.add_argument(
        "--epochs",
        type=_positive,
        default=30,
        help="passes over the training images (default: 30); with --resume more than before train the run further",
    )
    command.add_argument(
        "--out", type=Path, default=Path("runs/train"), help="folder for all files (default: runs/train)"
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run in --out, with the same arguments",
    )
    command.add_argument(
        "--force", action="store_true", help="with --resume: go on even if arguments or data have changed"
    )
    command.add_argument("--quiet", action="store_true", help="print nothing but the last line")
    command.set_defaults(run=train)


def _check(commands):
    command = commands.add_parser(
        "check",
        help="check data and model before training",
        description="Run all checks before training, on the model, optimizer and rate that recipes train of the same "
        "line would train, and print one table: check, verdict, result. Below a check that found something stand "
        "its findings with their remedies, and the files that are copies, faulty or in doubt. A leak is a picture that "
        "is both in training and in validation, so that the validation accuracy promises too much. Exits with 1 for an "
        "error, with 3 where checks were skipped for lack of time, otherwise with 0.",
    )
    _data_options(command)
    _training_options(command)
    command.add_argument(
        "--seconds",
        type=_above_zero,
        default=180.0,
        help="seconds that all checks together may take, not counting the compilation of training steps; small "
        "networks need less (default: 180)",
    )
    command.add_argument(
        "--allow-skipped",
        action="store_true",
        help="exit with 0, not 3, where checks were skipped for lack of time",
    )
    command.add_argument(
        "--try",
        dest="try_remedies",
        action="store_true",
        help="after an error or a warning, try its remedies on copies of the model, for as many seconds again",
    )
    command.set_defaults(run=check)


def _predict(commands):
    command = commands.add_parser(
        "predict",
        help="name the classes of photos",
        description="Print one line per image: the file and its likeliest classes. Photos that do not decode are left "
        "out and named on stderr (with --json they have an entry of file and error), the others have their answers, "
        "and the exit status is 1. With no photo that decodes it is 2.",
    )
    _run_folder(command)
    _best(command)
    command.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or patterns")
    command.add_argument("--top", type=_positive, default=3, help="classes per image (default: 3)")
    command.add_argument(
        "--csv", type=Path, help="write file, label, confidence and all probabilities to this file"
    )
    command.add_argument("--png", type=Path, help="folder for predicted masks, one PNG file each")
    _answers_the_others(command)
    command.set_defaults(run=predict)


def _evaluate(commands):
    command = commands.add_parser(
        "evaluate",
        help="score a finished run on a labeled folder",
        description="Print accuracy with its 95 % interval, precision, recall, F1 and AUROC of each class, the most "
        "confused classes, and the files of the most confident mistakes.",
    )
    _run_folder(command)
    _best(command)
    command.add_argument(
        "data", metavar="FOLDER", help="a folder with one sub-folder per class, or with a test/ folder in it"
    )
    _labels(command)
    command.add_argument(
        "--html",
        type=Path,
        help="write a page with the most confident mistakes: each photo, its file, and what the network looked at",
    )
    command.set_defaults(run=evaluate)


def _explain(commands):
    command = commands.add_parser(
        "explain",
        help="show what a trained model looks at in images",
        description="For each image, write a picture of it with a map over it: the evidence for the predicted class. "
        "Photos that do not decode are left out and named on stderr, and the exit status is then 1.",
    )
    command.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="a run's folder or a .keras file, such as runs/train",
    )
    _best(command)
    command.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or patterns")
    command.add_argument("--method", choices=_METHODS, default="grad_cam", help="(default: grad_cam)")
    command.add_argument(
        "--target", help="name or number of the class to explain (default: the predicted one)"
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("runs/explain"),
        help="folder for the pictures (default: runs/explain)",
    )
    _answers_the_others(command)
    command.set_defaults(run=explain)


def _export(commands):
    command = commands.add_parser(
        "export",
        help="write a finished run for phones, browsers or servers",
        description="Write FILE.tflite, FILE.onnx or a SavedModel folder, load it again and compare its answers "
        "with the answers of Keras. Exits with 1, and leaves no file, where they differ.",
    )
    _run_folder(command)
    _best(command)
    command.add_argument("file", metavar="FILE", type=Path, help="ends in .tflite or .onnx; else a folder")
    command.add_argument("--int8", action="store_true", help="8-bit integers, for .tflite")
    command.add_argument(
        "--calibrate",
        action="store_true",
        help="calibrate the probabilities with a temperature that is fitted on the images that training held back, or "
        "on --data where these are not there any more",
    )
    command.add_argument(
        "--data", help="labeled folder to compare and score on (default: the run's own, where it still is)"
    )
    _labels(command)
    command.set_defaults(run=export)


def _report_and_compare(commands):
    command = commands.add_parser("report", help="write the report of a finished run again")
    _run_folder(command)
    command.add_argument("--out", type=Path, help="file to write (default: report.html in RUN)")
    command.add_argument(
        "--data",
        help="labeled folder for the confusion matrix and examples (default: what the run held back, if it is there)",
    )
    _labels(command)
    command.set_defaults(run=report)
    command = commands.add_parser(
        "compare",
        help="put finished runs side by side",
        description="Print the settings that differ and the metrics with their 95 % intervals.",
    )
    command.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="folders of finished runs")
    command.add_argument("--data", help="labeled folder to score all runs on")
    _labels(command)
    command.add_argument("--html", type=Path, help="write a page with the curves over one another")
    command.set_defaults(run=compare)


def _pack(commands):
    command = commands.add_parser(
        "pack",
        help="decode a folder of photos in advance, into one file",
        description="Write a file that train, evaluate and recipes.data.load read without decoding.",
    )
    command.add_argument("data", metavar="FOLDER", help="folder of images")
    command.add_argument("file", metavar="FILE", help="file to write, such as photos.packed")
    command.add_argument("--image-size", type=_positive, help="side in pixels to resize to")
    command.add_argument("--fit", choices=("crop", "pad", "stretch"), default="crop", help="(default: crop)")
    _labels(command)
    command.set_defaults(run=pack)


def _best(command):
    command.add_argument(
        "--best",
        action="store_true",
        help="take best.keras, the network of the epoch with the lowest validation loss (default: model.keras, that of "
        "the last epoch)",
    )


def _run_folder(command):
    command.add_argument(
        "folder", metavar="RUN", type=Path, help="folder of a finished run, such as runs/train"
    )


def _labels(command):
    command.add_argument("--labels", help="CSV file or regular expression that gives the class of each image")
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out files that do not decode (default: name them and stop, as the result would be of other images "
        "than the folder holds)",
    )


def _answers_the_others(command):
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="exit with 0, not 1, where photos that do not decode were left out",
    )


def _data_options(command):
    command.add_argument(
        "data",
        metavar="FOLDER_OR_NAME",
        help="a folder with one sub-folder of images per class or with images/ and masks/, or a name: digits, mnist5k, "
        "mnist, fashion_mnist, cifar10, cifar100",
    )
    command.add_argument(
        "--image-size",
        type=_positive,
        help="side in pixels to resize to (default: the images' own; for color photos of several sizes 224 with the "
        "extra pretrained, otherwise 64)",
    )
    command.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        default="crop",
        help="how photos of another shape are fitted (default: crop)",
    )
    _labels(command)
    command.add_argument(
        "--model",
        choices=_MODELS,
        default="auto",
        help=f"auto: a ResNet-20 up to {SMALL} pixels, else a pretrained EfficientNet-Lite0 with a new head"
        "; for images/ with masks/ a U-Net (default: auto)",
    )
    command.add_argument(
        "--seed", type=int, default=0, help="fixes weights, order and augmentation (default: 0)"
    )


def _training_options(command):
    """What is trained, and how; `check` takes the same, and checks what `train` would train."""
    command.add_argument(
        "--batch-size",
        type=_positive,
        help=f"images per step (default: 128; fewer, down to 16, where an epoch would have fewer than {FEWEST_STEPS} "
        "steps)",
    )
    command.add_argument(
        "--learning-rate", type=_above_zero, help="peak rate (default: one that suits the optimizer)"
    )
    command.add_argument(
        "--unfreeze",
        type=_stage,
        action="append",
        metavar="EPOCHS[:LAYERS]",
        help="after this many epochs let the layers of a pretrained network learn too, at a tenth of the rate; "
        "3:stage7_* names layers, otherwise all of them; may be given several times (default: all learn from the "
        "beginning, at rates that fall with their depth)",
    )
    command.add_argument(
        "--augment",
        choices=("standard", "none"),
        default="standard",
        help="random changes of the training images (default: standard)",
    )


def _stage(text):
    epochs, _, names = text.partition(":")
    if not epochs.isdecimal() or text.endswith(":"):
        raise argparse.ArgumentTypeError(
            f"expects EPOCHS or EPOCHS:LAYERS, such as 3 or 3:stage7_*, not {text!r}"
        )
    return int(epochs), [name for name in names.split(",") if name] or ["backbone"]


def _above_zero(text):
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expects a number above 0, received {text}")
    return number


def _positive(text):
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expects a whole number >= 1, received {text}")
    return number
