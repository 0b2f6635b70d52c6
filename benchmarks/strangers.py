"""The doctor on programs that were written without its rules in mind: what it finds, names, cures; false alarms.

    python benchmarks/strangers.py                     all: more than an hour on two cores
    python benchmarks/strangers.py --sample 1          one healthy and one broken program of each family: 40 minutes
    python benchmarks/strangers.py --only cnn vae      only these families
    python benchmarks/strangers.py --part seen         the families that may be looked at while rules are changed; or
                                                       `unseen`; or `unseen_2`, written after `unseen` had been
                                                       looked at; or `unseen_3` to `unseen_7`, written by people who
                                                       knew neither the rules nor the earlier sets
    python benchmarks/strangers.py --check             no doctor: is every program what it declares to be?
    python benchmarks/strangers.py --quick             two programs
    python benchmarks/strangers.py --compare OLD NEW   what a changed rule gains and loses, from two folders of results

`stranger_programs/` has the programs and their true causes. Each program is trained twice from the same seed, without
and with `TrainingDoctor`, and is checked by `preflight` if it is a plain compiled model. A healthy program must learn:
its skill on held-out data must reach the threshold that it declares, by default a quarter of the way from knowing
nothing to perfect. A broken one must end at least a tenth worse than its twin without the fault. If the fault is in
what its validation reports, the report must be farther from the truth than that of its twin, by at least a tenth.
A program that fails this test is listed and left out of the rates.

A program counts as detected if a finding of severity "warning" or "error" was reported during training or is present at
the end. It counts as named if one of these findings has a code that its cause lists. An alarm is a warning or an error,
reported or final, on a healthy program. The first remedy is that of the first error, or else of the first warning, of
`preflight`; if it has neither, that of the doctor at the end. `remedy_typed` reads from the text what a user would
type. The program is built again with that change, and counts as cured if it closes two thirds of the gap to its twin.

Results are saved as one JSON file per program, in a folder named after the code of `recipes`; an interrupted run
continues where it stopped. Intervals are Wilson's, 95 %.
"""

import argparse
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.strangers_rates import compare, failures, summary, wilson  # noqa: E402, F401 - after the path
from benchmarks.strangers_remedies import first_remedy, remedy_typed  # noqa: E402

SEED = 1
QUICK = ("one_epoch/four_classes", "one_epoch/broken_labels_from_one")


# -- in a separate process: programs of one family ---------------------------------------------------------------------


def worker(names, folder, *, check=False, checked=None):
    """Run the programs and write one file for each; only this process uses TensorFlow."""
    import keras  # heavy, and only the workers need it

    from benchmarks.stranger_programs import PROGRAMS  # heavy

    keras.utils.set_random_seed(0)
    plain(PROGRAMS["dense/blobs"])  # warms up: the first training of a process takes longer
    for name in names:
        path = folder / f"{name.replace('/', '.')}.json"
        path.with_suffix(".begun").touch()
        record = study(PROGRAMS[name], folder, check=check, checked=checked)
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")
        path.with_suffix(".begun").unlink()
        keras.backend.clear_session()


def study(program, folder, *, check=False, checked=None):
    before = {} if checked is None else known(checked / f"{program.name.replace('/', '.')}.json", program)
    record = {
        "name": program.name,
        "family": program.family,
        "cause": program.cause,
        "codes": sorted(program.codes),
        "programs": programs_code(program),
    }
    record["plain"] = before.get("plain") or plain(program)
    if not program.healthy:
        record["twin"] = before.get("twin") or twin(program, folder)
    record["as_declared"] = as_declared(program, record)
    if not check:
        record["doctor"] = doctored(program)
        record["preflight"] = preflighted(program)
        if not program.healthy and program.curable:
            record["remedy"] = cured(program, record)
    return record


def known(path, program):
    """The results of a `--check` of the same program, because a run without the doctor does not depend on the rules."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("programs") == programs_code(program) else {}


def programs_code(program):
    """A hash of ten letters, of the program's own file and of the files that all programs share."""
    parts = [sys.modules[program.make.__module__].__file__]
    parts += [ROOT / "benchmarks" / "stranger_programs" / f"{name}.py" for name in ("kit", "data", "faults")]
    return hashlib.sha1(b"".join(Path(part).read_bytes() for part in parts)).hexdigest()[:10]


