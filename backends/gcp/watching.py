"""What became of an attempt, from what the bucket says of its worker and Compute Engine of its machine.

Promises: a machine that was taken away is not a training that has failed; what the worker has said itself counts more
than how its machine went; unknown is not gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.gcp import prices
from backends.gcp.compute.seen import Happened, Life, Seen
from backends.gcp.store import Outcome
from launcher.backend import OUTCOMES, Cost, State, Status

PREEMPTED = ("compute.instances.preempted",)
BROKEN = ("compute.instances.hostError", "compute.instances.terminateOnHostMaintenance")
ENDS = ("delete", "stop", "compute.instances.delete", "compute.instances.guestTerminate", *PREEMPTED, *BROKEN)
LATE_S = 120.0  # how far from its deadline a deletion by the service may be; it may be late by 30 s
LEAST_S = 60.0  # a machine is paid for a minute at least (Google's price page)


@dataclass(frozen=True)
class Machine:
    """The machine as the list had it; `known` is False where the list could not be had."""

    known: bool
    seen: Seen | None = None
    trouble: str = ""


def status(outcome: Outcome | None, trouble: str, machine: Machine) -> Status | None:
    """What can be told without asking what happened to the machine; None: it is gone, and the worker has not ended.

    The machine must have been looked up before the bucket: what its carrier wrote is then all there ever will be.
    """
    if outcome is not None and outcome.ended:
        return _ended(outcome)
    if not machine.known:
        return Status(State.UNKNOWN, machine.trouble)
    if outcome is None:
        return Status(State.UNKNOWN, trouble)
    life = machine.seen.life if machine.seen is not None else None
    if life is None or life is Life.OFF:
        return None
    if life is Life.NEW and machine.seen is not None:
        return Status(State.UNKNOWN, f"its machine is {machine.seen.status}, which is not known here")
    if life is Life.GOING:
        return Status(State.RUNNING, "its machine is being stopped")
    return Status(State.RUNNING, outcome.trouble) if outcome.alive is not None else Status(State.QUEUED)


def _ended(outcome: Outcome) -> Status:
    word = outcome.exit
    if outcome.cancelled:
        return Status(State.CANCELLED)
    if word is None:
        return Status(State.LOST, outcome.trouble or "its worker was gone without a word")
    state = OUTCOMES.get(str(word.get("outcome")), State.UNKNOWN)
    code = word.get("exit_code")
    reason = "" if state is State.SUCCEEDED else str(word.get("reason") or "")
    return Status(state, reason, code if isinstance(code, int) else None)


def gone(happened: Sequence[Happened] | None, ends: float | None) -> Status:
    """Why a machine is gone whose worker has not ended. `ends`: when the service was to delete it (Unix time)."""
    last = next((each for each in happened or () if each.kind in ENDS), None)
    kinds = {each.kind for each in happened or ()}
    if kinds & set(PREEMPTED):
        return Status(State.LOST, "its machine was preempted")
    if kinds & set(BROKEN):
        return Status(State.LOST, "its machine's host has failed")
    if last is not None and last.at is not None and ends is not None and abs(last.at - ends) < LATE_S:
        return Status(State.EXPIRED, "the time of its machine was up (max_run_duration)")
    return Status(State.LOST, f"its machine is gone ({last.kind})" if last is not None else "its machine is gone")


def cost(
    data: Mapping[str, object], machine: Machine, happened: Sequence[Happened], alive: float | None
) -> Cost | None:
    """By the machine's own times and the table; None where its price or its end is not known (any more)."""
    price, made = data.get("price"), data.get("made")
    if not isinstance(price, (int, float)) or not isinstance(made, (int, float)):
        return None
    lasts = data.get("lasts_s")
    if machine.seen is not None and machine.seen.life is not Life.OFF:
        end: float | None = time.time()
    else:
        ended = [each.at for each in happened if each.kind in ENDS and each.at is not None and each.at >= made]
        end = min(ended, default=alive)
    if end is None:
        return None
    seconds = max(LEAST_S, end - made)
    if isinstance(lasts, (int, float)):
        seconds = min(seconds, max(float(lasts) + LATE_S, LEAST_S))
    return Cost(round(seconds / 3600 * price, 4), round(seconds / 3600, 4), prices.basis())
