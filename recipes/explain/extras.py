"""Libraries that are not everybody's, imported where they are used."""

import importlib


def sklearn(method, module):
    """A module of scikit-learn, or an error that names the extra."""
    return optional(method, f"sklearn.{module}", "scikit-learn", "inspect")


def optional(method, module, library, extra):
    """Import a module of an optional library.

    Raises:
        ImportError: when it is not installed, with the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"{method} expects {library}. It is not installed. Run: pip install 'keras-recipes[{extra}]'"
        ) from None
