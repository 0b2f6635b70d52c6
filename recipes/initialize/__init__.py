"""Initial weights that depend on the data or on the whole network; they run on any Keras backend."""

from recipes.initialize.compare import COMMON_SCHEMES, ActivationHistogram, compare
from recipes.initialize.fixup import Fixup
from recipes.initialize.lsuv import LSUVLayer, lsuv
from recipes.initialize.output_bias_prior import output_bias_prior

__all__ = [
    "ActivationHistogram",
    "COMMON_SCHEMES",
    "Fixup",
    "LSUVLayer",
    "compare",
    "lsuv",
    "output_bias_prior",
]
