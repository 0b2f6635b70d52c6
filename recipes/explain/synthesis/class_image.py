"""The image a network would like to see for a class."""

from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray
from recipes.explain.engine.options import ClassImageOptions, Target, shares
from recipes.explain.synthesis.maximize import raise_score


@shares(ClassImageOptions, steps=512, learning_rate=None, optimizer=None)
def class_image(model: keras.Model, target: Target, **options: Unpack[ClassImageOptions]) -> FloatArray | Any:
    """Make an image that raises a class score as far as it goes.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2, https://arxiv.org/abs/1312.6034:
    `argmax_I score(I) - l2 * |I|^2`, the score taken before the softmax. By default the image is not a grid of pixels
    but the Fourier coefficients of decorrelated colors, seen padded, jittered, scaled, turned and jittered again at
    every step, after Olah et al. 2017, "Feature Visualization", https://distill.pub/2017/feature-visualization, in 512
    steps of 0.05 as its code takes. Unlike there, low frequencies come first and weigh more, and sizes vary more: of
    EfficientNet-Lite0's images more were recognized so. The paper's way is
    `class_image(model, target, parameterization="pixels", optimizer="gradient", learning_rate=...)`. Decay, blur and
    the two clippings are those of Yosinski et al. 2015, section 3, https://arxiv.org/abs/1506.06579.

    Args:
        model: A built `keras.Model` with one image input. It is never changed.
        target: A class, a list of classes (one image each), a list of units or directions of one layer, or any other
            target of `recipes.explain` that is not None, such as `Unit("conv3", 4) + 0.5 * Unit("conv4", 7)`.
        options: The options of `ClassImageOptions`. The optimizer is "adam" for Fourier coefficients and "normalized"
        for
            pixels unless another is given; the learning rate 0.05 for Fourier coefficients and with a generator, 0.02
            for pixels.

    Returns:
        float32 `(n, height, width, channels)` in `value_range`; `(height, width, channels)` for a single class.

    Raises:
        ValueError: what does not fit the model, with what to type instead.
        UserWarning: when a score stops being finite; the last finite image is returned.
    """
    numbers = next(iter(target.values())) if isinstance(target, dict) else target
    if numbers is None:
        raise ValueError(
            "class_image expects a class to make an image of. Received target=None. Give its number, or a list "
            "of numbers."
        )
    start = options["start"]
    single = np.ndim(numbers) == 0 and (start is None or np.ndim(start) == 3)
    result = raise_score("class_image", model, target, len(numbers) if np.ndim(numbers) else None, **options)
    return unwrap(result, single)


def unwrap(result: Any, single: bool) -> Any:
    """Drop the batch axis of the images when there was one target."""
    if not single:
        return result
    return (result[0][0], result[1]) if isinstance(result, tuple) else result[0]
