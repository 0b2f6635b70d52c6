"""Optional libraries, imported where they are used."""

import importlib
from types import ModuleType


def optional(caller: str, module: str, library: str, extra: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        caller: The public name that needs it, for the error.
        module: Dotted name of the module.
        library: Name of the library, for the error.
        extra: The extra of keras-recipes that installs it.

    Raises:
        ImportError: when it is not installed, with the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} expects {library}. It is not installed. Run: pip install 'keras-recipes[{extra}]'"
        ) from error


def sklearn(caller: str, module: str) -> ModuleType:
    """A module of scikit-learn, or an error that names the extra."""
    return optional(caller, f"sklearn.{module}", "scikit-learn", "inspect")
