"""Giving a run up: `launch cancel`, whoever drives the run, whenever it comes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from launcher.backend import Feature, State
from launcher.cli import cancel
from launcher.errors import RemoteError
from launcher.runs.driving.release import left_over
from launcher.runs.state import RunState
from tests.runs.scripted import (
    DONE,
    Loaded,
    Machine,
    Work,
    World,
    at,
    silent,
    store_of,
    unended,
)


@pytest.mark.parametrize("how", [State.LOST, State.EXPIRED])
@pytest.mark.parametrize("call", ["fetch", "find", "prepare", "stage", "submit"])
def test_given_up_between_two_attempts_no_other_is_started(tmp_path: Path, how: State, call: str) -> None:
    """While the driver collects the first (fetch), or has the second written down (find, ...)."""
    world = World(tmp_path, Machine(ends=[(2, how), DONE]))
    wish = lambda: store_of(world).wish_cancelled(world.run)  # noqa: E731
    world.backend.before = at(call, wish, 1 if call == "fetch" else 2)
    record = world.driver().drive()
    if call == "submit":  # too late: it was told to stop, and had finished by then
        assert record.state is RunState.VERIFIED
    else:
        assert record.state is RunState.CANCELLED
        assert world.machine.accepted == ["run-abc-a1"]
        assert world.epochs() == [1, 2]
    assert left_over(record) == []
    assert set(world.machine.released) == set(world.machine.accepted)
    driver = world.launch()
    if record.state is RunState.CANCELLED:
        driver.again()
        assert driver.drive().state is RunState.VERIFIED
        assert world.machine.resumed[-1] == 2


@pytest.mark.parametrize("call", ["lines", "poll", "submit"])
def test_the_driver_itself_stops_a_run_that_was_given_up(tmp_path: Path, call: str) -> None:
    """Whoever wished it may have been killed right after."""
    world = World(tmp_path, Machine(), patience_s=30.0)
    unended(world)
    world.backend.before = at(call, lambda: store_of(world).wish_cancelled(world.run))
    record = world.driver().drive()
    assert record.state is RunState.CANCELLED
    assert world.machine.work["run-abc-a1"].state is State.CANCELLED
    assert world.machine.released == ["run-abc-a1"]


def test_a_stop_that_is_not_answered_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(), patience_s=30.0)
    unended(world)
    store_of(world).wish_cancelled(world.run)
    world.driver().drive()
    assert world.machine.accepted == []
    world = World(tmp_path / "other", Machine(), patience_s=30.0)
    unended(world)
    world.driver().drive(follow=False)
    store_of(world).wish_cancelled(world.run)
    world.backend.plan = {"cancel": silent(3)}
    assert world.driver().drive().state is RunState.CANCELLED


def test_what_says_it_is_lost_after_a_cancel_is_cancelled(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(2, State.LOST)]))
    world.driver().drive(follow=False)
    assert world.driver().abandon().state is RunState.CANCELLED
    assert world.epochs() == [1, 2]


def test_where_stopping_deletes_what_was_made_it_is_brought_first(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(), patience_s=30.0)
    unended(world)
    world.driver().drive(follow=False)
    world.backend.lacks = {Feature.CANCEL: "deletes"}

    def delete() -> None:
        world.machine.work["run-abc-a1"].files.clear()

    world.backend.before = at("cancel", delete)
    world.machine.work["run-abc-a1"].publish(complete=False, epoch=3)
    assert world.driver().abandon().state is RunState.CANCELLED
    assert world.epochs() == [1, 2, 3]


def test_cancel_of_a_finished_run_brings_it(tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    world = loaded(World(tmp_path, Machine()))
    world.driver().drive(follow=False)
    assert cancel.main([world.run]) == 0
    assert "had already finished; collected" in capsys.readouterr().err
    assert world.record.state is RunState.VERIFIED
    assert "cancel" not in world.backend.calls


def test_cancel_waits_for_whoever_drives_and_no_attempt_follows(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine(ends=[(2, State.LOST), DONE])))
    codes: list[int] = []
    other = threading.Thread(target=lambda: codes.append(cancel.main([world.run])))

    def begin() -> None:
        other.start()
        while not store_of(world).wished_cancelled(world.run):
            pass

    world.backend.before = at("fetch", begin)
    store = store_of(world)
    with store.driving(world.run) as free:
        assert free
        world.driver().drive()
    other.join(20)
    assert codes == [0]
    assert world.record.state is RunState.CANCELLED
    assert world.machine.accepted == ["run-abc-a1"]


def test_a_reason_that_only_says_the_state_again_is_none(tmp_path: Path) -> None:
    machine = Machine(ends=[(2, State.CANCELLED)])

    def say(work: Work) -> None:
        work.lines.pop()
        work.seq -= 1
        work.event("failed", reason="cancelled", manifest=work.publish(complete=False, epoch=2))

    machine.after = say
    world = World(tmp_path, machine)
    record = world.driver().drive()
    assert (record.state, record.reason) == (RunState.CANCELLED, "")


def test_without_fetching_nothing_more_is_brought(tmp_path: Path, loaded: Loaded) -> None:
    world = loaded(World(tmp_path, Machine()))
    unended(world)
    world.driver().drive(follow=False)
    assert cancel.main([world.run, "--no-fetch"]) == 0
    assert world.record.state is RunState.CANCELLED
    assert "fetch" not in world.backend.calls
    assert world.machine.released == ["run-abc-a1"]


def test_a_stop_that_does_not_stop_is_no_end(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    unended(world)
    world.driver().drive(follow=False)
    world.backend.plan["cancel"] = silent()
    with pytest.raises(RemoteError):
        world.driver().abandon(fetch=False)
    assert not world.record.state.ended
    assert world.machine.released == []


@pytest.mark.parametrize("answer", ["y\n", "n\n", "\n", ""])  # the last is Ctrl-D
def test_where_stopping_deletes_it_says_so_and_asks(
    tmp_path: Path,
    loaded: Loaded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
) -> None:
    world = loaded(World(tmp_path, Machine()))
    unended(world)
    world.driver().drive(follow=False)
    world.backend.lacks = {**world.backend.lacks, Feature.CANCEL: "stopping deletes all that it has made"}
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.readline", lambda: answer)
    code = cancel.main([world.run])
    said = capsys.readouterr()
    assert "stopping deletes all that it has made" in said.err
    assert "cancel? [y/N]" in said.err
    assert said.out == ""
    assert (code, world.record.state.ended) == ((0, True) if answer == "y\n" else (130, False))
    assert ("cancel" in world.backend.calls) == (answer == "y\n")
    assert cancel.main([world.run, "--yes"]) == 0
