"""How often two members of an ensemble give different answers: what an average can gain from."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray
from recipes.common.validation import as_numbers


def disagreement(predictions: ArrayLike) -> FloatArray:
    """Share of examples on which each pair of members predicts different classes.

    Source: Fort et al. 2019, "Deep Ensembles: A Loss Landscape Perspective", section 4,
    https://arxiv.org/abs/1912.02757. Unlike theirs, not divided by the error of the second member.

    Args:
        predictions: `(members, examples, classes)` probabilities or logits, or `(members, examples)` class numbers.

    Returns:
        `(members, members)`, float32 in [0, 1], symmetric with zeros on the diagonal.

    Raises:
        ValueError: for another number of axes, or no examples.
    """
    predictions = as_numbers("disagreement", "predictions", predictions)
    if predictions.ndim not in (2, 3) or predictions.shape[1] == 0:
        raise ValueError(
            "disagreement expects predictions of shape (members, examples, classes) or (members, examples). "
            f"Received shape {predictions.shape}. Stack them: np.stack([m.predict(images) for m in members])."
        )
    answers = predictions.argmax(-1) if predictions.ndim == 3 else predictions
    return np.stack([(answers != row).mean(axis=1) for row in answers]).astype("float32")
