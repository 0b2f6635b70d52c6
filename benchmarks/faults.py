"""Break training runs on purpose: does the diagnosis find each fault, and report nothing on healthy runs?

    python benchmarks/faults.py --out runs/faults            # trains the missing runs, then judges all: 40 minutes
    python benchmarks/faults.py --out runs/faults --replay   # judges again, without training
    python benchmarks/faults.py --out runs/faults --time     # how much CPU time TrainingDoctor adds to fit

Every fault is put into every subject (a data set and its network) for which it makes sense, with two seeds. A run saves
its history, the records of the monitors, and the facts about model and data in --out, so that changed rules can be
judged without training again. The runs of the two subjects "digits" and "resnet" were not used while the rules were
written.

Detected: there is a finding above "info" that belongs to the fault's family. Named: the root causes include the right
code, and the right layer if the fault is in a layer. Named as info: not named, but a finding of severity "info" has the
code, as where a run learns in spite of the fault. False alarm: a healthy run has any finding above "info".
"""

import argparse
import json
import time
from pathlib import Path

import fault_cases
import keras
import numpy as np
import tensorflow as tf

from recipes.callbacks.training_doctor import TrainingDoctor
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.run_facts import describe, idle_averages
from recipes.probe import Record

SEEDS = (0, 1)
TUNED_ON = ("clusters", "cnn", "regression")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder for the records")
    parser.add_argument("--only", default="", help="only runs whose name contains this text")
    parser.add_argument("--replay", action="store_true", help="train nothing")
    parser.add_argument("--time", action="store_true", help="only measure what the doctor costs")
    parser.add_argument(
        "--held-out", action="store_true", help="judge only runs that the rules were not tuned on"
    )
    parser.add_argument("--tuned", action="store_true", help="judge only runs that the rules were tuned on")
    parser.add_argument(
        "--verbose", action="store_true", help="print the findings of every run that is judged wrongly"
    )
    arguments = parser.parse_args()
    if arguments.time:
        measure_time(arguments.only)
        return
    runs = [run for run in all_runs() if arguments.only in run["name"]]
    if not arguments.replay:
        train(runs, arguments.out)
    runs = [run for run in runs if (arguments.out / f"{run['name']}.json").exists()]
    if arguments.held_out or arguments.tuned:
        runs = [run for run in runs if run["tuned"] == arguments.tuned]
    report(runs, arguments.out, arguments.verbose)


def all_runs():
    """Every run as a dictionary: name, subject, seed, change, and, for a fault, code and family."""
    runs = []
    for subject in fault_cases.SUBJECTS:
        for seed in SEEDS:
            tuned = subject in TUNED_ON
            runs.append(
                {
                    "name": f"{subject}-{seed}-twin",
                    "subject": subject,
                    "seed": seed,
                    "change": None,
                    "tuned": tuned,
                }
            )
            for fault, (subjects, code, family) in fault_cases.FAULTS.items():
                if subject in subjects:
                    runs.append(
                        {
                            "name": f"{subject}-{seed}-fault-{fault.__name__}",
                            "subject": subject,
                            "seed": seed,
                            "change": fault,
                            "fault": fault.__name__,
                            "codes": (code,) if isinstance(code, str) else code,
                            "family": family | {code} if isinstance(code, str) else family | set(code),
                            "tuned": tuned,
                        }
                    )
        for name, (subjects, change) in fault_cases.HEALTHY.items():
            if subject in subjects:
                runs.append(
                    {
                        "name": f"{subject}-2-healthy-{name.replace(' ', '_')}",
                        "subject": subject,
                        "seed": 2,
                        "change": change,
                        "tuned": subject in TUNED_ON,
                    }
                )
    return sorted(
        runs, key=lambda run: (0, 2, 1)[run["seed"]]
    )  # a first run of each kind comes before the others


def made(run):
    case = fault_cases.case(run["subject"], run["seed"])
    if run["change"] is not None:
        run["change"](case)
    return case


def dataset(x, y, batch, shuffle, seed):
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return (data.shuffle(len(x), seed=seed) if shuffle else data).batch(batch)


