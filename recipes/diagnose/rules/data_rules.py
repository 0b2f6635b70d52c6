"""What can be said of the data before a single step."""

import math

from recipes.diagnose.finding import Finding


def judge_data(facts):
    """Findings in what `describe` collected about training and validation data.

    Args:
        facts: dict, as from `recipes.diagnose.describe.describe`; without "data" nothing is found.

    Returns:
        A list of `Finding`, not arranged.
    """
    if "data" not in facts:
        return []
    findings = []
    for name, data in facts["data"].items():
        if name != "overlap":
            findings += _values(name, data)
            findings += _labels(name, data, facts["task"])
    train = facts["data"]["train"]
    findings += _order(train)
    findings += _targets(train, facts["task"])
    if "validation" in facts["data"]:
        findings += _leak(facts["data"]["overlap"], train)
        findings += _mismatch(train, facts["data"]["validation"])
    return findings


def _found(code, severity, evidence, remedy):
    return Finding(code, severity, None, 0, evidence, remedy)


def _values(name, data):
    if not data.get("finite", True):
        return [
            _found(
                "nan_input",
                "error",
                f"{data['not_finite_examples']} of the first {data['examples']} inputs of {name} hold NaN "
                "or infinity.",
                "Drop them: dataset.filter(lambda x, y: tf.reduce_all(tf.math.is_finite(x))); or look for a "
                "division "
                "by zero in the preprocessing.",
            )
        ]
    if not data["labels_finite"]:
        return [
            _found(
                "nan_input",
                "error",
                f"The labels of {name} hold NaN or infinity.",
                "Drop those examples.",
            )
        ]
    examples = data["examples"]
    if (
        "different_examples" in data
        and examples >= 8
        and data["different_examples"] <= max(1, examples // 100)
    ):
        return [
            _found(
                "constant_inputs",
                "error",
                f"{examples} examples of {name} are only {data['different_examples']} different one(s).",
                "Look at one batch, with recipes.plot.grid(images): the loading or the scaling loses the "
                "image.",
            )
        ]
    constant = data.get("constant_examples", 0)
    if constant > 0.9 * examples:
        return [
            _found(
                "constant_inputs",
                "error",
                f"{constant} of {examples} inputs of {name} are one number all over.",
                "Look at one batch, with recipes.plot.grid(images): integers divided by 255 as integers "
                "give zero.",
            )
        ]
    if constant > 0.01 * examples:
        return [
            _found(
                "constant_inputs",
                "info",
                f"{constant} of {examples} inputs of {name} are one number all over.",
                "Look at them, and drop what is no example.",
            )
        ]
    return []


def _labels(name, data, task):
    if not data["label_counts_match"]:
        return [
            _found(
                "label_count",
                "error",
                f"A batch of {name} has another number of labels than of inputs.",
                "Check the augmentation: it must return one label per image.",
            )
        ]
    width = data["labels_shape"][0] if data["labels_shape"] else 1
    outputs = task["outputs"]
    sparse = str(task["loss"]).startswith("sparse")
    if task["kind"] == "categorical" and not sparse and outputs and width not in (outputs,):
        return [
            _found(
                "label_count",
                "error",
                f"Labels of {name} have {width} number(s) each, and the model {outputs} outputs.",
                "Use loss='sparse_categorical_crossentropy' for class numbers, or keras.ops.one_hot(labels, "
                "classes); "
                "integer labels turn into a (batch, batch) matrix in some mixing augmentations.",
            )
        ]
    if "label_min" not in data:
        return []
    if task["kind"] == "categorical" and outputs and (data["label_min"] < 0 or data["label_max"] >= outputs):
        return [
            _found(
                "labels_out_of_range",
                "error",
                f"Labels of {name} reach from {data['label_min']} to {data['label_max']}, and the model has "
                f"{outputs} "
                f"outputs, for 0 to {outputs - 1}.",
                f"Number classes from 0, or build the model with {data['label_max'] + 1} outputs.",
            )
        ]
    findings = []
    counts = list(data["class_counts"].values())
    if len(counts) == 1 and data["examples"] >= 16:
        rest = "" if data["whole"] else " (the rest was not read in the time)"
        findings.append(
            _found(
                "labels_constant",
                "error" if data["whole"] or not data["ordered"] else "warning",
                f"All {data['examples']} labels of {name} that were read are {data['label_min']}{rest}.",
                "Check how labels are read; if the data is sorted by class, shuffle it: "
                "dataset.shuffle(number_of_examples).",
            )
        )
    elif len(counts) > 1 and max(counts) > 10 * min(counts) and data["examples"] >= 200 and name == "train":
        findings.append(
            _found(
                "imbalanced",
                "info",
                f"Class {_rarest(data)} has {min(counts)} of {data['examples']} examples, the most frequent "
                f"{max(counts)}.",
                "Give fit class_weight={class: weight}, or sample classes evenly; judge by recall, not "
                "accuracy.",
            )
        )
    return findings


def _rarest(data):
    return min(data["class_counts"], key=data["class_counts"].get)


def _order(data):
    if not data["ordered"] or "same_next" not in data or len(data.get("class_counts", ())) < 2:
        return []
    count, chance = data["examples"], data["same_by_chance"]
    error = math.sqrt(max(chance * (1 - chance), 1e-6) / count)
    if data["same_next"] > chance + max(6 * error, 0.5 * (1 - chance)):
        return [
            _found(
                "missing_shuffle",
                "warning",
                f"{data['same_next']:.0%} of neighboring training examples share a label; {chance:.0%} "
                "would by chance. "
                "The data comes sorted.",
                "Shuffle before batching: dataset.shuffle(number_of_examples).batch(...).",
            )
        ]
    return []


def _targets(data, task):
    if task["kind"] != "values" or "target_std" not in data or data["target_std"] <= 0:
        return []
    mean, std = abs(data["target_mean"]), data["target_std"]
    if std > 50 or mean > 10 * std or std < 1e-3:
        return [
            _found(
                "unscaled_targets",
                "warning",
                f"Targets have a mean of {data['target_mean']:.4g} and a standard deviation of {std:.4g}.",
                "Train on (y - mean) / std, and turn predictions back with prediction * std + mean.",
            )
        ]
    return []


def _leak(overlap, train):
    share = overlap["same"] / max(overlap["examples"], 1)
    few_kinds = train.get("different_examples", overlap["examples"]) < 0.5 * train["examples"]
    if overlap["same"] < 3 or share < 0.005 or few_kinds:
        return []
    return [
        _found(
            "data_leak",
            "warning" if share >= 0.02 else "info",
            f"{overlap['same']} of {overlap['examples']} validation examples are among the training "
            "examples, byte for "
            f"byte ({share:.0%}).",
            "Remove duplicates before splitting; validation results are too good as they are.",
        )
    ]


def _mismatch(train, validation):
    if not all("std" in data and data["std"] > 0 for data in (train, validation)):
        return []
    shift = abs(train["mean"] - validation["mean"]) / train["std"]
    ratio = validation["std"] / train["std"]
    if shift < 1 and 1 / 3 < ratio < 3:
        return []
    return [
        _found(
            "train_validation_mismatch",
            "warning",
            f"Training inputs have mean {train['mean']:.3g} and standard deviation {train['std']:.3g}, "
            "validation "
            f"inputs {validation['mean']:.3g} and {validation['std']:.3g}.",
            "Preprocess both the same way; best inside the model, with keras.layers.Rescaling or "
            "Normalization.",
        )
    ]
