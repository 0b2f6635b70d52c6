"""The probabilities that a classifier's outputs stand for."""

import keras
import numpy as np
from numpy.typing import NDArray

from recipes.common.models import output_activation


def probabilities_of(model: keras.Model, outputs: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities `(n, classes)` of a classifier's outputs; one unit becomes two classes.

    Outputs count as logits where the last activation is linear, or where they leave [0, 1]. Other outputs are divided
    by their sum over the classes.

    Args:
        model: The classifier.
        outputs: Its outputs, `(n, classes)`, `(n, 1)` or `(n,)`, probabilities or logits.
    """
    outputs = np.asarray(outputs, np.float32)
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    logits = (
        output_activation(model) == "linear" or outputs.min(initial=0) < 0 or outputs.max(initial=0) > 1.001
    )
    if outputs.shape[1] == 1:
        second = 1 / (1 + np.exp(-np.clip(outputs, -50, 50))) if logits else outputs
        return np.concatenate([1 - second, second], 1)
    if logits:
        outputs = np.exp(outputs - outputs.max(1, keepdims=True))
    return outputs / np.maximum(outputs.sum(1, keepdims=True), 1e-12)
