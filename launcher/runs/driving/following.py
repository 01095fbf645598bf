"""Following one attempt: what its worker says and what its backend says of it, taken into the run's record.

Promises: what the backend cannot tell is `unknown` and asked again until the run's patience is over; a run that the
user has given up is told to stop, whoever follows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from launcher.backend import Backend, Feature, Handle, State, Status
from launcher.errors import RemoteError
from launcher.runs import attached
from launcher.runs.driving import collect
from launcher.runs.driving.partial import Partial
from launcher.runs.driving.staging import Step, Teller
from launcher.runs.events import Event, Mirror
from launcher.runs.events import read as read_events
from launcher.runs.record import RunRecord
from launcher.runs.state import OF_BACKEND, RunState
from launcher.runs.store import Store, now
from launcher.settings import Settings

WAIT_S = 1.0  # how long one call for lines may wait; a backend that is silent is polled this often
RETRY_S = 2.0  # pause after a call that failed for reasons that pass; it grows with each failure
RETRY_GROWTH = 15  # times as long, at most
IDLE_S = 0.01  # first pause after lines that were answered at once with none; it grows up to WAIT_S
LOOK_S = 5.0  # how long `look` goes on taking in lines


@dataclass(frozen=True)
class Progress:
    """What an observer is told: the record as it stands, events and log lines that are new, what is being sent."""

    record: RunRecord
    events: tuple[Event, ...] = ()
    lines: tuple[str, ...] = ()
    step: Step | None = None


Observer = Callable[[Progress], None]
T = TypeVar("T")


class Follower:
    """One run as this process drives it: its record, and how it is kept up to date."""

    def __init__(self, store: Store, settings: Settings, backend: Backend[Any], record: RunRecord) -> None:
        self.store = store
        self.settings = settings
        self.backend = backend
        self.record = record
        self.folder = store.folder(record.id)
        self.observers: list[Observer] = []
        self._teller = Teller(self._given_up, self._tell_step, self._tell_reason)

    def look(self) -> RunRecord:
        """Take in what the backend says now; nothing is collected or submitted. Silence changes nothing."""
        last = self.record.attempt
        handle = last.as_handle() if last is not None else None
        if handle is None or self.record.state.ended or self.record.state is _COLLECTING:
            return self.record
        until = time.monotonic() + LOOK_S
        try:
            mirror = Mirror(self.folder, handle.attempt)
            self._absorb([event for event in read_events(self.folder) if event.attempt == handle.attempt])
            self._drain(mirror, handle, until)
            status = self.backend.poll([handle])[handle.attempt]
            self._note(status)
            if status.state.ended:
                self._drain(mirror, handle, until)
                reason = f"the worker has ended; `launch attach {self.record.id}` brings everything back"
                self._move(_COLLECTING, reason=reason)
        except RemoteError:
            return self.record
        return self.record

    def _follow(self, handle: Handle) -> Status:
        """Read lines and ask for the state until the attempt has ended."""
        mirror = Mirror(self.folder, handle.attempt)
        partial = Partial(self.backend, handle, self.folder, enabled=self._syncs_while_running())
        heard = time.monotonic()
        told = self.record.state is _COLLECTING  # it has ended by itself
        idle = IDLE_S
        # What a killed launch had kept and not yet taken into the record.
        self._absorb([event for event in read_events(self.folder) if event.attempt == handle.attempt])
        try:
            while True:
                told = told or self._tell_to_stop(handle)
                asked = time.monotonic()
                said_end, quiet, silent = False, True, False
                try:
                    events, lines = self._read(mirror, handle, WAIT_S)
                    quiet = not events and not lines
                    said_end = any(event.name in ("done", "failed") for event in events)
                    if any(event.name == "checkpoint" for event in events):
                        partial.go()
                except RemoteError:
                    silent = True
                if not (quiet or said_end):
                    heard, idle = time.monotonic(), IDLE_S
                    continue
                status = self._poll(handle)
                if status.state is not State.UNKNOWN:
                    heard = time.monotonic()
                self._note(status)
                if status.state.ended:
                    break
                if time.monotonic() - heard > self.record.patience_s:
                    minutes = self.record.patience_s / 60
                    raise RemoteError(
                        f"{handle.backend} has not said for {minutes:g} min what became of {handle.attempt}"
                        + (f" ({status.reason})" if status.reason else ""),
                        remedy=f"`launch attach {self.record.id}` asks again; the run may still be going on",
                    )
                if silent or status.state is State.UNKNOWN:
                    time.sleep(RETRY_S)
                else:  # a log that has ended before its machine has no more to wait for
                    time.sleep(max(0.0, idle - (time.monotonic() - asked)))
                    idle = min(2 * idle, WAIT_S)
        finally:
            partial.join()
        self._patiently(lambda: self._drain(mirror, handle))
        return status

    def _given_up(self) -> bool:
        """Whether the user wants the run to end."""
        return self.store.wished_cancelled(self.record.id)

    def _tell_to_stop(self, handle: Handle) -> bool:
        """Stop the attempt of a run that was given up; False as long as it has not been seen to have stopped."""
        if not self._given_up():
            return False
        try:
            return self._stop(handle).state.ended
        except RemoteError:
            return False

    def _stop(self, handle: Handle) -> Status:
        """Stop what is alive. Where stopping deletes what was made, it is brought home first. Raises RemoteError."""
        status = self.backend.poll([handle])[handle.attempt]
        if status.state.ended:
            return status
        if Feature.CANCEL in self.backend.lacks and Feature.LIVE_FILES not in self.backend.lacks:
            collect.collect(self.backend, handle, self.folder)
        return self.backend.cancel(handle)

    def _poll(self, handle: Handle) -> Status:
        """What the backend says of the attempt; whoever cannot be asked does not know."""
        try:
            status = self.backend.poll([handle])[handle.attempt]
        except RemoteError as error:
            return Status(State.UNKNOWN, error.message)
        if self.record.state is _COLLECTING and not status.state.ended:
            return replace(status, state=State.UNKNOWN)  # it had ended; a service that says otherwise is behind
        return status

    def _read(self, mirror: Mirror, handle: Handle, wait: float) -> tuple[list[Event], list[str]]:
        chunk = self.backend.lines(handle, mirror.cursor, wait)
        if chunk.cursor == mirror.cursor:
            return [], []
        events, lines = mirror.take(chunk.lines)
        self._tell([], lines)  # shown before it is kept: a terminal is watched, a file is not
        mirror.keep(chunk.cursor, events, lines)
        self._absorb(events)
        if events:
            self._tell(events, [])
        return events, lines

    def _drain(self, mirror: Mirror, handle: Handle, until: float = float("inf")) -> None:
        """All that the worker has said."""
        before = None
        while mirror.cursor != before and time.monotonic() < until:
            before = mirror.cursor
            self._read(mirror, handle, 0.0)

    def _absorb(self, events: list[Event]) -> None:
        """What events say about the run."""
        record = self.record
        for event in events:
            if event.name == "epoch":
                epoch, epochs = event.count("epoch"), event.count("epochs")
                record = replace(record, epoch=epoch, epochs=epochs, metrics=event.table("metrics"))
            elif event.name == "final_eval":
                record = replace(record, metrics=event.table("metrics"))
            elif event.name == "started":
                record = record.with_attempt(started=event.fields)
            elif event.name == attached.EVENT:
                record = replace(record, data=attached.learnt(record.data, event))
            elif event.name in ("done", "failed"):
                record = record.with_attempt(reason=str(event.fields.get("reason", ""))[:2000])
        if record != self.record:
            if record.state in (RunState.QUEUED, RunState.UNKNOWN):
                record = record.move(RunState.RUNNING, now())
            self._save(record)

    def _note(self, status: Status) -> None:
        """Keep what the backend says of the attempt, when it is something new."""
        last = self.record.attempts[-1]
        if status.state is State.QUEUED and self.record.state is RunState.RUNNING:
            return  # its worker has spoken: the backend is behind
        changes: dict[str, Any] = {"state": status.state}
        unexplained = not last.reason or last.state is State.UNKNOWN  # why nobody knew does not matter any more
        if status.reason not in ("", str(status.state)) and unexplained:
            changes["reason"] = status.reason
        if status.state.ended:
            changes.update(ended=now(), exit_code=status.exit_code)
        state = OF_BACKEND[status.state]
        if last.state is not status.state or self.record.state is not state:
            # Whoever waits for what nobody can tell is told why.
            reason = status.reason if status.state is State.UNKNOWN else ""
            self._save(self.record.with_attempt(**changes).move(state, now(), reason=reason))

    def _syncs_while_running(self) -> bool:
        return self.record.while_running and Feature.LIVE_FILES not in self.backend.lacks

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, or nothing has moved for as long as the run's patience lasts."""
        begun, pause = time.monotonic(), RETRY_S
        while True:
            try:
                return ask()
            except RemoteError as error:
                if time.monotonic() - max(begun, self._teller.heard) > self.record.patience_s:
                    raise
                self._tell_reason(error.message)
                time.sleep(pause)
                pause = min(2 * pause, RETRY_GROWTH * RETRY_S)

    def _tell_reason(self, reason: str) -> None:
        """Write down what goes on, so that whoever waits knows for what."""
        if self.record.reason != reason:
            self._save(replace(self.record, reason=reason))

    def _tell_step(self, step: Step) -> None:
        for observer in self.observers:
            observer(Progress(self.record, step=step))

    # The record.

    def _move(self, state: RunState, **changes: Any) -> None:
        if state is not self.record.state or changes:
            self._save(self.record.move(state, now(), **changes))

    def _save(self, record: RunRecord, *, durable: bool = False) -> None:
        self.record = record
        self.store.save(record, durable=durable)
        self._tell([], [])

    def _tell(self, events: list[Event], lines: list[str]) -> None:
        for observer in self.observers:
            observer(Progress(self.record, tuple(events), tuple(lines)))


_COLLECTING = RunState.COLLECTING
