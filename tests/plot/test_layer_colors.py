"""Colors of layers on a light and on a dark page."""

import numpy as np
import pytest

from recipes.plot.canvas import told_apart
from recipes.plot.monitored import depth_colors


def luminance(color):
    """Relative luminance of sRGB from 0 to 1: WCAG 2.1."""
    color = np.asarray(color)
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


@pytest.mark.parametrize("page", ["#ffffff", "#14171c"])
def test_every_layer_is_seen_on_a_page(page):
    behind = luminance([int(page[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    lines = np.array([luminance(color[:3]) for color in depth_colors(200)])
    contrast = (np.maximum(lines, behind) + 0.05) / (np.minimum(lines, behind) + 0.05)
    assert contrast.min() >= 2
    assert (np.diff(lines) >= 0).all()  # dark at the input, light at the output


def test_shortened_names_of_layers_stay_different():
    names = [f"stage{k}_block{n}_depthwise_relu6_of_a_long_network" for k in range(4) for n in range(3)]
    short = told_apart([*names, "top"], 24)
    assert len(set(short)) == 13 and max(map(len, short)) == 24 and short[-1] == "top"
