"""Where the time of a usual epoch went, in parts that add up to it."""

from collections.abc import Mapping, Sequence


def usual_epoch(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The epoch of median length among all but the first, which traces; the first where it is the only one.

    One epoch and not medians of each part: these would not add up where epochs differ.

    Args:
        times: A row for each epoch: seconds of its parts, and of the whole under "epoch".
    """
    later = sorted(times[1:] or times, key=lambda row: row["epoch"])
    return dict(later[len(later) // 2]) if later else {}


def parts_of_epoch(row: Mapping[str, float], words: Mapping[str, str]) -> list[tuple[str, float, int]]:
    """`(words, seconds, percent)` of each part of at least 1 %, and of the rest; the percentages add up to 100.

    They are rounded by largest remainders.

    Args:
        row: Seconds by part, and of the whole under "epoch", above 0.
        words: How each part is called, in the order to be told.
    """
    whole = row["epoch"]
    told = {words[name]: row[name] for name in words if row.get(name, 0.0) >= 0.01 * whole}
    rest = whole - sum(told.values())
    if rest > 1e-4 * whole:
        told["the rest"] = rest
    # Parts that are measured side by side may overlap a little.
    exact = {said: 100 * seconds / sum(told.values()) for said, seconds in told.items()}
    percent = {said: int(share) for said, share in exact.items()}
    by_remainder = sorted(exact, key=lambda said: percent[said] - exact[said])
    for said in by_remainder[: 100 - sum(percent.values())]:
        percent[said] += 1
    return [(said, seconds, percent[said]) for said, seconds in told.items() if percent[said]]