def twin(program, folder):
    """The result of the same program without its fault, which several broken programs share."""
    digest = hashlib.sha1(f"{program.twin} {program.belief}".encode()).hexdigest()[:16]
    path = folder / f"twin-{digest}.json"
    if not path.exists():
        path.write_text(json.dumps(plain(program, repaired=True)), encoding="utf-8")
    return json.loads(path.read_text())


def plain(program, **options):
    """Train without a doctor: skill, CPU seconds and losses; an error that it raises is part of the result."""
    run = program.build(SEED, **options)
    return trained(program, run)


def trained(program, run, *callbacks):
    found = {}
    start = time.process_time()
    try:
        history = run.fit(*callbacks).history
        found["loss"] = [float(value) for value in history.get("loss", [])]
        found["epochs"] = len(next(iter(history.values()), []))
    except Exception as error:  # any program may raise anything
        found["raised"] = f"{type(error).__name__}: {error}"[:500]
    found["cpu"] = time.process_time() - start
    found["skill"] = run.skill()
    found["reported"] = run.reported() if program.belief else None
    return found


def as_declared(program, record):
    """Whether the program is what it says it is."""
    skill = record["plain"]["skill"]
    if program.healthy:
        return skill >= program.enough and "raised" not in record["plain"]
    if program.belief:
        return aside(record["plain"]) - aside(record["twin"]) >= 0.1
    return record["twin"]["skill"] - max(skill, 0.0) >= 0.1


def aside(record):
    return abs(record["reported"] - record["skill"])


def doctored(program):
    from recipes.callbacks import TrainingDoctor  # heavy

    run = program.build(SEED)
    data = {"train": run.train, "validation": run.validation} if run.doctor_data else {}
    try:
        doctor = TrainingDoctor(**data, verbose=0)
    except Exception as error:  # a crash is a result
        return {"crashed": f"{type(error).__name__}: {error}"[:500], "said": [], "final": [], "cpu": None}
    found = trained(program, run, doctor)
    found["final"] = [told(finding) for finding in doctor.findings]
    found["said"] = [told(finding) for finding in doctor.said]
    return found


def told(finding):
    if isinstance(finding, str):
        return {"code": "", "severity": "", "text": finding}
    return {
        "code": finding.code,
        "severity": finding.severity,
        "epoch": finding.epoch,
        "layer": finding.layer,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "withdrawn": bool(getattr(finding, "withdrawn", False)),
    }


def preflighted(program):
    from recipes.diagnose import preflight  # heavy

    run = program.build(SEED)
    if not run.preflight:
        return None
    start = time.process_time()
    try:
        report = preflight(run.model, run.train, run.validation, seconds=15, verbose=0)
    except Exception as error:  # a crash is a result
        return {
            "crashed": f"{type(error).__name__}: {error}"[:500],
            "final": [],
            "cpu": time.process_time() - start,
        }
    return {
        "final": [told(finding) for finding in report.findings],
        "skipped": list(report.skipped),
        "cpu": time.process_time() - start,
    }


# -- the first remedy, typed in ----------------------------------------------------------------------------------------


def cured(program, record):
    finding = first_remedy(record)
    if finding is None:
        return {"outcome": "no remedy"}
    change = remedy_typed(finding["code"], finding["remedy"], {**program.also, **program.fault})
    if change is None:
        return {"outcome": "not automatable", "code": finding["code"], "remedy": finding["remedy"]}
    change, label = change
    try:
        after = trained(program, program.build(SEED, change=change))["skill"]
    except Exception as error:  # a remedy that does not run cures nothing
        return {"outcome": "failed", "code": finding["code"], "typed": label, "raised": repr(error)[:300]}
    before, goal = max(record["plain"]["skill"], 0.0), record["twin"]["skill"]
    outcome = "cured" if after - before >= 2 / 3 * (goal - before) else "failed"
    return {
        "outcome": outcome,
        "code": finding["code"],
        "typed": label,
        "remedy": finding["remedy"],
        "skill": after,
    }


