"""Decode all files of a folder at once: to check them, and to keep the images in memory or in a packed file."""

import hashlib
import json
import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.data import packed
from recipes.data.image_set import Reading, as_tensor
from recipes.data.listing import Listing
from recipes.data.look_at_files import Looked, progress_bar, refuse_bad
from recipes.data.read import Reader, reason

_READER_VERSION = 1  # another one makes packed files anew
_BATCH = 64  # images per batch
_MOST_CACHED = 64 * 10**9


def _decoded(reader, listing, looked, reading):
    """Batches of `(rows, images)` of all files that decode, in order; those that do not join the bad ones."""
    rows = np.flatnonzero(~looked.bad)
    files = tf.constant(listing.files[rows])
    start = os.fsencode(os.path.join(listing.root, ""))

    def read(row, file, *facts):
        return row, reader(tf.strings.join([start, file]), *facts)

    dataset = tf.data.Dataset.from_tensor_slices((rows, files, *looked.facts(rows)))
    dataset = dataset.map(read, num_parallel_calls=os.cpu_count()).ignore_errors(log_warning=False)
    options = tf.data.Options()
    options.autotune.enabled = False
    decoded = np.zeros(len(listing.files), bool)
    bar = progress_bar(len(listing.files), reading)
    for numbers_, images in dataset.batch(_BATCH).with_options(options).as_numpy_iterator():
        decoded[numbers_] = True
        yield numbers_, images
        if bar:
            bar.update(int(numbers_[-1]) + 1)
    for row in rows[~decoded[rows]]:
        looked.bad[row] = True
        looked.reasons.append((looked.names(row), _why(reader, looked, row)))
    looked.reasons.sort()
    refuse_bad(looked.reasons, reading)


def _why(reader, looked, row):
    try:
        reader(tf.constant(os.fsencode(looked.names(row))), *looked.facts(row))
    except (tf.errors.OpError, ValueError) as error:
        return reason(error)
    return "It did not decode at first, but does now."


def keep_nothing(
    reader: Reader, listing: Listing, looked: Looked, reading: Reading
) -> tuple[np.ndarray, tf.Tensor | None]:
    """Decode all files once, to name the bad ones.

    Args:
        reader: Gives uint8 `(height, width, channels)` for a file.
        listing: n files.
        looked: What the headers of the files said; files that do not decode become `bad` in it.
        reading: Whether bad files are skipped.

    Returns:
        `(rows that are good, None)`, the rows int64 `(good,)`.

    Raises:
        ValueError: for files that do not decode, unless they are skipped.
    """
    for _ in _decoded(reader, listing, looked, reading):
        pass
    return np.flatnonzero(~looked.bad), None


def keep_in_memory(
    reader: Reader, listing: Listing, looked: Looked, reading: Reading
) -> tuple[np.ndarray, tf.Tensor | None]:
    """As `keep_nothing`, but `(rows that are good, their pixels)`: uint8 `(good, height, width, channels)`."""
    images = np.empty((int((~looked.bad).sum()), *reader.expected), np.uint8)
    count = 0
    for rows, batch in _decoded(reader, listing, looked, reading):
        images[count : count + len(rows)] = batch
        count += len(rows)
    return np.flatnonzero(~looked.bad), as_tensor(images[:count])


