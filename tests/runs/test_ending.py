"""Giving machines back, and looking after runs that nobody follows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType

import pytest

from launcher.backend import State
from launcher.cli import attach, cancel, fetch, logs, ps, resume
from launcher.errors import SpecError
from launcher.runs.driving import following
from launcher.runs.driving.release import left_over, tidy
from launcher.runs.look import look
from launcher.runs.state import RunState
from tests.runs.scripted import (
    DONE,
    Killed,
    Loaded,
    Machine,
    Scripted,
    Work,
    World,
    at,
    kill,
    silent,
    store_of,
    unended,
    verified,
)

# Variables.


@pytest.mark.parametrize("when", ["first", "next", "resumed", "journalled"])
def test_a_variable_that_is_not_set_here_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "value")
    ends = [(2, State.FAILED if when == "resumed" else State.LOST), DONE]
    world = World(tmp_path, Machine(ends=ends), variables={"KEY": "${env:SOME_KEY}"})
    driver = world.driver()
    if when == "resumed":
        driver.drive()
        driver = world.launch()
    elif when == "next":
        world.backend.before = at("fetch", lambda: monkeypatch.delenv("SOME_KEY"))
    elif when == "journalled":
        world.backend.before = at("find", kill)
        with pytest.raises(Killed):
            driver.drive()
        driver = world.launch()
    if when != "next":
        monkeypatch.delenv("SOME_KEY")
    before = world.record
    with pytest.raises(SpecError, match="SOME_KEY"):
        driver.again() if when == "resumed" else driver.drive()
    record = world.record
    assert record.state is (RunState.COLLECTING if when == "next" else before.state)
    assert len(record.attempts) == {"first": 0}.get(when, 1)
    monkeypatch.setenv("SOME_KEY", "value")
    driver = world.launch()
    if when == "resumed":
        driver.again()
    assert driver.drive().state is RunState.VERIFIED
    assert world.machine.resumed == [0, 2]


# Giving machines back.


def test_the_former_attempt_is_there_until_the_next_has_ended(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(1, State.LOST), (2, State.LOST), DONE]))
    seen: list[tuple[str, str | None, list[str]]] = []

    def accepted(work: Work) -> None:
        previous = work.attempt.previous
        seen.append((work.attempt.id, previous.attempt if previous else None, list(world.machine.released)))

    running: set[tuple[int, int]] = set()
    world.machine.after = accepted
    world.backend.before = lambda _: running.add((len(world.machine.accepted), len(world.machine.released)))
    world.driver().drive()
    assert running >= {(1, 0), (2, 0), (3, 1)}
    assert not running & {(1, 1), (2, 2)}
    assert seen == [
        ("run-abc-a1", None, []),
        ("run-abc-a2", "run-abc-a1", []),
        ("run-abc-a3", "run-abc-a2", ["run-abc-a1"]),
    ]
    assert world.record.state is RunState.VERIFIED
    assert all(attempt.released for attempt in world.record.attempts)


def test_of_a_resumed_run_the_former_attempt_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(1, State.FAILED), DONE]))
    world.driver().drive()
    driver = world.launch()
    driver.again()
    driver.drive()
    assert world.machine.work["run-abc-a2"].attempt.previous is None


def test_a_release_that_fails_is_written_down_and_tried_again(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.backend.plan = {"release": silent(2)}
    record = world.driver().drive()
    assert record.state is RunState.VERIFIED
    assert "no answer" in left_over(record)[0]
    assert not record.attempts[0].released
    assert attach.main([world.run]) == 8, "verified, but something is left on a machine"
    assert "left over" in capsys.readouterr().err
    for main in (attach.main, fetch.main, cancel.main):
        assert main([world.run]) == 0
        assert "left over" not in capsys.readouterr().err
    assert world.machine.released == ["run-abc-a1"]
    assert world.record.attempts[0].released
    assert world.backend.calls.count("release") == 3, "what is released is not asked for again"


@pytest.mark.parametrize("command", [attach, fetch, cancel])
def test_killed_before_the_release_it_is_done_later(tmp_path: Path, loaded: Loaded, command: ModuleType) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.backend.before = at("release", kill)
    with pytest.raises(Killed):
        world.driver().drive()
    assert world.record.state is RunState.VERIFIED
    assert world.machine.released == []
    assert command.main([world.run]) == 0
    assert world.machine.released == ["run-abc-a1"]


def test_what_is_left_over_is_said_by_the_backend(tmp_path: Path) -> None:
    class Sticky(Scripted):
        def release(self, handle: object) -> list[str]:
            return ["a disk"]

    world = World(tmp_path, Machine())
    world.backend = Sticky(world.machine)
    record = world.driver().drive()
    assert left_over(record) == ["a disk"]
    assert not record.attempts[0].released


def test_a_backend_that_is_not_installed_any_more_stops_no_tidying(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    world.backend.plan = {"release": silent(1)}
    world.driver().drive()
    record = tidy(world.settings, store_of(world), world.record)
    assert "there is no backend 'scripted'" in left_over(record)[0]


# Looking.


def test_nobody_follows_and_the_state_is_known_all_the_same(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine()))
    unended(world)
    world.driver().drive(follow=False)
    record = look(world.settings, store_of(world), world.record)
    assert record == world.record
    assert (record.state, record.epoch) == (RunState.RUNNING, 3)
    world.machine.work["run-abc-a1"].state = State.SUCCEEDED
    record = look(world.settings, store_of(world), record)
    assert record.state is RunState.COLLECTING
    assert record.reason == "the worker has ended; `launch attach run-abc` brings everything back"
    assert "fetch" not in world.backend.calls
    assert world.machine.released == []
    assert world.launch().drive().state is RunState.VERIFIED
    assert world.record.reason == ""


@pytest.mark.parametrize("call", ["lines", "poll"])
def test_silence_is_no_error_for_who_only_looks(tmp_path: Path, loaded: Loaded, call: str) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.driver().drive(follow=False)
    world.backend.plan = {call: silent(1)}
    assert look(world.settings, store_of(world), world.record).state in (RunState.QUEUED, RunState.RUNNING)


def test_who_looks_asks_nothing_of_a_run_that_is_driven_or_over(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine()))
    record = world.driver().drive(follow=False)
    world.backend.calls.clear()
    with store_of(world).driving(world.run):
        assert look(world.settings, store_of(world), record) == record
    assert world.backend.calls == []
    record = world.driver().drive()
    world.backend.calls.clear()
    assert look(world.settings, store_of(world), record) == record
    assert world.backend.calls == []


def test_a_worker_that_never_stops_talking_does_not_hold_up_who_looks(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.05)
    world = loaded(World(tmp_path, Machine()))
    unended(world)
    world.driver().drive(follow=False)
    world.backend.before = lambda call: world.machine.work["run-abc-a1"].lines.append("more")
    assert look(world.settings, store_of(world), world.record).state is RunState.RUNNING


def test_ps_and_logs_show_what_nobody_follows(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.driver().drive(follow=False)
    assert ps.main(["--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["state"], row["epoch"]) == ("collecting", 3)
    assert "launch attach" in row["reason"]
    assert ps.main([]) == 0
    assert "launch attach" in capsys.readouterr().err


def test_fetch_brings_to_its_end_what_nobody_follows(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    world = loaded(World(tmp_path, Machine()))
    assert fetch.main([world.run]) == 0
    assert "nothing to bring back yet" in capsys.readouterr().err
    world.driver().drive(follow=False)
    assert fetch.main([str(world.folder)]) == 0
    assert world.record.state is RunState.VERIFIED
    assert fetch.main([world.run]) == 0


def test_fetch_before_the_first_epoch_has_nothing_to_bring(
    tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    world = loaded(World(tmp_path, Machine(ends=[(0, State.RUNNING)])))
    world.driver().drive(follow=False)
    assert fetch.main([world.run]) == 0
    assert "nothing to bring back yet" in capsys.readouterr().err


def test_resume_first_brings_the_checkpoint_that_had_not_come(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine(ends=[(2, State.FAILED), DONE])))
    world.backend.spoil = lambda path, data: b"?" if data == b"last of 2" else data
    assert world.driver().drive().state is RunState.FAILED
    world.backend.spoil = lambda path, data: data
    assert resume.main([world.run]) == 0
    assert world.machine.resumed == [0, 2]
    assert sorted(world.machine.released) == ["run-abc-a1", "run-abc-a2"]


def test_fetch_of_a_failed_run_is_no_failure(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine(ends=[(2, State.FAILED)])))
    world.driver().drive()
    assert fetch.main([world.run]) == 0


def test_logs_of_a_run_that_nobody_follows(
    tmp_path: Path, loaded: Loaded, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.driver().drive(follow=False)
    assert logs.main([world.run]) == 0
    assert (world.folder / "log.txt").read_text() == "training from 1\n"


def test_a_run_started_over_takes_the_new_checkpoints(tmp_path: Path) -> None:
    """What a finished training left, and was given up all the same, is no checkpoint and holds up none."""
    machine = Machine(ends=[DONE, (2, State.LOST), DONE])

    def mute(work: Work) -> None:
        if work.attempt.number == 1:
            work.lines.pop()  # "done" never came

    machine.after = mute
    world = World(tmp_path, machine)
    world.driver().drive(follow=False)
    record = world.driver().abandon()
    assert record.state is RunState.CANCELLED
    driver = world.launch()
    driver.again()
    driver.drive()
    assert machine.resumed == [0, 0, 2]
    assert world.record.state is RunState.VERIFIED


def test_a_log_that_ends_before_its_machine_is_not_asked_in_a_circle(tmp_path: Path) -> None:
    """Kaggle shows a kernel as running for a while after the last line of its log."""
    world = World(tmp_path, Machine())
    unended(world)
    begun, ended = time.monotonic(), time.monotonic() + 0.7

    def end(call: str) -> None:
        if time.monotonic() > ended:
            for work in world.machine.work.values():
                work.state = State.SUCCEEDED

    world.backend.before = end
    world.driver().drive()
    verified(world)
    assert time.monotonic() - begun >= 0.7
    assert world.backend.calls.count("lines") < 30
