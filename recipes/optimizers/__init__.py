"""Optimizers that Keras does not have: orthogonalized momentum, and a learning rate per layer."""

from recipes.optimizers.for_any_keras import for_any_keras as for_any_keras
from recipes.optimizers.for_any_keras import save_for_any_keras as save_for_any_keras
from recipes.optimizers.layerwise import adopt_variables as adopt_variables
from recipes.optimizers.layerwise import begin_updates as begin_updates
from recipes.optimizers.layerwise import layerwise as layerwise
from recipes.optimizers.layerwise import layerwise_class as layerwise_class
from recipes.optimizers.layerwise import make_layerwise as make_layerwise
from recipes.optimizers.muon_sgd import MuonSGD as MuonSGD
from recipes.optimizers.rate_factors import matches as matches
from recipes.optimizers.rate_factors import rate_factors as rate_factors

__all__ = [
    "MuonSGD",
    "adopt_variables",
    "begin_updates",
    "for_any_keras",
    "layerwise",
    "layerwise_class",
    "make_layerwise",
    "matches",
    "rate_factors",
    "save_for_any_keras",
]
