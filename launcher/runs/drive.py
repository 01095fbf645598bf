"""What drives a run to its end: submit, follow, sync, verify, and go on after a loss.

Promises: an attempt is journalled before the first call that has an effect; killed anywhere and started again, the
driver finds the work and goes on with it; nothing is called verified that was not looked up; what the backend cannot
tell is `unknown` and asked again until the run's patience is over; a run that ends badly keeps all it has.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from launcher.backend import Attempt, Backend, Feature, Handle, State, Status
from launcher.errors import IntegrityError, RemoteError, SamerunError, StorageError
from launcher.runs import attempts, collect
from launcher.runs.events import Event, Mirror
from launcher.runs.events import read as read_events
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import OF_BACKEND, RunState
from launcher.runs.store import Store, now
from launcher.settings import Settings

WAIT_S = 1.0  # how long one call for lines may wait; a backend that is silent is polled this often
RETRY_S = 2.0  # pause after a call that failed for reasons that pass
RESUMABLE = frozenset({State.LOST, State.EXPIRED})


@dataclass(frozen=True)
class Progress:
    """What an observer is told: the record as it stands, and the events and log lines that are new."""

    record: RunRecord
    events: tuple[Event, ...] = ()
    lines: tuple[str, ...] = ()


Observer = Callable[[Progress], None]
T = TypeVar("T")


class Driver:
    """Drives one run. The caller holds `store.driving(run)`."""

    def __init__(self, store: Store, settings: Settings, backend: Backend[Any], record: RunRecord) -> None:
        self.store = store
        self.settings = settings
        self.backend = backend
        self.record = record
        self.folder = store.folder(record.id)
        self.observers: list[Observer] = []

    def drive(self, *, follow: bool = True) -> RunRecord:
        """Go on until the run has ended, or (`follow=False`) until its attempt is accepted. Returns the record.

        Raises IntegrityError when what came back is not what the worker wrote, RemoteError when the backend has been
        silent for longer than the run's patience; the record then says how far it came.
        """
        while not self.record.state.ended:
            handle = self._accepted()
            if not follow:
                return self.record
            status = self._follow(handle)
            if not self._collect(handle, status):
                break
        return self.record

    def again(self) -> None:
        """Journal another attempt of a run that has ended early, on this driver's backend."""
        self.record = replace(self.record, backend=self.backend.name)
        self._journal()

    def abandon(self) -> RunRecord:
        """Take a run whose attempt was told to stop to its end: collect what there is, submit nothing any more."""
        last = self.record.attempt
        handle = last.as_handle() if last is not None else None
        if handle is None and last is not None:
            handle = self.backend.find(attempts.build(self.settings, self.store, self.record, last))
            if handle is not None:  # submitted, and the reply never written down
                self._save(self.record.with_attempt(handle=dict(handle.data)).move(RunState.QUEUED, now()))
                self.backend.cancel(handle)
        if handle is None:
            self._move(RunState.CANCELLED, reason="cancelled before it was submitted")
            return self.record
        status = self._follow(handle)
        self._collect(handle, status, go_on=False)
        return self.record

    # Submitting.

    def _accepted(self) -> Handle:
        """The handle of the newest attempt: known, found again, or got by submitting it."""
        last = self.record.attempt
        if last is None or (last.state is not None and last.state.ended and self.record.state is not _COLLECTING):
            last = self._journal()
        if (handle := last.as_handle()) is not None:
            return handle
        attempt = attempts.build(self.settings, self.store, self.record, last)
        found = self._patiently(lambda: self.backend.find(attempt) or self._submit(attempt))
        accepted = self.record.with_attempt(handle=dict(found.data), state=State.QUEUED)
        self._save(accepted.move(RunState.QUEUED, now(), reason=""))
        return found

    def _submit(self, attempt: Attempt) -> Handle:
        """Submit; a refusal ends the run. After a reply that was lost it is looked up before it is done again."""
        try:
            return self.backend.submit(self.backend.prepare(attempt))
        except RemoteError:
            raise
        except SamerunError as error:
            ended = self.record.with_attempt(state=State.FAILED, reason=error.message, ended=now())
            self._save(ended.move(RunState.FAILED, now(), reason=error.message))
            raise

    def _journal(self) -> AttemptRecord:
        """Write the next attempt down before anything is asked of the backend."""
        number = len(self.record.attempts) + 1
        attempt = AttemptRecord(f"{self.record.id}-a{number}", number, self.record.backend, now())
        resumed = attempts.checkpoint_epoch(self.folder)
        attempt = replace(attempt, resumed_epoch=resumed)
        record = replace(self.record, attempts=(*self.record.attempts, attempt))
        self.record = record.move(RunState.SUBMITTING, now())
        self._save(self.record, durable=True)
        return attempt

    # Following.

    def _follow(self, handle: Handle) -> Status:
        """Read lines and ask for the state until the attempt has ended."""
        mirror = Mirror(self.folder, handle.attempt)
        partial = _Partial(self.backend, handle, self.folder, enabled=self._syncs_while_running())
        heard = time.monotonic()
        # What a killed launch had kept and not yet taken into the record.
        self._absorb([event for event in read_events(self.folder) if event.attempt == handle.attempt])
        try:
            while True:
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
                    heard = time.monotonic()
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
        finally:
            partial.join()
        self._patiently(lambda: self._drain(mirror, handle))
        return status

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

    def _drain(self, mirror: Mirror, handle: Handle) -> None:
        """What the worker said last, after it has ended."""
        before = None
        while mirror.cursor != before:
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
            elif event.name in ("done", "failed"):
                record = record.with_attempt(reason=str(event.fields.get("reason", ""))[:2000])
        if record != self.record:
            if record.state in (RunState.QUEUED, RunState.UNKNOWN):
                record = record.move(RunState.RUNNING, now())
            self._save(record)

    def _note(self, status: Status) -> None:
        """Keep what the backend says of the attempt, when it is something new."""
        last = self.record.attempts[-1]
        changes: dict[str, Any] = {"state": status.state}
        if status.reason and not last.reason:
            changes["reason"] = status.reason
        if status.state.ended:
            changes.update(ended=now(), exit_code=status.exit_code)
        state = OF_BACKEND[status.state]
        if last.state is not status.state or self.record.state is not state:
            self._save(self.record.with_attempt(**changes).move(state, now()))

    # Collecting.

    def _collect(self, handle: Handle, status: Status, *, go_on: bool = True) -> bool:
        """Fetch and check what there is, and say what the run is now. False: stop here, though it has not ended."""
        last = self.record.attempts[-1]
        found = self._patiently(lambda: collect.collect(self.backend, handle, self.folder))
        checked = found.as_json()
        if status.state is State.SUCCEEDED:
            trouble = found.trouble or collect.missing(self.folder, handle.attempt, payload=self.record.payload)
            if trouble:
                self._move(_COLLECTING, reason=trouble, checked=checked)
                raise IntegrityError(
                    trouble, remedy=f"`launch fetch {self.record.id}` tries again; the files are still there"
                )
            self._move(RunState.VERIFIED, reason="", checked=checked)
        elif go_on and status.state in RESUMABLE and len(self.record.attempts) < self.record.max_attempts:
            self.record = replace(self.record, checked=checked)
            self._release(handle, found)
            self._journal()
            return True
        else:
            ends = {State.CANCELLED: RunState.CANCELLED, State.FAILED: RunState.FAILED}
            end = ends.get(status.state, RunState.LOST)
            self._move(end, reason=last.reason or status.reason, checked=checked)
        self._release(handle, found)
        return not self.record.state.ended

    def _release(self, handle: Handle, found: collect.Collected) -> None:
        """Give the machine back; what is left over is written down. What did not come back whole is left there."""
        if found.kept_there and self.record.state is not RunState.VERIFIED:
            left = [f"{handle.attempt} was not released: {found.trouble}"[:2000]]
            self._save(replace(self.record, checked={**self.record.checked, "left_over": left}))
            return
        with contextlib.suppress(RemoteError):
            left = self.backend.release(handle)
            if left:
                self._save(replace(self.record, checked={**self.record.checked, "left_over": left}))

    def _syncs_while_running(self) -> bool:
        return self.record.while_running and Feature.LIVE_FILES not in self.backend.lacks

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, or the run's patience is over."""
        begun = time.monotonic()
        while True:
            try:
                return ask()
            except RemoteError as error:
                if time.monotonic() - begun > self.record.patience_s:
                    raise
                if self.record.reason != error.message:
                    self._save(replace(self.record, reason=error.message))  # so that whoever waits knows for what
                time.sleep(RETRY_S)

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


class _Partial:
    """Brings each checkpoint home while the training goes on, in a thread, newest first, one at a time.

    What fails here fails quietly: the next checkpoint, or the end, brings the same files again.
    """

    def __init__(self, backend: Backend[Any], handle: Handle, folder: Path, *, enabled: bool) -> None:
        self._backend, self._handle, self._folder, self._enabled = backend, handle, folder, enabled
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False

    def go(self) -> None:
        """A checkpoint is there."""
        if not self._enabled:
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="partial-sync", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """No more checkpoints; wait for the one under way."""
        self._over = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._wanted.wait() and not self._over:
            self._wanted.clear()
            with contextlib.suppress(RemoteError, IntegrityError, StorageError, OSError):
                collect.collect(self._backend, self._handle, self._folder)
