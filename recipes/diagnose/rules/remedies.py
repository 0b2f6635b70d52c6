"""What to type: remedies that fit the task, the number of units, the labels and the inputs."""

from typing import Literal

from recipes.diagnose.rules.words import typed

TargetKind = Literal["binary", "classes", "several", "one_hot", "quantities", "unknown"]
_MOST_CLASSES = 1000
# Rates and decays that are usual with an optimizer.
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
    """A learning rate that is usual with an optimizer, by the name of its class; None of one of the user's own."""
    return _USUAL_RATE.get(optimizer)


def usual_decay(optimizer: str | None) -> float:
    """A weight decay that is usual with an optimizer, by the name of its class."""
    return _USUAL_DECAY.get(optimizer, 1e-2)


def lower_rate(rate: float, optimizer: dict) -> str:
    """How far to lower a rate that is too high, as a sentence: to what is usual, or to a tenth of a usual one.

    Args:
        rate: The rate, >= 0.
        optimizer: Of `run_facts.describe_optimizer`; a large momentum is lowered first.
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
    """How far to raise a rate at which steps change weights too little: to what is usual, or to 0.1 % a step.

    Args:
        rate: The learning rate as it is.
        ratio: |dW| / |W| of a step as it is, above 0.
        optimizer: The facts about it; its "name", if known.
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
    """What the labels of a data set are, judged by themselves and not by the loss.

    Args:
        data: The facts about its labels, as `recipes.diagnose.rules.data_facts.label_facts` gives them.

    Returns:
        "binary" for two values, "classes" for whole numbers of a few kinds, "one_hot" and "several" for rows with one
        and with several classes, "quantities", or "unknown".
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
    """The last layer and the loss that fit these labels, as a sentence of what to type.

    Args:
        data: Facts of the training data, with those of its labels.
        outputs: Width of the last layer as it is, or None.
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
    """How to turn labels into 0 and 1, or into class numbers from 0, by their values in rising order, or None."""
    if values == [-1.0, 1.0]:
        return "Train on (y + 1) / 2, which turns -1 and 1 into 0 and 1."
    if values and len(values) == 2 and values[1] - values[0] == 1:
        return f"Train on y - {values[0]:g}, which turns {values[0]:g} and {values[1]:g} into 0 and 1."
    if values and len(values) == 2:
        which = f"which turns {values[0]:g} and {values[1]:g} into 0 and 1"
        return f"Train on (y == {values[1]:g}).astype('float32'), {which}."
    return "Turn labels into 0 and 1, or use another loss if they are quantities or class numbers."


def look(data: dict, *, labels: bool = False) -> str:
    """What to type to look at some examples, by what they are."""
    shape = data.get("input_shape", ())
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "recipes.plot.grid(images, titles=labels)" if labels else "recipes.plot.grid(images)"
    return "print(x[:5], y[:5])" if labels else "print(x[:5])"


def scaling(data: dict) -> str:
    """How to scale inputs inside the model, by what they are."""
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
