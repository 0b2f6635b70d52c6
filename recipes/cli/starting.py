"""The first seconds of a command: Keras is imported, and the remarks of its backend are kept from stderr."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_STDERR = 2  # the file that compiled code writes to, wherever sys.stderr leads
# What TensorFlow's C++ says at its import whatever TF_CPP_MIN_LOG_LEVEL is: information, and a line about such lines.
_REMARK = re.compile(
    rb"I\d{4} \d\d:\d\d|WARNING: All log messages before absl::InitializeLog\(\)|INFO: Created TensorFlow Lite"
)


def load_keras(doing: str) -> None:
    """Import Keras with its backend, which takes some seconds; does nothing where that was done before.

    Args:
        doing: Line that is written to stderr before the import: "recipes predict: loading runs/photos".
    """
    if "keras" in sys.modules:
        return
    print(f"{doing} ...", file=sys.stderr, flush=True)
    with without_remarks():
        import keras  # noqa: F401, PLC0415 - takes seconds, and the command starts without it


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Keep the remarks of compiled code from stderr within the context; everything else is printed at its end."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # closed
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not _REMARK.match(line):
                    os.write(_STDERR, line)
