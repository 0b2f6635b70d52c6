"""Processes that have imported TensorFlow and done nothing else, to run a script in as a reader would."""

import multiprocessing
import os
import runpy
import sys
import time
from pathlib import Path

# One process imports TensorFlow, once; the others are forks of it, made before any of its threads.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tensorflow", "keras"])


class FreshProcess:
    """Python running a script, `python script arguments`, with what it prints in two files.

    Args:
        script: Path of the file.
        *arguments: What the script finds in `sys.argv[1:]`.
        folder: Folder to run in; the two files are beside it.
        **environment: Variables beside those of this process. What TensorFlow reads when it is imported comes late.
    """

    def __init__(self, script, *arguments, folder, **environment):
        self._files = [_unused(Path(f"{folder}-{stream}.txt")) for stream in ("output", "errors")]
        arguments = [str(argument) for argument in arguments]
        self._process = _SERVER.Process(
            target=_run,
            args=(str(script), arguments, str(folder), {**os.environ, **environment}, self._files),
            daemon=True,  # ends with the tests, also when one of them failed before its end
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
        """Its exit code, below 0 for a signal; None when it has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def wait_for(self, words, seconds=240):
        """Wait until it has printed these words."""
        end = time.monotonic() + seconds
        while words not in self.printed:
            assert self._process.is_alive() and time.monotonic() < end, self.complained[-3000:]
            time.sleep(0.02)

    def kill(self):
        """SIGKILL; does nothing when it has ended."""
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
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
