"""`launch ps`: list runs, newest first."""

from __future__ import annotations

import argparse
import contextlib
import time

from launcher.cli import out
from launcher.errors import Exit, IntegrityError
from launcher.runs.look import look
from launcher.runs.record import PROBE
from launcher.runs.state import RunState
from launcher.runs.store import Row, Store
from launcher.settings import Settings

SHOWN = 20
LOOK_S = 10.0  # for all the runs shown


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch ps", description=__doc__)
    parser.add_argument("--all", action="store_true", help=f"all runs, not only the newest {SHOWN}")
    parser.add_argument("--rebuild", action="store_true", help="make the index anew from the run folders first")
    parser.add_argument("--json", action="store_true", help="one JSON line a run on stdout")
    args = parser.parse_args(argv)
    settings = Settings.load()
    store = Store(settings.runs_dir)
    if args.rebuild:
        count, bad = store.rebuild()
        out.say(f"  index rebuilt from {count} run folders")
        for message in bad:
            out.say(f"  {out.paint('!', '33')} {message}")
    shown = None if args.all else SHOWN
    rows = _looked_at(settings, store, store.rows(shown), shown)
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
    for row in rows:
        if row.state == RunState.COLLECTING and row.reason:
            out.say(f"  {out.paint('!', '33')} {row.id}: {row.reason}")
    return Exit.OK


def _looked_at(settings: Settings, store: Store, rows: list[Row], shown: int | None) -> list[Row]:
    """The rows after a look at each unfinished run that nobody follows; after LOOK_S the others stay as they are."""
    unfinished = [row.id for row in rows if not RunState(row.state).ended]
    if not unfinished:
        return rows
    until = time.monotonic() + LOOK_S
    for run in unfinished:
        if time.monotonic() < until:
            with contextlib.suppress(IntegrityError):
                look(settings, store, store.read(run))
    return store.rows(shown)


def _cells(row: Row) -> tuple[str, ...]:
    epoch = f"{row.epoch or 0}/{row.epochs or '?'}" if row.kind != PROBE else PROBE
    map50 = "-" if row.map50 is None else f"{row.map50:.3f}"
    state = row.state if RunState(row.state).ended else f"{row.state}…"
    return row.id, state, row.backend, epoch, map50, out.ago(row.created)