# -- the battery -------------------------------------------------------------------------------------------------------


def listed():
    """Name and family of every program, and the part of the battery that each family belongs to."""
    from benchmarks.stranger_programs import (
        PROGRAMS,
        UNSEEN,
        UNSEEN_2,
        UNSEEN_3,
        UNSEEN_4,
        UNSEEN_5,
        UNSEEN_6,
        UNSEEN_7,
        WITHDRAWN,
    )  # heavy

    kept = [program for name, program in PROGRAMS.items() if name not in WITHDRAWN]
    parts = dict.fromkeys((program.family for program in kept), "seen")
    parts |= dict.fromkeys(UNSEEN, "unseen") | dict.fromkeys(UNSEEN_2, "unseen_2")
    parts |= dict.fromkeys(UNSEEN_3, "unseen_3") | dict.fromkeys(UNSEEN_4, "unseen_4")
    parts |= dict.fromkeys(UNSEEN_5, "unseen_5") | dict.fromkeys(UNSEEN_6, "unseen_6")
    parts |= dict.fromkeys(UNSEEN_7, "unseen_7")
    return [(program.name, program.family) for program in kept], parts


def sample(programs, count):
    """At most `count` healthy and `count` broken programs of every family; a larger sample contains a smaller one."""
    kept = []
    for family in dict.fromkeys(family for _, family in programs):
        for broken in (False, True):
            names = sorted(name for name, of in programs if of == family and ("/broken_" in name) == broken)
            random.Random(f"{family} {broken}").shuffle(names)
            kept += [(name, family) for name in names[:count]]
    return kept


