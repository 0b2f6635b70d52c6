"""The image a network would like to see for a class."""

import numpy as np

from recipes.explain.synthesis.maximize import raise_score


def class_image(model, target, **options):
    """Make an image that raises a class score as far as it goes.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2, https://arxiv.org/abs/1312.6034:
    `argmax_I score(I) - l2 * |I|^2`, the score taken before the softmax. By default the image is not a grid of pixels
    but the Fourier coefficients of decorrelated colors, seen jittered and scaled at every step, after Olah et al.
    2017, "Feature Visualization", https://distill.pub/2017/feature-visualization. The paper's way is
    `class_image(model, target, parameterization="pixels", optimizer="gradient", learning_rate=...)`. Decay, blur and
    the two clippings are those of Yosinski et al. 2015, section 3, https://arxiv.org/abs/1506.06579.

    Args:
        model: A built `keras.Model` with one image input. Never changed.
        target: A class, a list of classes (one image each), or any other target of `recipes.explain` that is not None.
        parameterization: "fourier" or "pixels".
        size: `(height, width)` or one number, where the model leaves them open; 224 by default.
        steps: Steps of ascent.
        learning_rate: Step size: 0.02 for "adam" on Fourier coefficients; 0.02 for "normalized" pixels, where gray is 0
            and the value range is -1..1.
        optimizer: "adam" (default for "fourier"), "normalized" (default for "pixels": the gradient over its root mean
            square), "gradient" or "l-bfgs" (of scipy).
        l2: Weight of the squared distance from gray, |I|^2 with the range as -1..1. Default 1e-4 for pixels, 0 for
            Fourier; with `generator` it is on the latent vector, 0.005 as in Nguyen et al. 2016.
        decay: Fraction of the distance from gray taken away each step. Pixels only, as the next four.
        blur: Sigma in pixels of a Gaussian blur, 0 for none.
        blur_every: Steps between two blurs.
        clip_pixels: Fraction of pixels, those nearest to gray, set to gray each step.
        clip_gradients: Fraction of pixels, those that add least to the score, set to gray each step.
        jitter: Largest random shift in pixels. Default a 16th of the image, 0 for pixels.
        scale: Largest random change of size, 0.1 meaning 0.9 ... 1.1. Default 0.1, 0 for pixels.
        start: Image or images in `value_range` to begin with; default gray with a little noise.
        generator: A generator `keras.Model`, latent vector -> images in `value_range`; the image is then sought among
            those it makes. Source: Nguyen et al. 2016, https://arxiv.org/abs/1605.09304.
        value_range: `(low, high)` of the images the model (or `preprocess`) takes.
        preprocess: Callable from images in `value_range` to what the model takes, such as
            `keras.applications.vgg16.preprocess_input`. None where the model takes them as they are.
        score: "logits", or "probability", which saturates.
        seed: Of start and views. The same seed gives the same image.
        return_scores: Also return the objective before every step, float32 `(steps, n)`.
        compile, verbose: As in `recipes.explain`.

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
    start = options.get("start")
    single = np.ndim(numbers) == 0 and (start is None or np.ndim(start) == 3)
    result = raise_score("class_image", model, target, len(numbers) if np.ndim(numbers) else None, **options)
    return unwrap(result, single)


def unwrap(result, single):
    """Drop the batch axis of the images when there was one target."""
    if not single:
        return result
    return (result[0][0], result[1]) if isinstance(result, tuple) else result[0]
