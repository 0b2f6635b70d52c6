"""Free the memory that TensorFlow keeps for train functions that are not used any more."""

import sys
from typing import Any

# The names of graphs: of the functions that Keras makes from `train_step`, and of our checks.
_TRAIN_FUNCTIONS = ("one_step_on", "multi_step_on", "_trial_step")


def forget_train_functions() -> int:
    """Free the graphs of Keras' train functions, which TensorFlow otherwise keeps until the process ends.

    Keras adds up the gradients of all replicas in every train function, also where there is one. That sum has a
    gradient of its own, which TensorFlow registers under a new name for every graph and never removes. The registered
    gradient keeps the whole graph: 2.6 MB for each `fit` of a small model. It is needed only for differentiating
    through the optimizer's update while the graph is being made. Graphs of other functions are left alone, because
    there the same sum may have another use (the statistics of a synchronized batch normalization).

    Returns:
        Number of graphs that were freed; 0 on another backend, or where TensorFlow keeps its list elsewhere.
    """
    # Where TensorFlow was not imported it keeps nothing; importing it here would cost seconds on another backend.
    ops = sys.modules.get("tensorflow.python.framework.ops")
    registered = getattr(getattr(ops, "gradient_registry", None), "_registry", None)
    if not isinstance(registered, dict):
        return 0
    gone = [name for name, entry in list(registered.items()) if _is_of_a_finished_train_function(entry)]
    for name in gone:
        registered.pop(name, None)
    return len(gone)


def _is_of_a_finished_train_function(entry: Any) -> bool:
    """Whether a registered gradient belongs to a sum over replicas, in a train function that is complete."""
    gradient = entry.get("type") if isinstance(entry, dict) else None
    if getattr(gradient, "__qualname__", "") != "_graph_mode_decorator.<locals>.internal_grad_fn":
        return False
    inside = [value for inner in _enclosed(gradient) for value in _enclosed(inner)]
    if not any("all_reduce.<locals>" in getattr(value, "__qualname__", "") for value in inside):
        return False
    tensors = [value[0] for value in inside if isinstance(value, list) and value]
    graphs = [getattr(tensor, "graph", None) for tensor in tensors]
    return bool(graphs) and all(
        getattr(graph, "name", "").startswith(_TRAIN_FUNCTIONS) and getattr(graph, "outputs", None)
        for graph in graphs
    )


def _enclosed(function: Any) -> list[Any]:
    """The values of the enclosing function that a function refers to."""
    found = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found
