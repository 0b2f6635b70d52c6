"""attributions: maps of several methods side by side, one row per image."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers
from recipes.plot.canvas import check_size, displayable
from recipes.plot.map_scale import Alone, add_scales, figure_for_maps, is_fine, write_blank
from recipes.plot.overlay import picture


def attributions(
    images: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    titles: Sequence[object] | None = None,
    captions: Mapping[str, Sequence[object]] | None = None,
    layers: Mapping[str, str] | None = None,
    percentile: float = 99,
    opacity: float = 0.6,
    alone: Alone = "auto",
    size: float = 1.7,
    title: str | None = None,
) -> Figure:
    """Show what each method says of each image: rows are images, columns are methods, the image itself comes first.

    Fine maps (gradients) are drawn alone, in gray or, with evidence against, red and blue; coarse ones (of a layer,
    of windows or masks) over the image in gray. Each map is scaled by itself, so its color tells where, not how much; a
    map with the same value everywhere is marked as blank. A bar and a line below say what the colors mean.

    Args:
        images: `(n, height, width, channels)` with 1, 3 or 4 channels, or one image without the first axis;
            uint8 or float.
        maps: `{"Grad-CAM": (n, height, width), ...}`, as the functions of `recipes.explain` give them; raw
            values. A map with negative values is drawn in red (for) and blue (against).
        titles: None, or a text for each image, shown over it.
        captions: None, or `{"Grad-CAM": [text for each image], ...}`, shown under the maps; methods may be
            left out.
        layers: None, or `{"Grad-CAM": name of the layer its maps were taken at, ...}`, shown under the method's name.
        percentile: The magnitude at this percentile of a fine map gets the full color, in (0, 100], so that a few
            extreme pixels do not hide the rest.
        opacity: Opacity of the colors over the image, in [0, 1].
        alone: Whether maps are drawn without the image; `"auto"` decides for each method by its first map that is not
            blank.
        size: Width of an image in inches, 0.05 to 50.
        title: Text above all.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: when `maps` is not a dict.
        ValueError: no maps, maps of another number or size than the images, titles or captions for another
            number of images, an argument out of range.

    Example:
        >>> maps = {"Saliency": explain.saliency(model, images), "Grad-CAM": explain.grad_cam(model, images)}
        >>> attributions(images, maps, titles=names)
    """
    check_size("plot.attributions", size)
    images = as_numbers("plot.attributions", "images", images, None)
    if not isinstance(maps, dict):
        raise TypeError(
            f"plot.attributions expects maps to be a dict from a method's name to its maps. Received "
            f"{type(maps).__name__}. Write {{'Grad-CAM': maps}}."
        )
    single = images.ndim == 3
    images = images[None] if single else images
    maps = {name: np.asarray(values)[None] if single else np.asarray(values) for name, values in maps.items()}
    captions, layers = captions or {}, layers or {}
    _check(images, maps, titles, captions, percentile)
    pictures = {
        name: _pictures(images, values, opacity=opacity, alone=alone, percentile=percentile)
        for name, values in maps.items()
    }
    scales = [scale for column in pictures.values() for _, scale in column]
    lines = 0.2 if titles is not None else 0
    lines += 0.17 * max(
        (str(text).count("\n") + 1 for texts in captions.values() for text in texts), default=0
    )
    height = len(images) * (size * images.shape[1] / images.shape[2] + lines) + 0.25 + (0.15 if layers else 0)
    height += 0.35 if title is not None else 0
    figure, upper = figure_for_maps(size * (len(maps) + 1), height, scales)
    panels = upper.subplots(len(images), len(maps) + 1, squeeze=False)
    for row, image in enumerate(displayable(images, "plot.attributions")):
        panels[row, 0].imshow(image, vmin=0, vmax=1)
        if titles is not None:
            panels[row, 0].set_title(str(titles[row]), fontsize=8, pad=3)
    for column, (name, drawn) in zip(panels[:, 1:].T, pictures.items(), strict=True):
        column[0].set_title(f"{name}\n{layers[name]}" if name in layers else name, fontsize=8, pad=3)
        for row, (axes, (painted, scale)) in enumerate(zip(column, drawn, strict=True)):
            axes.imshow(painted)
            write_blank(axes, scale)
            if name in captions:
                style = {"transform": axes.transAxes, "ha": "center", "va": "top", "fontsize": 7}
                axes.text(0.5, -0.03, str(captions[name][row]), **style)
    for axes in panels.flat:
        axes.set_axis_off()
    add_scales(figure, scales, percentile=percentile)
    if title is not None:
        upper.suptitle(title)
    return figure


def _pictures(images, maps, *, opacity, alone, percentile):
    """A method's pictures and their scales; all of them are drawn alike."""
    if alone == "auto":
        alone = next((is_fine(one) for one in maps if one.max() > one.min()), False)
    options = {"opacity": opacity, "alone": alone, "percentile": percentile}
    return [picture(image, one, **options) for image, one in zip(images, maps, strict=True)]


def _check(images, maps, titles, captions, percentile):
    if not maps or images.ndim != 4 or any(values.shape != images.shape[:3] for values in maps.values()):
        raise ValueError(
            "plot.attributions expects images (n, height, width, channels) and {name: maps (n, height, width)}. "
            f"Received images {images.shape} and maps { {name: values.shape for name, values in maps.items()} }. "
            "Let the explain functions resize their maps, which they do by default."
        )
    lengths = [len(texts) for texts in (captions or {}).values()] + ([] if titles is None else [len(titles)])
    if any(length != len(images) for length in lengths) or set(captions or {}) - set(maps):
        raise ValueError(
            f"plot.attributions expects titles and captions for all {len(images)} images, captions under the names "
            f"of the maps {list(maps)}. Received {lengths} texts, captions for {list(captions or {})}. Give one "
            "text for each image."
        )
    if not 0 < percentile <= 100:
        raise ValueError(
            f"plot.attributions expects a percentile in (0, 100]. Received {percentile}. Leave it out for 99; 100 "
            "gives the largest value the full color."
        )
