"""Several views of one image: the weights that say which belong together, and what cannot go beside them."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recipes.augment.engine.batch_layout import Batch
from recipes.augment.engine.operation import Operation


def weighted(element: Any, parts: Sequence[Operation]) -> Any:
    """`(images, labels)` with a weight for each image, where several views need one."""
    if all(part.views == 1 for part in parts) or not isinstance(element, tuple) or len(element) != 2:
        return element
    return (*element, tf.ones(tf.shape(element[0])[:1]))


def refuse_unweighted(batch: Batch, parts: Sequence[Operation]) -> None:
    """Raise `ValueError` for views whose labels no weights go with: a loss could not tell them from other images."""
    views = any(part.views > 1 for part in parts)
    if views and batch.labels is not None and batch.sample_weight is None:
        raise ValueError(
            "augment.Pipeline expects weights beside the labels where one image becomes several views: the weights "
            "say which belong together. Received labels without. Call pipeline(images, labels, tf.ones(batch)), "
            "give a dictionary an entry 'sample_weight', or apply the pipeline to a data set of (images, labels)."
        )


def check_views_alone(batch: Batch, parts: Sequence[Operation]) -> None:
    """Raise `ValueError` for more than images, labels and weights in a batch whose images become several views."""
    if any(part.views > 1 for part in parts) and (batch.parts or batch.others or batch.unchanged):
        raise ValueError(
            "augment.Pipeline expects images, labels and sample weights where one image becomes several views. "
            f"Received more: {', '.join(one[0] for one in (*batch.parts, *batch.others, *batch.unchanged))}. Take "
            "the rest out of the batch, or write AugMix(views=1)."
        )
