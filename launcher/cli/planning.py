"""The plan as `launch SPEC` and `launch plan` show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from launcher.backend import Backend
from launcher.cli import out
from launcher.errors import Exit
from launcher.finding import Finding, Severity
from launcher.installed import installed
from launcher.runs import attached, create
from launcher.runs.driving.attempts import needed
from launcher.settings import Settings
from launcher.spec.arguments import Arguments
from launcher.spec.load import LoadedSpec

if TYPE_CHECKING:
    from launcher.plan.plan import Plan


def planned(
    settings: Settings, loaded: LoadedSpec, backend: Backend[Any], data: create.Data | create.Elsewhere | None
) -> Plan:
    """What this spec would do on this backend."""
    from launcher.plan.case import Room
    from launcher.plan.plan import make_plan
    from launcher.runs.history import samples

    resources = loaded.spec.resources
    elsewhere = data.attached if isinstance(data, create.Elsewhere) else None
    offer = backend.offer(needed(resources.as_json(), backend, elsewhere))
    facts = data.found.facts if isinstance(data, create.Data) else None
    if isinstance(data, create.Data):
        more = list(data.found.findings)
    elif isinstance(data, create.Elsewhere):
        text = f"the dataset is on {data.place}: not counted here, and its files are not checked before the run"
        more = [Finding("data.not-here", Severity.INFO, text), *attached.refusal(settings, backend, elsewhere)]
    else:
        text = "the reef is not drawn yet, so its images are not counted; the run draws it in a few seconds"
        more = [Finding("data.reef-not-drawn", Severity.INFO, text)]
    more += _of_others(backend, resources.options)
    history = samples(settings)
    here = installed(settings).versions
    there = {name: here[name] for name in offer.installs if name in here}  # a run is packed for what is here
    versions = here if offer.versions is None else {**offer.versions, **there}
    room = Room(offer.free_memory, offer.free_disk)
    return make_plan(loaded.spec, offer, facts, versions, Arguments(), history=history, findings=more, room=room)


def _of_others(backend: Backend[Any], options: Mapping[str, Any]) -> list[Finding]:
    """Settings of `resources` that are another backend's: the spec may be meant for both."""
    names = sorted(f"resources.{name}" for name in options if name not in backend.options)
    text = f"{backend.name} has no use for {', '.join(names)}"
    return [Finding("resources.of-another-backend", Severity.INFO, text)] if names else []


def refusal(errors: Iterable[Finding]) -> Exit:
    """The exit code for findings that keep a run from being started."""
    return Exit.ACCESS if all(finding.is_access for finding in errors) else Exit.USAGE


def show(plan: Plan, *, full: bool = False, to: TextIO | None = None) -> None:
    """Print it: what, how, where, how long, and the findings; only the errors where there are any.

    In full with what each finding and estimate rests on, which `launch plan` is for.
    """

    def say(text: str) -> None:
        out.say(text, to)

    rows = dict(plan.rows)
    say(f"{out.paint(plan.name, '1', to)}  {rows['model']} on {rows['data']}")
    if "images" in rows:
        say(f"  images   {rows['images']}")
    how = [_epochs(rows["epochs"]), f"imgsz {rows['imgsz']}", f"batch {rows['batch']}", rows["optimizer"]]
    say(f"  training {', '.join(how)}")
    if others := [f"{name[6:]} {text}" for name, text in plan.rows if name.startswith("train.")]:
        say(f"  set      {', '.join(others)}")
    say(f"  machine  {rows['device']}")
    say(f"  takes    {_takes(plan, full=full)}")
    if plan.offer.price_per_hour:
        say(f"  costs    {_costs(plan, full=full)}")
    out.print_findings(plan.errors or plan.findings, full=full, to=to)


def _costs(plan: Plan, *, full: bool) -> str:
    """By the hour, as expected, and at most."""
    cost, most = plan.estimate.cost_dollars, plan.estimate.most_dollars
    if cost is None:
        basis = f" ({plan.offer.price_basis})" if plan.offer.price_basis else ""
        text = f"${plan.offer.price_per_hour:.4g} an hour{basis}; how much in all is not known"
    else:
        text = f"${cost.low:.2f} to ${cost.high:.2f} ({cost.basis if full else out.short(cost.basis)})"
    return f"{text}; at most ${most:.2f}" if most is not None else f"{text}; no limit: resources.max_cost sets one"


def _epochs(text: str) -> str:
    """`1 epoch`, `100 epochs (the default)`."""
    number, _, rest = text.partition(" ")
    return f"{number} epoch{'s' * (number != '1')}{f' {rest}' if rest else ''}"


def _takes(plan: Plan, *, full: bool) -> str:
    total, start = plan.estimate.total_seconds, plan.estimate.start_up_seconds
    if total is None:
        return "not known"
    text = out.about(total.low, total.high)
    if start is not None:
        here = out.about(start.low, start.high).removeprefix("about ")
        text += f", plus the start-up of PyTorch and Ultralytics, {here} here"
    return f"{text} ({total.basis if full else out.short(total.basis)})"
