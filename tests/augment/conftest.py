"""Tests that read the first batches of many data sets."""

import pytest


@pytest.fixture(autouse=True)
def _read_in_part(without_autotuning):
    """Every test here."""
