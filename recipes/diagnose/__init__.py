"""Checks before training, rules that judge a training run, and findings with evidence and remedy."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipes.diagnose.checks.activation_statistics import activation_statistics as activation_statistics
    from recipes.diagnose.checks.data_check import data_check as data_check
    from recipes.diagnose.checks.gradient_check import GradientReport as GradientReport
    from recipes.diagnose.checks.gradient_check import gradient_check as gradient_check
    from recipes.diagnose.checks.initial_loss import initial_loss as initial_loss
    from recipes.diagnose.checks.learning_rate_range_test import (
        learning_rate_range_test as learning_rate_range_test,
    )
    from recipes.diagnose.checks.overfit_small_sample import overfit_small_sample as overfit_small_sample
    from recipes.diagnose.checks.preflight import Preflight as Preflight
    from recipes.diagnose.checks.preflight import preflight as preflight
    from recipes.diagnose.finding import Finding as Finding
    from recipes.diagnose.images.image_issues import ImageIssues as ImageIssues
    from recipes.diagnose.images.image_issues import image_issues as image_issues
    from recipes.diagnose.images.near_duplicates import DuplicatePair as DuplicatePair
    from recipes.diagnose.images.near_duplicates import Duplicates as Duplicates
    from recipes.diagnose.images.near_duplicates import near_duplicates as near_duplicates
    from recipes.diagnose.margins.doubtful_labels import LabelIssues as LabelIssues
    from recipes.diagnose.margins.label_issues import label_issues as label_issues
    from recipes.diagnose.remedies.try_remedies import RemedyTrial as RemedyTrial
    from recipes.diagnose.remedies.try_remedies import Trials as Trials
    from recipes.diagnose.remedies.try_remedies import try_remedies as try_remedies
    from recipes.diagnose.rules.diagnose import diagnose as diagnose
    from recipes.diagnose.rules.read_curves import read_curves as read_curves
    from recipes.diagnose.speed.slowdown import Slowdown as Slowdown
    from recipes.diagnose.speed.throughput import Throughput as Throughput
    from recipes.diagnose.speed.throughput import throughput as throughput

# The module of each name. Names are imported on first use: curves and data can be judged on any Keras backend, but
# checks of layers need TensorFlow.
_HOMES = {
    "ImageIssues": "images.image_issues",
    "LabelIssues": "margins.doubtful_labels",
    "image_issues": "images.image_issues",
    "label_issues": "margins.label_issues",
    "DuplicatePair": "images.near_duplicates",
    "near_duplicates": "images.near_duplicates",
    "Duplicates": "images.near_duplicates",
    "Finding": "finding",
    "GradientReport": "checks.gradient_check",
    "Preflight": "checks.preflight",
    "RemedyTrial": "remedies.try_remedies",
    "Slowdown": "speed.slowdown",
    "Throughput": "speed.throughput",
    "Trials": "remedies.try_remedies",
    "activation_statistics": "checks.activation_statistics",
    "data_check": "checks.data_check",
    "diagnose": "rules.diagnose",
    "gradient_check": "checks.gradient_check",
    "initial_loss": "checks.initial_loss",
    "learning_rate_range_test": "checks.learning_rate_range_test",
    "overfit_small_sample": "checks.overfit_small_sample",
    "preflight": "checks.preflight",
    "read_curves": "rules.read_curves",
    "throughput": "speed.throughput",
    "try_remedies": "remedies.try_remedies",
}

__all__ = [
    "DuplicatePair",
    "Duplicates",
    "ImageIssues",
    "LabelIssues",
    "image_issues",
    "label_issues",
    "near_duplicates",
    "Finding",
    "GradientReport",
    "Preflight",
    "RemedyTrial",
    "Slowdown",
    "Throughput",
    "Trials",
    "activation_statistics",
    "data_check",
    "diagnose",
    "gradient_check",
    "initial_loss",
    "learning_rate_range_test",
    "overfit_small_sample",
    "preflight",
    "read_curves",
    "throughput",
    "try_remedies",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}.")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
