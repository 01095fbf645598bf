"""`launch attach`: follow a run again, and go on with it where it was left."""

from __future__ import annotations

import argparse

from launcher import registry
from launcher.cli.follow import ended, follow
from launcher.runs.driving.release import tidy
from launcher.runs.store import open_run
from launcher.settings import Settings


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch attach", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, the result object last")
    parser.add_argument("--logs", action="store_true", help="print every line of the worker instead of the table")
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    if record.state.ended:
        record = tidy(settings, store, record)
        return ended(settings, record, store.folder(record.id), as_json=args.json)
    backend = registry.load(record.backend, settings)
    return follow(store, settings, backend, record, as_json=args.json, logs=args.logs)
