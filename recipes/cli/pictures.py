"""What `recipes check` says about the images of a folder and about their labels."""

import time
from typing import Any

_MOST_LOOKED_AT = 2000  # images of each part
_WORST = 10


def pictures_checked(
    train: Any, validation: Any, info: Any, model: Any, compiled: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Print the ten worst copies, faults and doubtful labels by their files, and return the same as plain values.

    Args:
        train: As from `data.load`.
        validation: The same, or None.
        info: The `DatasetInfo`.
        model: A model for these images; the features of a pretrained one tell more about labels than the pixels do.
        compiled: How the model will be compiled; empty for one without pretrained weights.
        seconds: Largest number of seconds to spend on labels.
    """
    from recipes import diagnose  # noqa: PLC0415 - the command starts without it

    if not info.files:  # of a data set by name, whose images are not files to correct
        return {}
    some = train.take(_MOST_LOOKED_AT)
    held_out = None if validation is None else validation.take(_MOST_LOOKED_AT)
    twice, issues = (
        diagnose.near_duplicates(some, held_out),
        diagnose.image_issues(some, files=info.files.get("train")),
    )
    name = lambda part, number: info.files[part][number] if part in info.files else f"{part}[{number}]"  # noqa: E731
    pairs = [
        {
            "first": name(pair.first_part, pair.first),
            "second": name(pair.second_part, pair.second),
            "leak": pair.leak,
            "two_labels": pair.conflict,
        }
        for pair in twice.pairs
    ]
    faults = [{"file": name("train", one.number), "kind": one.kind} for one in issues.issues]
    print(twice.table(0).partition("\n")[0])
    for pair in pairs[:_WORST]:
        why = ["leak"] * pair["leak"] + ["two labels"] * pair["two_labels"]
        print(f"  {pair['first']} = {pair['second']}" + (f" ({', '.join(why)})" if why else ""))
    print(issues.table(0).partition("\n")[0])
    for fault in faults[:_WORST]:
        print(f"  {fault['file']}: {fault['kind'].replace('_', ' ')}")
    for kind, words in issues.remarks.items():
        print(f"  {kind.replace('_', ' ')}: {words}")
    labels = _labels(some, twice, info, model, compiled, seconds)
    return {"duplicates": pairs, "issues": faults, "remarks": issues.remarks, "labels": labels}


def _labels(some, twice, info, model, compiled, seconds):
    """Print the labels that a small network, trained on parts of these images in turn, contradicts."""
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes.diagnose.margins.label_issues import judge_labels  # noqa: PLC0415 - the command starts without it
    from recipes.diagnose.margins.quick_margins import quick_history  # noqa: PLC0415 - the command starts without it

    labels = twice.labels["train"]
    if info.task != "classification" or None in labels:
        return []
    features = _features(some, model, seconds / 2) if compiled else _halved(twice.pictures["train"])
    labels, count = np.array(labels[: len(features)], np.int64), len(features)
    classes = len(info.class_names)
    if count < 20 * classes:
        print(f"labels: not looked at; {count} images of {classes} classes are too few")
        return []
    history = quick_history(features, labels, classes, seconds=seconds / 2)
    found = judge_labels(history, info.class_names)
    right = float(np.mean(history.margins > 0))
    if not found.learned:
        print(
            f"labels: nothing can be said; {right:.0%} agree with a small network, which is little more than by chance "
            f"(kappa {found.agreement:.2f}). Train, then recipes.diagnose.label_issues(run) says more"
        )
        return []
    print(f"labels: {found.table(0).partition(chr(10))[0]}; {right:.0%} agree with a small network")
    files = info.files.get("train")
    rows = [
        {
            "file": files[one.number] if files else f"train[{one.number}]",
            "given": found.name_of(one.given),
            "suggested": found.name_of(one.suggested),
            "kind": one.kind,
            "chance": round(one.chance, 3),
        }
        for one in found.issues
    ]
    for row in [row for row in rows if row["kind"] == "mislabelled"][:_WORST]:
        print(f"  {row['file']}: given {row['given']}, looks like {row['suggested']}")
    return rows


def _halved(pictures):
    """Means of 2 x 2 pixels, `(n, height / 2, width / 2)`."""
    count, height, width = pictures.shape
    return pictures.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4))


def _features(some, model, seconds):
    """The inputs of the last layer of a pretrained model, for as many images as there is time for."""
    import keras  # noqa: PLC0415 - the command starts without it
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes.common.models import output_layers  # noqa: PLC0415 - the command starts without it

    body = keras.Model(model.inputs, output_layers(model)[0].input)
    features, start = [], time.monotonic()
    for images, _ in some.batch(32).as_numpy_iterator():
        features.append(body.predict_on_batch(images))
        if time.monotonic() - start > seconds:
            break
    return np.concatenate(features)
