"""`launch cancel`: stop a run, look that it has stopped, and keep what it has made."""

from __future__ import annotations

import argparse
import time

from launcher import registry
from launcher.cli import out
from launcher.cli.follow import summary
from launcher.errors import Exit
from launcher.runs.drive import Driver
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings

WAIT_S = 60.0  # for the launch that drives the run to collect what there is


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch cancel", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="the result object on stdout")
    args = parser.parse_args(argv)
    settings = Settings.load()
    store = Store(settings.runs_dir)
    record = store.read(store.resolve(args.run))
    if record.state.ended:
        out.say(f"  {record.id} is {record.state} already")
    else:
        record = _cancel(settings, store, record)
        summary(record, store.folder(record.id))
    if args.json:
        out.emit(out.result(record, store.folder(record.id)))
    return Exit.OK if record.state.ended else Exit.UNKNOWN


def _cancel(settings: Settings, store: Store, record: RunRecord) -> RunRecord:
    """Stop the attempt; then drive the run to its end here, or let the launch do so that drives it now."""
    backend = registry.load(record.backend, settings)
    handle = record.attempt.as_handle() if record.attempt else None
    if handle is not None:
        status = backend.cancel(handle)
        out.say(f"  {handle.attempt} is {status.state}")
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with store.driving(record.id) as free:
            record = store.read(record.id)
            if record.state.ended:
                return record
            if free:
                return Driver(store, settings, backend, record).abandon()
        time.sleep(0.1)
    return record
