"""`launch logs`: what a run's worker printed; -f follows until it ends."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from launcher import registry
from launcher.errors import Exit, RemoteError
from launcher.runs import events
from launcher.runs.look import look
from launcher.runs.store import Store, open_run
from launcher.settings import Settings

WAIT_S = 1.0


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch logs", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run's attempt ends")
    parser.add_argument(
        "--events", "--json", dest="events", action="store_true", help="the events, as JSON lines, instead of the log"
    )
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    run = look(settings, store, record).id
    held = events.position(store.folder(run))
    name, size = (events.EVENTS, held["events"]) if args.events else (events.LOG, held["log"])
    file = store.folder(run) / name
    if file.exists():
        with file.open("rb") as stream:
            shutil.copyfileobj(_Limited(stream, size), sys.stdout.buffer)
        sys.stdout.flush()
    if args.follow:
        _follow(settings, store, run, held["cursors"], as_events=args.events)
    return Exit.OK


def _follow(settings: Settings, store: Store, run: str, cursors: dict[str, str], *, as_events: bool) -> None:
    """Read on where the run's files end, from the backend itself: nothing is written, no one is disturbed."""
    record = store.read(run)
    handle = record.attempt.as_handle() if record.attempt else None
    if handle is None or record.state.ended:
        return
    backend = registry.load(handle.backend, settings)
    cursor = cursors.get(handle.attempt, "")
    while True:
        try:
            chunk = backend.lines(handle, cursor, WAIT_S)
            ended = not chunk.lines and backend.poll([handle])[handle.attempt].state.ended
        except RemoteError:
            time.sleep(WAIT_S)
            continue
        for line in chunk.lines:
            event = events.parse(line)
            if (event is not None) is as_events:
                sys.stdout.write(events.clean(line[len(events.MARK) :] if as_events else line) + "\n")
        sys.stdout.flush()
        cursor = chunk.cursor
        if ended:
            return


class _Limited:
    """The first bytes of a file: what lies past them is read again from the backend."""

    def __init__(self, stream, size: int) -> None:  # type: ignore[no-untyped-def]
        self._stream, self._left = stream, size

    def read(self, count: int = -1) -> bytes:
        """At most what is left."""
        data: bytes = self._stream.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data
