"""Keras callbacks, installed as `recipes.callbacks`: pass them to your own `model.fit`."""

from recipes.callbacks.activation_monitor import ActivationMonitor as ActivationMonitor
from recipes.callbacks.backup import Backup as Backup
from recipes.callbacks.dead_relu_detector import DeadReluDetector as DeadReluDetector
from recipes.callbacks.default_monitors import default_monitors as default_monitors
from recipes.callbacks.early_stopping import EarlyStopping as EarlyStopping
from recipes.callbacks.example_margins import ExampleMargins as ExampleMargins
from recipes.callbacks.exponential_moving_average import ExponentialMovingAverage as ExponentialMovingAverage
from recipes.callbacks.fast_geometric_ensembling import FastGeometricEnsembling as FastGeometricEnsembling
from recipes.callbacks.gradient_monitor import GradientMonitor as GradientMonitor
from recipes.callbacks.learning_rate import LearningRate as LearningRate
from recipes.callbacks.monitor import Monitor as Monitor
from recipes.callbacks.non_finite_guard import NonFiniteError as NonFiniteError
from recipes.callbacks.non_finite_guard import NonFiniteGuard as NonFiniteGuard
from recipes.callbacks.rate_driver import RateDriver as RateDriver
from recipes.callbacks.snapshot_ensemble import SnapshotEnsemble as SnapshotEnsemble
from recipes.callbacks.stochastic_weight_averaging import (
    StochasticWeightAveraging as StochasticWeightAveraging,
)
from recipes.callbacks.training_doctor import TrainingDoctor as TrainingDoctor
from recipes.callbacks.unfreeze import Unfreeze as Unfreeze
from recipes.callbacks.update_ratio_monitor import UpdateRatioMonitor as UpdateRatioMonitor
from recipes.callbacks.warmup_decay import WarmupDecay as WarmupDecay

__all__ = [
    "ActivationMonitor",
    "Backup",
    "DeadReluDetector",
    "EarlyStopping",
    "ExampleMargins",
    "ExponentialMovingAverage",
    "FastGeometricEnsembling",
    "GradientMonitor",
    "LearningRate",
    "Monitor",
    "NonFiniteError",
    "NonFiniteGuard",
    "RateDriver",
    "SnapshotEnsemble",
    "StochasticWeightAveraging",
    "TrainingDoctor",
    "Unfreeze",
    "UpdateRatioMonitor",
    "WarmupDecay",
    "default_monitors",
]
