"""`launch fetch`: bring back what a run has made so far, and verify it."""

from __future__ import annotations

import argparse

from launcher import registry
from launcher.cli import out
from launcher.cli.follow import exit_of, follow
from launcher.errors import Exit
from launcher.runs.collect import collect
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch fetch", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args(argv)
    settings = Settings.load()
    store = Store(settings.runs_dir)
    record = store.read(store.resolve(args.run))
    folder = store.folder(record.id)
    handle = record.attempt.as_handle() if record.attempt else None
    if record.state.ended or handle is None:
        what = "everything of it is here already" if record.state.ended else "nothing has been made yet"
        out.say(f"  {record.id} is {record.state}: {what}")
        if args.json:
            out.emit(out.result(record, folder))
        return exit_of(record) if record.state.ended else Exit.OK
    backend = registry.load(handle.backend, settings)
    if record.state is RunState.COLLECTING:
        return follow(store, settings, backend, record, as_json=args.json)
    found = collect(backend, handle, folder)
    if found.trouble:
        out.say(f"  {record.id} is {record.state}; {found.trouble}")
    else:
        out.say(f"  {record.id} is {record.state}; {found.files} files, {out.size(found.size)}, are here and checked")
    if args.json:
        out.emit({"run": record.id, "state": str(record.state), **found.as_json()})
    return Exit.OK
