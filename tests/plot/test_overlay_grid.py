import matplotlib
import numpy as np
import pytest

from recipes import plot

random = np.random.default_rng(0)
IMAGE = random.integers(0, 256, (4, 6, 3)).astype("uint8")
MAP = np.linspace(0, 2, 24).reshape(4, 6)


def top_color(name, place):
    return 255 * np.array(matplotlib.colormaps[name](place)[:3])


def test_blend_leaves_pixels_where_the_map_is_zero_and_hides_them_where_it_is_largest():
    blended = plot.blend(IMAGE, MAP, opacity=1)
    assert blended.dtype == np.uint8 and blended.shape == (4, 6, 3)
    np.testing.assert_array_equal(blended[0, 0], IMAGE[0, 0])
    np.testing.assert_allclose(blended[-1, -1], top_color("turbo", 1.0), atol=0.5)


def test_blend_mixes_in_proportion_to_map_and_opacity():
    flat = np.full((1, 2), 1.0)
    flat[0, 0] = 0.5
    blended = plot.blend(IMAGE[:1, :2], flat, opacity=0.6, limit=2)
    for place, share in ((0, 0.15), (1, 0.3)):
        expected = (1 - share) * IMAGE[0, place] + share * top_color("turbo", flat[0, place] / 2)
        # A colormap has 256 steps, so its color may be off by one of them.
        np.testing.assert_allclose(blended[0, place], expected, atol=2)


def test_signed_maps_are_red_for_and_blue_against_around_zero():
    signed = np.array([[-3.0, 0.0, 3.0]])
    against, neutral, for_ = plot.blend(np.full((1, 3, 1), 128, "uint8"), signed, opacity=1)[0].astype(int)
    assert for_[0] > for_[2] + 50 and against[2] > against[0] + 50
    assert neutral.tolist() == [128, 128, 128]


def test_a_map_of_zeros_changes_nothing():
    np.testing.assert_array_equal(plot.blend(IMAGE, np.zeros((4, 6))), IMAGE)


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
    plain, covered, scale = plot.overlay(IMAGE, MAP, title="why").axes
    np.testing.assert_allclose(plain.images[0].get_array(), IMAGE / 255, atol=1e-6)
    np.testing.assert_array_equal(covered.images[0].get_array(), plot.blend(IMAGE, MAP))
    assert scale.get_ylim() == (0, 2)
    assert plot.overlay(IMAGE, MAP - 1.5).axes[2].get_ylim() == (-1.5, 1.5)
    assert plot.overlay(IMAGE, MAP, limit=5).axes[2].get_ylim() == (0, 5)


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


@pytest.mark.parametrize("options", [{"opacity": 1.5}, {"limit": 0}, {"limit": -1}])
def test_overlay_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="opacity in"):
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
    images = [IMAGE, IMAGE[:2]]
    figure = plot.grid(images, maps=[MAP, -MAP[:2]])
    for axes, image, map in zip(figure.axes, images, (MAP, -MAP[:2]), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), plot.blend(image, map))


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
