"""Facts that one batch on its way through a model shows beside its layers: loss, gradients, bounds, others' weights."""

import contextlib
from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.activation_statistics import Observation
from recipes.diagnose.checks.loss_source import loss_reads
from recipes.diagnose.checks.output_reach import output_reach
from recipes.diagnose.rules.words import far_outside


def batch_facts(model: keras.Model, batch: tuple, seen: Observation, data: dict) -> dict[str, Any]:
    """What the rules about the loss, about bounds of outputs and about weights that nobody trains ask for.

    Args:
        model: Built. Left as it was.
        batch: `(inputs, labels, weights)` that was sent through it.
        seen: What it showed.
        data: Facts of the training data.

    Returns:
        dict with "outputs", one dict an output with its range, and where the targets lie far from it the bounds that
        no weights overcome as "reach"; "first_loss"; "untracked", shapes of weights as drawn that the model does not
        hold.
    """
    outputs = [_output_facts(output) for output in keras.tree.flatten(seen.outputs)]
    if _far_from_targets(outputs, data):
        with contextlib.suppress(
            Exception
        ):  # a model that takes no such weights has no bounds that are known
            for one, reach in zip(outputs, output_reach(model, batch[0]), strict=False):
                one["reach"] = reach
    parts = {"inputs": batch[0], "labels": batch[1], "outputs": seen.outputs}
    first_loss = {"value": seen.loss, "gradients": list(seen.broken), "reads": loss_reads(model)}
    first_loss |= {f"{name}_finite": _finite(part) for name, part in parts.items()}
    first_loss["half"] = model.compute_dtype == "float16"
    return {"outputs": outputs, "first_loss": first_loss, "untracked": _as_drawn(seen.strangers)}


def _output_facts(output: np.ndarray) -> dict:
    values = output.astype("float64")
    facts = {"shape": list(output.shape[1:]), "finite": bool(np.isfinite(values).all())}
    if values.size and facts["finite"]:
        facts |= {"min": float(values.min()), "max": float(values.max())}
        if values.ndim > 1:
            sums = values.sum(axis=-1)
            facts |= {"sum_min": float(sums.min()), "sum_max": float(sums.max())}
    return facts


def _far_from_targets(outputs, data):
    """Whether the middle of some targets lies far from all that the outputs are now, so that bounds matter."""
    labels = data.get("heads") or [data]
    return any(
        far_outside(label["target_quartiles"], output["min"], output["max"])
        for output, label in zip(outputs, labels, strict=False)
        if label and "target_quartiles" in label and "min" in output
    )


def _finite(part):
    arrays = [np.asarray(one) for one in keras.tree.flatten(part) if one is not None]
    return all(bool(np.isfinite(one).all()) for one in arrays if one.dtype.kind == "f")


def _as_drawn(strangers):
    """Shapes of matrices that look as an initializer leaves them: beside biases, if any, that are all zeros."""
    biases = [one for one in strangers if one.ndim == 1]
    kernels = [one for one in strangers if one.ndim > 1]
    if any(bias.any() and not (bias == 1).all() for bias in biases):
        return []
    return [list(kernel.shape) for kernel in kernels if kernel.size >= 4 and _initialized(kernel)]


def _initialized(kernel):
    """Whether the spread is that of a usual initializer: its variance is 1 or 2 divided by a number of inputs."""
    fan_out, fan_in = kernel.shape[-1], kernel.size // kernel.shape[-1]
    usual = [2 / (fan_in + fan_out), 1 / fan_in, 2 / fan_in]
    error = 4 / np.sqrt(kernel.size)
    return any(abs(float(kernel.var()) / variance - 1) < error for variance in usual)
