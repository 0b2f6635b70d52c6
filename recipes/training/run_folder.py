"""The folder of a run: who may write to it, what it holds, and whether it belongs to the run that asks to go on."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipes.checkpoints.backup_file import newest_whole, read_backup
from recipes.checkpoints.comparison import differences
from recipes.checkpoints.kept_backups import INDEX, Keep, KeptBackups
from recipes.common.files import damaged, read_json, remove_parts, write_json
from recipes.common.history_table import read_history
from recipes.common.processes import is_first_process, meet, process_count
from recipes.training.settings import FREE_ON_RESUME, Settings

try:
    import fcntl
except ImportError:  # Windows, where a run is not locked
    fcntl = None

FORMAT = 2
# All that a run writes into its folder, besides `snapshots/`; `backup-2.npz` and `best-12.npz` with keep=.
FILES = (
    "run.json",
    "model.keras",
    "best.keras",
    "backup.npz",
    "last.npz",
    "backups.json",
    "history.csv",
    "curves.png",
    "findings.json",
    "record.npz",
    "examples.npz",
)
_LOCK = ".lock"
# Entries of run.json besides the arguments of `recipes.train`; they are not compared.
_NOT_COMPARED = {
    "before_training",
    "times",
    "rate_by_step",
    "data",  # the place of the data; its content is compared by train_data
    "model",
    "parameters",
    "finished",
    "changes",
    "command",
    "checksums",
    "schedule_points",
    "schedule_epochs",
}
_MOST_NAMED = 8


class OtherRunError(ValueError):
    """`resume=True` with other arguments, another model or other data than the run in the folder.

    Attributes:
        before: The description of the run in the folder.
        now: The description of the one that asks to go on.
        named: What differs, in words.
    """

    def __init__(
        self, message: str, *, before: dict[str, Any], now: dict[str, Any], named: list[str]
    ) -> None:
        super().__init__(message)
        self.before, self.now, self.named = before, now, named


@dataclass
class RunFolder:
    """A run_dir that this run has locked.

    Attributes:
        path: The folder, absolute: a later change of the working directory does not move it.
        written: Where this process writes. In a run of several processes the first one writes to `path`, the others to
            a folder that is removed afterwards: all of them must save, because some variables can be read only by all
            processes together.
        before: What `run.json` said when the folder was opened; None for a new run.
        resume: The argument of `recipes.train`.
    """

    path: Path
    written: Path
    before: dict[str, Any] | None
    resume: bool | str

    @property
    def finished(self) -> bool:
        """Whether the run in the folder came to its end."""
        return self.before is not None and self.before.get("finished") is True

    def backups(self) -> list[Path]:
        """Every backup, newest first."""
        return KeptBackups(self.path, Keep()).files()

    def check_files(self) -> None:
        """Check that the files of the run that hold no checksum of their own are as they were written.

        A changed `history.csv` is only reported, as it is written anew from the backup.

        Raises:
            DamagedFileError: for a changed `best.keras` or `backups.json`.
        """
        if (
            self.before is None or not self.resume or self.finished
        ):  # run.json has the checksums of a finished one
            return
        for name in KeptBackups(self.path, Keep()).changed():
            file = self.path / name
            if name == "history.csv":
                print(
                    f"recipes.train: {file} was changed since it was written; it is written anew from the backup."
                )
                continue
            raise damaged(
                file,
                f"the {name} of this run",
                f"its SHA-256 is not the one in {INDEX}",
                "Put a copy of the file back, or remove it: the next epoch that is better than all before writes one, "
                "and where none is, the run ends without the file.",
            )

    def newest_backup(self) -> Path | None:
        """The newest backup that is whole, None without any; a damaged newer one is reported.

        Raises:
            ValueError: when there are backups and all of them are damaged.
        """
        if self.before is None or not self.resume:
            return None
        path, wrong = newest_whole(self.backups())
        for words in wrong:
            print(f"recipes.train: {words} Going on from {path} instead.")
        if path is None and not self.finished and (self.path / INDEX).exists():
            print(f"recipes.train: no backup of the run in {self.path} is left; the run begins at epoch 1.")
        return path

    def check_epochs(self, epochs: int) -> None:
        """Check that the run in the folder has not made more epochs than it is to have.

        Args:
            epochs: Of the run that asks to go on.

        Raises:
            ValueError: when it has, also with `resume="force"`: what was trained cannot be taken back.
        """
        before = (self.before or {}).get("epochs")
        if not self.resume or not isinstance(before, int) or epochs >= before:
            return
        done, batches = self._done()
        if epochs >= done + (batches > 0):
            return
        made = f"{done} epoch{'' if done == 1 else 's'}"
        made += f" and {batches} batches of the next" if batches else ""
        raise ValueError(
            f"resume expects epochs={done + (batches > 0)} or more, as the run in {self.path} has done {made} "
            f"already. Received epochs={epochs}. Give epochs={before}, as before, or more; or another run_dir for a "
            "shorter run."
        )

    def _done(self):
        """How many epochs the run in the folder has made, and batches of the next; 0 where no file tells."""
        if self.finished:
            table = self.path / "history.csv"
            return max(map(len, read_history(table).values()), default=0) if table.exists() else 0, 0
        file, _ = newest_whole(self.backups())
        about = read_backup(file) if file is not None else {"epoch": 0, "batch": 0}
        return about["epoch"], about["batch"]

    def compare(self, description: dict[str, Any]) -> list[str]:
        """What differs from the run in the folder, in words.

        Raises:
            OtherRunError: when something does, unless `resume="force"`.
        """
        if self.before is None or self.before.get("format") != FORMAT:
            return []
        # What compile() was told is in the arguments of a model that is not compiled yet.
        compiled = {"compiled", "compiled_loss"}
        free = FREE_ON_RESUME | _NOT_COMPARED | (set() if "compiled" in description else compiled)
        free |= {"compiled_loss"} - self.before.keys()  # of a run of an earlier version
        if not is_first_process():
            free |= {
                "train_data",
                "validation_data",
            }  # run.json holds the data of the first process; each reads its own
        found = []
        for name in dict.fromkeys([*self.before, *description]):
            if name not in free:
                found += differences(self.before.get(name), description.get(name), name)
        fewer = self._fewer_epochs(description)
        if (found or fewer) and self.resume != "force":
            named = [*fewer, *found]
            if self.before.get("image_shape") != description.get(
                "image_shape"
            ):  # from which the others follow
                follows = ("train_data image_shape", "validation_data image_shape", "architecture:")
                named = [words for words in named if not words.startswith(follows)]
            more = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
            raise OtherRunError(
                f"resume=True expects the arguments, model and data of the run in {self.path}. Received others: "
                f"{'; '.join(named[:_MOST_NAMED])}{more}. "
                "Give the same, type resume='force' to go on with the new ones, or start a new run_dir.",
                before=self.before,
                now=description,
                named=named[:_MOST_NAMED],
            )
        return [*fewer, *found]

    def _fewer_epochs(self, description):
        before, now = self.before.get("epochs"), description["epochs"]
        fewer = isinstance(before, int) and now < before
        return [f"epochs: {before}, now {now}"] if fewer else []

    def write_settings(self, description: dict[str, Any]) -> None:
        """Write `run.json`."""
        write_json(self.written / "run.json", description, sealed=True)

    def keep_last(self, keep: Keep | None = None) -> None:
        """Keep the newest backup of a run that is finished as the state that more epochs would begin with."""
        if self.written != self.path:
            return
        kept = KeptBackups(self.path, keep or Keep())
        if kept.newest.exists():
            os.replace(kept.newest, self.path / "last.npz")
        for file in self.path.glob("backup-*.npz"):
            if re.fullmatch(r"backup-\d+\.npz", file.name):
                file.unlink(missing_ok=True)
        if (self.path / INDEX).exists():
            kept.write_index()


@contextmanager
def open_folder(settings: Settings) -> Iterator[RunFolder | None]:
    """The folder of a run, locked until the `with` block ends; None without `run_dir`.

    Raises:
        ValueError: for a folder that holds another run, or somebody else's files; a damaged run.json; a run that
            another process is writing.
        OSError: for a folder that cannot be made or written to.
    """
    if settings.run_dir is None:
        yield None
        return
    path = Path(os.path.abspath(os.fspath(settings.run_dir)))
    if process_count() > 1 and isinstance(settings.backup_every, str):
        raise ValueError(
            "recipes.train expects backup_every as a number of steps in a run of several processes, whose clocks "
            f"differ. Received {settings.backup_every!r}. Give steps, the same on every worker."
        )
    if not is_first_process():
        with TemporaryDirectory(prefix="recipes-run-") as own:
            folder = _opened(path, Path(own), settings)
            meet("open_folder")  # all have looked before the first one writes
            yield folder
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        allowed = os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
        lock = _Lock(path / _LOCK) if allowed else None
    except OSError as error:
        raise type(error)(error.errno, _unusable(path, error)) from error
    if lock is None:
        raise PermissionError(errno.EACCES, _unusable(path, PermissionError(errno.EACCES, "it is read-only")))
    try:
        folder = _opened(path, path, settings)
        meet("open_folder")
        yield folder
    finally:
        lock.release()


def _unusable(path, error):
    reason = (
        "a file of that name is there" if isinstance(error, FileExistsError) else error.strerror or str(error)
    )
    return (
        f"recipes.train expects a run_dir it may write to. Received {path}, which is read-only or not a folder "
        f"({reason}). Give another folder"
    )


def _opened(path, written, settings):
    before = check_folder(path, resume=bool(settings.resume))
    remove_parts(path)
    return RunFolder(path, written, before, settings.resume)


def check_folder(path: Path, *, resume: bool) -> dict[str, Any] | None:
    """See whether a run may be written into a folder, and change nothing.

    Args:
        path: The folder, which need not exist.
        resume: Whether it may hold a run.

    Returns:
        What its `run.json` says; None without one.

    Raises:
        ValueError: for a folder that holds another run, or somebody else's files; a damaged run.json.
    """
    before = read_settings(path) if (path / "run.json").exists() else None
    held = [name for name in FILES if os.path.lexists(path / name)]
    if before is not None and not resume:
        raise ValueError(
            f"recipes.train expects a run_dir without a run in it. Received {path}, which holds run.json. "
            "Give resume=True to go on with that run, or another folder."
        )
    if held and before is None:
        # run.json is the first file of a run, so these are somebody else's.
        raise ValueError(
            f"recipes.train expects a run_dir without files of the names it writes. Received {path}, which holds "
            f"{', '.join(held)} and no run.json. Give another folder, or move them away."
        )
    if before is not None and before.get("format") != FORMAT and before.get("finished") is not True:
        version = (before.get("versions") or {}).get("keras-recipes", "an older version")
        raise ValueError(
            f"resume expects a run of keras-recipes 2. Received one of {version} in {path}. "
            "Finish it with that version, or start a new run_dir."
        )
    return before


def read_settings(folder: Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        DamagedFileError: when it does not hold the settings of a run.
    """
    remedy = "Put a copy of the file back, or train again in a new run_dir."
    return read_json(folder / "run.json", "the settings of a run", remedy)


class _Lock:
    """A locked file that says who holds a folder; the system releases it when the process ends, however it ends."""

    def __init__(self, path):
        self.path, self.file = path, None
        if fcntl is None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        while True:
            file = os.fdopen(os.open(path, flags, 0o644), "r+", encoding="utf-8", errors="replace")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read(300).strip() or "another process"
                file.close()
                raise ValueError(
                    f"recipes.train expects a run_dir that no other run is writing to. Received {path.parent}, held by "
                    f"{holder}. Wait for it or end it, or give another folder."
                ) from None
            if _is_still(path, file):
                break
            file.close()  # its holder removed it between our two lines
        self.file = file
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()

    def release(self):
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()


def _is_still(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
