"""What attempts have left on machines: found by asking each backend, judged by what is known of the runs here.

Promises: nothing of a run that goes on is touched; nothing is removed that holds what has not come home; what belongs
to a run that is not in this folder of runs is shown, and left alone unless asked for: another machine may drive it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher.backend import Backend, Feature, Handle, State, Stored
from launcher.errors import SamerunError
from launcher.runs.driving.release import left_over, tidy
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings


class Verdict(enum.StrEnum):
    """What is to become of something that a backend holds."""

    LIVE = "live"
    """Its run goes on."""
    KEEPS = "keeps"
    """Its run has ended, and it holds what did not come home."""
    STRANGE = "strange"
    """No run here knows it."""
    LEFT = "left"
    """Nobody needs it any more."""


@dataclass(frozen=True)
class Held:
    """An attempt that a backend still holds. `record` is its run, where there is one here."""

    handle: Handle
    state: State
    verdict: Verdict
    reason: str
    record: RunRecord | None = None


def look_through(store: Store, backend: Backend[Any]) -> list[Held]:
    """All attempts that the backend holds, judged. Raises what `owned` raises."""
    handles = backend.owned()
    states = backend.poll(handles)
    return [_judge(store, handle, states[handle.attempt].state) for handle in handles]


def remove(settings: Settings, store: Store, backend: Backend[Any], held: Held) -> list[str]:
    """Remove an attempt that is LEFT, or STRANGE and asked for; what is left over, in words."""
    try:
        if held.record is not None and _is_known(held.record, held.handle):
            record = tidy(settings, store, held.record)
            return [] if _is_released(record, held.handle) else left_over(record)
        if not held.state.ended:
            status = backend.cancel(held.handle)
            if not status.state.ended and Feature.CANCEL not in backend.lacks:
                return [f"{held.handle.attempt} does not end: {status.reason or status.state}"]
        return backend.release(held.handle)
    except SamerunError as error:
        return [f"{held.handle.attempt}: {error.message}"]


def _is_known(record: RunRecord, handle: Handle) -> bool:
    """Whether the record has a handle to release: an attempt that was broken off while it was submitted has none."""
    return any(each.id == handle.attempt and each.handle is not None and not each.released for each in record.attempts)


def _is_released(record: RunRecord, handle: Handle) -> bool:
    """Whether the record says so; a service that has it all the same is believed."""
    return all(attempt.released for attempt in record.attempts if attempt.id == handle.attempt)


def discard(backend: Backend[Any], held: list[Held]) -> Iterator[tuple[Stored, list[str]]]:
    """Remove what the backend keeps for runs to come; nothing while an attempt may use it."""
    using = [each.handle.attempt for each in held if not each.state.ended]
    for stored in backend.stored():
        try:
            left = [f"{stored.key} may be in use by {', '.join(using)}"] if using else backend.discard(stored)
        except SamerunError as error:
            left = [f"{stored.key}: {error.message}"]
        yield stored, left


def _judge(store: Store, handle: Handle, state: State) -> Held:
    run = handle.attempt.rpartition("-a")[0]
    try:
        record = store.read(run)
    except SamerunError:
        return Held(handle, state, Verdict.STRANGE, "its run is not in this folder of runs")
    attempt = next((each for each in record.attempts if each.id == handle.attempt), None)
    if not record.state.ended and (attempt is None or attempt is record.attempt or attempt.state is None):
        reason = f"its run is {record.state}: `launch attach {run}`"
        return Held(handle, state, Verdict.LIVE, reason, record)
    if not record.state.ended and attempt is not None and not attempt.released:
        return Held(handle, state, Verdict.LIVE, "the run's next attempt may need it", record)
    if attempt is not None and attempt.kept:
        reason = f"not all of it came home ({attempt.kept}): `launch fetch {run}`"
        return Held(handle, state, Verdict.KEEPS, reason, record)
    return Held(handle, state, Verdict.LEFT, f"its run is {record.state}", record)
