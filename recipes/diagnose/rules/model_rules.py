"""What can be said of a model and its loss before a single step."""

import math

from recipes.diagnose.checks.activation_statistics import LayerStatistics
from recipes.diagnose.checks.activation_statistics import judge as judge_statistics
from recipes.diagnose.finding import Finding

# They hand on what the layer before them means.
_PASS_ON = {"GlobalAveragePooling2D", "GlobalAveragePooling1D", "Flatten", "Reshape", "Dropout", "Identity"}
_WITH_KERNEL = {"Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "BatchNormalization"}
_RANGES = {
    "softmax": (0, 1),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, math.inf),
    "softplus": (0, math.inf),
}


def judge_model(facts):
    """Findings in what `describe` collected about loss, layers, optimizer and one batch.

    Args:
        facts: dict, as from `recipes.diagnose.describe.describe`.

    Returns:
        A list of `Finding`, not arranged.
    """
    findings = [
        *_loss_findings(facts),
        *_initialization(facts),
        *_frozen(facts),
        *_regularization(facts),
        *_input_scale(facts),
    ]
    if "statistics" in facts:
        findings += judge_statistics([LayerStatistics(**layer) for layer in facts["statistics"]])
    return findings


def _found(code, severity, layer, evidence, remedy):
    return Finding(code, severity, layer, 0, evidence, remedy)


def _loss_findings(facts):
    task, chain = facts["task"], facts["output_layers"]
    meaningful = [
        entry for entry in chain if entry["activation"] != "linear" or entry["layer_class"] not in _PASS_ON
    ]
    last = meaningful[0] if meaningful else None
    name = last["name"] if last else None
    activation = last["activation"] if last else task["activation"]
    kind, loss = task["kind"], task["loss"]
    cross_entropy = kind in ("categorical", "binary")
    if activation == "softmax" and task["outputs"] == 1:
        return [
            _found(
                "softmax_on_one_unit",
                "error",
                name,
                f"{name} is a softmax over one unit, whose output is always 1.",
                "Use keras.layers.Dense(1, activation='sigmoid') with loss='binary_crossentropy'.",
            )
        ]
    softmaxes = [entry["name"] for entry in meaningful[:2] if entry["activation"] == "softmax"]
    if len(softmaxes) == 2:
        return [
            _found(
                "softmax_twice",
                "error",
                softmaxes[0],
                f"{softmaxes[0]} takes a softmax of {softmaxes[1]}, which is one already: probabilities "
                f"end up between {1 / (task['outputs'] or 10) / math.e:.2g} and "
                f"{_most_sure(task['outputs']):.2g}.",
                f"Remove one of them: {softmaxes[1]} without activation, or no {softmaxes[0]}.",
            )
        ]
    if activation in ("softmax", "sigmoid") and cross_entropy and task["from_logits"]:
        return [
            _found(
                "softmax_twice",
                "warning",
                name,
                f"{name} ends in a {activation}, and {loss} takes another because of from_logits=True.",
                "Remove from_logits=True, or the activation of the last layer.",
            )
        ]
    if (
        activation == "linear"
        and cross_entropy
        and not task["from_logits"]
        and last["layer_class"] in _WITH_KERNEL
    ):
        return [
            _found(
                "logits_as_probabilities",
                "error",
                name,
                f"{name} gives logits (no activation), and {loss} expects probabilities.",
                "Set from_logits=True in the loss, or activation='softmax' ('sigmoid' for one unit) in the "
                "last layer.",
            )
        ]
    if activation == "sigmoid" and kind == "categorical":
        return [
            _found(
                "sigmoid_with_categorical_loss",
                "warning",
                name,
                f"{name} gives one sigmoid per class, and {loss} expects probabilities that sum to 1.",
                "Use activation='softmax' for one class per image, or loss='binary_crossentropy' for "
                "several.",
            )
        ]
    if activation in ("relu", "relu6") and task["kind"] != "values" and cross_entropy:
        return [
            _found(
                "rectified_output",
                "error",
                name,
                f"The outputs pass a {activation} ({name}) before {loss}: classes at zero get no gradient.",
                "Remove the activation of the last layer, or replace it with 'softmax'.",
            )
        ]
    return _unreachable(facts, activation, name)


def _unreachable(facts, activation, name):
    data = facts.get("data", {}).get("train", {})
    if facts["task"]["kind"] != "values" or activation not in _RANGES or "target_min" not in data:
        return []
    low, high = _RANGES[activation]
    if data["target_min"] >= low - 1e-3 and data["target_max"] <= high + 1e-3:
        return []
    return [
        _found(
            "unreachable_targets",
            "error",
            name,
            f"Targets reach from {data['target_min']:.4g} to {data['target_max']:.4g}, and {name} "
            f"({activation}) "
            f"gives {low} to {high}.",
            "Remove the activation of the last layer, or scale the targets into its range.",
        )
    ]


def _most_sure(classes):
    return math.e / (math.e + (classes or 10) - 1)


