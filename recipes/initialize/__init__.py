"""Starting weights that look at the data or at the whole network; they run on any Keras backend."""

from recipes.initialize.compare import COMMON_SCHEMES as COMMON_SCHEMES
from recipes.initialize.compare import ActivationHistogram as ActivationHistogram
from recipes.initialize.compare import compare as compare
from recipes.initialize.fixup import Fixup as Fixup
from recipes.initialize.lsuv import LSUVLayer as LSUVLayer
from recipes.initialize.lsuv import lsuv as lsuv
from recipes.initialize.output_bias_prior import output_bias_prior as output_bias_prior
