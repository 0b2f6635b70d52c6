"""Files that are written whole or not at all, and read back without believing what they claim."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

_PART = ".part-"
# A small file may grow this much by unpacking, and a large one this many times: far more than our files do.
_UNPACKED_BYTES, _UNPACKED_TIMES = 64 * 2**20, 100
_MOST_JSON_BYTES = 256 * 2**20


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> None:
    """Write a file under another name, force it to disk, then rename it over the old one.

    The other name belongs to this process alone and cannot be guessed, and the file is new: a link that somebody
    planted is never followed, neither there nor at `path`, which is replaced itself.

    Args:
        path: Where the file shall be.
        write: function `(temporary path)` that writes it. The temporary name keeps the ending of `path`.

    Raises:
        OSError: what the disk says, with the name of the file; the old file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f"{_part_of(os.getpid())}{secrets.token_hex(8)}{path.suffix[:20]}")
    try:
        remove_parts(path.parent)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise type(error)(error.errno, _cannot_write(path, error)) from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:  # the same that kept it from being written, which is the one to report
            pass


def _cannot_write(path, error):
    reason = error.strerror or str(error)
    return (
        f"Cannot write {path}: {reason[:1].lower()}{reason[1:]}. Give a folder with room that may be written to; "
        "what was there before is untouched, and a run can be resumed"
    )


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_atomically` for text in UTF-8: `(path, text)`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """`write_text` for what JSON can hold: `(path, value)`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _part_of(process):
    """How the temporary files of a process of this machine begin; several machines may share a folder."""
    machine = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    return f"{_PART}{machine}-{process}-"


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files of this machine's processes that were killed while they wrote into a folder."""
    mine = _part_of("").removesuffix("-")
    for part in Path(folder).glob(f"{mine}*"):
        number = part.name[len(mine) :].partition("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            part.unlink(missing_ok=True)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or no number of a process at all
        return True
    return True


class DamagedFileError(ValueError):
    """A file that does not hold what its name says: cut off, written by another program, or made to do harm."""


def damaged(path: str | os.PathLike[str], expected: str, reason: str, remedy: str) -> DamagedFileError:
    """The error for a file that cannot be used, in three sentences."""
    return DamagedFileError(
        f"recipes expects {expected} in {path}. Received a file that cannot be read as one ({reason}). {remedy}"
    )


def read_json(path: str | os.PathLike[str], expected: str, remedy: str, kind: type = dict) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        expected: What it should be, for the error: "the settings of a run", "a backup".
        remedy: What to do about it: a sentence.
        kind: What its outermost value has to be.

    Raises:
        DamagedFileError: when it is cut off, empty, no JSON, or JSON of another kind.
    """
    try:
        if os.stat(path).st_size > _MOST_JSON_BYTES:
            raise ValueError("it is larger than any of ours")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, expected, _words(error), remedy) from error
    if not isinstance(value, kind):
        raise damaged(path, expected, f"its JSON is a {type(value).__name__}", remedy)
    return value


class Archive:
    """The arrays of an `.npz` file. What an entry claims is compared with the file before memory is taken.

    Args:
        path: The file.
        expected: What it should be, for errors.
        remedy: What to do about it: a sentence.

    Raises:
        DamagedFileError: here, and for an entry when it is read.
    """

    def __init__(self, path: str | os.PathLike[str], expected: str, remedy: str) -> None:
        self._path, self._expected, self._remedy = path, expected, remedy
        with self._in_words():
            self._zip = zipfile.ZipFile(path)
            try:
                check_unpacked_size(path, self._zip)
            except ValueError:
                self._zip.close()
                raise
        self._names = {entry.filename.removesuffix(".npy"): entry for entry in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        with self._in_words(), self._zip.open(self._names[name]) as stream:
            shape, fortran, dtype = _header(stream)
            count = int(np.prod([int(side) for side in shape], dtype=object))
            if dtype.hasobject:
                raise ValueError(f"{name} holds Python objects")
            if count * dtype.itemsize != self._names[name].file_size - stream.tell():
                raise ValueError(f"{name} claims {count} numbers and holds another count")
            flat = np.frombuffer(stream.read(), dtype).copy()
        return flat.reshape(shape, order="F" if fortran else "C")

    def about(self) -> dict[str, Any]:
        """The JSON object in the entry "about"."""
        with self._in_words():
            about = json.loads(self["about"].astype(np.uint8, casting="no").tobytes())
            if not isinstance(about, dict):
                raise ValueError(f"about is a {type(about).__name__}")
        return about

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except DamagedFileError:
            raise
        except Exception as error:
            # Whatever zipfile, zlib, numpy and json find wrong with bytes that anybody may have written.
            raise damaged(self._path, self._expected, _words(error), self._remedy) from error


def check_unpacked_size(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> None:
    """Refuse a zip file that would unpack to far more than it holds.

    Raises:
        ValueError: for sizes that only a file made to fill the memory declares.
    """
    declared = sum(entry.file_size for entry in archive.infolist())
    if declared > _UNPACKED_BYTES + _UNPACKED_TIMES * os.stat(path).st_size:
        raise ValueError(f"it would unpack to {declared / 2**20:.0f} MB")


def _header(stream):
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"its arrays are of version {version}")
    shape, fortran, dtype = read[version](stream, max_header_size=10_000)
    if any(side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran, dtype


def _words(error):
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    missing = "no entry " if isinstance(error, KeyError) else ""
    return f"{missing}{text}".strip().rstrip(".").splitlines()[0] if text.strip() else type(error).__name__


def checksum(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
