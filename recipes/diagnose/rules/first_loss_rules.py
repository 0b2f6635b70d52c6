"""A first loss, or its gradient, that is NaN or infinite although inputs, labels and outputs are finite."""

import math

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.remedies import kind_of_targets

# Why a Keras loss can be NaN or infinite, by the name of the loss.
_OF_KERAS = {
    "mean_absolute_percentage_error": "it divides by the targets",
    "mean_squared_logarithmic_error": "it takes the logarithm of 1 plus targets and outputs",
    "poisson": "it takes the logarithm of the outputs, which have to be above 0",
    "kl_divergence": "it takes logarithms of targets and outputs",
}


def judge_first_loss(facts: dict) -> list[Finding]:
    """Findings about a NaN or an infinity that the loss produces on one batch before any step.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`; only "first_loss" decides whether there is a
            finding.

    Returns:
        A list of `Finding`, empty where nothing is wrong.
    """
    first = facts.get("first_loss")
    sound = first and all(first[f"{name}_finite"] for name in ("inputs", "labels", "outputs"))
    if not sound or first["value"] is None:
        return []  # other rules report what is broken before the loss
    if not math.isfinite(first["value"]):
        return [_infinite(first, facts)]
    if first["gradients"] and not first["half"]:
        return [_no_slope(first)]
    return []


def _infinite(first, facts):
    name = facts.get("task", {}).get("loss")
    data = facts.get("data", {}).get("train", {})
    of_it = _OF_KERAS.get(name) or _computes(first)
    given = [one for one in facts.get("outputs", ()) if "min" in one]
    ranges = ""
    if given:
        low, high = min(one["min"] for one in given), max(one["max"] for one in given)
        ranges = f"outputs lie between {low:.4g} and {high:.4g}"
    if "label_low" in data:
        ranges += (
            f"{', ' if ranges else ''}targets between {data['label_low']:.4g} and {data['label_high']:.4g}"
        )
    quantities = kind_of_targets(data) == "quantities" and "target_std" in data
    far = quantities and abs(data["target_mean"]) > 5 * max(data["target_std"], 1.0)
    scaled = " Targets so far from 0 make it worse: train on (y - mean) / std." if far else ""
    return _found(
        "nan_source",
        f"The loss of the first batch is {first['value']}, before any step, while inputs, targets and outputs are all "
        f"finite ({ranges or 'looked at one by one'}): it comes from the loss itself"
        f"{f', {name}' if name else ''}{f'; {of_it}' if of_it else ''}.",
        "Keep what goes in away from there: keras.ops.log(x + 1e-7), keras.ops.clip(p, 1e-7, 1 - 1e-7), "
        "keras.ops.log_sigmoid(z) or softplus(z) for the logarithm of a sigmoid, from_logits=True for a cross-entropy."
        + scaled
        + (" In float16 65504 is the largest number: compute the loss in float32." if first["half"] else ""),
    )


def _no_slope(first):
    names = first["gradients"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    of_it = _computes(first)
    return _found(
        "nan_source",
        f"The loss of the first batch is {first['value']:.4g}, and its gradient for {names[0]}{more} is NaN or "
        f"infinite: the first step makes these weights NaN{f'. The loss has {_words(first)}' if of_it else ''}.",
        "Look for sqrt, norms, powers and divisions at 0, also in the branch of a where that is not taken: write "
        "keras.ops.sqrt(x + 1e-7), and put a safe number in before the function, not after it.",
    )


def _computes(first):
    return f"it computes {_words(first)}" if first["reads"] else ""


def _words(first):
    return " and ".join(first["reads"][:2])


def _found(code, evidence, remedy):
    return Finding(code, "error", None, 0, evidence, remedy)
