"""The doctor on programs that were not written beside its rules: what it finds, names, cures, and where it cries wolf.

    python benchmarks/strangers.py                     all: about 40 minutes on two cores
    python benchmarks/strangers.py --only cnn vae      these families
    python benchmarks/strangers.py --part seen         the families one may look at while mending; or
                                                       `unseen`, or `unseen_2`, written when that had been looked at
    python benchmarks/strangers.py --check             no doctor: is every program what it declares to be?
    python benchmarks/strangers.py --quick             two programs

`stranger_programs/` holds the programs and their truth. Each is trained twice from the same seed, plain and under
`TrainingDoctor`, and checked by `preflight` where it is a plain compiled model. A healthy program has to learn (its
skill on data kept apart is above the bar it declares, by default a quarter of the way from knowing nothing to
perfect), a broken one has to end at least a tenth worse than its twin without the fault; one whose fault lies in what
its validation reports has to report at least a tenth more beside the truth than its twin. A program that fails this
is told and left out of the rates.

A program counts as detected when a finding of severity warning or error was said or stands at the end. It counts as
named when one of those has a code that its cause lists, `info` not counted. An alarm is a warning or an error, said or
final, about a healthy program. The first remedy is the one of the first error or else warning that stands before
training (preflight) or else at the end; `remedy_typed` reads its text for what it tells to type, the program is built
again with that change, and counts as cured when it makes up two thirds of the way to its twin.

Results are kept, one JSON file a program, in a folder named after the code of `recipes`; a run that was stopped goes on
where it was. Intervals are Wilson's, 95 %.
"""

import argparse
import hashlib
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

SEED = 1
LOUD = ("error", "warning")
QUICK = ("one_epoch/four_classes", "one_epoch/broken_labels_from_one")


# -- in a process of its own: programs of one family -------------------------------------------------------------------


def worker(names, folder, *, check=False, checked=None):
    """Run the programs and write one file each; all TensorFlow lives here."""
    import keras  # heavy, and only the workers need it

    from benchmarks.stranger_programs import PROGRAMS  # heavy

    keras.utils.set_random_seed(0)
    plain(PROGRAMS["dense/blobs"])  # the first training of a process pays for what all share
    for name in names:
        path = folder / f"{name.replace('/', '.')}.json"
        path.with_suffix(".begun").touch()
        record = study(PROGRAMS[name], folder, check=check, checked=checked)
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")
        path.with_suffix(".begun").unlink()
        keras.backend.clear_session()


