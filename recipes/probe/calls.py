"""What the twins of all backends have in common: the quantities they measure, and the names of what they saw."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from recipes.common import optimizers
from recipes.common.traversal import variable_owners
from recipes.probe.layout import Watched, variable_role

QUANTITIES = ("variables", "activations", "finite", "ever_active", "histograms", "answers")
RECTIFIERS = ("relu", "leaky_relu")
MOST_CALLS = 8  # of one layer in one step

Call = tuple[str, Watched, Any]


def is_wanted(watched: Watched, quantities: frozenset[str]) -> bool:
    """Whether a layer's output is needed for any of `quantities`."""
    if "finite" in quantities:
        return True
    if quantities & {"activations", "histograms"}:
        return bool(watched.kind)
    return "ever_active" in quantities and watched.kind in RECTIFIERS


def numbered(outputs: Sequence[tuple[Watched, Any]]) -> list[Call]:
    """`(name, watched, tensors)` of each call in forward order; a second call of a layer is `name#2`."""
    count, calls = {}, []
    for watched, tensors in outputs:
        count[watched.name] = count.get(watched.name, 0) + 1
        suffix = "" if count[watched.name] == 1 else f"#{count[watched.name]}"
        calls.append((watched.name + suffix, watched, tensors))
    return calls


def describe(watched: Watched) -> dict[str, str]:
    """A layer's entry in the record's axes."""
    return {"layer": watched.name, "layer_class": type(watched.operation).__name__, "kind": watched.kind}


def loss_logs(logs: Any) -> dict[str, Any]:
    """The entries of a step's logs that are losses by their names: "loss", "d_loss", "reconstruction_loss"."""
    logs = logs if isinstance(logs, Mapping) else {}
    return {name: value for name, value in logs.items() if "loss" in name.lower()}


def optimizers_in(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The compiled optimizer, and other optimizers among the model's attributes."""
    found = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    return list({id(o): o for o in [model.optimizer, *found] if o is not None}.values())


def variable_axis(
    model: keras.Model, variables: Sequence[keras.Variable], calls: Sequence[Call]
) -> list[dict[str, Any]]:
    """The record's axis of variables: each with its layer, role, size, depth in forward order and rate factor."""
    first = {}
    for depth, (_, watched, _) in enumerate(calls):
        first.setdefault(watched.name, depth)
    owners, factors = variable_owners(model), {}
    for one in optimizers_in(model):
        factors |= optimizers.factors_of(one)
    axis = []
    for variable in variables:
        name, layer = owners.get(id(variable), ("", None))
        axis.append(
            {
                "name": f"{name}/{variable.name}" if name else variable.path,
                "layer": name,
                "layer_class": type(layer).__name__ if layer is not None else "",
                "role": variable_role(variable, layer),
                "size": int(np.prod(variable.shape)),
                "depth": first.get(name, -1),
                "factor": factors.get(id(variable), 1.0),
            }
        )
    return axis


def parts_of(data: Any) -> list[list[Any]]:
    """Inputs, targets and sample weights of a batch, each a flat list of tensors."""
    parts = keras.utils.unpack_x_y_sample_weight(data)
    return [[leaf for leaf in keras.tree.flatten(part) if leaf is not None] for part in parts]
