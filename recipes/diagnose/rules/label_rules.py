"""Rules about labels and targets: their shape, their range, and missing classes."""

import math

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.remedies import kind_of_targets, last_layer, look, relabel
from recipes.diagnose.rules.words import counted

_PROBABILITY_LOSSES = ("kl_divergence",)


def judge_labels(name: str, shown: str, data: dict, task: dict) -> list[Finding]:
    """Whether labels fit the inputs, the outputs and the loss, and how frequent each class is.

    Args:
        name: "train" or "validation".
        shown: The name that findings show: `name`, followed by the output that the labels are for, if there are
            several.
        data: Facts from `recipes.diagnose.rules.data_facts`.
        task: What the model's output and loss ask for.

    Returns:
        A list of `Finding`, empty where nothing is wrong.
    """
    if not data["label_counts_match"]:
        return [
            _found(
                "label_count",
                "error",
                f"A batch of {shown} has a different number of labels than inputs.",
                "Check what makes the batches, as augmentation does: it must return one label for each example.",
            )
        ]
    if "labels_shape" not in data:
        return []
    if task["kind"] == "unknown" and task["loss"] not in _PROBABILITY_LOSSES:
        return _from_one(shown, data, task)
    return (
        _label_shape(shown, data, task)
        or _label_range(shown, data, task)
        or _label_counts(name, shown, data, task)
    )


def _from_one(shown, data, task):
    """Class numbers 1 to K for K units, under a custom training step."""
    units = task.get("widths") or []
    whole = data.get("label_whole") and "int" in data.get("labels_dtype", "") and data.get("label_low") == 1
    if not task.get("own_step") or not whole or len(set(units)) != 1:
        return []
    high = int(data["label_high"])
    if not 2 < high == units[0] == data["label_kinds"]:
        return []
    return [
        _found(
            "labels_out_of_range",
            "error",
            f"Labels of {shown} are the whole numbers 1 to {high}, and the networks inside have {high} outputs each: a "
            f"sparse cross-entropy takes class numbers 0 to {high - 1}, and {high} is an error, or NaN on a GPU.",
            "Train on y - 1, to number classes from 0; nothing is wrong where your step subtracts 1 itself.",
        )
    ]


def _label_shape(shown, data, task):
    """Labels of another shape than the outputs, which some losses broadcast without an error."""
    shape, outputs = data["labels_shape"], task["outputs"]
    width = shape[-1] if shape else 1
    sparse = str(task["loss"]).startswith("sparse")
    if task["kind"] == "categorical" and not sparse and outputs and width not in (outputs,):
        return [
            _found(
                "label_count",
                "error",
                f"Each label of {shown} is {counted(width, 'number')}, and the model has {counted(outputs, 'output')}.",
                "Use loss='sparse_categorical_crossentropy' for class numbers, or keras.ops.one_hot(labels, "
                "classes); "
                "integer labels turn into a (batch, batch) matrix in some mixing augmentations.",
            )
        ]
    out = task.get("output_shape")
    if sparse and out is not None and len(shape) == len(out) and outputs and width == outputs > 1:
        return [
            _found(
                "label_count",
                "error",
                f"Labels of {shown} are rows of {width} numbers, as the outputs are, and {task['loss']} takes one "
                "class number for each answer.",
                "Use loss='categorical_crossentropy' for one-hot rows, or give class numbers: y.argmax(axis=-1).",
            )
        ]
    if task["kind"] not in ("values", "margins") or out is None or not outputs:
        return []
    if task["loss"] == "categorical_hinge" or math.prod(shape or [1]) == math.prod(n or 1 for n in out):
        return []
    if list(out) == list(shape) or None in out:
        return []
    fitting = (
        f" For class numbers use loss='sparse_categorical_crossentropy' with the {outputs} outputs as they are."
        if kind_of_targets(data) == "classes" and outputs > 1 and width == 1
        else ""
    )
    extra = " return_sequences=False in the last recurrent layer" if len(out) == 2 and len(shape) < 2 else ""
    return [
        _found(
            "label_count",
            "error",
            f"Targets of {shown} have the shape {tuple(shape)} per example, and the model gives {tuple(out)}: "
            f"{task['loss']} stretches one to fit the other, and compares every output with every target.",
            f"Give both one shape: a last layer of {counted(width, 'unit')}"
            + (f", or{extra}." if extra else ".")
            + fitting,
        )
    ]


