"""gradient_check of models with custom layers, as a check before training."""

import keras

from recipes.common.traversal import layers_of
from recipes.diagnose.checks.differences import verdict_bounds
from recipes.diagnose.checks.gradient_check import gradient_check
from recipes.diagnose.checks.model_copy import untouched
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding


def own_layers(model: keras.Model) -> list[str]:
    """Names of custom layers, whose code is neither from Keras nor from recipes: only their gradients can be wrong."""
    return [
        layer.name
        for layer in layers_of(model)
        if type(layer).__module__.split(".")[0] not in ("keras", "recipes")
        or isinstance(layer, keras.layers.Lambda)
    ]


def check_own_gradients(model: keras.Model, sample: Sample, own: list[str]) -> Check:
    """Run `gradient_check` on one batch, and return its result as a `Check` with findings.

    Args:
        model: A compiled, built `keras.Model`; it is not changed.
        sample: The data, of which the first batch is used.
        own: Names of the custom layers, as `own_layers` returns them.
    """
    try:
        with untouched(model):
            report = gradient_check(model, tuple(part for part in sample.batches[0] if part is not None))
    except (ValueError, TypeError, NotImplementedError) as error:
        return Check(
            name="gradient_check", result=f"could not run: {str(error).splitlines()[0]}", findings=[]
        )
    findings = []
    if report.verdict == "wrong":
        layer = report.wrong_layers[0].removeprefix(f"{model.name}/") if report.wrong_layers else None
        worst = max(report.checks, key=lambda check: check.error)
        flat = [check for check in report.checks if check.error > verdict_bounds(report.dtype)[1]]
        if all(check.numeric == 0 for check in flat):
            evidence = (
                f"The loss does not change with {worst.variable}, but backpropagation gives {worst.analytic:+.3g}: "
                "another gradient takes the place of that of a step function, as in straight-through estimators."
            )
            remedy = (
                "Nothing has to be done where that is meant: binary units, rounding, codes of a codebook."
            )
            findings.append(Finding("gradient_check", "info", layer, 0, evidence, remedy))
            return Check(name="gradient_check", result="a gradient in the place of none", findings=findings)
        where = f"the custom gradient of {layer}" if layer else "custom gradients, stop_gradient and rounding"
        findings.append(
            Finding(
                "gradient_check",
                "error",
                layer,
                0,
                f"A derivative of the loss with respect to {worst.variable} is {worst.analytic:+.3g} by "
                f"backpropagation and {worst.numeric:+.3g} by differences of the loss, {worst.error:.0%} apart where "
                f"{verdict_bounds(report.dtype)[1]:.0%} is the most that rounding explains: steps go the wrong way.",
                f"Look at {where}; print(recipes.diagnose.gradient_check(model, batch)) lists every variable.",
            )
        )
    result = f"{report.verdict}, worst relative error {report.worst:.1e}, own layers: {', '.join(own[:3])}"
    return Check(name="gradient_check", result=result, findings=findings)
