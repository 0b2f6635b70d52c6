"""Drop whole residual branches at random, so that a deep network trains like many shallow ones."""

from typing import Any

import keras

from recipes.common.validation import check_seed, is_number, is_whole


@keras.saving.register_keras_serializable(package="recipes")
class StochasticDepth(keras.layers.Layer):
    """Drop a residual branch for a random share of the examples.

    Place the layer last on the branch, before the addition.
    Source: Huang et al. 2016, section 3, equations 2 and 5, https://arxiv.org/abs/1603.09382. There are two
    differences. Each example has a draw of its own, instead of one draw for the whole batch. A kept branch is divided
    by the share kept in training, where the paper multiplies by it at inference; so at inference this layer does
    nothing.

    Args:
        rate: Share of examples whose branch is dropped, in [0, 1): 1 - p_l in the paper. `linear_decay` gives the
            paper's rate for each block, 0.5 for the last one.
        seed: Integer that fixes the draws; None gives other draws in each run.

    Input shape: `(batch, ...)`, float: the output of a residual branch. Output shape: the same.

    Raises:
        ValueError: when `rate` is outside [0, 1).

    Example:
        >>> x = keras.layers.Add()([x, StochasticDepth(0.2)(branch)])
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_rate("StochasticDepth", rate)
        self.rate = rate
        if seed is not None:
            check_seed("StochasticDepth", seed)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        one_draw_an_example = (keras.ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        return keras.random.dropout(inputs, self.rate, one_draw_an_example, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def linear_decay(rate: float, blocks: int) -> list[float]:
    """Return the drop rate of each residual block: near 0 at the first, `rate` at the last, linear between.

    `1 - p_l = l / L * (1 - p_L)`: early blocks find features that all later blocks use, so they are kept more often.
    Source: Huang et al. 2016, equation 4, https://arxiv.org/abs/1603.09382

    Args:
        rate: Drop rate of the last block, in [0, 1). Paper: 0.5.
        blocks: Number of blocks, >= 1.

    Returns:
        A list of `blocks` rates.

    Raises:
        ValueError: when `rate` is outside [0, 1) or `blocks < 1`.
    """
    _check_rate("linear_decay", rate)
    if not is_whole(blocks) or blocks < 1:
        raise ValueError(
            f"linear_decay expects blocks >= 1. Received blocks={blocks}. Count the network's residual branches."
        )
    return [rate * block / blocks for block in range(1, blocks + 1)]


def _check_rate(function, rate):
    if not is_number(rate) or not 0 <= rate < 1:
        raise ValueError(
            f"{function} expects rate in [0, 1), the share of examples whose branch is dropped. "
            f"Received rate={rate}. The paper uses 0.5 for the last block; 0 turns it off."
        )
