"""A project and its buckets: attempts followed, stopped and taken off their machines again.

Promises: what is asked of the machine is answered by the bucket when it is gone; nothing counts as gone that was not
looked up to be gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from backends.gcp import watching
from backends.gcp.compute import names
from backends.gcp.compute.client import Compute
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.limits import Limits
from backends.gcp.compute.placing import clear_all
from backends.gcp.compute.seen import Happened, Life, Seen
from backends.gcp.hands import Hands, Reach
from backends.gcp.starting import NAME, Starter, facts
from backends.gcp.store import Outbox, Outcome, Store
from backends.gcp.watching import Machine
from launcher.backend import Cost, Handle, Lines, RemoteFile, State, Status
from launcher.errors import CredentialError, IntegrityError, NotFoundError, RemoteError, SamerunError
from launcher.settings import Settings

CANCEL_S = 20.0  # the supervisor gives the training 10 s to end, then kills it
CARRIED_S = 120.0  # for what is left to be carried after that
SSH_PAUSE_S = 60.0  # before a machine that has not answered by SSH is asked again
LOOK_S = 0.25
Make = Callable[[Reach, Seen, Sequence[str], float], Hands]


class Account:
    """See the module. Safe for several threads."""

    def __init__(self, settings: Settings, project: str, make: Make | None = None) -> None:
        self.project, self.settings, self.make = project, settings, make or Hands
        self.limits = Limits.of(settings.gce_poll_seconds)
        self.compute = Compute(project, settings.gce_endpoint, self.limits)
        self.starter = Starter(self)
        self._stores: dict[str, Store] = {}
        self._hands: dict[str, Hands] = {}
        self._silent: dict[str, float] = {}
        self._ended: dict[str, Status] = {}
        self._looked: set[str] = set()
        self._lock = threading.Lock()

    def store(self, bucket: str) -> Store:
        """A bucket, by its name."""
        with self._lock:
            seconds = max(self.limits.call, 5.0)
            return self._stores.setdefault(bucket, Store(bucket, project=self.project, seconds=seconds))

    def journal(self, attempt: str) -> Journal:
        """What this computer knows of an attempt."""
        return Journal(self.settings.runs_dir, attempt)

    # Asking.

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """One list of machines for all, then the bucket's marks of each."""
        asked = [handle for handle in handles if handle.attempt not in self._ended]
        machines = self._machines() if asked else []
        found = {handle.attempt: self._status(handle, _of(machines, handle)) for handle in asked}
        self._ended.update({attempt: status for attempt, status in found.items() if status.state.ended})
        return {handle.attempt: found.get(handle.attempt) or self._ended[handle.attempt] for handle in handles}

    def _machines(self) -> list[Seen] | SamerunError:
        try:
            return self.compute.machines()
        except (RemoteError, CredentialError) as error:
            return error

    def _status(self, handle: Handle, machine: Machine) -> Status:
        outcome, trouble = self._outcome(handle)
        return watching.status(outcome, trouble, machine) or self._gone(handle)

    def _gone(self, handle: Handle) -> Status:
        """The machine is gone, and its worker has not said why."""
        known = self.journal(handle.attempt).read()
        if known.get("cancelled"):
            return Status(State.CANCELLED, "its machine was deleted before it had begun")
        zone, name = str(handle.data.get("zone") or ""), names.name_of(handle.attempt)
        if not zone:
            return Status(State.LOST, "it has no machine")
        made, lasts = handle.data.get("made"), handle.data.get("lasts_s")
        ends = made + lasts if isinstance(made, (int, float)) and isinstance(lasts, (int, float)) else None
        try:
            if (seen := self.compute.get(zone, name)) is not None and seen.life is not Life.OFF:
                return Status(State.UNKNOWN, f"its machine is {seen.status}, and not in the list of machines")
            return watching.gone(self._happened(zone, name), ends)
        except SamerunError as error:
            return Status(State.UNKNOWN, error.message)

    def _happened(self, zone: str, name: str) -> list[Happened] | None:
        """What happened to a machine; None where this account may not know. Raises RemoteError."""
        try:
            return self.compute.happened(zone, name)
        except CredentialError:
            return None

    def _outcome(self, handle: Handle) -> tuple[Outcome | None, str]:
        try:
            return self._outbox(handle).outcome(), ""
        except (RemoteError, CredentialError, IntegrityError) as error:
            return None, error.message

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """From the machine while it answers, else from the bucket: the same bytes by the same offsets."""
        if not self._is_over(handle) and (hands := self._live(handle)) is not None:
            try:
                found = hands.lines(handle.attempt, int(cursor.partition("@")[0] or 0), wait)
                return found if found.lines else Lines((), cursor)
            except (RemoteError, CredentialError):
                self._silence(handle.attempt)
        found = self._outbox(handle).lines(cursor, wait if handle.attempt not in self._ended else 0.0)
        return found if found.lines else Lines((), cursor)

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What was carried."""
        return self._outbox(handle).files()

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """From the bucket; what has not come there yet, from the machine while it answers."""
        left = self._outbox(handle).fetch(paths, to)
        if not left or self._is_over(handle) or (hands := self._live(handle)) is None:
            return
        try:
            hands.fetch(handle.attempt, sorted(left), to)
        except (RemoteError, CredentialError):
            self._silence(handle.attempt)

    def cost(self, handle: Handle) -> Cost | None:
        """By the machine's own times, and those of its predecessors that this computer knows of. Raises RemoteError."""
        zone = str(handle.data.get("zone") or "")
        if not zone:
            return None
        name = names.name_of(handle.attempt)
        machine = Machine(True, self.compute.get(zone, name))
        happened = [] if machine.seen is not None else self._happened(zone, name) or []
        outcome, _ = self._outcome(handle)
        found = watching.cost(handle.data, machine, happened, outcome.alive if outcome else None)
        dollars, hours = self.journal(handle.attempt).spent
        return found and Cost(round(found.dollars + dollars, 4), round(found.hours + hours, 4), found.basis)

    # Ending.

    def cancel(self, handle: Handle) -> Status:
        """Ask the worker to end and wait for what it carries, then delete the machine; without an answer, at once."""
        status = self.poll([handle])[handle.attempt]
        if not status.state.ended:
            self._tell_to_end(handle)
        left = self._clear(handle)
        if left:
            raise RemoteError("; ".join(left), remedy="cancel it again, or `launch reap --backend gcp --yes`")
        if status.state.ended:
            return status
        if self.journal(handle.attempt).folder.is_dir():
            self.journal(handle.attempt).write(cancelled=True)
        self.forget(handle.attempt)
        return self.poll([handle])[handle.attempt]

    def take_off(self, handle: Handle) -> None:
        """Delete the machine of an attempt that has ended: what it made is in the bucket. Raises RemoteError."""
        self.forget(handle.attempt)
        if left := self._clear(handle):
            raise RemoteError("; ".join(left), remedy="`launch reap --backend gcp --yes` tries again")

    def _clear(self, handle: Handle) -> list[str]:
        """Machine and disk, wherever a list, the handle or the journal says that they are or may be."""
        pending = self.journal(handle.attempt).read().get("pending") or {}
        zones = (str(handle.data.get("zone") or ""), str(pending.get("zone") or ""))
        return clear_all(self.compute, None, names.name_of(handle.attempt), zones)

    def _tell_to_end(self, handle: Handle) -> None:
        """As far as it can be done."""
        hands = self._live(handle)
        if hands is None:
            return
        try:
            if not hands.cancel(handle.attempt, CANCEL_S).state.ended:
                return
        except SamerunError:
            return
        until = time.monotonic() + CARRIED_S
        while time.monotonic() < until:
            outcome, _ = self._outcome(handle)
            if outcome is not None and outcome.ended:
                return
            time.sleep(LOOK_S)

    def release(self, handle: Handle) -> list[str]:
        """Machine and disk first, which cost most, then what is in the bucket."""
        status = self.poll([handle])[handle.attempt]
        if not status.state.ended:
            return [f"{handle.attempt} is {status.state}: {status.reason or 'cancel it first'}"]
        left = self._clear(handle)
        if left:
            return left
        self.forget(handle.attempt)
        try:
            left = self._outbox(handle).release()
        except SamerunError as error:
            return [f"what {handle.attempt} left in the bucket: {error.message}"]
        if not left:
            self.journal(handle.attempt).remove()
            self._ended.pop(handle.attempt, None)
            self._looked.discard(handle.attempt)
        return left

    def owned(self, buckets: Iterable[str]) -> list[Handle]:
        """Machines and disks by their labels, marks in the buckets, and what this computer's journals say."""
        found: dict[str, Handle] = {}
        for folder in sorted((self.settings.runs_dir / ".gcp").glob("*/machine.json")):
            journal = Journal(self.settings.runs_dir, folder.parent.name)
            if journal.read().get("project") == self.project:
                found[folder.parent.name] = self.handle(journal, folder.parent.name)
        for seen in self.compute.machines():
            if seen.attempt and seen.attempt not in found:
                found[seen.attempt] = Handle(NAME, seen.attempt, {**_guessed(seen.attempt), **facts(seen)})
        for disk in self.compute.disks():
            if disk.attempt and disk.attempt not in found:
                data = {"project": self.project, "bucket": "", **_guessed(disk.attempt), "zone": disk.zone}
                found[disk.attempt] = Handle(NAME, disk.attempt, data)
        known = {str(handle.data.get("bucket") or "") for handle in found.values()}
        for bucket in sorted({*buckets, *known} - {""}):
            try:
                marks = self.store(bucket).owned()
            except NotFoundError:  # a bucket that is no more holds nothing
                continue
            except SamerunError:
                if found:  # what costs most first: nobody looks after machines for want of a bucket
                    continue
                raise
            for outbox in marks:
                key = {"project": self.project, "bucket": bucket, "run": outbox.run, "number": outbox.number}
                found.setdefault(outbox.attempt, Handle(NAME, outbox.attempt, key))
        return list(found.values())

    # Below.

    def _outbox(self, handle: Handle) -> Outbox:
        bucket = str(handle.data.get("bucket") or self.settings.gcp_bucket or "")
        if not bucket:
            raise RemoteError(f"the bucket of {handle.attempt} is not known", remedy="set SAMERUN_GCP_BUCKET")
        number = int(handle.data.get("number") or 1)
        return self.store(bucket).attempt(str(handle.data.get("run")), handle.attempt, number)

    def handle(self, journal: Journal, attempt: str) -> Handle:
        """What the journal says."""
        known = journal.read()
        key = {name: known.get(name) for name in ("project", "bucket", "run", "number")}
        machine = known.get("machine")
        return Handle(NAME, attempt, {**key, **(machine if isinstance(machine, dict) else {})})

    def _is_over(self, handle: Handle) -> bool:
        """Whether the bucket has all of it: looked up once, and after that as `poll` has seen it."""
        if handle.attempt not in self._ended and handle.attempt not in self._looked:
            outcome, _ = self._outcome(handle)
            if outcome is not None:
                self._looked.add(handle.attempt)
            if outcome is not None and outcome.ended and (status := watching.status(outcome, "", Machine(False))):
                self._ended[handle.attempt] = status
        return handle.attempt in self._ended

    def _live(self, handle: Handle) -> Hands | None:
        """The machine by SSH, unless it has not answered a moment ago."""
        if time.monotonic() < self._silent.get(handle.attempt, 0.0):
            return None
        try:
            return self.reached(handle)
        except SamerunError:
            self._silence(handle.attempt)
            return None

    def reached(self, handle: Handle) -> Hands | None:
        """The machine by SSH as the journal knows it; None where this computer has no way in."""
        with self._lock:
            if handle.attempt in self._hands:
                return self._hands[handle.attempt]
        journal = self.journal(handle.attempt)
        known = journal.read()
        keys, machine, reach = known.get("host_keys"), known.get("machine"), known.get("reach")
        if not (keys and isinstance(machine, dict) and isinstance(reach, dict)):
            return None
        seen = self.compute.get(str(machine["zone"]), str(machine["name"]))
        if seen is None or seen.life is not Life.UP:
            return None
        found: Hands = self.make(Reach(journal.key, self.project, **reach), seen, keys, self.settings.ssh_seconds)
        with self._lock:
            return self._hands.setdefault(handle.attempt, found)

    def hold(self, attempt: str, hands: Hands) -> None:
        """Keep a connection."""
        with self._lock:
            self._hands[attempt] = hands

    def _silence(self, attempt: str) -> None:
        self.forget(attempt)
        self._silent[attempt] = time.monotonic() + min(SSH_PAUSE_S, 6 * self.limits.poll)

    def forget(self, attempt: str) -> None:
        """Close the connection."""
        with self._lock:
            hands = self._hands.pop(attempt, None)
        if hands is not None:
            hands.close()


def _of(machines: list[Seen] | SamerunError, handle: Handle) -> Machine:
    if isinstance(machines, SamerunError):
        return Machine(False, None, machines.message)
    name, zone = names.name_of(handle.attempt), handle.data.get("zone")
    mine = [each for each in machines if each.name == name and (not zone or each.zone == zone)]
    return Machine(True, mine[0] if mine else None)


def _guessed(attempt: str) -> dict[str, Any]:
    """Run and number from the form of an attempt's id, where nothing else tells."""
    run, _, number = attempt.rpartition("-a")
    return {"run": run or attempt, "number": int(number) if number.isdecimal() else 1}


__all__ = ["NAME", "Account"]
