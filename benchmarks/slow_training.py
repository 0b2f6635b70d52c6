"""Does diagnose.throughput name the cause of slow training? Planted causes with three models each, and healthy set-ups.

    python benchmarks/slow_training.py                     all: about twenty minutes on a machine that does nothing else
    python benchmarks/slow_training.py --only python_map   one cause
    python benchmarks/slow_training.py --healthy 8         all causes and 8 healthy set-ups
    python benchmarks/slow_training.py --out slow.jsonl --minutes 12     in several turns: the next call continues

On a machine with one processor nothing can be read in parallel with a step, so `no_prefetch` and `serial_map` are no
causes there and are left out. On a busy machine (the table says so), times are medians, remedies are compared in turns
by CPU time, and the gain of overlapping is predicted.

A cause counts as named if a finding has its code. Whether XLA hurts or would help depends on the processor, so the
repaired program decides: if it is not a tenth faster, naming the cause would be false. A finding on a healthy set-up is
a false alarm, with one exception: mixed precision, XLA and steps_per_execution may help there too, depending on the
processor, and such a finding is right if the set-up is at least a tenth faster when it is built that way. If a remedy
was tried, the repaired program is run in turns with the slow one; the table shows how far its step time is from the
predicted one.
"""

import argparse
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from slow_set_ups import BY_PROCESSOR, CODE_OF, MODELS, NEED_TWO_PROCESSORS, PLANTED, healthy

from recipes import diagnose
from recipes.diagnose.speed.measured_run import real_data
from recipes.diagnose.speed.processors import cores, machine_is_busy
from recipes.diagnose.speed.step_times import kept, time_steps


def measured_ratio(slow, repaired, seconds):
    """How long a repaired step takes, as a share of the slow one; on a busy machine this is CPU time.

    Both are `(model, data, options of fit)`.
    """
    sums, functions, busy = [0.0, 0.0], [None, None], machine_is_busy()
    for _ in range(2):
        for number, (one, given, options) in enumerate((slow, repaired)):
            arguments = real_data(given if isinstance(given, tuple) else (given,))
            options = {"shuffle": False, **options} if arguments[1:] == () else options
            with kept(one):
                found = time_steps(
                    *(one, arguments, seconds / 4), function=functions[number], fewest=8, **options
                )
            functions[number] = found.compiled
            sums[number] += found.processor if busy else found.without_first(3).typical
    return sums[1] / sums[0]


def said_ratio(found, finding):
    """The same share as `throughput` said it; for a larger batch, both steps are on the same number of examples."""
    beside = sum(found.parts[name] for name in ("callbacks", "validation", "keras"))
    return (finding.after - beside) / (found.step_seconds - beside)


def main():
    arguments = _options()
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = _read(arguments.out)
    until = time.monotonic() + 60 * arguments.minutes
    for case in _cases(arguments):
        if any(all(row.get(key) == value for key, value in case.items()) for row in rows):
            continue
        if time.monotonic() > until:
            break
        keras.utils.set_random_seed(0)
        row = {**case, **(judged if "cause" in case else healthy_row)(case, arguments)}
        row |= {"processors": cores(), "busy": machine_is_busy()}
        rows.append(row)
        print(_line(row), flush=True)
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    _print_tables(rows)


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=[one.__name__ for one in PLANTED])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--healthy", type=int, default=40, help="number of healthy set-ups")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", help="number of the first healthy set-up"
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, help="file of JSON lines to write and to continue")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="minutes after which no case is begun"
    )
    parser.add_argument("--show", action="store_true", help="print all that throughput says")
    return parser.parse_args()


