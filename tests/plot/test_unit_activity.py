"""unit_activity: what is zero is told from what is nearly zero."""

from types import SimpleNamespace

import numpy as np

from recipes import plot


def record_of(rates):
    axes = {
        "activations": {"name": np.array(["relu"]), "layer": np.array(["relu"]), "kind": np.array(["relu"])}
    }
    steps = 10 * np.arange(len(rates))

    class Record(SimpleNamespace):
        def __len__(self):
            return len(rates)

    return Record(axes=axes, measured=("mean",), activity=lambda name: (steps, np.asarray(rates, "float32")))


def brightness(image):
    return image.to_rgba(image.get_array())[..., :3].max(-1)


def test_only_units_that_are_exactly_zero_are_black():
    shares = [1.0, 0.5, 0.1, 0.02, 0.001, 1e-5, 0.0]
    axes, bar = plot.unit_activity(record_of([shares] * 3)).axes
    told = brightness(axes.images[0])[:, -1]
    assert told[-1] == 0 and told[:-1].min() > 0.4
    assert len(set(told[:4].round(3))) > 1 and axes.get_title().endswith("1 of 7 silent")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "20"]
    assert "black: none" in bar.get_xlabel()
