"""Hooks on layers, optimizers and losses during one training step, which hand on the values that pass there.

Each function returns a `wrap` for `recipes.common.patching.wrapped`; the hook reports to the `Seen` of a twin.
"""

from collections.abc import Callable
from typing import Any

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def tapping_call(watched: Any, seen: Any) -> Wrap:
    """For `layer.call`: hands on the output."""

    def wrap(original):
        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            _tell(seen, seen.output, watched, output)
            return output

        return call

    return wrap


def tapping_apply(optimizer: Any, seen: Any) -> Wrap:
    """For `optimizer.apply`: hands on the gradients."""

    def wrap(original):
        def apply(grads, trainable_variables=None):
            grads = list(grads)
            trainable_variables = None if trainable_variables is None else list(trainable_variables)
            _tell(seen, seen.gradients, optimizer, grads, trainable_variables)
            return original(grads, trainable_variables)

        return apply

    return wrap


def tapping_stateless_apply(optimizer: Any, seen: Any) -> Wrap:
    """For `optimizer.stateless_apply`: hands on the gradients, with the state of the optimizer."""

    def wrap(original):
        def stateless_apply(optimizer_variables, grads, trainable_variables):
            grads = list(grads)
            _tell(seen, seen.gradients, optimizer, list(optimizer_variables), grads)
            return original(optimizer_variables, grads, trainable_variables)

        return stateless_apply

    return wrap


def tapping_loss(seen: Any) -> Wrap:
    """For `model.compute_loss`: hands on the loss, the labels and the predictions."""

    def wrap(original):
        def compute_loss(*args, **kwargs):
            loss = original(*args, **kwargs)
            labels, predictions = (
                kwargs[name] if name in kwargs else args[place] if len(args) > place else None
                for place, name in ((1, "y"), (2, "y_pred"))
            )
            _tell(seen, seen.take_loss, loss, labels, predictions)
            return loss

        return compute_loss

    return wrap


def _tell(seen, take, *values):
    try:
        take(*values)
    except Exception as error:  # reported with the measurements; the training step goes on
        seen.fault = error
