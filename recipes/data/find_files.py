"""Find the image files that a path stands for."""

import glob
import os
from typing import Any

from recipes.common.nearest import did_you_mean, nearest_path
from recipes.data.listing import walk


def is_path(value: Any) -> bool:
    """Whether a value names a file, a folder or a pattern."""
    return isinstance(value, (str, os.PathLike))


def find_files(paths: Any) -> list[str]:
    """All image files that a file, folder, pattern or a list of these stands for.

    Raises:
        FileNotFoundError: for a path where there is no image.
    """
    found = []
    for path in [paths] if is_path(paths) else paths:
        path = os.path.expanduser(os.fspath(path))
        if os.path.isdir(path):
            inside = [os.path.join(path, os.fsdecode(file)) for file in walk(path)]
        elif os.path.isfile(path):
            inside = [path]
        else:
            inside = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
        if not inside:
            near = None if os.path.exists(path) or glob.has_magic(path) else nearest_path(path)
            raise FileNotFoundError(
                f"recipes expects a file, a folder of images or a pattern. Received {path!r}, where "
                f"there is no image. Correct the path; relative paths begin at {os.getcwd()}.{did_you_mean(near)}"
            )
        found += inside
    return found
