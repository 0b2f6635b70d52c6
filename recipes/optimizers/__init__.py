"""Optimizers that Keras does not have: orthogonalized momentum for dense and convolutional kernels."""

from recipes.optimizers.muon_sgd import MuonSGD as MuonSGD
from recipes.optimizers.muon_sgd import for_any_keras as for_any_keras
from recipes.optimizers.muon_sgd import save_for_any_keras as save_for_any_keras

__all__ = ["MuonSGD", "for_any_keras", "save_for_any_keras"]
