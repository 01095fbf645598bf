"""What drives a run to its end: submit, follow, sync, verify, and go on after a loss.

Promises: an attempt is journalled before the first call that has an effect; killed anywhere and started again, the
driver finds the work and goes on with it; nothing is called verified that was not looked up; an attempt is gone on
from only with the newest checkpoint that there is, or not at all; nothing is submitted for a run that was given up; a
run that ends badly keeps all it has.
"""

from __future__ import annotations

from dataclasses import replace

from launcher.backend import Attempt, Handle, State, Status
from launcher.errors import CapacityError, IntegrityError, RemoteError, SamerunError
from launcher.runs.driving import attempts, collect
from launcher.runs.driving.following import Follower, Observer, Progress
from launcher.runs.driving.release import cost_of, give_back, sweep
from launcher.runs.driving.staging import GivenUpError
from launcher.runs.record import PROBE, AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import now

RESUMABLE = frozenset({State.LOST, State.EXPIRED})
_COLLECTING = RunState.COLLECTING


class Driver(Follower):
    """Drives one run. The caller holds `store.driving(run)`."""

    def drive(self, *, follow: bool = True) -> RunRecord:
        """Go on until the run has ended, or (`follow=False`) until its attempt is accepted. Returns the record.

        Raises IntegrityError when what came back is not what the worker wrote, RemoteError when the backend has been
        silent for longer than the run's patience, SpecError when a variable is not set here; the record then says how
        far it came.
        """
        while not self.record.state.ended:
            handle = self._accepted()
            if handle is None:
                break
            if not follow:
                return self.record
            status = self._follow(handle)
            if not self._collect(handle, status):
                break
        return self.record

    def again(self) -> None:
        """Journal another attempt of a run that has ended early, on this driver's backend. Raises SpecError."""
        attempts.check_variables(self.record)
        self.store.forget_cancelled(self.record.id)
        attempts.set_aside_finished(self.folder)
        self.record = replace(self.record, backend=self.backend.name)
        self._journal()

    def abandon(self, *, fetch: bool = True) -> RunRecord:
        """Give the run up and take it to its end: stop it, collect what there is, submit nothing any more.

        Without `fetch` what it has made is left where it is, and removed with the attempt.
        """
        self.store.wish_cancelled(self.record.id)
        last = self.record.attempt
        handle = last.as_handle() if last is not None else None
        if handle is None and last is not None:
            handle = self.backend.find(attempts.build(self.settings, self.store, self.record, last, self.backend))
            if handle is not None:  # submitted, and the reply never written down
                self._save(self.record.with_attempt(handle=dict(handle.data)).move(RunState.QUEUED, now()))
        if handle is None:
            return self._unsent()
        if not fetch:
            return self._drop(handle)
        if self.record.state is not _COLLECTING:
            self._stop(handle)
        self._collect(handle, self._follow(handle))
        return self.record

    def _drop(self, handle: Handle) -> RunRecord:
        """The end of a run of which nothing more is wanted."""
        status = self.backend.cancel(handle)
        if not status.state.ended:
            raise RemoteError(f"{handle.attempt} is {status.state} still: {status.reason}", remedy="cancel it again")
        self._note(status)
        self._move(_COLLECTING)
        self._save(self.record.with_attempt(kept="").move(RunState.CANCELLED, now(), reason="cancelled, not fetched"))
        self._give_back()
        return self.record

    # Submitting.

    def _accepted(self) -> Handle | None:
        """The handle of the newest attempt: known, found again, or got by submitting it; None: it was given up."""
        last = self.record.attempt
        if last is None or (last.state is not None and last.state.ended and self.record.state is not _COLLECTING):
            if self._given_up():
                self._unsent()
                return None
            last = self._journal()
        if (handle := last.as_handle()) is not None:
            return handle
        attempt = attempts.build(self.settings, self.store, self.record, last, self.backend)
        found = self._patiently(lambda: self.backend.find(attempt) or self._submit(attempt))
        if found is None:
            self._unsent()
            return None
        accepted = self.record.with_attempt(handle=dict(found.data), state=State.QUEUED)
        self._save(accepted.move(RunState.QUEUED, now(), reason=""))
        return found

    def _submit(self, attempt: Attempt) -> Handle | None:
        """Submit; a refusal ends the run. After a reply that was lost it is looked up before it is done again."""
        if self._given_up():
            return None
        attempts.check_variables(self.record)
        try:
            request = self.backend.prepare(attempt)
            self.backend.stage(request, self._teller)
            return self.backend.submit(request)
        except GivenUpError:
            return None
        except RemoteError:
            raise
        except CapacityError as error:
            if attempt.number > 1:  # it had a machine, and the service may still count that one
                raise RemoteError(error.message, remedy=error.remedy) from error
            self._refused(error)
            raise
        except SamerunError as error:
            self._refused(error)
            raise

    def _refused(self, error: SamerunError) -> None:
        """The end of a run whose attempt the backend will not have."""
        ended = self.record.with_attempt(state=State.FAILED, reason=error.message, ended=now())
        self._save(ended.move(RunState.FAILED, now(), reason=error.message))
        self._give_back()

    def _journal(self) -> AttemptRecord:
        """Write the next attempt down before anything is asked of the backend. Raises SpecError."""
        attempts.check_variables(self.record)
        number = len(self.record.attempts) + 1
        attempt = AttemptRecord(f"{self.record.id}-a{number}", number, self.record.backend, now())
        resumed = attempts.checkpoint_epoch(self.folder)
        attempt = replace(attempt, resumed_epoch=resumed)
        record = replace(self.record, attempts=(*self.record.attempts, attempt))
        self._save(record.move(RunState.SUBMITTING, now(), reason=""), durable=True)
        return attempt

    def _unsent(self) -> RunRecord:
        """The end of a run that was given up before its next attempt was submitted."""
        self._move(RunState.CANCELLED, reason="cancelled before it was submitted")
        self._give_back()
        if (record := sweep(self.record, self.backend)) != self.record:
            self._save(record)
        return self.record

    # Collecting.

    def _collect(self, handle: Handle, status: Status) -> bool:
        """Fetch and check what there is, and say what the run is now. False: stop here, though it has not ended."""
        found = self._patiently(lambda: collect.collect(self.backend, handle, self.folder))
        given_up = self._given_up()
        self._price()
        lost = status.state in RESUMABLE
        finished = status.state is State.SUCCEEDED or (found.complete and lost)
        trouble = self._trouble(handle, found, finished=finished, lost=lost)
        kept = found.trouble[:2000] if found.kept_there else ""
        record = replace(self.record.with_attempt(kept=kept), checked=found.as_json())
        if trouble and not given_up:
            self._save(record.move(_COLLECTING, now(), reason=trouble))
            remedy = f"`launch fetch {record.id}` tries again; the files are still there"
            if lost:
                remedy += f" (`launch cancel {record.id}` gives them up, `launch resume` goes on from what is here)"
            raise IntegrityError(trouble, remedy=remedy)
        if finished and not trouble:
            self._save(record.move(RunState.VERIFIED, now(), reason=""))
        elif lost and not given_up and len(record.attempts) < record.max_attempts and not self._is_spent():
            self.record = record
            self._give_back(former=True)  # not the one that has just ended: the next may take its files from there
            self._journal()
            return True
        else:
            end = RunState.FAILED if status.state is State.FAILED else RunState.LOST
            end = RunState.CANCELLED if given_up or status.state is State.CANCELLED else end
            reason = record.attempts[-1].reason or status.reason
            if lost and self._is_spent():
                reason = f"resources.max_cost is spent (${record.dollars:.2f}): {reason}"
            self._save(record.move(end, now(), reason="" if reason == str(end) else reason))
        self._give_back()
        return not self.record.state.ended

    def _price(self) -> None:
        """Write down what the attempt has cost: the next may cost what is left."""
        last = self.record.attempts[-1]
        if (cost := cost_of(last, self.settings, self.backend)) != last.cost:
            self._save(self.record.with_attempt(cost=cost))

    def _is_spent(self) -> bool:
        """Whether nothing is left of what the run may cost."""
        return attempts.left_to_spend(self.record.resources, self.record.dollars) == 0.0

    def _trouble(self, handle: Handle, found: collect.Collected, *, finished: bool, lost: bool) -> str:
        """Why this can neither be called verified nor be gone on from yet; empty when there is nothing to wait for."""
        if finished:
            only_probe = self.record.kind == PROBE
            return found.trouble or collect.missing(
                self.folder, handle.attempt, payload=self.record.payload, only_probe=only_probe
            )
        return found.trouble if lost and not found.safe else ""

    def _give_back(self, *, former: bool = False) -> None:
        """Release the attempts, or only those before the newest; what is left over is written down."""
        record = give_back(self.record, self.settings, self.backend, former=former)
        if record != self.record:
            self._save(record)


__all__ = ["Driver", "Observer", "Progress"]
