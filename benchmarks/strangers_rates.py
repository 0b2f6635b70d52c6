"""Rates of the doctor on the programs of `stranger_programs/`, with Wilson intervals, and how two runs differ."""

import json
import math
from pathlib import Path

from benchmarks.strangers_remedies import LOUD


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
    """Findings of doctor and preflight: those reported during training (unless `final`), and those at the end."""
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
    """One line for each program that the doctor got wrong."""
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
            yield f"{record['name']}: fit raised an error only with the doctor: {record['doctor']['raised']}"
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


def read(folder):
    """The results in a folder, by name of the program."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text())
        if "name" in record and not record.get("died"):
            found[record["name"]] = record
    return found


def state(record):
    """What the doctor said about a program, in one or two words."""
    loud = codes_at(record, LOUD)
    if record["cause"] == "healthy":
        return "alarm" if loud else "quiet"
    named = "named" if loud & set(record["codes"]) else "detected"
    named = named if loud else "missed"
    outcome = record.get("remedy", {}).get("outcome")
    return f"{named}, {outcome}" if outcome in ("cured", "failed") else named


def compare(old, new):
    """Rates of the programs that both folders have, and a line for each program with different results.

    This is how a changed threshold is judged: the loss of recall on broken programs of the affected families is shown
    beside the gain on healthy ones.

    Returns:
        `(columns, lines)`: the summaries by name, and text.
    """
    old, new = read(old), read(new)
    both = sorted(
        name for name in set(old) & set(new) if old[name]["as_declared"] and new[name]["as_declared"]
    )
    changed = [name for name in both if state(old[name]) != state(new[name])]
    families = sorted({old[name]["family"] for name in changed})
    affected = [name for name in both if old[name]["family"] in families]
    columns = {
        "before": summary([old[name] for name in both]),
        "after": summary([new[name] for name in both]),
        "before, affected families": summary([old[name] for name in affected]),
        "after, affected families": summary([new[name] for name in affected]),
    }
    lines = [f"{name} ({old[name]['cause']}): {state(old[name])} -> {state(new[name])}" for name in changed]
    return columns, lines