def _label_range(shown, data, task):
    kind, loss, outputs = task["kind"], str(task["loss"]), task["outputs"]
    if "label_low" not in data:
        return _old_range(shown, data, task)
    low, high, values = data["label_low"], data["label_high"], data.get("label_values")
    reach = f"Labels of {shown} reach from {low:.4g} to {high:.4g}"
    if loss.startswith("sparse"):
        if not data["label_whole"]:
            return [
                _found(
                    "labels_out_of_range",
                    "error",
                    f"{reach} and are not whole numbers; {loss} cuts them down to class numbers, so {low:.3g} becomes "
                    f"class {int(low)} and {high:.3g} class {int(high)}.",
                    _whole(data, outputs),
                )
            ]
        if outputs and outputs > 1 and (low < 0 or high >= outputs):
            first = (
                f"Train on y - {low:g}, to number classes from 0" if low > 0 and high - low < outputs else ""
            )
            return [
                _found(
                    "labels_out_of_range",
                    "error",
                    f"{reach}, and the model has {outputs} outputs, for classes 0 to {outputs - 1}.",
                    f"{first or 'Number classes from 0'}, or build the model with {int(high) + 1} outputs."
                    if kind_of_targets(data) != "quantities"
                    else last_layer(data, outputs),
                )
            ]
        return []
    if kind == "binary" and (low < -1e-3 or high > 1 + 1e-3):
        several = kind_of_targets(data) == "classes" and data["label_kinds"] > 2
        quantities = kind_of_targets(data) == "quantities" and data["label_kinds"] > 2
        remedy = (
            last_layer(data, outputs) if several or (quantities and not data.get("rows")) else relabel(values)
        )
        if high > 1 and low >= 0 and data.get("rows") and data["label_kinds"] > 2:
            remedy = f"Divide the targets by {high:g}, as inputs are; or use loss='mse' and no activation."
        return [
            _found(
                "labels_out_of_range",
                "error",
                f"{reach}, and {loss} expects 0 to 1: outside, its loss falls for ever without a right answer.",
                remedy,
            )
        ]
    if (kind == "categorical" or loss in _PROBABILITY_LOSSES) and data.get("rows"):
        return _row_range(reach, shown, data, loss)
    if kind == "margins" and loss != "categorical_hinge":
        whole = values is not None and set(values) <= {-1.0, 0.0, 1.0} and not {-1.0, 0.0} <= set(values)
        if not whole and (low < -1 - 1e-3 or high > 1 + 1e-3 or values == [-1.0, 0.0]):
            return [
                _found(
                    "labels_out_of_range",
                    "error",
                    f"{reach}, and {loss} expects -1 and 1, or 0 and 1.",
                    relabel(values).replace("0 and 1.", "0 and 1, as this loss takes them."),
                )
            ]
    if loss == "mean_absolute_percentage_error" and data.get("label_zeros", 0) > 0:
        return [
            _found(
                "labels_out_of_range",
                "error",
                f"{data['label_zeros']:.1%} of the targets of {shown} are 0, and {loss} divides by the target: each of "
                "them costs ten million times its error, and the others do not count.",
                "Use loss='mae', or 'msle' for targets from 0 on of very different sizes; keep percent for a metric.",
            )
        ]
    if loss in ("poisson", "mean_squared_logarithmic_error") and low < (0 if loss == "poisson" else -1e-3):
        return [
            _found(
                "labels_out_of_range",
                "error",
                f"{reach}, and {loss} takes the logarithm of counts, which are never below 0.",
                "Use loss='mse' for targets that may be below 0.",
            )
        ]
    return []


def _row_range(reach, shown, data, loss):
    rows = data["rows"]
    if data["label_low"] < -1e-3 or data["label_high"] > 1 + 1e-2:
        return [
            _found(
                "labels_out_of_range",
                "error",
                f"{reach}, and {loss} expects rows of probabilities, from 0 to 1.",
                "Give one-hot rows: keras.utils.to_categorical(class_numbers, classes).",
            )
        ]
    # Rows with several ones are reported by `output_rules`, which knows the activation.
    if rows["share_of_one"] < 0.98 and (rows["most_ones"] <= 1 or not rows["binary"]):
        return [
            _found(
                "label_count",
                "error",
                f"{1 - rows['share_of_one']:.0%} of the rows of labels of {shown} sum to something other than 1 "
                f"({rows['sum_min']:.3g} to {rows['sum_max']:.3g}), and {loss} expects one answer shared out.",
                "Give every example a class, or divide each row by its sum; for none or several classes per example "
                "use activation='sigmoid' with loss='binary_crossentropy'.",
            )
        ]
    return []


def _whole(data, outputs):
    """The remedy for fractional labels under a loss that takes class numbers."""
    kinds = data["label_kinds"]
    if outputs and kinds <= outputs and data["label_low"] >= 0 and data["label_high"] <= 1.001:
        return (
            "Give class numbers: labels are not scaled like inputs, so leave out what divides y (as in y / 255), or "
            "round it back with numpy.unique(y, return_inverse=True)[1]."
        )
    if data.get("label_values"):
        return "Turn labels into class numbers: y = numpy.unique(y, return_inverse=True)[1]."
    return last_layer(data, outputs)


def _old_range(shown, data, task):
    """As `_label_range`, from facts that hold only class numbers."""
    outputs = task["outputs"]
    if "label_min" not in data or task["kind"] != "categorical" or not outputs:
        return []
    if data["label_min"] >= 0 and data["label_max"] < outputs:
        return []
    return [
        _found(
            "labels_out_of_range",
            "error",
            f"Labels of {shown} reach from {data['label_min']} to {data['label_max']}, and the model has "
            f"{outputs} outputs, for 0 to {outputs - 1}.",
            f"Number classes from 0, or build the model with {data['label_max'] + 1} outputs.",
        )
    ]


