"""What all builders share: normalisation, activation, initialisation, decay and dropout, as one object."""

import math
from dataclasses import dataclass
from numbers import Integral

import keras

NORMS = ("batch", "layer", "group", None)


@dataclass(frozen=True)
class Parts:
    """Adds layers to a graph in one style, so that a builder reads as its architecture.

    Args:
        norm: One of `NORMS`.
        activation: A Keras activation's name or function.
        initializer: Of every kernel but the classifier's: a Keras initializer or its name.
        weight_decay: Added to the gradient of each kernel as `weight_decay * kernel`, >= 0.
        dropout: Share of activations dropped, in [0, 1).
    """

    norm: object
    activation: object
    initializer: object
    weight_decay: float
    dropout: float

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(
                f"The builders of recipes.models expect norm to be one of {NORMS}. "
                f"Received norm={self.norm!r}. Pick one of these, or norm=None for no normalisation."
            )
        if self.weight_decay < 0:
            raise ValueError(
                f"The builders of recipes.models expect weight_decay >= 0. "
                f"Received weight_decay={self.weight_decay}. Use 0 to turn it off, 1e-4 as He et al. 2015 do."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"The builders of recipes.models expect dropout in [0, 1), the share that is dropped. "
                f"Received dropout={self.dropout}. Use 0 to turn it off."
            )
        keras.activations.get(self.activation)

    @property
    def activation_name(self):
        return keras.activations.get(self.activation).__name__

    @property
    def regularizer(self):
        # Keras' L2(c) adds c * sum(W^2), whose gradient is 2 c W; papers state the factor of W.
        return keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None

    def conv(self, inputs, filters, kernel_size, name, strides=1):
        """A convolution; the bias is left to the normalisation that follows."""
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=self.norm is None,
            kernel_initializer=self.initializer,
            kernel_regularizer=self.regularizer,
            name=name,
        )(inputs)

    def dense(self, inputs, units, name):
        return keras.layers.Dense(
            units,
            use_bias=self.norm is None,
            kernel_initializer=self.initializer,
            kernel_regularizer=self.regularizer,
            name=name,
        )(inputs)

    def normalize(self, inputs, name):
        channels = inputs.shape[-1]
        if self.norm is None:
            return inputs
        if self.norm == "batch":
            # He et al. average with 0.9; Keras' 0.99 needs hundreds of steps before inference works.
            return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(inputs)
        # Ba et al. 2016 normalise over all units of a layer, so over height, width and channels: one group.
        groups = 1 if self.norm == "layer" else math.gcd(8, channels)
        return keras.layers.GroupNormalization(groups, epsilon=1e-5, name=name)(inputs)

    def activate(self, inputs, prefix, number=""):
        """The layer is called after its activation: `top` becomes `top_relu`."""
        name = f"{prefix}_{self.activation_name}{number}".lstrip("_")
        return keras.layers.Activation(self.activation, name=name)(inputs)

    def drop(self, inputs, name):
        return keras.layers.Dropout(self.dropout, name=name)(inputs) if self.dropout else inputs

    def classify(self, inputs, classes, classifier_activation):
        return keras.layers.Dense(
            classes,
            activation=classifier_activation,
            # As small as in VGG and AlexNet: the first loss is then log(classes), nothing to unlearn.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            kernel_regularizer=self.regularizer,
            dtype=output_dtype(),
            name="predictions",
        )(inputs)


def output_dtype():
    """float32 under a mixed-precision policy, where half precision blurs a softmax; else the policy's."""
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def scaled_image(input_shape, classes, classifier_activation, builder):
    """Check what every builder takes; return the input tensor and the same in -1..1."""
    check_image_shape(input_shape, builder)
    check_classes(classes, classifier_activation, builder)
    image = keras.Input(input_shape, name="image")
    return image, keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)


def check_image_shape(input_shape, builder):
    if len(input_shape) != 3 or input_shape[-1] is None:
        raise ValueError(
            f"{builder} expects input_shape=(height, width, channels). "
            f"Received input_shape={tuple(input_shape)}. "
            "Leave the batch dimension out, and give a gray image one channel."
        )


def check_classes(classes, classifier_activation, builder):
    if not isinstance(classes, Integral) or classes < 1:
        raise ValueError(
            f"{builder} expects classes to be a whole number >= 1. Received classes={classes!r}. "
            "Give the number of classes, such as info.class_names' length from recipes.data.load."
        )
    if classes == 1 and classifier_activation == "softmax":
        raise ValueError(
            f"{builder} expects two or more classes for a softmax. Received classes=1, whose softmax is 1. "
            'Use classes=2, or classes=1 with classifier_activation="sigmoid".'
        )
