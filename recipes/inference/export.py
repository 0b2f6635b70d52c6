"""export: a trained classifier as a file that phones, browsers and servers run."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes._version import __version__
from recipes.common.backends import require_tensorflow
from recipes.common.datasets import as_batches
from recipes.common.files import write_json
from recipes.common.models import output_activation
from recipes.common.types import Data, Images
from recipes.evaluate.classifier import as_probabilities, from_probabilities
from recipes.evaluate.temperature import Temperature
from recipes.inference import formats

if TYPE_CHECKING:
    from recipes.common.types import Path as PathLike

_COMPARED = 32  # images, after the export
_SAMPLES = 200  # images that show the range of the activations
_CONVERTERS = {"tflite": "TensorFlow's converter", "onnx": "tf2onnx", "saved_model": "TensorFlow"}
_TOLERANCE, _TOLERANCE_HALF = 1e-3, 2e-2  # largest difference of a probability; the second in 16-bit floats


class ExportError(RuntimeError):
    """A file that was converted, but whose answers are not those of the model. It was not kept."""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: The file, or the folder of a SavedModel.
        description: The JSON file: class names, shape, type and reading of the images, temperature, versions.
        size: Bytes.
        difference: Largest difference of a probability between the file, loaded again, and Keras, over `images` images.
        images: Images compared.
        accuracy: Accuracy of the Keras model and of the file on the labeled examples, in [0, 1]; None without `int8`.
    """

    path: Path
    description: Path
    size: int
    difference: float
    images: int
    accuracy: tuple[float, float] | None = None

    def __str__(self) -> str:
        said = (
            f"{self.path}: {self.size / 1e6:.2f} MB; loaded again, its probabilities differ from Keras by at most "
            f"{self.difference:.1e} on {self.images} images"
        )
        if self.accuracy is not None:
            said += f"; accuracy {self.accuracy[0]:.2%} in Keras, {self.accuracy[1]:.2%} in the file"
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "path": str(self.path), "description": str(self.description)}


