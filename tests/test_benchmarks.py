"""`python -m benchmarks` writes each table to its place on the page, and every place has its script."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import __main__ as benchmarks
from benchmarks import strangers, tables
from benchmarks.stranger_programs import (
    CAUSES,
    PROGRAMS,
    UNSEEN,
    UNSEEN_2,
    UNSEEN_3,
    UNSEEN_4,
    UNSEEN_5,
    UNSEEN_6,
    UNSEEN_7,
    unseen_families,
)
from recipes.diagnose.finding import CODES

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
    monkeypatch.setattr(benchmarks, "DONE", tmp_path / "benchmarks.json")
    monkeypatch.setattr(benchmarks, "run", lambda name, arguments: f"{name}\n| {name} |\n|---|\n")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "fold"])
    for _ in range(2):  # a second run changes nothing
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


def test_a_stopped_run_goes_on_behind_what_is_done(tmp_path, monkeypatch):
    page, ran = tmp_path / "benchmarks.md", []
    page.write_text(PAGE)
    monkeypatch.setattr(benchmarks, "PAGE", page)
    monkeypatch.setattr(benchmarks, "DONE", tmp_path / "runs" / "benchmarks.json")

    def run(name, arguments):
        ran.append(name)
        if ran == ["fold", "augment"]:
            raise KeyboardInterrupt
        return "| a |\n|---|\n"

    monkeypatch.setattr(benchmarks, "run", run)
    command = ["benchmarks", "--only", "fold", "augment"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(KeyboardInterrupt):
        benchmarks.main()
    monkeypatch.setattr(sys, "argv", [*command, "--resume"])
    benchmarks.main()
    assert ran == ["fold", "augment", "augment"]
    assert page.read_text().count("| a |") == 2
    assert json.loads((tmp_path / "runs/benchmarks.json").read_text())["fold"].keys() == {
        "date",
        "minutes",
        "commit",
    }
    monkeypatch.setattr(sys, "argv", command)  # without --resume, all scripts run again
    benchmarks.main()
    assert ran[3:] == ["fold", "augment"]


def test_the_commit_is_told_and_whether_other_files_than_the_page_differ_from_it(tmp_path, monkeypatch):
    git = lambda *words: subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)  # noqa: E731
    git("init", "-q")
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    for name in ("docs/benchmarks.md", "benchmarks/fold.py"):
        (tmp_path / name).write_text("a")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a")
    monkeypatch.setattr(benchmarks, "HERE", tmp_path / "benchmarks")
    (tmp_path / "docs/benchmarks.md").write_text("b")
    assert re.fullmatch("[0-9a-f]{7,}", benchmarks.commit_of())
    (tmp_path / "benchmarks/fold.py").write_text("b")
    assert re.fullmatch("[0-9a-f]{7,}-dirty", benchmarks.commit_of())


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


def test_intervals_of_the_battery_are_wilsons():
    for hits, count in ((0, 7), (3, 80), (80, 80)):
        expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
        assert strangers.wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_a_third_of_the_strangers_families_stays_unseen_as_it_was_drawn():
    later = (*UNSEEN_2, *UNSEEN_3, *UNSEEN_4, *UNSEEN_5, *UNSEEN_6, *UNSEEN_7)
    assert [*UNSEEN] == unseen_families(later=later)


def test_the_second_unseen_set_is_large_enough_and_apart():
    later = [program for program in PROGRAMS.values() if program.family in UNSEEN_2]
    assert {program.family for program in later} == {*UNSEEN_2}
    assert {*UNSEEN_2}.isdisjoint(UNSEEN) and len(UNSEEN_2) >= 12
    assert min(sum(program.healthy for program in later), sum(not program.healthy for program in later)) >= 30


def test_the_third_unseen_set_is_large_enough_and_named_by_codes_that_exist():
    third = [program for program in PROGRAMS.values() if program.family in UNSEEN_3]
    assert {*UNSEEN_3}.isdisjoint({*UNSEEN, *UNSEEN_2}) and len(UNSEEN_3) >= 20
    assert min(sum(program.healthy for program in third), sum(not program.healthy for program in third)) >= 45
    assert {code for program in third for code in program.codes} <= set(CODES)


def test_the_fourth_unseen_set_is_apart_and_named_by_codes_that_exist():
    fourth = [program for program in PROGRAMS.values() if program.family in UNSEEN_4]
    assert {*UNSEEN_4}.isdisjoint({*UNSEEN, *UNSEEN_2, *UNSEEN_3}) and len(UNSEEN_4) >= 12
    assert (
        min(sum(program.healthy for program in fourth), sum(not program.healthy for program in fourth)) >= 20
    )
    assert {code for program in fourth for code in program.codes} <= set(CODES)


def test_the_fifth_unseen_set_is_apart_and_named_by_codes_that_exist():
    fifth = [program for program in PROGRAMS.values() if program.family in UNSEEN_5]
    assert {*UNSEEN_5}.isdisjoint({*UNSEEN, *UNSEEN_2, *UNSEEN_3, *UNSEEN_4}) and len(UNSEEN_5) >= 20
    assert min(sum(program.healthy for program in fifth), sum(not program.healthy for program in fifth)) >= 20
    assert {code for program in fifth for code in program.codes} <= set(CODES)


@pytest.mark.parametrize(("families", "least"), [(UNSEEN_6, 28), (UNSEEN_7, 12)])
def test_the_last_unseen_sets_are_apart_and_named_by_codes_that_exist(families, least):
    programs = [program for program in PROGRAMS.values() if program.family in families]
    assert {*families}.isdisjoint({*UNSEEN, *UNSEEN_2, *UNSEEN_3, *UNSEEN_4, *UNSEEN_5})
    assert min(sum(program.healthy for program in programs), sum(not p.healthy for p in programs)) >= least
    assert {code for program in programs for code in program.codes} <= set(CODES)


def test_the_battery_has_eighty_healthy_programs_of_25_families():
    healthy = [program for program in PROGRAMS.values() if program.healthy]
    assert len(healthy) >= 80
    assert len({program.family for program in healthy}) >= 25
    later = {*UNSEEN_3, *UNSEEN_4, *UNSEEN_5, *UNSEEN_6, *UNSEEN_7}
    own = {program.cause for program in PROGRAMS.values() if program.family not in later}
    assert own - {"healthy"} == set(CAUSES)


def test_one_program_that_learns_is_told_from_one_that_cannot(tmp_path):
    records = [strangers.study(PROGRAMS[name], tmp_path) for name in strangers.QUICK]
    records = json.loads(json.dumps(records))  # as read from a file of results
    assert [record["as_declared"] for record in records] == [True, True]
    assert records[0]["plain"]["skill"] > 0.5 > records[1]["plain"]["skill"]
    assert (
        records[0]["doctor"]["loss"] == records[0]["plain"]["loss"]
    )  # the doctor does not change the training


def record(name, cause, *said, codes=(), **more):
    findings = [{"code": code, "severity": severity} for code, severity in said]
    doctor = {"said": findings, "final": [], "cpu": 3.0}
    plain = {"skill": 0.5, "cpu": 2.0}
    return {"name": name, "family": "f", "cause": cause, "codes": codes, "as_declared": True} | {
        "plain": plain, "twin": {"skill": 0.9}, "doctor": doctor, "preflight": None, **more
    }  # fmt: skip


def test_rates_count_what_was_said_of_programs_that_are_what_they_declare():
    found = strangers.summary(
        [
            record("f/a", "healthy", ("noisy", "info")),
            record("f/b", "healthy", ("diverged", "error")),
            record("f/c", "layers frozen", ("frozen", "warning"), codes=["frozen"]),
            record("f/d", "layers frozen", ("diverged", "warning"), codes=["frozen"]),
            record("f/e", "layers frozen", ("frozen", "info"), codes=["frozen"]),
            record("f/f", "layers frozen", as_declared=False),
            {"name": "f/g", "family": "f", "died": True},
        ]
    )
    assert (found["left out"], found["died"]) == (1, 1)
    assert found["detected, either"].startswith("2 of 3")
    assert found["named, either"].startswith("1 of 3")
    assert found["alarm, either, said or final"].startswith("1 of 2")
    assert found["alarm, either, final"].startswith("0 of 2")
    assert found["CPU with the doctor / without"].startswith("1.50")


def test_what_a_changed_rule_wins_and_loses_is_told_by_program(tmp_path):
    frozen = {"codes": ["frozen"], "family": "f"}
    runs = {
        "old": [
            record("f/a", "healthy", ("diverged", "error")),
            record("f/b", "layers frozen", ("frozen", "warning"), **frozen),
            record("g/c", "healthy"),
        ],
        "new": [
            record("f/a", "healthy"),
            record("f/b", "layers frozen", ("frozen", "info"), **frozen),
            record("g/c", "healthy"),
        ],
    }
    for folder, records in runs.items():
        (tmp_path / folder).mkdir()
        for one in records:
            one["family"] = one["name"][0]
            (tmp_path / folder / f"{one['name'].replace('/', '.')}.json").write_text(json.dumps(one))
    columns, lines = strangers.compare(tmp_path / "old", tmp_path / "new")
    assert lines == ["f/a (healthy): alarm -> quiet", "f/b (layers frozen): named -> missed"]
    assert columns["before"]["alarm, either, said or final"].startswith("1 of 2")
    assert columns["before, affected families"]["alarm, either, said or final"].startswith("1 of 1")
    assert columns["after, affected families"]["detected, either"].startswith("0 of 1")


def test_numbers_in_a_remedy_are_typed_in_as_they_stand():
    change, _ = strangers.remedy_typed("rate_too_high", "Compile with learning_rate=0.003.", {"rate": 5.0})
    assert change == {"rate": 0.003}
    assert strangers.remedy_typed("data_leak", "Split again.", {}) is None
