"""`launch compare`: the table in the terminal, as a page, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli.compare import table_csv
from tests.analysis.published import Published, published
from tests.cli.conftest import Launch
from tests.cli.test_report import text
from tests.report import made


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
    assert "Metrics of the last epoch, with their changes against baseline" in said.out
    assert "best mAP50-95" in said.out
    assert lines[1].split()[-4:] == ["12", "0.045", "12.20", "h"]
    assert "phase2: against baseline, changed: " in said.out
    assert "confounded" in said.out


def test_page_csv_and_json_say_the_same(launch: Launch, runs: Published, tmp_path: Path) -> None:
    page, table = tmp_path / "new" / "c.html", tmp_path / "c.csv"
    said = launch("compare", runs.baseline, runs.phase2, "--html", page, "--csv", table, "--json")
    assert said.code == 0, said.err
    (found,) = said.json
    assert found["version"] == 1
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


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_of_the_csv_runs_as_a_formula(start: str) -> None:
    said, bad = made.comparison(2), f'{start}HYPERLINK("https://x","y")'
    row = replace(said.rows[1], id=bad, name=bad, changes=(bad, "box 5"))
    (first, second) = csv.DictReader(io.StringIO(table_csv(replace(said, rows=(said.rows[0], row)))))
    assert {second[name] for name in ("id", "name")} == {f"'{bad}"}
    assert second["changes"] == f"'{bad}; box 5"
    assert first["name"] == "run 0"


def test_a_comparison_of_masks_or_classes_shows_their_metrics(launch: Launch, tmp_path: Path) -> None:
    columns = {
        "seg": ["metrics/mAP50(B)", "metrics/mAP50-95(B)", "metrics/mAP50(M)", "metrics/mAP50-95(M)", "train/seg_loss"],
        "cls": ["metrics/accuracy_top1", "metrics/accuracy_top5", "train/loss"],
    }
    for kind, names in columns.items():
        for run in "ab":
            rows = [",".join([str(at), str(9 * at), *(f"0.{at}{len(run)}" for _ in names)]) for at in range(1, 5)]
            (tmp_path / f"{kind}-{run}.csv").write_text("\n".join([",".join(["epoch", "time", *names]), *rows, ""]))
        files = [tmp_path / f"{kind}-{run}.csv" for run in "ab"]
        said = launch("compare", *files, "--html", tmp_path / "c.html", "--csv", tmp_path / "c.csv")
        assert said.code == 0, said.err
        page = (tmp_path / "c.html").read_text()
        shown = names[-2].removeprefix("metrics/")
        assert f"best {shown}" in said.out
        assert f'data-chart="{shown}"' in page
        assert f">best {shown}</th>" in page
        assert ('data-chart="seg-loss"' in page) is (kind == "seg")
        assert ("mAP50" in said.out.split("compare")[0].splitlines()[2]) is (kind == "seg")
        assert f"final {names[-2]}" in (tmp_path / "c.csv").read_text()


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
