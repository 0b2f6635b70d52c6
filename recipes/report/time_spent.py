"""Where the time of a run went: by its own clock, and by a measurement of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.common.epoch_times import parts_of_epoch, usual_epoch

if TYPE_CHECKING:
    from recipes.diagnose.speed.throughput import Throughput

_WORDS = {
    "steps": "steps",
    "input": "waiting for their input",
    "first": "extra time of the first step: tracing, or filling a shuffle buffer",
    "callbacks": "callbacks, and Keras' own loop",
    "validation": "validation",
    "garbage": "Python's garbage collector",
}


def time_spent(run: Any, throughput: Throughput | None) -> dict[str, Any] | None:
    """What the page says about the time that training took.

    Args:
        run: As in `write_report`; `settings["times"]` holds seconds of each epoch where `recipes.train` noted them.
        throughput: What `diagnose.throughput` returned, or None.

    Returns:
        `{"said", "parts", "measured", "svgs", "description"}` - a sentence, rows `(what, seconds, share)`, and the
        measurement with its figure -, or None where nothing is known.

    Raises:
        TypeError: when `throughput` is not such a measurement.
    """
    if throughput is not None and not hasattr(throughput, "step_seconds"):
        raise TypeError(
            "write_report expects throughput= to be what diagnose.throughput returned. Received "
            f"{type(throughput).__name__}. Measure with recipes.diagnose.throughput(run.model, train, validation)."
        )
    times = (run.settings or {}).get("times") or []
    if throughput is None and not times:
        return None
    said, parts = _of_epochs(run.settings, times) if times else ("", [])
    return {"said": said, "parts": parts, "measured": throughput, **_figure(throughput)}


def _of_epochs(settings, times):
    whole = np.array([one["epoch"] for one in times])
    usual = usual_epoch(times)
    examples = settings.get("examples")
    rate = examples / usual["epoch"] if examples and usual["epoch"] > 0 else None
    said = f"{len(times)} epoch{'s' if len(times) > 1 else ''} took {_time(whole.sum())}"
    if len(times) == 2:
        said += f": the first {_time(whole[0])}, in which everything is traced, the other {_time(whole[1])}"
    elif len(times) > 2:
        # The rest and not the usual epoch: a run that was resumed traces again, so that the parts would not add up.
        said += f": the first {_time(whole[0])}, in which everything is traced, the others {_time(whole[1:].sum())}"
        said += f", usually {_time(usual['epoch'])} each, and longer where a run is resumed and traces again"
    said += f"; {rate:,.0f} training examples per second." if rate else "."
    told = dict(_WORDS)
    if "input" not in usual:
        told["steps"] += ", with waiting for their input"
    found = parts_of_epoch(usual, told) if usual["epoch"] > 0 else []
    parts = [(words, _time(seconds), f"{percent}%") for words, seconds, percent in found]
    return said, parts


def _figure(found):
    if found is None:
        return {"svgs": [], "description": ""}
    from recipes import plot  # noqa: PLC0415 - brings matplotlib
    from recipes.plot.inline import to_svgs  # noqa: PLC0415 - brings matplotlib

    shares = ", ".join(
        f"{name} {seconds / max(found.step_seconds, 1e-9):.0%}"
        for name, seconds in found.parts.items()
        if seconds > 0.005 * found.step_seconds
    )
    text = f"A step of {found.examples} examples takes {found.step_seconds * 1e3:.3g} ms: {shares}."
    return {"svgs": to_svgs(plot.throughput(found), text), "description": text}


def _time(seconds):
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.3g} s" if seconds < 60 else f"{minutes} min {rest:02d} s"
