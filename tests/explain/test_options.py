"""Options that many functions share: one default, one check, one place."""

import ast
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest

import recipes
from recipes import explain, plot
from recipes.explain.engine.options import AttributionOptions, Defaults, defaults_of

FOLDER = Path(recipes.__file__).parent
ATTRIBUTIONS = [
    getattr(explain, name)
    for name in (
        *(
            "saliency",
            "gradient_times_input",
            "smooth_grad",
            "integrated_gradients",
            "guided_backprop",
            "deconvnet",
        ),
        *(
            "guided_grad_cam",
            "class_activation_map",
            "grad_cam",
            "grad_cam_plus_plus",
            "layer_cam",
            "score_cam",
        ),
        *("hires_cam", "xgrad_cam", "eigen_cam", "ablation_cam", "finer_cam", "occlusion", "rise"),
        *("attention_rollout", "attention_relevance"),
    )
]
SEEDED = (explain.smooth_grad, explain.rise)


@pytest.fixture(scope="module")
def model():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize("method", ATTRIBUTIONS, ids=lambda method: method.__name__)
def test_every_attribution_refuses_the_same_nonsense(method, model):
    image = np.zeros((1, 6, 6, 1), "float32")
    for option, value in (
        *(("compile", "banana"), ("compile", None), ("score", "loud"), ("verbose", "loud"), ("verbose", 3)),
        *(("batch_size", 0), ("batch_size", 2.0), ("batch_size", True)),
    ):
        with pytest.raises(
            ValueError, match=rf"{method.__name__} expects {option} to be .* Received {option}={value!r}"
        ):
            method(model, image, 0, **{option: value})
    with pytest.raises(TypeError, match="'scroe'. Did you mean 'score'?"):
        method(model, image, 0, scroe="logits")
    if method not in SEEDED:
        with pytest.raises(TypeError, match="unexpected keyword argument 'seed'"):
            method(model, image, 0, seed=1)


@pytest.mark.parametrize("method", ATTRIBUTIONS, ids=lambda method: method.__name__)
def test_help_shows_the_shared_options_with_their_defaults(method):
    shown = {name: one.default for name, one in inspect.signature(method).parameters.items()}
    expected = defaults_of(AttributionOptions)
    if method in (explain.score_cam, explain.rise):
        expected["score"] = "probability"
    assert {name: shown[name] for name in expected} == expected
    assert ("seed" in shown) == (method in SEEDED)


def test_shared_defaults_stand_once():
    """No function of explain gives batch_size, compile or score a default of its own beside `shares`."""
    found = []
    for file in (FOLDER / "explain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                pairs = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                pairs = [*pairs, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
                found += [
                    (file.name, node.name)
                    for argument, default in pairs
                    if argument.arg == "batch_size" and getattr(default, "value", None) == Defaults.batch_size
                ]
    assert found == []


def test_options_reach_the_pass_they_are_for(model):
    images = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype("float32")
    logits = explain.saliency(model, images, 1, reduce=None)
    squashed = keras.Sequential([model, keras.layers.Softmax()])
    probability = explain.saliency(squashed, images, 1, reduce=None, score="probability", batch_size=2)
    values = squashed.predict(images, verbose=0)
    other = explain.saliency(model, images, 0, reduce=None)
    expected = (values[:, 1] * values[:, 0])[:, None, None, None] * (logits - other)
    np.testing.assert_allclose(probability, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("package", [explain, plot], ids=["explain", "plot"])
def test_dir_shows_public_names_alone(package):
    assert dir(package) == sorted(package.__all__)
    assert not [name for name in dir(package) if inspect.ismodule(getattr(package, name))]


@pytest.mark.parametrize("package", ["explain", "plot"])
def test_public_functions_are_annotated(package):
    bare = []
    for file in (FOLDER / package).rglob("*.py"):
        if "engine" in file.parts:
            continue
        tree = ast.parse(file.read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
        for scope in (tree, *classes):
            for node in scope.body:
                if isinstance(node, ast.FunctionDef) and (
                    node.name[0] != "_" or node.name in ("__init__", "__call__", "__str__")
                ):
                    given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                    given += [one for one in (node.args.vararg, node.args.kwarg) if one]
                    bare += [
                        f"{file.name}: {node.name}({one.arg})"
                        for one in given
                        if one.annotation is None and one.arg != "self"
                    ]
                    bare += [f"{file.name}: {node.name} -> ?"] if node.returns is None else []
    assert bare == []


def test_no_function_of_explain_is_longer_than_sixty_lines():
    """Code alone: docstrings and signatures do not count."""
    found = {}
    for file in (FOLDER / "explain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                found[node.name] = body[-1].end_lineno - body[0].lineno + 1 if body else 0
    assert {name: lines for name, lines in found.items() if lines > 60} == {}
