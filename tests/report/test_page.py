"""The page as text: whole, small, self-contained, and nothing from a file in it unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis.model import Kind, Section
from launcher.errors import StorageError
from launcher.finding import Finding, Severity
from launcher.report import Report, charts, page, write
from launcher.report.document import chart_page, comparison_page
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
