import io

import numpy as np
import pytest

from recipes import plot
from recipes.plot.map_scale import is_fine

random = np.random.default_rng(0)
IMAGE = random.integers(0, 256, (4, 6, 3)).astype("uint8")
MAP = np.linspace(0, 2, 24).reshape(4, 6)


SMOOTH = np.linspace(0, 2, 64).reshape(8, 8)
NOISE = random.normal(size=(8, 8))


def luminance(color):
    """Relative luminance of sRGB colors `(..., 3)` in 0..255 (IEC 61966-2-1)."""
    linear = np.where(color <= 10.31475, color / 3294.6, ((color / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def test_blend_puts_a_coarse_map_over_the_image_in_gray():
    gray = IMAGE @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(plot.blend(IMAGE, MAP, opacity=0), np.dstack([gray] * 3), atol=0.51)
    blended = plot.blend(IMAGE, MAP, opacity=0.6)
    assert blended.dtype == np.uint8 and blended.shape == (4, 6, 3)
    # At the smallest value stands black of the color map, 0.6 of it, over the image with lifted shadows.
    np.testing.assert_allclose(blended[0, 0], 0.4 * 255 * (gray[0, 0] / 255) ** 0.52, atol=3)


def test_the_strongest_place_is_brighter_than_the_weakest_on_any_image():
    checkered = np.indices((8, 8)).sum(0) % 2 * np.full((8, 8), 255)
    for strong_is_black in (False, True):
        image = checkered if strong_is_black else 255 - checkered
        ends = np.where(checkered > 0, 0.0, 1.0)
        blended = luminance(plot.blend(image.astype("uint8"), ends, alone=False))
        assert blended[ends == 1].min() > blended[ends == 0].max()


def test_colors_over_the_image_grow_evenly_brighter():
    shades = luminance(plot.blend(np.zeros((1, 256)), np.linspace(0, 1, 256)[None], opacity=1)[0])
    lightness = 116 * np.cbrt(np.maximum(shades, 1e-4)) - 16  # CIE L*
    assert (np.diff(shades) > -1e-4).all()
    quarters = np.diff(lightness[[0, 64, 128, 191, 255]])
    assert quarters.max() < 1.6 * quarters.min()


def test_signed_maps_over_the_image_are_red_for_blue_against_black_neither():
    signed = np.array([[-3.0, 0.0, 3.0]])
    against, neutral, for_ = plot.blend(np.zeros((1, 3)), signed, opacity=1)[0].astype(int)
    assert for_[0] > for_[2] + 20 and against[2] > against[0] + 20
    assert neutral.max() < 40 and min(for_.max(), against.max()) > 200


def test_fine_maps_are_drawn_alone():
    image = random.integers(0, 256, (8, 8, 3)).astype("uint8")
    np.testing.assert_array_equal(plot.blend(image, NOISE), plot.blend(255 - image, NOISE))
    gray = plot.blend(image, np.abs(NOISE))
    assert (gray[..., :1] == gray).all()
    top = np.percentile(np.abs(NOISE), 99)
    np.testing.assert_allclose(gray[..., 0], 255 * np.clip(np.abs(NOISE) / top, 0, 1), atol=1)
    assert (plot.blend(image, SMOOTH) != plot.blend(255 - image, SMOOTH)).any()
    np.testing.assert_array_equal(
        plot.blend(image, SMOOTH, alone=True), plot.blend(image * 0, SMOOTH, alone=True)
    )


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_an_enlarged_map_is_coarse_however_rough_it_was(factor):
    coarse = np.random.default_rng(factor).normal(size=(8, 8))
    side = 8 * factor
    place = np.clip((np.arange(side) + 0.5) / factor - 0.5, 0, 7)
    weights = np.stack([np.interp(place, np.arange(8), row) for row in np.eye(8)], 1)
    assert not is_fine(weights @ coarse @ weights.T)
    assert not is_fine(np.kron(coarse, np.ones((max(factor, 4), max(factor, 4)))))
    assert is_fine(np.random.default_rng(0).normal(size=(side, side)))


def test_signed_fine_maps_are_red_for_blue_against_white_neither():
    against, neutral, for_ = plot.blend(np.zeros((1, 3)), np.array([[-3.0, 0.0, 3.0]]), alone=True)[0].astype(
        int
    )
    assert for_[0] > for_[2] + 50 and against[2] > against[0] + 50
    assert neutral.min() > 240


@pytest.mark.parametrize(("value", "text"), [(0.0, "every value\nis 0"), (-0.25, "every value\nis -0.25")])
def test_a_blank_map_says_why(value, text):
    blank = np.full((4, 6), value)
    np.testing.assert_array_equal(plot.blend(IMAGE, blank), IMAGE)
    figures = (
        plot.overlay(IMAGE, blank),
        plot.attributions(IMAGE, {"Grad-CAM": blank}),
        plot.grid([IMAGE], maps=[blank]),
    )
    for figure in figures:
        said = [one.get_text() for axes in figure.axes for one in axes.texts]
        assert said == [f"blank:\n{text}"]
        # Nothing is scaled, so there is no bar.
        assert all(axes.images for axes in figure.axes)


@pytest.mark.parametrize(
    "image, expected",
    [
        (IMAGE / 255.0, IMAGE),
        (IMAGE.astype("float32"), IMAGE),
        (IMAGE[..., 0], np.dstack([IMAGE[..., 0]] * 3)),
        (IMAGE[..., :1], np.dstack([IMAGE[..., 0]] * 3)),
        (np.dstack([IMAGE, IMAGE[..., 0]]), IMAGE),
        (np.array([[-2.0, 0.0, 2.0]]), np.array([[[0] * 3, [128] * 3, [255] * 3]])),
        (np.zeros((2, 2)), np.zeros((2, 2, 3))),
        (np.full((2, 2), -7.0), np.zeros((2, 2, 3))),
    ],
    ids=["0..1", "0..255", "flat", "one channel", "alpha", "normalized", "black", "constant"],
)
def test_pixels_of_any_range_are_shown(image, expected):
    np.testing.assert_allclose(plot.blend(image, np.zeros(image.shape[:2])), expected, atol=0.51)


def test_overlay_shows_both_and_the_scale_of_the_map():
    figure = plot.overlay(IMAGE, MAP, title="why", layer="conv5")
    plain, covered, scale = figure.axes
    np.testing.assert_allclose(plain.images[0].get_array(), IMAGE / 255, atol=1e-6)
    np.testing.assert_array_equal(covered.images[0].get_array(), plot.blend(IMAGE, MAP))
    assert scale.get_xlim() == (0, 2) and "over the image" in scale.get_title()
    assert covered.get_title() == "layer conv5"
    assert plot.overlay(IMAGE, MAP - 1.5).axes[2].get_xlim() == (-1.5, 1.5)
    assert plot.overlay(IMAGE, MAP, limit=5).axes[2].get_xlim() == (0, 5)
    assert "99th percentile" in plot.overlay(np.zeros((8, 8)), NOISE).axes[2].get_title()


def test_each_kind_of_map_gets_one_bar():
    image = random.integers(0, 256, (8, 8, 3)).astype("uint8")
    maps = {"a": SMOOTH, "b": 3 * SMOOTH, "c": SMOOTH - 1, "d": NOISE, "e": np.abs(NOISE)}
    figure = plot.attributions(image, maps, layers={"a": "block5"}, title="all")
    bars = [axes for axes in figure.axes if not axes.images]
    ends = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in bars]
    signed = ["evidence against", "evidence for the class"]
    assert ends == [
        ["least", "most evidence for the class"],
        *(signed, signed),
        ["least influence", "most influence"],
    ]
    assert [axes.get_title() for axes in figure.axes[1:6]] == ["a\nblock5", "b", "c", "d", "e"]
    lines = [part.get_supxlabel() for part in figure.subfigs]
    assert "Each map is scaled by itself" in lines[1]


def test_maps_of_a_method_are_drawn_alike():
    images = random.integers(0, 256, (2, 8, 8, 3)).astype("uint8")
    figure = plot.attributions(images, {"gradient": np.stack([NOISE, SMOOTH])})
    alone = plot.blend(images[1], SMOOTH, alone=True)
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), alone)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((IMAGE, MAP[:2]), "same size"),
        ((IMAGE[None], MAP), r"image\[0\]"),
        ((IMAGE, np.full((4, 6), np.nan)), "finite map"),
        ((np.full((4, 6), np.nan), MAP), "finite pixels"),
        ((np.zeros((4, 6, 2)), MAP), "channels"),
    ],
)
def test_overlay_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot.overlay(*arguments)


