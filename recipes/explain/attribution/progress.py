"""The progress bar of attributions that take many passes."""

import time

import keras

from recipes.common.types import Verbose


class Progress:
    """A progress bar, shown on request, or automatically if less than half is done after three seconds.

    Args:
        total: Number of evaluations to do.
        verbose: "auto", or whether to show the bar.
    """

    def __init__(self, total: int, verbose: Verbose) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.automatic = verbose == "auto"
        self.bar = (
            keras.utils.Progbar(total, unit_name="evaluation") if verbose and not self.automatic else None
        )

    def add(self, count: int) -> None:
        if self.done >= self.total:
            return  # a full bar would be written again, on a new line
        self.done += count
        if (
            self.automatic
            and not self.bar
            and time.monotonic() > self.start + 3
            and 2 * self.done < self.total
        ):
            self.bar = keras.utils.Progbar(self.total, unit_name="evaluation")
        if self.bar:
            self.bar.update(min(self.done, self.total))

    def finish(self) -> None:
        """Show a full bar, also if fewer evaluations were needed than expected, for example for known classes."""
        if self.bar and self.done < self.total:
            self.done = self.total
            self.bar.update(self.total)