def study(program, folder, *, check=False, checked=None):
    before = {} if checked is None else known(checked / f"{program.name.replace('/', '.')}.json")
    record = {
        "name": program.name,
        "family": program.family,
        "cause": program.cause,
        "codes": sorted(program.codes),
        "programs": code_of("benchmarks/stranger_programs"),
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


def known(path):
    """What a `--check` of the same programs found: a run without a doctor does not depend on the rules."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("programs") == code_of("benchmarks/stranger_programs") else {}


def twin(program, folder):
    """The same program without its fault; several broken ones share it."""
    digest = hashlib.sha1(f"{program.twin} {program.belief}".encode()).hexdigest()[:16]
    path = folder / f"twin-{digest}.json"
    if not path.exists():
        path.write_text(json.dumps(plain(program, repaired=True)), encoding="utf-8")
    return json.loads(path.read_text())


def plain(program, **options):
    """Train without a doctor: skill, seconds of CPU, losses; what it raises is part of the answer."""
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


# -- remedies, typed in ------------------------------------------------------------------------------------------------


def first_remedy(record):
    """The first error, else the first warning: before training where preflight could be asked, else at the end."""
    for part in ("preflight", "doctor"):
        found = (record.get(part) or {}).get("final", [])
        for severity in LOUD:
            for finding in found:
                if finding["severity"] == severity and not finding.get("withdrawn"):
                    return finding
    return None


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


def remedy_typed(code, text, fault):
    """What a reader who types in the first thing that the sentence tells would change, as parts of the kit.

    Numbers are taken from the text. None where the sentence tells to look at something rather than to type something.
    """
    import keras  # heavy
    import numpy as np  # with it

    text = text or ""
    rate = re.search(r"(?:learning_rate\s*=\s*|learning rate (?:of|to|about|near|around) (?:about )?|rate (?:of|to) )"
                     r"([0-9.]+(?:e-?[0-9]+)?)", text)  # fmt: skip
    number = float(rate.group(1).rstrip(".")) if rate else None
    named = re.search(r"activation\s*=\s*['\"]?(\w+)", text)
    heads = [
        (found.start(), None if found.group(1) in ("linear", "None") else found.group(1))
        for found in re.finditer(
            r"['\"`]?\b(softmax|sigmoid|linear|None|exponential|softplus)\b['\"`]?", text
        )
    ]
    bare = re.search(r"without (?:an )?activation|[Rr]emove the (?:softmax|sigmoid|activation)", text)
    if bare and not (named and named.start() < bare.start()):
        heads = [(bare.start(), None)]
    elif named:
        heads = [(named.start(), None if named.group(1) in ("linear", "None") else named.group(1))]
    if code in (
        "rate_too_high",
        "rate_too_low",
        "update_ratio_high",
        "update_ratio_low",
        "bouncing",
        "diverged",
    ):
        if number is None:
            usual = fault.get("rate", 1e-3)
            if not isinstance(usual, float | int):
                return None
            high = code in ("rate_too_high", "update_ratio_high", "bouncing", "diverged")
            number = usual / 10 if high else usual * 10
        return {"rate": number}, f"rate {number:g}"
    if code == "decayed_too_early":
        return ({"rate": number, "early": None}, f"rate {number:g}") if number else None
    if code == "regularization_too_strong":
        if "weight_decay" in fault.get("optimizer_options", {}):
            decay = re.search(r"weight_decay\s*=\s*([0-9.]+(?:e-?[0-9]+)?)", text)
            value = float(decay.group(1)) if decay else fault["optimizer_options"]["weight_decay"] / 100
            return {
                "optimizer_options": {**fault["optimizer_options"], "weight_decay": value}
            }, f"decay {value:g}"
        if "regularizer" in fault:
            return {"regularizer": None}, "no penalty"
        if "dropout" in fault:
            share = re.search(r"Dropout\(([0-9.]+)\)|dropout (?:of|to) ([0-9.]+)", text)
            value = float(next(filter(None, share.groups()))) if share else 0.3
            return {"dropout": value}, f"dropout {value:g}"
        return None
    if code == "clipping_too_hard":
        options = {
            key: value
            for key, value in fault.get("optimizer_options", {}).items()
            if not key.startswith("clip")
        }
        return {"optimizer_options": {**options, "clipnorm": 1.0}}, "clipnorm 1"
    if code in (
        "zero_initialization",
        "symmetric_initialization",
        "initial_scale_too_large",
        "initial_scale_too_small",
    ):
        if not {"initializer", "branch"} & set(fault):
            return None
        name = next((name for name in ("he_normal", "glorot_uniform") if name in text), "glorot_uniform")
        return {"initializer": name}, name
    if code in ("dead_relu", "dead_at_start"):
        other = re.search(r"leaky_relu|LeakyReLU|elu|gelu|swish|silu", text)
        name = {"LeakyReLU": "leaky_relu"}.get(other.group(0), other.group(0)) if other else None
        return ({"activation": name}, name) if name else None
    if code in ("vanishing", "saturated"):
        other = re.search(r"\b(relu|gelu|elu|selu)\b", text)
        return ({"activation": other.group(1)}, other.group(1)) if other and "activation" in fault else None
    if code in ("unscaled_inputs", "constant_inputs") and ("inputs" in fault or fault.get("raw")):
        usual = fault.get("inputs", lambda x: x)
        memory = {}

        def scaled(x):
            x = np.asarray(usual(x), "float32")
            flat = x.reshape(-1, x.shape[-1])
            memory.setdefault("mean", flat.mean(0))
            memory.setdefault("spread", flat.std(0) + 1e-6)
            return ((x - memory["mean"]) / memory["spread"]).astype("float32")

        return {"inputs": scaled}, "inputs standardized"
    if code == "frozen" and "weights" in fault:

        def thaw(model):
            for layer in model.layers:
                layer.trainable = True

        return {"weights": thaw}, "trainable = True"
    if code == "missing_shuffle":
        if "shuffle" in fault:
            return {"shuffle": True}, "shuffle"
        return {"options": {**fault.get("options", {}), "shuffle": True}}, "shuffle=True"
    if code == "batch_norm_statistics" and "momentum" in fault:
        value = re.search(r"momentum\s*=\s*([0-9.]+[0-9])", text)
        value = float(value.group(1)) if value else 0.9
        return {"momentum": value}, f"momentum {value:g}"
    if code == "batch_too_small":
        return {"batch": 32}, "batch of 32"
    if "from_logits=True" in text and code in ("logits_as_probabilities", "softmax_twice") and not heads:
        loss = fault.get("loss")
        return ({"loss": keras.losses.get(loss)}, "from_logits") if loss else None
    change = {}
    part = next(iter(sorted({"head", "lm_head", "amount_head", "kind_head"} & set(fault))), None)
    if heads and part:
        change[part] = heads[0][1]
    loss = re.search(r"loss\s*=\s*['\"](\w+)['\"]", text)
    if loss and {"head", "loss"} & set(fault):
        change["loss"] = loss.group(1)
    if change:
        return change, ", ".join(f"{part} {value}" for part, value in change.items())
    if code == "labels_out_of_range" and "targets" in fault:
        whole = re.search(r"subtract|0 and 1|from 0|integers|whole|divide", text)
        return ({"targets": lambda y: y}, f"labels repaired ({whole.group(0)})") if whole else None
    if code in ("unreachable_targets", "unscaled_targets") and "units" in fault:
        return {"units": lambda y: y}, "targets standardized"
    return None


# -- the battery -------------------------------------------------------------------------------------------------------


def listed():
    """Name and family of every program, and the part of the battery that each family is in."""
    from benchmarks.stranger_programs import PROGRAMS, UNSEEN, UNSEEN_2, WITHDRAWN  # heavy

    kept = [program for name, program in PROGRAMS.items() if name not in WITHDRAWN]
    parts = dict.fromkeys((program.family for program in kept), "seen")
    parts |= dict.fromkeys(UNSEEN, "unseen") | dict.fromkeys(UNSEEN_2, "unseen_2")
    return [(program.name, program.family) for program in kept], parts


def sample(programs, count):
    """At most `count` healthy and `count` broken programs of every family; a larger sample holds a smaller."""
    kept = []
    for family in dict.fromkeys(family for _, family in programs):
        for broken in (False, True):
            names = sorted(name for name, of in programs if of == family and ("/broken_" in name) == broken)
            random.Random(f"{family} {broken}").shuffle(names)
            kept += [(name, family) for name in names[:count]]
    return kept


def code_of(*folders):
    """Ten letters that change when the code in these folders does."""
    digest = hashlib.sha1()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def battery(programs, folder, *, workers=2, check=False, checked=None, seconds=900):
    """Run what has no file yet, in processes of one large family or several small ones."""
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
            if left:  # the process died in the first of these
                gone = {"name": left[0], "family": left[0].split("/")[0], "died": True}
                (folder / f"{left[0].replace('/', '.')}.json").write_text(json.dumps(gone))
                if left[1:]:
                    waiting.append((family, left[1:]))


def wilson(hits, count, z=1.96):
    """95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    share, spread = hits / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return middle - half, middle + half


def rate(hits, count):
    if not count:
        return "none"
    low, high = wilson(hits, count)
    return f"{hits} of {count}: {100 * hits / count:.0f} % ({100 * max(low, 0):.0f}-{100 * min(high, 1):.0f})"


def findings_of(record, *, final=False):
    """What was said or stands at the end, by doctor and preflight."""
    doctor, before = record.get("doctor") or {}, record.get("preflight") or {}
    return [*([] if final else doctor.get("said", [])), *doctor.get("final", []), *before.get("final", [])]


def codes_at(record, severities, **options):
    return {
        finding["code"]
        for finding in findings_of(record, **options)
        if finding["severity"] in severities and not (options.get("final") and finding.get("withdrawn"))
    }


def summary(records):
    """The rates of one group of programs."""
    died = [record for record in records if record.get("died")]
    usable = [record for record in records if record.get("as_declared")]
    healthy = [record for record in usable if record["cause"] == "healthy"]
    broken = [record for record in usable if record["cause"] != "healthy"]
    found = {"programs": len(records), "left out": len(records) - len(usable) - len(died), "died": len(died)}
    crashed = sum("crashed" in (r.get(part) or {}) for r in usable for part in ("doctor", "preflight"))
    crashed += sum("raised" in r.get("doctor", {}) and "raised" not in r["plain"] for r in usable)
    found["doctor crashed"] = crashed
    for name, severities in (("error", ("error",)), ("warning", ("warning",)), ("either", LOUD)):
        found[f"detected, {name}"] = rate(sum(bool(codes_at(r, severities)) for r in broken), len(broken))
        named = sum(bool(codes_at(r, severities) & set(r["codes"])) for r in broken)
        found[f"named, {name}"] = rate(named, len(broken))
        found[f"alarm, {name}, said or final"] = rate(
            sum(bool(codes_at(r, severities)) for r in healthy), len(healthy)
        )
        found[f"alarm, {name}, final"] = rate(
            sum(bool(codes_at(r, severities, final=True)) for r in healthy), len(healthy)
        )
    tried = [r["remedy"]["outcome"] for r in broken if "remedy" in r]
    cures = sum(outcome == "cured" for outcome in tried)
    found["first remedy cures, of those typed in"] = rate(cures, sum(o in ("cured", "failed") for o in tried))
    found["first remedy cures, of all that can be cured"] = rate(cures, len(tried))
    found["preflight skipped a check"] = sum(bool((r.get("preflight") or {}).get("skipped")) for r in usable)
    found["not automatable"] = sum(outcome == "not automatable" for outcome in tried)
    pairs = [
        (r["plain"]["cpu"], r["doctor"]["cpu"])
        for r in usable
        if r.get("doctor", {}).get("cpu") and "raised" not in r["plain"] and "raised" not in r["doctor"]
    ]
    if pairs:
        ratios = sorted(with_ / without for without, with_ in pairs)
        total = sum(with_ for _, with_ in pairs) / sum(without for without, _ in pairs)
        found["CPU with the doctor / without"] = f"{total:.2f} (median {ratios[len(ratios) // 2]:.2f})"
    return found


def failures(records):
    """One line a program that the doctor got wrong."""
    for record in sorted(records, key=lambda record: (record["family"], record["name"])):
        if record.get("died"):
            yield f"{record['name']}: the process died"
            continue
        if not record["as_declared"]:
            yield f"{record['name']}: not what it says it is (skill {record['plain']['skill']:.2f}); left out"
            continue
        for part in ("doctor", "preflight"):
            if "crashed" in (record.get(part) or {}):
                yield f"{record['name']}: {part} crashed: {record[part]['crashed']}"
        if "raised" in record.get("doctor", {}) and "raised" not in record["plain"]:
            yield f"{record['name']}: fit raised under the doctor alone: {record['doctor']['raised']}"
        loud = codes_at(record, LOUD)
        said = "; ".join(
            dict.fromkeys(
                f"{f['severity']} {f['code']} ({f.get('evidence', '')} -> {f.get('remedy', '')})"
                for f in findings_of(record)
                if f["severity"] in LOUD
            )
        )
        skill = f"skill {record['plain']['skill']:.2f}"
        if record["cause"] == "healthy":
            if loud:
                yield f"{record['name']}: FALSE ALARM, {skill}: {said}"
            continue
        skill += f", twin {record['twin']['skill']:.2f}"
        quiet = sorted(codes_at(record, ("info",)))
        if not loud:
            yield f"{record['name']}: MISSED {record['cause']}, {skill}; info: {quiet}"
        elif not loud & set(record["codes"]):
            wanted = f"{record['cause']} (any of {record['codes']})"
            yield f"{record['name']}: NOT NAMED {wanted}, {skill}; info: {quiet}: {said}"
        if record.get("remedy", {}).get("outcome") == "failed":
            yield f"{record['name']}: NOT CURED by {record['remedy']}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="families, or programs as family/name")
    parser.add_argument("--part", choices=("all", "seen", "unseen", "unseen_2"), default="all")
    parser.add_argument("--quick", action="store_true", help="two programs")
    parser.add_argument(
        "--sample", type=int, help="at most so many healthy and so many broken ones of a family"
    )
    parser.add_argument(
        "--check", action="store_true", help="only whether the programs are what they say they are"
    )
    parser.add_argument(
        "--checked",
        type=Path,
        help="folder of an earlier --check, whose runs without a doctor are taken over",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where results are kept; default: under the temporary files"
    )
    parser.add_argument("--failures", type=Path, help="also write one line a failure into this file")
    parser.add_argument("--report", action="store_true", help="run nothing, read what is there")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
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
    if arguments.sample:
        programs = sample(programs, arguments.sample)
    if arguments.part != "all":
        programs = [program for program in programs if parts[program[1]] == arguments.part]
    if not programs:
        sys.exit(
            f"No program fits. Received --only {arguments.only}. Give families as in benchmarks/stranger_programs."
        )
    if not arguments.report:
        options = {"check": arguments.check, "checked": arguments.checked}
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
        "all": records,
    }
    columns = {name: summary(group) for name, group in groups.items() if group}
    heading("strangers' programs", *columns)
    for key in next(iter(columns.values())):
        row(key, *[column.get(key, "") for column in columns.values()])


if __name__ == "__main__":
    main()
