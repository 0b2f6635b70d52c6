"""Activation maximization for a class: an image that maximizes the score of the class."""

from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray
from recipes.explain.engine.options import ClassImageOptions, Target, shares
from recipes.explain.synthesis.maximize import raise_score


@shares(ClassImageOptions, steps=512, learning_rate=None, optimizer=None)
def class_image(model: keras.Model, target: Target, **options: Unpack[ClassImageOptions]) -> FloatArray | Any:
    """Make an image that maximizes the score of a class.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2, https://arxiv.org/abs/1312.6034:
    `argmax_I score(I) - l2 * |I|^2`, where the score is taken before the softmax. By default, the optimized variables
    are not pixels but the Fourier coefficients of decorrelated colors, after Olah et al. 2017, "Feature Visualization",
    https://distill.pub/2017/feature-visualization. At every step the image is padded, jittered, scaled, rotated and
    jittered again. There are 512 steps of 0.05, as in the code of that article. Unlike there, low frequencies come
    first and have larger weights, and sizes vary more, because then more images of EfficientNet-Lite0 were recognized.
    The method of the paper is `class_image(model, target, parameterization="pixels", optimizer="gradient",
    learning_rate=...)`. Decay, blur and the two clippings are those of Yosinski et al. 2015, section 3,
    https://arxiv.org/abs/1506.06579.

    Args:
        model: A built `keras.Model` with one image input. It is never changed.
        target: A class, a list of classes (one image each), a list of units or directions of one layer, or any other
            target of `recipes.explain` that is not None, such as `Unit("conv3", 4) + 0.5 * Unit("conv4", 7)`.
        options: The options of `ClassImageOptions`. The optimizer is "adam" for Fourier coefficients and "normalized"
            for pixels unless another is given; the learning rate is 0.05 for Fourier coefficients and with a generator,
            0.02 for pixels.

    Returns:
        float32 `(n, height, width, channels)` in `value_range`; `(height, width, channels)` for a single class.

    Raises:
        ValueError: when an argument does not fit the model; the message tells what to type instead.

    Warns:
        UserWarning: when a score is no longer finite; the last finite image is returned.
    """
    numbers = next(iter(target.values())) if isinstance(target, dict) else target
    if numbers is None:
        raise ValueError(
            "class_image expects a class to make an image of. Received target=None. Give the number of a class, or a "
            "list of numbers."
        )
    start = options["start"]
    single = np.ndim(numbers) == 0 and (start is None or np.ndim(start) == 3)
    result = raise_score("class_image", model, target, len(numbers) if np.ndim(numbers) else None, **options)
    return unwrap(result, single)


def unwrap(result: Any, single: bool) -> Any:
    """Remove the batch axis of the images if there was a single target."""
    if not single:
        return result
    return (result[0][0], result[1]) if isinstance(result, tuple) else result[0]
