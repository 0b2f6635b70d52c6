"""Brightness and color of RGB pixels, as NTSC television separated them."""

import numpy as np

#: `yiq = YIQ @ rgb`: brightness, orange to blue, purple to green. Source: the NTSC standard of 1953 (FCC 47 CFR
#: 73.682), in the digits of ITU-R BT.601 for brightness and four digits for the rest.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
#: Share of red, green and blue in the brightness, float32 `(3,)`.
LUMA = YIQ[0].astype("float32")


def class_colors(count: int) -> np.ndarray:
    """Colors that tell classes apart: the colors of the PASCAL VOC masks, black for class 0.

    The bits of a class number are dealt out to red, green and blue, highest bits first.

    Args:
        count: Number of classes, 1 to 256.

    Returns:
        uint8 `(count, 3)`, 0..255.
    """
    colors = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((np.arange(count) >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colors
