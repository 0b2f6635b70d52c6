"""JAX, imported at its first use, so that code for its backend can be imported on every other one."""

from types import ModuleType
from typing import TYPE_CHECKING, Any

from recipes.common.optional import optional


class Lazy(ModuleType):
    """A module of JAX that is imported at its first use.

    Args:
        name: Dotted name of the module.
    """

    def __getattr__(self, attribute: str) -> Any:
        found = optional("recipes on Keras' JAX backend", self.__name__, "JAX", "jax")
        return getattr(found, attribute)


if TYPE_CHECKING:
    import jax as jax
    import jax.numpy as jnp
    from jax.extend import core as jax_core
else:
    jax, jnp, jax_core = map(Lazy, ("jax", "jax.numpy", "jax.extend.core"))
