"""`launch compare`: several runs side by side."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli import out
from launcher.errors import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from launcher.analysis.model import Comparison, ComparisonRow

WIDE = 200
"""Columns where no terminal says how many it has."""
NONE = "–"
FORM = 1
"""Of the `--json`: counted up when something in it gets another name or meaning."""
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula: OWASP, "CSV Injection"."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parse(argv)
    from launcher.analysis import compare, load_run
    from launcher.settings import Settings

    settings = Settings.load()
    said = compare([load_run(one, settings) for one in args.runs])
    written = []
    if args.html:
        from launcher.report.document import comparison_page

        written.append(_write(args.html, comparison_page(said).encode("utf-8", "replace")))
    if args.csv:
        written.append(_write(args.csv, table_csv(said).encode("utf-8", "replace")))
    if args.json:
        found = {name: value for name, value in said.as_json().items() if name not in ("runs", "progressions")}
        out.emit({"version": FORM, **found, "files": [str(file) for file in written]})
        return Exit.OK
    _print(said)
    for file in written:
        print(f"  {file}")
    return Exit.OK


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch compare",
        description=__doc__,
        epilog="RUN: an id, its beginning, a name, a folder of samerun or Ultralytics, or a results.csv.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the runs; changes are against the first")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the table and all curves")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table for a spreadsheet or a script")
    parser.add_argument("--json", action="store_true", help="table and findings as one JSON line on stdout")
    args = parser.parse_args(argv)
    if len(args.runs) < 2:
        parser.error("name two runs or more")
    return args


def table_csv(said: Comparison) -> str:
    """The table as CSV: a row a run, metrics by Ultralytics' names, what is not known empty.

    The metrics of boxes are always there, those of masks, poses and classes where a run has them. A text that a
    spreadsheet would run as a formula has a `'` in front.
    """
    from launcher.analysis.model import METRICS
    from launcher.analysis.numbers import metric_names

    names = tuple(dict.fromkeys((*METRICS, *metric_names(*said.runs))))
    to = io.StringIO()
    head = ["id", "name", "status", "epochs_done", "epochs_asked", "best_epoch", "seconds", "seed", "group", "changes"]
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow([*head, *(f"final {name}" for name in names), *(f"best {name}" for name in names)])
    for row in said.rows:
        values = [_inert(row.id), _inert(row.name), row.status, row.epochs_done, row.epochs_asked, row.best_epoch]
        values += [row.seconds, row.seed, row.group, _inert("; ".join(row.changes))]
        writer.writerow([*values, *(row.final.get(name) for name in names), *(row.best.get(name) for name in names)])
    return to.getvalue()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _write(file: Path, data: bytes) -> Path:
    from launcher.files import storage, write_atomic

    with storage("writing the comparison", file):
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file.absolute(), data)
    return file.absolute()


def _print(said: Comparison) -> None:
    from rich.console import Console
    from rich.text import Text

    from launcher.report.charts import unique

    names = unique(said.runs)
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    head = f"Metrics of the last epoch, with their changes against {names[0]}; best: those of the best epoch."
    console.print(Text(head), soft_wrap=True)
    console.print(_table(said, names))
    for name, row in list(zip(names, said.rows, strict=True))[1:]:
        changed = "; ".join(row.changes) or "nothing that is known"
        console.print(Text(f"  {name}: against {names[0]}, changed: {changed}"), soft_wrap=True)
    out.print_findings(said.findings, full=False, to=sys.stdout)


def _table(said: Comparison, names: list[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from launcher.analysis.model import LABELS
    from launcher.analysis.numbers import duration
    from launcher.report.tables import compared, share

    last, best = compared(said.runs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "status"):
        table.add_column(title, overflow="fold")
    for title in ("epochs", *(LABELS[name] for name in last), "best epoch", *(f"best {LABELS[name]}" for name in best)):
        table.add_column(title, justify="right")
    table.add_column("time", justify="right")
    for name, row in zip(names, said.rows, strict=True):
        epochs = f"{row.epochs_done}/{row.epochs_asked}" if row.epochs_asked else str(row.epochs_done)
        cells = [name, str(row.status), epochs, *(_metric(row, metric) for metric in last)]
        cells += [str(row.best_epoch or NONE), *(share(row.best.get(metric)) for metric in best)]
        cells.append(duration(row.seconds) if row.seconds is not None else NONE)
        table.add_row(*map(Text, cells))
    return table


def _metric(row: ComparisonRow, name: str) -> str:
    from launcher.report.tables import share

    text, change = share(row.final.get(name)), row.final_changes.get(name)
    return f"{text} {change.percent}" if change and change.percent else text
