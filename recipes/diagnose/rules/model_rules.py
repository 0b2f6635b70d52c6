"""Rules about a model and its loss, before the first step."""

import math

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.first_loss_rules import judge_first_loss
from recipes.diagnose.rules.frozen_rules import judge_frozen, judge_untracked
from recipes.diagnose.rules.input_facts import loud_column, raw_inputs
from recipes.diagnose.rules.layer_rules import LayerStatistics, first_with_weights, large_inputs
from recipes.diagnose.rules.layer_rules import judge as judge_statistics
from recipes.diagnose.rules.output_rules import judge_outputs
from recipes.diagnose.rules.remedies import scaling, usual_decay, usual_rate
from recipes.diagnose.rules.words import times

_LARGEST_GAIN = 3.0  # of a recurrent kernel; 1 is usual, and random initializers give up to 1.5


def judge_model(facts: dict) -> list[Finding]:
    """Findings in what `describe` collected about loss, layers, optimizer and one batch.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`. A rule whose facts are missing is silent.

    Returns:
        A list of `Finding`, not arranged.
    """
    findings = [
        *judge_outputs(facts),
        *_initialization(facts),
        *_loops(facts),
        *judge_frozen(facts),
        *judge_first_loss(facts),
        *_softmax_over_one(facts),
        *_regularization(facts),
        *_optimizer(facts),
        *_input_scale(facts),
    ]
    if "statistics" in facts:
        findings += judge_statistics(_statistics(facts))
    return findings


def judge_batch(facts: dict) -> list[Finding]:
    """The findings of `judge_model` that depend on one batch: its outputs, initial weights and scale of inputs.

    Args:
        facts: dict with the "statistics" and "outputs" of that batch.

    Returns:
        A list of `Finding`, not arranged.
    """
    if "statistics" not in facts:
        return judge_outputs(facts)
    return [
        *judge_outputs(facts),
        *_initialization(facts),
        *_input_scale(facts),
        *judge_first_loss(facts),
        *judge_untracked(facts),
    ]


def _statistics(facts):
    return [LayerStatistics(**layer) for layer in facts.get("statistics", ())]


def _found(code, severity, layer, evidence, remedy):
    return Finding(code, severity, layer, 0, evidence, remedy)