def code_of(*folders):
    """A hash of ten letters, of the code in these folders."""
    digest = hashlib.sha1()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def battery(programs, folder, *, workers=2, check=False, checked=None, seconds=900, minutes=None):
    """Run the programs that have no result yet, in processes of one large family or several small ones."""
    over = math.inf if minutes is None else time.monotonic() + 60 * minutes
    folder.mkdir(parents=True, exist_ok=True)
    families = {}
    for name, family in programs:
        if not (folder / f"{name.replace('/', '.')}.json").exists():
            families.setdefault(family, []).append(name)
    waiting, running = [], []
    for family, names in sorted(families.items(), key=lambda item: -len(item[1])):
        if waiting and len(waiting[-1][1]) + len(names) <= 10:  # TensorFlow is slow to load
            waiting[-1] = (waiting[-1][0], waiting[-1][1] + names)
        else:
            waiting.append((family, names))
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    while waiting or running:
        while waiting and len(running) < workers:
            family, names = waiting.pop(0)
            command = [sys.executable, __file__, "--worker", *names, "--folder", str(folder)] + [
                "--check"
            ] * check
            command += ["--checked", str(checked)] * (checked is not None)
            log = (folder / f"{family}.log").open("w")
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            running.append((process, family, names, time.monotonic() + seconds))
        time.sleep(0.3)
        if time.monotonic() > over:  # finished programs have a file, and the next call continues after them
            for process, *_ in running:
                process.kill()
                process.wait()
            print("out of minutes: run it again to continue", file=sys.stderr, flush=True)
            return
        for entry in list(running):
            process, family, names, end = entry
            if process.poll() is None and time.monotonic() < end:
                continue
            running.remove(entry)
            if process.poll() is None:
                process.kill()
            process.wait()
            left = [name for name in names if not (folder / f"{name.replace('/', '.')}.json").exists()]
            print(f"{family}: {len(names) - len(left)} of {len(names)}", file=sys.stderr, flush=True)
            if left:  # the process died while it ran the first of these
                gone = {"name": left[0], "family": left[0].split("/")[0], "died": True}
                (folder / f"{left[0].replace('/', '.')}.json").write_text(json.dumps(gone))
                if left[1:]:
                    waiting.append((family, left[1:]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="families, or programs as family/name")
    parser.add_argument(
        "--part",
        choices=(
            "all",
            "seen",
            "unseen",
            "unseen_2",
            "unseen_3",
            "unseen_4",
            "unseen_5",
            "unseen_6",
            "unseen_7",
        ),
        default="all",
    )
    parser.add_argument("--quick", action="store_true", help="two programs")
    parser.add_argument(
        "--sample", type=int, help="largest number of healthy, and of broken programs per family"
    )
    parser.add_argument(
        "--check", action="store_true", help="only test whether the programs are what they declare to be"
    )
    parser.add_argument(
        "--checked",
        type=Path,
        help="folder of an earlier --check, whose runs without the doctor are used again",
    )
    parser.add_argument("--kind", choices=("all", "healthy", "broken"), default="all")
    parser.add_argument("--minutes", type=float, help="minutes after which it stops; the next call continues")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="folder for the results (default: in the temporary folder)"
    )
    parser.add_argument("--failures", type=Path, help="also write one line per failure into this file")
    parser.add_argument("--report", action="store_true", help="run nothing, only read the results")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two folders of results"
    )
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compare:
        columns, lines = compare(*arguments.compare)
        table(columns)
        print("", *lines, sep="\n")
        return
    if arguments.worker:
        worker(arguments.worker, arguments.folder, check=arguments.check, checked=arguments.checked)
        return
    kind = "check" if arguments.check else code_of("recipes", "callbacks")
    folder = arguments.folder or Path(tempfile.gettempdir()) / "keras-recipes-strangers" / kind
    programs, parts = listed()
    if arguments.quick:
        programs = [program for program in programs if program[0] in QUICK]
    if arguments.only:
        programs = [program for program in programs if set(program) & set(arguments.only)]
    if arguments.kind != "all":
        programs = [
            program for program in programs if ("/broken_" in program[0]) == (arguments.kind == "broken")
        ]
    if arguments.sample:
        programs = sample(programs, arguments.sample)
    if arguments.part != "all":
        programs = [program for program in programs if parts[program[1]] == arguments.part]
    if not programs:
        sys.exit(
            f"No program matches. Received --only {arguments.only}. Give families as in benchmarks/stranger_programs."
        )
    if not arguments.report:
        options = {"check": arguments.check, "checked": arguments.checked, "minutes": arguments.minutes}
        battery(programs, folder, workers=arguments.workers, **options)
    paths = [folder / f"{name.replace('/', '.')}.json" for name, _ in programs]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    report(records, parts, check=arguments.check)
    if arguments.failures:
        arguments.failures.write_text("\n".join(failures(records)) + "\n", encoding="utf-8")


def report(records, parts, *, check=False):
    sys.path.insert(0, str(Path(__file__).parent))
    from tables import heading, row  # beside this script

    if check:
        wrong = [record["name"] for record in records if not record.get("as_declared")]
        heading("programs", "as declared", "not")
        row(len(records), len(records) - len(wrong), ", ".join(wrong) or "none")
        return
    groups = {
        "families seen": [record for record in records if parts[record["family"]] == "seen"],
        "families unseen": [record for record in records if parts[record["family"]] == "unseen"],
        "families unseen, second set": [
            record for record in records if parts[record["family"]] == "unseen_2"
        ],
        "families unseen, third set": [record for record in records if parts[record["family"]] == "unseen_3"],
        "families unseen, fourth set": [
            record for record in records if parts[record["family"]] == "unseen_4"
        ],
        "families unseen, fifth set": [record for record in records if parts[record["family"]] == "unseen_5"],
        "families unseen, sixth set": [record for record in records if parts[record["family"]] == "unseen_6"],
        "families unseen, seventh set": [
            record for record in records if parts[record["family"]] == "unseen_7"
        ],
        "all": records,
    }
    table({name: summary(group) for name, group in groups.items() if group})


def table(columns):
    sys.path.insert(0, str(Path(__file__).parent))
    from tables import heading, row  # beside this script

    heading("strangers' programs", *columns)
    for key in next(iter(columns.values())):
        row(key, *[column.get(key, "") for column in columns.values()])


if __name__ == "__main__":
    main()
