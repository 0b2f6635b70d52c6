"""Remedies to type, which fit the task, the number of units, the labels and the inputs."""

from typing import Literal

from recipes.diagnose.rules.words import typed

TargetKind = Literal["binary", "classes", "several", "one_hot", "quantities", "unknown"]
_MOST_CLASSES = 1000
# Usual learning rates and weight decays, by the class of the optimizer.
_USUAL_RATE = {
    "SGD": 0.1,
    "MuonSGD": 0.2,
    "Adadelta": 1.0,
    "Adagrad": 0.01,
    "Ftrl": 0.01,
    "Lion": 1e-4,
    **dict.fromkeys(
        ("Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Lamb", "Adafactor", "Muon", "ScheduleFreeAdamW"),
        1e-3,
    ),
}
_USUAL_DECAY = {"SGD": 5e-4, "MuonSGD": 5e-4, "Lion": 0.1}


def usual_rate(optimizer: str | None) -> float | None:
    """The usual learning rate of an optimizer, by the name of its class; None for an unknown class."""
    return _USUAL_RATE.get(optimizer)


def usual_decay(optimizer: str | None) -> float:
    """The usual weight decay of an optimizer, by the name of its class."""
    return _USUAL_DECAY.get(optimizer, 1e-2)


def lower_rate(rate: float, optimizer: dict) -> str:
    """A sentence that says how far to lower a learning rate that is too high: to the usual one, or to a tenth.

    Args:
        rate: The learning rate, >= 0.
        optimizer: Facts from `run_facts.describe_optimizer`. A large momentum is lowered first.
    """
    name, momentum = optimizer.get("name"), optimizer.get("momentum") or 0.0
    if momentum > 0.97:
        return f"Use momentum=0.9 in place of {momentum:g}, which adds up {1 / max(1 - momentum, 1e-4):.0f} steps."
    if not rate > 0:
        return "Lower the learning rate tenfold, with warm-up."
    usual = usual_rate(name)
    lower = usual if usual and rate > 5 * usual else rate / 10
    why = f", which is usual with {name}," if lower == usual else ""
    rate = typed(lower)
    return f"Try learning_rate={rate}{why} with warm-up; recipes.diagnose.learning_rate_range_test finds one."


def higher_rate(rate: float, ratio: float, optimizer: dict) -> str:
    """A sentence that says how far to raise a learning rate at which steps change weights too little.

    It names the usual rate, or the rate at which a step changes weights by 0.1 %.

    Args:
        rate: The current learning rate.
        ratio: |dW| / |W| of a step at that rate, above 0.
        optimizer: Facts about the optimizer; only "name" is used, if known.
    """
    name = optimizer.get("name")
    usual = usual_rate(name)
    enough = rate * 1e-3 / max(ratio, 1e-12)
    if usual and 0 < rate < usual / 100 and usual <= 10 * enough:
        higher = f"{usual:g}, which is usual with {name}"
    else:
        higher = typed(enough)
    return f"Try learning_rate={higher}; recipes.diagnose.learning_rate_range_test finds one."


