"""Several views of one image: the weights that mark views of one image, and parts that cannot have views."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recipes.augment.engine.batch_layout import Batch
from recipes.augment.engine.operation import Operation


def weighted(element: Any, parts: Sequence[Operation]) -> Any:
    """Add a weight of one per image to `(images, labels)` if an operation makes several views."""
    if all(part.views == 1 for part in parts) or not isinstance(element, tuple) or len(element) != 2:
        return element
    return (*element, tf.ones(tf.shape(element[0])[:1]))


def refuse_unweighted(batch: Batch, parts: Sequence[Operation]) -> None:
    """Raise `ValueError` for views with labels but without weights: a loss could not recognize the views."""
    views = any(part.views > 1 for part in parts)
    if views and batch.labels is not None and batch.sample_weight is None:
        raise ValueError(
            "augment.Pipeline expects weights beside the labels where one image becomes several views, because the "
            "weights say which belong together. Received labels without weights. Call pipeline(images, labels, "
            "tf.ones(batch)), give a dictionary an entry 'sample_weight', or apply the pipeline to a data set of "
            "(images, labels)."
        )


def check_views_alone(batch: Batch, parts: Sequence[Operation]) -> None:
    """Raise `ValueError` when a batch for several views holds more than images, labels and weights."""
    if any(part.views > 1 for part in parts) and (batch.parts or batch.others or batch.unchanged):
        raise ValueError(
            "augment.Pipeline expects images, labels and sample weights where one image becomes several views. "
            f"Received more: {', '.join(one[0] for one in (*batch.parts, *batch.others, *batch.unchanged))}. Remove "
            "the rest from the batch, or write AugMix(views=1)."
        )
