"""Margins of examples over the training of a small network on a few features per image: seconds for thousands."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from recipes.diagnose.margins.example_history import ExampleHistory

_HIDDEN, _BATCH, _RATE, _FOLDS = 64, 32, 2e-3, 4
_LEAST = 4  # epochs, whatever the time limit


def quick_history(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: int,
    *,
    epochs: int = 8,
    seconds: float = 10.0,
) -> ExampleHistory:
    """Train four small networks in cross-validation, and score each example with the one that was not trained on it.

    Each network has one hidden layer of 64 ReLU units and is trained with Adam. It leaves out a quarter of the examples
    and scores them after every epoch, so that no scored label was memorized. Confident learning asks for the same
    out-of-sample predictions (Northcutt et al. 2021, section 3.1).

    Args:
        features: `(n, d)`, such as small gray pictures or features of a pretrained network; standardized here.
        labels: Class numbers `(n,)`, from 0.
        classes: Number of classes.
        epochs: Largest number of epochs of each network.
        seconds: After this time, no further epoch is begun, but for the first four; all networks train equally long.

    Returns:
        `ExampleHistory`.
    """
    rng, start = np.random.default_rng(0), time.monotonic()
    x = features.reshape(len(features), -1).astype(np.float32)
    x = (x - x.mean(0)) / (x.std(0) + 0.1 * x.std() + 1e-6)
    x /= np.sqrt(max(1.0, np.square(x).sum(1).mean() / 64))  # a norm that suits the learning rate
    history, rows = ExampleHistory(labels, classes), np.eye(classes, dtype=np.float32)[labels]
    folds = np.array_split(rng.permutation(len(x)), min(_FOLDS, len(x)))
    networks = [_Network(x.shape[1], classes, rng) for _ in folds]
    for epoch in range(epochs):
        if epoch >= _LEAST and time.monotonic() - start > seconds:
            break
        for held_out, network in zip(folds, networks, strict=True):
            order = rng.permutation(np.setdiff1d(np.arange(len(x)), held_out))
            for begin in range(0, len(order), _BATCH):
                batch = order[begin : begin + _BATCH]
                network.learn(x[batch], rows[batch])
            history.add(held_out, network.answers(x[held_out])[1])
    return history


class _Network:
    def __init__(self, inputs, classes, rng):
        sizes = [(inputs, _HIDDEN), (_HIDDEN, classes)]
        self.weights = [rng.normal(0, np.sqrt(2 / size[0]), size).astype(np.float32) for size in sizes]
        self.weights += [np.zeros(_HIDDEN, np.float32), np.zeros(classes, np.float32)]
        self.moments = [(np.zeros_like(w), np.zeros_like(w)) for w in self.weights]
        self.step = 0

    def answers(self, x):
        """`(hidden, probabilities)`."""
        first, second, first_bias, second_bias = self.weights
        hidden = np.maximum(x @ first + first_bias, 0)
        logits = hidden @ second + second_bias
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        return hidden, exponents / exponents.sum(1, keepdims=True)

    def learn(self, x, rows):
        """One step of Adam (Kingma and Ba 2014, algorithm 1) on the cross-entropy."""
        self.step += 1
        hidden, probabilities = self.answers(x)
        wrong = (probabilities - rows) / len(x)
        back = (wrong @ self.weights[1].T) * (hidden > 0)
        gradients = x.T @ back, hidden.T @ wrong, back.sum(0), wrong.sum(0)
        for weight, gradient, (mean, square) in zip(self.weights, gradients, self.moments, strict=True):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            step = mean / (1 - 0.9**self.step) / (np.sqrt(square / (1 - 0.999**self.step)) + 1e-7)
            weight -= _RATE * step
