import ast
import configparser
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import recipes

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def lines(section, option):
    return SETUP[section][option].split()


def run(code, folder, **environment):
    """Run Python in a new process that can import this project only from its checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def packages_on_disk():
    """Every folder with an `__init__.py`, under the name with which it is installed."""
    for folder in ("recipes", "callbacks"):
        for file in (ROOT / folder).rglob("__init__.py"):
            parts = file.parent.relative_to(ROOT).parts
            yield ".".join(parts if folder == "recipes" else ("recipes", *parts))


def test_packages_in_setup_cfg_are_the_folders_that_hold_python():
    assert sorted(lines("options", "packages")) == sorted(packages_on_disk())
    with_python = {
        file.parent for folder in ("recipes", "callbacks") for file in (ROOT / folder).rglob("*.py")
    }
    assert [folder for folder in with_python if not (folder / "__init__.py").exists()] == []


def test_callbacks_is_the_only_package_installed_from_another_folder():
    pairs = [line.split("=") for line in SETUP["options"]["package_dir"].strip().splitlines()]
    assert {name.strip(): folder.strip() for name, folder in pairs} == {
        "recipes": "recipes",
        "recipes.callbacks": "callbacks",
    }


def test_type_checkers_are_told_that_the_package_is_typed():
    assert (ROOT / "recipes" / "py.typed").exists()
    assert "py.typed" in SETUP["options.package_data"]["recipes"]


def test_every_data_file_in_a_package_is_installed():
    listed = {
        Path("callbacks" if package == "recipes.callbacks" else package.replace(".", "/"), name)
        for package in SETUP["options.package_data"]
        for name in SETUP["options.package_data"][package].replace(",", " ").split()
    }
    files = [
        file for folder in ("recipes", "callbacks") for file in (ROOT / folder).rglob("*") if file.is_file()
    ]
    data = {file.relative_to(ROOT) for file in files if file.suffix not in (".py", ".pyc")}
    assert {file for file in data if not any(file.match(str(pattern)) for pattern in listed)} == set()


def test_importing_recipes_imports_no_framework():
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'scipy', 'numpy'}"
    assert run(f"import recipes, sys; print({heavy} & set(sys.modules))", ROOT).strip() == "set()"


@pytest.mark.parametrize("room", recipes._PACKAGES)
def test_every_room_is_an_attribute_that_is_imported_on_first_use(room):
    module = getattr(recipes, room)
    assert module is importlib.import_module(f"recipes.{room}")
    assert (room in dir(recipes)) == (room != "common") and module.__doc__


def test_every_package_and_module_in_it_is_a_room_or_below_one():
    found = {module.name for module in pkgutil.iter_modules(recipes.__path__) if module.ispkg}
    assert found <= set(recipes._PACKAGES)
    assert set(recipes._PACKAGES) <= {module.name for module in pkgutil.iter_modules(recipes.__path__)}


def test_the_front_door_opens_and_anything_else_names_what_there_is():
    for name in recipes._FRONT_DOOR:
        assert callable(getattr(recipes, name)) and name in dir(recipes)
    with pytest.raises(AttributeError, match=r"no attribute 'augmnt'. It has: .*augment"):
        recipes.augmnt  # noqa: B018


@pytest.mark.slow
def test_a_project_with_its_own_callbacks_keeps_it_and_gets_ours(tmp_path):
    (tmp_path / "callbacks.py").write_text("MINE = True\n")
    code = """
import callbacks
from recipes.callbacks import WarmupDecay
import recipes, sys
assert callbacks.MINE and not hasattr(callbacks, "WarmupDecay")
assert recipes.callbacks.WarmupDecay is WarmupDecay
print(WarmupDecay.__module__, len([name for name in sys.modules if name.endswith("callbacks.warmup_decay")]))
"""
    # The class comes from one module only, whatever the import path.
    assert run(code, tmp_path).split() == ["recipes.callbacks.warmup_decay", "1"]


@pytest.mark.parametrize("file", sorted((ROOT / "callbacks").glob("*.py")), ids=lambda file: file.name)
def test_callbacks_import_themselves_by_their_installed_name(file):
    imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 and not node.module.startswith("callbacks") for node in imports)


def sources():
    return sorted(file for folder in ("recipes", "callbacks") for file in (ROOT / folder).rglob("*.py"))


def test_matplotlib_is_imported_in_plot_alone():
    importing = {file.relative_to(ROOT) for file in sources() if "matplotlib" in imported_modules(file)}
    assert {file.parent for file in importing} == {Path("recipes/plot")}


def imported_modules(file):
    """What a file imports at run time, so not under TYPE_CHECKING."""
    nodes, stack = [], [ast.parse(file.read_text())]
    while stack:
        node = stack.pop()
        nodes.append(node)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        stack.extend(node.orelse if for_types else ast.iter_child_nodes(node))
    direct = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[0] for name in direct} | {
        node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def test_every_dependency_is_declared():
    declared = SETUP["options"]["install_requires"] + "".join(SETUP["options.extras_require"].values())
    distributions = {
        "sklearn": "scikit-learn",
        "threadpoolctl": "scikit-learn",  # which requires it
        "skimage": "scikit-image",
        "cv2": "opencv",
        "PIL": "matplotlib",  # likewise
    }
    for file in sources():
        for module in imported_modules(file) - set(sys.stdlib_module_names) - {"recipes"}:
            assert distributions.get(module, module.replace("_", "-")) in declared, f"{file} imports {module}"


def test_neighbors_of_a_checkout_are_no_modules_of_the_package():
    names = {module.name for module in pkgutil.iter_modules(recipes.__path__, "recipes.")}
    assert "recipes.callbacks" in names
    assert names.isdisjoint({"recipes.recipes", "recipes.tests", "recipes.examples", "recipes.benchmarks"})
    with pytest.raises(ImportError):
        importlib.import_module("recipes.recipes")
