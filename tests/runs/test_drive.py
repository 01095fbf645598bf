"""What drives a run, against a backend that loses replies, lies, is silent, and a launcher that is killed anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.backend import State
from launcher.errors import CapacityError, Exit, RemoteError
from launcher.runs import events
from launcher.runs import record as records
from launcher.runs.driving import attempts
from launcher.runs.state import RunState
from launcher.runs.store import Store
from tests.runs.scripted import ARGS, BEST, CSV, DONE, LAST, Killed, Machine, Work, World, silent, verified


def test_a_run_from_its_spec_to_verified(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.driver().drive()
    verified(world)
    assert world.machine.released == ["run-abc-a1"]


def test_the_attempt_is_written_down_before_the_backend_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())

    def look(call: str) -> None:
        assert world.record.attempts, f"{call} before the journal"

    world.backend.before = look
    world.driver().drive()
    verified(world)


# Submitting.


def test_a_reply_lost_after_it_was_accepted(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    lost = silent()

    def lose(call: str) -> None:
        if call == "submit" and lost:
            raise RemoteError(str(lost.pop()))

    world.backend.after = lose
    world.driver().drive()
    verified(world)
    assert world.backend.calls.count("submit") == 1


def test_a_submit_that_did_not_arrive_is_done_again(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"submit": silent(2), "find": [None, *silent(1)]}
    world.driver().drive()
    verified(world)


def test_a_backend_that_stays_silent_is_unknown_and_the_next_launch_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"submit": silent(5_000)}
    with pytest.raises(RemoteError) as caught:
        world.driver().drive()
    assert caught.value.exit_code is Exit.UNKNOWN
    assert world.record.state is RunState.SUBMITTING
    world.launch().drive()
    verified(world)
    assert world.machine.accepted == ["run-abc-a1"]


def test_no_machine_free_is_said_and_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"submit": [CapacityError("no GPU is free")]}
    with pytest.raises(CapacityError):
        world.driver().drive()
    assert (world.record.state, world.record.reason) == (RunState.FAILED, "no GPU is free")
    driver = world.launch()
    driver.again()
    driver.drive()
    verified(world)


# Following.


@pytest.mark.parametrize("call", ["find", "submit", "poll", "lines", "fetch", "release"])
@pytest.mark.parametrize("times", [1, 3])
def test_calls_that_fail_for_a_while_change_nothing(tmp_path: Path, call: str, times: int) -> None:
    world = World(tmp_path, Machine(), patience_s=30.0)
    world.backend.plan = {call: silent(times)}
    world.driver().drive()
    verified(world)


@pytest.mark.parametrize("call", ["find", "lines", "poll", "fetch"])
def test_silence_beyond_the_patience_is_exit_code_7_and_nothing_is_lost(tmp_path: Path, call: str) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {call: silent(5_000)}
    with pytest.raises(RemoteError) as caught:
        world.driver().drive()
    assert caught.value.exit_code == 7
    assert not world.record.state.ended
    assert world.machine.released == []
    world.launch().drive()
    verified(world)


def test_unknown_for_long_is_no_failure(tmp_path: Path) -> None:
    machine = Machine()
    machine.after = lambda work: setattr(work, "state", State.UNKNOWN)
    world = World(tmp_path, machine)
    with pytest.raises(RemoteError) as caught:
        world.driver().drive()
    assert caught.value.exit_code == 7
    assert "launch attach" in (caught.value.remedy or "")
    assert world.record.state is RunState.UNKNOWN
    machine.work["run-abc-a1"].state = State.SUCCEEDED
    world.launch().drive()
    verified(world)


def test_a_service_that_takes_its_word_back_crashes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"fetch": silent(5_000)}
    with pytest.raises(RemoteError):
        world.driver().drive()
    assert world.record.state is RunState.COLLECTING
    work = world.machine.work["run-abc-a1"]
    words = [State.RUNNING, State.UNKNOWN, State.QUEUED, State.RUNNING, State.SUCCEEDED]
    driver = world.launch()
    world.backend.before = lambda call: setattr(work, "state", words.pop(0) if call == "poll" and words else work.state)
    driver.drive()
    assert words == []
    verified(world)


def test_replayed_lines_hide_no_last_word(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"fetch": silent(5_000)}
    with pytest.raises(RemoteError):
        world.driver().drive()
    kept = (world.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (world.folder / "events.jsonl").write_bytes(b"".join(kept[:-2]))
    (world.folder / events.FOLLOW).unlink()
    (world.folder / "log.txt").unlink()
    world.launch().drive()
    verified(world)


# Going on.


@pytest.mark.parametrize("how", [State.LOST, State.EXPIRED])
def test_it_goes_on_after_a_loss_from_the_newest_epoch(tmp_path: Path, how: State) -> None:
    machine = Machine(ends=[(1, how), (2, how), DONE])
    world = World(tmp_path, machine)
    world.driver().drive()
    verified(world)
    assert machine.resumed == [0, 1, 2]
    assert [attempt.resumed_epoch for attempt in world.record.attempts] == [None, 1, 2]


def test_attempts_are_counted(tmp_path: Path) -> None:
    machine = Machine(ends=[(1, State.LOST), (2, State.EXPIRED), DONE])
    world = World(tmp_path, machine, max_attempts=2)
    assert world.driver().drive().state is RunState.LOST
    assert machine.resumed == [0, 1]
    driver = world.launch()
    driver.again()
    driver.drive()
    verified(world)
    assert machine.resumed == [0, 1, 2]


@pytest.mark.parametrize(("how", "state"), [(State.FAILED, RunState.FAILED), (State.CANCELLED, RunState.CANCELLED)])
def test_what_failed_or_was_cancelled_is_not_started_again(tmp_path: Path, how: State, state: RunState) -> None:
    machine = Machine(ends=[(2, how)])
    world = World(tmp_path, machine)
    assert world.driver().drive().state is state
    assert len(machine.accepted) == 1
    assert attempts.checkpoint_epoch(world.folder) == 2
    assert world.epochs() == [1, 2]


@pytest.mark.parametrize("how", [State.FAILED, State.EXPIRED, State.CANCELLED])
def test_an_attempt_that_dies_before_its_first_epoch_loses_no_checkpoint(tmp_path: Path, how: State) -> None:
    """Its manifest names no epoch, and its files are not the checkpoint's."""
    machine = Machine(ends=[(2, State.LOST), (2, how), DONE])

    def forget(work: Work) -> None:
        if work.attempt.number == 2:
            work.files = {ARGS: b"other", CSV: b"epoch\n", LAST: b"torn", "train/labels.jpg": b"picture"}
            work.lines.clear()
            work.seq = 0
            work.event("failed", reason="the dataset is gone", manifest=work.publish(complete=False))

    machine.after = forget
    world = World(tmp_path, machine)
    record = world.driver().drive()
    if record.state.ended and record.state is not RunState.VERIFIED:
        assert (world.folder / "train/labels.jpg").read_bytes() == b"picture"
        driver = world.launch()
        driver.again()
        driver.drive()
    verified(world)
    assert machine.resumed == [0, 2, 2]


