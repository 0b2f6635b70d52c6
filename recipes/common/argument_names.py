"""Names of arguments that a function does not have: the error says which function, and which name is meant."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from recipes.common.nearest import nearest

P = ParamSpec("P")
R = TypeVar("R")


def check_names(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first name that is not known.

    Args:
        caller: The function or class as the user types it.
        given: Names of the arguments that it was given.
        known: Names of those that it has.

    Raises:
        TypeError: with the nearest name.
    """
    known = list(known)
    for name in given:
        if name not in known:
            near = nearest(name, known)
            wish = f"Did you mean {near}=?" if near else "Leave it out."
            raise TypeError(f"{caller} expects arguments from {', '.join(known)}. Received {name}=. {wish}")


def names_arguments(caller: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function refuse unknown arguments in words.

    Args:
        caller: The function as the user types it.
    """

    def of(function: Callable[P, R]) -> Callable[P, R]:
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            check_names(caller, kwargs, known)
            return function(*args, **kwargs)

        return call

    return of


def names_of_init(kind: type[Any]) -> list[str] | None:
    """Names of the arguments of a class, with those that `**options` pass on to its bases; None where any name goes."""
    found: dict[str, None] = {}
    for one in kind.__mro__:
        if "__init__" not in vars(one) or one is object:
            continue
        passes_on = False
        for name, parameter in list(inspect.signature(vars(one)["__init__"]).parameters.items())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                passes_on = True
            elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                found[name] = None
        if not passes_on:
            return list(found)
    return None
