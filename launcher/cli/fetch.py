"""`launch fetch`: bring back what a run has made so far, and verify it."""

from __future__ import annotations

import argparse

from launcher import registry
from launcher.backend import Feature
from launcher.cli import out
from launcher.cli.follow import follow
from launcher.errors import Exit
from launcher.runs.driving.collect import collect
from launcher.runs.driving.release import left_over, tidy
from launcher.runs.look import look
from launcher.runs.state import RunState
from launcher.runs.store import open_run
from launcher.settings import Settings

NOTHING = "nothing to bring back yet"


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch fetch", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    folder = store.folder(record.id)
    record = tidy(settings, store, look(settings, store, record))
    handle = record.attempt.as_handle() if record.attempt else None
    if record.state.ended or handle is None:
        left = left_over(record)
        here = "what came back of it is here" if left else "everything of it is here already"
        out.say(f"  {record.id} is {record.state}: {here if record.state.ended else NOTHING}")
        for line in left:
            out.say(f"  left over  {line}")
        if args.json:
            out.emit(out.result(record, folder))
        return Exit.OK
    backend = registry.load(handle.backend, settings)
    if record.state is RunState.COLLECTING:
        return follow(store, settings, backend, record, as_json=args.json)
    found = collect(backend, handle, folder)
    if found.trouble and not found.manifest and not found.kept_there:
        why = backend.lacks.get(Feature.LIVE_FILES)
        out.say(f"  {record.id} is {record.state}: {NOTHING}{f' ({why})' if why else ''}")
    elif found.trouble:
        out.say(f"  {record.id} is {record.state}; {found.trouble}")
    else:
        out.say(f"  {record.id} is {record.state}; {found.files} files, {out.size(found.size)}, are here and checked")
    if args.json:
        out.emit({"run": record.id, "state": str(record.state), **found.as_json()})
    return Exit.OK
