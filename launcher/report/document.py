"""The report as one HTML file: opens without a network, runs no script but its own, says everything in text too.

What comes from files (names, notes, classes, events) reaches the page as escaped text, or as JSON inside a compressed
block that only becomes text of charts. The page's own policy (Content-Security-Policy) allows two scripts, each by its
sha256, and no request at all.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from launcher import __version__
from launcher.analysis.model import ACCURACIES, LABELS, Analysis, Comparison, RunView, Status
from launcher.analysis.numbers import duration
from launcher.analysis.traps import INDEPENDENT
from launcher.errors import SamerunError
from launcher.finding import Finding
from launcher.report import tables, validation
from launcher.report.chart import Chart, words
from launcher.report.charts import Curve, Panel, panels, unique
from launcher.report.figure import figure
from launcher.report.parity import shown as verdict
from launcher.report.pictures import Album, Reading
from launcher.report.style import DARK, GLYPHS, LIGHT, symbol
from launcher.report.validation import Numbers

LIMIT = 4_800_000
"""Bytes of a page; pictures get what the charts leave. Mail and chat programs take 5 MB."""
TEXT = 300_000
"""Bytes that the page's own text may take, at the most that it was seen to."""
TEMPLATES = Path(__file__).with_name("templates")
TONES = {Status.FINISHED: "better", Status.CRASHED: "worse", Status.NOT_STARTED: "worse"}
UNTONED = frozenset(
    {"validation-differs", "data-differs", "config-unknown", "mps-metrics"}
    | {"unfinished", "epochs-done-differ", "within-seeds"}
)
"""Findings after which a change of a metric is called neither better nor worse."""
PANELS = {"progression": "Progression", "losses": "Losses", "technical": "Time, memory, learning rate"}
TITLES = {
    "summary": "Summary",
    "key": "Key findings",
    "parity": "Parity",
    "pictures": "Pictures",
    "next": "Next runs to try",
}


def page(analysis: Analysis) -> str:
    """The report of one run, as HTML text of less than 5 MB."""
    views = (analysis.run, *analysis.references)
    names = unique(views)
    pair = list(zip(names, views, strict=True))[:2]
    numbers = [validation.read(name, view) for name, view in pair]
    reading = Reading(pair, _drawn(numbers))
    parity = verdict.read(analysis.run.parity)
    drawn = verdict.panel(parity)
    shown = {panel.code: panel for panel in (*panels(analysis), *_curves(numbers), *((drawn,) if drawn else ()))}
    packed = _pack(list(shown.values()))
    pictures = _pictures(reading.album(LIMIT - len(bundle().packed) - len(packed) - TEXT), numbers)
    order = [*([("parity", TITLES["parity"])] if parity else []), *((one.code, one.title) for one in analysis.sections)]
    at = next((at for at, (code, _) in enumerate(order) if code == "files"), len(order))
    order[at:at] = [("pictures", TITLES["pictures"])] if pictures else []
    order += [("next", TITLES["next"])] if analysis.next_runs else []
    return _render(
        "report.html",
        said=analysis,
        names=names,
        tones=TONES,
        more=_statuses(analysis.references[1:]),
        toned=_toned(analysis.findings),
        independent=INDEPENDENT,
        links=[("summary", TITLES["summary"]), ("key", TITLES["key"]), *order],
        bodies=("configuration", "metrics", "progression", "losses", "technical", "files"),
        panels=shown,
        differing=tables.differences(analysis.differences, names),
        steps=tables.steps(analysis),
        moments=tables.moments(analysis),
        intervals=sorted({one.method for row in analysis.metrics if (one := row.interval)}),
        places={one.code: (part.code, part.title) for part in analysis.sections for one in part.findings},
        pictures=pictures,
        numbers=_numbers(numbers),
        parity=parity,
        packed=packed,
    )


def comparison_page(comparison: Comparison) -> str:
    """Several runs side by side, as HTML text of less than 5 MB."""
    shown = panels(comparison)
    last, best = tables.compared(comparison.runs)
    names = unique(comparison.runs)
    parts = {"findings": "Findings", "runs": "Runs", "configuration": "Configuration"}
    parts |= {panel.code: PANELS[panel.code] for panel in shown}
    return _render(
        "comparison.html",
        said=comparison,
        names=names,
        differing=tables.differences(comparison.differences, names),
        shown=shown,
        titles=PANELS,
        spreads=[row for row in comparison.spreads if len(row.runs) > 1],
        links=list(parts.items()),
        metrics=last,
        bests=best,
        toned=_toned(comparison.findings),
        labels=LABELS,
        packed=_pack(list(shown)),
    )


def chart_page(chart: Chart) -> str:
    """One chart, for a frame in a notebook."""
    return _render("chart.html", chart=chart, packed=_pack([Panel("chart", (chart,), ())]))


def framed(text: str, height: int) -> str:
    """A page in a frame of its own, for a notebook: it can neither see nor change the notebook."""
    held = html.escape(text, quote=True)
    style = f"width:100%;height:{height}px;border:0"
    return f'<iframe sandbox="allow-scripts allow-downloads" style="{style}" srcdoc="{held}"></iframe>'


