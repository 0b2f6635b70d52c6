"""A layer that removes the differences between examples, in a run that learns nothing."""

from typing import Any

from recipes.diagnose.finding import Finding

_ALIKE = 1e-5  # of the size of a layer's outputs; smaller differences are rounding errors of float32
_FEWEST_STEPS = 30  # steps; fewer do not show that nothing was learned
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "LSTMCell", "GRUCell", "SimpleRNNCell")


def lost_signal(facts: dict, curves: Any) -> list[Finding]:
    """The first layer from which on all outputs were the same for every example before training.

    A model may begin like this and still learn, for example with a gate that starts at zero. So only a run that learned
    nothing is judged.

    Args:
        facts: dict with "statistics" of the layers in forward order, from `recipes.diagnose.rules.run_facts.describe`.
        curves: `recipes.diagnose.rules.curve_rules.Curves` of the run, or None.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    seen = (facts or {}).get("statistics") or ()
    if curves is None or curves.epochs < 2 or (curves.steps or _FEWEST_STEPS) < _FEWEST_STEPS:
        return []
    if curves.better_than_nothing or len(seen) < 2 or not all(one["finite"] for one in seen):
        return []
    apart = [place for place, one in enumerate(seen) if not _alike(one)]
    if not apart or apart[-1] + 1 == len(seen):
        return []
    before, layer = seen[apart[-1]], seen[apart[-1] + 1]
    if not max(abs(layer["mean"]), layer["std"]):
        return []  # other rules report outputs that are all zeros
    remedy = (
        "Look at what this layer is given: a mask the wrong way round, a sum over the wrong axis, padding."
    )
    if layer["layer_class"] in _RECURRENT:
        remedy = (
            "Mask what sequences are filled up with: keras.layers.Embedding(..., mask_zero=True) or "
            "keras.layers.Masking(); or fill them up in front, pad_sequences(..., padding='pre')."
        )
    return [
        Finding(
            "vanishing",
            "warning",
            layer["name"],
            0,
            f"The outputs of {layer['name']} were the same for every example before training (their standard deviation "
            f"over examples is {layer['sample_std']:.1g}; at {before['name']}, before it, {before['sample_std']:.1g}), "
            "and so was the model's answer: what tells examples apart does not come through, and the run has learned "
            "nothing.",
            remedy,
        )
    ]


def _alike(one):
    return one["sample_std"] <= _ALIKE * max(abs(one["mean"]), one["std"])
