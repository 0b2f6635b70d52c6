"""The Jensen-Shannon consistency loss for several views of each image, as AugMix trains with."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="recipes")
class JensenShannonLoss(keras.losses.Loss):
    """Cross-entropy of the images plus the Jensen-Shannon divergence between the predictions for their views.

    Source: Hendrycks et al. 2019, "AugMix", section 3 and equation 2, https://arxiv.org/abs/1912.02781: the mean over
    the views of the Kullback-Leibler divergence from their mean prediction, times 12.

    `augment.AugMix(views=3)` puts the views of an image one after the other and gives them the sample weights
    (w, 0, 0), from which this loss recognizes them. A batch without weights or with other weights, as in validation,
    gets the plain cross-entropy. The training step stays the one of Keras. Each replica of a distribution strategy
    needs whole groups of views, so the number of replicas must divide the batch size.

    Args:
        views: Number of views of each image, >= 2, the same as for `AugMix`.
        weight: Factor of the divergence, >= 0. Paper: 12.
        from_logits: Whether predictions are logits; probabilities otherwise.
        name: Name of the loss.

    Call arguments:
        y_true: integer labels `(n,)` or `(n, 1)`, or one-hot or soft labels `(n, classes)`.
        y_pred: `(n, classes)`, float.
        sample_weight: `(n,)` or None.

    Returns:
        The mean over the images, a float32 scalar.

    Raises:
        ValueError: when `views` is not a whole number >= 2 or `weight` is negative.
    """

    def __init__(
        self,
        views: int = 3,
        weight: float = 12.0,
        from_logits: bool = False,
        name: str = "jensen_shannon_loss",
    ) -> None:
        super().__init__(name=name)
        if isinstance(views, bool) or not isinstance(views, int) or views < 2 or not weight >= 0:
            raise ValueError(
                "augment.JensenShannonLoss expects views to be a whole number >= 2 and weight >= 0. Received "
                f"views={views!r}, weight={weight!r}. Write JensenShannonLoss(views=3, weight=12)."
            )
        self.views, self.weight, self.from_logits = views, weight, from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Cross-entropy of each row, float32 `(n,)`, in nats."""
        y_pred = ops.cast(y_pred, "float32")
        if len(y_true.shape) == 2 and y_true.shape[-1] == 1:
            y_true = y_true[:, 0]
        if len(y_true.shape) == 1:
            return ops.sparse_categorical_crossentropy(
                ops.cast(y_true, "int32"), y_pred, from_logits=self.from_logits
            )
        return ops.categorical_crossentropy(ops.cast(y_true, "float32"), y_pred, from_logits=self.from_logits)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, "float32")
        rows = self.call(y_true, y_pred)
        if sample_weight is None:
            return ops.mean(rows)
        weights = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        count = ops.shape(rows)[0]
        whole = count // self.views * self.views
        groups = ops.reshape(weights[:whole], (-1, self.views))
        grouped = ops.logical_and(whole == count, ops.all(groups[:, 1:] == 0))
        grouped = ops.logical_and(grouped, ops.any(groups[:, 0] != 0))
        apart = divergence(ops.reshape(y_pred[:whole], (-1, self.views, y_pred.shape[-1])), self.from_logits)
        images = ops.reshape(rows[:whole], (-1, self.views))[:, 0]
        of_groups = ops.mean(groups[:, 0] * (images + self.weight * apart))
        # A choice, not a product with `grouped`, because the mean over no groups is NaN.
        return ops.where(grouped, of_groups, ops.mean(weights * rows))

    def get_config(self) -> dict[str, Any]:
        return {
            "views": self.views,
            "weight": self.weight,
            "from_logits": self.from_logits,
            "name": self.name,
        }


def divergence(predictions: Any, from_logits: bool) -> Any:
    """Jensen-Shannon divergence `(n,)` of predictions `(n, views, classes)`, in nats; between 0 and log(views)."""
    if from_logits:
        logs = ops.log_softmax(predictions, axis=-1)
        shares = ops.exp(logs)
    else:
        shares = ops.clip(predictions, 1e-7, 1.0)
        logs = ops.log(shares)
    mixture = ops.log(ops.clip(ops.mean(shares, axis=1, keepdims=True), 1e-7, 1.0))
    return ops.mean(ops.sum(shares * (logs - mixture), axis=-1), axis=1)
