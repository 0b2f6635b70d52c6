"""How good a trained classifier is, and how far its probabilities can be trusted."""

from recipes.evaluate.best_thresholds import thresholds, thresholds_from_probabilities
from recipes.evaluate.classifier import classifier, from_probabilities
from recipes.evaluate.conformal import ConformalSets, conformal, conformal_from_probabilities
from recipes.evaluate.evaluation import Evaluation, Mistake
from recipes.evaluate.out_of_distribution import OutOfDistribution, out_of_distribution
from recipes.evaluate.paired import PairedComparison, mcnemar, paired_comparison
from recipes.evaluate.temperature import Temperature, VectorScaling, calibrate

__all__ = [
    "ConformalSets",
    "Evaluation",
    "Mistake",
    "OutOfDistribution",
    "PairedComparison",
    "Temperature",
    "VectorScaling",
    "calibrate",
    "classifier",
    "conformal",
    "conformal_from_probabilities",
    "from_probabilities",
    "mcnemar",
    "out_of_distribution",
    "paired_comparison",
    "thresholds",
    "thresholds_from_probabilities",
]
