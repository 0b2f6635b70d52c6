"""Looks inside one training step, for every monitor at once; see `recipes.callbacks` for the monitors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recipes.common.backends import require_probe
from recipes.probe.record import Probe as Probe
from recipes.probe.record import Record as Record

if TYPE_CHECKING:
    from recipes.probe.active_units import dead_units as dead_units
    from recipes.probe.hub import Hub as Hub

# What measures has an adapter a backend; what was measured can be read on every one.
_MEASURES = {"Hub": "recipes.probe.hub", "dead_units": "recipes.probe.active_units"}

__all__ = [
    "Hub",
    "Probe",
    "Record",
    "dead_units",
]


def __getattr__(name: str) -> Any:
    if name not in _MEASURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_probe(f"recipes.probe.{name}")
    return getattr(import_module(_MEASURES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