@pytest.mark.parametrize("options", [{"opacity": 1.5}, {"limit": 0}, {"limit": -1}, {"alone": "maybe"}])
def test_overlay_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="opacity in|alone to be"):
        plot.overlay(IMAGE, MAP, **options)


def test_grid_keeps_order_titles_colors_and_blanks_the_rest():
    images = np.stack([np.full((3, 3, 1), 10 * i, "uint8") for i in range(5)])
    figure = plot.grid(
        images, titles=list("abcde"), title_colors=["red"] * 4 + ["green"], columns=3, title="all"
    )
    assert len(figure.axes) == 6
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == list("abcde")
    assert shown[4].title.get_color() == "green" and figure.get_suptitle() == "all"
    for i, axes in enumerate(shown):
        np.testing.assert_allclose(axes.images[0].get_array(), 10 * i / 255, atol=1e-6)
    assert len({round(axes.get_position().y0, 3) for axes in shown}) == 2


def test_grid_scales_an_array_together_and_a_list_one_by_one():
    pair = np.stack([np.full((2, 2, 1), -1.0), np.full((2, 2, 1), 3.0)])
    together = [axes.images[0].get_array().max() for axes in plot.grid(pair).axes]
    assert together == [0, 1]
    alone = plot.grid([np.array([[-1.0, 0.0]]), np.array([[-4.0, 0.0]])])
    assert [axes.images[0].get_array().max() for axes in alone.axes] == [1, 1]


