"""compare_runs: what differs between runs, and what came of it."""

import html
import json
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.common.files import json_text, write_text
from recipes.common.html_page import html_page
from recipes.common.types import Data
from recipes.evaluate.classifier import classifier
from recipes.evaluate.evaluation import Evaluation
from recipes.evaluate.paired import PairedComparison, compared_on
from recipes.evaluate.scores import wilson_interval
from recipes.inference.of_run import labeled_folder
from recipes.report.summary import validation_examples, words

if TYPE_CHECKING:
    from recipes.common.types import Path as PathLike

# Where and how a run was kept and watched; what follows from the rest.
_NOT_COMPARED = {
    "command",
    "times",
    "rate_by_step",
    "backup_every",
    "changes",
    "checksums",
    "finished",
    "format",
    "keep",
    "monitor",
    "preflight",
    "resume",
    "run_dir",
    "schedule_epochs",
    "schedule_points",
    "verbose",
}
_OF_EACH_WEIGHT = ("factors", "sgd_only")
_SHARES = ("accuracy", "acc")
_MOST_LAYERS = 4
_WIDEST = 44  # characters of a cell
_OBJECT = re.compile(r"<(?:\w+\.)*(\w+) object>")  # what run.json keeps of an object, and its name


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        names: Names of the runs.
        settings: Settings that differ: `{"learning_rate": (0.1, 0.2), ...}`, a value per run, None for a run without
            that setting.
        metrics: Metrics of the last epoch: `{"val_accuracy": (0.9, 0.92), ...}`; NaN for a run without that metric.
        intervals: 95 % intervals of the metrics that are shares of validation examples, `(low, high)` per run.
        histories: The history of each run, by its name.
        findings: How many errors and warnings each run ended with.
        evaluations: The evaluation of each run on `test`; empty without `test`.
        paired: The first run compared with each other one on `test`; empty without `test`.
    """

    names: tuple[str, ...]
    settings: dict[str, tuple[Any, ...]]
    metrics: dict[str, tuple[float, ...]]
    intervals: dict[str, tuple[tuple[float, float], ...]]
    histories: dict[str, Mapping[str, Sequence[float]]] = field(repr=False)
    findings: tuple[int, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    paired: tuple[PairedComparison, ...] = ()

    def table(self) -> str:
        """Settings that differ, then metrics with their intervals, one column per run."""
        blocks = [_columns(rows) for _, rows in self._blocks()]
        return "\n\n".join(blocks + [f"{name}: {said}" for name, said in self._paired_words()])

    def figure(self) -> Any:
        """The curves of all runs in common axes, a matplotlib `Figure`."""
        from recipes.plot import compared_curves  # noqa: PLC0415 - brings matplotlib

        return compared_curves(self.histories)

    def to_html(self, path: "PathLike | None" = None) -> str:
        """One page that needs nothing else, written to a file if one is given."""
        page = html_page(" and ".join(self.names), self._repr_html_())
        if path is not None:
            write_text(path, page)
        return page

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        finite = lambda values: [value if np.isfinite(value) else None for value in values]  # noqa: E731
        return {
            "names": list(self.names),
            "settings": {name: list(values) for name, values in self.settings.items()},
            "metrics": {name: finite(values) for name, values in self.metrics.items()},
            "intervals": {name: list(map(finite, rows)) for name, rows in self.intervals.items()},
            "findings": list(self.findings),
            "evaluations": [evaluation.to_dict() for evaluation in self.evaluations],
            "paired": [one.to_dict() for one in self.paired],
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json_text(self.to_dict())

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        parts = []
        for title, rows in self._blocks():
            head, *body = [[html.escape(cell) for cell in row] for row in rows]
            cells = "".join(f"<th>{cell}</th>" for cell in head)
            lines = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in body)
            parts.append(f"<h2>{title}</h2><table><tr>{cells}</tr>{lines}</table>")
        parts += [
            f"<p>{html.escape(name)}: {html.escape(str(said))}</p>" for name, said in self._paired_words()
        ]
        if any(self.histories.values()):
            from recipes.plot.inline import to_svg  # noqa: PLC0415 - brings matplotlib

            parts.append("<p>Solid lines are validation, dashed ones of the same color training.</p>")
            parts.append(to_svg(self.figure(), f"Curves of {', '.join(self.names)} in common axes"))
        return "".join(parts)

    def _blocks(self):
        settings = [[name, *map(_short, values)] for name, values in self.settings.items()]
        metrics = [
            [words(name), *(self._with_interval(name, number) for number in range(len(self.names)))]
            for name in self.metrics
        ]
        if self.evaluations:
            scores = [_share(one.accuracy, one.interval) for one in self.evaluations]
            metrics += [["test accuracy", *scores]]
            for what in ("balanced_accuracy", "log_loss", "ece"):
                values = [f"{getattr(one, what):.4g}" for one in self.evaluations]
                metrics.append([f"test {what.replace('_', ' ')}", *values])
        metrics.append(["errors and warnings", *map(str, self.findings)])
        same = [["settings", *self.names], *(settings or [["none differ", *("" for _ in self.names)]])]
        return [("Settings that differ", same), ("Metrics", [["metric", *self.names], *metrics])]

    def _with_interval(self, name, number):
        value = self.metrics[name][number]
        if name in self.intervals and np.isfinite(self.intervals[name][number]).all():
            return _share(value, self.intervals[name][number])
        return f"{value:.4g}"

    def _paired_words(self):
        return [
            (f"{self.names[0]} (first), {name} (second)", said)
            for name, said in zip(self.names[1:], self.paired, strict=False)
        ]


def compare_runs(
    runs: Sequence[Any],
    test: "Data | PathLike | None" = None,
    *,
    names: Sequence[str] | None = None,
    labels: Any = None,
    on_error: str = "raise",
) -> Comparison:
    """Put runs side by side: settings that differ, curves, metrics with intervals.

    Args:
        runs: Two `recipes.Run`s or more.
        test: Labeled examples that no run was trained on, or a folder of them, which is read for each run as its own
            images were. All runs are scored on them, and the first is compared with each other one by
            `evaluate.paired_comparison`.
        names: Names of the runs; None takes the names of their folders, or numbers.
        labels: The classes of the images of a folder, as in `data.load`.
        on_error: "skip" leaves out images of a folder that cannot be read.

    Returns:
        A `Comparison`, with `.table()`, `.to_html(path)`, `.figure()`, `.to_json()`.

    Raises:
        ValueError: for fewer than two runs, names that are not one per run, or `test` with runs whose images have other
            shapes.
    """
    names = _names(runs) if names is None else tuple(map(str, names))
    if len(runs) < 2 or len(names) != len(runs) or len(set(names)) != len(names):
        raise ValueError(
            f"recipes.compare expects at least two runs and a name of its own for each. Received {len(runs)} runs and "
            f"names {list(names)}. Write recipes.compare(['runs/a', 'runs/b'])."
        )
    tests = _tests(runs, test, labels, on_error)
    described = [_described(run) for run in runs]
    keys = list(dict.fromkeys(key for settings in described for key in settings))
    settings = {key: tuple(one.get(key) for one in described) for key in keys}
    settings = {key: row for key, row in settings.items() if any(value != row[0] for value in row)}
    if "optimizer class" in settings:  # what only one of two kinds of optimizer has does not differ
        settings = {k: row for k, row in settings.items() if not (k.startswith("optimizer ") and None in row)}
    logged = dict.fromkeys(key for run in runs for key in run.history if "/" not in key)
    metrics = {
        key: tuple(float(run.history[key][-1]) if run.history.get(key) else np.nan for run in runs)
        for key in logged
    }
    evaluations = tuple(classifier(run, seen) for run, seen in zip(runs, tests, strict=True)) if tests else ()
    return Comparison(
        names=names,
        settings=settings | _layers(runs),
        metrics=metrics,
        intervals={key: _intervals(runs, row) for key, row in metrics.items() if _is_share(key)},
        histories={name: run.history for name, run in zip(names, runs, strict=True)},
        findings=tuple(sum(f.severity != "info" for f in run.findings) for run in runs),
        evaluations=evaluations,
        paired=tuple(
            compared_on((runs[0], run), (tests[0], seen))
            for run, seen in zip(runs[1:], tests[1:], strict=True)
        )
        if tests
        else (),
    )


def _tests(runs, test, labels, on_error):
    """The examples for each run: the same for all, or a folder, read for each as its own images were."""
    if test is None:
        return []
    if isinstance(test, (str, os.PathLike)):
        return [labeled_folder(run, test, labels=labels, on_error=on_error, verbose=0) for run in runs]
    taken = [getattr(run.model, "input_shape", None) for run in runs]
    shapes = {shape[1:] for shape in taken if isinstance(shape, tuple) and None not in shape[1:]}
    if len(shapes) > 1:
        raise ValueError(
            "recipes.compare expects runs that take images of one shape to score them on the same examples. Received "
            f"{', '.join(map(str, sorted(shapes)))}. Give the folder of the images, which each run reads at its size."
        )
    return [test] * len(runs)


def _names(runs):
    names = [Path(str(run.settings.get("run_dir") or number)) for number, run in enumerate(runs)]
    short = [name.name for name in names]
    return tuple(short if len(set(short)) == len(short) else map(str, names))


def _described(run):
    """Settings as one flat dictionary, without those that are not compared."""
    flat = {}
    for key, value in run.settings.items():
        if key in _NOT_COMPARED or key == "architecture":
            continue
        if isinstance(value, dict) and key not in ("train_data", "validation_data"):
            # "compiled" is what the optimizer was, with "optimizer": "auto" too; a rate for each weight is no setting.
            said = {"compiled": "optimizer", "compiled_loss": "compiled"}.get(key, key)
            flat |= {
                f"{said} {inner}": entry for inner, entry in value.items() if inner not in _OF_EACH_WEIGHT
            }
        elif isinstance(value, dict):
            flat[key] = f"sha256 {str(value.get('sha256'))[:12]}"
        else:
            flat[key] = value
    return flat


def _layers(runs):
    """The layers that not all runs have, in words, `{}` where all are the same."""
    lists = [run.settings.get("architecture") or [] for run in runs]
    shared = set(lists[0]).intersection(*lists[1:])
    own = [[line for line in lines if line not in shared] for lines in lists]
    if not any(own):
        return {}
    return {"layers": tuple(map(_layers_in_words, own))}


def _layers_in_words(lines):
    if len(lines) <= _MOST_LAYERS:
        return "; ".join(lines)
    first, last = (lines[place].partition(":")[0] for place in (0, -1))
    return f"{len(lines)} of its own, {first} to {last}"


def _is_share(name):
    return name.startswith("val_") and name.removeprefix("val_").split("_")[-1] in _SHARES


def _intervals(runs, values):
    rows = []
    for run, value in zip(runs, values, strict=True):
        count = validation_examples(run)
        known = count and 0 <= value <= 1
        rows.append(wilson_interval(value * count, count) if known else (np.nan, np.nan))
    return tuple(rows)


def _share(value, interval):
    low, high = interval
    return f"{value:.2%} ({low:.2%} to {high:.2%})"


def _short(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        text = ", ".join(map(_short, value)) or "none"
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = _OBJECT.sub(r"\1", text)
    return text if len(text) <= 400 else text[:400] + " ..."


def _columns(rows):
    """Rows of cells as text; long cells are broken."""
    broken = [[textwrap.wrap(cell, _WIDEST) or [""] for cell in row] for row in rows]
    lines = [line for row in broken for line in zip_longest(*row, fillvalue="")]
    widths = [max(len(line[place]) for line in lines) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
