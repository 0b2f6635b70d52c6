"""Why a model does not learn a few batches, from the gradients of one batch."""

import math
from collections.abc import Mapping

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.layer_rules import LayerStatistics
from recipes.diagnose.rules.words import share, times, typed

_SQUASHING = ("sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign")


def why_stuck(
    layers: list[LayerStatistics], gradients: Mapping[str, float], optimizer: Mapping, largest: int = 0
) -> list[Finding]:
    """Find causes, in the gradients of one batch, for a loss of a few batches that does not fall.

    Args:
        layers: Statistics of the layers before training, in forward order.
        gradients: Name of each trainable variable -> Euclidean norm of its gradient.
        optimizer: What `recipes.diagnose.rules.run_facts.describe_optimizer` returns.
        largest: Number of entries of the largest trainable variable, or 0 where that is not known.

    Returns:
        Findings "clipping_too_hard" and "vanishing", both warnings; an empty list where neither is the cause.
    """
    return _clipped(gradients, optimizer, largest) + _faded(layers)


def _clipped(gradients, optimizer, largest):
    norms = [norm for norm in gradients.values() if math.isfinite(norm)]
    for name in ("clipnorm", "global_clipnorm"):
        limit = optimizer.get(name)
        size = max(norms, default=0.0) if name == "clipnorm" else math.hypot(*norms)
        if limit and size > 100 * limit and limit < 0.1:
            evidence = f"Gradients have a norm of {size:.3g}, and {name}={limit:.2g} cuts them to "
            evidence += f"{share(limit / size)} of that, so steps are as much shorter."
            return [_found("clipping_too_hard", None, evidence, f"Use {name}={typed(max(size, 1.0))}.")]
    limit, usual = optimizer.get("clipvalue"), max(norms, default=0.0) / math.sqrt(max(largest, 1))
    if limit and largest and usual > 100 * limit and limit < 0.1:
        evidence = f"A number in a gradient is {usual:.3g} and more, and clipvalue={limit:.2g} cuts each to "
        evidence += f"{share(limit / usual)} of that: steps are as much shorter, and all numbers count alike."
        remedy = "Leave clipvalue out, or use clipnorm=1.0, which keeps the direction."
        return [_found("clipping_too_hard", None, evidence, remedy)]
    return []


def _faded(layers):
    hidden = [layer for layer in layers[:-1] if layer.kind in _SQUASHING and layer.gradient_rms > 0]
    if len(hidden) < 3 or hidden[0].gradient_rms > 1e-3 * hidden[-1].gradient_rms:
        return []
    first, last = hidden[0], hidden[-1]
    evidence = (
        f"The gradient at the output of {first.name} is {first.gradient_rms:.2g} and at that of {last.name} "
        f"{last.gradient_rms:.2g}, {times(last.gradient_rms / first.gradient_rms)} times as large: each {first.kind} "
        "between them takes a part away, and the first layers hardly move."
    )
    remedy = f"Use activation='relu' with kernel_initializer='he_normal' in place of {first.kind}; or batch "
    remedy += "normalization or residual connections between the layers."
    return [_found("vanishing", first.name, evidence, remedy)]


def _found(code, layer, evidence, remedy):
    return Finding(code, "warning", layer, 0, evidence, remedy)
