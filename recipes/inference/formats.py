"""Files that other programs run: a traced function written as TFLite, ONNX or SavedModel, and read again."""

import contextlib
import inspect
import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.files import write_atomically
from recipes.common.models import rebuild
from recipes.common.optional import optional
from recipes.common.traversal import layers_of

INPUT, OUTPUT = "image", "probabilities"
_OPSET = 17  # of ONNX, which every runtime since 2022 reads

#: A file that was loaded again, as a function: images `(n, ...)` -> float32 `(n, classes)`.
Program = Callable[[np.ndarray], np.ndarray]


def serving_function(
    model: keras.Model,
    to_probabilities: Callable[[Any], Any],
    shape: Sequence[int],
    dtype: str,
    *,
    frozen: bool,
) -> tf.types.experimental.PolymorphicFunction:
    """From images to probabilities in one graph, for any number of images.

    Args:
        model: A built `keras.Model` of one input.
        to_probabilities: function `(outputs) -> probabilities` of tensors.
        shape: `(height, width, channels)` of one image.
        dtype: Dtype of the images, "uint8" or "float32".
        frozen: Whether weights are constants: TensorFlow 2.21 converts variables to TFLite as empty ones, whose
            answers are NaN.
    """
    trainable = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    others = [keras.ops.convert_to_numpy(variable) for variable in model.non_trainable_variables]

    accepted = inspect.signature(model.call).parameters
    inference = {"training": False} if "training" in accepted else {}  # a user's own `call` may not take it

    def serve(image):
        image = tf.cast(image, tf.float32)
        if frozen:
            weights = [[tf.constant(array) for array in arrays] for arrays in (trainable, others)]
            outputs, _ = model.stateless_call(*weights, image, **inference)
        else:
            outputs = model(image, **inference)
        return {OUTPUT: to_probabilities(tf.cast(outputs, tf.float32))}

    spec = tf.TensorSpec((None, *shape), dtype, name=INPUT)
    return tf.function(serve, input_signature=[spec], autograph=False)


def in_float32(model: keras.Model) -> keras.Model:
    """A copy, computing in 32-bit floats, of a model that computes in 16-bit ones, which few runtimes can do.

    Args:
        model: A built `keras.Model`. One in float32, or one that Keras cannot build again, is returned as it is.
    """
    if all(layer.compute_dtype == "float32" for layer in layers_of(model)):
        return model
    try:
        copy = rebuild(model, "float32")
    except ValueError:  # a subclassed one; the comparison after the export will tell
        return model
    copy.set_weights(model.get_weights())
    return copy


def write_tflite(path: Path, serve: Any, labels: str, description: str, samples: np.ndarray | None) -> None:
    """Write a TFLite file; `labels.txt` and `recipes.json` are attached to it as a zip file, where Android looks.

    Args:
        path: File to write.
        serve: A frozen `serving_function`.
        labels: Class names, one per line.
        description: JSON.
        samples: Images `(n, height, width, channels)` that show the range of every activation, for 8-bit integers;
            None keeps float32.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], tf.Module())
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({INPUT: image[None]} for image in samples)
    with _quiet():
        content = converter.convert()
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", labels)
        archive.writestr("recipes.json", description)
    write_atomically(path, lambda file: file.write_bytes(buffer.getvalue()))


def read_tflite(path: Path) -> Program:
    """Run a TFLite file with LiteRT's interpreter, or TensorFlow's own where that is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an optional library
        except ImportError:
            Interpreter = tf.lite.Interpreter
        runner = Interpreter(model_path=os.fspath(path)).get_signature_runner()
    return lambda images: runner(**{INPUT: images})[OUTPUT]


def write_onnx(path: Path, serve: Any, labels: str, description: str) -> None:
    """Write an ONNX file; class names and description are its metadata `labels` and `recipes`."""
    tf2onnx = optional("Run.export", "tf2onnx", "tf2onnx", "export")
    onnx = optional("Run.export", "onnx", "ONNX", "export")
    with _quiet():
        proto, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=_OPSET)
    onnx.helper.set_model_props(proto, {"labels": labels, "recipes": description})
    write_atomically(path, lambda file: onnx.save(proto, os.fspath(file)))


def read_onnx(path: Path) -> Program:
    """Run an ONNX file with onnxruntime."""
    onnxruntime = optional("Run.export", "onnxruntime", "onnxruntime", "export")
    program = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return lambda images: program.run([OUTPUT], {INPUT: images})[0]


def write_saved_model(path: Path, model: keras.Model, serve: Any) -> None:
    """Write a SavedModel folder with the signature `serving_default`."""
    module = tf.Module()
    module.model, module.serve = model, serve
    with _quiet():
        tf.saved_model.save(module, os.fspath(path), signatures={"serving_default": serve})


def read_saved_model(path: Path) -> Program:
    """Run a SavedModel folder with TensorFlow."""
    loaded = tf.saved_model.load(os.fspath(path))
    run = loaded.signatures["serving_default"]
    # The function lives as long as what it was loaded with.
    return lambda images, _loaded=loaded: run(**{INPUT: tf.constant(images)})[OUTPUT].numpy()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the output of converters, and their warnings about their own use of old interfaces."""
    before = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        tf.get_logger().setLevel(before)
