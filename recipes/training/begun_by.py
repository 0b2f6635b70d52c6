"""The command of the shell that a run is begun with, for `run.json` and for whoever goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_COMMAND: ContextVar[str | None] = ContextVar("recipes_command", default=None)


@contextmanager
def begun_by(words: Sequence[str]) -> Iterator[None]:
    """Within this context, `recipes.train` notes these words in `run.json`.

    Args:
        words: What was typed: ["recipes", "train", "my photos"].
    """
    token = _COMMAND.set(shlex.join(words))
    try:
        yield
    finally:
        _COMMAND.reset(token)


def command() -> str | None:
    """What was typed, as one line that can be typed again; None outside of `begun_by`."""
    return _COMMAND.get()
