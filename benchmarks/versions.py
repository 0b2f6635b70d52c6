"""Run the tests in new environments: with the oldest packages that setup.cfg allows, and with the newest.

    python benchmarks/versions.py                        both, about half an hour
    python benchmarks/versions.py --only oldest
    python benchmarks/versions.py tests/layers           only these tests, in both

Prints the versions in each environment and whether the tests passed; the exit code is 0 if both passed.
"""

import argparse
import configparser
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["oldest", "newest"])
    parser.add_argument("tests", nargs="*", help="arguments for pytest")
    arguments = parser.parse_args()
    wanted = {"oldest": [bound.replace(">=", "==") for bound in bounds()], "newest": bounds()}
    results = {}
    for name, pins in wanted.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                results[name] = run(Path(folder), pins, arguments.tests)
    print()
    for name, (versions, passed) in results.items():
        print(f"{name}: {versions}: {'passed' if passed else 'FAILED'}")
    sys.exit(not all(passed for _, passed in results.values()))


def bounds():
    """The requirements of every installation, such as `["tensorflow>=2.21", "keras>=3.15"]`."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options"]["install_requires"].split()


def run(folder, pins, tests):
    """`(versions, whether the tests passed)` in a new environment in this folder."""
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    print(f"== installing {', '.join(pins)}", flush=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--upgrade", "-e", f"{ROOT}[test]", *pins], check=True
    )
    names = [re.split("[>=]", pin)[0] for pin in pins]
    code = f"import importlib.metadata as m; print(*(f'{{n}} {{m.version(n)}}' for n in {names}), sep=', ')"
    versions = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    print(f"== {versions}", flush=True)
    return versions, subprocess.run([python, "-m", "pytest", *tests], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    main()
