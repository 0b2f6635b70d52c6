"""What a map explains or an image is made for besides a class: units, directions, and sums of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recipes.common.validation import is_number


class Term:
    """What can be added up: `2 * Unit("conv3", 4) - Class(7)` is a target like each of them."""

    __array_ufunc__ = None  # numpy leaves `np.float32(2) * Unit(...)` to us

    def __mul__(self, weight: float) -> "Sum":
        return Sum(((_checked(weight), self),))

    __rmul__ = __mul__

    def __neg__(self) -> "Sum":
        return -1.0 * self

    def __add__(self, other: "Term | int") -> "Sum":
        if isinstance(other, int) and other == 0:  # where sum() begins
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
        channel: Channel, or unit of a Dense layer; None averages over all of them.
        position: Where in the layer's map: `(row, column)` (one number per spatial axis); None averages over
            all.
        call_index: Which call of a shared layer, from 0.

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
    """A direction among a layer's channels as the target of a map or an image: a concept vector, a mean activation.

    The score is the dot product of the activation with the vector, averaged over places, and with `cosine_power` times
    a power of their cosine, which keeps other directions out. Source: Olah et al. 2018, "The Building Blocks of
    Interpretability", https://distill.pub/2018/building-blocks; the cosine as in Carter et al. 2019, "Activation
    Atlas", https://distill.pub/2019/activation-atlas, kept at least 0.1 so that an image that begins elsewhere has a
    gradient.

    Args:
        layer: Layer object, name, `"outer/inner"` path, or index.
        vector: `(channels,)`, any length but 0.
        position: As in `Unit`.
        call_index: Which call of a shared layer, from 0.
        cosine_power: Power of the cosine, at least 0; 0 leaves it out.

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
    """A class as a term of a sum: `explain.Class(281) + explain.Class(207)`. Alone, its number says the same.

    Args:
        number: Which class, from 0.
        output: Name or position of the model's output, where it has several.
    """

    number: int
    output: str | int | None = None


@dataclasses.dataclass(frozen=True)
class Sum(Term):
    """A weighted sum of targets, made by `+`, `-` and `*`.

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