@dataclass(frozen=True)
class Bundle:
    """Plotly's script: compressed as text for a page, and its digest for the page's policy."""

    packed: str
    digest: str


@functools.cache
def bundle() -> Bundle:
    """The bundle of the installed Plotly."""
    found = importlib.util.find_spec("plotly")  # importing it would take longer than all else here
    if found is None or not found.submodule_search_locations:
        raise SamerunError("plotly is not installed, and the page's charts need it", remedy="pip install plotly")
    script = Path(found.submodule_search_locations[0], "package_data", "plotly.min.js").read_bytes()
    return Bundle(_squeeze(script), _sha256(script))


def _curves(numbers: Sequence[Numbers]) -> list[Panel]:
    drawn = validation.curve_charts(numbers)
    return [Panel("curves", drawn, tuple(Curve(at, one.name, ()) for at, one in enumerate(numbers)))] if drawn else []


def _toned(findings: Sequence[Finding]) -> frozenset[str]:
    """Metrics whose changes may be called better or worse: none where a finding says that they do not compare, and
    never precision and recall, which are read at a threshold that moves."""
    if any(one.code in UNTONED for one in findings):
        return frozenset()
    return frozenset(name for name in LABELS if "mAP" in name or name in ACCURACIES)


def _statuses(runs: Sequence[RunView]) -> str:
    """How many more runs there are, and how they ended."""
    often = Counter(run.status.value for run in runs)
    return f"{len(runs)} more ({', '.join(f'{count} {status}' for status, count in often.items())})" if runs else ""


def _drawn(numbers: Sequence[Numbers]) -> dict[str, frozenset[str]]:
    """By kind of picture the runs whose numbers the page shows instead; curves only where all runs have them."""
    covered = all(set(one.curves) == set(validation.TITLES) for one in numbers)
    return {
        "matrices": frozenset(one.name for one in numbers if one.tabled),
        "curves": frozenset(one.name for one in numbers if covered),
    }


def _pictures(found: Album, numbers: Sequence[Numbers]) -> Mapping[str, Any] | None:
    """What the section of pictures shows; None where there is nothing to show or to say."""
    curves = (
        "As Ultralytics drew them, side by side: without the numbers behind them they cannot be laid over each other."
    )
    mosaics = "What was labelled, and what was found on the same images, each at the last validation of its run."
    kinds = [
        ("Confusion matrices", "", found.matrices),
        ("Precision, recall and F1", curves, found.curves),
        ("Labels and predictions", mosaics, found.mosaics),
        ("Training data", "", found.data),
    ]
    shown = [(title, note, rows) for title, note, rows in kinds if rows]
    trouble = [f"{one.name}, {one.trouble}" for one in numbers if one.trouble]
    left = (*found.left_out, *trouble)
    return {"kinds": shown, "left_out": left} if shown or left or _numbers(numbers) else None


def _numbers(numbers: Sequence[Numbers]) -> Mapping[str, Any] | None:
    """What the numbers behind the pictures say; None where no run has any."""
    if not any(one.curves or one.confusion or one.sizes for one in numbers):
        return None
    rows = [(one.name, size) for one in numbers for size in one.sizes]
    order = list(dict.fromkeys(size.name for _, size in rows))
    return {
        "runs": numbers,
        "drawn": [one.name for one in numbers if one.curves],
        "sizes": sorted(rows, key=lambda row: order.index(row[1].name)),
        "matrices": [one for one in numbers if one.tabled],
    }


def _pack(shown: Sequence[Panel]) -> str:
    """The charts for the page: compressed JSON. Losses travel as written; the page divides them."""
    every = [chart for panel in shown for chart in panel.charts]
    if not every:
        return ""
    plain = [
        {"code": chart.code, "title": words(chart.title), "per_gain": chart.per_gain}
        | figure(replace(chart, divided=False))
        for chart in every
    ]
    return _squeeze(json.dumps(plain, allow_nan=False, separators=(",", ":")).encode())


def _squeeze(data: bytes) -> str:
    """Compressed, as text without any character that means something in HTML; the same for the same data."""
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def _sha256(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"


def _render(template: str, **values: Any) -> str:
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    plotly = bundle()
    hashes = " ".join([_sha256(script.encode()), *([plotly.digest] if values["packed"] else [])])
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            version=__version__,
            plotly=Markup(plotly.packed),
            script=Markup(script),
            hashes=Markup(hashes),
        )
    )


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"share": tables.share, "loss": tables.loss_text, "signed": tables.difference_text, "words": words}
    made.filters |= {"value": tables.value_text, "moment": tables.moment_text, "duration": duration}
    made.globals |= {"glyph": lambda number: symbol(number, GLYPHS), "linked": _linked, "palettes": (LIGHT, DARK)}
    return made


def _linked(source: str) -> str | Markup:
    """A source, as a link where it is an address."""
    link = Markup('<a href="{0}" rel="noreferrer">{0}</a>')
    return link.format(source) if tables.is_link(source) else source
