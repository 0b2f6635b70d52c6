"""The remedies of each finding that can be tried on a copy of the model, and what each of them changes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.remedies import kind_of_targets, usual_decay, usual_rate

_RECTIFIERS = ("relu", "relu6")


@dataclass(frozen=True)
class Arm:
    """One remedy that is compared with the unchanged model, as one arm of an experiment.

    Attributes:
        name: The change in a few words.
        code: What to type.
        finding: Code of the finding that advises it.
        knobs: Settings of the training step: "rate" (a factor), "warmup" (share of the steps, in [0, 1]), "decay"
            (weight decay), "clipnorm", and "momentum" of batch normalization. They do not need another trace.
        edit: Function that changes the configuration of a layer in place, or None.
        labels: Function from an array of labels to the changed labels, or None.
        inputs: "standardize", "drop" (examples with NaN or infinity), "shuffle" or "".
        targets: Whether targets are standardized to mean 0 and standard deviation 1.
        loss: Name of another loss, or None.
    """

    name: str
    code: str
    finding: str
    knobs: dict[str, float] = field(default_factory=dict)
    edit: Callable[[dict], None] | None = None
    labels: Callable[[np.ndarray], np.ndarray] | None = None
    inputs: str = ""
    targets: bool = False
    loss: str | None = None

    @property
    def same_measure(self) -> bool:
        """Whether the loss with this remedy can be compared with that of the unchanged model."""
        return self.loss is None and self.labels is None and not self.targets


def arms_for(findings: list[Finding], facts: dict) -> tuple[list[Arm], list[str]]:
    """The remedies that can be tried for some findings.

    Args:
        findings: The findings, causes before symptoms. Remedies of their consequences come last.
        facts: What `recipes.diagnose.rules.run_facts.describe` returns, with "data".

    Returns:
        `(remedies, titles)`: the remedies, those of the first finding first and each only once, and the titles of the
        findings without a remedy that can be tried.
    """
    roots = list(findings)
    flat = [*roots, *(child for root in roots for child in root.consequences)]
    arms, without = {}, []
    for finding in flat:
        made = _ARMS.get(finding.code, lambda *given: [])(finding, facts)
        if not made and finding in roots:
            without.append(finding.title)
        for arm in made:
            arms.setdefault(arm.name, arm)
    return list(arms.values()), without


def _rate(facts):
    return facts["optimizer"].get("rate") or 1e-3


def _slower(finding, facts):
    rate, name = _rate(facts), facts["optimizer"].get("name", "Adam")
    arms = [
        Arm(
            f"learning rate / {factor}",
            f"model.optimizer.learning_rate = {rate / factor:.2g}",
            finding.code,
            {"rate": 1 / factor},
        )
        for factor in (10, 100)
    ]
    arms = [*_usual(finding, facts, below=True), *arms]
    arms.append(
        Arm(
            "warm-up",
            'model.fit(..., callbacks=[recipes.callbacks.WarmupDecay(warmup=0.1, decay="cosine")])',
            finding.code,
            {"warmup": 0.5},
        )
    )
    arms.append(
        Arm(
            "clip gradients",
            f"{_called(name)}({rate:.2g}, clipnorm=1.0)",
            finding.code,
            {"clipnorm": 1.0},
        )
    )
    return arms


def _usual(finding, facts, *, below):
    """The usual learning rate of the optimizer, if the own one is over ten times higher (`below`), or lower."""
    rate, name = _rate(facts), facts["optimizer"].get("name")
    fitting = usual_rate(name)
    if fitting is None or (rate / fitting if below else fitting / rate) <= 10:
        return []
    return [
        Arm(
            f"learning rate {fitting:g}",
            f"model.optimizer.learning_rate = {fitting:g}",
            finding.code,
            {"rate": fitting / rate},
        )
    ]


def _faster(finding, facts):
    rate = _rate(facts)
    return _usual(finding, facts, below=False) + [
        Arm(
            f"learning rate x {factor}",
            f"model.optimizer.learning_rate = {rate * factor:.2g}",
            finding.code,
            {"rate": float(factor)},
        )
        for factor in (10, 100)
    ]


def _called(name):
    """The class of an optimizer, as it has to be typed."""
    places = {"MuonSGD": "recipes.optimizers."}
    return places.get(name, "keras.optimizers." if hasattr(keras.optimizers, str(name)) else "") + str(name)


def _either(finding, facts):
    return [*_faster(finding, facts)[:2], *_slower(finding, facts)[:1], *_he_normal(finding, facts)]


def _milder(finding, facts):
    arms, optimizer = [], facts["optimizer"]
    if optimizer.get("weight_decay"):
        decay = usual_decay(optimizer["name"])
        code = f"{_called(optimizer['name'])}({optimizer['rate']:.2g}, weight_decay={decay:g})"
        arms.append(Arm("less weight decay", code, finding.code, {"decay": decay}))
    if any((layer["rate"] or 0) >= 0.5 for layer in facts["layers"]):
        code = "keras.layers.Dropout(0.2)"
        arms.append(Arm("less dropout", code, finding.code, edit=_less_dropout))
    if any(layer["penalty"] for layer in facts["layers"]):
        code = "kernel_regularizer=keras.regularizers.L2(1e-4)"
        arms.append(Arm("a hundredth of the penalties", code, finding.code, edit=_less_penalty))
    return arms


def _less_dropout(config):
    if isinstance(config.get("rate"), float) and config["rate"] > 0.2:
        config["rate"] = 0.2


def _less_penalty(config):
    for value in config.values():
        inner = value.get("config") if isinstance(value, dict) else None
        for name in ("l1", "l2") if isinstance(inner, dict) else ():
            if isinstance(inner.get(name), float):
                inner[name] /= 100


def _unclipped(finding, facts):
    optimizer = facts["optimizer"]
    code = f"{_called(optimizer.get('name', 'Adam'))}({_rate(facts):.2g})  # without clipping"
    return [Arm("no clipping", code, finding.code, {"clipnorm": np.inf})]


def _scaled_inputs(finding, _facts):
    code = "scale = keras.layers.Normalization(); scale.adapt(x); model = keras.Sequential([scale, model])"
    return [Arm("scale the inputs", code, finding.code, inputs="standardize")]


def _scaled_targets(finding, facts):
    if facts["task"]["kind"] != "values":
        return []
    code = "mean, std = y.mean(axis=0), y.std(axis=0); model.fit(x, (y - mean) / std)"
    return [Arm("standardize the targets", code, finding.code, targets=True)]


def _diverged(finding, facts):
    return [*_slower(finding, facts), *_scaled_targets(finding, facts)]


def _he_normal(finding, _facts):
    code = "kernel_initializer='he_normal', bias_initializer='zeros'"
    return [Arm("start with he_normal", code, finding.code, edit=_start_afresh)]


def _start_afresh(config):
    if "kernel_initializer" in config and "units" in config or "filters" in config or "kernel_size" in config:
        config["kernel_initializer"] = "he_normal"
        config["bias_initializer"] = "zeros"


def _leaky(finding, facts):
    arms = [Arm("leaky_relu", "activation='leaky_relu'", finding.code, edit=_to("leaky_relu", _RECTIFIERS))]
    return [*arms, *_slower(finding, facts)[:1], *_he_normal(finding, facts)]


def _relu(finding, _facts):
    code = "activation='relu', kernel_initializer='he_normal'"
    squashing = ("sigmoid", "tanh", "hard_sigmoid", "softsign")

    def edit(config):
        _to("relu", squashing)(config)
        _start_afresh(config)

    return [Arm("relu with he_normal", code, finding.code, edit=edit), *_he_normal(finding, _facts)]


def _to(name, others):
    def edit(config):
        if config.get("activation") in others and not config.get("_last"):
            config["activation"] = name

    return edit


def _thawed(finding, _facts):
    def edit(config):
        if "trainable" in config:
            config["trainable"] = True

    return [
        Arm("train the frozen layers", "model.trainable = True; model.compile(...)", finding.code, edit=edit)
    ]


def _momentum(finding, _facts):
    code = "keras.layers.BatchNormalization(momentum=0.9)"
    return [Arm("momentum 0.9", code, finding.code, {"momentum": 0.9})]


def _shuffled(finding, _facts):
    code = "dataset.shuffle(number_of_examples)"
    return [Arm("shuffle", code, finding.code, inputs="shuffle")]


def _dropped(finding, _facts):
    code = "keep = numpy.isfinite(x.reshape(len(x), -1)).all(1); model.fit(x[keep], y[keep])"
    return [Arm("drop examples that are not finite", code, finding.code, inputs="drop")]


def _relabeled(finding, facts):
    """Remedies that bring labels into the range that the loss expects, without a change of their meaning."""
    data, task = facts["data"]["train"], facts["task"]
    values, kind = data.get("label_values"), kind_of_targets(data)
    sparse = str(task["loss"]).startswith("sparse")
    if kind == "quantities" and not (sparse and data.get("label_kinds", 10**9) <= (task["outputs"] or 0)):
        return _fitting(finding, facts)
    if sparse or (kind == "classes" and data.get("label_kinds", 0) > 2 and (task["outputs"] or 1) > 1):
        known = np.asarray(values) if values else None
        code = "classes, y = numpy.unique(y, return_inverse=True)"

        def numbers(labels):
            seen = np.unique(labels) if known is None else known
            return np.searchsorted(seen, labels.reshape(len(labels))).astype("int64")

        return [Arm("class numbers from 0", code, finding.code, labels=numbers)]
    if values and len(values) == 2 and task["kind"] == "binary":
        code = f"y = (y == {values[1]:g}).astype('float32')"
        return [
            Arm("labels 0 and 1", code, finding.code, labels=lambda y: (y == values[1]).astype("float32"))
        ]
    return _fitting(finding, facts)


def _fitting(finding, facts):
    """Remedies with another last activation and loss, which fit the labels."""
    data, task = facts.get("data", {}).get("train", {}), facts["task"]
    kind, outputs = kind_of_targets(data), task["outputs"]
    plan = {
        "quantities": (None, "linear", "mean_squared_error"),
        "several": (None, "sigmoid", "binary_crossentropy"),
        "one_hot": (
            data.get("labels_shape", [None])[-1] if data.get("labels_shape") else None,
            "softmax",
            None,
        ),
        "binary": (1, "sigmoid", "binary_crossentropy"),
        "classes": (None, "softmax", "sparse_categorical_crossentropy"),
    }.get(kind)
    if plan is None:
        return []
    units, activation, loss = plan
    if kind == "one_hot":
        loss = "categorical_crossentropy"
    if kind == "binary" and (outputs or 1) > 1:  # two outputs for two classes
        units, activation, loss = None, "softmax", "sparse_categorical_crossentropy"
    if kind == "classes" and (outputs or 0) <= data["label_high"]:
        units = int(data["label_high"]) + 1
    if kind == "quantities":
        units = data["labels_shape"][-1] if data.get("labels_shape") else 1
    number = units or outputs
    last = f"keras.layers.Dense({number}" + (
        f", activation='{activation}')" if activation != "linear" else ")"
    )

    def edit(config):
        if config.get("_last"):
            config["activation"] = activation
            if units and "units" in config:
                config["units"] = units

    return [
        Arm(
            f"{activation} with {loss}",
            f"{last} with model.compile(..., loss='{loss}')",
            finding.code,
            edit=edit,
            loss=loss,
            targets=kind == "quantities",
        )
    ]


_ARMS = {
    "nan_input": _dropped,
    "labels_out_of_range": _relabeled,
    "label_count": _fitting,
    "softmax_on_one_unit": _fitting,
    "softmax_twice": _fitting,
    "logits_as_probabilities": _fitting,
    "sigmoid_with_categorical_loss": _fitting,
    "rectified_output": _fitting,
    "unreachable_targets": _fitting,
    "zero_initialization": _he_normal,
    "symmetric_initialization": _he_normal,
    "frozen": _thawed,
    "unscaled_inputs": _scaled_inputs,
    "unscaled_targets": _scaled_targets,
    "initial_scale_too_large": _he_normal,
    "initial_scale_too_small": _he_normal,
    "dead_at_start": _he_normal,
    "clipping_too_hard": _unclipped,
    "regularization_too_strong": _milder,
    "missing_shuffle": _shuffled,
    "rate_too_high": _slower,
    "rate_too_low": _faster,
    "batch_norm_statistics": _momentum,
    "exploding": _slower,
    "dead_relu": _leaky,
    "saturated": _relu,
    "vanishing": _relu,
    "diverged": _diverged,
    "bouncing": _slower,
    "not_learning": _either,
    "underfitting": _faster,
    "overfit_small_sample": _either,
}


def edited(config: dict, edit: Callable[[dict], None] | None, last: str | None) -> dict:
    """A copy of a model's configuration, in which `edit` has changed the configuration of every layer.

    Args:
        config: Configuration of a model, as `keras.saving.serialize_keras_object` returns it.
        edit: Function that changes the configuration of one layer in place; None changes nothing.
        last: Name of the layer with the last activation, or None. While `edit` runs, the entry "_last" of a
            configuration says whether it is that layer.
    """
    config = copy.deepcopy(config)
    if edit is None:
        return config

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            inner = value.get("config")
            if isinstance(inner, dict) and "name" in inner and "class_name" in value:
                inner["_last"] = inner["name"] == last
                edit(inner)
                del inner["_last"]
            for part in value.values():
                visit(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                visit(part)

    visit(config)
    return config
