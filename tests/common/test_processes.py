"""Which process of several this one is, by the backend; torch's are played by an object with its functions."""

import sys
import types

import keras

from recipes.common import processes


def test_torch_processes_are_counted_as_torch_distributed_says(monkeypatch):
    met = []
    group = types.SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda: 4,
        get_rank=lambda: 2,
        barrier=lambda: met.append(2),
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(distributed=group))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert (processes.process_count(), processes.process_index(), processes.is_first_process()) == (
        4,
        2,
        False,
    )
    processes.meet("here")
    assert met == [2]
    group.is_initialized = lambda: False
    assert (processes.process_count(), processes.process_index(), processes.is_first_process()) == (
        1,
        0,
        True,
    )
    processes.meet("alone")
    assert met == [2]
