"""Files that are written whole or not at all, and checked before their content is used."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import socket
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

_PART = ".part-"
_SEAL = "sha256"
# The largest growth by unpacking, in bytes for small files and as a factor for large ones: far more than ours.
_UNPACKED_BYTES, _UNPACKED_TIMES = 64 * 2**20, 100
_MOST_JSON_BYTES = 256 * 2**20


def write_atomically(
    path: str | os.PathLike[str],
    write: Callable[[Path], Any],
    *,
    before_rename: Callable[[Path], Any] | None = None,
) -> None:
    """Write a file under another name, force it to disk, then rename it over the old one.

    Only this process has the other name, which cannot be guessed, and the file is new. So a link that somebody planted
    is never followed, neither there nor at `path`, which is itself replaced.

    Args:
        path: Path of the file.
        write: function `(temporary path)` that writes it. The temporary name keeps the ending of `path`.
        before_rename: function `(temporary path)` called when the file is whole and the old one still in its place.

    Raises:
        OSError: the error of the operating system, with the name of the file; the old file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f"{_part_of(os.getpid())}{secrets.token_hex(8)}{path.suffix[:20]}")
    try:
        remove_parts(path.parent)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename(temporary)
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
        "the previous file is untouched, and a run can be resumed"
    )


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_atomically` for text in UTF-8: `(path, text)`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def csv_text(rows: Iterable[Sequence[Any]], path: Any = None) -> str:
    """Rows as CSV text, also written to a file if one is given.

    Args:
        rows: The names of the columns, and then a row each.
        path: File to write, in UTF-8, where names of files that are none are kept byte for byte; None only returns
            the text.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="", errors="surrogateescape") as file:
            file.write(text.getvalue())
    return text.getvalue()


def write_json(path: str | os.PathLike[str], value: Any, *, sealed: bool = False) -> None:
    """`write_text` for a value that JSON can hold.

    Args:
        path: Path of the file.
        value: What the file is to hold.
        sealed: Add an entry "sha256" over all others to a dict, by which `read_json` notices later changes.
    """
    if sealed:
        value = {**{name: entry for name, entry in value.items() if name != _SEAL}, _SEAL: _seal_of(value)}
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def json_text(value: Any) -> str:
    """A value as JSON for programs to read: numbers with six significant digits, and null where one is not finite."""
    return json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False, default=str)


def _rounded(value):
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _seal_of(value):
    plain = json.loads(json.dumps({name: entry for name, entry in value.items() if name != _SEAL}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def write_archive(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into an `.npz` file without pickles, with a SHA-256 over all of them, whole or not at all.

    Args:
        path: Path of the file; read it with `Archive`.
        arrays: The arrays by their names.
    """
    seal = np.frombuffer(_digest_of(arrays).encode(), np.uint8)

    def write(temporary):
        with open(temporary, "wb") as file:
            np.savez(file, **{**arrays, _SEAL: seal})

    write_atomically(path, write)


def _digest_of(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _part_of(process):
    """The beginning of the names of temporary files of a process of this machine; machines may share a folder."""
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
    except OSError:  # the process of another user, or not the number of a process
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
    """Read a JSON file.

    Args:
        path: The file.
        expected: What it should be, for the error: "the settings of a run", "a backup".
        remedy: What to do about a damaged file, as a sentence.
        kind: The type that its outermost value has to have.

    Raises:
        DamagedFileError: when it is cut off, empty, not JSON, or JSON of another kind.
    """
    try:
        if os.stat(path).st_size > _MOST_JSON_BYTES:
            raise ValueError("it is larger than any of ours")
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, expected, _words(error), remedy) from error
    if not isinstance(value, kind):
        raise damaged(path, expected, f"its JSON is a {type(value).__name__}", remedy)
    if isinstance(value, dict) and _SEAL in value:
        if value.pop(_SEAL) != _seal_of(value):
            raise damaged(
                path,
                expected,
                "it was changed since: its SHA-256 is another",
                f'{remedy} If you trust the change, remove the line "sha256".',
            )
    return value


class Archive:
    """The arrays of an `.npz` file. The size an entry claims is compared with the file before memory is allocated.

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
        entries = {entry.filename.removesuffix(".npy"): entry for entry in self._zip.infolist()}
        self._seal = entries.pop(_SEAL, None)
        self._names = entries

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

    def verify(self) -> None:
        """Read everything, and compare it with the SHA-256 that `write_archive` wrote; else with each entry's CRC-32.

        Raises:
            DamagedFileError: when something is not as it was written.
        """
        whole = {name: self[name] for name in self}
        if self._seal is None:
            return
        with self._in_words():
            if self._read(_SEAL, self._seal).tobytes() != _digest_of(whole).encode():
                raise ValueError("its SHA-256 is another")

    def __getitem__(self, name: str) -> np.ndarray:
        with self._in_words():
            return self._read(name, self._names[name])

    def _read(self, name, entry):
        with self._zip.open(entry) as stream:
            shape, fortran, dtype = _header(stream)
            count = int(np.prod([int(side) for side in shape], dtype=object))
            if dtype.hasobject:
                raise ValueError(f"{name} holds Python objects")
            if count * dtype.itemsize != entry.file_size - stream.tell():
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
