"""Weights that do not learn: frozen, frozen after the optimizer was made, or not tracked by the model."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.words import counted

_FEWEST_PROBES = 3
_FEWEST_MOVING = 3  # batch normalization layers; one or two may belong to a new head


def judge_frozen(facts: dict) -> list[Finding]:
    """Findings about weights that no step changes, or that change although they are meant to stay.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`. A rule whose facts are missing is silent.

    Returns:
        A list of `Finding`, empty where nothing is wrong.
    """
    return [*_switched(facts), *_frozen(facts), *judge_untracked(facts), *_moving_statistics(facts)]


def judge_untracked(facts: dict) -> list[Finding]:
    """Findings about weights that take part in the computation but that the model does not track.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`.

    Returns:
        A list of `Finding`, empty where nothing is wrong.
    """
    shapes = facts.get("untracked")
    if not shapes:
        return []
    told = ", ".join(str(tuple(shape)) for shape in shapes[:3]) + (", ..." if len(shapes) > 3 else "")
    numbers = counted(len(shapes), "matrix").replace("matrixs", "matrices")
    return [
        _found(
            "frozen",
            "warning",
            None,
            f"The model computes with {numbers} of weights ({told}) that it does not hold: they are random "
            "numbers as an initializer draws them, the optimizer never sees them, and model.save leaves them out.",
            "Call the layers in the model itself, x = block(x), in place of within a Lambda or a function; in a class "
            "of your own make them in __init__ and keep them as self.block = ...",
        )
    ]


def never_given(view: Any) -> list[Finding]:
    """Kernels whose gradient a custom training step never gives to an optimizer, in a run that did not learn.

    Only kernels with their initial values are looked at. Keras' own step gives all gradients to the optimizer: where
    one is missing there, something else cuts it off.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    own = (view.facts.get("task") or {}).get("own_step")
    if not own or view.learned or view.count < _FEWEST_PROBES or not view.kernels.size:
        return []
    fresh = {one["name"] for one in view.facts.get("layers", ()) if (one.get("kernel") or {}).get("fresh")}
    unknown = np.isnan(view.gradient).all(axis=0)
    still = (view.weight == view.weight[:1]).all(axis=0)
    left = [c for c in view.kernels if unknown[c] and still[c] and view.layer(c) in fresh]
    if not left or len(left) == len(view.kernels):
        return []  # a step that shows no gradients at all cannot be judged
    return [
        _found(
            "frozen",
            "warning",
            view.layer(left[0]),
            f"{len(left)} of {len(view.kernels)} kernels, that of {view.layer(left[0])} first, are the random numbers "
            f"they began with after {int(view.step[-1]) + 1} steps: no optimizer is given their gradients, or "
            "something cuts these off.",
            "Let the training step take them all: weights = self.trainable_variables; "
            "self.optimizer.apply(tape.gradient(loss, weights), weights); and look for stop_gradient, rounding or "
            "argmax behind that layer.",
        )
    ]


def _frozen(facts):
    kernels = [layer for layer in facts["layers"] if layer["kernel"]]
    if facts.get("trainable") == 0:
        return [
            _found(
                "frozen",
                "error",
                None,
                "The model has no trainable weight, so no step changes anything and the loss stays where it is.",
                "Set model.trainable = True, or layer.trainable = True on the layers that are to learn, and compile "
                "again.",
            )
        ]
    frozen = [layer for layer in kernels if not layer["trainable"] and layer["kernel"]["fresh"]]
    if not frozen:
        return []
    weights = sum(layer["kernel"]["size"] for layer in kernels)
    share = sum(layer["kernel"]["size"] for layer in frozen) / weights
    return [
        _found(
            "frozen",
            "warning",
            frozen[0]["name"],
            f"{len(frozen)} of {len(kernels)} layers with kernels ({share:.0%} of their weights) are frozen at the "
            "random numbers they were initialized with: "
            f"{', '.join(layer['name'] for layer in frozen[:3])}{', ...' if len(frozen) > 3 else ''}.",
            "Set layer.trainable = True and compile again, or load pretrained weights into them.",
        )
    ]


def _switched(facts):
    """`trainable` changed after the training step was made, which does not see the change."""
    joined, left = (facts.get("switched", {}).get(name, ()) for name in ("joined", "left"))
    again = "Compile again after setting layer.trainable, or let callbacks.Unfreeze do it within one fit."
    if joined:
        said = (
            f"{len(joined)} variables, {joined[0]} first, are trainable now and were frozen when the optimizer and the "
            "training step were made: they will not learn, or the first step fails."
        )
        return [_found("trainable_switched", "error", None, said, again)]
    if left:
        said = (
            f"{len(left)} variables, {left[0]} first, are frozen now and were not when the training step was made: "
            "it goes on changing them."
        )
        return [_found("trainable_switched", "warning", None, said, again)]
    return []


def _moving_statistics(facts):
    """Batch normalization in a frozen, pretrained backbone whose statistics still follow the user's batches."""
    kernel, moving = None, []
    for layer in facts["layers"]:
        kernel = layer if layer["kernel"] else kernel
        behind = kernel is not None and not kernel["trainable"] and not kernel["kernel"]["fresh"]
        if layer["momentum"] is not None and layer["trainable"] and layer["settled"] and behind:
            moving.append(layer["name"])
    if len(moving) < _FEWEST_MOVING:
        return []
    return [
        _found(
            "frozen_statistics",
            "warning",
            moving[0],
            f"{len(moving)} batch normalizations, {moving[0]} first, stand behind frozen layers and are not frozen: "
            "their means and variances move from those of the pretraining to those of your batches, and the features "
            "with them.",
            "Freeze them as well, backbone.trainable = False, which keeps the statistics in training too; "
            "models.transfer and callbacks.Unfreeze do.",
        )
    ]


def _found(code, severity, layer, evidence, remedy):
    return Finding(code, severity, layer, 0, evidence, remedy)
