"""A Figure as part of a web page: SVG that takes the page's colors, or PNG as a data URL."""

import base64
import html
import io
import re
import warnings

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from recipes.plot.canvas import displayable

_EDGE = 0.04  # inches around a panel
_PIXELS_PER_INCH = 110  # of a map of colors within a drawing


def to_svg(figure: Figure, description: str) -> str:
    """Turn a Figure into an `<svg>` element that needs nothing else.

    Black becomes the text color of the page and white backgrounds become transparent, so that it is readable on
    light and dark pages alike. Text stays text. Screen readers are given the description.

    Args:
        figure: A matplotlib `Figure`.
        description: What it shows, for those who do not see it.

    Returns:
        str, markup; everything in it is escaped.
    """
    return _markup(figure, description, None)


def to_svgs(figure: Figure, description: str) -> list[str]:
    """Turn each panel of a Figure into an `<svg>` of its own, which a page sets side by side or below one another.

    So a figure of several panels keeps letters of one size on a wide screen and on a phone. All panels are as wide as
    the widest; a color bar stands last. Texts of the figure that belong to no panel are left out.

    Args:
        figure: A matplotlib `Figure`, which cannot be drawn again as it was.
        description: As `to_svg` takes it; the title of each panel stands before it.

    Returns:
        list of str, as `to_svg` gives them: one for each panel that is not switched off.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    panels.sort(key=_is_bar)
    if len(panels) < 2:
        return [to_svg(figure, description)]
    boxes = [axes.get_tightbbox().transformed(figure.dpi_scale_trans.inverted()) for axes in panels]
    width = max(box.width for axes, box in zip(panels, boxes, strict=True) if not _is_bar(axes))
    for text in figure.texts:
        text.set_visible(False)
    made = []
    for number, (shown, box) in enumerate(zip(panels, boxes, strict=True), start=1):
        for axes in figure.axes:
            axes.set_visible(axes is shown)
        right = box.x1 if _is_bar(shown) else box.x0 + width
        place = Bbox.from_extents(box.x0 - _EDGE, box.y0 - _EDGE, right + _EDGE, box.y1 + _EDGE)
        name = " ".join((shown.get_title() or shown.get_xlabel()).split())
        told = f"Panel {number} of {len(panels)}: {name}. {description}"
        made.append(_markup(figure, told, place))
    return made


def _is_bar(axes):
    return axes.get_label() == "<colorbar>"


def _markup(figure, description, place):
    """The `<svg>` of a figure, or of a place in it, a `Bbox` in inches."""
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recipes"}),
        warnings.catch_warnings(),
    ):
        # Letters that matplotlib's font lacks are drawn by the browser.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        about = {"Date": None, "Creator": None}
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=about, bbox_inches=place, dpi=_PIXELS_PER_INCH
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#(000000|262626)\b", "currentColor", svg)
    svg = svg.replace('<style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style>', "")
    # The page draws the glyphs. matplotlib writes no color for black text, so the color is set here for all of it.
    label = f'role="img" aria-label="{html.escape(description, quote=True)}" fill="currentColor"'
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', rf"<svg {_escape_group(label)} \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    # Ids of clip paths are the same in equal figures; make them the figure's own, and short.
    mark = f"f{abs(hash((description, len(svg)))) % 10**8}-"
    used = dict.fromkeys(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', svg))
    short = {name: f"{mark}{number:x}" for number, name in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{short[found[1]]}"' if found[1] in short else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{short[found[1]]})", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', lambda found: f'href="#{short[found[1]]}"', svg)
    return _thinned(svg)


def _thinned(svg):
    """The same picture in fewer bytes: a hundredth of a point is exact enough, points of a line share their style."""
    svg = re.sub(
        r' (?:d|x|y|transform)="[^"]*"', lambda place: re.sub(r"(\d\.\d\d)\d+", r"\1", place[0]), svg
    )
    use = r'<use href="{}" x="([^"]+)" y="([^"]+)" style="{}"/>\s*'
    first = use.format('(?P<to>#[^"]+)', '(?P<style>[^"]+)')
    alike = f"{first}(?:{use.format('(?P=to)', '(?P=style)')})+"

    def together(run):
        places = re.findall(r' x="[^"]+" y="[^"]+"', run[0])
        points = "".join(f'<use href="{run["to"]}"{place}/>' for place in places)
        return f'<g style="{run["style"]}">{points}</g>\n'

    return re.sub(alike, together, svg)


def image_data_url(image: ArrayLike, *, side: int = 112) -> str:
    """Turn one image into the `src` of an `<img>`: small ones as they are (the page enlarges them), photos as JPEG.

    Args:
        image: `(height, width, channels)`, uint8 or float as `recipes.plot.grid` takes it.
        side: Pixels of the larger side up to which every pixel is kept exactly, as PNG.
    """

    shown = np.clip(displayable(image, "recipes.report"), 0, 1)
    thin = max(1, max(shown.shape[:2]) // (3 * side))
    shown = shown[::thin, ::thin]
    kind = "png" if max(shown.shape[:2]) <= side else "jpeg"
    buffer = io.BytesIO()
    imsave(
        buffer,
        shown,
        format=kind,
        pil_kwargs={"optimize": True} | ({"quality": 80} if kind == "jpeg" else {}),
    )
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def _escape_group(text):
    return text.replace("\\", "\\\\")