def test_an_older_checkpoint_never_replaces_a_newer_one(tmp_path: Path) -> None:
    machine = Machine(ends=[(2, State.LOST), (2, State.LOST), DONE])

    def behind(work: Work) -> None:
        if work.attempt.number == 2:
            work.files = {LAST: b"last of 1", BEST: b"best of 1", CSV: b"epoch\n1\n"}
            work.publish(complete=False, epoch=1)

    machine.after = behind
    world = World(tmp_path, machine)
    world.driver().drive()
    verified(world)
    assert machine.resumed == [0, 2, 2]


# Hostile workers.


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "epoch", "epoch": 10**400, "epochs": -1, "metrics": {"metrics/mAP50(B)": 10**400}},
        {"event": "epoch", "epoch": "x", "epochs": [], "metrics": []},
        {"event": "epoch", "epoch": True, "metrics": {"a": True}},
        {"event": "failed", "reason": "\ud800 \x1b[2J" * 1000},
        {"event": "started", "x": json.loads("[" * 400 + "]" * 400)},
        {"event": "checkpoint"},
        {"event": "error", "reason": None},
        {"event": "warning", "code": {"a": []}},
    ],
)
def test_hostile_events_stop_nothing(tmp_path: Path, fields: dict[str, Any]) -> None:
    machine = Machine()

    def insert(work: Work) -> None:
        lines, work.lines, work.seq = work.lines, [], 0
        work.event(fields["event"], **{key: value for key, value in fields.items() if key != "event"})
        work.lines += [line.replace('"seq": ', '"seq": 1000') for line in lines]

    machine.after = insert
    world = World(tmp_path, machine)
    world.driver().drive()
    assert world.record.state is RunState.VERIFIED
    (row,) = Store(world.settings.runs_dir).rows()
    assert row.state == "verified"
    assert "\\u001b" not in (world.folder / "run.json").read_text()


