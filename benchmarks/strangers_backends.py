"""The doctor on 40 programs of `stranger_programs/`, on TensorFlow and on JAX: what it finds, and its false alarms.

    python benchmarks/strangers_backends.py --folder found                 both backends, about ten minutes
    python benchmarks/strangers_backends.py --folder found --minutes 12    stop after this time; the next call continues
    python benchmarks/strangers_backends.py --folder found --show          only print the results in the folder

The programs are 20 healthy and 20 broken ones in modules that use Keras without TensorFlow, one or two per family,
drawn by name. Each is trained with `TrainingDoctor` from one seed; `strangers.py` measures preflight and remedies.
Detected, named and alarm are defined as in `strangers.py`. The two backends draw different weights from the same seed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

EACH = 20
BACKENDS = ("tensorflow", "jax")
SERIOUS = ("warning", "error")


def chosen():
    """Names of the programs, healthy ones first."""
    from benchmarks.stranger_programs import PROGRAMS, WITHDRAWN

    found = []
    for broken in (False, True):
        families = {}
        for name, program in PROGRAMS.items():
            module = sys.modules[program.make.__module__]
            if name not in WITHDRAWN and program.healthy != broken and not hasattr(module, "tf"):
                families.setdefault(program.family, []).append(name)
        random.Random(1).shuffle(order := sorted(families))
        rounds = []
        for family in order:
            names = sorted(families[family])
            random.Random(family).shuffle(names)
            rounds += list(enumerate(names))
        found += [name for _, name in sorted(rounds, key=lambda one: one[0])][:EACH]
    return found


def worker(folder, until):
    """All programs on the backend of this process."""
    import keras

    from benchmarks import strangers
    from benchmarks.stranger_programs import PROGRAMS

    for name in chosen():
        file = folder / f"{keras.backend.backend()}.{name.replace('/', '.')}.json"
        if file.exists():
            continue
        if time.time() > until:
            return
        program = PROGRAMS[name]
        found = strangers.doctored(program)
        found |= {"name": name, "healthy": program.healthy, "codes": sorted(program.codes)}
        file.write_text(json.dumps(found))
        print(keras.backend.backend(), name, serious(found), round(found["cpu"] or 0, 1), flush=True)
        keras.backend.clear_session()


def serious(found):
    """Codes of the warnings and errors, reported or final."""
    told = [*found["said"], *found["final"]]
    return sorted({one["code"] for one in told if one["severity"] in SERIOUS})


def show(folder):
    rows = {backend: {} for backend in BACKENDS}
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text())
        rows[file.name.split(".")[0]][found["name"]] = found
    both = sorted(set(rows["tensorflow"]) & set(rows["jax"]))
    print(f"{len(both)} programs on both backends")
    for backend in BACKENDS:
        mine = [rows[backend][name] for name in both]
        broken = [one for one in mine if not one["healthy"]]
        named = [one for one in broken if set(serious(one)) & set(one["codes"])]
        healthy = [one for one in mine if one["healthy"]]
        crashed = [one["name"] for one in mine if one.get("crashed") or one.get("raised")]
        print(
            f"{backend}: detected {sum(bool(serious(one)) for one in broken)} of {len(broken)}, named {len(named)}; "
            f"alarms {sum(bool(serious(one)) for one in healthy)} of {len(healthy)}; broke off: {crashed or 'none'}"
        )
    for name in both:
        found = [serious(rows[backend][name]) for backend in BACKENDS]
        if bool(found[0]) != bool(found[1]):
            print(f"  differs: {name}: {found[0]} on TensorFlow, {found[1]} on JAX")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder of results, one JSON file per program and backend"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.until:
        worker(arguments.folder, arguments.until)
        return
    if not arguments.show:
        until = time.time() + 60 * arguments.minutes
        for backend in BACKENDS:
            environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONWARNINGS": "ignore"}
            command = [sys.executable, __file__, "--folder", str(arguments.folder), "--until", str(until)]
            subprocess.run(command, env=environment, check=False)
    show(arguments.folder)


if __name__ == "__main__":
    main()
