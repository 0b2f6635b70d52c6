"""Scale raw maps to values that can be drawn as a picture."""

import numpy as np
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray
from recipes.common.validation import as_numbers, is_number
from recipes.explain.engine.errors import UsageError


def normalize_map(maps: ArrayLike, percentile: float = 99, signed: bool = False) -> FloatArray:
    """Scale each map separately, so that a few extreme pixels do not make all other pixels look black.

    Args:
        maps: `(height, width)`, or `(n, height, width)`, of which each map is scaled separately.
        percentile: The value at this percentile becomes 1, and larger values are clipped; in (0, 100].
        signed: False maps the minimum to 0 and the percentile to 1. True keeps 0 at 0 and divides by the
            percentile of absolute values, for maps with evidence for and against.

    Returns:
        float32 of the same shape, in 0..1, or -1..1 when signed. A constant map gives 0.

    Raises:
        ValueError: when the percentile is outside (0, 100], or the maps have another rank or contain NaN or infinity.
    """
    maps = as_numbers("normalize_map", "maps", maps, "float32")
    if not is_number(percentile) or not 0 < percentile <= 100:
        raise UsageError(
            f"normalize_map expects a percentile in (0, 100]. Received {percentile}. Write 100 to scale by the "
            "largest value."
        )
    if maps.ndim not in (2, 3):
        raise UsageError(
            "normalize_map expects maps of shape (height, width) or (n, height, width). Received shape "
            f"{maps.shape}. "
            "Reduce channels first, with reduce='absmax'."
        )
    if not np.isfinite(maps).all():
        raise UsageError(
            "normalize_map expects finite maps. Received NaN or infinity. Check the model's weights with "
            "diagnose."
        )
    if maps.ndim == 2:
        return normalize_map(maps[None], percentile, signed)[0]
    if signed:
        scale = np.percentile(np.abs(maps), percentile, axis=(1, 2), keepdims=True)
        low = -np.inf
    else:
        maps = maps - maps.min((1, 2), keepdims=True)
        scale = np.percentile(maps, percentile, axis=(1, 2), keepdims=True)
        low = 0
    # A map of a few bright pixels on black has a percentile of 0; then its largest value is used.
    scale = np.where(scale > 0, scale, np.abs(maps).max((1, 2), keepdims=True))
    return np.clip(maps / np.where(scale > 0, scale, 1), max(low, -1), 1).astype("float32")
