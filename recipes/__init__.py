"""The bag of tricks for Keras 3 on TensorFlow.

Train a network with every trick the lectures teach, see why it is not learning, see what it learned.
Each package below is imported on first use, so `import recipes` takes almost no time:

    recipes.train(model, data)      recipes.data        recipes.preprocess   recipes.augment
    recipes.layers                  recipes.initialize  recipes.models       recipes.schedules
    recipes.callbacks               recipes.probe       recipes.diagnose     recipes.ensemble
    recipes.explain                 recipes.tune        recipes.plot         recipes.report
    recipes.evaluate                recipes.inference   recipes.distribution
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._version import __version__ as __version__

if TYPE_CHECKING:  # tells an editor the names that `__getattr__` below imports at run time
    from recipes import augment as augment
    from recipes import averaging as averaging
    from recipes import callbacks as callbacks
    from recipes import checkpoints as checkpoints
    from recipes import cli as cli
    from recipes import common as common
    from recipes import data as data
    from recipes import diagnose as diagnose
    from recipes import distribution as distribution
    from recipes import ensemble as ensemble
    from recipes import evaluate as evaluate
    from recipes import explain as explain
    from recipes import inference as inference
    from recipes import initialize as initialize
    from recipes import layers as layers
    from recipes import models as models
    from recipes import optimizers as optimizers
    from recipes import plot as plot
    from recipes import preprocess as preprocess
    from recipes import probe as probe
    from recipes import report as report
    from recipes import schedules as schedules
    from recipes import training as training
    from recipes import tune as tune
    from recipes.training.cross_validation import cross_validate as cross_validate
    from recipes.training.run import Run as Run
    from recipes.training.run import load_run as load_run
    from recipes.training.runs_compared import compare as compare
    from recipes.training.train import train as train

# In a checkout, the folder `callbacks` lies beside this one; in an installed package, it lies inside.
if not (Path(__file__).parent / "callbacks").is_dir():
    from recipes.common.checkout import ENTRY

    __path__.append(ENTRY)

_PACKAGES = (
    "augment",
    "averaging",
    "callbacks",
    "checkpoints",
    "cli",
    "common",
    "data",
    "diagnose",
    "distribution",
    "ensemble",
    "evaluate",
    "explain",
    "inference",
    "initialize",
    "layers",
    "models",
    "optimizers",
    "plot",
    "preprocess",
    "probe",
    "report",
    "schedules",
    "training",
    "tune",
)
_FRONT_DOOR = {
    "train": "recipes.training.train",
    "Run": "recipes.training.run",
    "load_run": "recipes.training.run",
    "compare": "recipes.training.runs_compared",
    "cross_validate": "recipes.training.cross_validation",
}
__all__ = [
    "Run",
    "__version__",
    "augment",
    "averaging",
    "callbacks",
    "checkpoints",
    "cli",
    "compare",
    "cross_validate",
    "data",
    "diagnose",
    "distribution",
    "ensemble",
    "evaluate",
    "explain",
    "inference",
    "initialize",
    "layers",
    "load_run",
    "models",
    "optimizers",
    "plot",
    "preprocess",
    "probe",
    "report",
    "schedules",
    "train",
    "training",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"recipes.{name}")
    if name in _FRONT_DOOR:
        return getattr(importlib.import_module(_FRONT_DOOR[name]), name)
    raise AttributeError(f"module 'recipes' has no attribute {name!r}. It has: {', '.join(__dir__())}.")


def __dir__() -> list[str]:
    return sorted(__all__)
