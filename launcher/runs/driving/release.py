"""Giving machines back: what attempts hold there is removed, once what they made is here.

Promise: an attempt counts as released only when its backend has said that nothing of it is left; until then it is tried
again whenever someone looks after the run.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from launcher.backend import Backend
from launcher.errors import SamerunError
from launcher.runs.driving import collect
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings

LEFT_OVER = "left_over"


def give_back(
    record: RunRecord, settings: Settings, backend: Backend[Any] | None = None, *, former: bool = False
) -> RunRecord:
    """Release the attempts (with `former` all but the newest); the record says of each whether it is released.

    What did not come back whole is left there, unless the run is verified without it. Raises nothing: why an attempt
    could not be released is in `checked["left_over"]`.
    """
    left: list[str] = []
    done: list[AttemptRecord] = []
    for attempt in record.attempts:
        if attempt.handle is None or attempt.released or (former and attempt is record.attempt):
            done.append(attempt)
            continue
        attempt = replace(attempt, cost=cost_of(attempt, settings, backend))
        if attempt.kept and record.state is not RunState.VERIFIED:
            found = [f"{attempt.id} was not released: {attempt.kept}"]
        else:
            found = _release(attempt, settings, backend)
        left += found
        done.append(replace(attempt, released=not found))
    checked = {name: value for name, value in record.checked.items() if name != LEFT_OVER}
    return replace(record, attempts=tuple(done), checked={**checked, LEFT_OVER: left} if left else checked)


def tidy(settings: Settings, store: Store, record: RunRecord) -> RunRecord:
    """Release what a run that has ended still holds, after another try to bring what it keeps. Raises StorageError."""
    if not record.state.ended or not any(attempt.handle and not attempt.released for attempt in record.attempts):
        return record
    with store.driving(record.id) as free:
        record = before = store.read(record.id)
        if not free or not record.state.ended:
            return record
        if record.state is not RunState.VERIFIED:
            record = replace(record, attempts=tuple(_bring(settings, store, record, a) for a in record.attempts))
        record = give_back(record, settings)
        if record != before:
            store.save(record)
    return record


def cost_of(attempt: AttemptRecord, settings: Settings, backend: Backend[Any] | None = None) -> dict[str, Any] | None:
    """What the attempt has cost so far; what was known already where its backend cannot tell now."""
    known = None if attempt.cost is None else dict(attempt.cost)
    handle = attempt.as_handle()
    if handle is None or attempt.released:
        return known
    try:
        cost = _of(attempt, settings, backend).cost(handle)
    except SamerunError:
        return known
    return known if cost is None else asdict(cost)


def sweep(record: RunRecord, backend: Backend[Any]) -> RunRecord:
    """Remove what the newest attempt's submission has left, which nobody has accepted; what stays is left over."""
    last = record.attempt
    if last is None or last.handle is not None:
        return record
    left = left_over(record)
    try:
        for handle in backend.owned():
            if handle.attempt == last.id:
                backend.cancel(handle)
                left += backend.release(handle)
    except SamerunError as error:
        left.append(f"{last.id} may have left something: {error.message}")
    return record if left == left_over(record) else replace(record, checked={**record.checked, LEFT_OVER: left})


def left_over(record: RunRecord) -> list[str]:
    """What of the run is still on machines, in words."""
    return [str(line) for line in record.checked.get(LEFT_OVER, ())]


def _release(attempt: AttemptRecord, settings: Settings, backend: Backend[Any] | None) -> list[str]:
    handle = attempt.as_handle()
    assert handle is not None
    try:
        return _of(attempt, settings, backend).release(handle)
    except SamerunError as error:
        return [f"{attempt.id} may not be released: {error.message}"]


def _bring(settings: Settings, store: Store, record: RunRecord, attempt: AttemptRecord) -> AttemptRecord:
    """Another try to bring what an attempt keeps."""
    handle = attempt.as_handle()
    if handle is None or attempt.released or not attempt.kept:
        return attempt
    try:
        found = collect.collect(_of(attempt, settings, None), handle, store.folder(record.id))
    except SamerunError:
        return attempt
    return replace(attempt, kept=found.trouble[:2000] if found.kept_there else "")


def _of(attempt: AttemptRecord, settings: Settings, backend: Backend[Any] | None) -> Backend[Any]:
    """The attempt's own backend. Raises NotFoundError."""
    if backend is not None and backend.name == attempt.backend:
        return backend
    from launcher import registry

    return registry.load(attempt.backend, settings)
