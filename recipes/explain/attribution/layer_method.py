"""From an equation on activations and gradients to a public attribution: what Grad-CAM and its relatives share."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, check_flag, shares

Call = TypeVar("Call", bound=Callable[..., FloatArray])
Equation: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]


class SignedMap(Protocol):
    """An attribution whose equation gives evidence for and against."""

    equation: Equation

    def __call__(
        self,
        model: keras.Model,
        images: Inputs,
        target: Target = None,
        *,
        relu: bool = True,
        **options: Unpack[LayerOptions],
    ) -> FloatArray:
        """Maps of a layer.

        Args:
            model, images, target: As in every method, see `recipes.explain`.
            relu: Keep positive evidence only, as in the paper; False returns signed maps.
            options: Those of `LayerOptions`: the layer, and what every attribution takes.

        Returns:
            float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

        Raises:
            ValueError: a layer without spatial axes, and what does not fit the model, with what to type instead.
        """


class PositiveMap(Protocol):
    """An attribution whose equation gives positive evidence only."""

    equation: Equation

    def __call__(
        self, model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
    ) -> FloatArray:
        """Maps of a layer.

        Args:
            model, images, target: As in every method, see `recipes.explain`.
            options: Those of `LayerOptions`: the layer, and what every attribution takes.

        Returns:
            float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

        Raises:
            ValueError: a layer without spatial axes, and what does not fit the model, with what to type instead.
        """


def signed_map(equation: Equation) -> SignedMap:
    """Make an attribution of an equation of either sign; what it takes and returns is said in `SignedMap`.

    Args:
        equation: function `(activations, gradients) -> maps`, `(n, *spatial, channels)` each to `(n, *spatial)`. It
            stays at hand as `method.equation`.
    """

    def method(
        model: keras.Model,
        images: Inputs,
        target: Target = None,
        *,
        relu: bool = True,
        **options: Unpack[LayerOptions],
    ) -> FloatArray:
        check_flag(equation.__name__, "relu", relu)
        weigh = (lambda *layer: np.maximum(equation(*layer), 0)) if relu else equation
        return layer_maps(equation.__name__, weigh, model, images, target, **options)

    return cast(SignedMap, _public(method, equation, SignedMap))


def positive_map(equation: Equation) -> PositiveMap:
    """As `signed_map`, for an equation that is never below 0; see `PositiveMap`."""

    def method(
        model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
    ) -> FloatArray:
        return layer_maps(equation.__name__, equation, model, images, target, **options)

    return cast(PositiveMap, _public(method, equation, PositiveMap))


def _public(method: Call, equation: Equation, kind: type) -> Call:
    """Give a method the name and the words of its equation, and the arguments of its kind."""
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(method, name, getattr(equation, name))
    said, rest = inspect.getdoc(equation) or "", inspect.getdoc(kind.__call__) or ""
    method.__doc__ = said + "\n\n" + textwrap.dedent(rest[rest.find("Args:") :])
    public: Any = shares(LayerOptions)(method)
    public.equation = equation
    return public
