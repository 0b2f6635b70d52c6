"""Small gray pictures of images, and descriptors that find copies among many images."""

import numpy as np
from numpy.typing import NDArray

SIDE = 24  # pixels per side of the small pictures
_ENOUGH = 72  # pixels per side from which a small picture is made, at least; many more would not improve it
_LOW = 6  # frequencies per axis of the descriptor
_FLAT = 2.0  # gray levels in [0, 255]; a picture with a smaller standard deviation shows nothing


def small_pictures(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce gray images to small pictures by area averages.

    Args:
        gray: `(n, height, width)`, of any size and value range; smaller images are enlarged.

    Returns:
        `(n, SIDE, SIDE)`, in the value range of `gray`.
    """
    steps = [max(1, side // _ENOUGH) for side in gray.shape[1:]]
    gray = gray[:, :: steps[0], :: steps[1]]
    rows, columns = (_averages(0, side, side) for side in gray.shape[1:])
    return np.matmul(np.matmul(rows, gray), columns.T)


def _averages(first: float, length: float, side: int) -> NDArray[np.float32]:
    """Matrix `(SIDE, side)` that resamples the part `first` to `first + length` of a line to SIDE pixels by overlap."""
    edges = first + np.linspace(0, length, SIDE + 1)
    if length < SIDE:  # enlarging: interpolate between the two nearest pixels
        places = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, side - 1)
        low = np.minimum(places.astype(int), max(0, side - 2))
        matrix = np.zeros((SIDE, side), np.float32)
        matrix[np.arange(SIDE), low] = 1 - (places - low)
        matrix[np.arange(SIDE), np.minimum(low + 1, side - 1)] += places - low
        return matrix
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)


def lines(least: float) -> NDArray[np.float32]:
    """Matrices `(m, SIDE, SIDE)` that enlarge parts of a line to its whole length; the first leaves the line unchanged.

    Args:
        least: Length of the shortest part as a share of the line, in (0, 1].
    """
    found, share = [_averages(0, SIDE, SIDE)], 0.95
    while share >= least - 1e-9:
        starts = np.linspace(0, SIDE * (1 - share), 3 if share > 0.87 else 4)
        found += [_averages(start, SIDE * share, SIDE) for start in starts]
        share -= 0.05
    return np.stack(found)


def without_border(gray: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Cut off a border of one color; None where the image has no such border.

    A border takes at least 2 % of the height or of the width, and at most half of either.

    Args:
        gray: One image `(height, width)`, values in [0, 255].
    """
    lines = []
    for axis in (0, 1):
        spread = np.ptp(gray, axis=1 - axis)
        middle = gray.mean(axis=1 - axis)
        flat = spread <= 12
        first = 0
        while first < len(flat) and flat[first] and abs(middle[first] - middle[0]) <= 6:
            first += 1
        last = len(flat)
        while last > first and flat[last - 1] and abs(middle[last - 1] - middle[-1]) <= 6:
            last -= 1
        if last - first < 0.5 * len(flat):
            return None
        lines.append((first, last))
    (top, bottom), (left, right) = lines
    cut = top + gray.shape[0] - bottom, left + gray.shape[1] - right
    if max(cut[0] / gray.shape[0], cut[1] / gray.shape[1]) < 0.02:
        return None
    return gray[top:bottom, left:right]


def _cosines() -> NDArray[np.float32]:
    """The lowest frequencies of the discrete cosine transform, `(_LOW, SIDE)`, each row of Euclidean norm 1."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    matrix = np.cos(np.pi * np.arange(_LOW)[:, None] * places)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def descriptors(pictures: NDArray[np.number]) -> NDArray[np.float32]:
    """The lowest frequencies of small pictures, without the mean gray level.

    Args:
        pictures: `(n, SIDE, SIDE)`, values in [0, 255].

    Returns:
        float32 `(n, 35)`; zeros for pictures of one color.
    """
    out = np.empty((len(pictures), _LOW * _LOW - 1), np.float32)
    transform = _cosines()
    for start in range(0, len(pictures), 4096):
        part = pictures[start : start + 4096].astype(np.float32)
        low = np.matmul(np.matmul(transform, part), transform.T).reshape(len(part), -1)[:, 1:]
        low[part.std((1, 2)) < _FLAT] = 0
        out[start : start + 4096] = low
    return out


#: Multiply a descriptor with these signs to mirror it from left to right: odd horizontal frequencies change sign.
MIRROR = np.where(np.arange(_LOW * _LOW)[1:] % _LOW % 2 == 1, -1, 1).astype(np.float32)
