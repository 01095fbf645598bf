"""The plan as `launch SPEC` and `launch plan` show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher.backend import Backend, Need
from launcher.cli import out
from launcher.finding import Finding, Severity
from launcher.installed import installed
from launcher.runs import create
from launcher.settings import Settings
from launcher.spec.arguments import Arguments
from launcher.spec.load import LoadedSpec

if TYPE_CHECKING:
    from launcher.plan.plan import Plan


def planned(settings: Settings, loaded: LoadedSpec, backend: Backend[Any], data: create.Data | None) -> Plan:
    """What this spec would do on this backend."""
    from launcher.plan.case import Room
    from launcher.plan.plan import make_plan
    from launcher.runs.history import samples

    resources = loaded.spec.resources
    offer = backend.offer(Need(resources.device, resources.max_hours))
    facts = data.found.facts if data is not None else None
    if data is not None:
        more = list(data.found.findings)
    else:
        text = "the reef is not drawn yet, so its images are not counted; the run draws it in a few seconds"
        more = [Finding("data.reef-not-drawn", Severity.INFO, text)]
    history = samples(settings)
    versions = installed(settings).versions
    room = Room(offer.free_memory, offer.free_disk)
    return make_plan(loaded.spec, offer, facts, versions, Arguments(), history=history, findings=more, room=room)


def show(plan: Plan) -> None:
    """Print it: what, how, where, how long, and every finding."""
    rows = dict(plan.rows)
    out.say(f"{out.paint(plan.name, '1')}  {rows['model']} on {rows['data']}")
    if "images" in rows:
        out.say(f"  images   {rows['images']}")
    how = [f"{rows['epochs']} epochs", f"imgsz {rows['imgsz']}", f"batch {rows['batch']}", rows["optimizer"]]
    out.say(f"  training {', '.join(how)}")
    if others := [f"{name[6:]} {text}" for name, text in plan.rows if name.startswith("train.")]:
        out.say(f"  set      {', '.join(others)}")
    out.say(f"  machine  {rows['device']}")
    takes = plan.estimate.total_seconds
    text = f"{out.duration(takes.low)} to {out.duration(takes.high)} ({takes.basis})" if takes else "not known"
    out.say(f"  takes    {text}")
    if plan.estimate.cost_dollars is not None and plan.estimate.cost_dollars.high > 0:
        cost = plan.estimate.cost_dollars
        out.say(f"  costs    ${cost.low:.2f} to ${cost.high:.2f} ({cost.basis})")
    out.print_findings(plan.findings)
