"""The processors that this process may use, and whether other programs want them too."""

import hashlib
import os
import threading
import time

_SPIN = 0.015  # seconds: several time slices of the scheduler
_MOST_THREADS = 8
_PAUSES = (0.0, 0.1, 0.3)  # seconds
_UNSHARED = 0.85


def cores() -> int:
    """Number of processors that this process may use: those it is pinned to, not all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_is_busy() -> bool:
    """Whether other programs take a good part of the processors that this process may use.

    One thread per processor (eight at most) computes for 15 ms, three times. Where even the best of the three gets
    less than 85 % of the processors' time, this is repeated after a pause of 0.1 s, and again after one of 0.3 s. In
    the pauses, this process's own prefetching ends. The machine is busy where all repetitions fall short. A load
    average would also count this process, and programs on processors that this process may not use.
    """
    for pause in _PAUSES:
        time.sleep(pause)
        if max(_share_got() for _ in range(3)) >= _UNSHARED:
            return False
    return True


def _share_got():
    """Share of the processors' time, in [0, 1], that threads which compute without pause get."""
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
        hashlib.sha256(block)  # releases the interpreter lock
    shares.append((time.thread_time() - used) / (time.perf_counter() - began))
