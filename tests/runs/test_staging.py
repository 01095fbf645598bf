"""Sending what is large: shown, written down, gone on with after a failure, stopped when the run is given up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.backend import Handle, State, Status
from launcher.errors import CapacityError, RemoteError
from launcher.runs.driving import following
from launcher.runs.driving.following import Progress
from launcher.runs.driving.staging import GivenUpError, Step, Teller
from launcher.runs.state import RunState
from tests.runs.scripted import DONE, Machine, World


def test_what_is_sent_is_shown_and_sent_before_the_submit(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    driver = world.driver()
    seen: list[Progress] = []
    driver.observers.append(seen.append)
    assert driver.drive().state is RunState.VERIFIED
    steps = [progress.step for progress in seen if progress.step is not None]
    assert steps == [Step("sending", 0, 2), Step("sending", 1, 2), Step("sending", 2, 2)]
    assert world.backend.calls.index("stage") < world.backend.calls.index("submit")


def test_a_connection_that_breaks_while_sending_is_looked_up_and_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan["stage"] = [RemoteError("cut"), RemoteError("cut again"), None]
    assert world.driver().drive().state is RunState.VERIFIED
    calls = [call for call in world.backend.calls if call in ("find", "stage", "submit")]
    assert calls == ["find", "stage", "find", "stage", "find", "stage", "submit"]


def test_a_first_attempt_without_a_machine_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan["submit"] = [CapacityError("no machine is free")]
    with pytest.raises(CapacityError):
        world.driver().drive()
    assert (world.record.state, world.record.reason) == (RunState.FAILED, "no machine is free")


def test_an_attempt_that_follows_another_waits_for_a_machine(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(1, State.LOST), DONE]))
    world.backend.plan["submit"] = [None, CapacityError("two sessions are running"), CapacityError("still"), None]
    assert world.driver().drive().state is RunState.VERIFIED
    assert world.machine.accepted == ["run-abc-a1", "run-abc-a2"]


def test_given_up_it_raises_before_anything_is_shown() -> None:
    shown: list[Step] = []
    with pytest.raises(GivenUpError):
        Teller(lambda: True, shown.append, print)("sending", 1, 2)
    assert shown == []


def test_the_record_is_written_now_and_then_and_time_counts_only_when_something_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    saved: list[str] = []
    teller = Teller(lambda: False, lambda step: None, saved.append)
    for done in range(12):
        teller("sending the dataset", done, 100)
    heard = teller.heard
    teller("sending the dataset", 11, 100)
    assert teller.heard == heard
    assert saved == ["sending the dataset 0 %", "sending the dataset 6 %"]


def test_a_backend_that_is_behind_its_worker_takes_no_state_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, Machine())
    driver = world.driver()
    seen: list[RunState] = []
    driver.observers.append(lambda progress: seen.append(progress.record.state))
    polled = world.backend.poll

    def behind(handles: Sequence[Handle]) -> dict[str, Status]:
        late = world.backend.calls.count("poll") < 2
        return {each: Status(State.QUEUED) if late else status for each, status in polled(handles).items()}

    monkeypatch.setattr(world.backend, "poll", behind)
    monkeypatch.setattr(following, "WAIT_S", 0.01)
    assert driver.drive().state is RunState.VERIFIED
    assert RunState.RUNNING in seen
    assert RunState.QUEUED not in seen[seen.index(RunState.RUNNING) :]


def test_whoever_waits_for_what_nobody_can_tell_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, Machine())
    driver = world.driver()
    reasons: list[str] = []
    driver.observers.append(lambda progress: reasons.append(progress.record.reason))
    polled = world.backend.poll

    def unsure(handles: Sequence[Handle]) -> dict[str, Status]:
        first = world.backend.calls.count("poll") < 1
        answers = polled(handles)
        return {each: Status(State.UNKNOWN, "no connection") for each in answers} if first else answers

    monkeypatch.setattr(world.backend, "poll", unsure)
    assert driver.drive().state is RunState.VERIFIED
    assert "no connection" in reasons
    assert world.record.reason == ""
