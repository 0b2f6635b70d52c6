"""Arrays and results drawn as matplotlib Figures; the only package that imports matplotlib.

Every function returns a `matplotlib.figure.Figure` that no global state holds on to: a notebook shows it when it is the
cell's last value, a script saves it with `figure.savefig("name.png")`.
"""

from recipes.plot.activation_histograms import activation_histograms as activation_histograms
from recipes.plot.activation_statistics import activation_statistics as activation_statistics
from recipes.plot.attributions import attributions as attributions
from recipes.plot.channels import channels as channels
from recipes.plot.compared_curves import compared_curves as compared_curves
from recipes.plot.curves import curves as curves
from recipes.plot.disagreement import disagreement as disagreement
from recipes.plot.finite_layers import finite_layers as finite_layers
from recipes.plot.fooled import fooled as fooled
from recipes.plot.gradient_flow import gradient_flow as gradient_flow
from recipes.plot.grid import grid as grid
from recipes.plot.landscape import landscape as landscape
from recipes.plot.layer_statistics import layer_statistics as layer_statistics
from recipes.plot.learning_rate_range_test import learning_rate_range_test as learning_rate_range_test
from recipes.plot.learning_rates import learning_rates as learning_rates
from recipes.plot.noise_response import noise_response as noise_response
from recipes.plot.overlay import blend as blend
from recipes.plot.overlay import overlay as overlay
from recipes.plot.patches import patches as patches
from recipes.plot.reliability import reliability as reliability
from recipes.plot.search_trials import search_trials as search_trials
from recipes.plot.segments import segments as segments
from recipes.plot.throughput import throughput as throughput
from recipes.plot.thumbnails import thumbnails as thumbnails
from recipes.plot.unit_activity import unit_activity as unit_activity
from recipes.plot.update_ratios import update_ratios as update_ratios

__all__ = [
    "activation_histograms",
    "activation_statistics",
    "attributions",
    "blend",
    "channels",
    "compared_curves",
    "curves",
    "disagreement",
    "finite_layers",
    "fooled",
    "gradient_flow",
    "grid",
    "landscape",
    "layer_statistics",
    "learning_rate_range_test",
    "learning_rates",
    "noise_response",
    "overlay",
    "patches",
    "reliability",
    "search_trials",
    "segments",
    "throughput",
    "thumbnails",
    "unit_activity",
    "update_ratios",
]


def __dir__() -> list[str]:
    return __all__
