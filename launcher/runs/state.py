"""The states of a run and which may follow which. A transition that is not listed here is impossible."""

from __future__ import annotations

import enum

from launcher.backend import State


class RunState(enum.StrEnum):
    """Where a run stands. Only `launcher.runs` sets it."""

    CREATED = "created"
    """Written down; nothing has been asked of any machine."""
    SUBMITTING = "submitting"
    """An attempt is journalled; whether the backend has it is not known yet."""
    QUEUED = "queued"
    """The backend has the attempt; no machine works on it yet."""
    RUNNING = "running"
    """The worker is alive."""
    UNKNOWN = "unknown"
    """The backend cannot tell. Not a failure: it is asked again."""
    COLLECTING = "collecting"
    """The worker has ended; its files are being fetched and checked, or could not be yet (`launch fetch`)."""
    VERIFIED = "verified"
    """Done, and every output is here with its digest."""
    FAILED = "failed"
    """The training failed. What it left is here."""
    CANCELLED = "cancelled"
    """Stopped on request. What it left is here."""
    LOST = "lost"
    """The machine went away, and no attempt is left to go on with. What was synced is here."""

    @property
    def ended(self) -> bool:
        """Nothing happens any more unless the user asks for it."""
        return self in _ENDED


_ENDED = frozenset({RunState.VERIFIED, RunState.FAILED, RunState.CANCELLED, RunState.LOST})
_LIVE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.UNKNOWN})

NEXT: dict[RunState, frozenset[RunState]] = {
    RunState.CREATED: frozenset({RunState.SUBMITTING, RunState.FAILED, RunState.CANCELLED}),
    RunState.SUBMITTING: _LIVE | {RunState.COLLECTING, RunState.FAILED, RunState.CANCELLED},
    **{state: (_LIVE - {state}) | {RunState.COLLECTING} for state in _LIVE},
    RunState.COLLECTING: _ENDED | {RunState.SUBMITTING, RunState.UNKNOWN},
    RunState.VERIFIED: frozenset(),
    **{state: frozenset({RunState.SUBMITTING}) for state in _ENDED - {RunState.VERIFIED}},
}

OF_BACKEND: dict[State, RunState] = {
    State.QUEUED: RunState.QUEUED,
    State.RUNNING: RunState.RUNNING,
    State.UNKNOWN: RunState.UNKNOWN,
    **{state: RunState.COLLECTING for state in State if state.ended},
}
"""What a backend's word about the current attempt makes of the run."""


class IllegalTransitionError(Exception):
    """A defect of ours: code tried to move a run where it cannot go."""


def check(now: RunState, then: RunState) -> None:
    """Raise IllegalTransitionError unless `then` may follow `now`. Staying is always allowed."""
    if then is not now and then not in NEXT[now]:
        raise IllegalTransitionError(f"a run that is {now} cannot become {then}")
