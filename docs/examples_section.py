"""For mkdocstrings: our docstrings say `Example:`, and griffe knows `Examples:` alone."""

import re

import griffe


class ExamplesSection(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
