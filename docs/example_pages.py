"""For mkdocs: a page for each script in examples/, links to them wherever a page names one, addresses of packages."""

import ast
import posixpath
import re
from pathlib import Path

from gallery import sections
from mkdocs.structure.files import File

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
#: First the one that most people come for, then by what they are about.
FIRST = ("photos", "classify_photo", "two_catches", "quickstart", "existing_project")
#: A picture, a link, or the name of an example between backticks; only the last two are touched.
NAMED = re.compile(
    r"!\[[^\]]*\]\([^)]*\)|(?P<link>\]\((?:\.\./)+examples/(?P<to>\w+)\.py\))|\[[^\]]*\]\((?!\.\./)[^)]*\)"
    r"|`examples/(?P<span>\w+)\.py[^`\n]*`"
)


def scripts():
    """Names of the examples, in the order in which they are listed."""
    there = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    return [*FIRST, *(name for name in there if name not in FIRST)]


def page(name):
    """What an example says of itself, its pictures, and its code."""
    code = (EXAMPLES / f"{name}.py").read_text()
    words = ast.get_docstring(ast.parse(code)) or ""
    title, _, rest = words.partition("\n")
    # The indented commands become blocks as they are.
    pictures = [one for group in sections().values() for one in group if one.example == name]
    shown = "\n\n".join(f"![{one.caption}](../pictures/{one.file})" for one in pictures)
    lines = code.rstrip().splitlines()[ast.parse(code).body[0].end_lineno :]  # without the words above
    source = f'```python title="examples/{name}.py"\n' + "\n".join(lines).strip() + "\n```"
    return f"# {name}\n\n**{title}**\n{rest}\n\n{shown}\n\n{source}\n"


def index():
    """All examples with their first lines."""
    lines = [
        "# Examples",
        "",
        "Run these scripts after `pip install '.[examples]'`. With `--quick`, each takes seconds.",
        "",
    ]
    for name in scripts():
        words = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""
        lines.append(f"- [{name}]({name}.md): {words.splitlines()[0]}")
    return "\n".join(lines) + "\n"


def on_config(config):
    for entry in config.nav:
        if isinstance(entry, dict) and "Examples" in entry:
            entry["Examples"] = ["examples/index.md", *(f"examples/{name}.md" for name in scripts())]
    return config


def on_files(files, config):
    for file in files:  # readers of the site need not learn our word for a package
        if file.src_uri.startswith("rooms/"):
            file.dest_uri = file.dest_uri.replace("rooms/", "packages/", 1)
    files.append(File.generated(config, "examples/index.md", content=index()))
    for name in scripts():
        files.append(File.generated(config, f"examples/{name}.md", content=page(name)))
    return files


def on_page_markdown(markdown, page, **_):
    here = posixpath.dirname(page.file.src_uri)
    if here == "examples":
        return markdown

    def link(found):
        name = found["to"] or found["span"]
        if not name or not (EXAMPLES / f"{name}.py").exists():
            return found[0]
        target = posixpath.relpath(f"examples/{name}.md", here or ".")
        return f"]({target})" if found["link"] else f"[{found[0]}]({target})"

    if page.file.src_uri == "gallery.md":  # pictures are fetched as they come into sight
        markdown = re.sub(r"(!\[[^\]]*\]\(pictures/[^)]*\))", r"\1{ loading=lazy }", markdown)
    fences = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else NAMED.sub(link, part) for part in fences)
