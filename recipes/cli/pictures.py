"""What `recipes check` says about the images of a folder and about their labels."""

import os
import time
from typing import Any

_MOST_LOOKED_AT = 2000  # images of each part
_WORST = 10
_TELLS = 0.7  # kappa from which a network on small gray pictures is believed: photos look alike in gray
_SIDE = 224  # pixels of the photos that a pretrained network is shown
# Kinds and remarks of `image_issues` that a network learns wrongly from; the others are only to be looked at.
_SERIOUS = {
    "corrupt_lower_half",
    "not_finite",
    "value_range",
    "channel_order",
    "spurious_border",
    "spurious_metadata",
}


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
    from recipes.diagnose.checks.printed_table import PrintedTable  # noqa: PLC0415 - the command starts without it

    if not info.files:  # of a data set by name, whose images are not files to correct
        return {}
    some = train.take(_MOST_LOOKED_AT)
    held_out = None if validation is None else validation.take(_MOST_LOOKED_AT)
    table = PrintedTable(True)
    with table:
        return _checked(table, some, held_out, info, model, compiled, seconds)


def _checked(table, some, held_out, info, model, compiled, seconds):
    from recipes import diagnose  # noqa: PLC0415 - the command starts without it

    table.begin("near_duplicates")
    twice = diagnose.near_duplicates(some, held_out, files=info.files)
    name = lambda part, number: info.files[part][number] if part in info.files else f"{part}[{number}]"  # noqa: E731
    pairs = [
        {
            "first": name(pair.first_part, pair.first),
            "second": name(pair.second_part, pair.second),
            "leak": pair.leak,
            "two_labels": pair.conflict,
            "mirrored": pair.mirrored,
            "words": pair.words(),
        }
        for pair in twice.pairs
    ]
    serious = any(pair["leak"] or pair["two_labels"] for pair in pairs)
    verdicts = {"near_duplicates": "warning" if serious else "info" if pairs else "ok"}
    _say(table, verdicts, "near_duplicates", twice.table(0).partition("\n")[0])
    _say_copies(table, pairs, twice)
    table.begin("image_issues")
    issues = diagnose.image_issues(some, files=info.files.get("train"))
    faults = [{"file": name("train", one.number), "kind": one.kind} for one in issues.issues]
    kinds = {one["kind"] for one in faults} | set(issues.remarks)
    verdicts["image_issues"] = "warning" if kinds & _SERIOUS else "info" if kinds else "ok"
    _say(
        table,
        verdicts,
        "image_issues",
        issues.table(0).partition("\n")[0].replace("images", "training images", 1),
    )
    for fault in faults[:_WORST]:
        table.say(f"  {_word(fault['kind'])}: {fault['file']}: {fault['kind'].replace('_', ' ')}")
    for kind, words in issues.remarks.items():
        table.say(f"  {_word(kind)}: {kind.replace('_', ' ')}: {words}")
    table.begin("label_issues")
    verdicts["label_issues"], said, labels = _labels(some, twice, info, model, compiled, seconds)
    _say(table, verdicts, "label_issues", said)
    for row in [row for row in labels if row["kind"] == "mislabelled"][:_WORST]:
        table.say(f"  warning: {row['file']}: given {row['given']}, looks like {row['suggested']}")
    doubted = [row for row in labels if row["kind"] == "ambiguous"]
    for row in doubted[:_WORST]:
        table.say(f"  info: {row['file']}: given {row['given']}, perhaps {row['suggested']}; look at it")
    if len(doubted) > _WORST:
        table.say(f"  info: and {len(doubted) - _WORST} more to look at, which --json lists")
    return {
        "duplicates": pairs,
        "issues": faults,
        "remarks": issues.remarks,
        "labels": labels,
        "verdicts": verdicts,
        "to_look_at": {"label_issues": len(doubted)} if doubted else {},
    }


def _say_copies(table, pairs, twice):
    """The first pairs by their files, and what to do with them."""
    from recipes.diagnose.images.near_duplicates import with_leaks  # noqa: PLC0415 - the command starts without it

    for pair in pairs[:_WORST]:
        why = ["leak"] * pair["leak"] + ["two labels"] * pair["two_labels"]
        table.say(
            f"  {'warning' if why else 'info'}: {pair['words']}" + (f"; {', '.join(why)}" if why else "")
        )
    if len(pairs) > _WORST:
        table.say(f"  and {len(pairs) - _WORST} more pairs; --json lists all")
    if twice.leaks:
        table.say(f"  what to do about a leak: {with_leaks(twice.leaks)}")
    if twice.conflicts:
        table.say(
            "  what to do about two labels: look at both, and delete the one in the wrong class, or move it"
        )


