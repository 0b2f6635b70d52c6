"""explain and pack: what works on files of images."""

import contextlib
import inspect
import json
import os
import sys
from argparse import Namespace
from pathlib import Path

from recipes.cli.bad_input import BadInputError, remarks_on_stderr
from recipes.cli.left_out import say_no_images
from recipes.cli.of_finished_runs import check_run_folder, ended_with_1
from recipes.cli.starting import load_keras
from recipes.common.nearest import did_you_mean, nearest, nearest_path
from recipes.common.shell_words import in_shell_words

_BATCH = 64
_SOURCE = "Source"  # a text that a PNG may hold


def explain(options: Namespace) -> int:
    """Write a picture for each image, with the evidence for its class, and for the true one where that is another.

    The true class is known where the image lies in a folder that is named like a class.

    Args:
        options: `model`, `best`, `images`, `out`, `method`, `target` (the number of a class, or its name), `json`,
            `skip_bad`, of `recipes explain`.

    Returns:
        The status of the command: 0, or 1 where photos were left out, unless `skip_bad`.

    Raises:
        BadInputError: where there is no model, for images that do not decode, and for a target that is no class.
    """
    path = (
        options.model / ("best.keras" if options.best else "model.keras")
        if options.model.is_dir()
        else options.model
    )
    if options.model.is_dir():
        if not path.exists():
            check_run_folder(options.model)
            raise BadInputError(f"expects {path} with --best. Received a run without it. Leave --best out")
    elif not path.exists():
        is_model = lambda one: one.endswith(".keras") or (Path(one) / "model.keras").exists()  # noqa: E731
        raise BadInputError(
            f"expects a model. Received {path}, which does not exist. Correct the path, such as runs/train or "
            f"model.keras.{did_you_mean(nearest_path(path, is_model))}"
        )
    load_keras(f"recipes explain: loading {path}")
    import keras  # noqa: PLC0415 - the command starts without it
    import numpy as np  # noqa: PLC0415 - the command starts without it

    # A saved network may hold layers and others of ours, which Keras finds once they are imported.
    import recipes.evaluate  # noqa: PLC0415 - the command starts without it
    import recipes.initialize  # noqa: PLC0415 - the command starts without it
    import recipes.layers  # noqa: PLC0415 - the command starts without it
    import recipes.optimizers  # noqa: PLC0415 - the command starts without it
    import recipes.preprocess  # noqa: F401, PLC0415 - the command starts without it
    from recipes import plot  # noqa: PLC0415 - the command starts without it
    from recipes.common.files import json_text  # noqa: PLC0415 - the command starts without it

    with contextlib.redirect_stdout(sys.stderr):
        model = keras.saving.load_model(path, safe_mode=True)
    say_no_images(options.command, options.images)
    results, bad, names = [], [], _class_names(path, model.outputs[0].shape[-1])
    target = _target(options.target, names)
    for files, images in _images(model, path, options.images, bad):
        options.out.mkdir(parents=True, exist_ok=True)
        predicted = np.asarray(model.predict_on_batch(images))
        shown = [_classes(scores, target, file, names) for scores, file in zip(predicted, files, strict=True)]
        maps, layer = _maps(model, images, options.method, target, shown)
        if layer is not None and not results:
            print(f"recipes explain: {options.method} at layer {layer}", file=sys.stderr)
        for file, image, found, scores, classes in zip(files, images, maps, predicted, shown, strict=True):
            title, facts = _words(scores, names, target, classes[2])
            # Stored in the picture, so that only a picture of the same model, image and class is replaced.
            source = json.dumps([os.path.abspath(path), os.path.abspath(file), target])
            written = _unused(options.out, Path(file).stem, options.method, source)
            above = f"{os.path.join(*Path(file).parts[-2:])}: {title}"
            if len(found) == 1:
                drawn = plot.overlay(image, found[0], layer=layer, title=above)
            else:
                told = [_evidence(scores, number, names, classes) for number in classes[:2]]
                layers = None if layer is None else dict.fromkeys(told, f"layer {layer}")
                drawn = plot.attributions(
                    image, dict(zip(told, found, strict=True)), layers=layers, title=above, size=2.8
                )
            drawn.savefig(written, dpi=100, metadata={_SOURCE: source})
            results.append({"file": file, "picture": str(written), **facts, "layer": layer})
            if not options.json:
                print(f"{written}: {title}")
    if options.json:
        print(json_text(results + bad))
    if bad and not options.skip_bad:
        print(f"recipes explain: {ended_with_1(len(bad))}", file=sys.stderr)
    return 1 if bad and not options.skip_bad else 0


def _target(given, names):
    """The number of the class to explain; None for the predicted one."""
    if given is None or given in names:
        return names.index(given) if given else None
    number = int(given) if given.isdecimal() else len(names)
    if number >= len(names):
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise BadInputError(
            f"expects --target to be the name of a class ({shown}) or its number, 0 to {len(names) - 1}. Received "
            f"{given}. Leave --target out to explain the predicted class.{did_you_mean(nearest(given, names))}"
        )
    return number


def _classes(scores, target, file, names):
    """`(first class to explain, second one or None, true class or None)` of an image."""
    folder = Path(file).resolve().parent.name
    truth = names.index(folder) if folder in names else None
    if len(scores) == 1:  # one unit for two classes
        return None, None, None
    best = int(scores.argmax())
    if target is not None:
        return target, best if target != best else None, truth
    return best, truth if truth != best else None, truth


