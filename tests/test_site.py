"""The pages that are made when the site is built: the gallery, the method cards, the list of names."""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "examples" / "pictures"
#: Names that need no card, because they are no techniques: results, options, targets, base classes, internals.
NO_TECHNIQUE = {
    "augment": {"ColorStatistics", "Operation", "Pipeline", "PlusMinus"},
    "callbacks": {"LearningRate", "Monitor", "NonFiniteError", "RateDriver", "default_monitors"},
    "diagnose": {
        "DuplicatePair", "Duplicates", "Finding", "GradientReport", "ImageIssues", "LabelIssues", "Preflight",
        "RemedyTrial", "Slowdown", "Throughput", "Trials",
    },  # fmt: skip
    "ensemble": {"MCDropout", "load_snapshots"},
    "evaluate": {
        "ConformalSets", "Evaluation", "Mistake", "OutOfDistribution", "PairedComparison", "Temperature",
        "VectorScaling", "conformal_from_probabilities", "from_probabilities", "thresholds_from_probabilities",
    },  # fmt: skip
    "explain": {
        "AttackOptions", "AttributionOptions", "Class", "ClassImageOptions", "Fooled", "InspectionOptions",
        "Landscape", "LayerOptions", "NoiseResponse", "OptimizedOptions", "PassOptions", "Patches", "Pointing",
        "ReceptiveField", "Road", "Sum", "SynthesisOptions", "Unit",
    },  # fmt: skip
    "initialize": {"ActivationHistogram", "COMMON_SCHEMES", "LSUVLayer"},
    "layers": set(),
    "models": {"BackboneFacts", "describe_backbone", "imagenet_class_names", "unfreeze"},
    "optimizers": {
        "adopt_variables", "begin_updates", "for_any_keras", "layerwise_class", "make_layerwise", "matches",
        "rate_factors", "save_for_any_keras",
    },  # fmt: skip
    "preprocess": set(),
    "schedules": {"Join", "Schedule"},
    "training": {"CrossValidation", "Refit", "Run", "load_run", "train"},
    "tune": set(),
}  # fmt: skip


@pytest.fixture(scope="module")
def site():
    """The modules that make the pages, which are in the folder of the pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    names = ("gallery", "method_cards", "sources")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(ROOT / "docs"))
    for name in names:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def cards(site):
    read = site["method_cards"].cards
    return {
        name: facts
        for page in sorted((ROOT / "docs" / "cards").glob("*.md"))
        for name, facts in read(page.read_text()).items()
    }


def look_up(name):
    package, short = name.split(".")
    return getattr(
        importlib.import_module("recipes" if package == "recipes" else f"recipes.{package}"), short
    )


def test_gallery_shows_forty_pictures_at_least(site):
    shown = re.findall(r"\]\(pictures/([^)]+)\)", site["gallery"].PAGE.read_text())
    assert len(set(shown)) == len(shown) >= 40
    assert [name for name in shown if not (PICTURES / name).exists()] == []


def test_gallery_pictures_link_to_examples_that_exist(site):
    text = site["gallery"].PAGE.read_text()
    assert text == site["gallery"].page(), "python docs/gallery.py --page"
    linked = re.findall(r"\]\(\.\./(examples/[^)]+)\)", text)
    assert len(linked) == text.count("](pictures/")
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_gallery_pictures_stay_small(site):
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert [name for name, size in sizes.items() if size > 40_000] == []
    assert sum(sizes.values()) <= 1_500_000


def test_gallery_names_files_that_its_examples_write(site):
    for pictures in site["gallery"].sections().values():
        for one in pictures:
            code = (ROOT / "examples" / f"{one.example}.py").read_text()
            for written in one.written:
                ending = re.escape("." + written.split(":")[0].split(".")[-1])
                assert re.search(ending, code), f"{one.example} writes no {written}"


@pytest.mark.parametrize("package", sorted(NO_TECHNIQUE))
def test_every_technique_has_a_card(package, cards):
    public = set(importlib.import_module(f"recipes.{package}").__all__)
    assert NO_TECHNIQUE[package] - public == set(), "no longer public"
    carded = {name.split(".")[1] for name in cards if name.startswith(f"{package}.")}
    missing = public - NO_TECHNIQUE[package] - carded
    assert missing == set(), (
        "write a card in docs/cards; what is no technique is listed at the top of this file"
    )
    assert carded - public == set()


def test_every_card_tells_when_cost_gain_and_failure(site, cards):
    assert len(cards) >= 80
    wanted = site["method_cards"].FACTS
    assert [(name, fact) for name, facts in cards.items() for fact in wanted if not facts.get(fact)] == []


def test_every_card_has_one_source(site, cards):
    wrong = []
    for name, facts in cards.items():
        own = site["sources"].source(inspect.getdoc(look_up(name)) or "")
        said = facts.get("source", own)
        if bool(own) == ("source" in facts) or not re.search(
            r"(18|19|20)\d\d|https?://|\bOurs\b|^As `|^torchvision's `", said
        ):
            wrong.append((name, said))
    assert wrong == []


def test_figures_of_the_cards_are_those_of_the_benchmarks(site, cards):
    filled, count = site["method_cards"].filled, 0
    for facts in cards.values():
        for text in facts.values():
            count += text.count("{")
            assert "{" not in filled(text)
    assert count > 100
    assert re.match(r"[\d.]+ us of CPU per image of 32 x 32", filled("{us flip}"))
    with pytest.raises(KeyError, match="no row 'flap'"):
        filled("{us flap}")


def test_a_cell_is_found_by_table_then_row_then_column(site):
    rows = site["method_cards"].tables()
    digits = rows["mnist5k: 2000 training images, 25 epochs", "single model, cosine"]
    assert digits["error %"].startswith("5.04")
    first = rows["Backups", "ResNet-20, 2.1"]  # of two rows with this name
    assert first["who writes"] == "recipes.train"
    assert rows["photos", "300 of flowers"]["times faster"] == "7.1"


def test_every_public_name_has_a_home_that_exists(site):
    homes = site["sources"].public()
    assert len(homes) > 300
    for name, home in homes.items():
        module, _, short = home.rpartition(".")
        module = f"recipes.{module}" if module.startswith("callbacks") else module
        assert getattr(importlib.import_module(module), short) is not None, name


def test_rendered_notebooks_hold_the_code_of_the_notebooks():
    notebooks = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        page = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text()
        shown = re.findall(r"^```python\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
        assert shown == code, f"python docs/render_notebooks.py {path.stem}"
        assert "```text\n" in page or '<div class="output">' in page


def test_every_public_name_is_described_on_a_page(site):
    linked, names = site["sources"].linked, site["sources"].public()
    missing = [name for name in names if linked(name, "x") == "x"]
    assert missing == [], "write '::: recipes.PACKAGE.MODULE.NAME' into docs/rooms/PACKAGE.md"
