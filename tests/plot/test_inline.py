"""Figures as parts of a page: smaller, and still the same picture and words."""

import re

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.inline import image_data_url, to_svg, to_svgs


def drawn(values):
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot(np.arange(len(values)), values, marker=".")
    return figure


def test_texts_keep_all_of_their_digits():
    figure = drawn([0.0981, 0.0992])
    figure.axes[0].set_yticks([0.0985, 0.0990])
    figure.axes[0].set_title("a rate of 0.001234")
    svg = to_svg(figure, "the last is 0.09921")
    assert "0.0985" in svg and "a rate of 0.001234" in svg and "the last is 0.09921" in svg


def test_every_point_of_a_line_is_drawn_where_it_was():
    figure = drawn(np.linspace(0, 1, 50) ** 2)
    axes = figure.axes[0]
    svg = to_svg(figure, "a line")
    group = max(re.findall(r"<g style=[^>]*>((?:<use[^>]*/>)+)</g>", svg), key=len)
    places = np.array(
        [[float(v) for v in re.findall(r' [xy]="([-\d.]+)"', one)] for one in group.split("/>")[:-1]]
    )
    assert places.shape == (50, 2)
    height = figure.get_figheight() * 72
    expected = (
        axes.transData.transform(np.column_stack([np.arange(50), np.linspace(0, 1, 50) ** 2]))
        * 72
        / figure.dpi
    )
    np.testing.assert_allclose(places[:, 0], expected[:, 0], atol=0.011)
    np.testing.assert_allclose(places[:, 1], height - expected[:, 1], atol=0.011)


def test_ids_that_are_used_are_defined_in_the_same_figure():
    svg = to_svg(drawn([1.0, 2.0, 3.0]), "a line")
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    assert used and {a or b for a, b in used} <= set(re.findall(r' id="([^"]+)"', svg))


def test_photos_are_jpeg_and_small_images_exact():
    rng = np.random.default_rng(0)
    small, large = rng.integers(0, 255, (20, 20, 3)).astype("uint8"), np.full((200, 200, 3), 90, "uint8")
    assert image_data_url(small).startswith("data:image/png;base64,")
    assert image_data_url(large).startswith("data:image/jpeg;base64,")


def test_letters_that_the_font_lacks_stay_text():
    figure = drawn([1.0, 2.0])
    figure.axes[0].set_title("猫")
    assert "猫" in to_svg(figure, "a cat")


def test_each_panel_is_a_drawing_of_its_own_of_one_width():
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1])
    left.set(title="first", ylabel="a label")
    right.plot([0, 1], [5, 7])
    right.set_title("second")
    one, two = to_svgs(figure, "both")
    assert "first" in one and "a label" in one and ">second<" not in one
    assert ">second<" in two and "a label" not in two
    assert 'aria-label="Panel 2 of 2: second. both"' in two
    widths = [float(re.search(r'viewBox="\S+ \S+ (\S+) ', svg)[1]) for svg in (one, two)]
    assert widths[0] == widths[1] < 0.55 * 9 * 72
    assert len(to_svgs(drawn([1.0, 2.0]), "one")) == 1