def _label_counts(name, shown, data, task):
    counts = list(data.get("class_counts", {}).values())
    if len(counts) == 1 and data["examples"] >= 16:
        rest = "" if data["whole"] else " (the rest was not read in the time)"
        return [
            _found(
                "labels_constant",
                "error" if data["whole"] or not data["ordered"] else "warning",
                f"All {data['examples']} labels of {shown} that were read are {data['label_min']}{rest}: the model "
                "need only learn to say that.",
                "Check how labels are read; if the data is sorted by class, shuffle it: "
                "dataset.shuffle(number_of_examples).",
            )
        ]
    plain = task["kind"] == "values" and task["activation"] is not None and not task["own_step"]
    if not counts and plain and data.get("label_kinds") == 1 and data["examples"] >= 16:
        return [
            _found(
                "labels_constant",
                "warning",
                f"All targets of {shown} that were read are {data['label_low'] or 0:g}: the model need only say that.",
                f"Look at how targets are made, {look(data, labels=True)}: a join that found nothing, an empty column "
                "and an index that is off leave zeros.",
            )
        ]
    if len(counts) > 1 and max(counts) > 10 * min(counts) and data["examples"] >= 200 and name == "train":
        return [
            _found(
                "imbalanced",
                "info",
                f"Class {_rarest(data)} has {min(counts)} of {_counted(data)}, the most frequent "
                f"{max(counts)}: always giving that one is right in {max(counts) / sum(counts):.0%} of cases.",
                "Give fit class_weight={class: weight}, or sample classes evenly; judge by recall, not "
                "accuracy.",
            )
        ]
    return []


def _counted(data):
    """What the classes are counted over: examples, or positions where the model answers for each of them."""
    if "label_positions" in data:
        return f"{sum(data['class_counts'].values())} places in {data['examples']} examples"
    return f"{data['examples']} examples"


def unseen_classes(train: dict, validation: dict, which: str = "") -> list[Finding]:
    """Classes of the validation data that never occur in the training data.

    Args:
        train: Facts of the training data.
        validation: Facts of the validation data.
        which: Words that name the output, if there are several.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    if "class_counts" not in train or "class_counts" not in validation:
        return []
    total = sum(validation["class_counts"].values())
    unseen = {
        name: count
        for name, count in validation["class_counts"].items()
        if name not in train["class_counts"]
        # If only a part was read, a rare class may be missing from it by chance.
        and (train["whole"] or (not train["ordered"] and count / total * train["examples"] > 20))
    }
    share = sum(unseen.values()) / total
    if not unseen or (share < 0.01 and len(validation["class_counts"]) > 2):
        return []
    names = ", ".join(list(unseen)[:5]) + (", ..." if len(unseen) > 5 else "")
    return [
        _found(
            "train_validation_mismatch",
            "error" if share >= 0.1 else "warning",
            f"Classes {names} make up {share:.0%} of the validation examples{which}, and training has not one of them: "
            "they can never be answered, and validation measures that.",
            "Split at random, class by class: sklearn.model_selection.train_test_split(x, y, stratify=y), or shuffle "
            "the arrays once before fit(validation_split=...), which takes the last examples.",
        )
    ]


def _rarest(data):
    return min(data["class_counts"], key=data["class_counts"].get)


def judge_targets(data: dict, task: dict) -> list[Finding]:
    """Whether the targets of a regression have a scale that a new network starts near.

    Args:
        data: Facts of the training data, with `target_std` and the range of the targets.
        task: Facts of the output.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    own = task["kind"] == "unknown" and task["loss"] and kind_of_targets(data) == "quantities"
    if not (task["kind"] == "values" or own) or data.get("target_std", 0) <= 0:
        return []
    std = data["target_std"]
    offset = data.get("target_offset", abs(data["target_mean"]) / std)
    smallest, largest = data.get("target_std_min", std), data.get("target_std_max", std)
    numbers = f"Targets have a mean of {data['target_mean']:.4g} and a standard deviation of {std:.4g}"
    remedy = "Train on (y - mean) / std, and turn predictions back with prediction * std + mean."
    if std > 50 or offset > 10 or std < 1e-3:
        return [
            _found(
                "unscaled_targets",
                "info",  # only a run can show whether it overcomes this
                f"{numbers}; a network starts with answers around 0 of size 1, and has all that way to go first.",
                remedy,
            )
        ]
    if largest > 100 * smallest and data["labels_shape"] and data["labels_shape"][-1] > 1:
        return [
            _found(
                "unscaled_targets",
                "info",
                f"The targets' standard deviations lie between {smallest:.3g} and {largest:.3g}: the loss is that of "
                "the largest, and the others hardly count.",
                remedy,
            )
        ]
    if offset > 3:
        return [
            _found(
                "unscaled_targets",
                "info",
                f"{numbers}: the first epochs only find that mean.",
                remedy,
            )
        ]
    return []


def _found(code, severity, evidence, remedy):
    return Finding(code, severity, None, 0, evidence, remedy)
