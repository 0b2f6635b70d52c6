"""`python -m benchmarks`: tables arrive at their places on the page, and every place has its script."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import __main__ as benchmarks
from benchmarks import tables

ROOT = Path(__file__).parent.parent
PAGE = "# Title\n\n<!-- benchmarks:fold -->\n| old |\n|---|\n<!-- end -->\n\ntext\n\n"
PAGE += "<!-- benchmarks:augment -->\nkept\n<!-- end -->\n"


def test_tables_are_kept_in_their_order_and_everything_else_is_left_out(capsys):
    print("loading 3 files")
    tables.heading("network", "speed-up", title="ResNet, 1 image")
    tables.row("ResNet50", 1.15)
    print("something about memory")
    tables.heading("", "ms")
    tables.row("cast", 2)
    found = benchmarks.tables_of(capsys.readouterr().out)
    assert found.splitlines() == [
        "**ResNet, 1 image**",
        "",
        "| network | speed-up |",
        "|---|---:|",
        "| ResNet50 | 1.15 |",
        "",
        "|  | ms |",
        "|---|---:|",
        "| cast | 2 |",
    ]


def test_a_new_table_takes_the_place_of_its_old_one_alone(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    monkeypatch.setattr(benchmarks, "PAGE", page)
    monkeypatch.setattr(benchmarks, "run", lambda name, arguments: f"{name}\n| {name} |\n|---|\n")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "fold"])
    for _ in range(2):  # once more changes nothing
        benchmarks.main()
        assert page.read_text() == PAGE.replace("| old |\n|---|\n", "\n| fold |\n|---|\n\n")


def test_a_script_that_fails_and_a_quick_run_leave_the_page_alone(tmp_path, monkeypatch):
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    monkeypatch.setattr(benchmarks, "PAGE", page)
    monkeypatch.setattr(benchmarks, "run", lambda name, arguments: "")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "fold", "augment"])
    with pytest.raises(SystemExit, match="No tables came from fold, augment"):
        benchmarks.main()
    monkeypatch.setattr(benchmarks, "run", lambda name, arguments: "| a |\n|---|\n")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "fold", "--quick"])
    benchmarks.main()
    assert page.read_text() == PAGE


def test_a_script_that_breaks_down_gives_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "HERE", tmp_path)
    (tmp_path / "good.py").write_text("print('| a |')")
    (tmp_path / "bad.py").write_text("print('| a |', flush=True)\nraise SystemExit(3)")
    assert benchmarks.run("good", []) == "| a |\n"
    assert benchmarks.run("bad", []) == ""


def test_a_page_without_the_place_is_refused():
    with pytest.raises(ValueError, match="one place for synthesis"):
        benchmarks.replace(PAGE, "synthesis", "| a |")


def test_every_place_in_the_page_has_a_script_and_every_script_a_place():
    places = re.findall(
        r"^<!-- benchmarks:(\w+) -->$", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE
    )
    assert sorted(places) == sorted(benchmarks.SCRIPTS)
    assert [name for name in places if not (ROOT / "benchmarks" / f"{name}.py").exists()] == []