def _cases(arguments):
    """Every planted cause with every model, mixed with the healthy set-ups, so that a shorter call has some of both."""
    chosen = [one.__name__ for one in PLANTED if arguments.only is None or one.__name__ in arguments.only]
    if cores() == 1:
        chosen = [name for name in chosen if name not in NEED_TWO_PROCESSORS]
    planted = [{"cause": name, "model": model} for model in arguments.models for name in chosen]
    healthy = [{"healthy": number} for number in range(arguments.first, arguments.healthy)]
    most = max(len(planted), len(healthy), 1)
    places = [
        (place * most // len(cases), case) for cases in (planted, healthy) for place, case in enumerate(cases)
    ]
    return [case for _, case in sorted(places, key=lambda pair: pair[0])]


def judged(case, arguments):
    """What `throughput` says about a planted cause."""
    slow, repaired = next(one for one in PLANTED if one.__name__ == case["cause"])(MODELS[case["model"]])
    model, train, options = slow
    found = diagnose.throughput(
        model, train, seconds=arguments.seconds, verbose=int(arguments.show), **options
    )
    code = CODE_OF.get(case["cause"], case["cause"])
    mine = next((one for one in found.findings if one.code == code), None)
    row = {"named": mine is not None, **_of(found, code)}
    # What reads ahead takes as much CPU time, which is all that a busy machine can show.
    known = case["cause"] in BY_PROCESSOR and not (case["cause"] == "no_prefetch" and machine_is_busy())
    if known or (mine is not None and mine.tried and repaired is not None):
        model_repaired, data = repaired
        ratio = measured_ratio((model, train, {}), (model_repaired or model, data, {}), 4.0)
    if known:
        row["truth"] = round(ratio, 3)
    if mine is None:
        return row
    row |= {"gain": round(mine.gain, 3), "tried": mine.tried}
    if mine.tried and repaired is not None:
        row["off"] = round(ratio / said_ratio(found, mine) - 1, 3)
    return row


# Remedies that may help a healthy set-up too, depending on the processor, and how to build the set-up with them.
TUNED = {
    "mixed_precision": {"dtype": "mixed_bfloat16"},
    "xla": {"jit_compile": True},
    "steps_per_execution": {"steps_per_execution": 8},
}


def healthy_row(case, arguments):
    """What `throughput` says about a healthy set-up, and whether building it as suggested is faster."""
    model, train, options = healthy(case["healthy"])
    found = diagnose.throughput(
        model, train, seconds=arguments.seconds, verbose=int(arguments.show), **options
    )
    row = _of(found, None) | {"real": {}}
    of_fit = {name: value for name, value in options.items() if name == "batch_size"}
    for one in found.findings:
        if one.tried and one.code in TUNED:
            other, data, _ = healthy(case["healthy"], **TUNED[one.code])
            ratio = measured_ratio((model, train, of_fit), (other, data, of_fit), 2.0)
            row["real"][one.code] = [round(said_ratio(found, one), 3), round(ratio, 3)]
    return row


def _of(found, code):
    others = [one.code for one in found.findings if one.code != code]
    return {
        "others": others,
        "seconds": round(found.seconds, 1),
        "beyond": round(found.seconds - found.tracing, 1),
    }


def _line(row):
    if "healthy" in row:
        real = f", said and measured {row['real']}" if row["real"] else ""
        return (
            f"healthy {row['healthy']}: {', '.join(row['others']) or 'nothing'}, {row['seconds']:.0f} s{real}"
        )
    named, others = "named" if row["named"] else "not named", ", ".join(row["others"]) or "none"
    return f"{row['cause']} {row['model']}: {named}, {row['seconds']:.0f} s; others {others}"


def _print_tables(rows):
    none = [row for row in rows if row.get("truth", 0) > 0.9]
    planted = [row for row in rows if "cause" in row and row not in none]
    healthy_rows = [row for row in rows if "healthy" in row]
    busy = sum(row["busy"] for row in rows)
    processors = "/".join(str(count) for count in sorted({row["processors"] for row in rows}))
    print(
        f"\n**Planted causes of slow training, {processors} processors, shared with others in {busy} of {len(rows)} "
        "cases**\n"
    )
    print("| cause | named | gain said | off by, tried | also said |\n|---|---:|---|---|---|")
    for name in dict.fromkeys(row["cause"] for row in planted):
        mine = [row for row in planted if row["cause"] == name]
        hits = [row for row in mine if row["named"]]
        gains = ", ".join(f"{row['gain']:.0%}" for row in hits)
        off = ", ".join(f"{row['off']:+.0%}" for row in hits if "off" in row)
        others = ", ".join(sorted({code for row in mine for code in row["others"]}))
        print(f"| `{name}` | {len(hits)} of {len(mine)} | {gains} | {off} | {others} |")
    named, off = [row for row in planted if row["named"]], [row["off"] for row in planted if "off" in row]
    if planted:
        near = sum(abs(value) <= 0.15 for value in off)
        print(
            f"\n**{len(named)} of {len(planted)} planted causes named; {near} of {len(off)} tried steps within 15 %**"
        )
    if none:
        words = ", ".join(f"{row['cause']} {row['model']} ({row['truth']:.2f} of the step)" for row in none)
        named_none = sum(row["named"] for row in none)
        print(f"\n**No cause here, as the repaired program shows: {words}; {named_none} of them named**")
    if healthy_rows:
        _print_healthy(healthy_rows)
    if rows:
        beyond = np.array([row["beyond"] for row in rows])
        print(
            f"\n**Beyond its traces it took {np.median(beyond):.0f} s (median), {beyond.max():.0f} s at most; "
            f"{np.sum(beyond <= 20)} of {len(rows)} at most 20 s**"
        )


def _print_healthy(rows):
    """Print the table of the healthy set-ups; a finding is false if building the set-up so gains less than a tenth."""
    false = [
        (row["healthy"], code)
        for row in rows
        for code in row["others"]
        if row["real"].get(code, [1, 1])[1] > 0.9
    ]
    true = [pair for row in rows for pair in row["real"].values() if pair[1] <= 0.9]
    print(
        f"\n**{len({number for number, _ in false})} of {len(rows)} healthy set-ups with a false finding**\n"
    )
    print(
        "| of healthy set-ups | said | gains at least a tenth when built so | step off by |\n|---|---:|---:|---|"
    )
    for code in sorted({code for row in rows for code in row["others"]}):
        said = sum(code in row["others"] for row in rows)
        pairs = [row["real"][code] for row in rows if code in row["real"]]
        off = ", ".join(f"{measured / given - 1:+.0%}" for given, measured in pairs)
        print(f"| `{code}` | {said} | {sum(pair[1] <= 0.9 for pair in pairs)} | {off} |")
    near = sum(abs(measured / given - 1) <= 0.15 for given, measured in true)
    print(f"\n**{near} of {len(true)} of these steps within 15 %**" if true else "")
    for number, code in false:
        print(f"healthy {number}: {code}")


def _read(file):
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
