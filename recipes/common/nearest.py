"""What exists in place of what was typed: "Did you mean 'runs/photos'?"."""

import difflib
import os
from collections.abc import Callable, Iterable

_MOST = 2000  # names of one folder that are compared


def nearest(given: str, names: Iterable[str]) -> str | None:
    """The name that is most like a given one, regardless of upper and lower case; None where none is like it."""
    by_lower = {str(name).lower(): str(name) for name in names}
    found = difflib.get_close_matches(given.lower(), by_lower, 1, 0.6)
    return by_lower[found[0]] if found else None


def nearest_path(path: "str | os.PathLike[str]", fits: Callable[[str], bool] = os.path.exists) -> str | None:
    """The existing path that is most like one that does not exist.

    Each folder on the way may be misspelled, and the first one may be left out: `photos` finds `runs/photos`.

    Args:
        path: As it was typed.
        fits: Whether a path that exists is of the wanted kind; the nearest one that is not is passed over.

    Returns:
        The path, relative where the given one is; None where no name is like it.
    """
    typed = os.fspath(path).rstrip("/\\") or os.sep
    folder, *names = _parts(typed)
    for place, name in enumerate(names):
        last = place == len(names) - 1
        wanted = fits if last else os.path.isdir
        exact = os.path.join(folder, name)
        if wanted(exact):
            folder = exact
            continue
        if os.path.lexists(exact) and not os.path.exists(exact):  # a link to what is gone
            return None
        stems = {
            os.path.splitext(one)[0]: one for one in _inside(folder) if wanted(os.path.join(folder, one))
        }
        found = nearest(os.path.splitext(name)[0], stems)  # endings alone make no names alike
        if found is None:
            return _one_level_down(typed, fits)
        folder = os.path.join(folder, stems[found])
    return folder or None


def did_you_mean(found: str | None) -> str:
    """A sentence to add to an error, with a space before it; empty for None."""
    return f" Did you mean {found!r}?" if found else ""


def _parts(typed):
    """`(where to begin, name, name, ...)`; "" is the current folder."""
    drive, rest = os.path.splitdrive(os.path.expanduser(typed))
    begins = drive + os.sep if rest.startswith(os.sep) else drive
    return [begins, *(name for name in rest.split(os.sep) if name)]


def _inside(folder):
    try:
        with os.scandir(folder or ".") as entries:
            names = (entry.name for _, entry in zip(range(_MOST), entries, strict=False))
            return sorted(name for name in names if name[0] != ".")
    except OSError:
        return []


def _one_level_down(typed, fits):
    if os.path.isabs(typed) or os.path.dirname(typed):
        return None
    near = [os.path.join(folder, typed) for folder in _inside("") if os.path.isdir(folder)]
    return next((path for path in near if os.path.exists(path) and fits(path)), None)
