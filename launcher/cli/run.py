"""`launch SPEC`: plan, submit, follow, sync, verify."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher import registry
from launcher.backend import Backend
from launcher.bundle.pack import Bundle
from launcher.cli import out
from launcher.cli.follow import follow
from launcher.cli.planning import planned, refusal, show
from launcher.cli.progress import bars
from launcher.errors import Exit, NotFoundError
from launcher.runs import create
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.spec.load import LoadedSpec, load_spec


def parser(command: str = "launch", about: str | None = __doc__, *, backend: str = "") -> argparse.ArgumentParser:
    """The arguments that `run` and `plan` share; `backend` is what there is more to say of that one."""
    made = argparse.ArgumentParser(prog=command, description=about)
    made.add_argument("spec", type=Path, help="the job spec, a YAML file")
    made.add_argument("--backend", default="local", help=f"where to run (default: local, this machine){backend}")
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="override a field, e.g. train.epochs=3",
    )
    made.add_argument("--json", action="store_true", help="JSON lines on stdout, the result object last")
    return made


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parser()
    arguments.add_argument(
        "--against", metavar="RUN", help="hold the run against this one when it has ended; exit 6: different"
    )
    arguments.add_argument("--detach", action="store_true", help="return as soon as the backend has accepted the run")
    arguments.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    arguments.add_argument("--new", action="store_true", help="start another run even if one of this spec is going on")
    arguments.add_argument("--logs", action="store_true", help="print every line of the worker instead of the table")
    args = arguments.parse_args(argv)
    settings = Settings.load()
    wished = [f"parity.against={json.dumps(args.against)}"] if args.against is not None else []
    loaded = load_spec(args.spec, [*args.overrides, *wished], options=lambda: registry.options(settings))
    loaded = referring(settings, loaded)
    backend = registry.load(args.backend, settings)
    store = Store(settings.runs_dir)
    with bars() as progress:
        data = create.look_at_data(settings, loaded.spec, progress, make=True)
        assert data is not None
        plan = planned(settings, loaded, backend, data)
        if not args.json:
            show(plan)
        if plan.errors:
            if args.json:
                out.emit({"error": "plan", "findings": [finding.as_json() for finding in plan.findings]})
            out.say("launch: the plan has errors; nothing was started")
            return refusal(plan.errors)
        bundle = create.pack_bundle(settings, loaded, data)
    out.say(f"  bundle   {bundle.digest[:12]}{'' if bundle.packed else ' (unchanged, not packed again)'}")
    if args.dry_run:
        return dry_run(settings, loaded, data, bundle, backend, as_json=args.json)
    key = create.key_of(bundle, backend, loaded.spec.resources.options)
    probe = planned_probe(settings, loaded, data, bundle) if args.new or not store.unfinished(key) else None
    with store.starting():
        going = [] if args.new else store.unfinished(key)
        if going:
            record = going[-1]
            out.say(f"  run      {record.id} of this very spec is {record.state}: going on (--new starts another)")
            record = _held_against(store, record, loaded)
        else:
            if not args.new:  # who writes that knows
                _say_earlier(store, key)
            findings = [finding.as_json() for finding in plan.findings]
            about: dict[str, Any] = {"machine": plan.offer.machine, "findings": findings, "probe": probe}
            record = create.new_run(settings, store, loaded, data, bundle, backend, **about)
    if settings.payload is not None:
        out.say(f"  payload  {settings.payload} runs in the place of the training: this run trains nothing")
    return follow(store, settings, backend, record, as_json=args.json, logs=args.logs, detach=args.detach)


def referring(settings: Settings, loaded: LoadedSpec) -> LoadedSpec:
    """The spec with its reference by the id of a run here, else by its folder: a name means another run tomorrow.

    Raises NotFoundError: a reference that is not there is told before anything is started.
    """
    parity = loaded.spec.parity
    if parity.against is None:
        return loaded
    from launcher.analysis import load_run

    view = load_run(parity.against, settings)
    here = view.where.parent.resolve() == settings.runs_dir.resolve()
    against = view.id if here else str(view.where.absolute())
    section = parity.model_copy(update={"against": against})
    return replace(loaded, spec=loaded.spec.model_copy(update={"parity": section}))


def planned_probe(
    settings: Settings, loaded: LoadedSpec, data: create.Data | create.Elsewhere, bundle: Bundle
) -> dict[str, Any] | None:
    """What is sent so that the machine is probed before the training, by the spec's `parity` section."""
    section = loaded.spec.parity
    if section.probe == "off" or (section.probe == "auto" and section.against is None) or settings.payload is not None:
        return None
    from launcher.parity.probing import for_run

    folder = settings.runs_dir / section.against if section.against is not None else None  # absolute, if not a run here
    probe, what = for_run(settings, section.model_dump(), bundle, data, folder)
    if what:
        out.say(f"  probe    {what}")
    return probe


def _held_against(store: Store, record: RunRecord, loaded: LoadedSpec) -> RunRecord:
    """A run that is going on, with the reference that is asked for now; unchanged while another process drives it.

    Raises NotFoundError for a run that would be its own reference.
    """
    section = loaded.spec.parity
    if section.against is None or section.against == record.against:
        return record
    if section.against == record.id:
        message = f"{record.id} is the very run that is going on: it cannot be its own reference"
        raise NotFoundError(message, remedy="--new starts another, to be held against it")
    with store.driving(record.id) as free:
        if free:
            record = replace(store.read(record.id), against=section.against, parity=section.model_dump())
            store.save(record)
            return record
    out.say(f"  another launch drives it: `launch parity {record.id} {section.against}` compares when it has ended")
    return record


def _say_earlier(store: Store, key: str) -> None:
    """That this spec has been run before, where it has: another run starts from zero."""
    row = next((row for row in store.rows() if row.key == key and RunState(row.state).ended), None)
    if row is None:
        return
    if row.state == RunState.VERIFIED:
        out.say(f"  earlier  run {row.id} of this very spec is verified already; this starts another")
        return
    ended = "failed" if row.state == RunState.FAILED else f"was {row.state}"
    when = f" after epoch {row.epoch}" if row.epoch else " before its first epoch was over"
    on = f"`launch resume {row.id}` goes on with it"
    out.say(f"  earlier  run {row.id} of this very spec {ended}{when}; this starts another ({on})")


def dry_run(
    settings: Settings,
    loaded: LoadedSpec,
    data: create.Data | create.Elsewhere,
    bundle: Any,
    backend: Backend[Any],
    *,
    as_json: bool,
) -> int:
    """Show the request that a run would send. Nothing is written but the cache."""
    from launcher.runs.driving import attempts
    from launcher.runs.record import AttemptRecord

    store = Store(settings.runs_dir)
    record = create.draft(settings, store.new_id(loaded.spec.name), loaded, data, bundle, backend)
    attempt = AttemptRecord(f"{record.id}-a1", 1, backend.name, record.created)
    request = backend.prepare(attempts.build(settings, store, record, attempt, backend))
    if as_json:
        out.emit(request.show())
    else:
        print(json.dumps(request.show(), indent=2, default=str))
    return Exit.OK
