"""Evaluation: all scores of a trained classifier."""

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recipes.common.files import json_text
from recipes.common.html_page import html_page

_PICTURE = "width: 100%; image-rendering: pixelated"  # small images are enlarged by the page


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction of which the model was sure.

    Attributes:
        number: Number of the example, from 0 in the order of the test set.
        image: `(height, width, channels)`, as the model was given it.
        label: Names of the true class, or classes.
        predicted: Names of the predicted class, or classes.
        confidence: The confidence of the model, in [0, 1].
        map: Where in the image the evidence for the prediction is (Grad-CAM), float32 `(height, width)`; or None.
        truth_map: The same for the true class; or None.
        file: Path of the image, where it is known.
    """

    number: int
    image: np.ndarray = field(repr=False)
    label: str
    predicted: str
    confidence: float
    map: np.ndarray | None = field(default=None, repr=False)
    truth_map: np.ndarray | None = field(default=None, repr=False)
    file: str = ""

    def _repr_html_(self) -> str:
        from recipes import plot  # noqa: PLC0415 - brings matplotlib
        from recipes.plot.inline import image_data_url  # noqa: PLC0415 - brings matplotlib

        shown = [("", self.image)]
        for name, map_ in ((self.predicted, self.map), (self.label, self.truth_map)):
            if map_ is not None:
                blank = "" if np.ptp(map_) else f", blank: every value is {float(np.max(map_)):.3g}"
                shown.append((f"evidence for {name}{blank}", plot.blend(self.image, map_)))
        pictures = "".join(
            f'<figure style="margin:0;flex:1 1 0"><img src="{image_data_url(image)}" alt="{html.escape(name)}" '
            f'style="{_PICTURE}"><figcaption>{html.escape(name)}</figcaption></figure>'
            for name, image in shown
        )
        words = html.escape(f"{self.label} taken for {self.predicted} {self.confidence:.0%}")
        if self.file:
            words += f"<br>{html.escape('/'.join(Path(self.file).parts[-2:]))}"
        row = f'<div style="display:flex;gap:.3em;font-size:.85em">{pictures}</div>'
        style = f"margin:.5em 1em .5em 0;width:{7 * len(shown)}rem;max-width:100%"
        return f'<figure style="{style}">{row}<figcaption>{words}</figcaption></figure>'


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier did on a test set.

    Shares are in [0, 1]. For a class that never occurs, precision, recall and F1 are 0 and other scores are NaN.

    Attributes:
        class_names: Names of class 0, 1, ...
        count: Number of examples.
        accuracy: Share predicted right; with several labels per example, share with every label right.
        interval: 95 % interval of `accuracy`, by Wilson's score, without regard to weights.
        precision: Share of the examples predicted as a class that are of that class, `(classes,)`.
        recall: Share of the examples of a class that are predicted as that class, `(classes,)`.
        f1: Harmonic mean of precision and recall, `(classes,)`.
        support: Examples of each class, `(classes,)`; sums of weights, if there are any.
        balanced_accuracy: Mean recall of the classes that occur.
        top5: Share with the true class among the five likeliest; NaN for five classes or fewer, and several labels.
        auroc: Area under the ROC curve of each class against the rest, `(classes,)`.
        confusion: Rows are true, columns predicted classes, `(classes, classes)`; for several labels `(classes, 2, 2)`.
        ece: Expected calibration error, in [0, 1], over at most 15 bins of 20 examples or more, equally many in each,
            sorted by confidence; the bias of bins of 50 or more is subtracted (Kumar et al. 2019, section 5).
        reliability: Those bins, `(bins, 3)`: mean confidence, accuracy, examples.
        coverage: `(m, 2)`, at most 1000 rows: share of most confident examples, accuracy on it.
        worst: Numbers of the wrong predictions, most confident first, at most 100.
        log_loss: Mean of `-log` of the probability of the true class.
        mistakes: The first of `worst` with their images, where those were kept.
    """

    class_names: tuple[str, ...]
    count: int
    accuracy: float
    interval: tuple[float, float]
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    balanced_accuracy: float
    top5: float
    auroc: np.ndarray
    confusion: np.ndarray
    ece: float
    log_loss: float
    reliability: np.ndarray = field(repr=False)
    coverage: np.ndarray = field(repr=False)
    worst: np.ndarray = field(repr=False)
    mistakes: tuple[Mistake, ...] = field(default=(), repr=False)

    def confused_pairs(self, count: int = 10) -> list[tuple[str, str, float]]:
        """The most frequent mistakes, `(true class, predicted class, how often)`."""
        if self.confusion.ndim != 2:
            return []
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        places = np.stack(np.unravel_index(order, wrong.shape), 1)
        return [
            (self.class_names[true], self.class_names[said], float(wrong[true, said]))
            for true, said in places
            if wrong[true, said] > 0
        ]

    def table(self) -> str:
        """The scores as text: one line for all examples, one line per class, and the most confused pairs."""
        low, high = self.interval
        lines = [
            f"{self.count} examples: accuracy {self.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), "
            f"balanced {self.balanced_accuracy:.2%}, calibration error {self.ece:.2%}",
            "",
        ]
        width = max(5, *map(len, self.class_names))
        lines.append(f"{'class':{width}}  precision  recall      F1   AUROC  examples")
        rows = zip(
            self.class_names, self.precision, self.recall, self.f1, self.auroc, self.support, strict=True
        )
        lines += [
            f"{n:{width}}  {p:9.2%}  {r:6.2%}  {f:6.2%}  {_known(a):>6}  {s:8g}"
            if s
            else f"{n:{width}}  {'-':>9}  {'-':>6}  {'-':>6}  {'-':>6}  {s:8g}"
            for n, p, r, f, a, s in rows
        ]
        pairs = self.confused_pairs(5)
        if pairs:
            lines += ["", "most confused:"] + [f"  {true} taken for {said}: {n:g}" for true, said, n in pairs]
        named = [one for one in self.mistakes if one.file]
        if named:
            lines += ["", "most confident mistakes:"] + [
                f"  {one.file}: {one.label} taken for {one.predicted} {one.confidence:.1%}" for one in named
            ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The scores as values that JSON can hold; NaN becomes None."""
        plain = {}
        for name in self.__dataclass_fields__:
            if name not in ("coverage", "reliability", "worst", "mistakes"):
                plain[name] = _plain(getattr(self, name))
        plain["mistakes"] = [
            {
                "file": one.file,
                "number": one.number,
                "label": one.label,
                "predicted": one.predicted,
                "confidence": one.confidence,
            }
            for one in self.mistakes
        ]
        return plain

    def to_json(self) -> str:
        """`to_dict` as text, with six significant digits."""
        return json_text(self.to_dict())

    def __str__(self) -> str:
        return self.table()

    def figure(self) -> Any:
        """Reliability diagram and accuracy against coverage, a matplotlib `Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.reliability(self.reliability, self.coverage)

    def to_html(self, title: str = "Evaluation") -> str:
        """One page that needs nothing else: table, reliability, mistakes."""
        return html_page(title, self._repr_html_())

    def _repr_html_(self) -> str:
        from recipes.plot.inline import to_svgs  # noqa: PLC0415 - brings matplotlib

        panels = to_svgs(self.figure(), f"Reliability diagram: calibration error {self.ece:.2%}")
        drawn = "".join(f'<div style="flex:1 1 20rem;max-width:28rem">{panel}</div>' for panel in panels)
        pictures = "".join(mistake._repr_html_() for mistake in self.mistakes)
        row = f'<div style="display:flex;flex-wrap:wrap">{pictures}</div>' if pictures else ""
        first, _, rest = self.table().partition("\n")
        return (
            f'<p>{html.escape(first)}</p><pre style="overflow-x:auto;font-size:clamp(.6rem,2.8vw,1rem)">'
            f"{html.escape(rest.strip(chr(10)))}</pre>"
            f'<div style="display:flex;flex-wrap:wrap">{drawn}</div>{row}'
        )


def _known(score):
    """A score, or a dash where it is not defined: AUROC needs examples of more than one class."""
    return f"{score:.4f}" if np.isfinite(score) else "-"


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
