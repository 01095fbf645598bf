"""report.md: the analysis as Markdown, the same statements as everywhere.

What comes from files (names, notes, values) cannot end a table, start HTML or a link: it is escaped, and kept in one
line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from launcher.analysis.changes import show
from launcher.analysis.model import (
    LABELS,
    METRICS,
    Analysis,
    Change,
    Comparison,
    Difference,
    FileRow,
    Interval,
    LossRow,
    MetricRow,
    NextRun,
    Progression,
    RunView,
    Section,
)
from launcher.analysis.numbers import duration, figure, signed
from launcher.finding import Finding, Severity

MOST_EPOCHS = 60  # rows of the table by epoch; of more, evenly chosen ones, the best and the last
SIGNS = {Severity.INFO: "", Severity.WARNING: "**Careful:** ", Severity.ERROR: "**Problem:** "}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~&])")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def markdown(analysis: Analysis) -> str:
    """The report as Markdown text; what comes from files is escaped, so that it cannot end a table or start HTML."""
    names = _names((analysis.run, *analysis.references))
    tables = {
        "configuration": _differences(analysis.differences, names),
        "metrics": _metrics(analysis.metrics, bool(analysis.references)),
        "progression": _progression(analysis.progression),
        "losses": _losses(analysis.losses, bool(analysis.references)),
        "files": _files(analysis.files),
    }
    parts = [*_head(analysis), "## Key findings", *_findings(analysis.key)]
    for section in analysis.sections:
        parts += _section(section, tables.get(section.code, []))
    parts += _next(analysis.next_runs)
    if analysis.run.notes:
        parts += ["## Notes", escape(analysis.run.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """The runs side by side as Markdown text: the table, what differs, what may be said."""
    header = ("run", "status", "epochs", "best epoch", *(LABELS[name] for name in METRICS), "time", "seed", "changed")
    lines, names = [], _names(comparison.runs)
    for name, row in zip(names, comparison.rows, strict=True):
        values = (figure(row.best[metric], 4) for metric in METRICS)
        of = f"{row.epochs_done}{f' of {row.epochs_asked}' if row.epochs_asked else ''}"
        best, seed = row.best_epoch or "", "" if row.seed is None else row.seed
        changed = escape("; ".join(row.changes))
        lines.append((escape(name), row.status, of, str(best), *values, duration(row.seconds), str(seed), changed))
    parts = ["Metrics are those of each run's best epoch.", _table(header, lines)]
    parts += _differences(comparison.differences, names)
    parts += _findings(comparison.findings)
    return "\n\n".join(parts) + "\n"


def _names(runs: Sequence[RunView]) -> list[str]:
    """What the runs are called; by their ids where names are not unique."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.id for run in runs]


def escape(text: object) -> str:
    """A text from a file as one line of Markdown that shows it as it is."""
    return _SPECIAL.sub(r"\\\1", _BREAKS.sub(" ", str(text))).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _head(analysis: Analysis) -> list[str]:
    summary, run = analysis.summary, analysis.run
    times = summary.timing
    of = f" of {summary.epochs_asked}" if summary.epochs_asked else ""
    rows = [
        ("status", f"{summary.status}: {summary.status_text}"),
        ("run", run.id if run.id != summary.name else ""),
        ("state", run.state),
        ("epochs", f"{summary.epochs_done}{of}"),
        ("best epoch", f"{summary.best_epoch} ({summary.best_by})" if summary.best_epoch else ""),
        ("time", f"{duration(times.total)} in epochs, usually {duration(times.usual)} each" if times.total else ""),
        ("model", summary.model),
        ("data", summary.data),
        ("hardware", summary.hardware),
        ("versions", summary.versions),
        ("against", ", ".join(_names((run, *analysis.references))[1:])),
        ("parity", _parity(run.parity)),
    ]
    table = _table(("", ""), [(name, escape(value)) for name, value in rows if value])
    return [f"# {escape(summary.name)}", table]


def _parity(parity: Mapping[str, object] | None) -> str:
    return "" if parity is None else str(parity.get("verdict") or "there is a parity.json without a verdict")


def _section(section: Section, tables: Sequence[str]) -> list[str]:
    nothing = [] if tables or section.findings else ["Nothing to say."]
    return [f"## {section.title}", *tables, *_findings(section.findings), *nothing]


