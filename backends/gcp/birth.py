"""What a new machine has of its own: its key, its startup script, and what a handle will say of it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.gcp import prices
from backends.gcp.compute.instance import Birth, Candidate
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.limits import USUAL_POLL_S
from backends.gcp.compute.placing import Birthing
from launcher.settings import Settings

if TYPE_CHECKING:
    from backends.gcp import GcpRequest

CLAIM_S, IDLE_S, DONE_S, WATCH_S = 1800.0, 300.0, 15.0, 5.0
"""The watchdog's limits: nothing was begun; all processes are gone; all is carried; how often it looks. Assumptions."""


def births(request: GcpRequest, journal: Journal, image: str, settings: Settings) -> Birthing:
    """For the machines of one attempt."""
    public_key = journal.public_key()

    def birth(candidate: Candidate, at: float) -> Birth:
        about = {
            "project": request.shape.project,
            "bucket": request.bucket,
            "run": request.attempt.run,
            "number": request.attempt.number,
            "machine": request.shape.machine,
            "spot": candidate.spot,
            "image": image,
            "price": candidate.price,
            "price_of": prices.date(),
            "lasts_s": candidate.lasts_s,
        }
        more = {"samerun-watch": json.dumps(_watch(settings), sort_keys=True)}
        expires, attempt = at + candidate.lasts_s, request.attempt
        return Birth(attempt.id, attempt.run, expires, image, public_key, _script(), about, more)

    return birth


def _watch(settings: Settings) -> dict[str, Any]:
    """Shorter where everything is: an emulator's poll interval is."""
    pace = min(1.0, settings.gce_poll_seconds / USUAL_POLL_S)
    limits = {"claim": max(CLAIM_S * pace, 60.0), "idle": max(IDLE_S * pace, 15.0), "done": max(DONE_S * pace, 2.0)}
    limits["look"] = max(WATCH_S * pace, 0.5)
    return {**limits, **({"api": settings.gce_endpoint} if settings.gce_endpoint else {})}


@functools.cache
def _script() -> str:
    return (Path(__file__).parent / "machine" / "watchdog.py").read_text(encoding="utf-8")
