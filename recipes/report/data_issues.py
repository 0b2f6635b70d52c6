"""What is wrong with the labels and images of a run, for the report: doubtful labels, copies, faulty images."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import files_of, fresh_copy, pairs_of, reader_of, without_autotune
from recipes.common.types import Data
from recipes.diagnose.images.image_issues import KINDS, ImageIssues, image_issues
from recipes.diagnose.images.near_duplicates import Duplicates, near_duplicates, with_leaks
from recipes.diagnose.margins.label_issues import LabelIssues, label_issues
from recipes.report.summary import Leaks

_MOST_LOOKED_AT = 2000  # images of each part, for copies and faults
_PARTS = {"train": "training", "validation": "validation"}
_KINDS = {"mislabelled": "probably mislabelled"}
_SECONDS = 20.0  # for reading the images that are shown

_AMBIGUOUS = (
    "an ambiguous label is one that the network itself was long not sure of. Where there are many, that tells of the "
    "network more than of the labels; look at those shown, and change nothing that is right."
)


def data_issues(
    run: Any,
    train: Data | None,
    validation: Data | None,
    *,
    class_names: Sequence[str] | None,
    count: int,
    files: Mapping[str, Sequence[str]] | None = None,
    duplicates: Duplicates | None = None,
    guesses: bool = False,
) -> dict[str, Any] | None:
    """What the page says about labels and images, or None where there is nothing to look at.

    Args:
        run: As in `write_report`; its `examples` are used, where its steps gathered the margins.
        train: Its training data, for copies, faults and thumbnails; None shows doubtful labels without pictures.
        validation: Its validation data, for copies across both.
        class_names: Name of every class; None numbers them.
        count: Largest number of entries to show of each kind.
        files: Path of each example of "train" and "validation"; None numbers them.
        duplicates: What `near_duplicates` found of the first images of both; None looks here.
        guesses: Whether the network does no better than guessing, so that its doubts about labels mean nothing.

    Returns:
        A dict with "labels", "copies" and "faults", each None where there is nothing to say; "leaks", as `verdict`
        takes it; and "limit", the largest number of images of each part that were looked at.
    """
    train, validation = pairs_of(train), pairs_of(validation)
    doubtful = None
    if _has_margins(run) and not guesses:
        doubtful = _attempt(lambda: label_issues(run, class_names=class_names))
    several = validation is None or len(_pair(validation)) > 1
    twice = faults = None
    if train is not None:
        twice = duplicates or copies_in(train, validation if several else None, files)
        faults = _attempt(lambda: image_issues(_some(train)))
    if doubtful is None and twice is None and faults is None:
        return None
    wanted = {"train": set(), "validation": set()}
    for issue in doubtful.issues[:count] if doubtful else ():
        wanted["train"].add(issue.number)
    for pair in twice.pairs[:count] if twice else ():
        wanted[pair.first_part].add(pair.first)
        wanted[pair.second_part].add(pair.second)
    for issue in faults.issues[:count] if faults else ():
        wanted["train"].add(issue.number)
    pictures = {
        "train": _pictures(train, wanted["train"]),
        "validation": _pictures(validation, wanted["validation"]),
    }
    name = _names(files or {"train": files_of(train), "validation": files_of(validation)})
    return {
        "labels": _of_labels(doubtful, pictures, count, name),
        "copies": _of_copies(twice, pictures, count, class_names, name),
        "faults": _of_faults(faults, pictures, count, name),
        "leaks": _leaks(twice, validation),
        "limit": _MOST_LOOKED_AT,
        "doubted": len(doubtful.mislabelled) if doubtful else 0,
        "tables": _tables(run.settings or {}, doubtful is not None, validation is not None),
        "without": _without(run.settings or {}) if doubtful and len(doubtful.mislabelled) else None,
    }


def copies_in(
    train: Data, validation: Data | None, files: Mapping[str, Sequence[str]] | None = None
) -> Duplicates | None:
    """What `near_duplicates` finds among the first 2000 images of each part; None for data it cannot take.

    Args:
        train: As in `write_report`.
        validation: The same, or None.
        files: Path of each example of "train" and "validation", or None.
    """
    train, validation = pairs_of(train), pairs_of(validation)
    return _attempt(lambda: near_duplicates(_some(train), _some(validation), files=files))


def _tables(settings, labels, validation):
    """Code that writes all that was found into files."""
    parts = "train, validation" if validation or _is_loaded(settings) else "train"
    lines = ["import recipes", "from recipes import diagnose", _load(settings)]
    lines += [f'diagnose.label_issues({_of_run(settings)}).to_csv("labels.csv")'] if labels else []
    lines += [f'diagnose.near_duplicates({parts}).to_csv("copies.csv")']
    return "\n".join([*lines, 'diagnose.image_issues(train).to_csv("images.csv")'])


def _without(settings):
    """How to train without the mislabelled examples of a run: `{"said": words, "code": lines}`."""
    if settings.get("command"):
        words = shlex.split(settings["command"])
        words = [word for word in words if word not in ("--resume", "--force")]
        if "--out" in words[:-1]:
            words[words.index("--out") + 1] += "_2"
        return {
            "said": "delete or move the photos that are in the wrong folder, and type",
            "code": shlex.join(words),
        }
    how = {name: settings[name] for name in ("epochs", "batch_size") if isinstance(settings.get(name), int)}
    if isinstance(settings.get("learning_rate"), float):
        how["learning_rate"] = settings["learning_rate"]
    given = "train, validation, info=info" if _is_loaded(settings) else "train, validation"
    given += "".join(f", {name}={value!r}" for name, value in how.items())
    lines = [
        "import recipes",
        _load(settings),
        f"issues = recipes.diagnose.label_issues({_of_run(settings)})",
        "# model: a new one, built and compiled as for this run; give what else you gave to recipes.train",
        f"better = recipes.train(model, {given}, drop=issues)",
    ]
    return {"said": "", "code": "\n".join(lines)}


def _of_run(settings):
    return repr(str(settings["run_dir"])) if settings.get("run_dir") else "run"


def _is_loaded(settings):
    return settings.get("data") and (settings.get("train_data") or {}).get("kind") == "files"


def _load(settings):
    """The line that reads the data of a run as it did."""
    if not _is_loaded(settings):
        return "# train, validation: the data of this run, in the same order"
    how = [repr(str(settings["data"]))]
    how += [f"image_size={tuple(settings['image_shape'][:2])}"] if settings.get("image_shape") else []
    how += [f"fit={settings['fit']!r}"] if settings.get("fit") not in (None, "crop") else []
    words = shlex.split(settings.get("command") or "")
    how += [f"labels={words[words.index('--labels') + 1]!r}"] if "--labels" in words[:-1] else []
    how += ['on_error="skip"'] if "--skip-bad" in words else []
    how += [f"seed={settings['seed']}"] if words and settings.get("seed") else []
    more = "as for this run" if words else "and validation= and seed=, where you gave them"
    return f"train, validation, info = recipes.data.load({', '.join(how)})  # {more}"


def _leaks(twice, validation):
    """The `Leaks` of the copies; None where nobody looked across both."""
    if twice is None or validation is None or "validation" not in twice.labels:
        return None
    ends = {
        (part, number)
        for pair in twice.leaks
        for part, number in ((pair.first_part, pair.first), (pair.second_part, pair.second))
        if part == "validation"
    }
    said = tuple(pair.words() for pair in twice.leaks if pair.first_file and pair.second_file)
    return Leaks(len(ends), len(twice.labels["validation"]), said)


def _names(files):
    """A function `(part, number) -> str`: the last two parts of a path, or the number where no file is known."""

    def name(part, number):
        known = files.get(part, ())
        return _short(known[number]) if number < len(known) else None

    return name


def _short(file):
    return "/".join(Path(file).parts[-2:]) if file else None


def _has_margins(run):
    return getattr(run, "examples", None) is not None and bool(np.any(run.examples.times >= 2))


def _attempt(look: Callable[[], Any]) -> Any:
    """The result of a check of the data; None for data that the check cannot take, such as vectors or masks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return look()
    except (TypeError, ValueError, tf.errors.OpError):
        return None


