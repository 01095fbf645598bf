"""An attempt put on a machine: the bucket told, a machine made, the worker started; and found again by whoever looks.

Promises: the attempt's mark is in the bucket, and what is about to be made is in the journal, before a machine is
asked for; an attempt is accepted once its worker was started; a refusal leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backends.gcp.birth import births
from backends.gcp.compute import names
from backends.gcp.compute.journal import Journal
from backends.gcp.compute.placing import clear, clear_all, place
from backends.gcp.compute.refusals import RefusedError, final
from backends.gcp.compute.seen import Life, Seen
from backends.gcp.hands import TakenAwayError, ready
from backends.gcp.planning import affordable
from launcher.backend import Attempt, Handle
from launcher.errors import RemoteError, SamerunError

if TYPE_CHECKING:
    from backends.gcp import GcpRequest
    from backends.gcp.account import Account

NAME = "gcp"
MACHINES = 2  # that are lost while they are set up, before the launcher is told


class Starter:
    """See the module. One for each account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def submit(self, request: GcpRequest, env: Mapping[str, str], config: Mapping[str, Any]) -> Handle:
        """See `Backend.submit`."""
        attempt, journal = request.attempt, self._account.journal(request.attempt.id)
        with journal.held():
            if (handle := self.find(attempt, request.bucket)) is not None:
                return handle
            if attempt.previous is not None:
                self._account.take_off(attempt.previous)
            outbox = self._account.store(request.bucket).attempt(attempt.run, attempt.id, attempt.number)
            try:
                journal.write(**_key(request), reach=request.reach(journal.key).to_json())
                outbox.open()
                self._start(request, journal, env, config)
            except RemoteError:
                raise
            except SamerunError:
                self.leave_nothing(attempt, request.bucket)
                raise
            return self._account.handle(journal, attempt.id)

    def _start(self, request: GcpRequest, journal: Journal, env: Mapping[str, str], config: Mapping[str, Any]) -> None:
        """A machine with the worker started on it; one more where the first is taken away meanwhile."""
        account, name = self._account, names.name_of(request.attempt.id)
        birth = births(request, journal, self._image(request), account.settings)
        for turn in range(MACHINES):
            candidates = affordable(request.attempt.need, request.candidates, self._spent(request.attempt.id))
            found = place(account.compute, journal, request.shape, candidates, birth)
            try:
                self._work_on(request, journal, found, env, config)
                return
            except TakenAwayError:
                account.forget(request.attempt.id)
                clear(account.compute, journal, found.zone, name)
                if turn == MACHINES - 1:
                    raise

    def _spent(self, attempt: str) -> float:
        """US dollars for the attempt's machines that are gone, the journal's last with them. Raises RemoteError."""
        account, journal = self._account, self._account.journal(attempt)
        machine = journal.read().get("machine")
        if isinstance(machine, dict):
            seen = account.compute.get(str(machine["zone"]), str(machine["name"]))
            if seen is not None and seen.made == machine["made"] and seen.life is not Life.OFF:
                return journal.spent[0]
            cost = account.cost(account.handle(journal, attempt))
            sums = [cost.dollars, cost.hours] if cost is not None else journal.spent
            journal.write(spent=sums, machine=None, host_keys=None, laid=False)
        return journal.spent[0]

    def _work_on(
        self, request: GcpRequest, journal: Journal, found: Seen, env: Mapping[str, str], config: Mapping[str, Any]
    ) -> None:
        account, attempt = self._account, request.attempt.id
        journal.write(machine=facts(found), started=False)
        reach, seconds = request.reach(journal.key), account.settings.ssh_seconds
        hands, found = ready(account.compute, found, lambda now, keys: account.make(reach, now, keys, seconds))
        account.hold(attempt, hands)
        journal.write(machine=facts(found), host_keys=list(hands.host_keys), laid=True)
        hands.begin(request.work(config, env, request.hours_of(found.about.get("lasts_s"))), found)
        journal.write(started=True)

    def _image(self, request: GcpRequest) -> str:
        """The image's address, resolved now: it is in the handle. Raises SpecError."""
        try:
            return self._account.compute.image(request.shape.image_project, request.shape.image)
        except RefusedError as error:
            raise final([error]) from error

    def leave_nothing(self, attempt: Attempt, bucket: str) -> None:
        """After a refusal. Raises RemoteError, with a list, when something is left."""
        journal = self._account.journal(attempt.id)
        if not (known := journal.read()):
            return
        self._account.forget(attempt.id)
        left: list[str] = []
        if any(known.get(what) for what in ("pending", "turns", "machine")):  # else no zone was ever asked
            zone = str((known.get("pending") or {}).get("zone") or "")
            left = clear_all(self._account.compute, journal, names.name_of(attempt.id), [zone])
        left = left or self._account.store(bucket).attempt(attempt.run, attempt.id, attempt.number).release()
        if left:
            remedy = "`launch reap --backend gcp --yes` removes it"
            raise RemoteError(f"left over after a refusal: {'; '.join(left)}", remedy=remedy)
        journal.remove()

    def find(self, attempt: Attempt, bucket: str) -> Handle | None:
        """See `Backend.find`."""
        account, journal = self._account, self._account.journal(attempt.id)
        known = journal.read()
        if known.get("started"):
            return account.handle(journal, attempt.id)
        bucket = str(known.get("bucket") or bucket)
        outcome = account.store(bucket).attempt(attempt.run, attempt.id, attempt.number).outcome()
        if outcome.ended or (outcome.alive is not None and outcome.box != "waiting"):
            return self._found(attempt, bucket)
        if not known.get("laid"):
            return None
        hands = account.reached(account.handle(journal, attempt.id))
        if hands is None or not hands.started(attempt.id):
            return None
        journal.write(started=True)
        return account.handle(journal, attempt.id)

    def _found(self, attempt: Attempt, bucket: str) -> Handle:
        """The handle of an attempt that this computer may not have begun."""
        journal = self._account.journal(attempt.id)
        if journal.read():
            return self._account.handle(journal, attempt.id)
        seen = self._account.compute.machines(names.name_of(attempt.id))
        key = {"project": self._account.project, "bucket": bucket, "run": attempt.run, "number": attempt.number}
        return Handle(NAME, attempt.id, {**key, **(facts(seen[0]) if seen else {})})


def facts(seen: Seen) -> dict[str, Any]:
    """What a handle says of a machine."""
    return {**seen.about, "name": seen.name, "zone": seen.zone, "made": seen.made}


def _key(request: GcpRequest) -> dict[str, Any]:
    attempt = request.attempt
    return {"project": request.shape.project, "bucket": request.bucket, "run": attempt.run, "number": attempt.number}