def _word(kind):
    return "warning" if kind in _SERIOUS else "info"


def _say(table, verdicts, name, result):
    table.say(f"{name:<26}{verdicts[name]:<9}{result}")


def _labels(some, twice, info, model, compiled, seconds):
    """`(verdict, result, rows)`: the labels that a small network, trained on parts of these images, contradicts."""
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes.diagnose.margins.label_issues import judge_labels  # noqa: PLC0415 - the command starts without it
    from recipes.diagnose.margins.quick_margins import quick_history  # noqa: PLC0415 - the command starts without it

    labels = twice.labels["train"]
    if info.task != "classification" or None in labels:
        return "info", "not looked at; they are no single classes", []
    seen_by = model if compiled else _pretrained(info)
    features = (
        _halved(twice.pictures["train"]) if seen_by is None else _features(some, seen_by, info, seconds / 2)
    )
    of_all = "" if len(features) == len(labels) else f" of {len(labels)}"
    if of_all:
        of_all += " (there was time for no more)"
    labels, count = np.array(labels[: len(features)], np.int64), len(features)
    classes = len(info.class_names)
    if count < 20 * classes:
        return "info", f"not looked at; {count}{of_all} images of {classes} classes are too few", []
    history = quick_history(features, labels, classes, seconds=seconds / 2)
    found = judge_labels(history, info.class_names)
    right = float(np.mean(history.margins > 0))
    network = "a small network on " + ("gray pictures" if seen_by is None else "features of a pretrained one")
    if not found.learned or (seen_by is None and found.agreement < _TELLS):
        little = (
            "no more" if found.agreement <= 0 else "little more" if not found.learned else "too little more"
        )
        return (
            "info",
            f"nothing can be said of {count}{of_all} images; {right:.0%} agree with {network}, which is {little} "
            f"than by chance (kappa {found.agreement:.2f}). The report of recipes train says more",
            [],
        )
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
    kinds = {row["kind"] for row in rows}
    said = found.table(0).partition("\n")[0].replace(f"{count} examples", f"{count}{of_all} examples", 1)
    verdict = "warning" if "mislabelled" in kinds else "info" if kinds else "ok"
    return verdict, f"{said}; {right:.0%} agree with {network}", rows


def _halved(pictures):
    """Means of 2 x 2 pixels, `(n, height / 2, width / 2)`."""
    count, height, width = pictures.shape
    return pictures.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4))


def _pretrained(info):
    """A pretrained model for color photos; None for others, and where the extra `pretrained` is not installed."""
    from recipes import models  # noqa: PLC0415 - the command starts without it

    files = info.files.get("train")
    if not files or not os.path.exists(files[0]) or info.image_shape[-1] != 3:
        return None
    try:
        backbone = models.efficientnet_lite0(include_top=False, input_shape=(_SIDE, _SIDE, 3))
    except ImportError:
        return None
    return models.transfer(backbone, len(info.class_names))


def _features(some, model, info, seconds):
    """The inputs of the last layer of a pretrained model, for as many images as there is time for."""
    import keras  # noqa: PLC0415 - the command starts without it
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes.common.models import output_layers  # noqa: PLC0415 - the command starts without it

    body = keras.Model(model.inputs, output_layers(model)[0].input)
    features, start = [], None  # the first batch compiles, which is not counted
    same = body.input_shape[1:] == tuple(info.image_shape)
    images = (x for x, _ in some.batch(32).as_numpy_iterator()) if same else _read_again(some, body, info)
    for batch in images:
        features.append(body.predict_on_batch(batch))
        start = start or time.monotonic()
        if time.monotonic() - start > seconds:
            break
    return np.concatenate(features)


def _read_again(some, body, info):
    """The photos of `some` from their files, in batches of the size that `body` takes."""
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes import data  # noqa: PLC0415 - the command starts without it

    files = info.files["train"][: int(some.cardinality())]
    size, how = body.input_shape[1:3], (info.fit or "crop", info.background)
    for begin in range(0, len(files), 32):
        yield np.stack([data.read_image(file, size, *how) for file in files[begin : begin + 32]])
