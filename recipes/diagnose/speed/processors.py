"""The processors that this process may use, and whether other programs want them too."""

import hashlib
import os
import threading
import time

_SPIN = 0.015  # seconds: several turns of a scheduler that shares a processor out
_MOST_THREADS = 8
_PAUSES = (0.0, 0.1, 0.3)  # seconds
_UNSHARED = 0.85


def cores() -> int:
    """Processors that this process may use: those it is pinned to, not all that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_is_busy() -> bool:
    """Whether other programs take a good part of the processors that this process may use.

    A thread for each processor (eight at most) works for 15 ms; where the best of three tries got less than 85 % of
    them, and of three more after each of two pauses, others are at work: in the pauses this process's own prefetching
    ends. A load average would count programs on processors that this process may not use, and itself.
    """
    for pause in _PAUSES:
        time.sleep(pause)
        if max(_share_got() for _ in range(3)) >= _UNSHARED:
            return False
    return True


def _share_got():
    """The share of the processors that threads get which want them whole, 0 to 1."""
    count = min(cores(), _MOST_THREADS)
    shares: list[float] = []
    threads = [threading.Thread(target=_spin, args=(shares,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(1.0, sum(shares) / count)


def _spin(shares):
    block, began, used = bytes(65536), time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < _SPIN:
        hashlib.sha256(block)  # holds no interpreter lock
    shares.append((time.thread_time() - used) / (time.perf_counter() - began))
