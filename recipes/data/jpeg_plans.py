"""Which part of a JPEG file is decoded, and at which scale of its cosine transform, to cover the size wanted."""

import numpy as np

from recipes.data.resize import window

DCT_SCALES = (1, 2, 4, 8)
# Of the numbers 0..8 of EXIF's orientation: whether rows, columns are read from their ends, then both exchanged.
FROM_BELOW = (0, 0, 0, 1, 1, 0, 1, 1, 0)
FROM_RIGHT = (0, 0, 1, 1, 0, 0, 0, 1, 1)
EXCHANGED = (0, 0, 0, 0, 0, 1, 1, 1, 1)
# A row of `jpeg_plans`: what is decoded at its scale (top, left, height, width); what it becomes (height, width);
# height and width of the file; number of the scale; begin and extent of the part wanted in what is decoded, in eighths.
WINDOW, INNER, FULL, SCALE, ENDS = slice(0, 4), slice(4, 6), slice(6, 8), 8, slice(9, 13)


def jpeg_plans(
    heights: np.ndarray, widths: np.ndarray, orientations: np.ndarray, size: tuple[int, int] | None, fit: str
) -> np.ndarray:
    """Which part of each JPEG is decoded at which scale, as it lies in the file, mirrored or on its side.

    Args:
        heights: Heights of the upright images in pixels, `(n,)`.
        widths: Widths of the upright images in pixels, `(n,)`.
        orientations: EXIF's numbers, 1 to 8.
        size: `(height, width)` wanted, or None.
        fit: As in `read_image`.

    Returns:
        int32 `(n, 13)`, of which `WINDOW` to `ENDS` are the parts.
    """
    heights, widths = np.asarray(heights, np.int64), np.asarray(widths, np.int64)
    plans = np.zeros((len(heights), 13), np.int32)
    exchanged = np.array(EXCHANGED)[orientations] == 1
    full = np.stack([heights, widths], 1)
    full[exchanged] = full[exchanged, ::-1]
    plans[:, FULL] = full
    if size is None:
        return plans
    part, inner = window(heights, widths, size, fit, clip=np.clip)
    first = np.stack(np.broadcast_arrays(*part[:2], heights)[:2], 1)
    extent = np.stack(np.broadcast_arrays(*part[2:], heights)[:2], 1)
    inner = np.stack(np.broadcast_arrays(*inner, heights)[:2], 1)
    for array in (first, extent, inner):
        array[exchanged] = array[exchanged, ::-1]
    for axis, reverse in enumerate((FROM_BELOW, FROM_RIGHT)):
        from_end = np.array(reverse)[orientations] == 1
        first[from_end, axis] = (full - first - extent)[from_end, axis]
    # The smallest scale at which the part still covers what it becomes.
    fewest = (extent // inner).min(axis=1)
    number = sum(fewest >= scale for scale in DCT_SCALES[1:]).astype(int)
    scale = np.array(DCT_SCALES)[number][:, None]
    begin = first // scale
    end = np.minimum(-(-(first + extent) // scale), -(-full // scale))
    plans[:, WINDOW] = np.concatenate([begin, end - begin], 1)
    plans[:, INNER], plans[:, SCALE] = inner, number
    plans[:, ENDS] = np.concatenate([first - begin * scale, extent], 1) * (DCT_SCALES[-1] // scale)
    return plans
