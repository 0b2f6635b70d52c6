"""Layers that Keras does not have, one per file; they run on any Keras backend."""

from recipes.layers.add_l1_l2 import add_l1_l2
from recipes.layers.drop_connect import DropConnect
from recipes.layers.fractional_max_pooling import FractionalMaxPooling2D
from recipes.layers.identity_shortcut import IdentityShortcut
from recipes.layers.instance_normalization import InstanceNormalization
from recipes.layers.max_norm import MaxNorm
from recipes.layers.maxout import Maxout
from recipes.layers.maxout_conv import MaxoutConv2D
from recipes.layers.scalar_affine import ScalarAffine
from recipes.layers.stochastic_depth import StochasticDepth, linear_decay

__all__ = [
    "DropConnect",
    "FractionalMaxPooling2D",
    "IdentityShortcut",
    "InstanceNormalization",
    "MaxNorm",
    "Maxout",
    "MaxoutConv2D",
    "ScalarAffine",
    "StochasticDepth",
    "add_l1_l2",
    "linear_decay",
]
