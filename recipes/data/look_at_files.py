"""What the headers of all files of a folder say, before any is decoded: sizes, channels, files that are not images."""

import os

import keras
import numpy as np

from recipes.data import headers
from recipes.data.image_set import Reading
from recipes.data.jpeg_plans import SCALE, jpeg_plans
from recipes.data.listing import Listing


class Looked:
    """What the headers of all files say, a few bytes each."""

    def __init__(self, count: int) -> None:
        self.kinds = np.zeros(count, np.uint8)
        self.orientations = np.ones(count, np.uint8)
        self.sizes = np.ones((count, 2), np.int32)
        self.gray = np.ones(count, bool)
        self.bad = np.zeros(count, bool)
        self.seen = np.ones(count, bool)
        self.reasons = []

    def facts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a `Reader` needs to know about some files besides their paths.

        Args:
            rows: int `(n,)` or one number: places of the files in the listing.

        Returns:
            Kinds of file `(n,)`, EXIF orientations `(n,)` from 1 to 8, and plans of decoding `(n, ...)`.
        """
        return self.kinds[rows], self.orientations[rows], self.plans[rows]

    def plan(self, reading: Reading) -> tuple[int, ...]:
        """Decide which part of each JPEG file is decoded.

        Args:
            reading: The size and fit that are asked for.

        Returns:
            The numbers of the scales that occur, in rising order; `(0,)` without JPEG files.
        """
        self.plans = jpeg_plans(*self.sizes.T, self.orientations, reading.size, reading.fit)
        self.plans[self.kinds != headers.JPEG] = 0
        return tuple(np.unique(self.plans[(self.kinds == headers.JPEG) & ~self.bad, SCALE]).tolist()) or (0,)


def look_at_all(listing: Listing, reading: Reading) -> Looked:
    """Read the headers of all files.

    Args:
        listing: n files.
        reading: With `check=False` one file of each class is marked as seen, whose pixels stand for the others.

    Returns:
        Facts about the n files, `(n,)` and `(n, 2)`; those that are not images are `bad`, with their `reasons`.
    """
    looked, start = Looked(len(listing.files)), os.path.join(listing.root, "")
    looked.names = lambda row: start + os.fsdecode(listing.files[row])
    if not reading.check:
        # Those whose pixels stand for all others of their class.
        first = np.unique(listing.labels, return_index=True, axis=0)[1]
        looked.seen[:] = False
        looked.seen[first] = True
    bar = progress_bar(len(listing.files), reading)
    for row in range(len(listing.files)):
        try:
            found = headers.look(looked.names(row))
        except headers.NotAnImageError as error:
            looked.bad[row] = True
            looked.reasons.append((looked.names(row), str(error)))
            continue
        looked.kinds[row], looked.orientations[row] = found.kind, found.orientation
        looked.sizes[row] = found.height, found.width
        looked.gray[row] = found.gray
        if bar and row % 500 == 0:
            bar.update(row)
    return looked


def progress_bar(count: int, reading: Reading) -> keras.utils.Progbar | None:
    """A bar for `count` files; None for fewer than 1,000, which need none, and where `reading` is not verbose."""
    return keras.utils.Progbar(count, unit_name="file") if reading.verbose and count >= 1000 else None


def common_size(path: str, looked: Looked) -> tuple[int, int]:
    """The one `(height, width)` of all images.

    Raises:
        ValueError: when there are several sizes.
    """
    rows = np.flatnonzero(looked.seen & ~looked.bad)
    if not len(rows):
        refuse_bad(looked.reasons, None)
    sizes, first, counts = np.unique(looked.sizes[rows], axis=0, return_index=True, return_counts=True)
    if len(sizes) == 1:
        return tuple(sizes[0].tolist())
    order = np.lexsort((first, -counts))[:5]
    shown = [
        f"{sizes[i][0]} x {sizes[i][1]} ({counts[i]} images, such as {looked.names(rows[first[i]])})"
        for i in order
    ]
    raise ValueError(
        f"data.load expects images of one size when image_size is not given. Received {len(sizes)} sizes "
        f"(height x width) in {path!r}:\n  "
        + "\n  ".join(shown)
        + "\nType for example image_size=224, or image_size=({}, {}) for the most common one.".format(
            *sizes[order[0]]
        )
    )


def refuse_bad(reasons: list[tuple[str, str]], reading: Reading | None) -> None:
    """Raise with the names of all files that are not images, unless they are to be skipped.

    Args:
        reasons: `(file, why)` pairs.
        reading: With `skip=True` nothing is raised; None never skips.

    Raises:
        ValueError: when there is a reason, and files are not skipped.
    """
    if reasons and not (reading and reading.skip):
        raise ValueError(
            "data.load expects every file with the ending of an image to be one that decodes. "
            f"Received {len(reasons)} that do not:\n  "
            + "\n  ".join(f"{file}: {why}" for file, why in reasons)
            + "\nRepair, convert or delete them, or leave them out with on_error='skip'."
        )
