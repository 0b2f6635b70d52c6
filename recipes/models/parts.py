"""The parts that all builders share: normalization, activation, initialization, weight decay and dropout."""

import math
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import keras

from recipes.common.validation import are_whole, as_row, is_number, is_one_of
from recipes.initialize.fixup import Fixup
from recipes.layers import InstanceNormalization, Maxout, MaxoutConv2D, ScalarAffine

NORMS = ("batch", "layer", "instance", "group", None)


@dataclass(frozen=True)
class Parts:
    """Adds layers to a graph in one style, so that the code of a builder shows only its architecture.

    Args:
        norm: One of `NORMS`. "layer" normalizes over height, width and channels as Ba et al. 2016 do, "group" in 8
            groups of channels.
        activation: A Keras activation's name or function, or "maxout": every convolution and dense layer then takes
            the largest of two pieces, and no activation follows.
        initializer: Initializer of every kernel except the classifier's: a Keras initializer or its name.
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0.
        dropout: Share of activations dropped, in [0, 1).
        branches: Number of residual branches of a network that is initialized by Fixup, 0 for all others.
    """

    norm: object
    activation: object
    initializer: object
    weight_decay: float
    dropout: float
    branches: int = 0

    def __post_init__(self) -> None:
        if self.norm is not None and not is_one_of(self.norm, NORMS):
            raise ValueError(
                f"The builders of recipes.models expect norm to be one of {NORMS}. "
                f"Received norm={self.norm!r}. Pick one of these; None means no normalization."
            )
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(
                f"The builders of recipes.models expect weight_decay >= 0. "
                f"Received weight_decay={self.weight_decay}. Use 0 to turn it off, 1e-4 as He et al. 2015 do."
            )
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ValueError(
                f"The builders of recipes.models expect dropout in [0, 1), the share that is dropped. "
                f"Received dropout={self.dropout}. Use 0 to turn it off."
            )
        drawn = random.getstate()
        try:
            keras.initializers.get(self.initializer)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "The builders of recipes.models expect initializer to be one that Keras knows. Received "
                f"initializer={self.initializer!r}. Use 'he_normal'."
            ) from error
        finally:
            # Making an initializer draws a seed; the check must not change the seeds drawn later.
            random.setstate(drawn)
        if not self.maxout:
            self._check_activation()

    def _check_activation(self):
        try:
            known = callable(self.activation) or keras.activations.get(self.activation) is not None
        except (TypeError, ValueError):
            known = False
        if not known or self.activation is None:
            raise ValueError(
                "The builders of recipes.models expect activation to be a Keras activation or 'maxout'. "
                f"Received activation={self.activation!r}. Use 'relu', or 'linear' for none."
            )

    @property
    def maxout(self) -> bool:
        return is_one_of(self.activation, ("maxout",))

    @property
    def regularizer(self) -> Any:
        # Keras' L2(c) adds c * sum(W^2), whose gradient is 2 c W; papers state the factor of W in the gradient.
        return keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None

    def conv(
        self,
        inputs: Any,
        filters: int,
        kernel_size: int | tuple[int, int],
        name: str,
        *,
        strides: int = 1,
        padding: Literal["valid", "same"] = "same",
        initializer: Any = None,
    ) -> Any:
        """Add a convolution, without a bias where a normalization or a Fixup offset takes its place."""
        if self.branches:
            inputs = ScalarAffine(name=f"{name}_offset")(inputs)
        layer = MaxoutConv2D if self.maxout else keras.layers.Conv2D
        return layer(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=self.norm is None and not self.branches,
            kernel_initializer=initializer or self.draws(name),
            kernel_regularizer=self.regularizer,
            name=name,
        )(inputs)

    def dense(self, inputs: Any, units: int, name: str) -> Any:
        layer = Maxout if self.maxout else keras.layers.Dense
        return layer(
            units,
            use_bias=self.norm is None,
            kernel_initializer=self.draws(name),
            kernel_regularizer=self.regularizer,
            name=name,
        )(inputs)

    def normalize(self, inputs: Any, prefix: str, number: int | str = "") -> Any:
        """Add the normalization `prefix_norm`; in a Fixup network the offset before the activation, `prefix_offset`."""
        if self.branches:
            return ScalarAffine(name=f"{prefix}_offset{number}")(inputs)
        name = f"{prefix}_norm{number}".lstrip("_")
        if self.norm == "batch":
            # He et al. use a momentum of 0.9; with Keras' 0.99, inference is wrong for the first hundreds of steps.
            return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(inputs)
        if self.norm == "instance":
            return InstanceNormalization(name=name)(inputs)
        if self.norm == "layer":
            return keras.layers.GroupNormalization(1, epsilon=1e-5, name=name)(inputs)
        if self.norm == "group":
            groups = math.gcd(8, inputs.shape[-1])
            return keras.layers.GroupNormalization(groups, epsilon=1e-5, name=name)(inputs)
        return inputs

    def activate(self, inputs: Any, prefix: str, number: int | str = "") -> Any:
        """Add the activation, a layer named after its function: `top` becomes `top_relu`."""
        if self.maxout:
            return inputs
        function = keras.activations.get(self.activation)
        name = f"{prefix}_{getattr(function, '__name__', 'activation')}{number}".lstrip("_")
        return keras.layers.Activation(function, name=name)(inputs)

    def drop(self, inputs: Any, name: str) -> Any:
        return keras.layers.Dropout(self.dropout, name=name)(inputs) if self.dropout else inputs

    def draws(self, name: str) -> Any:
        """The initializer for the kernel of the layer `name`.

        An initializer object given to several layers draws the same numbers for each of them. So every layer gets a
        copy of its own; if a seed was given, it is combined with the layer's name.
        """
        if not isinstance(self.initializer, keras.initializers.Initializer):
            return self.initializer
        config = self.initializer.get_config()
        if isinstance(config.get("seed"), int):
            config["seed"] = (config["seed"] + zlib.crc32(name.encode())) % 2**31
        elif config.get("seed") is not None:
            return self.initializer  # a SeedGenerator, which moves on by itself
        return self.initializer.from_config(config)

    def inside_branch(self, name: str) -> Any:
        """The initializer of a residual branch's first convolution."""
        return Fixup(self.branches, initializer=self.draws(name)) if self.branches else None

    def ending_branch(self) -> Any:
        """The initializer of a residual branch's last convolution."""
        return keras.initializers.Zeros() if self.branches else None

    def gain(self, inputs: Any, name: str) -> Any:
        """The learned gain at the end of a Fixup network's residual branch."""
        return ScalarAffine(use_gain=True, name=name)(inputs) if self.branches else inputs

    def classify(
        self, inputs: Any, classes: int, classifier_activation: str | Callable[[Any], Any] | None
    ) -> Any:
        # As small as in AlexNet and VGG, so that the first loss is log(classes), that of uniform predictions.
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        if self.branches:
            inputs = ScalarAffine(name="predictions_offset")(inputs)
            initializer = keras.initializers.Zeros()
        return keras.layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_initializer=initializer,
            kernel_regularizer=self.regularizer,
            dtype=output_dtype(),
            name="predictions",
        )(inputs)


