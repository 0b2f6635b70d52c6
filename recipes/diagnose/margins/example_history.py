"""What the model predicted for each example in the course of a training: margins, forgetting, probabilities."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.common.files import check_unpacked_size, damaged

_MOST_NUMBERS = 2**26  # probabilities, 256 MB; beyond that, only those of the leading classes are kept
_LEADING = 4
_LEAST_WEIGHT = 0.01  # of one scoring


class ExampleHistory:
    """Sums of what the model predicted for each example, over all times that the example was scored.

    Memory: 4 x (classes + 6) bytes per example. Where the probabilities take more than 256 MB, it is 56 bytes per
    example: besides the given class, only the four classes that were most often the most probable are kept.

    For `telling_margins`, a scoring has the weight a * a * (1 - a), where a is the accuracy at that time. So scorings
    count little while the network has learned nothing yet, or has memorized all labels.

    Args:
        labels: Class numbers `(n,)`; -1 where not known yet.
        classes: Number of classes.

    Attributes:
        labels: Class numbers, int64 `(n,)`; -1 where not known yet.
        times: How often each example was scored, int32 `(n,)`.
        forgotten: How often an example that was classified correctly was misclassified the next time (Toneva et al.
            2019, "An Empirical Study of Example Forgetting", definition 2.1), int32 `(n,)`.
        threshold: Labels are called wrong only where the mean margin is below it: 0, or less where the margins of some
            labels that are known to be wrong were measured.
        files: Path of each example, where the images were read from files; else None.
    """

    threshold = 0.0
    files: Sequence[str] | None = None

    def __init__(self, labels: NDArray[np.integer], classes: int) -> None:
        self.labels, self.classes = np.array(labels, np.int64), int(classes)
        count = len(self.labels)
        self.times, self.forgotten = np.zeros(count, np.int32), np.zeros(count, np.int32)
        self._margins, self._right = np.zeros(count, np.float32), np.zeros(count, bool)
        self._own, self._told = np.zeros(count, np.float32), np.zeros(count, np.float32)
        self._weights, self._right_share = np.zeros(count, np.float32), 1 / max(self.classes, 1)
        self._whole = count * self.classes <= _MOST_NUMBERS
        width = self.classes if self._whole else min(self.classes, _LEADING)
        self._sums = np.zeros((count, width), np.float32)
        self._leading = None if self._whole else np.full((count, width), -1, np.int32)

    def add(
        self,
        rows: NDArray[np.integer],
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer] | None = None,
    ) -> bool:
        """Add what the model predicts now for some examples.

        Args:
            rows: Numbers `(m,)` of the examples, each at most once.
            probabilities: Predicted probabilities `(m, classes)`, in [0, 1].
            labels: Class numbers `(m,)` of these examples; None where all are known already.

        Returns:
            True; or False, and nothing is added, where an example has another label than before.
        """
        if labels is not None:
            known = self.labels[rows]
            if np.any((known >= 0) & (known != labels)):
                return False
            self.labels[rows] = labels
        p = np.clip(probabilities.astype(np.float32), 1e-7, 1)
        places, given = np.arange(len(rows)), self.labels[rows]
        own = p[places, given]
        others = p.copy()
        others[places, given] = 0
        rival = others.argmax(1)
        right = own > others[places, rival]
        weight = self._weight(right)
        if self._whole:
            self._sums[rows] += p
        else:
            self._add_leading(rows, others, rival)
        self.forgotten[rows] += self._right[rows] & ~right
        self._right[rows] = right
        margins = np.log(own) - np.log(np.maximum(others[places, rival], 1e-7))
        self._margins[rows] += margins
        self._told[rows] += weight * margins
        self._own[rows] += own
        self._weights[rows] += weight
        self.times[rows] += 1
        return True

    def _weight(self, right):
        """Weight of this scoring, from the accuracy on about as many recent examples as a quarter of the data."""
        recent = len(right) / (len(right) + len(self.labels) / 4)
        self._right_share += recent * (float(right.mean()) - self._right_share) if len(right) else 0.0
        share = self._right_share
        return np.float32(max(share * share * (1 - share), _LEAST_WEIGHT))

    def _add_leading(self, rows, others, rival):
        leading, sums = self._leading[rows], self._sums[rows]
        missing = ~(leading == rival[:, None]).any(1)
        places = np.flatnonzero(missing)
        least = sums[places].argmin(1)
        leading[places, least], sums[places, least] = rival[places], 0
        sums += np.where(leading >= 0, np.take_along_axis(others, np.maximum(leading, 0), 1), 0)
        self._leading[rows], self._sums[rows] = leading, sums

    @property
    def margins(self) -> NDArray[np.float32]:
        """Mean margin `(n,)` in logits; NaN where an example was never scored.

        It is the area under the margin (AUM) of Pleiss et al. 2020, "Identifying Mislabeled Data", section 3.1. It is
        computed from logarithms of probabilities, which differ from logits by one number per example, so that
        differences are the same.
        """
        with np.errstate(all="ignore"):
            return np.where(self.times > 0, self._margins / self.times, np.nan).astype(np.float32)

    @property
    def telling_margins(self) -> NDArray[np.float32]:
        """Mean margin `(n,)`, weighted as the docstring of the class says; NaN where an example was never scored."""
        with np.errstate(all="ignore"):
            return np.where(self.times > 0, self._told / self._weights, np.nan).astype(np.float32)

    @property
    def certainty(self) -> NDArray[np.float32]:
        """Mean probability of the given class `(n,)`, in [0, 1]; 0 where an example was never scored."""
        return self._own / np.maximum(self.times, 1)

    def probabilities(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Mean probabilities `(m, classes)` of some examples.

        Where only leading classes are kept, the other classes share the remaining probability evenly.

        Args:
            rows: Numbers `(m,)` of the examples.
        """
        counted = np.maximum(self.times[rows], 1)[:, None].astype(np.float32)
        if self._whole:
            return self._sums[rows] / counted
        leading, places = self._leading[rows], np.arange(len(rows))[:, None]
        known = np.where(leading >= 0, self._sums[rows] / counted, 0)
        own = self._own[rows][:, None] / counted
        held = (leading >= 0).sum(1, keepdims=True) + 1
        rest = np.maximum(1 - own - known.sum(1, keepdims=True), 0) / np.maximum(self.classes - held, 1)
        found = np.repeat(rest, self.classes, axis=1).astype(np.float32)
        row, column = np.nonzero(leading >= 0)
        found[row, leading[row, column]] = known[row, column]
        found[places, self.labels[rows][:, None]] = own
        return found

    @property
    def rivals(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The most probable class other than the given one `(n,)`, and its mean probability `(n,)`."""
        sums, places = self._sums.copy(), np.arange(len(self.labels))
        if self._whole:
            seen = self.labels >= 0
            sums[places[seen], self.labels[seen]] = -1
        best = sums.argmax(1)
        classes = best if self._whole else self._leading[places, best]
        return classes.astype(np.int64), np.maximum(sums[places, best], 0) / np.maximum(self.times, 1)

    def state(self) -> dict[str, Any]:
        """Everything that the history holds, as arrays by name, for a file or a backup."""
        arrays = {
            "labels": self.labels,
            "times": self.times,
            "forgotten": self.forgotten,
            "margins": self._margins,
            "right": self._right,
            "own": self._own,
            "told": self._told,
            "weights": self._weights,
            "sums": self._sums,
        }
        if self._leading is not None:
            arrays["leading"] = self._leading
        if self.files is not None:
            arrays["files"] = np.frombuffer(b"\0".join(map(os.fsencode, self.files)), np.uint8)
        numbers = {"classes": np.int64(self.classes), "right_share": np.float64(self._right_share)}
        return {name: array.copy() for name, array in arrays.items()} | numbers

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ExampleHistory:
        """The history from which `state` was taken.

        Raises:
            KeyError: when a name is missing.
            ValueError: when an array has a wrong shape.
        """
        history = cls(state["labels"], int(state["classes"]))
        count, held = len(history.labels), {name: np.array(value) for name, value in state.items()}
        for name in ("times", "forgotten", "margins", "right", "own", "told", "weights", "sums"):
            own = name if name in ("times", "forgotten") else f"_{name}"
            array = held[name].astype(getattr(history, own).dtype)
            if len(array) != count or array.ndim != getattr(history, own).ndim:
                raise ValueError(f"{name} has shape {array.shape} for {count} examples")
            setattr(history, own, array)
        history._right_share = float(state["right_share"])
        history._leading = held["leading"].astype(np.int32) if "leading" in held else None
        history._whole = history._leading is None
        if "files" in held:
            history.files = [os.fsdecode(name) for name in held["files"].tobytes().split(b"\0")]
            if len(history.files) != count:
                raise ValueError(f"{len(history.files)} files for {count} examples")
        return history

    def save(self, path: Any) -> None:
        """Write the history into a file, `.npz`."""
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.state())

    @classmethod
    def load(cls, path: Any) -> ExampleHistory:
        """Read a history that `save` wrote.

        Raises:
            DamagedFileError: for a file that cannot be read, or that holds something else.
        """
        remedy = "Remove the file to load the run without its examples."
        try:
            with np.load(path, allow_pickle=False) as archive:
                check_unpacked_size(path, archive.zip)
                return cls.from_state(dict(archive))
        except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise damaged(path, "how each example was answered", str(error), remedy) from error

    def resize(self, count: int) -> None:
        """Keep only the first `count` examples, or add new ones up to `count`, whose labels are not known yet."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                more = max(0, count - len(value))
                filler = -1 if name in ("labels", "_leading") else 0
                rest = np.full((more, *value.shape[1:]), filler, value.dtype)
                setattr(self, name, np.concatenate([value[:count], rest]))
