"""Max pooling that shrinks an image by less than two, over regions drawn at random."""

from typing import Any

import keras

from recipes.common.validation import check_seed, is_number


@keras.saving.register_keras_serializable(package="recipes")
class FractionalMaxPooling2D(keras.layers.Layer):
    """Shrink an image by a factor between 1 and 2 with pooling regions that change from batch to batch.

    An image of `n` rows is cut at `0 = a_0 < a_1 < ... < a_m = n` with steps of one or two. Output row `i` is the
    maximum over the rows from `a_i` up to `a_(i+1)`, which is included only if `overlapping`. Columns are treated
    alike.
    Source: Graham 2014, section 2, https://arxiv.org/abs/1412.6071. Random cuts shuffle the steps. Pseudo-random
    cuts are `a_i = floor(n / m * i + u)` with one random phase `u`, the paper's formula moved to start at 0 and
    end at n. At inference the cuts are the pseudo-random ones of phase one half, so that predictions are
    repeatable. The paper averages over several random cuts, which calls with `training=True` draw.

    Args:
        ratio: Factor by which the height and width shrink, in (1, 2). Paper: 2 ** (1 / 3) and 2 ** (1 / 2).
        pseudo_random: Whether steps are spread evenly. The paper finds random steps better without
            augmentation, pseudo-random ones better with it.
        overlapping: Whether neighboring regions share a row and column; the paper finds it slightly better.
        seed: Integer that fixes the random cuts; None draws other cuts in each run. All images of a batch share
            their cuts.

    Input shape: `(batch, height, width, channels)`, any real dtype; height and width must be known.
    Output shape: `(batch, floor(height / ratio), floor(width / ratio), channels)`, and never less than half.

    Raises:
        ValueError: when `ratio` is outside (1, 2), or the height or width is not known.
    """

    def __init__(
        self,
        ratio: float,
        *,
        pseudo_random: bool = False,
        overlapping: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not is_number(ratio) or not 1 < ratio < 2:
            raise ValueError(
                f"FractionalMaxPooling2D expects ratio in (1, 2). Received ratio={ratio}. "
                "The paper uses 2 ** 0.5; to halve an image use keras.layers.MaxPooling2D(2)."
            )
        self.ratio = ratio
        self.pseudo_random = pseudo_random
        self.overlapping = overlapping
        if seed is not None:
            check_seed("FractionalMaxPooling2D", seed)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[1] is None or input_shape[2] is None:
            raise ValueError(
                "FractionalMaxPooling2D expects images (batch, height, width, channels) of known size. "
                f"Received shape {tuple(input_shape)}. Give the model an Input with height and width."
            )

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = inputs
        for axis in (1, 2):
            size = inputs.shape[axis]
            cuts = self._cuts(size, self._output_size(size), training)
            outputs = pool_between(outputs, cuts, size, axis, self.overlapping)
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, self._output_size(height), self._output_size(width), channels)

    def _output_size(self, size):
        # The tiny addition keeps 6 / 1.2 from becoming 4. With steps of at most two, the output has at least half
        # of the rows.
        return max(int(size / self.ratio + 1e-9), (size + 1) // 2)

    def _cuts(self, size, output_size, training):
        if not training:
            return pseudo_random_cuts(size, output_size, output_size // 2)
        if self.pseudo_random:
            phase = keras.random.randint((), 0, output_size, seed=self.seed_generator)
            return pseudo_random_cuts(size, output_size, phase)
        steps = [2] * (size - output_size) + [1] * (2 * output_size - size)
        shuffled = keras.random.shuffle(keras.ops.convert_to_tensor(steps, "int32"), seed=self.seed_generator)
        return keras.ops.pad(keras.ops.cumsum(shuffled), [[1, 0]])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "pseudo_random": self.pseudo_random,
            "overlapping": self.overlapping,
            "seed": self.seed,
        }


def pseudo_random_cuts(size: int, output_size: int, phase: Any) -> Any:
    """The cuts `a_i = floor((size * i + phase) / output_size)` for `i` in 0..output_size, int32 `(output_size + 1,)`.

    The fraction of `size / output_size * i` is a whole multiple of `1 / output_size`. So a whole `phase` in
    [0, output_size) gives every sequence that a real phase would give, with the same probability.
    """
    return (size * keras.ops.arange(output_size + 1, dtype="int32") + phase) // output_size


def pool_between(images: Any, cuts: Any, size: int, axis: int, overlapping: bool) -> Any:
    """The maximum between neighboring cuts along `axis`: regions of one or two rows, and one more if overlapping."""
    first, behind = cuts[:-1], cuts[1:]
    pooled = keras.ops.maximum(
        keras.ops.take(images, first, axis=axis), keras.ops.take(images, behind - 1, axis=axis)
    )
    if not overlapping:
        return pooled
    shared = keras.ops.minimum(behind, size - 1)
    return keras.ops.maximum(pooled, keras.ops.take(images, shared, axis=axis))
