"""`launch report`: what it writes, where, and what it says, for runs of ours and of anyone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.analysis.published import Published, published
from tests.cli.conftest import Launch


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The two published runs; not to be written into."""
    return published(tmp_path_factory.mktemp("published"))


def text(page: Path) -> str:
    """The words of a page, one blank between them."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_published_comparison_is_told_as_it_was(launch: Launch, runs: Published, tmp_path: Path) -> None:
    said = launch("report", runs.phase2, "--against", runs.baseline, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    page = text(tmp_path / "out" / "report.html")
    for told in (
        "mAP50 −47 %: 0.154 → 0.082",
        "mAP50-95 −49 %",
        "precision −19 %",
        "recall −43 %",
        "15 of 15; best: 12",
        "box loss (train) fell 12 % per unit of gain, not 41 %",
        "10.65 h",
        "mosaic",
    ):
        assert told in page
    for told in ("mAP50 −47 %", "finished", str(tmp_path / "out" / "report.html")):
        assert told in said.out
    assert "mAP50 −47 %" in (tmp_path / "out" / "report.md").read_text()


def test_a_run_of_ours_gets_its_report_in_its_folder(launch: Launch, spec: Path, tmp_path: Path) -> None:
    assert launch(spec).code == 0
    said = launch("report", "tiny", "--json")
    assert said.code == 0, said.err
    (found,) = said.json
    folder = next((tmp_path / "runs").glob("tiny-*"))
    assert (found["version"], found["run"]) == (1, folder.name)
    assert found["html"] == str(folder / "report.html")
    assert found["analysis"]["summary"]["status"].startswith("finished")
    assert {"report.html", "report.md"} <= {file.name for file in folder.iterdir()}
    assert "3 of 3" in text(folder / "report.html")
    assert launch("show", "tiny").code == 0, "the run is as it was"


def test_a_table_alone_gets_its_report_beside_it(launch: Launch, runs: Published, tmp_path: Path) -> None:
    table = tmp_path / "somewhere" / "old.csv"
    table.parent.mkdir()
    table.write_bytes((runs.phase2 / "results.csv").read_bytes())
    assert launch("report", table).code == 0
    assert "how far the training came is not known" in text(table.parent / "report.html")


def test_a_folder_of_ultralytics_gets_its_report_beside_results_csv(launch: Launch, tmp_path: Path) -> None:
    folder = published(tmp_path / "own").phase2
    assert launch("report", folder).code == 0
    assert (folder / "report.html").is_file()


def test_charts_are_drawn_as_files(launch: Launch, runs: Published, tmp_path: Path) -> None:
    said = launch("report", runs.phase2, "--out", tmp_path, "--charts", "svg", "--json")
    charts = [Path(one) for one in said.json[0]["charts"]]
    assert {"mAP50", "box-loss", "seconds", "rate"} <= {one.stem for one in charts}
    for chart in charts:
        ElementTree.parse(chart)


def test_counted_boxes_give_intervals(launch: Launch, runs: Published, tmp_path: Path) -> None:
    assert launch("report", runs.phase2, "--out", tmp_path, "--positives", "2128").code == 0
    assert "n 2128" in text(tmp_path / "report.html")
    said = launch("report", runs.phase2, "--positives", "none")
    assert said.code == 2
    assert "'none' is not a number of boxes" in said.err


def test_counted_boxes_are_a_references_only_where_the_data_is_the_same(launch: Launch, tmp_path: Path) -> None:
    runs = published(tmp_path / "runs")
    argv = ("report", runs.phase2, "--against", runs.baseline, "--out", tmp_path, "--positives", "2128", "--json")
    said = launch(*argv)
    assert said.json[0]["analysis"]["references"][0]["positives"] == 2128
    assert "--positives" not in said.err
    arguments = runs.baseline / "args.yaml"
    other, split = (
        arguments.read_text().replace("/data/cots/", "/data/other/"),
        "split: test\ndata: /data/cots/data.yaml\n",
    )
    for spoilt in (other, split):
        arguments.write_text(spoilt)
        said = launch(*argv)
        assert said.json[0]["analysis"]["references"][0]["positives"] is None
        assert said.json[0]["analysis"]["run"]["positives"] == 2128
        assert "--positives is not used for baseline" in said.err
    arguments.unlink()
    assert launch(*argv).json[0]["analysis"]["references"][0]["positives"] is None


def test_a_classifiers_page_has_charts_and_a_table_of_its_accuracy(launch: Launch, tmp_path: Path) -> None:
    rows = [f"{at},{at * 9},{1 / at},0.{at}1,0.{at}5,{2 / at},0.01" for at in range(1, 7)]
    head = "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0"
    (tmp_path / "results.csv").write_text("\n".join([head, *rows, ""]))
    assert launch("report", tmp_path / "results.csv", "--json").json[0]["version"] == 1
    page = (tmp_path / "report.html").read_text()
    assert 'data-chart="accuracy_top1"' in page
    assert 'data-chart="mAP50"' not in page
    assert '<th scope="col" class="n" rowspan="2">accuracy_top1</th>' in page


def test_a_reference_that_stopped_early_is_called_so(launch: Launch, tmp_path: Path) -> None:
    runs = published(tmp_path)
    table = runs.baseline / "results.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:6]))
    (runs.baseline / "results.png").unlink()
    said = launch("report", runs.phase2, "--against", runs.baseline, "--out", tmp_path / "out")
    assert "against baseline (stopped early)" in said.out
    assert "against baseline ( stopped early )" in text(tmp_path / "out" / "report.html")


def test_what_is_not_there_is_named(launch: Launch, runs: Published, tmp_path: Path) -> None:
    said = launch("report", "nothing-here", "--json")
    assert said.code == 2
    assert said.json[0]["error"] == "NotFoundError"
    assert launch("report", runs.phase2, "--against", tmp_path / "gone").code == 2
    (tmp_path / "text.csv").write_text("not a table\n")
    assert launch("report", tmp_path / "text.csv").code == 2


def test_a_place_that_cannot_be_written_is_answered_with_out(launch: Launch, runs: Published, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = launch("report", runs.phase2, "--out", tmp_path / "file")
    assert said.code == 2
    assert "--out" in said.err


def test_open_starts_the_browser_with_the_page(launch: Launch, runs: Published, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}"\n')
    browser.chmod(0o755)
    assert launch("report", runs.phase2, "--out", tmp_path, "--open", BROWSER=f"{browser} %s").code == 0
    assert seen.read_text().strip() == (tmp_path / "report.html").as_uri()


def test_a_report_imports_neither_torch_nor_ultralytics_nor_a_plotting_library(runs: Published, tmp_path: Path) -> None:
    heavy = ("torch", "ultralytics", "matplotlib", "plotly", "pandas", "polars", "numpy", "kaggle", "google.cloud")
    code = (
        "import sys; from launcher.cli.main import main; code = main(sys.argv[1:]);"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    argv = [sys.executable, "-c", code, "report", str(runs.phase2), "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_json_has_no_number_that_json_has_not(launch: Launch, runs: Published, tmp_path: Path) -> None:
    said = launch("report", runs.phase2, "--against", runs.baseline, "--out", tmp_path, "--json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(said.out, parse_constant=refuse)["analysis"]["metrics"][2]["final_change"]["relative"] < -0.4
