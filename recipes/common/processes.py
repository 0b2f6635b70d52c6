"""One training run in several processes: how many, which of them writes files, and waiting for all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras


class _Workers(NamedTuple):
    """The processes of a TensorFlow run, as their strategy reported them."""

    index: int
    count: int
    meet: Callable[[], None]
    addresses: Mapping[str, str]


_workers: _Workers | None = None


def join(
    index: int, count: int, meet: Callable[[], None], addresses: Mapping[str, str] | None = None
) -> None:
    """Register this process as one of several in a run on TensorFlow, which only the strategy knows.

    Args:
        index: Place of this process, from 0.
        count: Number of processes.
        meet: Waits until every process has called it.
        addresses: "host:port" of every worker by its name, such as "worker:1", in the order of the processes.
    """
    global _workers
    _workers = _Workers(index, count, meet, addresses or {})


def others() -> dict[str, str]:
    """Addresses of the other workers of a TensorFlow run by their names, such as "worker:1"."""
    known = list(_workers.addresses.items()) if _workers else []
    return {name: address for place, (name, address) in enumerate(known) if place != _workers.index}


def process_count() -> int:
    """Number of processes of the run, by Keras' backend.

    On TensorFlow, the workers of a `distribution.MultiWorkerStrategy`; on JAX, the processes of
    `keras.distribution.initialize`; on torch, the processes of `torch.distributed`, according to its documentation (not
    tested with several).
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415 - an optional library

        return jax.process_count()
    if backend == "torch":
        group = _torch_group()
        return group.get_world_size() if group else 1
    return _workers.count if _workers else 1


def process_index() -> int:
    """Place of this process among the processes of the run, from 0."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415 - an optional library

        return jax.process_index()
    if backend == "torch":
        group = _torch_group()
        return group.get_rank() if group else 0
    return _workers.index if _workers else 0


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return process_index() == 0


def meet(place: str) -> None:
    """Wait until every process of the run has come here, so that all can read what the first one has written.

    Args:
        place: A name for the place, the same in every process.
    """
    if process_count() == 1:
        return
    backend = keras.backend.backend()
    if backend == "jax":
        from jax.experimental import multihost_utils  # noqa: PLC0415 - an optional library

        multihost_utils.sync_global_devices(place)
    elif backend == "torch":
        _torch_group().barrier()
    else:
        _workers.meet()


def _torch_group():
    """torch.distributed, where a process group is initialized; only if the user has imported torch."""
    group = getattr(sys.modules.get("torch"), "distributed", None)
    return group if group and group.is_available() and group.is_initialized() else None
