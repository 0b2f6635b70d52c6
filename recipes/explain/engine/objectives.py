"""Targets other than a class for maps and synthesized images: units, directions, and sums of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recipes.common.validation import is_number


class Term:
    """Base of targets that can be added and multiplied by numbers: `2 * Unit("conv3", 4) - Class(7)` is a target."""

    __array_ufunc__ = None  # so that numpy leaves `np.float32(2) * Unit(...)` to this class

    def __mul__(self, weight: float) -> "Sum":
        return Sum(((_checked(weight), self),))

    __rmul__ = __mul__

    def __neg__(self) -> "Sum":
        return -1.0 * self

    def __add__(self, other: "Term | int") -> "Sum":
        if isinstance(other, int) and other == 0:  # the start value of sum()
            return 1.0 * self
        if not isinstance(other, Term):
            return NotImplemented
        return Sum((*_terms(self), *_terms(other)))

    __radd__ = __add__

    def __sub__(self, other: "Term") -> "Sum":
        return self + -other if isinstance(other, Term) else NotImplemented


@dataclasses.dataclass(frozen=True)
class Unit(Term):
    """A neuron, a channel or a layer as the target of a map.

    Args:
        layer: Layer object, name, `"outer/inner"` path, or index.
        channel: Number of the channel, or of the unit of a Dense layer, from 0; None averages over all channels.
        position: Position in the layer's map: `(row, column)`, one number per spatial axis, from 0; None averages over
            all positions.
        call_index: Number of the call of a shared layer, from 0.

    Example:
        >>> explain.saliency(model, images, explain.Unit("conv3", channel=12))
        >>> explain.class_image(model, explain.Unit("conv3", 12) + 0.5 * explain.Unit("conv4", 3))
    """

    layer: object
    channel: int | None = None
    position: tuple | int | None = None
    call_index: int | None = None


@dataclasses.dataclass(frozen=True)
class Direction(Term):
    """A direction in the space of a layer's channels as a target, such as a concept vector or a mean activation.

    The score is the dot product of the activation with the vector, averaged over positions. With `cosine_power`, it is
    multiplied by a power of their cosine, which excludes other directions. Source: Olah et al. 2018, "The Building
    Blocks of Interpretability", https://distill.pub/2018/building-blocks; the cosine follows Carter et al. 2019,
    "Activation Atlas", https://distill.pub/2019/activation-atlas. It is at least 0.1, so that an image that starts in
    another direction has a gradient.

    Args:
        layer: Layer object, name, `"outer/inner"` path, or index.
        vector: `(channels,)`, finite and not all 0.
        position: As in `Unit`.
        call_index: Number of the call of a shared layer, from 0.
        cosine_power: Power of the cosine, >= 0; 0 leaves the cosine out.

    Example:
        >>> mean = explain.activations(model, striped, "conv4").mean((0, 1, 2))
        >>> explain.class_image(model, explain.Direction("conv4", mean, cosine_power=2))
    """

    layer: object
    vector: Sequence[float]
    position: tuple | int | None = None
    call_index: int | None = None
    cosine_power: float = 0.0


@dataclasses.dataclass(frozen=True)
class Class(Term):
    """A class as a term of a sum: `explain.Class(281) + explain.Class(207)`. For a single class its number is enough.

    Args:
        number: Number of the class, from 0.
        output: Name or position of the model's output, if it has several.
    """

    number: int
    output: str | int | None = None


@dataclasses.dataclass(frozen=True)
class Sum(Term):
    """A weighted sum of targets, as `+`, `-` and `*` make it.

    Args:
        terms: `((weight, Unit | Direction | Class), ...)`.
    """

    terms: tuple[tuple[float, Any], ...]

    def __mul__(self, weight: float) -> "Sum":
        weight = _checked(weight)
        return Sum(tuple((weight * one, term) for one, term in self.terms))

    __rmul__ = __mul__


def _terms(term):
    return term.terms if isinstance(term, Sum) else ((1.0, term),)


def _checked(weight):
    if not is_number(weight):
        raise TypeError(
            f"A target expects to be multiplied with a number. Received {weight!r}. Write for example "
            "0.5 * explain.Unit('conv3', 12)."
        )
    return float(weight)
