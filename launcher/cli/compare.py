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
        out.emit({**found, "files": [str(file) for file in written]})
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
    """The table as CSV: a row a run, metrics by Ultralytics' names, what is not known empty."""
    from launcher.analysis.model import METRICS

    to = io.StringIO()
    head = ["id", "name", "status", "epochs_done", "epochs_asked", "best_epoch", "seconds", "seed", "group", "changes"]
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow([*head, *(f"final {name}" for name in METRICS), *(f"best {name}" for name in METRICS)])
    for row in said.rows:
        values = [row.id, row.name, row.status, row.epochs_done, row.epochs_asked, row.best_epoch, row.seconds]
        values += [row.seed, row.group, "; ".join(row.changes)]
        writer.writerow(
            [*values, *(row.final.get(name) for name in METRICS), *(row.best.get(name) for name in METRICS)]
        )
    return to.getvalue()


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
    console.print(_table(said, names))
    for name, row in list(zip(names, said.rows, strict=True))[1:]:
        changed = "; ".join(row.changes) or "nothing that is known"
        console.print(Text(f"  {name}: against {names[0]}, changed: {changed}"), soft_wrap=True)
    out.print_findings(said.findings, full=False, to=sys.stdout)


def _table(said: Comparison, names: list[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from launcher.analysis.model import LABELS, METRICS
    from launcher.analysis.numbers import duration

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "status", "epochs", "best"):
        table.add_column(title, justify="right" if title in ("epochs", "best") else "left", overflow="fold")
    for metric in METRICS:
        table.add_column(LABELS[metric], justify="right")
    table.add_column("time", justify="right")
    for name, row in zip(names, said.rows, strict=True):
        epochs = f"{row.epochs_done}/{row.epochs_asked}" if row.epochs_asked else str(row.epochs_done)
        cells = [name, str(row.status), epochs, str(row.best_epoch or NONE)]
        cells += [_metric(row, metric) for metric in METRICS]
        cells.append(duration(row.seconds) if row.seconds is not None else NONE)
        table.add_row(*map(Text, cells))
    return table


def _metric(row: ComparisonRow, name: str) -> str:
    value, change = row.final.get(name), row.final_changes.get(name)
    text = NONE if value is None else f"{value:.3f}"
    return f"{text} {change.percent}" if change and change.percent else text
