"""The pointing game: does the maximum of a map lie on the object?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recipes.explain.engine.errors import UsageError


def pointing_game(maps: ArrayLike, boxes: Sequence[ArrayLike], *, tolerance: float = 0) -> NDArray[np.bool_]:
    """Whether the maximum of each map lies on its object.

    Source: Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 4.2,
    https://arxiv.org/abs/1608.00507. There, a maximum up to 15 pixels from the object is a hit. The chance that a
    random map hits is the share of the image that the object covers.

    Args:
        maps: `(n, height, width)`, any real values.
        boxes: For each image one box `(top, left, bottom, right)` in pixels, the last row and column not
            included, a list of such boxes, or a mask `(height, width)`, true on the object.
        tolerance: Distance from the object in pixels that is still a hit, >= 0.

    Returns:
        `(n,)` bool. Its mean is the accuracy. Of several equal maxima, the first is used.

    Raises:
        ValueError: when there are not as many boxes as maps, a box is empty or outside the image, or `tolerance` is
            negative.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3 or len(boxes) != len(maps) or not np.isfinite(maps).all():
        raise UsageError(
            "pointing_game expects finite maps (n, height, width) and one entry of boxes for each. Received maps of "
            f"shape {maps.shape} and {len(boxes)} boxes. For a single map write maps[None] and [boxes]."
        )
    if tolerance < 0:
        raise UsageError(
            f"pointing_game expects tolerance >= 0. Received {tolerance}. The paper uses 15 pixels."
        )
    hits = []
    for number, (one, box) in enumerate(zip(maps, boxes, strict=True)):
        row, column = np.unravel_index(np.argmax(one), one.shape)
        mask = _mask(box, one.shape, number)
        rows, columns = np.nonzero(mask)
        hits.append(np.min((rows - row) ** 2 + (columns - column) ** 2) <= tolerance**2)
    return np.array(hits, bool)


def _mask(box, shape, number):
    box = np.asarray(box)
    if box.shape == shape and box.any():
        return box.astype(bool)
    mask = np.zeros(shape, bool)
    for top, left, bottom, right in (
        box.reshape(-1, 4) if box.size % 4 == 0 and box.ndim <= 2 else [(0, 0, 0, 0)]
    ):
        if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
            raise UsageError(
                "pointing_game expects boxes (top, left, bottom, right) inside the image, or a mask that is not "
                f"empty. Received {np.array2string(box, threshold=8)} for image {number} of {shape}. Rows come "
                "first, and bottom and right are not included."
            )
        mask[int(np.floor(top)) : int(np.ceil(bottom)), int(np.floor(left)) : int(np.ceil(right))] = True
    return mask
