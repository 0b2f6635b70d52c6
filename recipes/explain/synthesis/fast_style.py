"""Fast style transfer: a network that transfers one style to any image in one forward pass."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from recipes.common.types import FloatArray, Images, ValueRange, Verbose
from recipes.explain.engine import tracing
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer, Preprocess
from recipes.explain.synthesis.backbones import content_layer as find_content_layer
from recipes.explain.synthesis.backbones import style_layers as find_style_layers
from recipes.explain.synthesis.invert_features import relative_distance, total_variation_of
from recipes.explain.synthesis.texture import check_weights, style_loss, style_targets
from recipes.explain.synthesis.transfer_style import fitted, scaled
from recipes.layers import InstanceNormalization


class FastStyle:
    """Train a feed-forward network to do what `transfer_style` does by optimization.

    Source: Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", section 3,
    https://arxiv.org/abs/1603.08155, with instance normalization (Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022).
    Two things differ from the paper. The image is enlarged by repeating pixels before a convolution, because transposed
    convolutions produce checkerboard artifacts. The losses are relative, as in `transfer_style`.

    Args:
        model: The network whose features define the losses, as in `transfer_style`. It is never changed.
        style: `(height, width, channels)`, any size, in `value_range`.
        content_weight, style_weight, total_variation: As in `transfer_style`.
        style_size: As in `transfer_style`; by default the style's own size, if the network takes any size.
        content_layer, style_layers, layer_weights, value_range, preprocess: As in `transfer_style`.
        filters: Filters of the first convolution; 32 in the paper.
        blocks: Number of residual blocks; 5 in the paper.
        seed: Integer that fixes the initial weights.

    Attributes:
        network: The plain `keras.Model` that is trained, from images to images in `value_range`, with any sides that
            are divisible by 4. Save it with `fast.network.save("style.keras")`; to load it, only `import
            recipes.layers` is needed.

    Raises:
        ValueError: when the style, the layers or the weights do not fit the model or `value_range`.

    Example:
        >>> fast = explain.FastStyle(backbone, style)
        >>> fast.fit(photos, epochs=2)
        >>> painted = fast.network.predict(photo[None])
    """

    def __init__(
        self,
        model: keras.Model,
        style: Images,
        *,
        content_weight: float = 1.0,
        style_weight: float = 10.0,
        total_variation: float = 1e-2,
        style_size: int | None = None,
        content_layer: Layer | None = None,
        style_layers: Sequence[Layer] | None = None,
        layer_weights: Sequence[float] | None = None,
        value_range: ValueRange = (0, 255),
        preprocess: Preprocess = None,
        filters: int = 32,
        blocks: int = 5,
        seed: int = 0,
    ) -> None:
        open_canvas = Canvas("FastStyle", model, size=False, value_range=value_range)
        self.size = open_canvas.shape[:2]
        canvas = Canvas("FastStyle", model, value_range=value_range)
        if None in self.size:
            style = scaled(canvas, style, style_size or min(np.shape(style)[:2]))
        else:
            style, _ = fitted(canvas, style, self.size, "style")
        self.canvas, self.model, self.preprocess = canvas, model, preprocess
        self.calls = find_style_layers(model, style_layers, "FastStyle")
        self.content_call = find_content_layer(model, content_layer, "FastStyle")
        self.grams = style_targets("FastStyle", canvas, model, [style], [1.0], self.calls, preprocess, "auto")
        self.layer_weights = check_weights("FastStyle", layer_weights, len(self.calls))
        self.weights = (content_weight, style_weight, total_variation)
        self.network = transformation_network(
            canvas.shape[-1], value_range=canvas.value_range, filters=filters, blocks=blocks, seed=seed
        )

    def fit(
        self,
        images: "Images | tf.data.Dataset",
        *,
        epochs: int = 2,
        batch_size: int = 4,
        learning_rate: float = 1e-3,
        verbose: Verbose = "auto",
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> keras.callbacks.History:
        """Train the network on content images.

        Args:
            images: `(n, height, width, channels)` in `value_range`, with sides divisible by 4 (and of the size of
                `model`, if that is fixed), or a `tf.data.Dataset` of batches of such images.
            epochs: Number of passes over the images.
            batch_size: Images per step, for arrays.
            learning_rate: Learning rate of Adam; 1e-3 in the paper.
            verbose, callbacks: As in `keras.Model.fit`.

        Returns:
            The `keras.callbacks.History` with `loss`, `content` and `style` per epoch.

        Raises:
            ValueError: when the images have another shape or lie outside `value_range`.
        """
        if not isinstance(images, tf.data.Dataset):
            fitted = Canvas(
                "FastStyle.fit", self.model, size=np.shape(images)[1:3], value_range=self.canvas.value_range
            )
            array, _ = fitted.batch(images)
            images = tf.data.Dataset.from_tensor_slices(array).shuffle(len(array), seed=0).batch(batch_size)
        trainer = _Trainer(self.network, self._losses)
        trainer.compile(optimizer=keras.optimizers.Adam(learning_rate))
        return trainer.fit(images, epochs=epochs, shuffle=False, verbose=verbose, callbacks=list(callbacks))

    def __call__(self, images: Images) -> FloatArray:
        """Transfer the style to images `(n, height, width, channels)` in `value_range`, with sides divisible by 4.

        Returns:
            float32 of the same shape, in `value_range`.
        """
        return np.asarray(self.network(tf.cast(images, "float32"), training=False))

    def _losses(self, images, painted):
        """`(total, content, style)`, each the mean over the batch, a scalar."""
        calls = [*self.calls] if self.content_call in self.calls else [*self.calls, self.content_call]
        _, maps = tracing.capture(self.model, self._seen(painted), calls, stop=True)
        _, (wanted,) = tracing.capture(self.model, self._seen(images), [self.content_call], stop=True)
        found, wanted = maps[calls.index(self.content_call)], tf.stop_gradient(wanted)
        content = relative_distance(found, wanted)
        style = style_loss(
            maps[: len(self.calls)], self.layer_weights, self.grams, self.canvas.channels_first
        )
        low, high = self.canvas.value_range
        smooth = total_variation_of(2 * (painted - low) / (high - low) - 1)
        total = self.weights[0] * content + self.weights[1] * style + self.weights[2] * smooth
        return [tf.reduce_mean(values) for values in (total, content, style)]

    def _seen(self, images):
        seen = images if self.preprocess is None else self.preprocess(images)
        seen = tf.transpose(seen, [0, 3, 1, 2]) if self.canvas.channels_first else seen
        return pack(self.model, [seen], self.canvas.keys)


def transformation_network(
    channels: int, *, value_range: ValueRange = (0, 255), filters: int = 32, blocks: int = 5, seed: int = 0
) -> keras.Model:
    """Build the network of Johnson et al. 2016, supplementary table 1, from images to images in `value_range`.

    The sides of the images must be divisible by 4.
    """
    low, high = value_range
    middle, half = (low + high) / 2, (high - low) / 2
    seeds = iter(np.random.SeedSequence(seed).generate_state(7 + 2 * blocks))

    def initializer():
        return keras.initializers.GlorotUniform(seed=int(next(seeds)))

    def conv(x, count, size, strides=1, relu=True):
        x = keras.layers.Conv2D(
            count, size, strides, padding="same", use_bias=False, kernel_initializer=initializer()
        )(x)
        x = InstanceNormalization()(x)
        return keras.layers.ReLU()(x) if relu else x

    image = keras.Input((None, None, channels), name="image")
    x = keras.layers.Rescaling(1 / half, offset=-middle / half)(image)
    x = conv(x, filters, 9)
    x = conv(x, 2 * filters, 3, strides=2)
    x = conv(x, 4 * filters, 3, strides=2)
    for _ in range(blocks):
        x = keras.layers.Add()([x, conv(conv(x, 4 * filters, 3), 4 * filters, 3, relu=False)])
    for count in (2 * filters, filters):
        x = conv(keras.layers.UpSampling2D(2)(x), count, 3)
    x = keras.layers.Conv2D(
        channels, 9, padding="same", activation="tanh", dtype="float32", kernel_initializer=initializer()
    )(x)
    return keras.Model(
        image, keras.layers.Rescaling(half, offset=middle, dtype="float32")(x), name="fast_style"
    )


class _Trainer(keras.Model):
    """Trains the network by the losses of another network, which is not part of this model."""

    def __init__(self, network, losses):
        super().__init__()
        self.network = network
        self._losses = losses

    def call(self, images):
        return self.network(images)

    def train_step(self, images):
        images = tf.cast(images, "float32")
        with tf.GradientTape() as tape:
            total, content, style = self._losses(images, self.network(images, training=True))
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return {"loss": total, "content": content, "style": style}
