"""`launch compare`: the table in the terminal, as a page, as CSV and as JSON."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.analysis.published import Published, published
from tests.cli.conftest import Launch
from tests.cli.test_report import text


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The two published runs."""
    return published(tmp_path_factory.mktemp("published"))


def test_the_table_has_a_row_a_run_and_changes_against_the_first(launch: Launch, runs: Published) -> None:
    said = launch("compare", runs.baseline, runs.phase2)
    assert said.code == 0, said.err
    lines = [line for line in said.out.splitlines() if line.split()[:1] in (["baseline"], ["phase2"])]
    assert "10/10" in lines[0]
    assert "0.154" in lines[0]
    assert "0.082 −47 %" in lines[1]
    assert "12.2" in lines[1], "hours"
    assert "phase2: against baseline, changed: " in said.out
    assert "confounded" in said.out


def test_page_csv_and_json_say_the_same(launch: Launch, runs: Published, tmp_path: Path) -> None:
    page, table = tmp_path / "new" / "c.html", tmp_path / "c.csv"
    said = launch("compare", runs.baseline, runs.phase2, "--html", page, "--csv", table, "--json")
    assert said.code == 0, said.err
    (found,) = said.json
    assert found["files"] == [str(page), str(table)]
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [row["name"] for row in found["rows"]] == ["baseline", "phase2"]
    name = "metrics/mAP50(B)"
    assert float(rows[1][f"final {name}"]) == found["rows"][1]["final"][name] == pytest.approx(0.082, abs=5e-4)
    assert rows[1]["best_epoch"] == "12"
    words = text(page)
    assert "Comparison of 2 runs" in words
    assert "−47 %" in words


def test_runs_of_the_same_name_can_be_told_apart(launch: Launch, runs: Published, tmp_path: Path) -> None:
    again = published(tmp_path / "again")
    said = launch("compare", runs.phase2, again.phase2)
    rows = [line.split()[0] for line in said.out.splitlines() if "15/15" in line]
    assert rows == [f"{folder.parent.name}/phase2" for folder in (runs.phase2, again.phase2)]


def test_one_run_is_no_comparison(launch: Launch, runs: Published) -> None:
    said = launch("compare", runs.phase2)
    assert said.code == 2
    assert "two runs or more" in said.err


def test_a_run_that_is_not_there_is_named(launch: Launch, runs: Published, tmp_path: Path) -> None:
    said = launch("compare", runs.phase2, tmp_path / "gone", "--json")
    assert said.code == 2
    assert "gone" in said.json[0]["message"]


def test_a_file_in_the_way_is_a_usage_error(launch: Launch, runs: Published, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    said = launch("compare", runs.baseline, runs.phase2, "--csv", tmp_path / "folder")
    assert said.code == 2
    assert "writing the comparison" in said.err
