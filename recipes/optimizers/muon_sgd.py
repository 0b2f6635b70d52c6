"""Muon for the kernels of a network, SGD with Nesterov momentum for everything else."""

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from recipes.common.optimizers import slot_of
from recipes.common.validation import as_row, is_number, is_whole

_QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan 2024: the steepest at 0 that stays near 1


@keras.saving.register_keras_serializable(package="recipes")
class MuonSGD(keras.optimizers.Optimizer):
    """SGD with momentum whose updates of kernels are orthogonalized, so that all directions learn at the same pace.

    The momentum of a Dense or Conv2D kernel, as a matrix of `(inputs, outputs)`, is replaced by the nearest matrix
    whose singular values are all about 1; a few large ones no longer decide the step alone. Everything else - biases,
    gains and offsets, depthwise kernels, embeddings, and the classifier, whose rows are classes - is updated as
    `keras.optimizers.SGD(momentum=0.9, nesterov=True)` does.

    Sources: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon, also for the iteration and its coefficients; kernels of convolutions as
    matrices and three iterations, as the record runs on CIFAR-10 that grew out of Jordan 2024,
    https://arxiv.org/abs/2404.00498. `keras.optimizers.Muon` orthogonalizes only matrices of rank 2 and gives
    convolutions to AdamW.

    Args:
        learning_rate: Rate of the variables that SGD updates; a number > 0 or a `LearningRateSchedule`.
        momentum: Momentum of both kinds of updates, in [0, 1).
        muon_ratio: Kernels are updated at `muon_ratio * learning_rate * sqrt(max(1, outputs / inputs))`, > 0.
        iterations_per_step: Newton-Schulz iterations, >= 1. Jordan: 5 for language models, 3 for images.
        sgd_only: Which other variables SGD updates: regular expressions, searched in their paths, or places in the list
            of trainable variables, from its end when negative. -2 is the kernel of a last Dense layer with a bias.
        name: Name of the optimizer.
        **options: As in every Keras optimizer: `weight_decay`, `clipnorm`, `global_clipnorm`, `use_ema`, ...

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> model.compile(recipes.optimizers.MuonSGD(0.2, sgd_only=["predictions"]), "sparse_categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.2,
        momentum: float = 0.9,
        *,
        muon_ratio: float = 0.5,
        iterations_per_step: int = 3,
        sgd_only: Sequence[str | int] = (),
        name: str = "muon_sgd",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **options)
        patterns = as_row(sgd_only)
        if not (is_number(momentum) and 0 <= momentum < 1 and is_number(muon_ratio) and muon_ratio > 0):
            raise ValueError(
                f"MuonSGD expects momentum in [0, 1) and muon_ratio > 0. Received momentum={momentum}, "
                f"muon_ratio={muon_ratio}. The defaults are 0.9 and 0.5."
            )
        if not is_whole(iterations_per_step) or iterations_per_step < 1:
            raise ValueError(
                "MuonSGD expects iterations_per_step to be a whole number, at least 1. Received "
                f"iterations_per_step={iterations_per_step!r}. Leave it out for 3."
            )
        if patterns is None or not all(isinstance(one, str) or is_whole(one) for one in patterns):
            raise ValueError(
                "MuonSGD expects sgd_only to be a list of regular expressions and places. Received "
                f"sgd_only={sgd_only!r}. Name the classifier: sgd_only=['predictions']."
            )
        self.momentum, self.muon_ratio = momentum, muon_ratio
        self.iterations_per_step, self.sgd_only = iterations_per_step, list(patterns)
        self._momenta: list[Any] = []

    def build(self, variables: list[keras.Variable]) -> None:
        """Make a momentum for each variable."""
        if self.built:
            return
        super().build(variables)
        self._momenta = [
            self.add_variable_from_reference(variable, name="momentum") for variable in variables
        ]
        places = {place % len(variables) for place in self.sgd_only if isinstance(place, int)}
        self._orthogonal = [
            place not in places and self._is_hidden_kernel(variable)
            for place, variable in enumerate(variables)
        ]

    def _is_hidden_kernel(self, variable):
        shape, path = tuple(variable.shape), variable.path
        if (
            len(shape) not in (2, 4)
            or min(shape[-1], math.prod(shape[:-1])) < 2
            or "embedding" in path.lower()
        ):
            return False
        return not any(re.search(pattern, path) for pattern in self.sgd_only if isinstance(pattern, str))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Write one update of a variable."""
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        momentum = slot_of(self, self._momenta, variable)
        self.assign(momentum, self.momentum * momentum + gradient)
        update = gradient + self.momentum * momentum
        if slot_of(self, self._orthogonal, variable):
            matrix = ops.reshape(update, (-1, variable.shape[-1]))
            inputs, outputs = math.prod(variable.shape[:-1]), variable.shape[-1]
            update = ops.reshape(orthogonalize(matrix, self.iterations_per_step), variable.shape)
            rate = rate * self.muon_ratio * math.sqrt(max(1.0, outputs / inputs))
        self.assign_sub(variable, rate * update)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("momentum", "muon_ratio", "iterations_per_step", "sgd_only")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def orthogonalize(matrix: Any, steps: int) -> Any:
    """A matrix with the singular vectors of the given one, and singular values near 1.

    Newton-Schulz iteration: X becomes aX + bXX'X + cXX'XX'X, which changes only the singular values. With the
    coefficients of Jordan et al. 2024 they come to lie between 0.7 and 1.2 once they are large enough; after three
    steps small ones are still smaller.

    Args:
        matrix: `(rows, columns)`, float.
        steps: Iterations, >= 1.
    """
    rows, columns = matrix.shape
    x = matrix / (ops.sqrt(ops.sum(ops.square(matrix))) + 1e-12)
    x = ops.transpose(x) if rows > columns else x
    a, b, c = _QUINTIC
    for _ in range(steps):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if rows > columns else x
