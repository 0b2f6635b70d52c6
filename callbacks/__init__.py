"""Keras callbacks, installed as `recipes.callbacks`: pass them to your own `model.fit`."""

from recipes.callbacks.learning_rate import LearningRate as LearningRate
from recipes.callbacks.warmup_decay import WarmupDecay as WarmupDecay