def _initialization(facts):
    findings = []
    kernels = [layer for layer in facts["layers"] if layer["kernel"] and layer["trainable"]]
    last = kernels[-1]["name"] if kernels else None
    statistics = {layer["name"]: layer for layer in facts.get("statistics", ())}
    final = facts["statistics"][-1] if facts.get("statistics") else None
    silent = final is not None and final["sample_std"] == 0 and final["finite"]
    if "statistics" not in facts:
        findings += _all_zero(kernels)
    tables = [layer["name"] for layer in facts["layers"] if layer.get("table_zero") and layer["trainable"]]
    if silent and tables:
        findings.append(
            _found(
                "zero_initialization",
                "error",
                tables[0],
                f"All rows of {tables[0]} are zeros, and the model gives every example the same output: where rows are "
                "multiplied by one another none of them gets a gradient.",
                "Use embeddings_initializer='uniform', which is the default.",
            )
        )
    zeros = [layer for layer in facts["layers"] if layer.get("zero_matrices") and layer["trainable"]]
    heads = {layer["name"]: layer["kernel"]["zero"] for layer in kernels}
    # One zero matrix before a nonzero head starts to learn at once; two zero matrices in a row never do.
    if silent and sum(layer["zero_matrices"] for layer in zeros) > 1 and not heads.get(last, False):
        findings.append(
            _found(
                "zero_initialization",
                "error",
                zeros[0]["name"],
                f"The weights of {zeros[0]['name']} are all zeros, and the model gives every example the same output: "
                "where matrices of zeros lie behind one another, none of them gets a gradient.",
                "Use add_weight(shape, initializer='glorot_uniform'); zeros are for biases.",
            )
        )
    for layer in kernels:
        kernel, hidden = layer["kernel"], layer["name"] != last
        if kernel["zero"] and hidden and silent:
            findings.append(
                _found(
                    "zero_initialization",
                    "error",
                    layer["name"],
                    f"The kernel of {layer['name']} is all zeros, and the model gives every example the "
                    "same output, so nothing tells the units apart.",
                    "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform'; zeros are for biases.",
                )
            )
        elif kernel["symmetric"] and hidden and not kernel["zero"]:
            findings.append(
                _found(
                    "symmetric_initialization",
                    "error",
                    layer["name"],
                    f"All {kernel['units']} units of {layer['name']} have the same weights, so they will "
                    "get the same gradient and stay one unit.",
                    "Use a random initializer: kernel_initializer='he_normal' (relu) or 'glorot_uniform'.",
                )
            )
        elif hidden and not kernel["zero"] and not _normalized(layer["name"], facts):
            gain = kernel["std"] * math.sqrt(kernel["fan_in"])
            inputs = kernel.get("inputs", kernel["fan_in"])
            out = statistics.get(layer["name"], {})
            if kernel["std"] * math.sqrt(inputs) > 8 and out.get("std", math.inf) > 5:
                findings.append(
                    _found(
                        "initial_scale_too_large",
                        "error",
                        layer["name"],
                        f"The kernel of {layer['name']} has a standard deviation of {kernel['std']:.3g} with "
                        f"{inputs} inputs, {times(kernel['std'] * math.sqrt(inputs / 2))} times that of "
                        "he_normal: its outputs are as much too large, and what comes behind it saturates.",
                        "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh).",
                    )
                )
            elif gain < 0.05:
                findings.append(
                    _found(
                        "initial_scale_too_small",
                        "warning",
                        layer["name"],
                        f"The kernel of {layer['name']} has a standard deviation of {kernel['std']:.3g} with "
                        f"{kernel['fan_in']} inputs, {times(gain / math.sqrt(2))} times that of "
                        "he_normal: hardly any signal comes through it.",
                        "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh).",
                    )
                )
    return findings


def _loops(facts):
    """Recurrent kernels that enlarge the state at every step."""
    loops = [layer for layer in facts["layers"] if layer.get("loop_gain", 0.0) > _LARGEST_GAIN]
    return [
        _found(
            "initial_scale_too_large",
            "warning",
            layer["name"],
            f"The recurrent kernel of {layer['name']} makes what is remembered {times(layer['loop_gain'])} times as "
            "large at every step (an orthogonal matrix keeps its size): over ten steps that is "
            f"{times(layer['loop_gain'] ** 10)} times, so the recurrence explodes or saturates.",
            "Use recurrent_initializer='orthogonal' with activation='tanh', which are the defaults; clipnorm=1.0 helps "
            "as well.",
        )
        for layer in loops[:1]
    ]


def _all_zero(kernels):
    """Parts of the model in which every kernel is zero, for when no batch was sent through the model."""
    parts = {}
    for layer in kernels:
        parts.setdefault(layer["name"].rpartition("/")[0], []).append(layer)
    return [
        _found(
            "zero_initialization",
            "error",
            layers[0]["name"],
            f"All {len(layers)} kernels of {part or 'the model'} are zeros: it gives every input the same output, and "
            "nothing tells its units apart.",
            "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform'; zeros are for biases.",
        )
        for part, layers in parts.items()
        if len(layers) > 1 and all(layer["kernel"]["zero"] for layer in layers)
    ]


def _normalized(name, facts):
    """Whether a normalization layer follows this layer, so that its scale hardly matters."""
    names = [layer["name"] for layer in facts.get("statistics", ())]
    if name not in names:
        return False
    after = facts["statistics"][names.index(name) + 1 : names.index(name) + 2]
    return any("Normalization" in layer["layer_class"] for layer in after)


