"""Which backups of a run stay: the last ones and those of its best epochs, with an index of them."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from recipes.checkpoints.backup_file import read_backup
from recipes.common.files import checksum, damaged, read_json, write_atomically, write_json
from recipes.common.validation import is_whole

INDEX = "backups.json"
SEALED = ("best.keras", "history.csv")  # files of a run that hold no checksum themselves
_INDEX_EXPECTED = "the list of backups of a run"
_INDEX_REMEDY = "Remove the file: it is written anew with the next backup."
_LESS_IS_BETTER = ("loss", "error", "perplexity")
_MORE_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "iou", "dice", "score", "top", "r2", "cosine")


class KeepOptions(TypedDict, total=False):
    """The options that `recipes.train(keep=...)` takes instead of a number.

    Attributes:
        last: Newest backups to keep, >= 1.
        best: Backups of the best epochs to keep, >= 0, as `best-<epoch>.npz`.
        metric: The column of the history that says which are best.
        mode: Whether "min" or "max" is best; the name of the metric tells where it is left out.
    """

    last: int
    best: int
    metric: str
    mode: Literal["min", "max"]


@dataclass(frozen=True)
class Keep:
    """What to keep of a run: `KeepOptions`, complete.

    Attributes:
        last: Newest backups to keep, >= 1.
        best: Backups of the best epochs to keep, >= 0.
        metric: The column of the history that says which are best.
        mode: "min" or "max".
    """

    last: int = 1
    best: int = 0
    metric: str = "val_loss"
    mode: str = "min"

    @classmethod
    def of(cls, keep: int | Mapping[str, Any]) -> Keep:
        """From the argument `keep` of `recipes.train`.

        Args:
            keep: A number of newest backups, 1 to 2^31 - 1, or a mapping with `KeepOptions`. A missing "mode" follows
                from the name of the metric: losses and errors fall, scores rise.

        Raises:
            ValueError: for other numbers or names, and for a metric whose name does not say which way is better.
        """
        if not isinstance(keep, Mapping):
            keep = {"last": keep}
        last, best, metric = keep.get("last", 1), keep.get("best", 0), keep.get("metric", "val_loss")
        mode = keep.get("mode") or (_mode_of(metric) if isinstance(metric, str) else None)
        known = set(keep) <= {"last", "best", "metric", "mode"} and isinstance(metric, str)
        counts = is_whole(last) and 1 <= last < 2**31 and is_whole(best) and 0 <= best < 2**31
        if not known or not counts or (mode is not None and mode not in ("min", "max")):
            raise ValueError(
                "recipes.train expects keep, the number of backups to keep, >= 1, or a dict of last, best, metric and "
                f"mode. Received keep={keep if len(keep) > 1 or 'last' not in keep else last!r}. "
                "Write keep={'last': 2, 'best': 3, 'metric': 'val_accuracy'}."
            )
        if best and mode is None:
            raise ValueError(
                f"recipes.train expects keep to say what is best. Received metric={metric!r}, whose name does not. "
                "Add 'mode': 'min' or 'mode': 'max'."
            )
        return cls(int(last), int(best), metric, mode or "min")


def _mode_of(metric):
    name = metric.lower()
    if any(word in name for word in _LESS_IS_BETTER):
        return "min"
    return "max" if any(word in name for word in _MORE_IS_BETTER) else None


class KeptBackups:
    """The backups in a run's folder.

    `backup.npz` is the newest, `backup-2.npz` the one before it, `best-12.npz` the backup at the end of epoch 12, and
    `last.npz` the state a finished run ended with. `backups.json` lists them with their metrics. Its content is read
    from the files: if the process is killed between two writes, the next backup corrects the list. It also holds the
    SHA-256 of `best.keras` and `history.csv`. Before a new file is renamed into its place, its SHA-256 is listed beside
    that of the file it replaces.

    Args:
        folder: The run's folder.
        keep: What to keep.
    """

    def __init__(self, folder: Path, keep: Keep) -> None:
        self.folder, self.keep = folder, keep
        self._sums: dict[str, list[str]] | None = None

    @property
    def newest(self) -> Path:
        """Where the next backup is written."""
        return self.folder / "backup.npz"

    def files(self) -> list[Path]:
        """The last backups, newest first; then the last state of a finished run; then the backups of the best
        epochs."""
        numbered = [file for _, file in sorted(_numbered(self.folder, "backup"))]
        best = [file for _, file in sorted(_numbered(self.folder, "best"), reverse=True)]
        return [self.newest, *numbered, self.folder / "last.npz", *best]

    def go_on(self, file: Path | None, epoch: int) -> None:
        """Begin a run, or go on from a backup: files of best epochs that are yet to come belong to another run.

        Args:
            file: The backup from which the run goes on, or None.
            epoch: Number of finished epochs.
        """
        for number, best in _numbered(self.folder, "best"):
            if number > epoch:
                best.unlink(missing_ok=True)
        if file is not None and self.keep.best:
            about = read_backup(file)
            if about["batch"] == 0:  # of a process killed after it wrote this one
                self._keep_best(file, about)

    def make_room(self) -> None:
        """Rename the newest backup, and those before it, by one number, so that the next one can be written."""
        older = [self.folder / f"backup-{number}.npz" for number in range(2, self.keep.last + 1)]
        files = [self.newest, *older]
        for to, source in zip(files[:0:-1], files[-2::-1], strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, to)

    def written(self, about: Mapping[str, Any]) -> None:
        """Note that the newest backup was written: keep it if it is one of the best, and list all.

        Args:
            about: The description that the backup holds, as `RunState.about`.
        """
        if self.keep.best and about["batch"] == 0:
            self._keep_best(self.newest, about)
        self.write_index()

    def expect(self, sums: Mapping[str, str]) -> None:
        """Write into `backups.json` the checksums that files are about to have, beside those that they have now.

        Args:
            sums: SHA-256 of the coming file, by its name.
        """
        known, after = self._read_sums(), dict(self._read_sums())
        for name, coming in sums.items():
            file = self.folder / name
            there = (
                checksum(file) if file.is_file() else None
            )  # not the last one said: that may never have come
            after[name] = [*([there] if there in known.get(name, []) else []), coming]
        self._sums = after
        self.write_index()

    def changed(self) -> list[str]:
        """The names in `SEALED` of files that are not as they were written.

        Raises:
            DamagedFileError: when `backups.json` itself is not as it was written.
        """
        sums = self._read_sums()
        there = [name for name in SEALED if name in sums and (self.folder / name).is_file()]
        return [name for name in there if checksum(self.folder / name) not in sums[name]]

    def _read_sums(self):
        if self._sums is None:
            file = self.folder / INDEX
            index = read_json(file, _INDEX_EXPECTED, _INDEX_REMEDY) if file.exists() else {}
            self._sums = index.get("sha256 of files", {})
            if not isinstance(self._sums, dict) or not all(isinstance(s, list) for s in self._sums.values()):
                raise damaged(file, _INDEX_EXPECTED, "its checksums are of another kind", _INDEX_REMEDY)
        return self._sums

    def write_index(self) -> None:
        """Write `backups.json`."""
        entries = []
        for file in self.files():
            if not file.exists():
                continue
            try:
                about = read_backup(file)
            except ValueError as error:
                entries.append({"file": file.name, "damaged": str(error)})
                continue
            row = about["history"][about["epoch"] - 1] if about["epoch"] else {}
            where = {name: about[name] for name in ("epoch", "batch")}
            entries.append({"file": file.name, **where, "bytes": file.stat().st_size, "metrics": row})
        index = {
            "format": 1,
            "keep": vars(self.keep),
            "backups": entries,
            "sha256 of files": self._read_sums(),
        }
        write_json(self.folder / INDEX, index, sealed=True)

    def _keep_best(self, file, about):
        rows = about["history"]
        there = {number for number, _ in _numbered(self.folder, "best")} | {about["epoch"]}
        ranked = sorted(there, key=lambda epoch: (self._cost(rows[epoch - 1]), epoch))[: self.keep.best]
        if about["epoch"] in ranked:
            _copy(file, self._best(about["epoch"]))
        for epoch in there - set(ranked):
            self._best(epoch).unlink(missing_ok=True)

    def _cost(self, row):
        value = row.get(self.keep.metric, math.nan)
        if math.isnan(value):
            return math.inf
        return value if self.keep.mode == "min" else -value

    def _best(self, epoch):
        return self.folder / f"best-{epoch}.npz"


def _numbered(folder, name):
    return [
        (int(match[1]), file)
        for file in folder.glob(f"{name}-*.npz")
        if (match := re.fullmatch(rf"{name}-(\d+)\.npz", file.name))
    ]


def _copy(source, target):
    """The same file under a second name where the disk can do that, else a copy."""
    if target.exists() and os.path.samefile(source, target):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