# Kills.


def killed_everywhere(
    tmp_path: Path, machine: Callable[[], Machine], interrupt: type[BaseException] = Killed, stride: int = 1
) -> list[World]:
    """Kill the launcher at its n-th step, start another, and look at what comes of it; `stride`: only some n."""
    worlds: list[World] = []
    number = 1 - stride
    while True:
        number += stride
        world = World(tmp_path / str(number), machine(), tmp_path / "cache", max_attempts=5)
        worlds.append(world)
        left = [number]

        def step(_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise interrupt

        world.backend.before = step
        world.backend.after = step
        with pytest.MonkeyPatch.context() as patch:
            hook_writes(patch, step)
            try:
                world.driver().drive()
            except interrupt:
                pass
            else:
                verified(world)
                return worlds
        world.launch().drive()
        verified(world)


def hook_writes(patch: pytest.MonkeyPatch, step: Callable[[object], None]) -> None:
    """Count each write of a record, of the cursor, of the index, and each rename as a step."""
    for owner, name in ((records, "write"), (events, "write_atomic"), (Path, "replace"), (Path, "rename")):
        original = getattr(owner, name)

        def call(*args: Any, original: Any = original, **more: Any) -> Any:
            step(None)
            found = original(*args, **more)
            step(None)
            return found

        patch.setattr(owner, name, call)


STRIDES = pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])


@STRIDES
def test_killed_at_any_step_of_a_sound_run(tmp_path: Path, stride: int) -> None:
    worlds = killed_everywhere(tmp_path, Machine, stride=stride)
    assert len(worlds) > 80 / stride
    assert all(world.machine.accepted == ["run-abc-a1"] for world in worlds)


@STRIDES
def test_killed_at_any_step_of_a_run_with_a_loss(tmp_path: Path, stride: int) -> None:
    worlds = killed_everywhere(tmp_path, lambda: Machine(ends=[(2, State.LOST), DONE]), stride=stride)
    assert len(worlds) > 120 / stride
    assert all(world.machine.resumed == [0, 2] for world in worlds), "the epochs of the lost attempt were kept"


@STRIDES
def test_interrupted_at_any_step(tmp_path: Path, stride: int) -> None:
    killed_everywhere(tmp_path, lambda: Machine(ends=[(1, State.EXPIRED), DONE]), KeyboardInterrupt, 3 * stride)


def test_killed_between_an_outcome_and_its_collection_nothing_is_done_twice(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.before = lambda call: (_ for _ in ()).throw(Killed) if call == "fetch" else None
    with pytest.raises(Killed):
        world.driver().drive()
    record = world.record
    assert record.attempt is not None
    assert record.attempt.state is not None
    assert record.attempt.state.ended
    assert record.state is RunState.COLLECTING
    world.launch().drive()
    assert world.machine.accepted == ["run-abc-a1"]


# Ending it.


@pytest.mark.parametrize("when", ["before", "lost reply", "running"])
def test_abandoned_it_ends_and_nothing_new_is_submitted(tmp_path: Path, when: str) -> None:
    machine = Machine()
    machine.after = lambda work: setattr(work, "state", State.RUNNING)
    world = World(tmp_path, machine)
    if when == "lost reply":
        world.backend.after = lambda call: (_ for _ in ()).throw(Killed) if call == "submit" else None
        with pytest.raises(Killed):
            world.driver().drive()
    elif when == "running":
        world.driver().drive(follow=False)
        world.backend.cancel(world.record.attempts[-1].as_handle() or pytest.fail("no handle"))
    record = world.launch().abandon()
    assert record.state is RunState.CANCELLED
    assert len(machine.accepted) == (0 if when == "before" else 1)


def test_detached_it_is_accepted_and_no_more(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    assert world.driver().drive(follow=False).state is RunState.QUEUED
    world.launch().drive()
    verified(world)


def test_a_run_can_move_to_another_backend_with_its_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(2, State.FAILED), DONE]))
    world.driver().drive()
    driver = world.launch()
    driver.backend.name = "elsewhere"
    driver.again()
    driver.drive()
    verified(world)
    assert [attempt.backend for attempt in world.record.attempts] == ["scripted", "elsewhere"]
    assert world.machine.resumed == [0, 2]
    assert replace(world.record, state=RunState.CREATED) != world.record
