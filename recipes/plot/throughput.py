"""throughput: where the time of a training step goes, and what remedies gain."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure, shortened

if TYPE_CHECKING:
    from recipes.diagnose.speed.throughput import Throughput

_COLORS = {
    "input": "#d95f02",
    "transfer": "#e7298a",
    "step": "#1b9e77",
    "callbacks": "#7570b3",
    "validation": "#66a61e",
    "tracing": "#e6ab02",
    "garbage": "#a6761d",
    "keras": "#666666",
}
_LEAST = 0.005  # of the step; shorter parts are not drawn


def throughput(found: "Throughput") -> Figure:
    """Draw the parts of a step, the CPU time of the input's stages, and the step with each remedy.

    Args:
        found: What `recipes.diagnose.throughput` returned.

    Returns:
        A matplotlib `Figure` with one bar for the step, one per finding (hatched where the remedy was not tried), and,
        where the input has stages, their CPU time per batch beside it. All in milliseconds.
    """
    stages = [stage for stage in found.stages if stage.seconds > 0]
    rows = 1 + len(found.findings)
    figure = new_figure(10 if stages else 5.6, 1.6 + 0.45 * max(rows, len(stages)))
    axes = figure.add_subplot(1, 2 if stages else 1, 1)
    left = 0.0
    for name, seconds in found.parts.items():
        if seconds > _LEAST * found.step_seconds:
            axes.barh(0, 1e3 * seconds, left=1e3 * left, color=_COLORS[name], label=name)
            left += seconds
    for row, finding in enumerate(found.findings, start=1):
        share = found.step_seconds / finding.before if finding.before > 0 else 1.0
        axes.barh(
            row,
            1e3 * finding.after * share,
            color="#bbbbbb",
            edgecolor="#555555",
            hatch=None if finding.tried else "//",
        )
    axes.set_yticks(
        range(rows), ["as it is", *(f"without {one.code.replace('_', ' ')}" for one in found.findings)]
    )
    axes.invert_yaxis()
    axes.set_xlabel("ms per step; hatched: predicted")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    if stages:
        beside = figure.add_subplot(1, 2, 2)
        beside.barh(range(len(stages)), [1e3 * stage.seconds for stage in stages], color=_COLORS["input"])
        beside.set_yticks(
            range(len(stages)), [f"{stage.kind} ({shortened(stage.name, 20)})" for stage in stages]
        )
        beside.invert_yaxis()
        beside.set_xlabel("ms of processor time per batch")
        beside.spines[["top", "right"]].set_visible(False)
    return figure
