"""noise_response: the classes that a network sees in noise."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from recipes.common.types import NoiseResponseLike
from recipes.plot.canvas import displayable, new_figure


def noise_response(
    found: NoiseResponseLike,
    *,
    class_names: Sequence[str] | None = None,
    most: int = 10,
    title: str | None = None,
) -> Figure:
    """Draw what `explain.noise_response` measured: how often each class was seen, and some of the noise.

    Args:
        found: Its result.
        class_names: None, or the name of each class.
        most: Number of classes drawn, the most frequent ones, >= 1.
        title: Text above all; by default the mean confidence.

    Returns:
        A matplotlib `Figure`.
    """
    order = np.argsort(-found.share, kind="stable")[:most]
    names = [str(number) if class_names is None else str(class_names[number]) for number in order]
    figure = new_figure(7, 3)
    bars, sample = figure.subplots(1, 2, width_ratios=(2, 1))
    bars.barh(range(len(order)), found.share[order], color="tab:blue")
    bars.axvline(1 / len(found.share), color="gray", linestyle="--", linewidth=1)
    bars.set_yticks(range(len(order)), names)
    bars.invert_yaxis()
    bars.set_xlabel("share of the noise images (dashed: equal shares)")
    first = displayable(found.images[0], "plot.noise_response")
    sample.imshow(first, vmin=0, vmax=1)
    sample.set_title(f"one of {len(found.images)}", fontsize=8)
    sample.set_axis_off()
    figure.suptitle(title or f"Noise: mean confidence {found.confidence:.0%}")
    return figure
