"""Writing a report: `report.html` and `report.md`, each whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.analysis.markdown import markdown
from launcher.analysis.model import Analysis, Kind, RunView
from launcher.files import storage, write_atomic


@dataclass(frozen=True)
class Written:
    """Where the files of a report are."""

    html: Path
    markdown: Path


@dataclass(frozen=True)
class Report:
    """An analysis that a notebook shows as the page."""

    said: Analysis

    def _repr_html_(self) -> str:
        from launcher.report.document import framed

        return framed(page(self.said), height=900)


def page(analysis: Analysis) -> str:
    """The report as one HTML text of less than 5 MB that needs no network."""
    from launcher.report.document import page

    return page(analysis)


def write(analysis: Analysis, folder: Path) -> Written:
    """Write both files into the folder, which is made where it is missing. Raises StorageError."""
    written = Written(folder.absolute() / "report.html", folder.absolute() / "report.md")
    html, text = page(analysis), markdown(analysis)
    with storage("writing the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(written.html, html.encode("utf-8", "replace"))
        write_atomic(written.markdown, text.encode("utf-8", "replace"))
    return written


def home(run: RunView) -> Path:
    """The folder where a report of this run belongs: the run's, or where its results.csv is."""
    if run.kind is Kind.TABLE:
        return run.where.parent
    return run.where if run.kind is Kind.RUN else run.train or run.where
