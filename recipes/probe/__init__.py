"""Looks inside one training step, for every monitor at once; see `recipes.callbacks` for the monitors."""

from recipes.common.backends import require_tensorflow
from recipes.probe.hub import Hub as Hub
from recipes.probe.record import Probe as Probe
from recipes.probe.record import Record as Record
from recipes.probe.tensorflow.dead_units import dead_units as dead_units

require_tensorflow("recipes.probe", "whose train function it looks into")

__all__ = [
    "Hub",
    "Probe",
    "Record",
    "dead_units",
]
