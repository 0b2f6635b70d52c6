"""What the tests of hostile arguments share: values nobody expects, and what counts as an explained refusal."""

import os
import traceback
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import recipes

_HOUSES = tuple(
    str(path) + os.sep
    for path in (Path(recipes.__file__).parent, Path(recipes.__file__).parent.parent / "callbacks")
)
_KERAS = str(Path(keras.__file__).parent) + os.sep
# RECIPES_EXAMPLES=50 python -m pytest tests/robustness/test_properties.py -n 0 -s: 50 times as many examples.
_TIMES = int(os.environ.get("RECIPES_EXAMPLES", 1))
COUNTS = Counter()
#: Calls that a test made by now and that were not refused, by the name of what was called.
ACCEPTED = Counter()

#: Values that no argument expects.
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([0, -1, 2**31, 2**63, 10**30]),
    st.floats(width=32),
    st.floats(0, 1),
    st.text(max_size=3),
    st.lists(st.integers(-2, 9), max_size=4),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    st.sampled_from([b"x", {}, {"a": 1}, set(), object, np.zeros(0), np.float32("nan"), np.ones((2, 2)), 1j]),
)


def example_count(number):
    """Settings of one property: so many examples, the same ones in every run unless there are more of them."""
    return settings(
        max_examples=number * _TIMES,
        derandomize=_TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def often(valid, otherwise=ANYTHING):
    """One draw of two from the valid values."""
    return st.booleans().flatmap(lambda usual: valid if usual else otherwise)


HOSTILE = st.one_of(
    ANYTHING,
    st.sampled_from(
        [
            np.zeros((0, 3, 3, 1), "uint8"),
            np.full((2, 3, 3, 3), np.inf, "float32"),
            np.zeros((2, 3, 3, 3), "complex64"),
            np.array([["a"]]),
            np.array([None, 1], object),
            np.zeros((3, 3)),
            np.ones((2, 2, 2, 2, 2)),
            tf.data.Dataset.range(3),
        ]
    ),
)
PIXELS = st.sampled_from(
    [np.arange(36, dtype="uint8").reshape(4, 3, 3, 1), np.linspace(0, 1, 108).reshape(4, 3, 3, 3)]
)


def arrays(*valid):
    """One of these, or of the images 3 x 3, or what is none."""
    return often(st.sampled_from(valid) if valid else PIXELS, HOSTILE)


@st.composite
def arguments(draw, valid, most=2):
    """Arguments drawn from what is valid, with up to `most` of them replaced by what is not."""
    chosen = {name: draw(strategy) for name, strategy in valid.items()}
    # A flag may be whatever Python takes for true or false.
    asked = sorted(name for name, strategy in valid.items() if strategy is not st.booleans())
    for name in (
        draw(st.lists(st.sampled_from(asked), max_size=min(most, len(asked)), unique=True)) if asked else ()
    ):
        chosen[name] = draw(HOSTILE)
    return chosen


def explained(call, *args, **kwargs):
    """Call something with whatever arguments: its result, or None where it refused them in words of our own.

    Anything else fails: another kind of exception, or one that was raised inside TensorFlow, Keras or numpy.
    """
    COUNTS["tried"] += 1
    name = getattr(call, "__name__", type(call).__name__)
    ACCEPTED[name] += 0
    try:
        result = call(*args, **kwargs)
        ACCEPTED[name] += 1
    except (ValueError, TypeError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error)
        missing = "Received" not in text and "received" not in text
        # Keras says as well as we do what is wrong with an initializer or a seed that is passed on to it.
        known = frame.filename.startswith((*_HOUSES, _KERAS))
        if not known or missing or len(text) < 40:
            _fail(error, call, args, kwargs)
        result = None
        COUNTS["refused"] += 1
    except tf.errors.InvalidArgumentError as error:  # what only the pixels can tell, inside tf.data
        if "expects" not in str(error) or "Received" not in str(error):
            _fail(error, call, args, kwargs)
        result = None
        COUNTS["refused"] += 1
    except Exception as error:
        _fail(error, call, args, kwargs)
        result = None
    COUNTS["survived"] += 1
    return result


def _fail(error, call, args, kwargs):
    where = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in where if frame.filename.startswith(_HOUSES)]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "no line of ours"
    shown = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])[:300]
    name = getattr(call, "__name__", call)
    text = " ".join(f"{name}({shown}): {type(error).__name__} at {place}: {str(error)[:200]!r}".split())
    log = os.environ.get("RECIPES_EXAMPLES_LOG")
    if not log:
        raise AssertionError(f"unexplained: {text}") from error
    with open(log, "a") as file:  # to see all there are, not the first
        file.write(f"{place}\t{type(error).__name__}\t{text}\n")
    COUNTS["survived"] -= 1