def _softmax_over_one(facts):
    """A softmax over one number, in a layer before the last one; `judge_outputs` looks at the last one."""
    layers = [layer for layer in facts["layers"] if layer.get("softmax_over_one")]
    if not layers or facts["task"].get("outputs") == 1:
        return []
    return [
        _found(
            "softmax_on_one_unit",
            "warning",
            layer["name"],
            f"{layer['name']} takes a softmax over an axis that holds one number, which is 1 whatever the input: "
            "nothing before it can learn from what comes behind.",
            "Give the axis along which the candidates lie, as in keras.layers.Softmax(axis=1), or take sigmoid for one "
            "number.",
        )
        for layer in layers[:1]
    ]


def _regularization(facts):
    findings = []
    for layer in facts["layers"]:
        if layer["rate"] is not None and layer["rate"] >= 0.8 and layer["layer_class"] != "StochasticDepth":
            findings.append(
                _found(
                    "regularization_too_strong",
                    "warning",
                    layer["name"],
                    f"{layer['name']} drops {layer['rate']:.0%} of its inputs at every step, so "
                    f"{1 - layer['rate']:.0%} of the signal is left to learn from.",
                    "Use a rate of 0.5 at most for dense layers, 0.2 for convolutions.",
                )
            )
    penalty = sum(layer["penalty"] for layer in facts["layers"])
    expected = expected_loss(facts)
    if expected is not None and penalty > 5 * expected > 0:
        findings += _penalty(facts, penalty, expected)
    return findings


def _penalty(facts, penalty, expected):
    """A penalty far above the loss, which is due to its strength, to large weights or to small targets."""
    worst = max(facts["layers"], key=lambda layer: layer["penalty"])
    strength = worst.get("penalty_rate") or 1.0
    kernel = worst["kernel"]
    inputs = kernel.get("inputs", kernel["fan_in"]) if kernel else 1
    gain = kernel["std"] * math.sqrt(inputs) if kernel else 1.0
    share = f"Penalties add {penalty:.3g} to a loss of about {expected:.3g}; {worst['penalty']:.3g} of it come from "
    share += worst["name"]
    if gain > 8 and strength <= 1e-2:
        return [
            _found(
                "initial_scale_too_large",
                "error",
                worst["name"],
                f"{share}, whose L1 or L2 of {strength:.2g} is usual and whose weights are not: their standard "
                f"deviation is {kernel['std']:.3g} with {inputs} inputs.",
                "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh).",
            )
        ]
    if expected < 1e-2 and strength <= 1e-3:
        return [
            _found(
                "unscaled_targets",
                "warning",
                None,
                f"{share}, whose L1 or L2 of {strength:.2g} is usual; the loss is small because the targets are.",
                "Train on (y - mean) / std, and turn predictions back with prediction * std + mean.",
            )
        ]
    return [
        _found(
            "regularization_too_strong",
            "warning",
            worst["name"],
            f"{share}: the steps shrink weights in place of fitting labels.",
            f"Use a far smaller one, kernel_regularizer=keras.regularizers.L2({min(strength / 100, 1e-4):.0e}).",
        )
    ]


def _optimizer(facts):
    """Two settings of the optimizer whose product is out of range; the more unusual one is blamed."""
    optimizer = facts["optimizer"]
    if not optimizer:
        return []
    name, rate, decay = optimizer["name"], optimizer["rate"], optimizer["weight_decay"]
    known, mild = usual_rate(name), usual_decay(name)
    fitting = known or 1e-2
    usual = f"with {name} {fitting:g} is usual" if known else "between 0.0001 and 1 is usual"
    too_fast, too_strong = rate / fitting, decay / mild
    shrink = decay * rate
    if shrink > 0.02 and too_fast > too_strong:
        return [
            _found(
                "rate_too_high",
                "error" if shrink > 1 else "warning",
                None,
                f"The learning rate is {rate:.3g}; {usual}. With a weight decay of "
                f"{decay:.3g} it takes {min(shrink, 1):.0%} off every weight at every step.",
                f"Use learning_rate={fitting:g}, and keep the weight decay.",
            )
        ]
    if shrink > 0.02:
        return [
            _found(
                "regularization_too_strong",
                "warning",
                None,
                f"Weight decay {decay:.3g} at rate {rate:.3g} takes {min(shrink, 1):.1%} off every weight at every "
                f"step; with {name} a weight decay of {mild:g} is usual.",
                f"Use weight_decay={mild:g} or less.",
            )
        ]
    momentum = optimizer.get("momentum") or 0.0
    if momentum > 0.99 and rate / (1 - min(momentum, 0.9999)) > 200 * fitting:
        return [
            _found(
                "rate_too_high",
                "warning",
                None,
                f"Momentum {momentum:g} adds up {1 / (1 - min(momentum, 0.9999)):.0f} steps, so a rate of {rate:.3g} "
                f"acts like one of {rate / (1 - min(momentum, 0.9999)):.3g}.",
                "Use momentum=0.9.",
            )
        ]
    return []


