"""What attempts have left on machines: told apart, and removed only where nobody needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import registry
from launcher.backend import State, Stored
from launcher.cli import reap as command
from launcher.errors import CredentialError, Exit, RemoteError
from launcher.runs import reap
from launcher.runs.reap import Held, Verdict
from launcher.runs.state import RunState
from launcher.runs.store import Store
from tests.runs.scripted import DONE, Machine, Scripted, World


def judged(world: World) -> dict[str, Verdict]:
    return {held.handle.attempt: held.verdict for held in look(world)}


def look(world: World) -> list[Held]:
    return reap.look_through(Store(world.settings.runs_dir), world.backend)


def remove(world: World, held: Held) -> list[str]:
    return reap.remove(world.settings, Store(world.settings.runs_dir), world.backend, held)


def change(world: World, **changes: object) -> None:
    """The newest attempt's record, as a launch that was killed may have left it."""
    store = Store(world.settings.runs_dir)
    store.save(store.read(world.run).with_attempt(**changes))


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
    """The registry gives the world's backend: `tidy` looks for it there."""
    backends: list[Scripted] = []
    monkeypatch.setattr(registry, "load", lambda name, settings: backends[-1])
    monkeypatch.setattr(registry, "names", lambda settings: ["scripted"])
    return backends


@pytest.fixture
def world(tmp_path: Path, found: list[Scripted], monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, Machine(ends=[DONE]))
    found.append(made.backend)
    monkeypatch.setattr("launcher.settings.Settings.load", lambda: made.settings)
    return made


def test_a_run_that_goes_on_is_left_alone(world: World) -> None:
    world.driver().drive(follow=False)
    (held,) = look(world)
    assert held.verdict is Verdict.LIVE
    assert f"launch attach {world.run}" in held.reason
    assert command.main(["--yes", "--strange", "--data"]) == Exit.OK
    assert world.machine.released == []


def test_an_attempt_whose_release_was_never_done_is_removed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.driver().drive()
    world.machine.released.clear()
    change(world, released=False)
    assert judged(world) == {"run-abc-a1": Verdict.LEFT}
    assert command.main([]) == Exit.LEFT_OVER
    assert "launch reap --yes" in capsys.readouterr().err
    assert world.machine.released == []
    assert command.main(["--yes"]) == Exit.OK
    assert world.machine.released == ["run-abc-a1"]
    assert world.record.attempts[-1].released


def test_one_that_counts_as_released_and_is_there_again_is_removed(world: World) -> None:
    world.driver().drive()
    world.machine.released.clear()
    (held,) = look(world)
    assert remove(world, held) == []
    assert world.machine.released == ["run-abc-a1"]


def test_what_holds_files_that_did_not_come_home_is_kept(world: World) -> None:
    world.driver().drive()
    world.machine.released.clear()
    store = Store(world.settings.runs_dir)
    record = store.read(world.run)
    store.save(replace(record.with_attempt(released=False, kept="best.pt: 3 bytes"), state=RunState.LOST))
    assert judged(world) == {"run-abc-a1": Verdict.KEEPS}
    assert command.main(["--yes", "--strange", "--data"]) == Exit.OK
    assert world.machine.released == []


def test_what_no_run_here_knows_is_removed_only_when_asked_for(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", world.machine)
    other.backend = world.backend
    other.driver().drive(follow=False)
    Store(world.settings.runs_dir).remove(world.run)
    (held,) = look(world)
    assert held.verdict is Verdict.STRANGE
    assert command.main(["--yes"]) == Exit.OK
    assert world.machine.released == []
    assert command.main(["--yes", "--strange"]) == Exit.OK
    assert world.machine.released == ["run-abc-a1"]


def test_what_cannot_be_removed_is_loud(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.driver().drive()
    world.machine.released.clear()
    change(world, released=False)
    world.backend.plan["release"] = [RemoteError("no answer"), RemoteError("no answer")]
    assert command.main(["--yes"]) == Exit.LEFT_OVER
    assert "left over" in capsys.readouterr().err


def test_a_backend_that_is_silent_is_no_clean_slate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: Exception) -> object:
        def owned(self: Scripted) -> list[object]:
            raise error

        return owned

    monkeypatch.setattr(Scripted, "owned", raising(RemoteError("no answer")))
    assert command.main([]) == Exit.UNKNOWN
    monkeypatch.setattr(Scripted, "owned", raising(CredentialError("nobody is signed in")))
    assert command.main([]) == Exit.OK
    assert command.main(["--backend", "scripted"]) == Exit.ACCESS


def test_datasets_are_removed_only_when_asked_for_and_not_under_work_that_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    discarded: list[str] = []

    def discard(self: Scripted, stored: Stored) -> list[str]:
        discarded.append(stored.key)
        return []

    monkeypatch.setattr(Scripted, "stored", lambda self: [Stored("data-1", "a dataset", 10)])
    monkeypatch.setattr(Scripted, "discard", discard)
    assert command.main(["--yes"]) == Exit.OK
    assert command.main(["--data"]) == Exit.OK
    assert discarded == []
    world.driver().drive(follow=False)
    running = world.machine.work["run-abc-a1"]
    running.state = State.RUNNING
    assert command.main(["--yes", "--data"]) == Exit.LEFT_OVER
    assert discarded == []
    running.state = DONE[1]
    assert command.main(["--yes", "--data"]) == Exit.OK
    assert discarded == ["data-1"]
