"""What is said about a run that was interrupted: the line that goes on with it, and what is other in another line."""

import json
import os
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.cli.bad_input import BadInputError

# What may be typed otherwise on --resume, and what is no option.
_FREE = {"command", "run", "out", "resume", "force", "quiet", "json", "skip_bad"}


def facts_of(folder: Path) -> dict[str, Any]:
    """What run.json in a folder says; empty without one that can be read."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def began(words: Sequence[str]) -> list[str]:
    """The words of `recipes train ...` that begin a run: without what only goes on with one."""
    return ["recipes", *(word for word in words if word not in ("--resume", "--force"))]


def line_of(folder: Path, data: Sequence[str] = (), epochs: int | None = None) -> str:
    """The line that goes on with the run in a folder: the one that began it, or what run.json tells of it.

    Args:
        folder: As it was typed now; a run that was begun from another working folder has another path in its line.
        data: What that line has as its data, and what stands for it now.
        epochs: More than it was begun with; None for as many.
    """
    facts = facts_of(folder)
    if isinstance(facts.get("command"), str):
        words = shlex.split(facts["command"])
        if data and data[0] in words:
            words[words.index(data[0])] = data[1]
        for place, word in enumerate(words):
            if word == "--out" and place + 1 < len(words):
                words[place + 1] = str(folder)
            elif word.startswith("--out="):
                words[place] = f"--out={folder}"
        if epochs is not None:
            words = with_options(words, {"--epochs": str(epochs)})
        return shlex.join([*words, "--resume"])
    words = ["recipes", "train", str(facts.get("data") or "DATA"), "--out", str(folder)]
    if facts.get("image_shape"):
        words += ["--image-size", ",".join(map(str, dict.fromkeys(facts["image_shape"][:2])))]
    if facts.get("epochs"):
        words += ["--epochs", str(facts["epochs"])]
    return shlex.join([*words, "--resume"])


def with_options(words: Sequence[str], options: dict[str, str | None]) -> list[str]:
    """The words of a command with these options in place of its own; None leaves an option out."""
    kept, skip = [], False
    for word in words:
        if not skip and word.partition("=")[0] not in options:
            kept.append(word)
        skip = not skip and word in options
    return kept + [word for name, value in options.items() if value is not None for word in (name, value)]


def kept_until(folder: Path) -> str:
    """How far the newest backup in a folder has come, as a sentence without its stop."""
    from recipes.checkpoints.backup_file import newest_whole, read_backup  # noqa: PLC0415 - the command starts without it
    from recipes.checkpoints.kept_backups import Keep, KeptBackups  # noqa: PLC0415 - the command starts without it

    try:
        file, _ = newest_whole(KeptBackups(folder, Keep()).files())
    except ValueError:
        return "No backup that is kept can be read"
    if file is None:
        return "No epoch was done yet, so training will begin anew"
    about = read_backup(file)
    done, batch, epochs = about["epoch"], about["batch"], facts_of(folder).get("epochs")
    of = f" of {epochs}" if epochs else ""
    if epochs and done >= epochs:
        return f"All {epochs} epochs are kept"
    if batch:
        return f"What was trained is kept up to step {batch} of epoch {done + 1}{of}, where it will go on"
    if not done:
        return "No epoch was done yet, so training will begin anew"
    return f"What was trained is kept up to the end of epoch {done}{of}; it will go on with epoch {done + 1}"


def refused(
    error: Exception, options: Namespace, words: Sequence[str], parser: ArgumentParser
) -> BadInputError:
    """The error for `--resume` with other arguments than the run was begun with, in what was typed.

    Args:
        error: The `training.run_folder.OtherRunError`.
        options: Of the command that was refused.
        words: The same as they were typed.
        parser: That of all commands.
    """
    before, now, named, data, epochs = error.before, error.now, list(error.named), (), None
    typed = before.get("command")
    if isinstance(typed, str):
        try:
            then = vars(parser.parse_args(shlex.split(typed)[1:]))
        except SystemExit:  # of a version with other options
            then = None
        if then is not None:
            same = before.get("train_data") is not None and before["train_data"] == now.get("train_data")
            named = _changes(then, vars(parser.parse_args(list(words))), same) or named
            data = (then["data"], options.data) if same or _is_same(then["data"], options.data) else ()
            typed_epochs = any(word.partition("=")[0] == "--epochs" for word in words)
            epochs = options.epochs if typed_epochs and options.epochs > then["epochs"] else None
    goes_on = before.get("architecture") == now.get("architecture")
    advice = f"Go on with: {line_of(options.out, data, epochs)}"
    if goes_on and not options.force:
        advice += "; or add --force to your line, to go on with the new ones"
    return BadInputError(
        f"expects the arguments, model and data of the run in {options.out} with --resume. Received others: "
        f"{'; '.join(named)}. {advice}; or begin a new run with another --out"
    )


def _is_same(one, other):
    """Whether two paths of data name one folder: `photos` and `photos/`, or one seen from another working folder."""
    one, other = (os.path.abspath(str(path)) for path in (one, other))
    return one == other or os.path.basename(one) == os.path.basename(other) and not os.path.exists(one)


def _changes(then, now, same_data):
    changes = []
    for name, value in now.items():
        before = then.get(name)
        fine = name in _FREE or before == value or (name == "epochs" and value >= (before or 0))
        if name == "data":
            fine = same_data or _is_same(before, value)
        if not fine:
            word = "the data" if name == "data" else f"--{name.replace('_', '-')}"
            changes.append(f"{word} was {_said(before)}, is {_said(value)}")
    return changes


def _said(value):
    if value is None:
        return "not given"
    if isinstance(value, list):  # of --unfreeze
        return ", ".join(f"{epochs}:{','.join(names)}" for epochs, names in value)
    return str(value)
