"""`launch reference`: repeat a spec with other seeds, to measure how far seeds alone move its metrics."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launcher import registry
from launcher.backend import Backend
from launcher.cli import out
from launcher.cli.follow import follow
from launcher.cli.planning import planned, refusal, show
from launcher.cli.progress import bars
from launcher.cli.run import parser, planned_probe
from launcher.errors import Exit
from launcher.runs import create
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.spec.load import LoadedSpec, load_spec

if TYPE_CHECKING:
    from launcher.analysis.model import Spread

MOST_SEEDS = 100


def main(argv: list[str]) -> int:
    """Run the command. One run after another; those that are there already are taken, those going on are followed."""
    arguments = parser("launch reference", __doc__)
    arguments.add_argument(
        "--seeds", type=_count, default=5, metavar="N", help="runs, the spec's own among them (default: 5)"
    )
    args = arguments.parse_args(argv)
    settings = Settings.load()
    first = _load(args, settings, None)
    backend = registry.load(args.backend, settings)
    begin = first.spec.train.get("seed")
    begin = begin if isinstance(begin, int) and not isinstance(begin, bool) else 0
    store = Store(settings.runs_dir)
    runs: list[str] = []
    for number in range(args.seeds):
        seed = begin + number
        out.say(f"{out.paint(f'seed {seed}', '1')}  {number + 1} of {args.seeds}")
        loaded = first if number == 0 else _load(args, settings, seed)
        record, code = _one(settings, store, loaded, backend, first=number == 0, as_json=args.json)
        if record is None or code != Exit.OK:
            out.say(f"launch: {len(runs)} of {args.seeds} seeds are there; the same command goes on")
            return code
        runs.append(record.id)
    spreads = measured(settings, store, runs)
    for line in told(spreads, runs[0]):
        out.say(line)
    if args.json:
        out.emit({"reference": runs[0], "runs": runs, "spreads": [one.as_json() for one in spreads]})
    return Exit.OK


def measured(settings: Settings, store: Store, runs: Sequence[str]) -> list[Spread]:
    """The spread of each metric over these runs, best epochs; runs that are another again count once."""
    from launcher.analysis import load_run
    from launcher.analysis.model import METRICS
    from launcher.analysis.seeds import same, spread

    views: list[Any] = []
    for run in runs:
        view = load_run(store.folder(run), settings)
        if not any(same(view, one) for one in views):
            views.append(view)
    return [one for metric in METRICS if (one := spread(1, views, metric)) is not None]


def told(spreads: Sequence[Spread], first: str) -> list[str]:
    """The spreads for people."""
    from launcher.analysis.model import LABELS

    lines = []
    for one in spreads:
        text = f"  {LABELS[one.metric]:<9} {one.mean:.4f}"
        if one.deviation == 0:
            text += f" in all {len(one.runs)} seeds: it says nothing of how far seeds move it"
        elif one.deviation is not None and one.needed is not None:
            text += f" ± {one.deviation:.4f} (s.d. of {len(one.runs)} seeds, {one.low:.4f} to {one.high:.4f}); "
            text += f"95 % of single runs are within {one.needed:.4f}; a verdict of `different` needs more"
        lines.append(text)
    return [*lines, f"  `launch SPEC --against {first}`, or `launch parity RUN {first}`, uses them"]


def _load(args: argparse.Namespace, settings: Settings, seed: int | None) -> LoadedSpec:
    """The spec with this seed, and without a reference of its own."""
    more = ["parity.against=null", *([f"train.seed={seed}"] if seed is not None else [])]
    return load_spec(args.spec, [*args.overrides, *more], options=lambda: registry.options(settings))


def _one(
    settings: Settings, store: Store, loaded: LoadedSpec, backend: Backend[Any], *, first: bool, as_json: bool
) -> tuple[RunRecord | None, int]:
    """The verified run of this spec: one that is there, one that goes on, or a new one."""
    with bars() as progress:
        data = create.look_at_data(settings, loaded.spec, progress, make=True)
        assert data is not None
        plan = planned(settings, loaded, backend, data)
        if first and not as_json:
            show(plan)
        if plan.errors:
            if as_json:
                out.emit({"error": "plan", "findings": [finding.as_json() for finding in plan.findings]})
            out.say("launch: the plan has errors; nothing was started")
            return None, refusal(plan.errors)
        bundle = create.pack_bundle(settings, loaded, data)
    key = create.key_of(bundle, backend, loaded.spec.resources.options)
    held = any(row.key == key and row.state == RunState.VERIFIED for row in store.rows()) or store.unfinished(key)
    probe = None if held else planned_probe(settings, loaded, data, bundle)
    with store.starting():
        done = next((row for row in store.rows() if row.key == key and row.state == RunState.VERIFIED), None)
        if done is not None:
            out.say(f"  run      {done.id} is verified already")
            return store.read(done.id), Exit.OK
        going = store.unfinished(key)
        about: dict[str, Any] = {
            "machine": plan.offer.machine,
            "findings": [finding.as_json() for finding in plan.findings],
            "probe": probe,
        }
        record = going[-1] if going else create.new_run(settings, store, loaded, data, bundle, backend, **about)
    code = follow(store, settings, backend, record, as_json=as_json)
    return store.read(record.id), code


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 < int(text) <= MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds from 2 to {MOST_SEEDS}")
    return int(text)