def keep_in_file(
    reader: Reader, listing: Listing, looked: Looked, reading: Reading, path: str
) -> tuple[np.ndarray, tf.Tensor | None]:
    """As `keep_in_memory`, with the pixels in a packed file at `path`; written anew unless it holds exactly these.

    Another process that wants the same file waits until it is written.

    Raises:
        OSError: where the file cannot be written.
        ValueError: as `keep_nothing`.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with packed.one_process_at_a_time(path):
        known = valid_cache(path, listing, reading, reader.expected)
        if known is None:
            write_images(path, reader, listing, looked, reading)
            known = packed.open_packed(path, verify=False)
        else:
            looked.bad[:] = True
            looked.bad[known.facts["rows"]] = False
    if reading.verbose:
        print(
            f"data.load: decoded images are kept in {path}, {os.path.getsize(path) / 1e6:,.0f} MB.",
            file=sys.stderr,
        )
    return np.array(known.facts["rows"], np.int64), known.tensor()


def write_images(path: str, reader: Reader, listing: Listing, looked: Looked, reading: Reading) -> None:
    """Decode all files of a listing into a packed file at `path`, with its classes, labels and names.

    Raises:
        ValueError: as `keep_nothing`.
        RuntimeError: when fewer images come than there are files.
    """
    print_before = packed.fingerprint(
        listing.root, listing.files, _settings(listing, reading, reader.expected)
    )
    if reading.skip:  # the number of images has to be known before
        keep_nothing(reader, listing, looked, reading)
    rows = np.flatnonzero(~looked.bad)
    facts = {
        "fingerprint": print_before,
        "rows": rows.tolist(),
        "skipped": listing.skipped + [f"{file}: {why}" for file, why in looked.reasons],
        "files": [os.fsdecode(file) for file in listing.files[rows]],
        "labels": packed.numbers_as_text(listing.labels[rows]),
        "parts": None if listing.parts is None else packed.numbers_as_text(listing.parts[rows]),
        "class_names": listing.class_names,
        "notes": listing.notes,
        "masks": listing.masks is not None,
        "fit": reading.fit if reading.size else None,
        "background": list(reading.background),
    }
    batches = (images for _, images in _decoded(reader, listing, looked, reading))
    packed.write_packed(path, batches, (len(rows), *reader.expected), facts)


def _settings(listing, reading, shape):
    labels = hashlib.sha256(np.ascontiguousarray(listing.labels).tobytes()).hexdigest()
    return {
        "version": _READER_VERSION,
        "shape": [int(side) for side in shape],
        "resized": reading.size is not None,
        "fit": reading.fit,
        "background": reading.background,
        "skip": reading.skip,
        "class_names": listing.class_names,
        "labels": labels,
    }


def valid_cache(
    path: str, listing: Listing, reading: Reading, shape: tuple[int, ...]
) -> packed.Packed | None:
    """The packed file at a path if it holds exactly these images, else None.

    Args:
        path: Path of the file.
        listing: The files, of which none may have been written since.
        reading: The settings that must be the same.
        shape: `(height, width, channels)` of an image.
    """
    if not os.path.exists(path):
        return None
    try:
        known = packed.open_packed(path)
    except ValueError:
        return None
    wanted = packed.fingerprint(listing.root, listing.files, _settings(listing, reading, shape))
    return known if known.facts["fingerprint"] == wanted else None


def place_of_cache(
    cache: Any, listing: Listing, shape: tuple[int, ...], reading: Reading
) -> tuple[str | None, str | None]:
    """`("memory" | "file" | None, path)`: where decoded images go.

    Raises:
        ValueError: for a `cache` of another kind, a file that is something else, or a disk without room.
    """
    needed = len(listing.files) * int(np.prod(shape))
    if cache is None:
        return None, None
    if not isinstance(cache, (str, os.PathLike)) or not os.fspath(cache):
        raise ValueError(
            f"data.load expects cache to be 'auto', 'memory', a path or None. Received cache={cache!r}. "
            "None decodes every image whenever it is needed."
        )
    if cache == "memory":
        return "memory", None
    if cache != "auto":
        path = os.path.expanduser(os.fspath(cache))
        if os.path.isdir(path):
            return "file", os.path.join(path, _name_of_cache(listing, reading, shape))
        if os.path.exists(path) and not packed.is_packed(path):
            raise ValueError(
                f"data.load expects cache to be a file that it may write. Received {path!r}, which is something else. "
                "Give another name, such as cache='photos.packed'."
            )
        room = packed.free_disk(path)
        if needed > room:
            raise ValueError(
                f"data.load expects room for {needed / 1e9:.1f} GB at cache={path!r}. Received a disk with "
                f"{room / 1e9:.1f} GB free. Give a path on another one, a smaller image_size=, or cache=None."
            )
        return "file", path
    if not reading.check:
        return None, None
    if needed <= packed.free_memory() / 4:
        return "memory", None
    path = os.path.join(packed.cache_folder(), _name_of_cache(listing, reading, shape))
    try:
        os.makedirs(packed.cache_folder(), exist_ok=True)
        roomy = needed <= min(_MOST_CACHED, packed.free_disk(path) / 2) and os.access(
            packed.cache_folder(), os.W_OK
        )
    except OSError:
        roomy = False
    return ("file", path) if roomy else (None, None)


def _name_of_cache(listing, reading, shape):
    what = json.dumps(
        [os.path.abspath(listing.root), [int(s) for s in shape], reading.fit, reading.background]
    )
    return f"{hashlib.sha256(what.encode()).hexdigest()[:20]}.packed"
