"""Whether the last activation can give what the loss expects."""

import math

from recipes.diagnose.checks.output_task import passes_on
from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.remedies import kind_of_targets, last_layer, relabel
from recipes.diagnose.rules.words import far_outside

WITH_KERNEL = {
    "Dense",
    "EinsumDense",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "SeparableConv1D",
    "SeparableConv2D",
    "BatchNormalization",
    "LayerNormalization",
}
# The smallest and the largest output of each activation.
RANGES = {
    "softmax": (0, 1),
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "hard_tanh": (-1, 1),
    "softsign": (-1, 1),
    "relu": (0, math.inf),
    "relu6": (0, 6),
    "re_lu": (0, math.inf),
    "softplus": (0, math.inf),
    "exponential": (0, math.inf),
    "exp": (0, math.inf),
    "log_softmax": (-math.inf, 0),
    "log_sigmoid": (-math.inf, 0),
    "elu": (-1, math.inf),
    "selu": (-1.76, math.inf),
    "gelu": (-0.17, math.inf),
    "silu": (-0.28, math.inf),
    "swish": (-0.28, math.inf),
    "leaky_relu": (-math.inf, math.inf),
    "linear": (-math.inf, math.inf),
}
_PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")
_PROBABILITY_LOSSES = ("kl_divergence",)


def judge_outputs(facts: dict) -> list[Finding]:
    """Findings in the last activation of every output, compared with its loss and its labels.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`.

    Returns:
        A list of `Finding`, at most one per output.
    """
    data = facts.get("data", {}).get("train", {})
    if "heads" not in facts:
        outputs = facts.get("outputs") or [{}]
        given = outputs[0] if len(outputs) == 1 else {}
        return _Head(facts["task"], facts["output_layers"], data, given).judge()
    findings = []
    labels, outputs = data.get("heads", ()), facts.get("outputs", ())
    for number, head in enumerate(facts["heads"]):
        known = labels[number] if number < len(labels) and labels[number] else {}
        given = outputs[number] if len(outputs) == len(facts["heads"]) else {}
        findings += _Head(head["task"], head["chain"], known, given).judge()
    return findings


