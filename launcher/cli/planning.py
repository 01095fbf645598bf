"""The plan as `launch SPEC` and `launch plan` show it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from launcher.backend import Backend, Need
from launcher.cli import out
from launcher.installed import installed
from launcher.runs import create
from launcher.settings import Settings
from launcher.spec.arguments import Arguments
from launcher.spec.load import LoadedSpec

if TYPE_CHECKING:
    from launcher.plan import Plan


def planned(settings: Settings, loaded: LoadedSpec, backend: Backend[Any], data: create.Data | None) -> Plan:
    """What this spec would do on this backend."""
    from launcher.plan import make_plan
    from launcher.runs.history import samples

    resources = loaded.spec.resources
    offer = backend.offer(Need(resources.device, resources.max_hours))
    facts = data.found.facts if data is not None else None
    more = list(data.found.findings) if data is not None else []
    history = samples(settings, os.uname().nodename)
    return make_plan(loaded.spec, offer, facts, installed(settings).versions, Arguments(), history, more)


def show(plan: Plan) -> None:
    """Print it."""
    for name, text in plan.rows:
        out.say(f"  {name:<8} {text}")
    out.print_findings(plan.findings)
