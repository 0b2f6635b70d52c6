"""Layers that Keras does not have, one a file; they run on any Keras backend."""

from recipes.layers.add_l1_l2 import add_l1_l2 as add_l1_l2
from recipes.layers.drop_connect import DropConnect as DropConnect
from recipes.layers.fractional_max_pooling import FractionalMaxPooling2D as FractionalMaxPooling2D
from recipes.layers.identity_shortcut import IdentityShortcut as IdentityShortcut
from recipes.layers.instance_normalization import InstanceNormalization as InstanceNormalization
from recipes.layers.max_norm import MaxNorm as MaxNorm
from recipes.layers.maxout import Maxout as Maxout
from recipes.layers.maxout_conv import MaxoutConv2D as MaxoutConv2D
from recipes.layers.scalar_affine import ScalarAffine as ScalarAffine
from recipes.layers.stochastic_depth import StochasticDepth as StochasticDepth
from recipes.layers.stochastic_depth import linear_decay as linear_decay