def output_dtype() -> str:
    """The dtype of the outputs: float32 under a mixed-precision policy, because a softmax loses precision in half
    precision; otherwise the policy itself."""
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def scaled_image(
    input_shape: tuple[int, int, int],
    classes: int,
    classifier_activation: str | Callable[[Any], Any] | None,
    builder: str,
) -> Any:
    """Check the arguments of every builder; return the input tensor in 0..255 and the same scaled to -1..1."""
    check_image_shape(input_shape, builder)
    check_classes(classes, classifier_activation, builder)
    image = keras.Input(input_shape, name="image")
    return image, keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)


def smallest_side(image: Any) -> Any:
    """The smaller of height and width in pixels, among those that are known; None if neither is."""
    return min((size for size in image.shape[1:3] if size is not None), default=None)


def check_image_shape(input_shape: Any, builder: str) -> None:
    """Raise a ValueError in the name of `builder` unless `input_shape` is `(height, width, channels)`."""
    sides = as_row(input_shape) or ()
    known = [side for side in sides if side is not None]
    if len(sides) != 3 or sides[-1] is None or not are_whole(known) or min(known) < 1:
        raise ValueError(
            f"{builder} expects input_shape=(height, width, channels). "
            f"Received input_shape={input_shape}. "
            "Leave out the batch axis; a gray image has one channel."
        )


def check_classes(
    classes: int, classifier_activation: str | Callable[[Any], Any] | None, builder: str
) -> None:
    """Raise a ValueError in the name of `builder` when the number of classes or the last activation is wrong."""
    try:
        keras.activations.get(classifier_activation)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{builder} expects classifier_activation to be an activation that Keras knows, or None. Received "
            f"classifier_activation={classifier_activation!r}. Use 'softmax', or None for logits."
        ) from error
    if not isinstance(classes, Integral) or not 1 <= classes <= 2**24:
        raise ValueError(
            f"{builder} expects classes to be a whole number from 1 to {2**24}. Received classes={classes!r}. "
            "Give the number of classes, such as len(info.class_names) from recipes.data.load."
        )
    if classes == 1 and classifier_activation == "softmax":
        raise ValueError(
            f"{builder} expects two or more classes for a softmax. Received classes=1, whose softmax is always 1. "
            'Use classes=2, or classes=1 with classifier_activation="sigmoid".'
        )
