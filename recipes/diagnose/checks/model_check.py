"""The row of `preflight` on the model, its loss and its optimizer, before the model is run."""

from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.rules.model_rules import judge_model


def check_of_model(facts: dict) -> Check:
    """Judge a model, its loss and its optimizer.

    Args:
        facts: What `recipes.diagnose.rules.run_facts.describe_model` returns.
    """
    findings = judge_model(facts)
    task, layers = facts["task"], [layer for layer in facts["layers"] if layer["kernel"]]
    own = "a loss of its own" if task["own_step"] else "no loss"
    loss = task["loss"] or ("several losses" if "heads" in facts else own)
    optimizer = facts["optimizer"]
    steps = f"{optimizer['name']} at {optimizer['rate']:.3g}" if optimizer else "several optimizers or rates"
    result = (
        f"{len(layers)} layers with kernels, output {task['activation'] or 'of its own'}, {loss}, {steps}"
    )
    return Check(name="model_check", result=result, findings=findings)
