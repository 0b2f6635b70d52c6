"""Run every script that a published number rests on, and put the tables they print in their places.

    python -m benchmarks                      all, one after another: hours, on a machine that does nothing else
    python -m benchmarks --only fold explain  these
    python -m benchmarks --quick              a sliver of each, printed and not written, to see that they run

docs/benchmarks.md holds each script's tables between `<!-- benchmarks:NAME -->` and `<!-- end -->`. A script's
tables are the lines it prints that begin with `|`, and the titles, `**...**`. A script that fails leaves its place
as it was.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
# Name: arguments of the whole run, arguments of the quick one.
SCRIPTS = {
    "backup_hold": ([], ["--rounds", "1"]),
    "augment": ([], ["--only", "small", "--windows", "1", "--seconds", "0.1"]),
    "defaults": (["--data", "fashion_mnist", "--network", "mlp", "--arms", "rate", "muon"], ["--quick"]),
    "ensembles": ([], "--data mnist5k --train 200 --test 300 --epochs 5 --seeds 1".split()),
    "example_times": ([], ["--only", "fancy_pca"]),
    "explain": ([], ["--quick"]),
    "first_batch": ([], ["--sides", "32", "--names", "Flip"]),
    "faults": (["--out", "runs/faults"], ["--out", "runs/faults-quick", "--only", "clusters"]),
    "fold": ([], ["--rounds", "1", "--batches", "1"]),
    "image_statistics": ([], ["--rounds", "1"]),
    "label_issues": ([], ["--quick", "--flips", "similar:0.1"]),
    "monitors": ([], "--models mlp --rounds 1 --steps 10".split()),
    "near_duplicates": ([], []),
    "policies": ([], ["--quick", "--policies", "none", "light"]),
    "reading": ([], ["--rounds", "1"]),
    "regularizers": ([], ["--parts", "1", "--seeds", "1"]),
    "slow_training": (
        ["--out", "runs/slow_training.jsonl"],
        "--only float64 --models mlp --healthy 1 --seconds 2".split(),
    ),
    "strangers": ([], ["--quick"]),
    "start_up": ([], "--networks mlp --rounds 1".split()),
    "streaming": ([], ["--files", "200"]),
    "synthesis": ([], ["--quick"]),
    "watching": ([], "--models mlp --rounds 1 --steps 5".split()),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=[*SCRIPTS], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    failed = []
    for name in arguments.only:
        whole, quick = SCRIPTS[name]
        print(f"== {name}", flush=True)
        tables = tables_of(run(name, quick if arguments.quick else whole))
        if not tables:
            failed.append(name)
        elif not arguments.quick:
            PAGE.write_text(replace(PAGE.read_text(), name, tables), encoding="utf-8")
    if failed:
        sys.exit(
            f"No tables came from {', '.join(failed)}; their places in docs/benchmarks.md are as they were."
        )


def run(name, arguments):
    """What the script prints, shown as it comes; nothing when it fails."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines) if process.returncode == 0 else ""


def tables_of(output):
    """The tables in what a script printed, with their titles; an empty line before each title and each table."""
    lines = []
    for line in output.splitlines():
        if line.startswith("**") and line.endswith("**"):
            lines += ["", line]
        elif line.startswith("|"):
            if lines and not lines[-1].startswith("|"):
                lines.append("")
            lines.append(line)
        elif lines and lines[-1].startswith("|"):
            lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def replace(text, name, tables):
    """The page with other tables at one place."""
    start, end = f"<!-- benchmarks:{name} -->\n", "<!-- end -->"
    if text.count(start) != 1 or end not in text.split(start)[1]:
        raise ValueError(
            f"docs/benchmarks.md is expected to hold one place for {name}. Received {text.count(start)}. "
            f"Write '{start.strip()}' and '{end}' on lines of their own."
        )
    before, after = text.split(start)
    # The blank lines keep a title from running into the comment.
    return f"{before}{start}\n{tables}\n\n{after[after.index(end) :]}"


if __name__ == "__main__":
    main()
