"""Where `recipes.callbacks` is found in a checkout: in the folder beside `recipes`, and nothing else of that folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "callbacks"
ENTRY = f"{_FOLDER}/<as recipes.callbacks>"  # not a folder, but a name for which the finder below answers


class _Finder:
    """Finds one package on the path of `recipes`, so that its other neighbors do not become modules of it."""

    def __init__(self, entry: str) -> None:
        if entry != ENTRY:
            raise ImportError(f"only {ENTRY} is looked up here")

    def find_spec(self, name: str, target: object = None) -> ModuleSpec | None:
        """As of `importlib.abc.PathEntryFinder`."""
        if name != "recipes.callbacks":
            return None
        return importlib.util.spec_from_file_location(
            name, _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
        )

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """As `pkgutil.iter_modules` asks of a finder."""
        yield f"{prefix}callbacks", True


sys.path_hooks.insert(0, _Finder)
