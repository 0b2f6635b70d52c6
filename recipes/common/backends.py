"""Refuse what needs Keras on TensorFlow on another backend."""

from collections.abc import Callable, Iterable
from typing import NoReturn

import keras


def require_tensorflow(name: str, why: str) -> None:
    """Refuse to go on where Keras runs on another backend.

    Args:
        name: The public name that was used.
        why: A clause that says why, written after "expects Keras on TensorFlow, ".

    Raises:
        RuntimeError: on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{name} expects Keras on TensorFlow, {why}. Received the backend {keras.backend.backend()!r}. "
            f"Set KERAS_BACKEND=tensorflow before importing keras, or leave {name} out."
        )


def needing_tensorflow(package: str, names: Iterable[str], why: str) -> dict[str, Callable[..., NoReturn]]:
    """Functions that raise when called, in place of a package's own; none where Keras runs on TensorFlow.

    Args:
        package: Name of the package, such as "recipes.explain".
        names: Its public names.
        why: As in `require_tensorflow`.
    """
    if keras.backend.backend() == "tensorflow":
        return {}

    def refusing(name):
        def refuse(*_args, **_options):
            require_tensorflow(f"{package}.{name}", why)

        return refuse

    return {name: refusing(name) for name in names}


def require_probe(name: str) -> None:
    """Refuse to look inside training steps where the probe has no adapter for the backend.

    Args:
        name: The public name that was used.

    Raises:
        RuntimeError: on another backend than TensorFlow and JAX.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise RuntimeError(
            f"{name} expects Keras on TensorFlow or JAX, whose training steps it looks into. Received the backend "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before importing keras, or leave {name} out."
        )
