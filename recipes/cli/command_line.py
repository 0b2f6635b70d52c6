"""main: one command, and what becomes of its errors."""

import os
import shlex
import sys
from collections.abc import Sequence

from recipes.cli.arguments import parser
from recipes.cli.bad_input import BadInputError
from recipes.cli.resuming import began, kept_until, refused
from recipes.common.shell_words import in_shell_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: List of words, as in `sys.argv[1:]`, which None takes.

    Returns:
        0 when it worked; 1 for an error that `check` found, for an export that was refused, and where `predict` or
        `explain` left out photos that do not decode; 2 for input that cannot be used (one line on stderr) and wrong
        usage; 3 where `check` skipped checks; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        options.words = began(words)
        status = options.run(options)
    except (BadInputError, ValueError, TypeError, ImportError, OSError) as error:
        if hasattr(error, "before"):  # the refusal of another run's arguments
            error = refused(error, options, words, parser())
        print(f"recipes {options.command}: {in_shell_words(error)}", file=sys.stderr)
        return 2  # 1 is an error that was found
    except KeyboardInterrupt:
        print(f"recipes {options.command}: {_interrupted(options, words)}", file=sys.stderr)
        return 130
    return status or 0


def _interrupted(options, words):
    if options.command != "train":
        return "interrupted"
    if not (options.out / "run.json").exists():
        return "interrupted before the first step; nothing is left behind"
    return f"interrupted. {kept_until(options.out)}; go on with:\n{shlex.join([*began(words), '--resume'])}"
