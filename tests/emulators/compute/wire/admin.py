"""Talking to the emulator from another process: plain JSON below /_emulator."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.emulators.compute.emulator import ComputeEmulator

PREFIX = "/_emulator/"


def handle(compute: ComputeEmulator, verb: str, path: str, body: bytes) -> tuple[int, Any]:
    """HTTP status and value. GET leftovers, bill, requests, settings; POST faults, clock, advance, preempt, settings;
    DELETE faults."""
    what = path.removeprefix(PREFIX)
    try:
        asked: dict[str, Any] = json.loads(body or b"{}")
        if (verb, what) == ("GET", "leftovers"):
            return 200, compute.leftovers()
        if (verb, what) == ("GET", "bill"):
            return 200, [asdict(one) for one in compute.bill()]
        if (verb, what) == ("GET", "requests"):
            return 200, [asdict(one) for one in compute.requests]
        if (verb, what) == ("GET", "settings"):
            return 200, asdict(compute.settings)
        if (verb, what) == ("POST", "faults"):
            compute.faults.add(**asked)
        elif (verb, what) == ("DELETE", "faults"):
            compute.faults.clear()
        elif (verb, what) == ("POST", "clock"):
            compute.clock(float(asked["speed"]))
        elif (verb, what) == ("POST", "advance"):
            compute.clock.advance(float(asked["seconds"]))
        elif (verb, what) == ("POST", "preempt"):
            compute.preempt(str(asked["name"]))
        elif (verb, what) == ("POST", "settings"):
            compute.settings.change(asked)
        else:
            return 404, {"error": f"{verb} {path}: there is no such thing"}
    except (TypeError, ValueError, KeyError) as error:
        return 400, {"error": repr(error)}
    return 200, {}
