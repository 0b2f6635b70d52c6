"""Decoded images in one file that is mapped into memory, not read."""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.data.in_record import container_of

# Pixels first, so that image n begins at n times the size of one, where a mapped file is indexed like an array; then
# what they are, as compressed JSON; then its length, its checksum and these eight bytes.
_MARK = b"RECIPES2"
_END = struct.Struct("<QI8s")
_MAP_VERSION = 1
# The files, by inode and time, that this process has mapped under each path.
_SEEN: dict[str, list[tuple[int, ...]]] = {}


@dataclass(frozen=True)
class Packed:
    """Images that a packed file holds.

    Attributes:
        path: The file.
        shape: `(n, height, width, channels)`, uint8.
        facts: What `write_packed` was given.
    """

    path: str
    shape: tuple[int, int, int, int]
    facts: dict[str, Any]

    def tensor(self) -> tf.Tensor:
        """All images, uint8 of `shape`; the operating system reads the pages that are looked at."""
        path = os.path.abspath(self.path)
        status = os.stat(path)
        seen = _SEEN.setdefault(path, [])
        identity = status.st_ino, status.st_mtime_ns, status.st_size
        if identity not in seen:
            seen.append(identity)
        # TensorFlow keeps what it has mapped under a name, also when another file has taken that name since.
        folder, name = os.path.split(path)
        name = os.path.join(folder, *["."] * seen.index(identity), name)
        with tf.device("CPU"):
            return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=self.shape, memory_region_name=name)


def write_packed(
    path: str, images: Iterable[np.ndarray], shape: tuple[int, ...], facts: dict[str, Any]
) -> None:
    """Write a packed file, whole or not at all.

    Args:
        path: File to write. A file there is replaced; a process that has mapped the old one goes on with that.
        images: Batches of uint8 `(batch, *shape[1:])`.
        shape: `(n, height, width, channels)`.
        facts: A value that JSON can hold.

    Raises:
        RuntimeError: when `images` gives another number of images than `shape` says; nothing is written then.
        OSError: where the file cannot be written.
    """
    temporary = f"{path}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    checksums, count = [], 0
    try:
        with open(temporary, "wb") as file:
            for batch in images:
                batch = np.ascontiguousarray(batch)
                for image in batch:
                    checksums.append(zlib.crc32(image))
                file.write(batch)
                count += len(batch)
            if count != shape[0]:
                raise RuntimeError(f"{count} images came of {shape[0]}")  # a mistake of ours
            head = {"shape": list(shape), "facts": facts, "checksums": _as_text(np.array(checksums, "<u4"))}
            head = zlib.compress(json.dumps(head | {"version": _MAP_VERSION}).encode())
            file.write(head)
            file.write(_END.pack(len(head), zlib.crc32(head), _MARK))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def is_packed(path: str) -> bool:
    """Whether a file ends like a packed one; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(-_END.size, os.SEEK_END)
            return file.read().endswith(_MARK)
    except OSError:
        return False


def open_packed(path: str, *, verify: bool = True) -> Packed:
    """Open a packed file and check it against its checksums.

    Args:
        path: Path of the file.
        verify: Also read all pixels, and compare the CRC-32 of each image.

    Raises:
        ValueError: for any other file, and one that was cut or changed.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _END.size:
                raise ValueError("it is too short")
            file.seek(size - _END.size)
            length, checksum, mark = _END.unpack(file.read(_END.size))
            if mark != _MARK or length > size - _END.size:
                raise ValueError("it does not end like one")
            file.seek(size - _END.size - length)
            head = file.read(length)
            if zlib.crc32(head) != checksum:
                raise ValueError("its description was changed")
            head = json.loads(zlib.decompress(head))
            shape = tuple(head["shape"])
            if head["version"] != _MAP_VERSION:
                raise ValueError("another version of keras-recipes wrote it")
            if int(np.prod(shape)) + length + _END.size != size:
                raise ValueError("it was cut")
            if verify:
                _verify(file, shape, np.frombuffer(base64.b64decode(head["checksums"]), "<u4"))
    except (ValueError, KeyError, zlib.error) as error:
        raise ValueError(
            f"data.load expects a whole file that data.pack wrote. Received {path!r}: {error}. Pack it again."
        ) from error
    return Packed(os.fspath(path), shape, head["facts"])


def _verify(file, shape, checksums):
    file.seek(0)
    size = int(np.prod(shape[1:]))
    for number, expected in enumerate(checksums):
        if zlib.crc32(file.read(size)) != expected:
            raise ValueError(f"the pixels of image {number} were changed")


def fingerprint(root: str, files: np.ndarray, settings: dict[str, Any]) -> str:
    """A text that changes when a file is added, removed or written, or a setting differs.

    Args:
        root: Folder of the files.
        files: bytes `(n,)`, paths below `root`; a file that is missing changes the text too.
        settings: A value that JSON can hold.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    start = os.fsencode(os.path.join(root, ""))
    for file in files:
        try:
            status = os.stat(container_of(start + file))
            digest.update(file + b"%d %d %d\0" % (status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError:
            digest.update(file + b"gone\0")
    return digest.hexdigest()


def names_and_sizes(root: str, files: np.ndarray, rows: np.ndarray) -> str:
    """A text that changes when one of these files has another name or another length, wherever `root` is.

    Args:
        root: Folder of the files.
        files: bytes `(n,)`, paths below it.
        rows: int `(m,)`, the ones that matter.

    Returns:
        64 hexadecimal digits.
    """
    digest, start = hashlib.sha256(), os.fsencode(os.path.join(root, ""))
    for file in files[rows]:
        try:
            size = os.stat(container_of(start + file)).st_size
        except OSError:
            size = -1
        digest.update(file + b"\0%d\0" % size)
    return digest.hexdigest()


def _as_text(array):
    return base64.b64encode(array.tobytes()).decode()


def numbers_as_text(array: np.ndarray) -> dict[str, Any]:
    """An array of numbers, of any shape, as JSON takes it: `{"dtype", "shape", "bytes" (base64)}`."""
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": _as_text(np.ascontiguousarray(array)),
    }


def numbers_of_text(text: dict[str, Any]) -> np.ndarray:
    """The array that `numbers_as_text` was given, with its dtype and shape.

    Raises:
        KeyError, ValueError: for another dict.
    """
    return np.frombuffer(base64.b64decode(text["bytes"]), text["dtype"]).reshape(text["shape"]).copy()


@contextlib.contextmanager
def one_process_at_a_time(path: str) -> Iterator[None]:
    """Wait until no other process builds this file; where the system has no such locks, both build it."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    name = hashlib.sha256(os.path.realpath(path).encode(errors="surrogateescape")).hexdigest()[:20]
    with open(os.path.join(tempfile.gettempdir(), f"keras-recipes-{os.getuid()}-{name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # the file stays: another process may be waiting for this very one


def cache_folder() -> str:
    """The user's folder for files that can be made again."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.join(base, "keras-recipes")


def free_memory() -> int:
    """Bytes of memory that are free for this process; 0 where the system does not say."""
    free = 0
    with (
        contextlib.suppress(OSError, ValueError, StopIteration),
        open("/proc/meminfo", encoding="ascii") as file,
    ):
        free = 1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):  # a container's limit
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = int(file.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            free = min(free, limit - int(file.read()))
    return max(0, free)


def free_disk(path: str) -> int:
    """Bytes that are free where a file is to be written, whether its folder exists yet or not."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
