"""`launch ps`: list runs, newest first."""

from __future__ import annotations

import argparse

from launcher.cli import out
from launcher.errors import Exit
from launcher.runs.state import RunState
from launcher.runs.store import Row, Store
from launcher.settings import Settings

SHOWN = 20


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch ps", description=__doc__)
    parser.add_argument("--all", action="store_true", help=f"all runs, not only the newest {SHOWN}")
    parser.add_argument("--rebuild", action="store_true", help="make the index anew from the run folders first")
    parser.add_argument("--json", action="store_true", help="one JSON line a run on stdout")
    args = parser.parse_args(argv)
    store = Store(Settings.load().runs_dir)
    if args.rebuild:
        count, bad = store.rebuild()
        out.say(f"  index rebuilt from {count} run folders")
        for message in bad:
            out.say(f"  {out.paint('!', '33')} {message}")
    rows = store.rows(None if args.all else SHOWN)
    if args.json:
        for row in rows:
            out.emit(row._asdict())
        return Exit.OK
    if not rows:
        out.say(f"no runs in {store.root}; `launch jobspecs/smoke.yaml` makes one")
        return Exit.OK
    lines = [("RUN", "STATE", "BACKEND", "EPOCH", "mAP50", "STARTED"), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return Exit.OK


def _cells(row: Row) -> tuple[str, ...]:
    epoch = f"{row.epoch or 0}/{row.epochs or '?'}"
    map50 = "-" if row.map50 is None else f"{row.map50:.3f}"
    state = row.state if RunState(row.state).ended else f"{row.state}…"
    return row.id, state, row.backend, epoch, map50, out.ago(row.created)
