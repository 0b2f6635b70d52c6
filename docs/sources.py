"""What the pages that are made at build time know of the code, which is read and not imported."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The first words after which a docstring says where a method comes from.
SOURCE = re.compile(
    r"\bSources?(?: of [\w ]+)?:\s*(.+?)(?=\n\s*\n|\n(?:Args|Returns|Raises|Attributes|Example)\b|\Z)",
    re.DOTALL,
)


def faces():
    """`{package: file}` of everything that offers public names."""
    packages = {path.parent.name: path for path in sorted(ROOT.glob("recipes/*/__init__.py"))}
    packages["callbacks"] = ROOT / "callbacks" / "__init__.py"
    packages["schedules"] = ROOT / "recipes" / "schedules.py"
    hidden = ("averaging", "checkpoints", "cli", "common")
    return {name: path for name, path in sorted(packages.items()) if name not in hidden}


def exported(path):
    """The names in a file's `__all__`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "__all__":
                return list(ast.literal_eval(node.value))
    return []


def _imports(path):
    """`{name: where it is defined}` of what a file imports."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@functools.cache
def public():
    """`{"augment.MixUp": "recipes.augment.operations.mixup.MixUp"}`, for every public name of every package."""
    found = {"recipes.train": "recipes.training.train.train"}
    for package, path in faces().items():
        inside = package == "schedules"
        homes = _imports(path)
        for name in exported(path):
            home = homes.get(name, f"recipes.{package}.{name}")
            home = f"recipes.schedules.{name}" if inside else home
            if home == f"recipes.averaging.{name}":  # offered by `ensemble` too
                home = _imports(ROOT / "recipes" / "averaging" / "__init__.py")[name]
            found[f"{package}.{name}"] = re.sub(r"^recipes\.callbacks\.", "callbacks.", home)
    return found


@functools.cache
def described_on_pages():
    """What the pages of the packages hold: names with an entry of their own, packages whose members are all shown."""
    pages = (path.read_text() for path in (ROOT / "docs" / "rooms").glob("*.md"))
    return {entry for page in pages for entry in re.findall(r"^::: (\S+)", page, re.MULTILINE)}


def linked(name, shown):
    """`shown` as a link to where a public name is described, or as it is while nothing describes it."""
    home = public()[name]
    known = home in described_on_pages() or home.startswith("recipes.optimizers.")
    return f"[{shown}][{home}]" if known else shown


@functools.cache
def code():
    """The sources as griffe reads them: `{"recipes": ..., "callbacks": ...}`."""
    import griffe  # noqa: PLC0415 - the tests read the pages without it

    extensions = griffe.load_extensions(str(ROOT / "docs" / "shared_options.py"))
    return {
        name: griffe.load(
            name,
            search_paths=[str(ROOT)],
            docstring_parser="google",
            docstring_options={"warnings": False},
            extensions=extensions,
            allow_inspection=False,
        )
        for name in ("recipes", "callbacks")
    }


def thing(name):
    """The function or class of a public name."""
    package, _, rest = public()[name].partition(".")
    found = code()[package][rest]
    return found.final_target if found.is_alias else found


def docstring(name):
    found = thing(name)
    return found.docstring.value if found.docstring else ""


def described(text):
    """The first paragraph of a docstring, as one line."""
    return " ".join(text.split("\n\n")[0].split())


def source(text):
    """Where a docstring says that its method comes from; empty without a paragraph that begins with "Source:"."""
    found = SOURCE.search(text)
    return " ".join(found[1].split()) if found else ""


def first_sentence(text):
    text = " ".join(text.split())
    return re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";")


def settings(name):
    """`[(name, type, default, first sentence)]` of a function's or class's parameters."""
    found, words = thing(name), {}
    for section in found.docstring.parsed if found.docstring else ():
        if section.kind.value in ("parameters", "other parameters"):
            for one in section.value:
                words |= {name.strip(" *"): one.description for name in one.name.split(",")}
    given = (
        [(one.name, one.annotation, one.default) for one in found.parameters]
        if not found.is_attribute
        else []
    )
    if found.is_class and not given:  # a dataclass, under whatever decorator
        given = [
            (one.name, one.annotation, one.value) for one in found.attributes.values() if one.name in words
        ]
    return [
        (name, str(kind or ""), "" if default is None else str(default), first_sentence(words.get(name, "")))
        for name, kind, default in given
        if name not in ("self", "cls", "args", "kwargs", "options")
    ]


def _keyword_only(found):
    """Of each setting, whether it can be given by name alone."""
    kept = [one for one in found.parameters if one.name not in ("self", "cls", "args", "kwargs", "options")]
    return [one.kind is not None and one.kind.value == "keyword-only" for one in kept]


def signature(name):
    """`name(a, b=1)` as one line of plain text, with types."""
    found = thing(name)
    if not (found.is_function or found.is_class):
        return name
    parts = [
        one + (f": {kind}" if kind else "") + (f" = {default}" if default else "")
        for one, kind, default, _ in settings(name)
    ]
    keyword_only = next((i for i, one in enumerate(_keyword_only(found)) if one), None)
    if keyword_only is not None:
        parts.insert(keyword_only, "*")
    returns = f" -> {found.returns}" if found.is_function and found.returns else ""
    return f"{name}({', '.join(parts)}){returns}"