def _input_scale(facts):
    layers = _statistics(facts)
    data = facts.get("data", {}).get("train", {})
    first, raw = first_with_weights(layers), large_inputs(layers)
    beside = raw is not None and raw is not first and raw_inputs(data, raw.input_rms) is not None
    # An embedding gets row numbers, which have no scale; a pretrained layer expects a scale of its own.
    if not beside and (first is None or first.weights == "table" or _pretrained(first.name, facts)):
        return []
    first = raw if beside else first
    if not math.isfinite(first.input_rms) or first.input_std == 0:
        return []
    size, std = first.input_rms, first.input_std
    if size <= 10 and std >= 0.02:
        return []
    numbers = (
        f"The data is {data['min']:.3g} to {data['max']:.3g}"
        if "min" in data
        else "The range of the data is not known"
    )
    remedy, source = scaling(data), raw_inputs(data, size) if data.get("inputs") and size > 10 else None
    if source is not None:
        numbers = (
            f"They come from input {source['name']}, which is {source['low']:.3g} to {source['high']:.3g}"
        )
        remedy = f"Scale that input inside the model: keras.layers.Normalization() after adapt(x[{source['name']!r}])."
        remedy = remedy if "number " not in source["name"] else scaling({})
    why = (
        "Gradients of weights grow with their inputs, so that a usual learning rate makes steps that are far too long"
        if size > 10
        else "Inputs that differ so little from one another hardly change what the layer answers"
    )
    place = "which is given inputs as they are" if beside else "the first layer with weights"
    return [
        _found(
            "unscaled_inputs",
            "warning",
            first.name,
            f"{first.name} ({first.layer_class}), {place}, gets inputs of root mean square "
            f"{size:.3g} and standard deviation {std:.3g}; it is initialized for about 1. {numbers}."
            f"{loud_column(data) if size > 10 and source is None else ''} {why}.",
            remedy,
        )
    ]


def _pretrained(name, facts):
    """Whether a layer is frozen and its kernel is no longer as initialized."""
    layer = next((layer for layer in facts["layers"] if layer["name"] == name), None)
    return bool(layer and not layer["trainable"] and layer["kernel"] and not layer["kernel"]["fresh"])


def expected_loss(facts: dict) -> float | None:
    """Loss of the best constant prediction: as computed, else estimated from task and data; None where not known.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`, or an empty one.
    """
    if not facts:
        return None
    never_below = facts["task"]["kind"] in ("categorical", "binary")
    if facts.get("baseline") is not None and (facts["baseline"] > 0 or not never_below):
        return facts["baseline"]
    task, data = facts["task"], facts.get("data", {}).get("train", {})
    if (
        task["kind"] == "categorical"
        and task["outputs"]
        and task["outputs"] > 1
        and "focal" not in task["loss"]
    ):
        return math.log(task["outputs"])
    if task["kind"] == "binary" and "focal" not in task["loss"]:
        return math.log(2)
    if task["kind"] == "values" and task["loss"] == "mean_squared_error" and "target_std" in data:
        variance = data.get("target_variance", data["target_std"] ** 2)
        return variance if variance > 0 else None
    return None
