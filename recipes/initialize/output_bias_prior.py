"""Start the output layer's bias at the classes' frequencies."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from recipes.common.traversal import layers_of, own_trainable_variables
from recipes.common.types import FloatArray
from recipes.common.validation import as_numbers, is_number
from recipes.initialize.forward import check_built


def output_bias_prior(
    model: keras.Model, class_counts: ArrayLike, *, examples: float | None = None
) -> FloatArray:
    """Set the last layer's bias so that an untrained model predicts how frequent each class is.

    A softmax gets `b_c = log p_c`, a sigmoid `b = log(p / (1 - p))`. The first loss is then the entropy of the labels
    and not far above it, and the first epoch is not spent on learning the frequencies.
    Source: Lin et al. 2017, section 4.1, https://arxiv.org/abs/1708.02002, and Karpathy 2019, "A Recipe for Training
    Neural Networks", section 2, https://karpathy.github.io/2019/04/25/recipe/

    Args:
        model: A built `keras.Model` that ends in a Dense or convolution with a bias (layers without weights may
            follow). This bias is changed in place. It sets the predictions only while the kernel of that layer is
            small.
        class_counts: Number of training examples of each class, > 0, one number per output. For a single output,
            `(negatives, positives)`. With `examples`, the number of positives of each of several labels that do not
            exclude one another.
        examples: Number of training examples, for labels that do not exclude one another; None for all others.

    Returns:
        The new bias, float32 of shape `(outputs,)`.

    Raises:
        ValueError: when the counts do not fit the outputs, when a class has none or all of the examples, or when the
            model is not built or does not end in a layer with a bias. The model is then unchanged.
    """
    check_built("output_bias_prior", model)
    counts = as_numbers("output_bias_prior", "class_counts", class_counts)
    bias = _last_bias(model)
    outputs = bias.shape[0]
    single = outputs == 1 and examples is None
    if counts.ndim != 1 or len(counts) != (2 if single else outputs):
        raise ValueError(
            f"output_bias_prior expects {'(negatives, positives)' if single else f'{outputs} counts'} for the "
            f"{outputs} outputs of {model.name!r}. Received class_counts of shape {counts.shape}. "
            "Count the labels with numpy.bincount(labels, minlength=classes)."
        )
    if examples is not None and not is_number(examples):
        raise ValueError(
            f"output_bias_prior expects examples to be a number. Received examples={examples!r}. Leave it out for "
            "classes that exclude one another."
        )
    total = counts.sum() if examples is None else examples
    if not np.all((counts > 0) & (counts < total)):
        raise ValueError(
            f"output_bias_prior expects every class to have some, and not all, of the {total:g} examples. "
            f"Received class_counts={counts.tolist()}. Drop a class that never occurs, or count it as 1."
        )
    share = counts / total
    if examples is not None:
        prior = np.log(share / (1 - share))
    elif single:
        prior = np.log(share[1:] / share[:1])
    else:
        prior = np.log(share)
    bias.assign(prior.astype("float32"))
    return prior.astype("float32")


def _last_bias(model):
    with_weights = [layer for layer in layers_of(model) if own_trainable_variables(layer)]
    last = with_weights[-1] if with_weights else model
    bias = getattr(last, "bias", None)
    if not isinstance(bias, keras.Variable) or len(bias.shape) != 1:
        raise ValueError(
            f"output_bias_prior expects a model whose last layer with weights has a bias. Received {model.name!r}, "
            f"which ends in {last.name!r}. Make that layer with use_bias=True."
        )
    return bias