def kind_of_targets(data: dict) -> TargetKind:
    """What the labels of a data set are, judged from the labels alone and not from the loss.

    Args:
        data: Facts about the labels, as `recipes.diagnose.rules.data_facts.label_facts` returns them.

    Returns:
        "binary" for two whole numbers, "classes" for whole numbers with few distinct values, "one_hot" and "several"
        for rows with one and with several classes, "quantities", or "unknown".
    """
    rows = data.get("rows")
    if rows is not None:
        if rows["binary"] and rows["share_of_one"] > 0.99:
            return "one_hot"
        return "several" if rows["binary"] else "quantities"
    if "label_kinds" not in data:
        return "unknown"
    if data["label_kinds"] == 2 and data["label_whole"]:
        return "binary"
    spread = data["label_high"] - data["label_low"]
    few = data["label_kinds"] <= min(_MOST_CLASSES, max(20, data.get("examples", 0) // 20))
    if data["label_whole"] and few and spread < 2 * data["label_kinds"] + 2:
        return "classes"
    return "quantities"


def last_layer(data: dict, outputs: int | None = None) -> str:
    """A sentence that names the last layer and the loss that fit these labels.

    Args:
        data: Facts of the training data, with those of its labels.
        outputs: Current width of the last layer, or None.
    """
    kind = kind_of_targets(data)
    if kind == "quantities":
        width = data["labels_shape"][-1] if data.get("labels_shape") else 1
        return (
            f"The targets are quantities ({data['label_low']:.4g} to {data['label_high']:.4g}): use "
            f"keras.layers.Dense({width}) without activation and loss='mse', on targets scaled to mean 0 and standard "
            "deviation 1."
        )
    if kind == "several":
        return (
            f"Use keras.layers.Dense({outputs or data['labels_shape'][-1]}, activation='sigmoid') with "
            "loss='binary_crossentropy': one answer for each class."
        )
    if kind == "one_hot":
        return (
            f"Use keras.layers.Dense({data['labels_shape'][-1]}, activation='softmax') with "
            "loss='categorical_crossentropy'."
        )
    if kind == "classes" and data["label_kinds"] > 2:
        classes = int(max(data["label_high"] + 1, data["label_kinds"]))
        return (
            f"Use keras.layers.Dense({classes}, activation='softmax') with loss='sparse_categorical_crossentropy' for "
            f"classes 0 to {classes - 1}."
        )
    if kind in ("binary", "classes") or outputs == 1:
        return "Use keras.layers.Dense(1, activation='sigmoid') with loss='binary_crossentropy', and labels 0 and 1."
    return (
        f"Use activation='softmax' for one class of {outputs or 'several'} with a categorical cross-entropy, or "
        "activation='sigmoid' with loss='binary_crossentropy' for several at once."
    )


def relabel(values: list[float] | None) -> str:
    """A sentence that says how to turn labels into 0 and 1.

    Args:
        values: The distinct labels in rising order, or None where they are too many.
    """
    if values == [-1.0, 1.0]:
        return "Train on (y + 1) / 2, which turns -1 and 1 into 0 and 1."
    if values and len(values) == 2 and values[1] - values[0] == 1:
        return f"Train on y - {values[0]:g}, which turns {values[0]:g} and {values[1]:g} into 0 and 1."
    if values and len(values) == 2:
        which = f"which turns {values[0]:g} and {values[1]:g} into 0 and 1"
        return f"Train on (y == {values[1]:g}).astype('float32'), {which}."
    return "Turn labels into 0 and 1, or use another loss if they are quantities or class numbers."


def look(data: dict, *, labels: bool = False) -> str:
    """The code that shows some examples, by the shape of an example.

    Args:
        data: Facts about the data.
        labels: Whether to show the labels as well.
    """
    shape = data.get("input_shape", ())
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "recipes.plot.grid(images, titles=labels)" if labels else "recipes.plot.grid(images)"
    return "print(x[:5], y[:5])" if labels else "print(x[:5])"


def scaling(data: dict) -> str:
    """A sentence that says how to scale inputs inside the model, by their shape and range.

    Args:
        data: Facts about the data.
    """
    shape = data.get("input_shape", ())
    low, high = data.get("min", -1.0), data.get("max", 1.0)
    if len(shape) == 3 and low >= 0 and 1 < high <= 255 and shape[-1] in (1, 3, 4):
        return (
            "Scale pixels inside the model, as its first layer: keras.layers.Rescaling(1 / 127.5, offset=-1)."
        )
    if (
        len(shape) == 1
        and data.get("whole_numbers")
        and low >= 0
        and high > 50
        and "int" in data.get("input_dtype", "")
    ):
        return (
            "Put keras.layers.Embedding(vocabulary_size, 16) first if the inputs are numbers of words, or "
            "keras.layers.Normalization() with adapt(x) if they are amounts."
        )
    return "Scale inside the model, as its first layer: keras.layers.Normalization() after adapt(x)."
