"""Segmentation without a segmentation network: GrabCut, started from a saliency map."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recipes.common.optional import optional
from recipes.common.types import Images, ValueRange
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import check_images, check_range


def segment(
    images: Images,
    maps: ArrayLike,
    *,
    foreground: float = 0.95,
    background: float = 0.3,
    iterations: int = 5,
    value_range: ValueRange = (0, 255),
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Segment the object that a saliency map shows.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 3.2,
    https://arxiv.org/abs/1312.6034. The most salient pixels start a model of the object's colors, and the least salient
    pixels one of the background's. GrabCut (Rother et al. 2004, https://doi.org/10.1145/1015706.1015720) finds the
    border between them.

    Args:
        images: RGB or gray `(n, height, width, channels)`, or one image, in `value_range`.
        maps: `(n, height, width)`, such as `saliency(model, images)`, or one map.
        foreground: Quantile of the map above which pixels belong to the object, below 1; 0.95 in the paper.
        background: Quantile of the map below which pixels are background, >= 0; 0.3 in the paper.
        iterations: Number of iterations of GrabCut, >= 1.
        value_range: `(low, high)` of the images.
        seed: Integer that fixes OpenCV's color clusters.

    Returns:
        bool, of the shape of `maps`: True on the object.

    Raises:
        ImportError: when OpenCV, which the extra `segment` installs, is missing.
        ValueError: when the quantiles are out of order, the shapes differ, or a map is almost constant.
    """
    cv2 = optional("segment", "cv2", "OpenCV", "segment")
    low, high = check_range("segment", value_range)
    images, maps = np.asarray(images), np.asarray(maps, "float32")
    single = maps.ndim == 2
    images, maps = (images[None], maps[None]) if single else (images, maps)
    if (
        images.ndim != 4
        or images.shape[:3] != maps.shape
        or images.shape[-1] not in (1, 3)
        or not np.isfinite(maps).all()
    ):
        raise UsageError(
            "segment expects images (n, height, width, 1 or 3) and finite maps (n, height, width). Received shapes "
            f"{images.shape} and {maps.shape}. Make the maps with explain.saliency(model, images)."
        )
    if not 0 <= background < foreground < 1 or iterations < 1:
        raise UsageError(
            f"segment expects 0 <= background < foreground < 1 and iterations >= 1. Received {background}, "
            f"{foreground}, {iterations}. The paper uses background=0.3 and foreground=0.95."
        )
    check_images("segment", images, (low, high))
    pixels = np.rint((images.astype("float32") - low) * (255 / (high - low))).astype("uint8")
    masks = [
        _grab_cut(cv2, image, map, foreground, background, iterations, seed)
        for image, map in zip(pixels, maps, strict=True)
    ]
    return masks[0] if single else np.stack(masks)


def _grab_cut(cv2, image, map, foreground, background, iterations, seed):
    image = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))[..., ::-1])
    least, most = np.quantile(map, [background, foreground])
    labels = np.full(map.shape, cv2.GC_PR_BGD, "uint8")
    labels[map <= least] = cv2.GC_BGD
    labels[map >= most] = cv2.GC_FGD
    if not (labels == cv2.GC_FGD).any() or not (labels == cv2.GC_BGD).any() or least == most:
        raise UsageError(
            "segment expects a map with more and less salient pixels. Received one that is (almost) constant. Check "
            "that the gradient of the score does not vanish: explain.saliency(model, images, score='logits')."
        )
    cv2.setRNGSeed(seed)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
