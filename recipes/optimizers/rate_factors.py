"""Which factor of the learning rate each variable gets: by the names of layers, or by their depth."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from recipes.common.models import output_layers
from recipes.common.traversal import kernel_levels, layers_of, variable_owners
from recipes.common.validation import is_number

#: The largest number of groups that a decay by depth makes below the last layer: as many as BERT has layers, with which
#: the published decays were found.
MOST_GROUPS = 12

_SHOWN = 12


def rate_factors(
    model: keras.Model,
    rates: float | Mapping[str, float],
    variables: Sequence[keras.Variable] | None = None,
    *,
    strict: bool = True,
) -> list[float]:
    """One factor of the learning rate per variable.

    Args:
        model: Built.
        rates: Factors by layer, of 0 or more: `{"head": 1.0, "backbone": 0.1}`. A key is the name of a layer or of a
            nested model, its path `"backbone/block1_conv"`, or a pattern for either, with the wildcards of the shell
            (`"block[12]_*"`) or as a regular expression that fits the whole (`"block[12]_.*"`). A layer takes the
            factor of the innermost name that fits; a name goes before a pattern, and the later of two patterns before
            the earlier one. A layer that no key fits has the factor 1. Where no layer has these names, `"head"` is the
            layer that gives the classes, and `"backbone"` everything else.

            Or the decay by depth, in (0, 1]: the last layer with a kernel has the factor 1, and each layer below it
            `rates` times the factor of the layer above it. Layers count along the graph, the longest path where it
            branches, into nested models; a normalization goes with the kernel before it. In a network of more than 13
            levels the levels below the last are put into 12 groups of equal size: the published decays of 0.65 to 0.9
            were found with about a dozen layers. Source: Clark et al. 2020, table 7, https://arxiv.org/abs/2003.10555
        variables: The variables of the model for which factors are wanted; by default the trainable ones.
        strict: Refuse a key that fits only frozen layers.

    Returns:
        A list of floats, in the order of `variables`.

    Raises:
        ValueError: when a key fits no layer that learns (the error lists the names); for `rates` of another form; for a
            model that is not built or has nothing that learns.
    """
    wanted = list(model.trainable_variables if variables is None else variables)
    if not model.built or not wanted:
        raise ValueError(
            f"rates expects a built model with variables that learn. Received {model.name!r}, which "
            f"{'has none' if model.built else 'is not built'}. Call it on a batch, or set layer.trainable = True."
        )
    if isinstance(rates, Mapping):
        return _by_name(model, rates, wanted, strict)
    if not is_number(rates) or not 0 < rates <= 1:
        raise ValueError(
            "rates expects factors by layer, or the decay from one layer to the one below, in (0, 1]. "
            f"Received rates={rates!r}. Write rates={{'head': 1.0, 'backbone': 0.1}} or rates=0.75."
        )
    return [float(rates) ** exponent for exponent in _steps_below(model, wanted)]


def told(model: keras.Model, factors: Mapping[int, float]) -> dict[str, float]:
    """The factor of each layer that has variables in `factors` (by `id`), by the layer's path."""
    owners = variable_owners(model)
    return {owners[key][0]: factor for key, factor in factors.items() if key in owners}


def _by_name(model, rates, wanted, strict):
    for key, factor in rates.items():
        if not isinstance(key, str) or not is_number(factor) or factor < 0:
            raise ValueError(
                f"rates expects factors of 0 or more by names of layers. Received {key!r}: {factor!r}. "
                "Write rates={'head': 1.0, 'backbone': 0.1}."
            )
    owners = variable_owners(model)
    paths = {id(variable): owners[id(variable)][0] for variable in wanted}
    head = {id(variable) for layer in output_layers(model) for variable in layer.variables}
    words = _words(rates, model)
    used, factors = set(), []
    for variable in wanted:
        best = None
        for place, (key, factor) in enumerate(rates.items()):
            rank = _rank(key, model.name, paths[id(variable)])
            if rank is None and key in words and (id(variable) in head) == (key == "head"):
                rank = (-1, 0)
            if rank is not None:
                used.add(key)
                best = max(best or (rank, place, factor), (rank, place, factor))
        factors.append(1.0 if best is None else float(best[2]))
    unused = [key for key in rates if key not in used and (strict or not matches(model, key))]
    if unused:
        _refuse(unused, model, owners, wanted)
    return factors


