"""LabelIssues: the examples whose labels are in doubt, as a table in words and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.common.files import csv_text

_READS_WELL = 0.5  # kappa on held-out examples
ENOUGH_LOOKS = 3  # times that an example has to be scored before its label is called wrong


@dataclass(frozen=True)
class LabelIssue:
    """One example whose label is in doubt.

    Attributes:
        number: Position in the data, from 0.
        kind: "mislabelled", or "ambiguous" where the odds of a wrong label are below three to one.
        given: Class number of the label.
        suggested: Class that is probably right, from the predictions over the training and from which classes are often
            confused.
        margin: Mean margin of the given class, in logits; below 0 another class was preferred.
        chance: Estimated probability that the label is wrong, in [0, 1].
        reason: Explanation in words.
        file: Path of the image, where it is known; else None.
    """

    number: int
    kind: str
    given: int
    suggested: int
    margin: float
    chance: float
    reason: str
    file: str | None = None


@dataclass(frozen=True)
class LabelIssues:
    """What `label_issues` found.

    Attributes:
        issues: All issues, mislabelled examples before ambiguous ones, the worst first within each kind.
        scores: How doubtful each label is, float32 `(n,)`: logarithm of the odds that it is wrong, higher is worse; NaN
            where an example was never scored.
        noise: float64 `(classes, classes)`: entry i, j is the estimated share of the examples labelled i that are
            really of class j.
        times: How often each example was scored, int32 `(n,)`.
        class_names: Names of the classes, or None.
        agreement: Cohen's kappa of labels and predictions over the training (Cohen 1960, "A coefficient of agreement
            for nominal scales"): 1 where all predictions equal the labels, 0 where no more do than by chance.
        learned: Whether the predictions say anything about the labels: kappa is at least 0.4 ("moderate", Landis and
            Koch 1977), or nine tenths of the predictions equal the labels. If not, no label is called wrong.
        files: Path of each example by its number, where the images were read from files; else None.
        held_out: Cohen's kappa on held-out examples in the best epoch of the run, from its accuracy there and the
            shares of the classes in the training data; NaN where it is not known.
    """

    issues: list[LabelIssue]
    scores: NDArray[np.float32]
    noise: NDArray[np.float64]
    times: NDArray[np.int32]
    class_names: tuple[str, ...] | None = None
    agreement: float = float("nan")
    learned: bool = True
    files: Sequence[str] | None = field(default=None, repr=False)
    held_out: float = float("nan")

    @property
    def mislabelled(self) -> NDArray[np.int64]:
        """Numbers of the probably mislabelled examples, the worst first, as `recipes.train(drop=...)` takes them."""
        return np.array([issue.number for issue in self.issues if issue.kind == "mislabelled"], np.int64)

    @property
    def suggestions(self) -> dict[int, int]:
        """`{number: suggested class}` of the mislabelled examples, as `recipes.train(relabel=...)` takes them."""
        return {issue.number: issue.suggested for issue in self.issues if issue.kind == "mislabelled"}

    def worst(self, count: int) -> NDArray[np.int64]:
        """Numbers of the `count` examples with the most doubtful labels, the worst first, whether issues or not."""
        known = np.flatnonzero(np.isfinite(self.scores))
        return known[np.argsort(-self.scores[known], kind="stable")[:count]]

    def name_of(self, number: int) -> str:
        """The name of the class with this number, or the number as text where it has no name."""
        named = self.class_names is not None and number < len(self.class_names)
        return str(self.class_names[number]) if named else str(number)

    def caution(self) -> str:
        """How far to believe the result of a network that has learned little, in a sentence; else nothing."""
        if not self.learned:
            return (
                f"Answers agree with the labels little more than by chance (Cohen's kappa {self.agreement:.2f}): the "
                "network has not learned enough to call a label wrong. That none is named says nothing"
            )
        if self.held_out < _READS_WELL:
            return (
                f"The network reads few held-out examples right (Cohen's kappa {self.held_out:.2f}; 0 is chance, 1 is "
                "perfect): look at each example before you change its label"
            )
        return ""

    def table(self, count: int = 10, files: Sequence[str] | None = None) -> str:
        """The result as text: one line of counts, one line for each of the worst examples, then notes.

        Args:
            count: Largest number of examples to show.
            files: File names of all examples by number, such as `info.files["train"]`; None takes those that are known,
                else numbers.

        Raises:
            ValueError: when `files` has another length than the data.
        """
        files = self._files(files)
        wrong = len(self.mislabelled)
        lines = [
            f"{len(self.scores)} examples, each scored {np.median(self.times):g} times: {wrong} probably mislabelled, "
            f"{len(self.issues) - wrong} ambiguous"
        ]
        lines += [
            f"  {one.number if files is None else files[one.number]}: given {self.name_of(one.given)}, suggested "
            f"{self.name_of(one.suggested)} ({one.kind}; {one.reason})"
            for one in self.issues[:count]
        ]
        if len(self.issues) > count > 0:
            lines.append(f"  and {len(self.issues) - count} more")
        few = int(np.sum(self.times < ENOUGH_LOOKS))
        if few:
            lines.append(
                f"  {few} were scored fewer than {ENOUGH_LOOKS} times, too seldom to call a label wrong: train longer"
                ", or give ExampleMargins a larger budget"
            )
        if self.caution():
            lines.append(f"  {self.caution()}")
        rates = self.noise * (1 - np.eye(len(self.noise)))
        summed = "" if wrong else ": a sum of small odds, of which none alone is enough to call a label wrong"
        for place in np.argsort(-rates, axis=None)[:3]:
            given, other = divmod(int(place), len(rates))
            if rates[given, other] >= 0.01:
                lines.append(
                    f"  of those given {self.name_of(given)}, {rates[given, other]:.0%} seem to be "
                    f"{self.name_of(other)}{summed}"
                )
        return "\n".join(lines)

    def to_csv(self, path: Any = None, files: Sequence[str] | None = None) -> str:
        """CSV text with one row per issue: the fields of `LabelIssue`, and the names of the classes where known.

        Args:
            path: File to write the text to, or None.
            files: File names of all examples by number, for a column `file`; None takes those that are known,
                and leaves the column out where none are.

        Raises:
            ValueError: when `files` has another length than the data.
        """
        files = self._files(files)
        names = [name for name in LabelIssue.__dataclass_fields__ if name != "file"]
        more = ["given_name", "suggested_name"] * (self.class_names is not None) + ["file"] * (
            files is not None
        )
        rows = [[*names, *more]]
        for issue in self.issues:
            row = [getattr(issue, name) for name in names]
            if self.class_names is not None:
                row += [self.name_of(issue.given), self.name_of(issue.suggested)]
            rows.append([*row, *([files[issue.number]] if files is not None else [])])
        return csv_text(rows, path)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        """The table: the arrays of a large data set would hide it."""
        return self.table()

    def _files(self, given):
        if given is not None and len(given) != len(self.scores):
            raise ValueError(
                f"label issues expect the file of every example, by number. Received {len(given)} files for "
                f'{len(self.scores)} examples. Give info.files["train"] of the data that was judged.'
            )
        return self.files if given is None else given