class _Head:
    """One output: its task, the layers that end it, facts about its labels, and facts about its values on one batch."""

    def __init__(self, task, chain, labels, given):
        self.task, self.labels, self.given = task, labels, given
        meaningful = [entry for entry in chain if not passes_on(entry)]
        self.meaningful = meaningful
        self.last = meaningful[0] if meaningful else None
        self.name = self.last["name"] if self.last else None
        self.who = self.name or "the model"
        self.activation = self.last["activation"] if self.last else task["activation"]
        self.kind, self.loss, self.outputs = task["kind"], task["loss"], task["outputs"]
        self.cross_entropy = self.kind in ("categorical", "binary")
        self.probabilities = (self.cross_entropy or self.loss in _PROBABILITY_LOSSES) and not task[
            "from_logits"
        ]
        self.fits = last_layer(labels, self.outputs)

    def found(self, code, severity, evidence, remedy):
        return [Finding(code, severity, self.name, 0, evidence, remedy)]

    def judge(self):
        rules = (self._softmax, self._twice, self._probabilities, self._logits, self._classes, self._range)
        for rule in rules:
            found = rule()
            if found:
                return found
        return []

    def _softmax(self):
        if self.activation != "softmax" or self.outputs != 1:
            return []
        return self.found(
            "softmax_on_one_unit",
            "error",
            f"{self.who} is a softmax over one unit, whose output is always 1 whatever the input, so every example is "
            "answered alike. "
            "The loss can fall all the same, as Keras computes it from the numbers before the softmax.",
            self.fits,
        )

    def _twice(self):
        softmaxes = [e["name"] for e in self.meaningful[:2] if e["activation"] == "softmax"]
        if len(softmaxes) == 2:
            most = math.e / (math.e + (self.outputs or 10) - 1)
            return self.found(
                "softmax_twice",
                "error",
                f"{softmaxes[0]} takes a softmax of {softmaxes[1]}, which is one already: probabilities "
                f"end up between {1 / (self.outputs or 10) / math.e:.2g} and {most:.2g}, and the loss cannot come "
                "near 0.",
                f"Remove one of them: {softmaxes[1]} without activation, or no {softmaxes[0]}.",
            )
        if self.activation in _PROBABILITIES and self.cross_entropy and self.task["from_logits"]:
            return self.found(
                "softmax_twice",
                "warning",
                f"{self.who} ends in a {self.activation}, and {self.loss} takes another because of from_logits=True.",
                "Remove from_logits=True, or the activation of the last layer.",
            )
        sums = self.given.get("sum_min"), self.given.get("sum_max")
        shares = sums[0] is not None and max(abs(sums[0] - 1), abs(sums[1] - 1)) < 1e-3
        if self.kind == "categorical" and self.task["from_logits"] and shares and self.given["min"] >= 0:
            return self.found(
                "softmax_twice",
                "warning",
                f"The {self.outputs} numbers of each answer ({self.who}) are at least 0 and sum to 1 on the first "
                f"batch, as probabilities do, and {self.loss} takes a softmax of them because of from_logits=True.",
                "Remove from_logits=True from the loss.",
            )
        return []

    def _probabilities(self):
        """Outputs that are not probabilities, under a loss that takes their logarithm."""
        if not self.probabilities:
            return []
        activation = self.activation
        low, high = self.given.get("min"), self.given.get("max")
        outside = low is not None and (low < -1e-3 or high > 1 + 1e-3)
        if activation in ("relu", "relu6", "re_lu"):
            return self.found(
                "rectified_output",
                "error",
                f"The outputs pass a {activation} ({self.who}) before {self.loss}, which expects probabilities: an "
                "output at zero gets no gradient, and one above 1 is cut off.",
                self.fits,
            )
        if activation == "linear" and self.last and self.last["layer_class"] in WITH_KERNEL:
            return self._no_probabilities("gives logits (no activation), which can be any number")
        if activation in RANGES and activation not in (*_PROBABILITIES, "linear"):
            least, most = RANGES[activation]
            return self._no_probabilities(f"ends in {activation}, which gives {least:g} to {most:g}")
        if outside:
            return self._no_probabilities(f"gave {low:.3g} to {high:.3g} on the first batch")
        categorical = self.kind == "categorical" and activation not in ("softmax", "sigmoid", "hard_sigmoid")
        sums = self.given.get("sum_min"), self.given.get("sum_max")
        along = self.kind == "categorical" and activation == "softmax" and (self.outputs or 0) > 1
        if along and sums[0] is not None and (sums[0] < 0.99 or sums[1] > 1.01):
            return self._other_axis(sums)
        if categorical and sums[0] is not None and (sums[0] < 0.99 or sums[1] > 1.01) and activation is None:
            return self._not_one(f"gave rows that sum to {sums[0]:.3g} to {sums[1]:.3g} on the first batch")
        return []

    def _other_axis(self, sums):
        return self.found(
            "logits_as_probabilities",
            "error",
            f"{self.who} takes its softmax along another axis than that of the classes: on the first batch the "
            f"{self.outputs} numbers of an answer sum to {sums[0]:.3g} to {sums[1]:.3g}, and {self.loss} expects 1.",
            "Use keras.layers.Softmax(axis=-1), and let the classes be the last axis of the output.",
        )

    def _no_probabilities(self, what):
        if self.kind == "binary" or self.outputs == 1:
            keep = "loss=keras.losses.BinaryCrossentropy(from_logits=True)"
            own = "sigmoid"
        else:
            keep = "from_logits=True in the loss"
            own = "softmax"
        quantities = kind_of_targets(self.labels) == "quantities" and self.kind == "binary"
        linear = self.activation in (None, "linear")
        remedy = f"Use activation='{own}' in the last layer" + (f", or {keep}." if linear else ".")
        return self.found(
            "logits_as_probabilities",
            "error",
            f"{self.who} {what}, and {self.loss} expects probabilities from 0 to 1: it cuts off the rest, where no "
            "gradient is left.",
            self.fits if quantities else remedy,
        )

    def _not_one(self, what):
        return self.found(
            "sigmoid_with_categorical_loss",
            "warning",
            f"{self.who} {what}, and {self.loss} expects probabilities that sum to 1.",
            "Use activation='softmax' for one class an example, or loss='binary_crossentropy' with 'sigmoid' for "
            "several.",
        )

    def _logits(self):
        """Bounded outputs, under a loss that takes them for logits."""
        if not (self.cross_entropy and self.task["from_logits"]):
            return []
        if self.activation in ("relu", "relu6", "re_lu"):
            return self.found(
                "rectified_output",
                "error",
                f"The outputs pass a {self.activation} ({self.who}) before {self.loss} with from_logits=True: classes "
                "at zero get no gradient.",
                "Remove the activation of the last layer.",
            )
        low, high = RANGES.get(self.activation, (-math.inf, math.inf))
        bounded = (low >= -2 and high <= 6) or (self.kind == "binary" and (low >= -2 or high <= 6))
        if not bounded or self.activation == "log_softmax":
            return []
        return self.found(
            "unreachable_targets",
            "warning",
            f"{self.who} ends in {self.activation}, which gives {low:g} to {high:g}, and {self.loss} takes that for "
            "logits: the model can never be sure of an answer.",
            "Remove the activation of the last layer.",
        )

    def _classes(self):
        """A softmax where several classes are right at once, or sigmoids where only one class is right."""
        sparse = str(self.loss).startswith("sparse")
        rows = None if sparse else self.labels.get("rows")
        several = (
            rows is not None and rows["binary"] and rows["most_ones"] > 1 and rows["share_of_one"] < 0.98
        )
        # Rows that sum to 1 are no fault: KL divergence, for one, takes distributions over several classes.
        if several and self.activation == "softmax" and self.cross_entropy:
            return self.found(
                "label_count",
                "error",
                f"Rows of labels hold up to {rows['most_ones']} ones, {1 - rows['share_of_one']:.0%} of the rows do "
                f"not sum to 1, and {self.who} is a softmax, whose probabilities share 1 among all classes.",
                f"Use activation='sigmoid' and loss='binary_crossentropy': one answer for each of the {self.outputs} "
                "classes.",
            )
        if several and self.kind == "categorical":
            return self.found(
                "label_count",
                "error",
                f"Rows of labels hold up to {rows['most_ones']} ones, {1 - rows['share_of_one']:.0%} of the rows do "
                f"not sum to 1, and {self.loss} expects one class per example.",
                f"Use loss='binary_crossentropy' (with activation='sigmoid'): one answer for each of the "
                f"{self.outputs} classes.",
            )
        if (
            self.activation in ("sigmoid", "hard_sigmoid")
            and self.kind == "categorical"
            and (self.outputs or 2) > 1
        ):
            return self._not_one(f"gives one {self.activation} per class")
        if self.kind == "categorical" and self.outputs == 1 and self.activation != "softmax":
            return self.found(
                "label_count",
                "error",
                f"{self.who} has one unit, and {self.loss} expects one for each class.",
                self.fits,
            )
        return []

    def _range(self):
        """Targets that the last activation cannot give."""
        activation, labels = self.activation, self.labels
        if bounded := self._bounds():
            return bounded
        if activation not in RANGES:
            return []
        low, high = RANGES[activation]
        if self.kind == "margins" and low >= 0 and self.loss != "categorical_hinge":
            return self.found(
                "unreachable_targets",
                "error",
                f"{self.who} ends in {activation}, which gives {low:g} to {high:g}, and {self.loss} wants -1 for the "
                "other class.",
                "Use activation='tanh', or none, in the last layer.",
            )
        if self.kind != "values":
            return []
        if self.loss == "poisson" and low < 0:
            return self.found(
                "unreachable_targets",
                "error",
                f"{self.who} can give numbers below 0 ({activation}), and {self.loss} takes their logarithm.",
                "Use activation='exponential' or 'softplus' in the last layer.",
            )
        if "target_min" not in labels:
            return []
        slack = 1e-3 * max(1.0, high if math.isfinite(high) else 1.0)
        if labels["target_min"] >= low - slack and labels["target_max"] <= high + slack:
            return []
        binary = kind_of_targets(labels) == "binary"
        fitting = relabel(labels.get("label_values")) if binary and high <= 1 else None
        return self.found(
            "unreachable_targets",
            "error",
            f"Targets reach from {labels['target_min']:.4g} to {labels['target_max']:.4g}, and {self.who} "
            f"({activation}) gives {low:g} to {high:g}: what lies outside is never met.",
            fitting or "Remove the activation of the last layer, or scale the targets into its range.",
        )

    def _bounds(self):
        """Targets far outside the range that the outputs can reach with any weights."""
        reach, labels = self.given.get("reach") or {}, self.labels
        own = self.kind == "unknown" and self.loss and kind_of_targets(labels) == "quantities"
        if not reach or "target_quartiles" not in labels or not (self.kind == "values" or own):
            return []
        if math.prod(self.given["shape"]) != math.prod(labels["labels_shape"]):
            return []  # something else is done to the outputs before they are compared
        low, high = reach.get("low", -math.inf), reach.get("high", math.inf)
        if not far_outside(labels["target_quartiles"], low, high):
            return []
        first, _, third = labels["target_quartiles"]
        to = f"{low:.4g} to {high:.4g}" if math.isfinite(high - low) else f"no {_end(low, high)}"
        wide = f"keras.layers.Rescaling({_round(labels['target_max'] - labels['target_min'])}"
        wide += f", offset={labels['target_min']:.4g})" if low > -1e-3 else f" / 2, offset={_middle(labels)})"
        return self.found(
            "unreachable_targets",
            "error" if self.kind == "values" else "info",  # only a run can show the effect of a custom loss
            f"Half of the targets lie between {first:.4g} and {third:.4g}, all between {labels['target_min']:.4g} and "
            f"{labels['target_max']:.4g}, and the outputs of {self.who} reach {to}, however large weights "
            "are made: what lies outside is never met.",
            f"Remove the activation of the last layer, bring targets into that range, or put {wide} behind it.",
        )


def _end(low, high):
    return f"higher than {high:.4g}" if math.isfinite(high) else f"lower than {low:.4g}"


def _middle(labels):
    return f"{(labels['target_max'] + labels['target_min']) / 2:.4g}"


def _round(value):
    return f"{float(f'{value:.3g}'):g}"
