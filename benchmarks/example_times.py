"""CPU seconds of every example with --quick, each in a fresh process: child processes and all imports are included.

python benchmarks/example_times.py                   # some five minutes
python benchmarks/example_times.py --only photos     # one of them
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import heading, row

ROOT = Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="names of examples")
    arguments = parser.parse_args()
    names = arguments.only or sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
    heading("example", "CPU s", title="Examples with --quick")
    for name in names:
        row(name, f"{seconds_of(name):.1f}")


def seconds_of(name):
    """CPU seconds of one example, run in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "examples" / f"{name}.py", "--quick", "--out", f"{folder}/out"]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
