"""The error for a run of which another worker is gone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from recipes.common.processes import others, process_count

# What TensorFlow raises where a worker is killed, frozen, started again alone, or out of reach.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
# The reason in TensorFlow's message, between the place in the program and the calls below it.
_REASON = re.compile(r"aborted by: (.+?)(?= Additional GRPC| The error could| The tasks have| \[\[| \[Op:|$)")
_TASK = re.compile(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)")
_WORDS = ("ollective", "check alive", "onnection", "ocket closed", "RPC", "peer", "task:")


class LostWorkerError(RuntimeError):
    """Another worker of the run has ended, or no longer answers."""


@contextlib.contextmanager
def lost_workers_told() -> Iterator[None]:
    """Turn what TensorFlow raises when a worker is gone into a `LostWorkerError`; other errors pass.

    A worker that was killed is noticed at the next exchange of gradients. One that hangs is noticed by TensorFlow's
    health check, which looks every 30 seconds and asks three times, for ten seconds each.
    """
    try:
        yield
    except _LOST as error:
        text = " ".join(str(error.message).split())
        reason = _REASON.search(text)
        if process_count() < 2 or not any(word in text for word in _WORDS):
            raise
        raise LostWorkerError(
            f"MultiWorkerStrategy expects all {process_count()} workers to take part in every step. Received no more "
            f"answers from {_named(text)} (TensorFlow: {reason[1] if reason else text[:200]}). Start all workers "
            "again, also those that wait: with run_dir= and resume=True they go on from the last backup."
        ) from error


def _named(text):
    """The worker that a message of TensorFlow is about, as far as the message tells."""
    known = others()
    told = [name for name in map(":".join, _TASK.findall(text)) if name in known]
    name = told[-1] if told else next(iter(known), "") if len(known) == 1 else ""
    return f"another worker, {name} at {known[name]}" if name else "another worker"
