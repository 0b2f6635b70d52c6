"""Facts that one batch shows besides layer statistics: loss, gradients, output bounds and untracked weights."""

import contextlib
from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.activation_statistics import Observation
from recipes.diagnose.checks.loss_source import loss_reads
from recipes.diagnose.checks.output_reach import output_reach
from recipes.diagnose.rules.words import far_outside


def batch_facts(model: keras.Model, batch: tuple, seen: Observation, data: dict) -> dict[str, Any]:
    """Collect the facts for the rules about the loss, about bounds of outputs and about untracked weights.

    Args:
        model: A built `keras.Model`. It is left unchanged.
        batch: `(inputs, labels, weights)` that was sent through the model.
        seen: What was observed on this batch.
        data: Facts of the training data.

    Returns:
        dict with "outputs", "first_loss" and "untracked". "outputs" holds one dict per output with its range. Where the
        targets lie far outside this range, it also holds "reach": the bounds that no weights can exceed. "first_loss"
        holds the loss, the gradients that are not finite, and which parts are finite. "untracked" lists the shapes of
        weights that take part in the computation, still look initialized, and are not tracked by the model.
    """
    outputs = [_output_facts(output) for output in keras.tree.flatten(seen.outputs)]
    if _far_from_targets(outputs, data):
        with contextlib.suppress(Exception):  # where this fails, the bounds stay unknown
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
    """Whether the quartiles of some targets lie far outside the current range of outputs, so that bounds matter."""
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
    """Shapes of the matrices that still look initialized; none if any bias is neither all zeros nor all ones."""
    biases = [one for one in strangers if one.ndim == 1]
    kernels = [one for one in strangers if one.ndim > 1]
    if any(bias.any() and not (bias == 1).all() for bias in biases):
        return []
    return [list(kernel.shape) for kernel in kernels if kernel.size >= 4 and _initialized(kernel)]


def _initialized(kernel):
    """Whether the kernel's variance is that of a common initializer: Glorot, LeCun or He."""
    fan_out, fan_in = kernel.shape[-1], kernel.size // kernel.shape[-1]
    usual = [2 / (fan_in + fan_out), 1 / fan_in, 2 / fan_in]
    error = 4 / np.sqrt(kernel.size)
    return any(abs(float(kernel.var()) / variance - 1) < error for variance in usual)
