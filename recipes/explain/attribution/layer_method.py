"""Make a public attribution from an equation of activations and gradients: the common part of Grad-CAM and others."""

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
    """An attribution whose equation gives evidence for and against the target."""

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
            model, images, target: As in every method; see `recipes.explain`.
            relu: True keeps only positive evidence, as in the paper; False returns signed maps.
            options: The options of `LayerOptions`: the layer, and the options of every attribution.

        Returns:
            float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

        Raises:
            ValueError: when the layer has no spatial axes, or an argument does not fit the model; the message tells
                what to type instead.
        """


class PositiveMap(Protocol):
    """An attribution whose equation gives positive evidence only."""

    equation: Equation

    def __call__(
        self, model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
    ) -> FloatArray:
        """Maps of a layer.

        Args:
            model, images, target: As in every method; see `recipes.explain`.
            options: The options of `LayerOptions`: the layer, and the options of every attribution.

        Returns:
            float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

        Raises:
            ValueError: when the layer has no spatial axes, or an argument does not fit the model; the message tells
                what to type instead.
        """


def signed_map(equation: Equation) -> SignedMap:
    """Make an attribution from an equation of either sign; see `SignedMap` for its arguments and result.

    Args:
        equation: function `(activations, gradients) -> maps`, from two arrays `(n, *spatial, channels)` to `(n,
            *spatial)`. It is kept as `method.equation`.
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
    """Make an attribution from an equation that is never below 0; see `signed_map` and `PositiveMap`."""

    def method(
        model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
    ) -> FloatArray:
        return layer_maps(equation.__name__, equation, model, images, target, **options)

    return cast(PositiveMap, _public(method, equation, PositiveMap))


def _public(method: Call, equation: Equation, kind: type) -> Call:
    """Give a method the name and description of its equation, and the documented arguments of its kind."""
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(method, name, getattr(equation, name))
    said, rest = inspect.getdoc(equation) or "", inspect.getdoc(kind.__call__) or ""
    method.__doc__ = said + "\n\n" + textwrap.dedent(rest[rest.find("Args:") :])
    public: Any = shares(LayerOptions)(method)
    public.equation = equation
    return public
