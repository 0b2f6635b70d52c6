"""Says at the end how many hostile arguments were tried; and no property may hold because everything is refused."""

import pytest
from hostile_values import ACCEPTED, COUNTS


@pytest.fixture(scope="session", autouse=True)
def _say_counts():
    yield
    if COUNTS["tried"]:
        print(
            "\nproperties: "
            + ", ".join(f"{name} {COUNTS[name]}" for name in ("tried", "survived", "refused"))
        )


@pytest.fixture(autouse=True)
def _something_is_accepted():
    ACCEPTED.clear()
    yield
    refused = [name for name, count in ACCEPTED.items() if not count]
    assert not refused, f"{refused} refused all that they were given, so nothing was tried"
