"""predict, evaluate, export, report and compare: what is done with the folder of a finished run."""

import contextlib
import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from recipes.cli.bad_input import BadInputError, in_shell_words
from recipes.cli.starting import load_keras, without_remarks


def load_run(folder: Path, command: str) -> Any:
    """The run in a folder.

    Args:
        folder: Folder of a finished run.
        command: Name of the command, for the line on stderr while the run is loaded.

    Returns:
        A `recipes.Run`.

    Raises:
        BadInputError: when there is no such folder.
        ValueError: when it holds no finished run.
    """
    import recipes  # noqa: PLC0415 - the command starts without it

    if not folder.is_dir():
        raise BadInputError(
            f"expects the folder of a finished run. Received {folder}, which is not a folder. Correct the path, such "
            "as runs/train"
        )
    unfinished = (folder / "run.json").exists() and not (folder / "model.keras").exists()
    if unfinished:
        raise BadInputError(
            f"expects a finished run. Received {folder}, whose training was interrupted. Go on with the line that "
            f"began it and --resume: {_training_line(folder)}"
        )
    load_keras(f"recipes {command}: loading {folder}")
    return recipes.load_run(folder)


def _training_line(folder):
    """What was typed to begin the run in a folder, as far as run.json tells."""
    try:
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except ValueError:
        settings = {}
    words = ["recipes", "train", str(settings.get("data") or "DATA"), "--out", str(folder)]
    if settings.get("image_shape"):
        words += ["--image-size", ",".join(map(str, dict.fromkeys(settings["image_shape"][:2])))]
    if settings.get("epochs"):
        words += ["--epochs", str(settings["epochs"])]
    return shlex.join([*words, "--resume"])


def predict(options: Namespace) -> None:
    """Print the likeliest classes of each image.

    Args:
        options: `folder`, `images`, `csv`, `png`, `json`, `top`, of `recipes predict`.
    """
    run = load_run(options.folder, options.command)
    with contextlib.redirect_stdout(sys.stderr):
        predictions = run.predict(options.images, verbose=1)
    for skipped in predictions.skipped:
        print(f"recipes predict: left out {in_shell_words(skipped)}", file=sys.stderr)
    if options.csv:
        predictions.to_csv(options.csv)
    if options.png:
        predictions.to_png(options.png)
    print(predictions.to_json() if options.json else predictions.table(options.top))


def evaluate(options: Namespace) -> None:
    """Print the scores on a labeled folder.

    Args:
        options: `folder`, `data`, `labels`, `skip_bad`, `html`, `json`, of `recipes evaluate`.

    Raises:
        BadInputError: for a run that does not know its classes.
    """
    run = load_run(options.folder, options.command)
    with contextlib.redirect_stdout(sys.stderr):  # remarks of data.load are not results
        examples = _labeled(run, options.folder, options)
        scores = run.evaluate(examples, grad_cam=options.html is not None)
    if options.html:
        from recipes.common.files import write_text  # noqa: PLC0415 - the command starts without it

        write_text(options.html, scores.to_html())
        print(f"page in {options.html}", file=sys.stderr)
    print(scores.to_json() if options.json else scores.table())


def export(options: Namespace) -> int:
    """Write the run for other programs.

    Args:
        options: `folder`, `file`, `data`, `calibrate`, `int8`, `json`, of `recipes export`.

    Returns:
        The status of the command: 0, or 1 where the file would give other answers than the model.
    """
    run = load_run(options.folder, options.command)
    from recipes.inference import ExportError  # noqa: PLC0415 - the command starts without it

    with contextlib.redirect_stdout(sys.stderr):
        examples = _labeled(run, options.folder, options) if options.data else None
        try:
            with without_remarks():
                written = run.export(
                    options.file,
                    calibrated=options.calibrate,
                    int8=options.int8,
                    examples=examples,
                    verbose=False,
                )
        except ExportError as error:
            print(f"recipes export: {in_shell_words(error)}", file=sys.stderr)
            return 1
    print(json.dumps(written.to_dict()) if options.json else written)
    return 0


def report(options: Namespace) -> None:
    """Write the report again.

    Args:
        options: `folder`, `out` (None: report.html in the folder), `data` (None: without examples), `json`.
    """
    run, path = load_run(options.folder, options.command), options.out or options.folder / "report.html"
    with contextlib.redirect_stdout(sys.stderr):
        examples = _labeled(run, options.folder, options) if options.data else None
        run.report(path, validation=examples)
    print(json.dumps({"report": str(path)}) if options.json else f"report in {path}")


def compare(options: Namespace) -> None:
    """Print what differs between runs.

    Args:
        options: `folders`, `data`, `html`, `json`, of `recipes compare`.

    Raises:
        BadInputError: when one of the folders is not there.
    """
    import recipes  # noqa: PLC0415 - the command starts without it

    for folder in options.folders:
        if not folder.is_dir():
            raise BadInputError(
                f"expects folders of finished runs. Received {folder}, which is not a folder. Correct the path, such "
                "as runs/train"
            )
    with contextlib.redirect_stdout(sys.stderr):
        load_keras("recipes compare: loading the runs")
        test = None
        if options.data:
            test = _labeled(load_run(options.folders[0], options.command), options.folders[0], options)
        compared = recipes.compare(options.folders, test)
    if options.html:
        compared.to_html(options.html)
        print(f"page in {options.html}", file=sys.stderr)
    print(compared.to_json() if options.json else compared.table())


def _labeled(run, folder, options):
    """The labeled folder of `options.data`, read as the run's images were."""
    from recipes.inference.of_run import labeled_folder  # noqa: PLC0415 - the command starts without it

    if run.class_names is None:
        raise BadInputError(
            f"expects a run that knows its classes. Received {folder}, trained without info=. Train it with "
            "recipes.train(..., info=info), where info is what recipes.data.load returns"
        )
    how = {"labels": options.labels, "on_error": "skip" if options.skip_bad else "raise"}
    return labeled_folder(run, options.data, **how)
