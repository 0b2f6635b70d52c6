"""The bag of tricks for Keras 3 on TensorFlow.

Train a network with every trick the lectures teach, see why it is not learning, see what it learned.
Each room below is imported on first use, so `import recipes` costs next to nothing:

    recipes.train(model, data)      recipes.data        recipes.preprocess   recipes.augment
    recipes.layers                  recipes.initialize  recipes.models       recipes.schedules
    recipes.callbacks               recipes.probe       recipes.diagnose     recipes.ensemble
    recipes.explain                 recipes.tune        recipes.plot         recipes.report
"""

import importlib
from pathlib import Path

from recipes._version import __version__ as __version__

# In a checkout the callbacks stand beside this folder, not in it; an installed package has them inside.
if not (Path(__file__).parent / "callbacks").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

_ROOMS = (
    "augment",
    "averaging",
    "callbacks",
    "checkpoints",
    "common",
    "data",
    "diagnose",
    "ensemble",
    "explain",
    "initialize",
    "layers",
    "models",
    "plot",
    "preprocess",
    "probe",
    "report",
    "schedules",
    "training",
    "tune",
)
_FRONT_DOOR = {"train": "recipes.training.train", "Run": "recipes.training.run"}


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"recipes.{name}")
    if name in _FRONT_DOOR:
        return getattr(importlib.import_module(_FRONT_DOOR[name]), name)
    raise AttributeError(f"module 'recipes' has no attribute {name!r}. It has: {', '.join(__dir__())}.")


def __dir__():
    return sorted([*_ROOMS, *_FRONT_DOOR, "__version__"])
