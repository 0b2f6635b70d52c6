"""main: one command, and what becomes of its errors."""

import os
import shlex
import sys
from collections.abc import Sequence

from recipes.cli.arguments import parser
from recipes.cli.bad_input import BadInputError, in_shell_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: List of words, as in `sys.argv[1:]`, which None takes.

    Returns:
        0 when it worked; 1 for an error that `check` found, and for an export that was refused; 2 for input that cannot
        be used (one line on stderr) and wrong usage; 3 where `check` skipped checks; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = options.run(options)
    except (BadInputError, ValueError, TypeError, ImportError, OSError) as error:
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
    words = [word for word in words if word != "--resume"]
    kept = any(options.out.glob("*.npz"))  # a backup
    said = "What was trained is kept" if kept else "No epoch was done yet, so training will begin anew"
    return f"interrupted. {said}; go on with: recipes {shlex.join([*words, '--resume'])}"
