"""How good a trained classifier is, and how far its probabilities can be trusted."""

from recipes.evaluate.classifier import Evaluation, classifier, from_probabilities
from recipes.evaluate.paired import PairedComparison, mcnemar, paired_comparison
from recipes.evaluate.temperature import Temperature, calibrate

__all__ = [
    "Evaluation",
    "PairedComparison",
    "Temperature",
    "calibrate",
    "classifier",
    "from_probabilities",
    "mcnemar",
    "paired_comparison",
]
