"""`launch resume`: go on with a run that ended early, from its last checkpoint."""

from __future__ import annotations

import argparse
from typing import Any

from launcher import registry
from launcher.backend import Backend
from launcher.cli import out
from launcher.cli.follow import follow
from launcher.cli.planning import refusal
from launcher.errors import NotFoundError
from launcher.finding import Finding, Severity
from launcher.runs import attached
from launcher.runs.driving import attempts
from launcher.runs.driving.release import tidy
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import open_run
from launcher.settings import Settings


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch resume", description=__doc__)
    parser.add_argument("run", help="a run that is failed, cancelled or lost (one still going on is followed)")
    parser.add_argument("--backend", help="go on there; default: where it was")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, the result object last")
    parser.add_argument("--detach", action="store_true", help="return as soon as the backend has accepted the run")
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    if record.state is RunState.VERIFIED:
        raise NotFoundError(f"{record.id} is verified: there is nothing to go on with")
    record = tidy(settings, store, record)  # what had not come back is asked for again
    name = args.backend or record.backend
    if not record.state.ended and name != record.backend:
        remedy = f"`launch cancel {record.id}` first"
        raise NotFoundError(f"{record.id} is {record.state} on {record.backend}: it cannot move now", remedy=remedy)
    epoch = attempts.checkpoint_epoch(store.folder(record.id))
    out.say(
        f"  {record.id} goes on after epoch {epoch}" if epoch else f"  {record.id} has no checkpoint: from the start"
    )
    backend = registry.load(name, settings)
    again = record.state.ended
    if name != record.backend and (errors := _errors(settings, backend, record)):
        out.print_findings(errors)
        out.say(f"launch: {backend.name} cannot take {record.id}; nothing was started")
        return refusal(errors)
    return follow(store, settings, backend, record, as_json=args.json, detach=args.detach, resume=again)


def _errors(settings: Settings, backend: Backend[Any], record: RunRecord) -> list[Finding]:
    """Why the other backend cannot take the run."""
    data = attached.attached(record.data)
    found = [*backend.offer(attempts.needed(record.resources, backend, data, spent=record.dollars)).findings]
    found += attached.refusal(settings, backend, data)
    return [finding for finding in found if finding.severity is Severity.ERROR]
