"""predict: a model's answers to files, folders, arrays and data sets."""

import base64
import html
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from recipes import data
from recipes.averaging.views import Views
from recipes.common.files import csv_text, json_text
from recipes.common.input_shapes import check_inputs
from recipes.common.models import model_input_rank, output_activation, predict_batch
from recipes.common.validation import is_one_of
from recipes.data.find_files import find_files, is_path
from recipes.data.read import why_left_out
from recipes.evaluate.class_maps import class_maps, gives_class_maps
from recipes.evaluate.classifier import as_probabilities
from recipes.inference.write_masks import write_masks

if TYPE_CHECKING:
    from recipes.common.types import Path, Verbose


@dataclass(frozen=True)
class Predictions:
    """What a classifier, or a network that gives every pixel a class, predicts for some images.

    Attributes:
        probabilities: float32 `(n, classes)`; for masks the share of the pixels of each class.
        class_names: Names of class 0, 1, ...
        files: Where each image came from; its number for arrays and data sets.
        several: Whether classes do not exclude one another: `labels` then joins all that reach their threshold.
        skipped: Files that do not decode, each with the reason: "photos/a.jpg: Empty file."
        thresholds: Threshold of each class, float `(classes,)`, as `evaluate.thresholds` finds them; None is one half
            for several labels, and the likeliest class for one.
        masks: The class of every pixel, `(n, height, width)`, as large as the images of training; else None.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    several: bool = False
    skipped: tuple[str, ...] = field(default=(), repr=False)
    thresholds: np.ndarray | None = field(default=None, repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> list[str]:
        """The name of the likeliest class of each image."""
        if self.several:
            limits = 0.5 if self.thresholds is None else self.thresholds
            return ["|".join(np.array(self.class_names)[row >= limits]) for row in self.probabilities]
        return [self.class_names[number] for number in self.indices]

    @property
    def indices(self) -> np.ndarray:
        """The number of the class of each image, int64 `(n,)`: the one that is likeliest relative to its threshold."""
        limits = 1 if self.thresholds is None else self.thresholds
        return (self.probabilities / limits).argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the likeliest class, float32 `(n,)`."""
        return self.probabilities.max(axis=1)

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The `k` likeliest classes of each image with their probabilities, likeliest first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.class_names[number], float(row[number])) for number in numbers]
            for row, numbers in zip(self.probabilities, order, strict=True)
        ]

    def table(self, k: int = 3) -> str:
        """One line per image: file, the `k` likeliest classes with their probabilities."""
        width = max(map(len, self.files), default=0)
        return "\n".join(
            f"{file:{width}}  " + "  ".join(f"{name} {share:.1%}" for name, share in row)
            for file, row in zip(self.files, self.top(k), strict=True)
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary per image: file, label, confidence, probabilities by class."""
        rows = zip(self.files, self.labels, self.confidence, self.probabilities, strict=True)
        return [
            {
                "file": file,
                "label": label,
                "confidence": float(sure),
                "probabilities": dict(zip(self.class_names, map(float, row), strict=True)),
            }
            for file, label, sure, row in rows
        ]

    def to_json(self, path: "Path | None" = None) -> str:
        """`to_dicts` as JSON with six significant digits, written to a file if one is given.

        Behind them stands an entry of file and error for each file in `skipped`.
        """
        errors = [dict(zip(("file", "error"), _file_and_reason(one), strict=True)) for one in self.skipped]
        text = json_text(self.to_dicts() + errors)
        if path is not None:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text + "\n")
        return text

    def to_csv(self, path: "Path | None" = None) -> str:
        """Columns file, label, confidence and one per class, written to a file if one is given."""
        rows = zip(self.files, self.labels, self.confidence, self.probabilities, strict=True)
        names = ["file", "label", "confidence", *self.class_names]
        return csv_text(
            [names, *([file, label, sure, *map(float, row)] for file, label, sure, row in rows)], path
        )

    def to_png(self, folder: "Path") -> list[pathlib.Path]:
        """Write each mask as a PNG named after its image; its numbers are the classes, and its palette colors them.

        A mask is as large as the images of training, and of their part of the photo: with `fit="crop"` that is the
        largest centered part of their aspect ratio.

        Args:
            folder: Made when it does not exist; nothing in it is overwritten.

        Returns:
            The paths written, in order.

        Raises:
            ValueError: when the model classifies whole images, and for more than 256 classes.
            FileExistsError: when the folder holds a file of one of the names.
        """
        if self.masks is None:
            raise ValueError(
                "Predictions.to_png expects masks from a model that gives a class for every pixel. Received "
                "classes of whole images. Write them with to_csv or to_json."
            )
        return write_masks(self.masks, self.files, folder)

    def _repr_html_(self) -> str:
        lines = zip(self.files[:50], self.top(3), strict=False)
        body = "".join(
            f"<tr><td>{_thumbnail(file)}</td><td>{html.escape(file)}</td>"
            + "".join(f"<td>{html.escape(name)} {share:.1%}</td>" for name, share in row)
            + "</tr>"
            for file, row in lines
        )
        more = f"<p>and {len(self) - 50} more</p>" if len(self) > 50 else ""
        return f"<table>{body}</table>{more}"


def _some_of(skipped):
    """The first files that do not decode, each with its reason."""
    more = f"; and {len(skipped) - 10} more" if len(skipped) > 10 else ""
    return "; ".join(one.rstrip(".") for one in skipped[:10]) + more


def _file_and_reason(skipped):
    """The two halves of an entry of `Predictions.skipped`; the name of a file may hold ": " itself."""
    parts = skipped.split(": ")
    cut = next((n for n in range(1, len(parts)) if os.path.lexists(": ".join(parts[:n]))), 1)
    return ": ".join(parts[:cut]), ": ".join(parts[cut:])


def _thumbnail(file):
    if not os.path.isfile(file):
        return ""
    try:
        pixels = data.read_image(file, 64)
    except ValueError:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def predict(
    model: keras.Model,
    images: Any,
    *,
    class_names: Any = None,
    image_shape: tuple[int, int, int] | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    background: Any = "white",
    several: bool = False,
    thresholds: Any = None,
    views: Views | Callable[[np.ndarray], list[np.ndarray]] | None = None,
    batch_size: int = 64,
    on_error: Literal["warn", "skip", "raise"] = "warn",
    verbose: "Verbose" = 0,
) -> Predictions:
    """Predict the classes of images, read as in training.

    Args:
        model: A trained `keras.Model` with one output of `(batch, classes)`, or one unit for two classes; or of
            `(batch, height, width, classes)` for masks.
        images: A file, a folder (all images below it), a pattern such as "photos/*.jpg", a list of these, one image
            or a batch of them as an array, or a `tf.data.Dataset` of images or of `(image, label)`.
        class_names: Names of the classes; None names them by their numbers.
        image_shape: `(height, width, channels)` that files are read to; None takes the model's input.
        fit: How files are fitted into that, as in `data.read_image`.
        background: Color behind transparent pixels, as in `data.read_image`.
        several: Whether classes do not exclude one another (a sigmoid each).
        thresholds: Threshold of each class, as `evaluate.thresholds` finds them; see `Predictions`.
        views: `ensemble.flips()`, `shifts(n)`, `ten_crop(...)`, `multi_scale(...)`, or a function `images -> list of
            batches`, such as `lambda x: [x, x[:, :, ::-1]]`: the probabilities of all views are averaged.
        batch_size: Images per batch, >= 1; no more are in memory.
        on_error: What to do with files that do not decode. "warn" and "skip" leave them out and list them in
            `.skipped`, "warn" with a warning that names the first ten; "raise" raises, as a single file that was named
            always does.
        verbose: 1 shows a progress bar for files that take more than one batch.

    Returns:
        `Predictions`.

    Raises:
        ValueError: for no images, a file that does not decode, images of another shape than the model's, or another
            `on_error`.
        FileNotFoundError: when there is no such file.
    """
    if not is_one_of(on_error, ("warn", "skip", "raise")):
        raise ValueError(
            "recipes.inference.predict expects on_error to be 'warn', 'skip' or 'raise'. Received "
            f"on_error={on_error!r}. Leave it out for a warning."
        )
    activation, skipped, names, outputs = output_activation(model), [], [], []
    maps = [] if gives_class_maps(model) else None
    if maps is not None and views is not None:
        raise ValueError(
            "recipes.inference.predict expects views=None for masks, which would have to be turned back. Received "
            "views= for a model that gives a class for every pixel. Leave them out."
        )
    shape = image_shape or (tuple(model.inputs[0].shape[1:]) if getattr(model, "inputs", None) else None)
    for files, batch in _batches(
        images, model, shape, fit, background, batch_size, on_error, skipped, verbose
    ):
        if views is None:
            # A network of only convolutions would take images of another size silently.
            check_inputs("recipes.inference.predict", "images", model, batch, trained=True)
        seen = [batch] if views is None else _views(views, batch)
        answers = [predict_batch(model, one) for one in seen]
        if maps is not None:
            maps.append(class_maps(answers[0], activation))
            answers = [_shares(maps[-1], max(2, answers[0].shape[-1]))]
        else:
            answers = [as_probabilities(answer.astype("float32"), activation, several) for answer in answers]
        outputs.append(np.mean(answers, axis=0).astype("float32"))
        names += files
    if not outputs:
        raise ValueError(
            "recipes.inference.predict expects at least one image. Received none"
            + (
                f" that decodes: {_some_of(skipped)}. Give other files."
                if skipped
                else ". Check the path or the pattern."
            )
        )
    if skipped and on_error == "warn":
        warnings.warn(
            f"recipes.inference.predict expects images that decode. Received {_some_of(skipped)}. The answers are "
            "about the others; .skipped lists what is left out.",
            stacklevel=3,  # who called Run.predict
        )
    probabilities = np.concatenate(outputs)
    known = class_names if class_names is not None else range(probabilities.shape[1])
    if len(known) != probabilities.shape[1]:
        raise ValueError(
            f"recipes.inference.predict expects a name for each of {probabilities.shape[1]} classes. Received "
            f"{len(known)}. Leave class_names out to call them by their numbers."
        )
    limits = None if thresholds is None else np.asarray(thresholds, "float64")
    if limits is not None and limits.shape != (probabilities.shape[1],):
        raise ValueError(
            f"recipes.inference.predict expects a threshold for each of {probabilities.shape[1]} classes. Received "
            f"shape {limits.shape}. Find them with evaluate.thresholds(model, validation)."
        )
    masks = np.concatenate(maps) if maps else None
    return Predictions(
        probabilities, tuple(map(str, known)), tuple(names), several, tuple(skipped), limits, masks
    )


def _shares(maps, classes):
    """For each map the share of its pixels that belong to each class, `(n, classes)`."""
    return np.stack([np.bincount(one.reshape(-1), minlength=classes) / one.size for one in maps])


def _as_array(images):
    sizes = sorted({np.shape(image) for image in images}) if isinstance(images, (list, tuple)) else []
    if len(sizes) > 1:
        raise ValueError(
            f"recipes.inference.predict expects images of one shape. Received {sizes[0]} and {sizes[1]}. Resize them, "
            "or give files, which are read to one size."
        )
    return np.asarray(images)


def _views(views, batch):
    """All views of a batch, each as a batch."""
    if not isinstance(views, Views):
        return views(batch)
    views.check(*batch.shape[1:3])
    images = tf.cast(batch, tf.float32)
    return [view for group in views.groups for view in group(images)]


def _batches(images, model, shape, fit, background, batch_size, on_error, skipped, verbose) -> Iterator:
    """Yield `(names, batch)`, one batch after another."""
    if hasattr(images, "__next__"):
        images = list(images)
    if isinstance(images, tf.data.Dataset):
        count = 0
        first = lambda element: element[0] if isinstance(element, tuple) else element  # noqa: E731
        if isinstance(images.element_spec, dict):
            first = lambda element: element["image"]  # noqa: E731
        dataset = images.map(lambda *parts: first(parts if len(parts) > 1 else parts[0]))
        if dataset.element_spec.shape.rank == (model_input_rank(model) or 4) - 1:
            dataset = dataset.batch(batch_size)
        for batch in dataset.as_numpy_iterator():
            yield [str(count + number) for number in range(len(batch))], batch
            count += len(batch)
    elif is_path(images) or (isinstance(images, (list, tuple)) and images and all(map(is_path, images))):
        files = find_files(images)
        if shape is None or len(shape) != 3 or None in shape:
            raise ValueError(
                "recipes.inference.predict expects image_shape=(height, width, channels) for a model of any size. "
                f"Received {shape}. Give the shape it was trained with."
            )
        strict = on_error == "raise" or is_path(images) and os.path.isfile(os.fspath(images))
        shows = verbose not in (0, "auto") and len(files) > batch_size
        progress = keras.utils.Progbar(len(files), unit_name="image") if shows else None
        for start in range(0, len(files), batch_size):
            names, batch = [], []
            for file in files[start : start + batch_size]:
                try:
                    batch.append(data.read_image(file, shape[:2], fit, background, channels=shape[2]))
                    names.append(file)
                except (
                    ValueError,
                    OSError,
                    ImportError,
                ) as error:  # damaged, not to be read, or for an extra
                    if strict:
                        raise
                    skipped.append(f"{file}: {why_left_out(error, file)}")
            if batch:
                yield names, np.stack(batch)
            if progress is not None:
                progress.update(min(start + batch_size, len(files)))
    else:
        array = _as_array(images)
        if array.ndim == (model_input_rank(model) or 4) - 1:
            array = array[None]
        for start in range(0, len(array), batch_size):
            part = array[start : start + batch_size]
            yield [str(start + number) for number in range(len(part))], part
