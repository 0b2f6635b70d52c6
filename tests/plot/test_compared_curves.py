"""Curves of several runs in common axes."""

import numpy as np

from recipes import plot


def legend_of(histories):
    figure = plot.compared_curves(histories)
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_run_whose_name_begins_with_an_underscore_is_in_the_legend():
    assert [name.strip() for name in legend_of({"_a": {"loss": [1, 2]}, "b": {"loss": [2, 1]}})] == [
        "_a",
        "b",
    ]


def test_a_long_name_leaves_room_for_the_curves():
    long = "runs/photos/" + "x" * 90
    names = legend_of({long: {"loss": [1, 2], "val_loss": [3, np.nan]}, "b": {"loss": [2, 1]}})
    assert len(names[0]) <= 30 and names[0].startswith("runs/") and names[1] == "b"
