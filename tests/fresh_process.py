"""New processes that have only imported TensorFlow, in which a script runs as a user would run it."""

import gc
import multiprocessing
import os
import runpy
import sys
import time
from pathlib import Path

# One process imports TensorFlow once. The others are forked from it before it starts any threads.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tensorflow", "keras"])


class FreshProcess:
    """A process that runs `python script arguments`, with its output and errors in two files.

    Args:
        script: Path of the file.
        *arguments: The script's `sys.argv[1:]`.
        folder: Working directory; the two files are beside it.
        **environment: More environment variables. Those that TensorFlow reads during its import have no effect.
    """

    def __init__(self, script, *arguments, folder, **environment):
        self._files = [_unused(Path(f"{folder}-{stream}.txt")) for stream in ("output", "errors")]
        arguments = [str(argument) for argument in arguments]
        self._process = _SERVER.Process(
            target=_run,
            args=(str(script), arguments, str(folder), {**os.environ, **environment}, self._files),
            daemon=True,  # ends with the tests, even if a test fails first
        )
        self._process.start()

    @property
    def printed(self):
        """All of its standard output."""
        return self._files[0].read_text()

    @property
    def complained(self):
        """All of its standard error."""
        return self._files[1].read_text()

    def wait(self, seconds=240):
        """Wait for the exit code, which is negative after a signal; None if the process has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def wait_for(self, words, seconds=240):
        """Wait until the process has printed these words."""
        end = time.monotonic() + seconds
        while words not in self.printed:
            assert self._process.is_alive() and time.monotonic() < end, self.complained[-3000:]
            time.sleep(0.02)

    def kill(self):
        """Send SIGKILL; does nothing if the process has ended."""
        self._process.kill()
        self._process.join()


def _unused(path):
    number = 0
    while path.exists():
        number += 1
        path = path.with_stem(f"{path.stem}{number}")
    path.touch()
    return path


def _run(script, arguments, folder, environment, files):
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    gc.freeze()  # as in conftest.py: else Python looks at all of TensorFlow's objects again and again
    gc.set_threshold(50_000, 20, 100)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
