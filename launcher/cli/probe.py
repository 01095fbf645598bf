"""`launch probe SPEC`: a few steps on the machine against the same steps here or elsewhere, before any long run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher import registry
from launcher.backend import Backend
from launcher.bundle.pack import Bundle
from launcher.cli import out
from launcher.cli.follow import follow
from launcher.cli.planning import planned, refusal, show
from launcher.cli.progress import bars
from launcher.cli.run import parser
from launcher.errors import Exit, NotFoundError
from launcher.runs import create
from launcher.runs.record import RunRecord
from launcher.runs.store import Store, open_run
from launcher.settings import Settings
from launcher.spec.load import LoadedSpec, load_spec


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parser("launch probe", __doc__)
    arguments.add_argument(
        "--against", metavar="RUN", help="compare with this run's probe; default: with values made here"
    )
    arguments.add_argument(
        "--new", action="store_true", help="start another probe even if one of this spec is going on"
    )
    arguments.add_argument("--logs", action="store_true", help="print every line of the worker")
    args = arguments.parse_args(argv)
    settings = Settings.load()
    loaded = load_spec(args.spec, args.overrides, options=lambda: registry.options(settings))
    backend = registry.load(args.backend, settings)
    with bars() as progress:
        data = create.look_at_data(settings, loaded.spec, progress, make=True)
        assert data is not None
        plan = planned(settings, loaded, backend, data)
        if plan.errors:
            if args.json:
                out.emit({"error": "plan", "findings": [finding.as_json() for finding in plan.findings]})
            else:
                show(plan)
            out.say("launch: the plan has errors; nothing was started")
            return refusal(plan.errors)
        bundle = create.pack_bundle(settings, loaded, data, only_probe=True)
    sent = _sent(settings, bundle, data, args.against)
    record = _started(settings, loaded, data, bundle, backend, sent, plan.offer.machine, new=args.new)
    store = Store(settings.runs_dir)
    code = follow(store, settings, backend, record, as_json=args.json, logs=args.logs)
    return code if code != Exit.OK else _verdict(store, record, quiet=args.json)


def _sent(
    settings: Settings, bundle: Bundle, data: create.Data | create.Elsewhere, against: str | None
) -> dict[str, Any]:
    """What is sent with the probe, and what it is compared with. Raises NotFoundError for a run without a probe."""
    from launcher.parity.probing import make, plan_of

    reference = _reference(settings, against) if against is not None else None
    out.say("  probe    fixed batches and weights are made here, or found in the cache")
    made = make(settings, bundle, data)
    plan = plan_of(settings, made, reference=reference, required=True, on_different="go-on")
    size = sum(int(file["size"]) for file in plan["files"].values())
    batches = made.record["batches"]
    what = f"{batches['batches']} x {batches['images']} images of {batches['side']} pixels, {batches['steps']} steps"
    out.say(f"           {what}, {out.size(size)} to send")
    if reference is not None and reference.get("key") != made.key:
        out.say(f"           {against} has other batches or another loss: compared with values made here instead")
    return plan


def _reference(settings: Settings, against: str) -> Mapping[str, Any]:
    from launcher.parity.probing import read

    _, store, record = open_run(settings, against)
    found = read(store.folder(record.id))
    if found is None:
        remedy = "`launch probe` its spec on the machine that it ran on, and name that run"
        raise NotFoundError(f"{record.id} has no probe", remedy=remedy)
    return found


def _started(
    settings: Settings,
    loaded: LoadedSpec,
    data: create.Data | create.Elsewhere,
    bundle: Bundle,
    backend: Backend[Any],
    sent: Mapping[str, Any],
    machine: str,
    *,
    new: bool,
) -> RunRecord:
    """The probe's run, written down; one of this spec that is going on is gone on with if it compares with the same."""
    store = Store(settings.runs_dir)
    key = create.key_of(bundle, backend, loaded.spec.resources.options)
    with store.starting():
        going = [] if new else [record for record in store.unfinished(key) if record.probe == sent]
        if going:
            out.say(
                f"  run      {going[-1].id} of this very spec is {going[-1].state}: going on (--new starts another)"
            )
            return going[-1]
        more: dict[str, Any] = {"machine": machine, "probe": sent, "only_probe": True}
        return create.new_run(settings, store, loaded, data, bundle, backend, **more)


def _verdict(store: Store, record: RunRecord, *, quiet: bool) -> int:
    """Print the table; the exit code."""
    from launcher.parity.probing import read, table
    from launcher.worker.probing.compare import DIFFERENT, NOT_COMPARABLE

    probe = read(store.folder(record.id)) or {}
    result = probe.get("result")
    if not isinstance(result, dict):
        out.say("launch: the probe came back without a comparison")
        return int(Exit.INTEGRITY)
    if not quiet:
        for line in table(result):
            print(f"  {line}")
        verdict = str(result["verdict"])
        print(
            out.paint(
                verdict.upper(), "1;31" if verdict == DIFFERENT else "1;32" if verdict != NOT_COMPARABLE else "1;33"
            )
        )
        print(f"  {result['reason']}")
        for what in result.get("not_checked", ()):
            print(f"  not checked: {what}")
    return int(Exit.DIFFERENT if result["verdict"] == DIFFERENT else Exit.OK)
