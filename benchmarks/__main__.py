"""Run all scripts behind the published numbers, and write the tables that they print into docs/benchmarks.md.

    python -m benchmarks                      all, one after another: some four hours on a quiet machine
    python -m benchmarks --resume             skip the scripts that an earlier run has finished
    python -m benchmarks --only fold explain  only these
    python -m benchmarks --quick              a small part of each, printed but not written, to see that they run

docs/benchmarks.md holds the tables of each script between `<!-- benchmarks:NAME -->` and `<!-- end -->`. The tables
are the printed lines that begin with `|`, and the titles, `**...**`. If a script fails, its place on the page stays
as it was. Finished scripts are listed in runs/benchmarks.json, with date, minutes, and the commit that was measured.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
DONE = Path("runs") / "benchmarks.json"
# Name: arguments of the full run, arguments of the quick run.
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
        "--only float64 --models mlp --healthy 1 --seconds 2 --out runs/slow_training-quick.jsonl".split(),
    ),
    "strangers": (["--sample", "1"], ["--quick"]),
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
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true")
    how.add_argument(
        "--resume", action="store_true", help="skip the scripts that runs/benchmarks.json lists as done"
    )
    arguments = parser.parse_args()
    done = json.loads(DONE.read_text()) if arguments.resume and DONE.exists() else {}
    failed = []
    for name in arguments.only:
        if name in done:
            print(f"== {name}: done at {done[name]['date']}, commit {done[name]['commit']}", flush=True)
            continue
        print(f"== {name}", flush=True)
        whole, quick = SCRIPTS[name]
        start, commit = time.monotonic(), commit_of()
        tables = tables_of(run(name, quick if arguments.quick else whole))
        if not tables:
            failed.append(name)
        elif not arguments.quick:
            PAGE.write_text(replace(PAGE.read_text(), name, tables), encoding="utf-8")
            minutes = round((time.monotonic() - start) / 60, 1)
            done[name] = {"date": time.strftime("%Y-%m-%d %H:%M"), "minutes": minutes, "commit": commit}
            DONE.parent.mkdir(exist_ok=True)
            DONE.write_text(json.dumps(done, indent=1), encoding="utf-8")
    if failed:
        sys.exit(
            f"No tables came from {', '.join(failed)}; their places in docs/benchmarks.md are as they were."
        )


def run(name, arguments):
    """The output of a script, which is also shown while it runs; empty if the script fails."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines) if process.returncode == 0 else ""


def commit_of():
    """The commit that is measured, with "-dirty" where other files than the page of tables differ from it."""

    def git(*words):
        command = ["git", "-C", str(HERE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    others = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs/benchmarks.md"
    )
    return git("describe", "--always") + ("-dirty" if others else "")


def tables_of(output):
    """The tables in the output of a script, with their titles; an empty line before each title and each table."""
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
    """The page, with the tables of one script replaced."""
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