def train(runs, folder):
    """Train the runs that have no record yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(runs):
        path = folder / f"{run['name']}.json"
        if path.exists():
            continue
        keras.backend.clear_session()
        case, start = made(run), time.perf_counter()
        model = case.build()
        data = dataset(case.x, case.y, case.batch, case.shuffle, run["seed"])
        held_out = dataset(case.xv, case.yv, 200, False, 0)
        facts = describe(model, data, held_out)
        blamed = case.layer(model) if case.layer else None
        doctor = TrainingDoctor(facts=facts, verbose=0, strict=True)
        history = model.fit(
            data,
            validation_data=held_out,
            epochs=case.epochs,
            callbacks=[*case.callbacks, doctor],
            verbose=0,
        ).history
        (folder / f"{run['name']}.npz").write_bytes(doctor.record.to_bytes())
        left = {"history": history, "facts": facts, "idle": idle_averages(model), "blamed": blamed}
        path.write_text(json.dumps(left, default=_plain), encoding="utf-8")
        print(f"{number + 1}/{len(runs)} {run['name']}: {time.perf_counter() - start:.1f} s", flush=True)


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value.tolist()


def judged(run, folder):
    """The casebook of a run, filled epoch by epoch as the doctor does it, and the saved facts of the run."""
    left = json.loads((folder / f"{run['name']}.json").read_text(encoding="utf-8"))
    record = Record.from_bytes((folder / f"{run['name']}.npz").read_bytes())
    book = Casebook(left["facts"])
    book.update(None, None)
    epochs = len(left["history"]["loss"])
    for epoch in range(1, epochs + 1):
        history = {name: values[:epoch] for name, values in left["history"].items()}
        seen = until(record, epoch)
        book.update(history, seen, planned=epochs)
        if epoch == epochs:
            book.update(history, seen, last=True, idle_averages=left["idle"])
    return book, left


def until(record, epoch):
    """The record as it was at the end of an epoch, counted from 1."""
    part = Record.from_bytes(record.to_bytes())
    last = max((row["step"] for row in part._rows if row["epoch"] < epoch), default=-1)
    part._rows = [row for row in part._rows if row["step"] <= last]
    part._units = [entry for entry in part._units if entry[0] <= last]
    return part


def trained(left):
    """Whether a healthy run learned: its lowest loss is below 7/10 of the loss of a constant guess."""
    counts = left["facts"]["data"]["train"].get("class_counts")
    start = np.log(len(counts)) if counts else left["facts"]["data"]["train"]["target_std"] ** 2
    return min(left["history"]["loss"]) < 0.7 * start


def report(runs, folder, verbose):
    faults, alarms, healthy, useless = {}, [], 0, []
    for run in runs:
        book, left = judged(run, folder)
        said = [finding for finding in book.findings if finding.severity != "info"]
        every = [*said, *(f for finding in said for f in finding.consequences)]
        if "codes" not in run:
            if not trained(left):
                useless.append(run["name"])
                continue
            healthy += 1
            if book.said or said:
                alarms.append((run["name"], [str(finding) for finding in [*book.said, *said]]))
            continue
        detected = any(finding.code in run["family"] for finding in every)
        named = any(
            finding.code in run["codes"] and (left["blamed"] is None or finding.layer in left["blamed"])
            for finding in said
        )
        top = said[0].code if said else "nothing"
        # A run that overcomes its fault is told of it as "info".
        told = not named and any(finding.code in run["codes"] for finding in book.findings)
        faults.setdefault(run["fault"], []).append((run["name"], detected, named, top, told))
        if verbose and not named:
            print(f"\n{run['name']} (wanted {run['codes']} {left['blamed'] or ''}):")
            print("\n".join(f"   {finding}" for finding in book.findings) or "   nothing")
    print("\n| fault | runs | detected | named | named as info | said instead |\n|---|---|---|---|---|---|")
    for fault, rows in faults.items():
        others = sorted({top for _, _, named, top, _ in rows if not named})
        print(
            f"| {fault.replace('_', ' ')} | {len(rows)} | {sum(r[1] for r in rows)} | {sum(r[2] for r in rows)} | "
            f"{sum(r[4] for r in rows)} | "
            f"{', '.join(others).replace('_', ' ')} |"
        )
    rows = [row for rows in faults.values() for row in rows]
    if rows:
        print(
            f"| **all {len(faults)}** | {len(rows)} | {np.mean([r[1] for r in rows]):.1%} | "
            f"{np.mean([r[2] for r in rows]):.1%} | {np.mean([r[4] for r in rows]):.1%} | |"
        )
    if healthy:
        print("\n| healthy runs | false alarms | share |\n|---|---|---|")
        print(f"| {healthy} | {len(alarms)} | {len(alarms) / healthy:.1%} |")
    for name, findings in alarms:
        print(f"  {name}:", *findings, sep="\n    ")
    if useless:
        print(f"left out, because they did not train: {', '.join(useless)}")


def measure_time(only, rounds=5):
    """CPU time of fit with and without the doctor, in turns, after both have been compiled."""
    for subject in (subject for subject in fault_cases.SUBJECTS if only in subject):
        case = fault_cases.case(subject, 0)
        model = case.build()
        data = dataset(case.x, case.y, case.batch, True, 0).cache()
        held_out = dataset(case.xv, case.yv, 200, False, 0)
        facts, ratios = describe(model, data, held_out), []
        epochs = 5 if subject == "resnet" else 20
        for number in range(rounds + 1):
            seconds = []
            for doctors in ([], [TrainingDoctor(facts=facts, verbose=0)]):
                start = time.process_time()
                model.fit(data, validation_data=held_out, epochs=epochs, callbacks=doctors, verbose=0)
                seconds.append(time.process_time() - start)
            if number:  # the first round compiles
                ratios.append(seconds[1] / seconds[0])
        rounds_said = ", ".join(f"{ratio - 1:+.1%}" for ratio in ratios)
        print(f"{subject}: {np.median(ratios) - 1:+.1%} process time (rounds {rounds_said})", flush=True)


if __name__ == "__main__":
    main()
