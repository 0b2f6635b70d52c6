"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_atomically(path, write):
    """Write a file under another name, force it to disk, then rename it over the old one.

    Args:
        path: Where the file shall be.
        write: function `(temporary path)` that writes it. The temporary name keeps the ending of `path`.

    Raises:
        OSError: what the disk says, with the name of the file; the old file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".part-{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"recipes expects a disk with room, and leave, to write {path}. Received {error.strerror or error}. Free "
            "some room or give another folder; what was there before is untouched, and a run can be resumed",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path, text):
    """`write_atomically` for text in UTF-8: `(path, text)`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
