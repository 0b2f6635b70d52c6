"""Every figure with what is hard to draw: long names, one epoch, NaN, 200 layers. Nothing is cut off or overlaps."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from recipes import diagnose, plot

rng = np.random.default_rng(0)
LONG = "a_rather_long_name_that_somebody_gave_to_it_in_earnest"


class Watched(SimpleNamespace):
    """As much of a `recipes.probe.Record` as the figures read."""

    measured = ("update_norm", "gradient_norm", "mean", "output_finite")

    def __len__(self):
        return len(self.step)

    def activity(self, name):
        return self.step, np.zeros((len(self.step), 30)) if "1" in name else rng.random((len(self.step), 30))


def watched(layers, probes, broken=False):
    names = np.array([f"{LONG}_{number}" for number in range(layers)])
    shape, hole = (probes, layers), slice(probes // 2, None) if broken else slice(0, 0)
    values = {
        name: 10.0 ** rng.uniform(-6, 2, shape)
        for name in ("update_ratio", "gradient_norm", "mean", "std", "update_norm")
    }
    for array in values.values():
        array[hole] = np.nan
    finite = np.ones(shape, bool)
    finite[hole] = False
    loss = rng.random(probes)
    loss[hole] = np.nan
    kinds = np.full(layers, "relu")
    axes = {
        "variables": {
            "layer": names,
            "role": np.full(layers, "kernel"),
            "depth": np.arange(layers),
            "size": np.full(layers, 9),
        },
        "layers": {"layer": names, "name": names},
        "activations": {"layer": names, "name": names, "kind": kinds},
    }
    fractions = {"zero_fraction": rng.random(shape), "saturated_fraction": rng.random(shape)}
    return Watched(
        axes=axes,
        step=np.arange(probes) * 1000,
        loss=loss,
        output_finite=finite,
        weight_finite=finite,
        **values,
        **fractions,
    )


def images(count, side=16):
    return rng.random((count, side, side, 3), "float32")


def history(epochs, *, broken=False):
    names = ("loss", "val_loss", LONG, f"val_{LONG}", "learning_rate")
    made = {name: list(rng.random(epochs)) for name in names}
    if broken:
        made["loss"][-1] = np.nan
    return made


def layer_result():
    row = {"sample_std": 0.5, "zero_fraction": 0.3, "saturated_fraction": 0.1, "gradient_rms": np.nan}
    return SimpleNamespace(layers=[SimpleNamespace(name=f"{LONG}_{k}", std=1.0, **row) for k in range(60)])


def range_test(broken):
    rates = np.geomspace(1e-7, 10, 50)
    losses = np.where(rates > 1, np.nan, 2 + np.log10(rates) ** 2)
    if broken:
        losses = np.full(50, np.nan)
    return SimpleNamespace(rates=rates, losses=losses, smoothed=losses, steepest=0.01, below_minimum=0.1)


def slow_step():
    finding = SimpleNamespace(code="keras_layers_inside_the_data_set", before=0.4, after=0.2, tried=False)
    return SimpleNamespace(
        stages=[SimpleNamespace(kind="map", name=LONG, seconds=0.1) for _ in range(4)],
        parts={"input": 0.3, "step": 0.1},
        step_seconds=0.4,
        findings=[finding, finding],
    )


def study():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study()
    for number in range(6):
        trial = made.ask()
        trial.suggest_float(f"{LONG}_rate", 1e-5, 1.0, log=True)
        trial.suggest_int("width", 8, 512)
        trial.suggest_categorical("optimizer", ["muon_sgd", "adamw"])
        made.tell(trial, float(number))
    return made


FOUND = diagnose.Finding("not_learning", "error", LONG, 2, f"{LONG} is long. " * 4, "Lower the rate.")
LANDSCAPE = SimpleNamespace(offsets=np.linspace(-1, 1, 9), loss=rng.random((9, 9)) + 0.1)
FOOLED = SimpleNamespace(
    images=images(3), magnified=images(3), predicted=np.array([0, 1, 2]), distance=np.full(3, 0.123)
)
NOISE = SimpleNamespace(share=np.full(12, 1 / 12), images=images(2), confidence=0.8)
PATCHES = SimpleNamespace(patches=rng.random((3, 8, 8, 8, 3)), scores=rng.random((3, 8)))
DIAGRAM = np.array([[0.5, np.nan, 0], [0.9, 0.8, 20], [0.99, 0.9, 200]])
HISTOGRAM = SimpleNamespace(counts=np.arange(10), edges=np.linspace(0, 1, 11), name=LONG, std=1.0, mean=0.0)

#: Each function of `plot` that gives a Figure, with what is hard for it.
FIGURES = {
    "activation_statistics": [lambda: plot.activation_statistics(watched(200, 5, broken=True))],
    "attributions": [
        lambda: plot.attributions(
            images(3), {LONG: rng.normal(size=(3, 16, 16)), "b": rng.random((3, 16, 16))}
        ),
        lambda: plot.attributions(images(2), {"zero": np.zeros((2, 16, 16))}, titles=[LONG, LONG]),
    ],
    "channels": [lambda: plot.channels(rng.random((8, 8, 200)), title=LONG)],
    "compared_curves": [
        lambda: plot.compared_curves({LONG: history(1), f"{LONG}_2": history(40, broken=True)})
    ],
    "curves": [
        lambda: plot.curves(history(1)),
        lambda: plot.curves(history(3000, broken=True)),
        lambda: plot.curves({"loss": [np.nan]}),
        lambda: plot.curves(history(3), findings=[FOUND]),
    ],
    "disagreement": [lambda: plot.disagreement(rng.random((12, 12)), member_errors=rng.random(12))],
    "finite_layers": [
        lambda: plot.finite_layers(watched(200, 40, broken=True)),
        lambda: plot.finite_layers(watched(3, 1)),
    ],
    "fooled": [lambda: plot.fooled(images(3), FOOLED, class_names=[LONG] * 3, before=[1, 2, 0], title=LONG)],
    "gradient_flow": [
        lambda: plot.gradient_flow(watched(200, 30)),
        lambda: plot.gradient_flow(watched(2, 1, broken=True)),
    ],
    "grid": [
        lambda: plot.grid(images(12), titles=[LONG] * 12),
        lambda: plot.grid(images(1), maps=rng.normal(size=(1, 16, 16))),
    ],
    "landscape": [lambda: plot.landscape({LONG: LANDSCAPE, "b": LANDSCAPE})],
    "layer_statistics": [lambda: plot.layer_statistics(layer_result())],
    "learning_rate_range_test": [
        lambda: plot.learning_rate_range_test(range_test(broken=False)),
        lambda: plot.learning_rate_range_test(range_test(broken=True)),
    ],
    "learning_rates": [
        lambda: plot.learning_rates([1e-7]),
        lambda: plot.learning_rates(np.ones(100), range(1, 100, 3), label=LONG),
    ],
    "noise_response": [lambda: plot.noise_response(NOISE, class_names=[LONG] * 12)],
    "overlay": [lambda: plot.overlay(images(1)[0], rng.normal(size=(16, 16)), title=LONG, layer=LONG)],
    "patches": [lambda: plot.patches(PATCHES, titles=[LONG] * 3)],
    "reliability": [lambda: plot.reliability(DIAGRAM)],
    "search_trials": [lambda: plot.search_trials(study())],
    "segments": [lambda: plot.segments(images(2), np.ones((2, 16, 16), bool), titles=[LONG] * 2)],
    "throughput": [lambda: plot.throughput(slow_step())],
    "thumbnails": [
        lambda: plot.thumbnails(rng.normal(size=(50, 2)), images(50), labels=np.arange(50) % 30, title=LONG)
    ],
    "unit_activity": [lambda: plot.unit_activity(watched(200, 4)), lambda: plot.unit_activity(watched(1, 1))],
    "update_ratios": [
        lambda: plot.update_ratios(watched(200, 5)),
        lambda: plot.update_ratios(watched(2, 1, broken=True)),
    ],
}
ARRAYS = {"blend"}  # gives pixels
ELSEWHERE = {"activation_histograms"}  # drawn from a network, in tests/plot/test_activation_histograms.py


def test_every_figure_is_looked_at():
    assert set(plot.__all__) == set(FIGURES) | ARRAYS | ELSEWHERE


def texts(figure):
    """`(text, box)` of all that is written and seen."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for axes in figure.axes:
        ticks = [
            label
            for axis in (axes.xaxis, axes.yaxis)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
            for label in (tick.label1, tick.label2)
            if axes.axison
            and min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        ]
        others = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts] if axes.get_visible() else []
        legend = axes.get_legend()
        others += legend.get_texts() if legend is not None else []
        found += [("tick", axes, each) for each in ticks] + [("text", axes, each) for each in others]
    return [
        (kind, axes, each, each.get_window_extent(canvas.get_renderer()))
        for kind, axes, each in found
        if each.get_visible() and each.get_text().strip()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [each for group in FIGURES.values() for each in group],
    ids=[f"{n}{k}" for n, g in FIGURES.items() for k in range(len(g))],
)
def test_nothing_is_cut_off_or_written_over(draw):
    figure = draw()
    seen, (width, height) = texts(figure), figure.get_size_inches() * figure.dpi
    cut = [
        each.get_text()
        for _, axes, each, box in seen
        if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2
    ]
    assert cut == []
    over = []
    for kind in ("tick", "text"):
        chosen = [
            (each, box.padded(-1))
            for one, _, each, box in seen
            if one == kind and each.get_rotation() in (0, 90)
        ]
        over += [
            (first.get_text(), second.get_text())
            for place, (first, box) in enumerate(chosen)
            for second, other in chosen[place + 1 :]
            if box.overlaps(other)
        ]
    assert over == []
