"""One cause of slow training, and the time that its remedy saves."""

from dataclasses import dataclass

#: All causes that are looked for, the cheapest remedy first.
CODES = (
    "batch_callback",
    "run_eagerly",
    "no_prefetch",
    "steps_per_execution",
    "serial_map",
    "too_many_threads",
    "small_batch",
    "float64",
    "mixed_precision",
    "xla",
    "retracing",
    "python_map",
    "keras_layer_in_map",
    "decoded_every_epoch",
    "map_per_example",
    "shuffle_decoded",
    "long_validation",
)


@dataclass(frozen=True)
class Slowdown:
    """A cause of slow training.

    Attributes:
        code: One of `CODES`.
        evidence: A sentence with the measurements that show this cause.
        remedy: What to type.
        before: Seconds per step without the remedy, callbacks and validation included. For "small_batch", the seconds
            for as many examples as the larger batch has.
        after: Seconds per step with the remedy.
        tried: Whether the remedy was tried and `after` was measured; otherwise `after` is predicted.
        unit: What `before` and `after` are the times of, as printed.
    """

    code: str
    evidence: str
    remedy: str
    before: float
    after: float
    tried: bool
    unit: str = "a step"

    @property
    def gain(self) -> float:
        """Share of the time that the remedy saves, at most 1; negative where the remedy makes it slower."""
        return 1.0 - self.after / self.before if self.before > 0 else 0.0

    def __str__(self) -> str:
        how = "tried" if self.tried else "predicted, not tried"
        return (
            f"{self.code.replace('_', ' ')}: {self.evidence} {self.remedy} "
            f"{self.before * 1e3:.3g} ms -> {self.after * 1e3:.3g} ms {self.unit} ({how})."
        )
