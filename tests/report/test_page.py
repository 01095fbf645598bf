"""The page as text: whole, small, self-contained, and nothing from a file in it unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis.model import Analysis, Kind, Section, Status
from launcher.errors import StorageError
from launcher.finding import Finding, Severity
from launcher.report import Report, charts, page, write
from launcher.report.document import UNTONED, chart_page, comparison_page
from launcher.report.write import home
from tests.report import made

MB = 1_000_000


class Seen(HTMLParser):
    """All elements of a page with their attributes, and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, Any]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def without_blocks(text: str) -> str:
    """The page without the compressed blocks, which a reader of HTML need not look at."""
    return re.sub(r'(<script type="text/plain"[^>]*>)[^<]*', r"\1", text)


@pytest.fixture(scope="module")
def seen() -> Seen:
    """The page of a run against another."""
    return Seen(without_blocks(page(made.analysis())))


def test_it_refers_to_nothing_outside_itself(seen: Seen) -> None:
    assert seen.all("link") == []
    assert all("src" not in script for script in seen.all("script"))
    assert all(image["src"].startswith("data:") for image in seen.all("img"))
    policy = next(meta["content"] for meta in seen.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.search(r"script-src 'sha256-[^']+' 'sha256-[^']+';", policy)


def test_headings_cells_and_charts_can_be_read_aloud(seen: Seen) -> None:
    assert all(cell.get("scope") in ("col", "row", "colgroup") for cell in seen.all("th"))
    assert all(image["alt"] or image["src"] == "data:," for image in seen.all("img"))
    plots = [one for one in seen.all("div") if "data-chart" in one]
    assert len(plots) == 10
    assert all(one["role"] == "img" and "Line chart" in one["aria-label"] for one in plots)
    assert len(seen.all("h1")) == 1
    assert len(seen.all("caption")) == len(seen.all("table"))


def test_every_link_of_the_contents_leads_to_a_section(seen: Seen) -> None:
    inside = [link["href"][1:] for link in seen.all("a") if link["href"].startswith("#")]
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(inside) <= set(ids)
    assert {one["id"] for one in seen.all("section")} <= set(inside)


def section(text: str, code: str) -> str:
    """One section of a page."""
    found = re.search(rf'<section id="{code}".*?</section>', text, re.DOTALL)
    assert found is not None, code
    return found[0]


def with_code(said: Analysis, code: str) -> Analysis:
    """The analysis with one more finding, of that code."""
    first, *rest = said.sections
    first = replace(first, findings=(*first.findings, made.finding(code, Severity.WARNING)))
    return replace(said, sections=(first, *rest))


def test_a_lower_loss_is_not_called_better() -> None:
    part = section(page(made.analysis()), "losses")
    assert '<span class="one">−12 %</span>' in part
    assert "better" not in part
    assert "worse" not in part


def test_only_metrics_without_a_moving_threshold_are_called_better_or_worse() -> None:
    part = section(page(made.analysis()), "metrics")
    rows = re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', part, re.DOTALL)
    toned = {name: "one worse" in row for name, row in rows}
    assert toned == {"precision": False, "recall": False, "mAP50": True, "mAP50-95": True}


@pytest.mark.parametrize("code", sorted(UNTONED))
def test_metrics_that_do_not_compare_are_called_neither_better_nor_worse(code: str) -> None:
    for part in ("metrics", "summary"):
        assert "one worse" in section(page(made.analysis()), part)
        assert "one worse" not in section(page(with_code(made.analysis(), code)), part)
    plain, said = comparison_page(made.comparison()), made.comparison()
    told = comparison_page(replace(said, findings=(*said.findings, made.finding(code, Severity.WARNING))))
    assert re.search("one (better|worse)", section(plain, "runs"))
    assert not re.search("one (better|worse)", section(told, "runs"))


def test_a_small_metric_keeps_two_digits() -> None:
    said = made.analysis()
    first, *rest = said.metrics
    small = replace(first, final=0.00081, reference_final=0.0081, final_change=made.change(0.0081, 0.00081))
    small = replace(small, best_change=replace(made.change(0.0009, 0.00081), relative=None))
    part = section(page(replace(said, metrics=(small, *rest))), "metrics")
    assert ">0.00081<" in part
    assert ">0.008<" in part
    assert "−0.00009" in part


def test_a_reference_that_crashed_is_called_so_beside_its_name() -> None:
    said = made.analysis(references=3)
    ended = (Status.CRASHED, Status.FINISHED, Status.CANCELLED)
    others = tuple(replace(one, status=status) for one, status in zip(said.references, ended, strict=True))
    words = " ".join(re.sub("<[^>]+>", "", page(replace(said, references=others))).split())
    assert "against baseline (crashed during training) and 2 more (1 finished, 1 cancelled during training)" in words


def test_what_was_verified_when_a_file_came_back_is_not_said_of_today() -> None:
    part = section(page(made.analysis()), "files")
    assert "✓ sha256" in part
    assert "of today only the size was looked at" in part
    said = made.analysis()
    changed = tuple(replace(one, verified=False if one.present else None) for one in said.files)
    assert "✗ size changed since" in section(page(replace(said, files=changed)), "files")
    strangers = tuple(replace(one, verified=None) for one in said.files)
    assert "of today only" not in section(page(replace(said, files=strangers)), "files")


def test_a_comparison_says_what_a_group_is_and_which_runs_count() -> None:
    part = section(comparison_page(made.comparison()), "runs")
    assert "Runs of the same group differ in seed and machine at most" in part
    assert "only in their seed" not in part
    alone = section(comparison_page(replace(made.comparison(), spreads=())), "runs")
    assert "No group has two runs that ended and are not one run again" in alone


def test_the_same_analysis_is_the_same_page() -> None:
    assert page(made.analysis()) == page(made.analysis())


def test_twenty_long_runs_fit_into_five_megabytes() -> None:
    assert len(page(made.analysis(references=19, epochs=1000)).encode()) < 5 * MB
    assert len(comparison_page(made.comparison(runs=20, epochs=1000)).encode()) < 5 * MB


def test_a_run_without_epochs_has_a_page_without_charts() -> None:
    text = page(made.analysis(references=0, epochs=0))
    assert "data-chart" not in text
    assert 'id="plotly"' not in text
    assert len(text) < 100_000


def test_a_long_training_is_shown_in_some_of_its_epochs_and_the_page_says_so() -> None:
    text = without_blocks(page(made.analysis(epochs=1000)))
    assert re.search(r"4\d of 1000 epochs: every 25th", text)
    assert '<th scope="row" class="n">1000</th>' in text


def test_only_addresses_become_links() -> None:
    said = made.analysis()
    for source, link in (("https://a.b/c?d=1", True), ("javascript:alert(1)", False), ("https://a b", False)):
        finding = Finding("x", Severity.INFO, "m", source=source)
        section = Section("lessons", "Lessons", (finding,))
        text = page(replace(said, sections=(section,), key=()))
        assert (f'href="{source}"' in text) is link


def test_a_notebook_shows_report_and_chart_in_frames_that_cannot_reach_it() -> None:
    for text in (Report(made.analysis())._repr_html_(), charts(made.analysis())[0]._repr_html_()):
        frame = Seen(text).all("iframe")
        assert len(frame) == 1
        assert "allow-same-origin" not in frame[0]["sandbox"]
        assert frame[0]["srcdoc"].startswith("<!doctype html>")
    assert "Content-Security-Policy" in chart_page(charts(made.analysis())[0])


def test_both_files_are_written_where_they_were_asked_for(tmp_path: Path) -> None:
    written = write(made.analysis(), tmp_path / "new" / "folder")
    assert written.html == tmp_path / "new" / "folder" / "report.html"
    assert written.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert written.markdown.read_text(encoding="utf-8").startswith("#")
    assert sorted(one.name for one in written.html.parent.iterdir()) == ["report.html", "report.md"]


def test_a_file_in_the_way_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="writing the report"):
        write(made.analysis(), tmp_path / "out")


def test_text_that_is_no_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    said = made.analysis()
    broken = replace(said, run=replace(said.run, name="a\udce9b", notes="\ud800"))
    assert write(broken, tmp_path).html.stat().st_size > 100_000


def test_a_report_belongs_into_the_run_or_beside_its_table(tmp_path: Path) -> None:
    run = made.view(where=tmp_path / "a", train=tmp_path / "a" / "train")
    assert home(replace(run, kind=Kind.RUN)) == tmp_path / "a"
    assert home(replace(run, kind=Kind.FOLDER)) == tmp_path / "a" / "train"
    assert home(replace(run, kind=Kind.TABLE, where=tmp_path / "x.csv")) == tmp_path
