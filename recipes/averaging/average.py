"""Several classifiers as one model: the average of their predictions."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from recipes.averaging.probability import Outputs, check_space
from recipes.common.models import serialized
from recipes.common.traversal import input_structure
from recipes.common.validation import as_numbers


def average(
    models: Sequence[keras.Model],
    weights: Sequence[float] | None = None,
    space: Literal["probability", "logit"] = "probability",
    *,
    from_logits: bool | Sequence[bool | None] | None = None,
    name: str = "ensemble",
) -> keras.Model:
    """One model that predicts the average of several.

    Sources: Breiman 1996, "Bagging predictors", https://doi.org/10.1007/BF00058655, for averaging; Goodfellow et al.
    2016, section 7.11, https://www.deeplearningbook.org/contents/regularization.html, for networks that differ only by
    the seed.

    The members are held, not copied: training one of them further changes the ensemble. Members may differ in
    architecture and may mix probabilities and logits; what they share is the input and the classes.

    Args:
        models: Built `keras.Model`s with one output of shape `(batch, classes)` each; also ensembles.
        weights: One number >= 0 per model, not all 0, scaled to sum to 1. Default: all the same.
        space: `"probability"`: the mean of the probabilities; `"logit"`: softmax (or sigmoid) of the mean of the
            logits, the normalized geometric mean.
        from_logits: Whether outputs are logits, for models whose last layer does not tell. One bool, or one per
            model.
        name: Name of the model returned.

    Returns:
        A `keras.Model` from the members' input to probabilities, float32 `(batch, classes)`. Uncompiled; saves as
        `.keras` with its members in it.

    Raises:
        ValueError: when members differ in classes or input, outputs are neither logits nor probabilities, or no
            member has a known input.

    Example:
        >>> ensemble.average([first, second]).predict(images)
    """
    models = list(models) if isinstance(models, (list, tuple)) else []
    check_space(space, "ensemble.average")
    if not models:
        raise ValueError(
            "ensemble.average expects a list of at least one model. Received none. Give a list of trained models."
        )
    shares = _shares(weights, len(models))
    flags = list(from_logits) if isinstance(from_logits, (list, tuple)) else [from_logits] * len(models)
    inputs = _common_input(models)
    shapes = [_output_shape(model, inputs) for model in models]
    kinds = [Outputs.of(*one, "ensemble.average") for one in zip(models, flags, shapes, strict=True)]
    _check_classes(models, kinds, shapes)
    layer = AverageMembers(
        models,
        weights=shares,
        space=space,
        logits=[kind.logits for kind in kinds],
        exclusive=kinds[0].exclusive,
        name="average_members",
    )
    return keras.Model(inputs, layer(inputs), name=name)


@keras.saving.register_keras_serializable(package="recipes")
class AverageMembers(keras.layers.Layer):
    """Calls every member on the same input and averages their outputs; the one layer of `ensemble.average`'s model.

    Args:
        members: `keras.Model`s.
        weights: One share per member, summing to 1.
        space: `"probability"` or `"logit"`.
        logits: One bool per member: whether it gives logits.
        exclusive: Softmax (True) or sigmoid (False).
    """

    def __init__(
        self,
        members: Sequence[keras.Model],
        *,
        weights: Sequence[float],
        space: Literal["probability", "logit"],
        logits: Sequence[bool],
        exclusive: bool,
        **kwargs: Any,
    ) -> None:
        # Members bring their own dtype policies: what comes in goes to them as it is.
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.members = list(members)
        self.weights_of_members, self.space = [float(weight) for weight in weights], space
        self.logits, self.exclusive = [bool(flag) for flag in logits], bool(exclusive)
        self.kinds = [Outputs(flag, exclusive) for flag in self.logits]
        # Tells code that looks for the last activation that these are probabilities.
        self.activation = self.kinds[0].activation

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        in_logits = self.space == "logit"
        total = 0.0
        for member, kind, share in zip(self.members, self.kinds, self.weights_of_members, strict=True):
            outputs = member(inputs, training=training)
            total = total + share * (kind.to_logit(outputs) if in_logits else kind.to_probability(outputs))
        return self.activation(total) if in_logits else total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "members": [serialized(member) for member in self.members],
            "weights": self.weights_of_members,
            "space": self.space,
            "logits": self.logits,
            "exclusive": self.exclusive,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AverageMembers":
        members = [keras.saving.deserialize_keras_object(member) for member in config.pop("members")]
        config.pop("autocast", None)
        return cls(members, **config)


def _shares(weights, count):
    shares = np.ones(count) if weights is None else as_numbers("ensemble.average", "weights", weights)
    if shares.shape != (count,) or (shares < 0).any() or not np.isfinite(shares).all() or shares.sum() == 0:
        raise ValueError(
            f"ensemble.average expects one weight of 0 or more for each of the {count} models, not all 0. "
            f"Received weights={weights}. Leave weights out to count all models the same."
        )
    return shares / shares.sum()


def _common_input(models):
    """New `keras.Input`s, in the structure the members take."""
    known = [model for model in models if getattr(model, "inputs", None)]
    if not known:
        raise ValueError(
            "ensemble.average expects at least one member whose input is known. Received subclassed models only. "
            "Wrap one: keras.Model(inputs, member(inputs)) with inputs = keras.Input(shape)."
        )
    shapes = [[tuple(tensor.shape) for tensor in model.inputs] for model in known]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"ensemble.average expects members that take the same input. Received input shapes {shapes}. "
            "Put a keras.layers.Resizing in front of the odd one."
        )
    structure = input_structure(known[0])
    return keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name),
        known[0].inputs[0] if structure is None else structure,
    )


def _output_shape(model, inputs):
    if getattr(model, "outputs", None):
        shapes = [tuple(tensor.shape) for tensor in model.outputs]
    else:
        shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(model.compute_output_spec(inputs))]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"ensemble.average expects members with one output of shape (batch, classes). Received {model.name!r} with "
            f"{shapes}. Cut the other outputs off: keras.Model(model.inputs, model.outputs[0])."
        )
    return shapes[0]


def _check_classes(models, kinds, shapes):
    if len({shape[-1] for shape in shapes}) > 1 or len({kind.exclusive for kind in kinds}) > 1:
        said = [
            f"{model.name}: {shape[-1]} {'softmax' if kind.exclusive else 'sigmoid'}"
            for model, shape, kind in zip(models, shapes, kinds, strict=True)
        ]
        raise ValueError(
            f"ensemble.average expects members with the same classes. Received {', '.join(said)}. "
            "Average only models that were trained on the same labels."
        )
