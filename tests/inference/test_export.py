"""Exported files, run by the programs that readers run them with, say what Keras says."""

import dataclasses
import json
import zipfile

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from recipes import evaluate
from recipes.inference import ExportError, export
from recipes.training.run import Run

random = np.random.default_rng(0)
CLASSES = ("dark", "bright", "blue")


@pytest.fixture(scope="module")
def run():
    """A run of photos of three kinds, as `data.load` and `recipes.train` leave it, with logits."""
    labels = random.integers(0, 3, 300)
    images = random.normal(90, 30, (300, 12, 12, 3)) + 60 * (labels == 1)[:, None, None, None]
    images[..., 2] += 80 * (labels == 2)[:, None, None]
    images = np.clip(images, 0, 255).astype("uint8")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, padding="same"),
            keras.layers.BatchNormalization(momentum=0.7),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.learning_rate = 0.03
    model.fit(images.astype("float32"), labels, epochs=8, batch_size=25, verbose=0)
    settings = {
        "class_names": list(CLASSES),
        "image_shape": [12, 12, 3],
        "fit": "pad",
        "background": [0, 0, 0],
    }
    return Run(model, {}, settings=settings, class_names=CLASSES, validation=(images, labels))


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_a_tflite_file_says_in_litert_what_keras_says(run, tmp_path, capsys):
    written = run.export(tmp_path / "new" / "m.tflite")
    images = run.validation[0][:50]
    runner = Interpreter(model_path=str(written.path)).get_signature_runner()
    expected = softmax(run.model.predict(images, verbose=0))
    np.testing.assert_allclose(runner(image=images)["probabilities"], expected, atol=1e-5)
    assert written.difference < 1e-5 and written.images == 32 and "e-0" in capsys.readouterr().out
    with zipfile.ZipFile(written.path) as attached:
        assert attached.read("labels.txt").decode().split() == list(CLASSES)
    described = json.loads((tmp_path / "new" / "m.tflite.json").read_text())
    assert described["class_names"] == list(CLASSES) and described["reading"]["fit"] == "pad"
    assert described["input"] == {"name": "image", "dtype": "uint8", "shape": [None, 12, 12, 3]}


def test_an_onnx_file_says_in_onnxruntime_what_the_calibrated_model_says(run, tmp_path):
    calibrated = dataclasses.replace(run, model=evaluate.calibrate(run.model, run.validation))
    written = calibrated.export(tmp_path / "m.onnx", verbose=False)
    images = run.validation[0][:50]
    program = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    temperature = calibrated.model.get_layer("temperature").temperature
    expected = softmax(run.model.predict(images, verbose=0) / temperature)
    np.testing.assert_allclose(program.run(None, {"image": images})[0], expected, atol=1e-5)
    properties = {entry.key: entry.value for entry in onnx.load(written.path).metadata_props}
    assert properties["labels"].split() == list(CLASSES)
    assert json.loads(properties["recipes"])["temperature"] == pytest.approx(temperature)


def test_a_saved_model_says_in_tensorflow_what_keras_says(run, tmp_path):
    written = run.export(tmp_path / "served", calibrated=True, verbose=False)
    serve = tf.saved_model.load(str(written.path)).signatures["serving_default"]
    images = run.validation[0][:7]
    temperature = json.loads(written.description.read_text())["temperature"]
    expected = softmax(run.model.predict(images, verbose=0) / temperature)
    np.testing.assert_allclose(serve(image=tf.constant(images))["probabilities"], expected, atol=1e-5)
    with pytest.raises(ValueError, match="new folder"):
        run.export(written.path)


def test_int8_is_smaller_where_the_accuracy_stays(run, tmp_path):
    whole = run.export(tmp_path / "m.tflite", verbose=False)
    small = run.export(tmp_path / "small.tflite", int8=True, verbose=False)
    images, labels = run.validation
    runner = Interpreter(model_path=str(small.path)).get_signature_runner()
    right = (runner(image=images)["probabilities"].argmax(1) == labels).mean()
    assert small.accuracy[1] == pytest.approx(right) and abs(small.accuracy[0] - right) <= 0.01
    tensors = Interpreter(model_path=str(small.path)).get_tensor_details()
    assert sum(tensor["dtype"] is np.int8 for tensor in tensors) > 5 and small.accuracy[0] > 0.9
    assert whole.accuracy is None


def test_int8_that_costs_accuracy_leaves_no_file(run, tmp_path):
    images, labels = run.validation
    black = np.zeros_like(images[:200])  # ranges from black images cut off everything else
    examples = np.concatenate([black, images]), np.concatenate([np.zeros(200, int), labels])
    with pytest.raises(ExportError, match="at most 1.0%"):
        run.export(tmp_path / "m.tflite", int8=True, examples=examples)
    assert not list(tmp_path.iterdir())


def test_one_sigmoid_becomes_two_classes(tmp_path):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    written = export(model := keras.Sequential(layers), tmp_path / "m.tflite", verbose=False)
    image = random.uniform(0, 1, (1, 4, 4, 1)).astype("float32")
    yes = model.predict(image, verbose=0)[0, 0]
    runner = Interpreter(model_path=str(written.path)).get_signature_runner()
    np.testing.assert_allclose(runner(image=image)["probabilities"], [[1 - yes, yes]], atol=1e-6)


def test_what_cannot_be_exported_is_said_before_anything_is_written(run, tmp_path):
    for path, options, words in (
        ("m.h5", {}, "ends in .tflite"),
        ("m.onnx", {"int8": True}, "int8"),
        ("m.tflite", {"class_names": ["one"]}, "name for each of 3"),
        ("m.tflite", {"examples": (np.zeros((3, 12, 12, 3)),), "int8": True}, "labeled"),
        (
            "m.tflite",
            {"examples": (np.zeros((3, 9, 9, 3)), np.zeros(3))},
            "12 x 12 x 3 in examples.*9 x 9 x 3",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            run.export(tmp_path / path, **options)
    two = keras.Model(inputs := keras.Input((4,)), [inputs, inputs])
    with pytest.raises(ValueError, match="one output"):
        export(two, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


class OfAStudent(keras.Model):
    """A subclassed model whose call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.flatten, self.scores = keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")

    def call(self, images):
        return self.scores(self.flatten(images))


def test_a_subclassed_model_is_exported(tmp_path):
    model, images = OfAStudent(), random.uniform(0, 1, (40, 4, 4, 1)).astype("float32")
    expected = model.predict(images, verbose=0)
    written = export(model, tmp_path / "m.tflite", image_shape=(4, 4, 1), verbose=False)
    runner = Interpreter(model_path=str(written.path)).get_signature_runner()
    np.testing.assert_allclose(runner(image=images)["probabilities"], expected, atol=1e-6)


def test_a_model_of_half_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layers = [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
        model = keras.Sequential(layers)
    finally:
        keras.config.set_dtype_policy("float32")
    written = export(model, tmp_path / "m.tflite", verbose=False)
    types = {entry["dtype"] for entry in Interpreter(model_path=str(written.path)).get_tensor_details()}
    assert np.float16 not in types and 0 < written.difference < 0.02


def test_a_layer_that_no_converter_knows_is_said(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("op Strange is not supported")

    monkeypatch.setattr("tf2onnx.convert.from_function", broken)
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    with pytest.raises(ExportError, match="op Strange"):
        export(keras.Sequential(layers), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
