"""Training on several machines with TensorFlow: a strategy under which Keras' own `fit`, `evaluate`, `predict` work."""

from recipes.distribution.lost import LostWorkerError as LostWorkerError
from recipes.distribution.multi_worker import MultiWorkerStrategy as MultiWorkerStrategy

__all__ = ["LostWorkerError", "MultiWorkerStrategy"]