def _initialization(facts):
    findings = []
    kernels = [layer for layer in facts["layers"] if layer["kernel"] and layer["trainable"]]
    last = kernels[-1]["name"] if kernels else None
    statistics = {layer["name"]: layer for layer in facts.get("statistics", ())}
    final = facts["statistics"][-1] if facts.get("statistics") else None
    silent = final is not None and final["sample_std"] == 0 and final["finite"]
    for layer in kernels:
        kernel, hidden = layer["kernel"], layer["name"] != last
        if kernel["zero"] and hidden and silent:
            findings.append(
                _found(
                    "zero_initialization",
                    "error",
                    layer["name"],
                    f"The kernel of {layer['name']} is all zeros, and the model gives every example the "
                    "same output.",
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
            out = statistics.get(layer["name"], {})
            if gain > 8 and out.get("std", math.inf) > 5:
                findings.append(
                    _found(
                        "initial_scale_too_large",
                        "error",
                        layer["name"],
                        f"The kernel of {layer['name']} has a standard deviation of {kernel['std']:.3g} with "
                        f"{kernel['fan_in']} inputs: {gain / math.sqrt(2):.3g} times that of he_normal.",
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
                        f"{kernel['fan_in']} inputs: {gain / math.sqrt(2):.2g} times that of he_normal.",
                        "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh).",
                    )
                )
    return findings


def _normalized(name, facts):
    """Whether a normalization follows this layer, which makes its scale matter little."""
    names = [layer["name"] for layer in facts.get("statistics", ())]
    if name not in names:
        return False
    after = facts["statistics"][names.index(name) + 1 : names.index(name) + 2]
    return any("Normalization" in layer["layer_class"] for layer in after)


def _frozen(facts):
    kernels = [layer for layer in facts["layers"] if layer["kernel"]]
    frozen = [layer for layer in kernels if not layer["trainable"] and layer["kernel"]["fresh"]]
    if not frozen:
        return []
    weights = sum(layer["kernel"]["size"] for layer in kernels)
    share = sum(layer["kernel"]["size"] for layer in frozen) / weights
    return [
        _found(
            "frozen",
            "warning",
            frozen[0]["name"],
            f"{len(frozen)} of {len(kernels)} layers with kernels ({share:.0%} of their weights) are frozen "
            "at the random "
            f"numbers they were initialized with: {', '.join(layer['name'] for layer in frozen[:3])}"
            f"{', ...' if len(frozen) > 3 else ''}.",
            "Set layer.trainable = True and compile again, or load pretrained weights into them.",
        )
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
                    f"{layer['name']} drops {layer['rate']:.0%} of its inputs at every step.",
                    "Use a rate of 0.5 at most for dense layers, 0.2 for convolutions.",
                )
            )
    penalty = sum(layer["penalty"] for layer in facts["layers"])
    expected = expected_loss(facts)
    if expected is not None and penalty > 5 * expected:
        worst = max(facts["layers"], key=lambda layer: layer["penalty"])
        findings.append(
            _found(
                "regularization_too_strong",
                "warning",
                worst["name"],
                f"Penalties add {penalty:.3g} to a loss of about {expected:.3g}; {worst['penalty']:.3g} "
                "come from "
                f"{worst['name']}.",
                "Use a hundredth of the regularization: L2 of 1e-4 is usual.",
            )
        )
    optimizer = facts["optimizer"]
    shrink = optimizer["weight_decay"] * optimizer["rate"]
    if shrink > 0.02:
        findings.append(
            _found(
                "regularization_too_strong",
                "warning",
                None,
                f"Weight decay {optimizer['weight_decay']:.3g} at rate {optimizer['rate']:.3g} takes "
                f"{shrink:.1%} off every "
                "weight at every step.",
                f"Use weight_decay={1e-4 / optimizer['rate']:.1g} or less.",
            )
        )
    return findings


def _input_scale(facts):
    statistics = facts.get("statistics", ())
    first = next((layer for layer in statistics if layer["has_kernel"]), None)
    if first is None or not math.isfinite(first["input_rms"]) or first["input_std"] == 0:
        return []
    size, std = first["input_rms"], first["input_std"]
    if size > 10 or std < 0.02:
        data = facts["data"]["train"]
        numbers = f"{data['min']:.3g} to {data['max']:.3g}" if "min" in data else "of any range"
        return [
            _found(
                "unscaled_inputs",
                "warning",
                first["name"],
                f"{first['name']}, the first layer with weights, gets inputs of size {size:.3g} and "
                "standard deviation "
                f"{std:.3g}; the data is {numbers}.",
                "Scale inside the model: keras.layers.Rescaling(1 / 127.5, offset=-1) for pixels, "
                "keras.layers.Normalization() with adapt(x) for anything else.",
            )
        ]
    return []


def expected_loss(facts):
    """Loss of knowing nothing, from the task and the data, or None."""
    task, data = facts["task"], facts.get("data", {}).get("train", {})
    if task["kind"] == "categorical" and task["outputs"] and task["outputs"] > 1:
        return math.log(task["outputs"])
    if task["kind"] == "binary":
        return math.log(2)
    if task["kind"] == "values" and task["loss"] == "mean_squared_error" and "target_std" in data:
        return max(data["target_std"] ** 2, 1e-12)
    return None
