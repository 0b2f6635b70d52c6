"""One cause of slow training, with what its remedy gains."""

from dataclasses import dataclass

#: Every cause that is looked for, cheapest to try first.
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
        evidence: A sentence with the numbers that speak for it.
        remedy: What to type.
        before: Seconds a step as it is, callbacks and validation included; for a larger batch, of as many examples.
        after: Seconds a step with the remedy.
        tried: Whether the remedy was tried and `after` measured; else it is predicted.
        unit: What `before` and `after` are times of.
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
        """Share of the time that the remedy saves, 1 at most."""
        return 1.0 - self.after / self.before if self.before > 0 else 0.0

    def __str__(self) -> str:
        how = "tried" if self.tried else "predicted, not tried"
        return (
            f"{self.code.replace('_', ' ')}: {self.evidence} {self.remedy} "
            f"{self.before * 1e3:.3g} ms -> {self.after * 1e3:.3g} ms {self.unit} ({how})."
        )