def _findings(findings: Iterable[Finding]) -> list[str]:
    lines = []
    for one in findings:
        line = f"- {SIGNS[one.severity]}{escape(one.message)}"
        line += f" ({escape(one.evidence)})" if one.evidence else ""
        line += f" → {escape(one.remedy)}" if one.remedy else ""
        lines.append(f"{line} `{one.code}`")
    return ["\n".join(lines)] if lines else []


def _differences(found: Sequence[Difference], names: Sequence[str]) -> list[str]:
    def row(one: Difference) -> tuple[str, ...]:
        values = zip(one.values, one.at_default, strict=True)
        shown = (f"{escape(show(value))}{' (default)' if default else ''}" for value, default in values)
        default = "" if one.default is None else escape(show(one.default))
        return escape(one.name), *shown, default, one.group, escape(one.note)

    header = ("argument", *(escape(name) for name in names), "Ultralytics' default", "acts on", "")
    return [_table(header, [row(one) for one in found])] if found else []


def _metrics(rows: Sequence[MetricRow], against: bool) -> list[str]:
    header = ["metric", "final", "best epoch"]
    header += ["reference, final", "reference, best", "change, final", "change, best"] if against else []
    lines = []
    for row in rows:
        line = [row.label, figure(row.final, 4) + _within(row.interval), figure(row.best, 4)]
        if against:
            line += [figure(row.reference_final, 4), figure(row.reference_best, 4)]
            line += [_change(one) for one in (row.final_change, row.best_change)]
        lines.append(line)
    return [_table(header, lines)] if lines else []


def _change(change: Change | None) -> str:
    """`−0.0720 (−47 %)`."""
    if change is None:
        return ""
    return f"{signed(change.absolute, 4)}{f' ({change.percent})' if change.percent else ''}"


def _within(interval: Interval | None) -> str:
    return "" if interval is None else f" ({figure(interval.low)} to {figure(interval.high)})"


def _losses(rows: Sequence[LossRow], against: bool) -> list[str]:
    header = ["loss", "gain", "last", "per unit of gain", "lowest (epoch)"]
    header += ["reference, per unit", "change per unit"] if against else []
    lines = []
    for row in rows:
        lowest = f"{figure(row.lowest)} ({row.lowest_epoch})"
        line = [row.label, "?" if row.gain is None else f"{row.gain:g}", figure(row.last), figure(row.per_gain), lowest]
        if against:
            change = row.per_gain_change
            line += [figure(row.reference_per_gain), "" if change is None else change.percent]
        lines.append(line)
    return [_table(header, lines)] if lines else []


def _progression(course: Progression) -> list[str]:
    names = [name for name in (*METRICS, *course.losses) if name in course.metrics or name in course.losses]
    marks: dict[int, list[str]] = {}
    for mark in course.marks:
        marks.setdefault(mark.epoch, []).append(mark.text)
    every = max(1, -(-len(course.epochs) // MOST_EPOCHS))
    lines = []
    for index, epoch in enumerate(course.epochs):
        if index % every and epoch not in marks and index != len(course.epochs) - 1:
            continue
        values = [{**course.metrics, **course.losses}[name][index] for name in names]
        star = "**" if epoch == course.best_epoch else ""
        said = escape("; ".join(marks.get(epoch, [])))
        lines.append([f"{star}{epoch}{star}", *(figure(one) for one in values), duration(course.seconds[index]), said])
    return [_table(["epoch", *(LABELS[name] for name in names), "time", ""], lines)] if lines else []


def _files(files: Sequence[FileRow]) -> list[str]:
    lines = []
    for row in files:
        if not row.expected and not row.present:
            continue
        when = "" if row.written is None else f"{datetime.fromtimestamp(row.written, UTC):%Y-%m-%d %H:%M:%S} UTC"
        there = "missing" if not row.present else "as it came back" if row.verified else "there"
        size = "" if row.size is None else f"{row.size:,}"
        lines.append((escape(row.path), there, size, str(row.phase), when))
    return [_table(("file", "", "bytes", "written in", "at"), lines)] if lines else []


def _next(runs: Sequence[NextRun]) -> list[str]:
    parts = ["## Next runs"] if runs else []
    for one in runs:
        # Longer than any run of backticks in the text, so that nothing in it can end the block.
        fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", one.spec))])
        parts += [f"**{escape(one.name)}**: {escape(one.change)}", f"{fence}yaml\n{one.spec.rstrip()}\n{fence}"]
    return parts


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