def _maps(model, images, name, target, shown):
    """`([maps of each image], name of the layer they were taken at)`, the name None for a method of no layer."""
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes import explain  # noqa: PLC0415 - the command starts without it

    method = getattr(explain, name)
    layered = "return_layer" in inspect.signature(method).parameters
    options = {"verbose": 0} | ({"return_layer": True} if layered else {})
    first = method(model, images, target, **options)
    maps, layer = first if layered else (first, None)
    made = [[map_] for map_ in maps]
    two = [place for place, (_, second, _) in enumerate(shown) if second is not None]
    if two:
        others = method(model, images[two], np.array([shown[place][1] for place in two]), **options)
        for place, map_ in zip(two, others[0] if layered else others, strict=True):
            made[place].append(map_)
    return made, layer


def _evidence(scores, number, names, classes):
    """What stands over one of two maps."""
    share = f" {scores[number]:.0%}" if _are_shares(scores) else ""
    role = (
        "the answer"
        if number == int(scores.argmax())
        else "the true class"
        if number == classes[2]
        else "asked for"
    )
    return f"evidence for {names[number]}{share}\n({role})"


def _images(model, path, given, bad):
    """`(files, images)`, up to 64 at a time; a model of any size gets one at a time. Files left out go into `bad`."""
    import numpy as np  # noqa: PLC0415 - the command starts without it

    from recipes import data  # noqa: PLC0415 - the command starts without it
    from recipes.data.find_files import find_files  # noqa: PLC0415 - the command starts without it
    from recipes.data.read import why_left_out  # noqa: PLC0415 - the command starts without it

    height, width, channels = model.inputs[0].shape[1:]
    size, settings = (height, width) if height and width else None, _settings(path)
    # As in training, where that is known.
    how = {
        "fit": settings.get("fit") or "crop",
        "background": tuple(settings.get("background") or ()) or "white",
    }
    files, batch, found = find_files(given), [], 0
    for number, file in enumerate(files):
        try:
            batch.append((file, data.read_image(file, size, channels=channels, **how)))
            found += 1
        except (ValueError, OSError, ImportError) as error:
            if given == [file]:
                raise BadInputError(in_shell_words(error)) from error
            bad.append({"file": file, "error": in_shell_words(why_left_out(error, file))})
            print(f"recipes explain: left out {file}: {bad[-1]['error']}", file=sys.stderr)
        if batch and (size is None or len(batch) == _BATCH or number == len(files) - 1):
            yield [file for file, _ in batch], np.stack([image for _, image in batch])
            batch = []
    if not found:
        raise BadInputError(
            f"expects at least one image that decodes. Received {len(files)} files that do not. Give other files"
        )


def _are_shares(scores):
    return scores.min() >= 0 and abs(scores.sum() - 1) < 1e-2  # logits are not probabilities


def _words(scores, names, target, truth=None):
    """The title of a picture, and the same for JSON."""
    best = int(scores.argmax())
    is_share = _are_shares(scores)
    guess = f"{names[best]} {scores[best]:.0%}" if is_share else names[best]
    other = target is not None and target != best
    unsure = is_share and scores[best] < 0.9 and len(scores) > 1
    second = int(scores.argsort()[-2]) if unsure else best
    if other:
        title = f"{names[target]}, predicted {guess}"
    else:
        title = f"{guess}, then {names[second]} {scores[second]:.0%}" if unsure else guess
    if truth is not None:
        title += "; right" if truth == best else f"; is {names[truth]}"
    confidence = float(scores[best]) if is_share else None
    return title, {
        "label": names[best],
        "confidence": confidence,
        "truth": None if truth is None else names[truth],
    }


def _unused(folder, stem, method, source):
    """A file name that no picture of something else has."""
    path, number = folder / f"{stem}.{method}.png", 2
    while path.exists() and _source_of(path) != source:
        path, number = folder / f"{stem}-{number}.{method}.png", number + 1
    return path


def _source_of(picture):
    from PIL import Image  # noqa: PLC0415 - the command starts without it

    try:
        with Image.open(picture) as image:
            return image.info.get(_SOURCE)
    except OSError:
        return None


def _settings(model_path):
    """What run.json beside a model that `recipes.train` saved holds, else an empty dictionary."""
    file = model_path.parent / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _class_names(model_path, classes):
    """Names from the run.json beside a model that `recipes.train` saved, else "class 0", "class 1" ..."""
    names = _settings(model_path).get("class_names")
    if names is None or len(names) != classes:
        return [f"class {number}" for number in range(classes)]
    return names


def pack(options: Namespace) -> None:
    """Decode a folder ahead, into one file, and print its size.

    Args:
        options: `data`, `file`, `image_size` (`(height, width)` or one side, in pixels), `fit`, `labels`, `skip_bad`,
            `json`, of `recipes pack`.

    Raises:
        ValueError: for files that do not decode, unless `skip_bad`, and what else `recipes.data.pack` refuses.
    """
    load_keras("recipes pack: loading TensorFlow")
    from recipes import data  # noqa: PLC0415 - the command starts without it

    say_no_images(options.command, [options.data], [options.labels])
    with remarks_on_stderr():
        info = data.pack(
            options.data,
            options.file,
            options.image_size,
            fit=options.fit,
            labels=options.labels,
            on_error="skip" if options.skip_bad else "raise",
        )
    size, count = os.path.getsize(options.file), sum(info.counts.values())
    facts = {"file": options.file, "images": count, "bytes": size, "classes": len(info.class_names)}
    said = f"{options.file}: {count} images of {len(info.class_names)} classes, {size / 1e6:.1f} MB"
    print(json.dumps(facts) if options.json else said)
