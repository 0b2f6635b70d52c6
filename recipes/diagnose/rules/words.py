"""Numbers in words, as findings print them."""

import math
from collections.abc import Sequence

_LARGE = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def times(value: float) -> str:
    """A number above 0 in words, to two or three digits: "0.00012", "2.2", "340", "2,200", "19 million"."""
    if not math.isfinite(value):
        return "infinitely many"
    for size, name in _LARGE:
        if abs(value) >= size:
            return f"{value / size:.2g} {name}" if abs(value) < 100 * size else f"{value / size:,.0f} {name}"
    if abs(value) >= 1000:
        digits = 10 ** (math.floor(math.log10(abs(value))) - 1)
        return f"{round(value / digits) * digits:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"


def share(ratio: float) -> str:
    """A ratio in words: percent, "2.5 times" from 1 on, or "one part in 2 million" where it is next to nothing."""
    if ratio >= 1:
        return f"{times(ratio)} times"
    if 0 < ratio < 1e-6:
        return f"one part in {times(1 / ratio)}"
    return f"{100 * ratio:.2g} %"


def counted(number: int, noun: str) -> str:
    """A count with its noun: "1 unit", "3 units"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def typed(value: float) -> str:
    """A number with one significant digit, as one types it: "10", "0.003", "2e-05"."""
    return f"{float(f'{value:.1g}'):g}"


def part_of(ratio: float, what: str) -> str:
    """A share of something: "30 % of its size", or "2.5 times its size" where it is larger than that."""
    return f"{share(ratio)} {what}" if ratio >= 1 else f"{share(ratio)} of {what}"


def far_outside(quartiles: Sequence[float], low: float, high: float) -> bool:
    """Whether numbers lie far outside a range: their median, or both outer quarters, by half of its width.

    Args:
        quartiles: The 25th, 50th and 75th percentile of the numbers.
        low: Lower end of the range, or -inf.
        high: Upper end of the range, or inf.
    """
    first, middle, third = quartiles
    spare = 0.5 * (high - low) if math.isfinite(high - low) else 0.0
    low, high = low - spare, high + spare
    return not low <= middle <= high or (first < low and third > high)
