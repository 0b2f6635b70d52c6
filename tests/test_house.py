"""The structure of the project: imports point one way, a file name stands for one thing, no stray modules."""

import ast
import collections
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Packages from the lowest to the highest; each may import those before it. The folders of `explain` count
#: separately; `recipes` itself imports the others on demand, by name.
FLOORS = (
    ("_version", "recipes", "common"),
    (
        "averaging",
        "checkpoints",
        "data",
        "plot",
        "probe",
        "layers",
        "optimizers",
        "schedules",
        "preprocess",
        "initialize",
    ),
    ("explain.engine",),
    ("augment", "explain.attribution", "explain.inspection", "explain.adversarial"),
    ("diagnose", "models", "evaluate", "explain.synthesis", "explain.trust", "explain.concepts"),
    ("explain",),
    ("callbacks", "distribution"),
    ("report",),
    ("inference",),
    ("training", "tune"),
    ("ensemble",),
    ("cli",),
    ("__main__",),
)
#: A module of `plot` may have the name of the module whose results it draws.
DRAWN = {"activation_statistics", "disagreement", "noise_response", "learning_rate_range_test", "throughput"}


def modules():
    """`{dotted name: file}` of all installed modules."""
    files = {}
    for folder, prefix in (("recipes", "recipes"), ("callbacks", "recipes.callbacks")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((prefix, *parts)).removesuffix(".__init__")
            files[name] = file
    return files


def package(module):
    """The package of a module: augment for `recipes.augment.engine.plan`; for explain, its folder."""
    parts = module.split(".")[1:]
    if not parts:
        return "recipes"
    return ".".join(parts[:2]) if parts[0] == "explain" and len(parts) > 2 else parts[0]


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(file, files):
    """The project's modules that a file imports at run time, also inside functions."""
    found, stack = set(), [ast.parse(file.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in files}
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= dotted & set(files) or {node.module} & set(files)
        stack.extend(node.orelse if is_for_types(node) else ast.iter_child_nodes(node))
    return found


def graph():
    files, edges = modules(), collections.defaultdict(set)
    for module, file in files.items():
        for other in imports(file, files):
            if package(module) != package(other):
                edges[package(module), package(other)].add(f"{module} imports {other}")
    return edges


def test_a_package_imports_only_what_stands_below_it():
    height = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    edges = graph()
    assert edges, "the walk no longer finds imports"
    wrong = []
    for (upper, lower), lines in sorted(edges.items()):
        same_floor = height[upper] == height[lower]
        if height[upper] < height[lower] or (same_floor and (lower, upper) in edges):
            wrong += sorted(lines)
    assert wrong == []


def test_no_ring_of_packages():
    after = collections.defaultdict(set)
    for upper, lower in graph():
        after[upper].add(lower)
    left = {name for pair in graph() for name in pair}
    while free := {name for name in left if not after[name] & left}:
        left -= free
    assert left == set()


def test_the_root_holds_packages_and_the_files_of_the_design_alone():
    loose = {file.name for file in (ROOT / "recipes").glob("*.py")}
    assert loose <= {"__init__.py", "__main__.py", "_version.py", "schedules.py"}


def test_a_basename_stands_for_one_thing():
    homes = collections.defaultdict(list)
    for module, file in modules().items():
        if file.name not in ("__init__.py", "__main__.py"):
            homes[file.stem].append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1 and name not in DRAWN} == {}


def test_nobody_imports_a_recipe_as_a_module():
    """For example, the file `recipes.explain.attribution.grad_cam` has the function grad_cam."""
    files = modules()
    own = {
        module
        for module, file in files.items()
        if any(
            getattr(node, "name", None) == module.split(".")[-1] for node in ast.parse(file.read_text()).body
        )
    }
    assert len(own) > 30
    wrong = []
    for file in [*files.values(), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                wrong += [f"{file.name}: {alias.name}" for alias in node.names if alias.name in own]
    assert wrong == []
