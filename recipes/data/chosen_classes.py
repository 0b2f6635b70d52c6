"""Which classes of a folder are used, and in what order: `class_names=` of `load`."""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recipes.data.listing import Listing


def choose_classes(listing: "Listing", class_names: Any) -> "Listing":
    """Number the classes in the order of `class_names`, and leave out those it does not name."""
    if class_names is None:
        return listing
    names = checked_names(class_names)
    unknown = [name for name in names if name not in listing.class_names]
    there = set(listing.class_names)
    if listing.labels.ndim == 1:
        there = {listing.class_names[number] for number in np.unique(listing.labels)}
    if unknown and there <= set(names):
        # A part of a data set in which some classes are missing, numbered like the whole.
        listing.notes.append(
            f"class_names= names {in_words(unknown)}, of which no image is in {listing.root!r}."
        )
        if listing.labels.ndim == 2:
            nothing = np.zeros((len(listing.labels), len(unknown)), np.float32)
            listing.labels = np.concatenate([listing.labels, nothing], 1)
        listing.class_names = listing.class_names + unknown
    elif unknown:
        near = difflib.get_close_matches(unknown[0], listing.class_names, 3) or listing.class_names[:5]
        raise ValueError(
            f"data.load expects class_names among the {len(listing.class_names)} classes of {listing.root!r}. "
            f"Received {unknown[0]!r}, which is not among them. Take one of the nearest: {', '.join(map(repr, near))}."
        )
    places = {name: number for number, name in enumerate(names)}
    if listing.labels.ndim == 2:
        listing.labels = listing.labels[:, [listing.class_names.index(name) for name in names]]
        listing.class_names = names
        return listing
    number = np.array([places.get(name, -1) for name in listing.class_names])
    labels = number[listing.labels]
    left_out = sorted(there - set(names))
    chosen = listing.chosen(labels >= 0)
    chosen.labels, chosen.class_names = labels[labels >= 0], names
    if left_out:
        chosen.notes.append(f"Left out, as class_names= does not name them: {in_words(left_out)}.")
    return chosen


def checked_names(class_names: Any) -> list[str]:
    """Two or more names, all different.

    Raises:
        ValueError: for anything else.
    """
    names = list(class_names) if isinstance(class_names, (list, tuple, np.ndarray)) else []
    names = [str(name) if isinstance(name, (str, int, np.integer)) else None for name in names]
    if len(names) < 2 or None in names or len(set(names)) < len(names):
        raise ValueError(
            "data.load expects class_names to be a list of at least two different names. "
            f"Received class_names={class_names!r}. Type for example class_names=['cat', 'dog']."
        )
    return names


def in_words(names: Iterable[str]) -> str:
    """The first five names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in list(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
