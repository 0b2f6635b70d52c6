"""For mkdocs: every public name with its types, as a page and as plain text for programs that read (llms.txt)."""

import html

from mkdocs.structure.files import File
from sources import described, docstring, linked, public, signature, thing

ABOUT = (
    "The bag of tricks for Keras 3: train an image network with every trick the lectures teach, see why it is not "
    "learning, and see what it learned - in your own model.fit, with plain Keras objects."
)


def names():
    """Public names, sorted by what follows the package."""
    kept = [name for name in public() if name != "training.train"]
    return sorted(kept, key=lambda name: (name.split(".")[1].lower(), name))


def page():
    """The names from A to Z: each with its package, first words and signature."""
    lines = [
        "# Everything by name",
        "",
        "Every public name, its arguments with their types, and where it is described.",
        "",
    ]
    letter = ""
    for name in names():
        package, short = name.split(".")
        if short[0].upper() != letter:
            letter = short[0].upper()
            lines += [f"## {letter}", ""]
        words = described(docstring(name)).split(". ")[0].rstrip(".:") or "A constant"
        code = html.escape(signature(name).replace(f"{name}", short, 1))
        lines += [f"{linked(name, f'**{short}**')}, `{package}`: {words}.", "", f"<code>{code}</code>", ""]
    return "\n".join(lines)


def index():
    """llms.txt, https://llmstxt.org: what there is, in a few words each."""
    lines = [
        "# keras-recipes",
        "",
        f"> {ABOUT}",
        "",
        "Import name: recipes. Whole reference as plain text: reference.txt",
        "",
    ]
    for package in dict.fromkeys(name.split(".")[0] for name in sorted(public())):
        lines += [f"## {package}", ""]
        for name in sorted(public()):
            if name.split(".")[0] == package:
                lines.append(
                    f"- {name}: {described(docstring(name)).split('. ')[0].rstrip('.') or 'A constant'}."
                )
        lines.append("")
    return "\n".join(lines)


def reference():
    """All signatures and docstrings."""
    parts = [f"keras-recipes. {ABOUT}\n"]
    for name in sorted(public()):
        kind = thing(name).kind.value
        whole = name if name.startswith("recipes.") else f"recipes.{name}"
        call = signature(name).replace(name, whole, 1)
        parts.append(f"\n{'=' * 100}\n{kind} {call}\n\n{docstring(name)}\n")
    return "".join(parts)


def on_files(files, config):
    for path, text in (("llms.txt", index()), ("reference.txt", reference())):
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **given):
    return page() if given["page"].file.src_uri == "by_name.md" else markdown
