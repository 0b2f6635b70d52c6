"""The table of checks, printed as they run."""

import textwrap

from recipes.diagnose.checks.verdict import Check

HEAD = f"{'check':<26}{'verdict':<9}result"


def row_of(check: Check) -> str:
    """Name, verdict and result of a check in one line, and its remedy in the lines below."""
    remedy = check.remedy and textwrap.wrap(
        check.remedy, 100, initial_indent=" " * 35 + "-> ", subsequent_indent=" " * 38
    )
    return "\n".join([f"{check.name:<26}{check.verdict:<9}{check.result}", *(remedy or ())])


class PrintedTable:
    """Prints the rows of a table: the name of a check when it begins, the rest of the row when it ends.

    Use it in a `with` statement, so that the line is ended when a check raises.

    Args:
        verbose: False prints nothing.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose, self._open = verbose, ""

    def __enter__(self) -> "PrintedTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, name: str) -> None:
        """Print the name of a check, and leave the line open."""
        self._close()
        if self._verbose:
            print(f"{name:<26}", end="", flush=True)
            self._open = name

    def say(self, line: str) -> None:
        """Print a line, or only the rest of it where its beginning, the name of the check, is printed already."""
        if self._open and line.startswith(f"{self._open:<26}"):
            line, self._open = line[26:], ""
        self._close()
        if self._verbose:
            print(line, flush=True)

    def _close(self):
        if self._open:
            print(flush=True)
        self._open = ""
