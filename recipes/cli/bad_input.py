"""The error of the shell, and errors of the library in the shell's words."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from recipes.common.shell_words import OWN, in_shell_lines


class BadInputError(Exception):
    """Something the user gave cannot be used; its text is the one line they get."""


# What the checks print for Python. Only whole phrases: a bar of Keras, printed between them, says "learning_rate: 0.1".
_RUNS_ALL = re.compile(r"recipes\.diagnose\.preflight\(model, train, seconds=(\d+)\)")
_RUNS_ONE = re.compile(r"; recipes\.diagnose\.\w+\(model, train\) runs it")
_RANGE_TEST = re.compile(r"recipes\.diagnose\.learning_rate_range_test(?!\()")
_RATE = re.compile(OWN + r"learning_rate=([\d.e-]*\d)")
_TRAINS = "recipes.train(preflight=True) and recipes.diagnose.preflight run them, in a shell recipes check"
_TRIES = re.compile(
    r"preflight=\"try\" has these remedies tried on copies of the model first, for at most \d+ s\."
)


class ShellLines:
    """A stream that writes remarks of `recipes.data` and `recipes.train` in the words of the shell.

    Args:
        stream: Where it is written. Bars of Keras, which are written between, stay as they are.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, as `sys.stdout.write`."""
        ours = text.startswith(("data.load: ", "recipes.train: "))
        self._stream.write(in_shell_lines(text).removeprefix("data.load: ") if ours else text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def remarks_on_stderr() -> Iterator[None]:
    """Within this context what `recipes.data` and Keras print goes to stderr, where no result is, in shell words."""
    told: Any = ShellLines(sys.stderr)
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        yield


class InShellWords(ShellLines):
    """A stream that writes what the checks print with the command of the shell in place of calls in Python.

    Args:
        stream: Where it is written.
        command: Gives the `recipes check` of the same data, with these further options.
    """

    def __init__(self, stream: TextIO, command: Callable[..., str]) -> None:
        super().__init__(stream)
        self._command, self._told = command, ""

    def told(self, text: str) -> bool:
        """Whether a text that the doctor would print was printed, and where the user of `print` sees it too."""
        return text in self._told and same_place(self._stream, sys.stdout)

    def write(self, text: str) -> int:
        """Write a text, as `sys.stdout.write`."""
        command = self._command
        if text.startswith("\nTrainingDoctor: an epoch takes "):
            return len(text)  # the report has a section on it
        told = _RATE.sub(r"--learning-rate \1", text)
        told = _RANGE_TEST.sub(lambda _: self._command(), told)
        if "recipes." in text or "preflight=" in text:
            told = _RUNS_ALL.sub(lambda match: command("--seconds", match[1]), _RUNS_ONE.sub("", told))
            told = told.replace(_TRAINS, f"{command()} runs them")
            told = _TRIES.sub(
                lambda _: f"{command('--try')} has these remedies tried on copies of the model.", told
            )
        if text.startswith("\nTrainingDoctor: "):
            self._told += text
            told = in_shell_lines(told)
        super().write(told)
        return len(text)


def same_place(one: TextIO, other: TextIO) -> bool:
    """Whether two streams are written to the same terminal or file."""
    try:
        return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
    except (OSError, ValueError, AttributeError):  # streams that are no files
        return False
