"""Files of the given folders that are no images: one short line says that they are left out."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

_NAMED = 3


def say_no_images(command: str, given: Iterable[Any], tables: Iterable[Any] = ()) -> None:
    """Print on stderr how many files of some folders are no images, and the first of their names.

    Args:
        command: Name of the command, for the beginning of the line.
        given: Paths as they were typed; those that are no folders are passed over.
        tables: Files that are read as something else, such as a CSV file of labels.
    """
    read = {os.path.realpath(os.path.expanduser(str(table))) for table in tables if table}
    read |= {
        os.path.join(os.path.realpath(str(folder)), str(table))
        for folder in given
        for table in tables
        if table
    }
    found = [
        file for folder in given for file in _no_images(os.path.expanduser(str(folder))) if file not in read
    ]
    if not found:
        return
    names = ", ".join(map(os.path.basename, found[:_NAMED])) + (", ..." if len(found) > _NAMED else "")
    what = "1 file that is no image" if len(found) == 1 else f"{len(found)} files that are no images"
    print(f"recipes {command}: left out: {what} ({names})", file=sys.stderr)


def _no_images(path: str) -> list[str]:
    """Real paths of the visible files below a folder that are no images; none where there is no image at all."""
    images = 0
    found = []
    for file, is_image in _files(path) if os.path.isdir(path) else ():
        images += is_image
        if not is_image:
            found.append(os.path.realpath(file))
    return found if images else []


def _files(path: str) -> Iterator[tuple[str, bool]]:
    from recipes.data import headers  # noqa: PLC0415 - the command starts without it
    from recipes.data.listing import visible  # noqa: PLC0415 - the command starts without it

    for folder, folders, _ in os.walk(path):
        shown = set(visible(folder))
        folders[:] = sorted(name for name in folders if name in shown)
        for name in sorted(shown - set(folders)):
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                yield file, headers.is_image(file)
