"""The error of the shell, and errors of the library in the shell's words."""

import re
from collections.abc import Callable
from typing import Any, TextIO


class BadInputError(Exception):
    """Something the user gave cannot be used; its text is the one line they get."""


# No part of another word, and no key of a configuration that Keras prints.
_OWN = r"(?<![\w'\"])"
# What a message says in Python, and what the same is in the shell.
_WORDS = (
    (r"recipes\.train\(\.\.\., run_dir=[^)]*, resume=True\)", "recipes train DATA --out FOLDER --resume"),
    (r"recipes\.load_run\(folder\)", "recipes predict FOLDER"),
    (r"type resume=(['\"])force\1", "type --resume --force"),
    (r"resume=(['\"])force\1", "--resume --force"),
    (r"resume=True", "--resume"),
    (r"resume=False", "no --resume"),
    (r"(?<![\w.-])resume expects", "--resume expects"),
    (r"a (new )?run_dir\b", r"a \1folder for --out"),
    (r"another run_dir\b", "another --out"),
    (r"run_dir=?", "--out"),
    (r"image_size=\(", "--image-size ("),
    (_OWN + r"image_size(=(\d+))?", lambda match: f"--image-size {match[2] or ''}".rstrip()),
    (_OWN + r"batch_size(=(\d+))?", lambda match: f"--batch-size {match[2] or ''}".rstrip()),
    (_OWN + r"learning_rate(=([\d.e-]+))?", lambda match: f"--learning-rate {match[2] or ''}".rstrip()),
    (r"on_error=(['\"])skip\1", "--skip-bad"),
    (r"(?<![\w.])labels=", "--labels "),
    (r"(?<![\w.])fit=(['\"])(\w+)\1", r"--fit \2"),
    (r"(examples|calibrated)=\(images, labels\), or a tf\.data\.Dataset of such pairs", "--data FOLDER"),
    (r"int8=True", "--int8"),
    (r"calibrated=True", "--calibrate"),
    (r"recipes\.compare\(\['runs/a', 'runs/b'\]\)", "recipes compare runs/a runs/b"),
    (r"leave target out", "leave --target out"),
    (r"--labels r'", "--labels '"),
    (r"epochs=(\d+)", r"--epochs \1"),
    (r"\bdata\.load\((['\"])([^'\")]*)\1\)", r"\2"),
    (r"^((recipes|data|Run|evaluate)(\.\w+)*|export) (keeps|expects)", r"\4"),
)


def in_shell_lines(text: str) -> str:
    """The same for a text whose lines stay as they are."""
    for pattern, words in _WORDS[:-1]:  # the last takes a name away from the beginning of an error
        text = re.sub(pattern, words, text)
    return text


def in_shell_words(error: BaseException | str) -> str:
    """A message as one line, with options in place of arguments: `--resume`, not `resume=True`."""
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text


# What the checks print for Python. Only whole phrases: a bar of Keras, printed between them, says "learning_rate: 0.1".
_RUNS_ALL = re.compile(r"recipes\.diagnose\.preflight\(model, train, seconds=(\d+)\)")
_RUNS_ONE = re.compile(r"; recipes\.diagnose\.\w+\(model, train\) runs it")
_RATE = re.compile(_OWN + r"learning_rate=([\d.e-]*\d)")
_TRAINS = "recipes.train(preflight=True) and recipes.diagnose.preflight run them, in a shell recipes check"
_TRIES = re.compile(
    r"preflight=\"try\" has these remedies tried on copies of the model first, for at most \d+ s\."
)


class InShellWords:
    """A stream that writes what the checks print with the command of the shell in place of calls in Python.

    Args:
        stream: Where it is written.
        command: Gives the `recipes check` of the same data, with these further options.
    """

    def __init__(self, stream: TextIO, command: Callable[..., str]) -> None:
        self._stream, self._command = stream, command

    def write(self, text: str) -> int:
        """Write a text, as `sys.stdout.write`."""
        command = self._command
        told = _RATE.sub(r"--learning-rate \1", text)
        if "recipes." in text or "preflight=" in text:
            told = _RUNS_ALL.sub(lambda match: command("--seconds", match[1]), _RUNS_ONE.sub("", told))
            told = told.replace(_TRAINS, f"{command()} runs them")
            told = _TRIES.sub(
                lambda _: f"{command('--try')} has these remedies tried on copies of the model.", told
            )
        self._stream.write(told)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