def export(
    model: keras.Model,
    path: "PathLike",
    *,
    class_names: Any = None,
    image_shape: tuple[int, int, int] | None = None,
    dtype: Literal["uint8", "float32"] = "float32",
    several: bool = False,
    int8: bool = False,
    examples: "Data | Images | None" = None,
    most_change: float = 0.01,
    reading: "dict[str, Any] | None" = None,
    verbose: bool = True,
) -> Exported:
    """Write a classifier for other programs, load the file again, and compare its answers with Keras.

    The file includes what the model does to its pixels, its temperature (`evaluate.calibrate`), and the softmax or
    sigmoid that a model of logits lacks. Every file takes `image`, `(n, height, width, channels)` for any n, and gives
    `probabilities`, `(n, classes)`, of which a model of one unit gives two. Class names, and how images are read, are
    in `PATH.json` (`recipes.json` in a folder), in a TFLite file's attached `labels.txt` and `recipes.json`, and in an
    ONNX file's metadata.

    Args:
        model: A trained `keras.Model` of one input and one output `(batch, classes)`.
        path: File to write, whose ending decides the format: ".tflite" (LiteRT), ".onnx", or none for the folder of a
            SavedModel.
        class_names: Names of the classes; None names them by their numbers.
        image_shape: `(height, width, channels)`; None takes the model's input.
        dtype: Dtype of the images that the file takes: "uint8" for 0..255 or "float32".
        several: Whether classes do not exclude one another (a sigmoid each).
        int8: TFLite only: weights and activations become 8-bit integers, about a quarter of the bytes.
        examples: Images, or `(image, label)`, in a `tf.data.Dataset` or arrays, like the training images. The first 32
            are compared; `int8` learns the ranges from the first 200 and is scored on all of them, so it needs labels.
            None compares on noise.
        most_change: Largest change of the accuracy on `examples` that `int8` may cause, in [0, 1].
        reading: More entries for the description, such as how images are read.
        verbose: Print what was written.

    Returns:
        An `Exported`.

    Raises:
        ValueError: for a path with another ending, a folder that holds something, a model of other inputs or
            outputs, `int8` without labeled examples.
        ExportError: when a layer cannot be converted, the file's answers differ from Keras by more than 1e-3 (0.02 for
            models that compute in 16-bit floats), or `int8` changes the accuracy by more than `most_change`. Nothing is
            then left behind.
        ImportError: when a library is missing; `pip install 'keras-recipes[export]'` brings all.
    """
    require_tensorflow("Run.export", "whose converters it uses")
    path = Path(path).expanduser()
    kind = _format(path, int8)
    shape = _check_model(model, image_shape)
    images, labels = _examples(model, examples, shape, dtype)
    if int8 and labels is None:
        raise ValueError(
            "export expects labeled examples with int8=True, to measure what the integers cost. Received none. Give "
            "examples=(images, labels), or a tf.data.Dataset of such pairs."
        )
    activation = output_activation(model)
    expected = _predict(lambda batch: keras.ops.convert_to_numpy(model.predict_on_batch(batch)), images)
    if activation is None and (expected.min() < 0 or expected.max() > 1):
        activation = "linear"
    expected = as_probabilities(expected.astype("float32"), activation, several)
    names = list(map(str, class_names if class_names is not None else range(expected.shape[1])))
    if len(names) != expected.shape[1]:
        raise ValueError(
            f"export expects a name for each of {expected.shape[1]} classes. Received {len(names)}. Leave class_names "
            "out to call them by their numbers."
        )
    described = _description(model, names, shape, dtype, several, int8, reading or {})
    serve = formats.serving_function(
        model if kind == "saved_model" else formats.in_float32(model),
        _to_probabilities(activation, several),
        shape,
        dtype,
        frozen=kind != "saved_model",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        program = _write(kind, made, model, serve, names, described, images[:_SAMPLES] if int8 else None)
        answers = _predict(program, images if int8 else images[:_COMPARED])
        difference = _compare(path, model, answers[:_COMPARED], expected[:_COMPARED], int8)
        accuracy = None
        if int8:
            before, after = (from_probabilities(labels, each).accuracy for each in (expected, answers))
            accuracy = before, after
            _check_accuracy(path, accuracy, most_change, len(labels))
        del program
        described |= {"largest_difference": difference} | ({"accuracy": accuracy} if accuracy else {})
        description = path / "recipes.json" if kind == "saved_model" else Path(f"{path}.json")
        if kind == "saved_model":
            write_json(made / "recipes.json", described)
            if path.is_dir():
                path.rmdir()
            shutil.move(made, path)
        else:
            made.replace(path)
            write_json(description, described)
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    written = Exported(path, description, size, difference, len(answers[:_COMPARED]), accuracy)
    if verbose:
        print(written)
    return written


def _format(path, int8):
    kinds = {".tflite": "tflite", ".onnx": "onnx", "": "saved_model"}
    kind = kinds.get(
        path.suffix.lower() if path.suffix[1:].isalnum() and not path.suffix[1:].isdigit() else ""
    )
    if kind is None:
        raise ValueError(
            f"export expects a path that ends in .tflite or .onnx, or a folder for a SavedModel. Received {path}. "
            "Keras' own format is what Run.save writes."
        )
    if int8 and kind != "tflite":
        raise ValueError(
            f"export expects a .tflite file with int8=True. Received {path}. Leave int8 out, or give a name.tflite."
        )
    if kind == "saved_model" and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        raise ValueError(
            f"export expects a new folder for a SavedModel. Received {path}, which exists. Give another, or remove it."
        )
    if kind != "saved_model" and path.is_dir():
        raise ValueError(f"export expects a file to write. Received {path}, a folder. Give another name.")
    return kind


def _check_model(model, image_shape):
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    shape = tuple(image_shape or (inputs[0].shape[1:] if inputs else ()))
    if len(inputs) > 1 or len(outputs) > 1 or any(len(output.shape) != 2 for output in outputs):
        raise ValueError(
            "export expects a model of one input and one output (batch, classes). Received outputs "
            f"{[tuple(output.shape) for output in outputs]} of {len(inputs)} inputs. Use model.export for others."
        )
    if not shape or None in shape:
        raise ValueError(
            "export expects image_shape=(height, width, channels) for a model of any size. Received "
            f"{shape or None}. Give the shape it was trained with."
        )
    return shape


def _examples(model, examples, shape, dtype):
    """`(images, labels or None)`; the images as the file takes them."""
    if examples is None:
        highest = 256 if dtype == "uint8" else 1
        noise = np.random.default_rng(0).uniform(0, highest, (_COMPARED, *shape))
        return noise.astype(dtype), None
    batches = list(as_batches(examples, model, batch_size=64, caller="export", name="examples"))
    images = np.concatenate([np.asarray(batch[0]) for batch in batches])
    if images.shape[1:] != shape:
        raise ValueError(
            f"export expects examples of shape {shape}. Received {images.shape[1:]}. Read them as in training."
        )
    if dtype == "uint8" and images.dtype != np.uint8:
        images = np.clip(np.rint(images), 0, 255)
    labels = np.concatenate([np.asarray(batch[1]) for batch in batches]) if len(batches[0]) > 1 else None
    return images.astype(dtype), labels


def _predict(program, images, batch_size=64):
    parts = [program(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return np.concatenate(parts)


def _to_probabilities(activation, several):
    """The same in TensorFlow as `as_probabilities` in NumPy."""

    def convert(outputs):
        single = outputs.shape[-1] == 1
        if activation == "linear":
            outputs = tf.sigmoid(outputs) if single or several else tf.nn.softmax(outputs)
        return tf.concat([1 - outputs, outputs], axis=-1) if single else outputs

    return convert


def _description(model, names, shape, dtype, several, int8, reading):
    temperatures = [layer.temperature for layer in model.layers if isinstance(layer, Temperature)]
    return {
        "input": {"name": formats.INPUT, "dtype": dtype, "shape": [None, *shape]},
        "output": {"name": formats.OUTPUT, "shape": [None, len(names)]},
        "value_range": [0, 255] if dtype == "uint8" else None,
        "class_names": names,
        "several_labels": several,
        "temperature": temperatures[0] if temperatures else None,
        "int8": int8,
        **reading,
        "versions": {"keras-recipes": __version__, "keras": keras.version(), "tensorflow": tf.__version__},
    }


def _write(kind, path, model, serve, names, described, samples):
    labels = "".join(" ".join(name.split()) + "\n" for name in names)  # one per line
    text = json.dumps(described, ensure_ascii=False)
    try:
        if kind == "tflite":
            formats.write_tflite(path, serve, labels, text, samples)
            return formats.read_tflite(path)
        if kind == "onnx":
            formats.write_onnx(path, serve, labels, text)
            return formats.read_onnx(path)
        formats.write_saved_model(path, model, serve)
        return formats.read_saved_model(path)
    except (ImportError, OSError):
        raise
    except Exception as error:  # converters raise what they like
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ExportError(
            f"export expects a model whose layers {_CONVERTERS[kind]} knows. Received {model.name!r}, at which it "
            f"stopped: {reason}. The file was not kept; export to another format."
        ) from error


def _compare(path, model, answers, expected, int8):
    difference = float(np.abs(answers - expected).max())
    exact = model.dtype_policy.compute_dtype == "float32" and keras.config.floatx() == "float32"
    if int8:
        tolerance = np.inf
    else:
        tolerance = _TOLERANCE if exact else _TOLERANCE_HALF
    if not difference <= tolerance:  # NaN is none either
        raise ExportError(
            f"export expects {path} to answer as Keras does. Received probabilities that differ by {difference:.2g} on "
            f"{len(expected)} images. The file was not kept; export to another format, and report the model."
        )
    return difference


def _check_accuracy(path, accuracy, most_change, count):
    if abs(accuracy[0] - accuracy[1]) > most_change + 1e-9:
        raise ExportError(
            f"export expects int8 to change the accuracy by at most {most_change:.1%}. Received {accuracy[0]:.2%} in "
            f"Keras and {accuracy[1]:.2%} in {path} on {count} examples. The file was not kept; leave int8 out, or "
            "give more examples."
        )
