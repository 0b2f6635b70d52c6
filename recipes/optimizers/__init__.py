"""Optimizers that Keras does not have: orthogonalized momentum for kernels of any rank, a rate for each layer."""

from recipes.optimizers.muon_sgd import MuonSGD as MuonSGD

__all__ = ["MuonSGD"]