def _words(rates, model):
    """Which of the keys "head" and "backbone" are not names of layers, and so mean parts of the model."""
    names = {layer.name for layer in layers_of(model, include_self=True)}
    return {word for word in ("head", "backbone") if word in rates and word not in names}


def _rank(key, root, path):
    """How well a key fits a layer's path: `(depth, is a name)`, or None."""
    parts = path.split("/")
    best = (0, 1) if key == root else None
    for depth in range(1, len(parts) + 1):
        for text in (parts[depth - 1], "/".join(parts[:depth])):
            if key == text:
                best = max(best or (depth, 1), (depth, 1))
            elif _fits(key, text):
                best = max(best or (depth, 0), (depth, 0))
    return best


def _fits(pattern, text):
    if fnmatch.fnmatchcase(text, pattern):
        return True
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def matches(model: keras.Model, pattern: str, *, caller: str | None = None) -> list[Any]:
    """The layers with variables that a name or pattern of `rate_factors` fits, or that lie inside such a layer.

    Args:
        model: Built.
        pattern: As a key of `rate_factors`.
        caller: Name for the error where there are no such layers; None raises none.

    Returns:
        A list of `keras.layers.Layer`, each once; empty where no layer fits and `caller` is None.

    Raises:
        ValueError: where no layer fits (the error lists the names) and `caller` is given.
    """
    owners = variable_owners(model)
    if _words([pattern], model):
        head = {id(variable) for layer in output_layers(model) for variable in layer.variables}
        fits = {key: (key in head) == (pattern == "head") for key in owners}
    else:
        fits = {key: _rank(pattern, model.name, path) is not None for key, (path, _) in owners.items()}
    found = {id(layer): layer for key, (_, layer) in owners.items() if fits[key]}
    if not found and caller:
        paths = list(dict.fromkeys(path for path, _ in owners.values()))
        raise ValueError(_no_such(caller, "layers", pattern, model, paths))
    return list(found.values())


def _refuse(unused, model, owners, wanted):
    learning = list(dict.fromkeys(owners[id(variable)][0] for variable in wanted))
    frozen = [key for key in unused if matches(model, key)]
    if frozen or not set(unused) - {"head", "backbone"}:
        raise ValueError(
            f"rates expects layers that learn. Received {(frozen or unused)[0]!r}, which fits only frozen layers of "
            f"{model.name!r}. Set layer.trainable = True on those, let them join with unfreeze= of recipes.train or "
            "callbacks.Unfreeze, or leave it out."
        )
    raise ValueError(_no_such("rates", "layers that learn", unused[0], model, learning))


def _no_such(caller, kind, pattern, model, paths):
    outer = list(dict.fromkeys(path.split("/")[0] for path in paths))
    names = [*outer, *(path for path in paths if path not in outer)]
    more = f", {len(names)} in all" if len(names) > _SHOWN else ""
    shown = names if not more else [*names[: _SHOWN // 2], "...", *names[-_SHOWN // 2 :]]
    layer = pattern.rpartition("/")[0]
    of_variable = f" A variable goes with its layer: write {layer!r}." if layer in names else ""
    return (
        f"{caller} expects names or patterns of {kind}. Received {pattern!r}, which fits none of "
        f"{model.name!r}. It has {', '.join(shown)}{more}.{of_variable}"
    )


def _steps_below(model, wanted):
    """How many groups each variable is below the last layer."""
    levels = kernel_levels(model)
    top = max(levels.values(), default=1)
    below = max(top - 1, 1)
    owners = variable_owners(model)
    steps = []
    for variable in wanted:
        level = max(1, levels.get(id(owners[id(variable)][1]), top))
        distance = top - level
        steps.append(
            distance if below <= MOST_GROUPS or not distance else 1 + (distance - 1) * MOST_GROUPS // below
        )
    return steps