def _pair(data):
    if isinstance(data, tf.data.Dataset):
        return data.element_spec if isinstance(data.element_spec, tuple) else (data.element_spec,)
    return data if isinstance(data, (tuple, list)) else (data,)


def _some(data):
    """The first images of the data."""
    if data is None or not isinstance(data, tf.data.Dataset):
        return data if data is None else tuple(part[:_MOST_LOOKED_AT] for part in data[:2])
    spec = data.element_spec[0] if isinstance(data.element_spec, tuple) else data.element_spec
    size = spec.shape[0] if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4 else 1
    return fresh_copy(data).take(-(-_MOST_LOOKED_AT // (size or 32)))


def _pictures(data: Data | None, numbers: Iterable[int]) -> dict[int, np.ndarray]:
    """The images with these numbers, as far as they are read in time."""
    numbers = sorted(numbers)
    if data is None or not numbers:
        return {}
    if not isinstance(data, tf.data.Dataset):
        return {number: np.asarray(data[0][number]) for number in numbers}
    if fresh_copy(data) is not data:  # it shuffles: the numbers belong to another pass
        return {}
    reader = reader_of(data)
    if reader is not None:
        places = tf.data.Dataset.from_tensor_slices(np.array(numbers, np.int64))
        return {n: image for n, (image, *_) in zip(numbers, reader(places).as_numpy_iterator(), strict=True)}
    found, wanted, place, start = {}, set(numbers), 0, time.monotonic()
    for element in without_autotune(data).as_numpy_iterator():
        image = element[0] if isinstance(element, tuple) else element
        images = image if image.ndim == 4 else image[None]
        found |= {n: images[n - place] for n in wanted if place <= n < place + len(images)}
        place += len(images)
        if len(found) == len(wanted) or time.monotonic() - start > _SECONDS:
            break
    return found


def _shown(pictures, part, number, alt):
    from recipes.plot.inline import image_data_url  # noqa: PLC0415 - brings matplotlib

    image = pictures[part].get(number)
    if image is None or image.ndim not in (2, 3):
        return None
    return {"source": image_data_url(np.nan_to_num(image.astype("float32"))), "alt": alt}


def _of_labels(found: LabelIssues | None, pictures, count, name):
    if found is None:
        return None
    rows = []
    for issue in found.issues[:count]:
        given, suggested = found.name_of(issue.given), found.name_of(issue.suggested)
        known = name("train", issue.number) or _short(issue.file) or issue.number
        alt = f"Training image {issue.number}, given {given}, suggested {suggested}"
        rows.append(
            {
                "pictures": [_shown(pictures, "train", issue.number, alt)],
                "caption": f"{known}: given {given}, suggested {suggested}",
                "reason": f"{_KINDS.get(issue.kind, issue.kind)}; {issue.reason}",
            }
        )
    rates = [
        (found.name_of(i), found.name_of(j), f"{found.noise[i, j]:.1%}")
        for i, j in zip(*np.nonzero(found.noise >= 0.005), strict=True)
        if i != j
    ]
    rates.sort(key=lambda row: -float(row[2].rstrip("%")))
    remarks = [("Caution", f"{found.caution()}.")] if found.caution() else []
    if found.issues and not len(found.mislabelled):
        remarks.append(("None is called wrong", _AMBIGUOUS))
    return {
        "said": found.table(0).partition("\n")[0],
        "rows": rows,
        "remarks": remarks,
        "rates": rates[:count]
        if len(found.mislabelled)
        else [],  # else sums of odds, none of which is enough
        "total": len(found.issues),
    }


def _of_copies(found: Duplicates | None, pictures, count, class_names, name):
    if found is None:
        return None
    rows = []
    for pair in found.pairs[:count]:
        why = ["a leak: in training and validation"] * pair.leak + ["two labels"] * pair.conflict
        why += ["mirrored"] * pair.mirrored
        ends = [
            (pair.first_part, pair.first, pair.first_label),
            (pair.second_part, pair.second, pair.second_label),
        ]
        named = [
            (name(part, number) or f"{part} {number}")
            + (f" in {_PARTS[part]}" if pair.leak and name(part, number) else "")
            + ("" if label is None else f" ({_class(label, class_names)})")
            for part, number, label in ends
        ]
        shown = [_shown(pictures, part, number, f"Image {number} of {part}") for part, number, _ in ends]
        rows.append({"pictures": shown, "caption": " = ".join(named), "reason": ", ".join(why)})
    remarks = [("What to do", f"{with_leaks(found.leaks)}.")] if found.leaks else []
    said = found.table(0).partition("\n")[0]
    return {"said": said, "rows": rows, "remarks": remarks, "rates": [], "total": len(found.pairs)}


def _class(number, class_names):
    named = class_names is not None and 0 <= number < len(class_names)
    return str(class_names[number]) if named else str(number)


def _of_faults(found: ImageIssues | None, pictures, count, name):
    if found is None:
        return None
    rows = [
        {
            "pictures": [_shown(pictures, "train", issue.number, f"Training image {issue.number}")],
            "caption": f"{name('train', issue.number) or issue.number}: {issue.kind.replace('_', ' ')}",
            "reason": KINDS[issue.kind],
        }
        for issue in found.issues[:count]
    ]
    remarks = [(kind.replace("_", " "), words) for kind, words in found.remarks.items()]
    said = found.table(0).partition("\n")[0]
    return {"said": said, "rows": rows, "remarks": remarks, "rates": [], "total": len(found.issues)}
