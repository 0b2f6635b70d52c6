"""predict, evaluate, export, report and compare: what is done with the folder of a finished run."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from recipes.cli.bad_input import BadInputError, remarks_on_stderr
from recipes.cli.left_out import say_no_images
from recipes.cli.resuming import line_of
from recipes.cli.starting import load_keras, without_remarks
from recipes.common.nearest import did_you_mean, nearest_path
from recipes.common.shell_words import in_shell_words

_WITHOUT_IMAGES = (
    "the run's own images are not where they were, or are others now, so the page has no scores by class, no examples "
    "and no names of files; --data FOLDER gives it labeled images"
)


def load_run(folder: Path, command: str, best: bool = False) -> Any:
    """The run in a folder.

    Args:
        folder: Folder of a finished run.
        command: Name of the command, for the line on stderr while the run is loaded.
        best: Whether to take the network of the epoch with the lowest validation loss.

    Returns:
        A `recipes.Run`.

    Raises:
        BadInputError: when there is no such folder.
        ValueError: when it holds no finished run.
    """
    import recipes  # noqa: PLC0415 - the command starts without it

    check_run_folder(folder)
    load_keras(f"recipes {command}: loading {folder}")
    return recipes.load_run(folder, best=best)


def check_run_folder(folder: Path) -> None:
    """Look whether a folder holds a finished run, which takes no second, before Keras is loaded.

    Args:
        folder: As it was typed.

    Raises:
        BadInputError: when there is no such folder, no run in it, or one that was interrupted.
    """
    is_run = lambda path: (Path(path) / "run.json").exists()  # noqa: E731
    if not folder.is_dir():
        near = did_you_mean(nearest_path(folder, is_run))
        raise BadInputError(
            f"expects the folder of a finished run. Received {folder}, which is not a folder. Correct the path, such "
            f"as runs/train.{near}"
        )
    if is_run(folder):
        if not (folder / "model.keras").exists():
            raise BadInputError(
                f"expects a finished run. Received {folder}, whose training was interrupted. Go on with the line that "
                f"began it and --resume: {line_of(folder)}"
            )
        return
    inside = sorted(path.parent for path in folder.glob("*/run.json"))
    near = did_you_mean(str(inside[0]) if len(inside) == 1 else None)
    if len(inside) > 1:
        near = f" Runs in it are {', '.join(map(str, inside[:5]))}."
    raise BadInputError(
        f"expects the folder of a finished run. Received {folder}, which holds no run.json. Give the folder that was "
        f"--out of recipes train.{near}"
    )


def ended_with_1(count: int) -> str:
    """Why a command that answered for the other photos does not end with 0."""
    what = "a photo was" if count == 1 else f"{count} photos were"
    return f"{what} left out, so the exit status is 1; the others have their answers; --skip-bad makes it 0"


def predict(options: Namespace) -> int:
    """Print the likeliest classes of each image.

    Args:
        options: `folder`, `best`, `images`, `csv`, `png`, `json`, `top`, `skip_bad`, of `recipes predict`.

    Returns:
        The status of the command: 0, or 1 where photos were left out, unless `skip_bad`.
    """
    run = load_run(options.folder, options.command, options.best)
    say_no_images(options.command, options.images)
    with remarks_on_stderr():
        predictions = run.predict(options.images, on_error="skip", verbose=1)
    for skipped in predictions.skipped:
        print(f"recipes predict: left out {in_shell_words(skipped)}", file=sys.stderr)
    if predictions.skipped and not options.skip_bad:
        print(f"recipes predict: {ended_with_1(len(predictions.skipped))}", file=sys.stderr)
    if options.csv:
        predictions.to_csv(options.csv)
    if options.png:
        predictions.to_png(options.png)
    print(predictions.to_json() if options.json else predictions.table(options.top))
    return 1 if predictions.skipped and not options.skip_bad else 0


def evaluate(options: Namespace) -> None:
    """Print the scores on a labeled folder.

    Args:
        options: `folder`, `best`, `data`, `labels`, `skip_bad`, `html`, `json`, of `recipes evaluate`.

    Raises:
        BadInputError: for a run that does not know its classes.
    """
    run = load_run(options.folder, options.command, options.best)
    with remarks_on_stderr():  # remarks of data.load are not results
        examples = _labeled(run, options.folder, options)
        scores = run.evaluate(examples, grad_cam=options.html is not None)
    _say_trained_on(options, run, examples)
    if options.html:
        from recipes.common.files import write_text  # noqa: PLC0415 - the command starts without it

        write_text(options.html, scores.to_html())
        print(f"page in {options.html}", file=sys.stderr)
    print(scores.to_json() if options.json else scores.table())
    if scores.mistakes and not options.html and not options.json:
        print(
            "recipes evaluate: --html PAGE.html shows these photos and what the network looked at",
            file=sys.stderr,
        )


def _say_trained_on(options, run, examples):
    from recipes.inference.of_run import TRAINED_ON, trained_on  # noqa: PLC0415 - the command starts without it

    if said := trained_on(run, options.data, examples):
        warning = "warning: " if said.startswith(TRAINED_ON) else ""
        print(f"recipes {options.command}: {warning}{said}", file=sys.stderr)


def export(options: Namespace) -> int:
    """Write the run for other programs.

    Args:
        options: `folder`, `best`, `file`, `data`, `calibrate`, `int8`, `json`, of `recipes export`.

    Returns:
        The status of the command: 0, or 1 where the file would give other answers than the model.
    """
    run = load_run(options.folder, options.command, options.best)
    from recipes.common.files import json_text  # noqa: PLC0415 - the command starts without it
    from recipes.inference import ExportError  # noqa: PLC0415 - the command starts without it
    from recipes.inference.of_run import held_out_of  # noqa: PLC0415 - the command starts without it

    with remarks_on_stderr():
        examples = _labeled(run, options.folder, options) if options.data else None
        own = options.calibrate and examples is not None and held_out_of(run) is not None
        calibrated = examples if options.calibrate and examples is not None and not own else options.calibrate
        try:
            with without_remarks():
                written = run.export(
                    options.file,
                    calibrated=calibrated,
                    int8=options.int8,
                    examples=examples,
                    verbose=False,
                )
        except ExportError as error:
            print(f"recipes export: {in_shell_words(error)}", file=sys.stderr)
            return 1
    print(json_text(written.to_dict()) if options.json else written)
    return 0


def report(options: Namespace) -> None:
    """Write the report again.

    Args:
        options: `folder`, `out` (None: report.html in the folder), `data` (None: what the run held back), `json`.

    Raises:
        BadInputError: when the images are gone, and the report that is there would be replaced by one without them.
    """
    run, path = load_run(options.folder, options.command), options.out or options.folder / "report.html"
    from recipes.inference.of_run import data_of  # noqa: PLC0415 - the command starts without it

    with remarks_on_stderr():
        how: dict[str, Any] = {}
        if options.data:
            how["validation"] = _labeled(run, options.folder, options)
            _say_trained_on(options, run, how["validation"])
        elif run.class_names is not None and data_of(run) is None:
            if options.out is None and path.exists():
                raise BadInputError(
                    "expects the images of the run where they were, to write its report again. Received "
                    f"{options.folder}, trained on {run.settings.get('data')}, which is not there or is other now. "
                    "Give labeled images with --data FOLDER, or another file with --out, for a page without scores by "
                    "class, examples and names of files"
                )
            print(f"recipes report: {_WITHOUT_IMAGES}", file=sys.stderr)
        title = f"{run.model.name} on {run.settings['data']}" if run.settings.get("data") else None
        run.report(path, title=title, **how)
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
        check_run_folder(folder)
    with remarks_on_stderr():
        load_keras("recipes compare: loading the runs")
        if options.data:
            say_no_images(options.command, [options.data], [options.labels])
        how = {"labels": options.labels, "on_error": "skip" if options.skip_bad else "raise"}
        compared = recipes.compare(options.folders, options.data, **(how if options.data else {}))
    if options.html:
        compared.to_html(options.html)
        print(f"page in {options.html}", file=sys.stderr)
    print(compared.to_json() if options.json else compared.table())


def _labeled(run, folder, options):
    """The labeled folder of `options.data`, read as the run's images were."""
    from recipes.inference.of_run import labeled_folder  # noqa: PLC0415 - the command starts without it

    if run.class_names is None:
        raise BadInputError(
            f"expects a run that knows its classes. Received {folder}, trained in Python without info=. Train it with "
            "recipes train, or in Python with info=, what recipes.data.load returns"
        )
    how = {"labels": options.labels, "on_error": "skip" if options.skip_bad else "raise"}
    say_no_images(options.command, [options.data], [options.labels])
    return labeled_folder(run, options.data, **how)
