"""`launch cancel`: stop a run, look that it has stopped, and keep what it has made (where the backend can)."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from launcher import registry
from launcher.backend import Feature
from launcher.cli import out
from launcher.cli.follow import summary
from launcher.errors import Exit, RemoteError
from launcher.runs.driving import attempts
from launcher.runs.driving.drive import Driver
from launcher.runs.driving.release import left_over, tidy
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store, open_run
from launcher.settings import Settings

WAIT_S = 60.0  # for the launch that drives the run to collect what there is


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch cancel", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--yes", action="store_true", help="do not ask, also where stopping deletes what was made")
    parser.add_argument("--no-fetch", action="store_true", help="bring nothing more home: what is there is removed")
    parser.add_argument("--json", action="store_true", help="the result object on stdout")
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    if record.state.ended:
        record = tidy(settings, store, record)
        out.say(f"  {record.id} is {record.state} already")
        for line in left_over(record):
            out.say(f"  left over  {line}")
    elif not _agreed(settings, store, record, asked=args.yes):
        return Exit.INTERRUPTED
    else:
        record = _cancel(settings, store, record, fetch=not args.no_fetch)
        if record.state is RunState.VERIFIED:
            out.say(f"  {record.id} had already finished; collected")
        elif not record.state.ended:
            out.say(f"  {record.id}: whoever follows it has been told to end it, and has not done so yet")
        summary(record, store.folder(record.id))
    if args.json:
        out.emit(out.result(record, store.folder(record.id)))
    if record.state.ended and left_over(record):
        return Exit.LEFT_OVER
    return Exit.OK if record.state.ended else Exit.UNKNOWN


def _agreed(settings: Settings, store: Store, record: RunRecord, *, asked: bool) -> bool:
    """Say what stopping costs where it deletes; ask, if there is somebody to ask who was not `asked` already."""
    reason = registry.load(record.backend, settings).lacks.get(Feature.CANCEL)
    if reason is None or record.attempt is None or record.attempt.handle is None:
        return True
    out.say(f"  {record.backend}: {reason}")
    out.say(f"  {_at_home(store, record)}")
    if asked or not sys.stdin.isatty():
        return True
    sys.stderr.write("  cancel? [y/N] ")  # not by `input`, which asks on stdout, and stumbles over Ctrl-D
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _at_home(store: Store, record: RunRecord) -> str:
    """What of the run would be left."""
    epoch = attempts.checkpoint_epoch(store.folder(record.id))
    here = f"the checkpoint of epoch {epoch} is here" if epoch else "no checkpoint is here"
    return f"{here}; epoch {record.epoch} is the last that it told of" if record.epoch else here


def _cancel(settings: Settings, store: Store, record: RunRecord, *, fetch: bool) -> RunRecord:
    """Write down that the run is to end; then end it here, or see to it that the launch does so that drives it now."""
    store.wish_cancelled(record.id)
    until, told = time.monotonic() + WAIT_S, False
    while True:
        with store.driving(record.id) as free:
            record = store.read(record.id)
            if record.state.ended:
                return record
            if free:
                backend = registry.load(record.backend, settings)
                return Driver(store, settings, backend, record).abandon(fetch=fetch)
        if not told:
            told = True
            _stop_now(settings, record)
        if time.monotonic() > until:
            return record
        time.sleep(0.1)


def _stop_now(settings: Settings, record: RunRecord) -> None:
    """Stop the attempt at once instead of waiting for whoever follows it, where that deletes nothing."""
    last = record.attempt
    handle = last.as_handle() if last is not None else None
    if last is None or handle is None or (last.state is not None and last.state.ended):
        return
    backend = registry.load(last.backend, settings)
    if Feature.CANCEL not in backend.lacks:
        with contextlib.suppress(RemoteError):
            out.say(f"  {handle.attempt} is {backend.cancel(handle).state}")
