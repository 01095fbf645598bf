"""Sentence 8, and what each state means: how attempts end, are stopped, and leave nothing behind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from launcher.backend import Backend, Feature, Handle, State, Status
from launcher.errors import SamerunError
from launcher.sync.manifest import Manifest
from launcher.testing import watched
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from launcher.testing.sentences.given import Again, Given, can, needed, sees_processes

A_SECOND_IN_HOURS = 1 / 3600
CHILD_S = 0.5  # how long a process of the training outlives it
EXIT_GRACE_S = 0.25  # a process that has let go of everything may still be listed this long


class Ending(Given):
    """Ends, cancel, release and owned."""

    def test_done_is_succeeded_and_the_manifest_is_the_one_it_names(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        handle = watched.submitted(backend, make_attempt())
        status = self.ended(backend, handle)
        assert (status.state, status.reason) == (State.SUCCEEDED, "")
        assert status.exit_code in (0, None)
        manifest, raw = watched.manifest_of(backend, handle, tmp_path)
        last = watched.events(watched.all_lines(backend, handle))[-1]
        assert manifest.complete
        assert (last["event"], last["manifest"]) == ("done", hashlib.sha256(raw).hexdigest())

    def test_a_training_that_fails_is_failed_and_says_why(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults, tmp_path: Path
    ) -> None:
        attempt = make_attempt(stub={"fail_epoch": 2}, restarts=2)
        handle = watched.submitted(backend, attempt)
        status = self.ended(backend, handle)
        assert status.state is State.FAILED
        last = watched.events(watched.all_lines(backend, handle))[-1]
        assert "told to fail in epoch 2" in (status.reason or last["reason"])
        assert status.exit_code in (1, None)
        assert watched.manifest_of(backend, handle, tmp_path)[0].epoch == 1
        assert not faults.same_machine or len(make_attempt.starts(attempt)) == 1, "a failure is not tried again"

    def test_a_killed_training_is_started_again_from_its_checkpoint(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults, tmp_path: Path
    ) -> None:
        attempt = make_attempt(epochs=4, restarts=1, stub={"kill_epoch": 3})
        handle = watched.submitted(backend, attempt)
        assert self.ended(backend, handle).state is State.SUCCEEDED
        events = watched.events(watched.all_lines(backend, handle))
        assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3, 4]
        assert [event["code"] for event in events if event["event"] == "warning"] == ["trainer-killed"]
        backend.fetch(handle, ["train/results.csv"], tmp_path)
        rows = (tmp_path / "train/results.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4"]
        if faults.same_machine:
            assert [start.restart for start in make_attempt.starts(attempt)] == [0, 1]

    def test_a_training_that_is_killed_each_time_is_failed(
        self, backend: Backend[Any], make_attempt: AttemptMaker
    ) -> None:
        attempt = make_attempt(restarts=1, stub={"kill_epoch": 2, "kill_always": 1})
        status = self.ended(backend, handle := watched.submitted(backend, attempt))
        last = watched.events(watched.all_lines(backend, handle))[-1]
        assert status.state is State.FAILED
        assert "SIGKILL" in (status.reason or last["reason"])

    def test_time_that_is_up_is_expired_and_can_be_gone_on_from(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        attempt = make_attempt(epochs=1000, max_hours=A_SECOND_IN_HOURS, stub={"epoch_s": 0.1})
        handle = watched.submitted(backend, attempt)
        status = self.ended(backend, handle)
        assert status.state is State.EXPIRED
        assert "max_hours" in (status.reason or watched.all_lines(backend, handle)[-1])
        self._can_go_on(backend, handle, tmp_path)

    def test_a_machine_that_is_told_to_go_is_expired_and_can_be_gone_on_from(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults, tmp_path: Path
    ) -> None:
        stop_machine = needed(faults, "stop_machine")
        _, handle = self.at_gate(backend, make_attempt, faults)
        stop_machine(handle)
        assert self.ended(backend, handle).state is State.EXPIRED
        self._nothing_alive(make_attempt, handle)
        self._can_go_on(backend, handle, tmp_path)

    def test_a_worker_that_is_gone_without_a_word_is_lost_once_nothing_of_it_lives(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        kill_worker = needed(faults, "kill_worker")
        _, handle = self.at_gate(backend, make_attempt, faults, stub={"child_s": CHILD_S, "child_group": 1})
        kill_worker(handle)
        status = self.ended(backend, handle)
        self._nothing_alive(make_attempt, handle)
        assert status.state is State.LOST
        assert status.reason
        assert backend.cancel(handle).state is State.LOST
        backend.release(handle)
        assert handle.attempt not in [held.attempt for held in backend.owned()]

    def test_cancel_stops_and_keeps_what_was_made(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker, faults: Faults, tmp_path: Path
    ) -> None:
        can(backend, Feature.CANCEL)
        _, handle = self.at_gate(backend, make_attempt, faults, stub={"child_s": 60})
        assert backend.cancel(handle).state is State.CANCELLED
        self._nothing_alive(make_attempt, handle)
        for each in (backend, again()):
            assert each.cancel(handle).state is State.CANCELLED
            assert each.poll([handle])[handle.attempt].state is State.CANCELLED
        assert watched.events(watched.all_lines(backend, handle))[-1]["event"] == "failed"
        self._can_go_on(backend, handle, tmp_path)

    def test_cancel_at_once_after_submit(self, backend: Backend[Any], make_attempt: AttemptMaker) -> None:
        can(backend, Feature.CANCEL)
        handle = watched.submitted(backend, make_attempt(hold=1))
        assert backend.cancel(handle).state is State.CANCELLED
        self._nothing_alive(make_attempt, handle)
        assert backend.release(handle) == []

    def test_cancel_after_the_end_changes_nothing(
        self, backend: Backend[Any], make_attempt: AttemptMaker, tmp_path: Path
    ) -> None:
        good, bad = make_attempt(), make_attempt(stub={"fail_epoch": 1})
        for attempt, state in ((good, State.SUCCEEDED), (bad, State.FAILED)):
            handle = watched.submitted(backend, attempt)
            self.ended(backend, handle)
            assert backend.cancel(handle).state is state
            assert backend.poll([handle])[handle.attempt].state is state
            watched.manifest_of(backend, handle, tmp_path / attempt.id)

    def test_cancel_stops_or_says_that_it_cannot(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        _, handle = self.at_gate(backend, make_attempt, faults)
        try:
            status = backend.cancel(handle)
        except SamerunError as error:
            status = Status(State.UNKNOWN, error.remedy or "")
        if status.state.ended:
            self._nothing_alive(make_attempt, handle)
        else:
            assert Feature.CANCEL in backend.lacks
            assert status.reason, "it goes on, and nobody is told"

    def test_release_leaves_nothing_and_may_be_repeated(
        self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker
    ) -> None:
        attempt, other = make_attempt(epochs=1), make_attempt(epochs=1)
        handle, kept = (watched.submitted(backend, each) for each in (attempt, other))
        self.ended(backend, handle)
        self.ended(backend, kept)
        assert {held.attempt for held in again().owned()} == {attempt.id, other.id}
        for each in (backend, backend, again()):
            assert each.release(handle) == []
            assert [held.attempt for held in each.owned()] == [other.id]
            assert each.find(attempt) is None
        assert backend.poll([kept])[kept.attempt].state is State.SUCCEEDED

    def test_release_of_work_under_way_says_what_is_left(
        self, backend: Backend[Any], make_attempt: AttemptMaker, faults: Faults
    ) -> None:
        sees_processes(faults)
        attempt, handle = self.at_gate(backend, make_attempt, faults)
        left = backend.release(handle)
        held = [each.attempt for each in backend.owned()]
        if left:
            assert held == [attempt.id]
            make_attempt.let_go(attempt)
            assert self.ended(backend, handle).state.ended
            assert backend.release(handle) == []
        else:
            assert held == []
            self._nothing_alive(make_attempt, handle)

    def test_what_is_owned_can_be_used(self, backend: Backend[Any], again: Again, make_attempt: AttemptMaker) -> None:
        attempt = make_attempt()
        watched.submitted(backend, attempt)
        other = again()
        (held,) = other.owned()
        assert self.ended(other, watched.handed_over(held)).state is State.SUCCEEDED
        assert other.release(held) == []
        assert other.owned() == []

    def _nothing_alive(self, maker: AttemptMaker, handle: Handle) -> None:
        (attempt,) = (each for each in maker.made if each.id == handle.attempt)
        watched.wait_until(lambda: not maker.alive(attempt), EXIT_GRACE_S, "a process of the attempt is alive")

    def _can_go_on(self, backend: Backend[Any], handle: Handle, folder: Path) -> Manifest:
        """What came back is a checkpoint: not complete, and of an epoch."""
        manifest, _ = watched.manifest_of(backend, handle, folder)
        assert not manifest.complete
        assert manifest.epoch is not None
        assert manifest.entry("train/weights/last.pt") is not None
        return manifest