def test_grid_lays_maps_over_images_of_several_sizes():
    images = [IMAGE, IMAGE[:2], IMAGE]
    figure = plot.grid(images, maps=[MAP, -MAP[:2], None])
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    for shown, image, map in zip(pictures, images, (MAP, -MAP[:2]), strict=False):
        np.testing.assert_array_equal(shown, plot.blend(image, map))
    np.testing.assert_allclose(pictures[2], IMAGE / 255, atol=1e-6)


@pytest.mark.parametrize(
    "images, options, message",
    [
        ([], {}, "a list of 0"),
        (np.zeros((0, 2, 2, 1)), {}, r"\(0, 2, 2, 1\)"),
        (IMAGE, {}, r"grid\(image\[None\]\)"),
        (IMAGE[None], {"columns": 0}, "columns=0"),
        (IMAGE[None], {"titles": ["a", "b"]}, "titles for all 1 images"),
        (IMAGE[None], {"maps": []}, "maps for all 1 images"),
        (IMAGE[None], {"titles": 0.5}, "titles for all 1 images. Received float"),
        (IMAGE[None], {"size": 0}, "from 0.05 to 50"),
        (IMAGE[None], {"size": 10**30}, "from 0.05 to 50"),
    ],
)
def test_grid_refuses_what_it_cannot_show(images, options, message):
    with pytest.raises(ValueError, match=message):
        plot.grid(images, **options)


def test_the_bar_of_an_overlay_is_as_wide_as_its_map():
    figure = plot.overlay(IMAGE, MAP, title="why", layer="conv5")
    figure.savefig(io.BytesIO())
    _, covered, bar = figure.axes
    map_, scale = covered.get_window_extent(), bar.get_window_extent()
    np.testing.assert_allclose((scale.x0, scale.x1), (map_.x0, map_.x1), atol=0.5)
    assert [tick.get_text() for tick in bar.get_xticklabels()] == ["least", "most evidence for the class"]
    right = max(tick.get_window_extent().x1 for tick in bar.get_xticklabels())
    assert right < figure.bbox.x1 and right <= scale.x1 + 1


def test_a_weak_map_leaves_a_dark_photo_to_be_made_out():
    dark = np.full((8, 8, 3), 25, "uint8")
    weak = np.zeros((8, 8))
    weak[0, 0] = 1
    assert plot.blend(dark, weak, alone=False)[4:, 4:].min() > 25
