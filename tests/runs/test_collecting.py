"""What comes back to a driver: wrong, late, torn or not at all, and what may be called verified after that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import registry
from launcher.backend import State
from launcher.errors import Exit, IntegrityError
from launcher.runs.driving import attempts, collect, release
from launcher.runs.state import RunState
from launcher.runs.store import Store
from tests.runs.scripted import ARGS, BEST, CSV, DONE, LAST, Machine, Work, World, verified


def spoiled(path: str, times: int) -> Callable[[str, bytes], bytes | None]:
    left = [times]

    def spoil(asked: str, data: bytes) -> bytes | None:
        if asked == path and left[0] > 0:
            left[0] -= 1
            return data[:-1] + b"?"
        return data

    return spoil


@pytest.mark.parametrize("path", [LAST, CSV, "manifest.json"])
def test_bytes_that_come_wrong_once_are_fetched_again(tmp_path: Path, path: str) -> None:
    world = World(tmp_path, Machine())
    world.backend.spoil = spoiled(path, 2)
    world.driver().drive()
    verified(world)


@pytest.mark.parametrize("path", [LAST, CSV, "manifest.json"])
def test_bytes_that_always_come_wrong_are_never_a_result(tmp_path: Path, path: str) -> None:
    world = World(tmp_path, Machine())
    world.backend.spoil = spoiled(path, 10_000)
    with pytest.raises(IntegrityError) as caught:
        world.driver().drive()
    assert caught.value.exit_code is Exit.INTEGRITY
    assert world.record.state is RunState.COLLECTING
    assert world.machine.released == []
    assert not (world.folder / "manifest.json").exists()
    world.launch().drive()
    verified(world)


@pytest.mark.parametrize("how", [State.LOST, State.EXPIRED, State.FAILED])
def test_what_does_not_come_back_whole_is_not_thrown_away_on_the_machine(tmp_path: Path, how: State) -> None:
    world = World(tmp_path, Machine(ends=[(2, how), DONE]))

    def spoil(path: str, data: bytes) -> bytes | None:
        return b"?" if data == b"last of 2" else data

    world.backend.spoil = spoil
    if how is State.FAILED:
        world.driver().drive()
        assert "not released" in world.record.checked["left_over"][0]
        assert world.record.state is RunState.FAILED
    else:
        with pytest.raises(IntegrityError, match=r"last\.pt") as caught:
            world.driver().drive()
        assert caught.value.exit_code is Exit.INTEGRITY
        assert "launch fetch" in (caught.value.remedy or "")
        assert world.record.state is RunState.COLLECTING
        assert world.machine.accepted == ["run-abc-a1"], "no epoch is trained again behind the user's back"
    assert world.machine.released == []
    assert attempts.checkpoint_epoch(world.folder) is None
    driver = world.launch()
    if how is State.FAILED:
        store = Store(world.settings.runs_dir)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "load", lambda name, settings: world.backend)
            assert release.left_over(release.tidy(world.settings, store, world.record)) == []
        assert world.machine.released == ["run-abc-a1"]
        driver = world.launch()
        driver.again()
    driver.drive()
    verified(world)
    assert world.machine.resumed == [0, 2], "the checkpoint was brought after all"


@pytest.mark.parametrize("path", [ARGS, "train/labels.jpg"])
@pytest.mark.parametrize("how", [State.LOST, State.EXPIRED])
def test_one_bad_file_holds_up_no_checkpoint(tmp_path: Path, how: State, path: str) -> None:
    machine = Machine(ends=[(2, how), DONE])

    def picture(work: Work) -> None:
        if work.attempt.number == 1:
            work.files["train/labels.jpg"] = b"picture"
            work.publish(complete=False, epoch=2)
            work.lines[:] = work.lines[: -1 if how is State.EXPIRED else None]

    machine.after = picture
    world = World(tmp_path, machine)
    first = machine.work

    def spoil(asked: str, data: bytes) -> bytes | None:
        return b"?" if asked == path and len(first) == 1 else data

    world.backend.spoil = spoil
    world.driver().drive()
    verified(world)
    assert machine.resumed == [0, 2]
    assert path in world.record.attempts[0].kept
    assert sorted(machine.released) == ["run-abc-a1", "run-abc-a2"], "verified without it"


@pytest.mark.parametrize("how", [State.LOST, State.EXPIRED])
def test_a_manifest_that_is_always_wrong_starts_nothing_over(tmp_path: Path, how: State) -> None:
    world = World(tmp_path, Machine(ends=[(2, how), DONE]))
    world.backend.spoil = lambda path, data: b"{" if path == "manifest.json" else data
    with pytest.raises(IntegrityError):
        world.driver().drive()
    assert world.record.state is RunState.COLLECTING
    world.launch().drive()
    verified(world)
    assert world.machine.resumed == [0, 2]


def test_a_machine_lost_after_the_last_word_loses_nothing(tmp_path: Path) -> None:
    machine = Machine()
    machine.after = lambda work: setattr(work, "state", State.LOST)
    world = World(tmp_path, machine)
    world.driver().drive()
    verified(world)
    assert machine.accepted == ["run-abc-a1"]


def test_a_manifest_that_is_listed_and_not_handed_over_is_asked_for_again(tmp_path: Path) -> None:
    machine = Machine(ends=[(2, State.LOST), DONE])
    world = World(tmp_path, machine, patience_s=30.0)
    left = [5]

    def spoil(path: str, data: bytes) -> bytes | None:
        left[0] -= path == "manifest.json"
        return None if path == "manifest.json" and left[0] >= 0 else data

    world.backend.spoil = spoil
    world.driver().drive()
    verified(world)
    assert machine.resumed == [0, 2], "the checkpoint was not given up"


def test_no_manifest_at_all_is_a_start_from_the_first_epoch(tmp_path: Path) -> None:
    machine = Machine(ends=[(0, State.LOST), DONE])
    world = World(tmp_path, machine)
    world.driver().drive()
    verified(world)
    assert machine.resumed == [0, 0]


def test_a_success_without_a_manifest_is_none(tmp_path: Path) -> None:
    machine = Machine()
    machine.after = lambda work: work.files.clear()
    world = World(tmp_path, machine)
    with pytest.raises(IntegrityError, match="no manifest"):
        world.driver().drive()
    assert world.record.state is RunState.COLLECTING


def swapped(work: Work) -> None:
    work.files[LAST] = b"others"
    work.publish(complete=True)


def silenced(work: Work) -> None:
    work.lines = work.lines[:-1]


def incomplete(work: Work) -> None:
    work.lines.pop()
    work.seq -= 1
    work.event("done", manifest=work.publish(complete=False, epoch=3))


def without_best(work: Work) -> None:
    del work.files[BEST]
    work.lines.pop()
    work.seq -= 1
    work.event("done", manifest=work.publish(complete=True))


def table(text: bytes) -> Callable[[Work], None]:
    def change(work: Work) -> None:
        work.files[CSV] = text
        work.lines.pop()
        work.seq -= 1
        work.event("done", manifest=work.publish(complete=True))

    return change


@pytest.mark.parametrize(
    "lie",
    [
        swapped,
        silenced,
        incomplete,
        without_best,
        table(b"epoch\n1\n2\n2\n"),
        table(b"epoch\n1\n3\n"),
        table(b"epoch\n2\n3\n"),
        table(b"epoch\n"),
        table(b""),
        table(b"epoch\nnan\n"),
        table(b"\xff\xfe"),
        table(b'epoch\n"' + b"1" * 200_000),
    ],
)
def test_what_only_looks_done_is_not_verified(tmp_path: Path, lie: Callable[[Work], None]) -> None:
    machine = Machine()
    machine.after = lie
    world = World(tmp_path, machine)
    with pytest.raises(IntegrityError):
        world.driver().drive()
    assert world.record.state is RunState.COLLECTING
    assert world.record.reason
    assert machine.released == []


def test_a_file_changed_here_after_it_came_is_not_verified(tmp_path: Path) -> None:
    world = World(tmp_path, Machine())
    original = collect.collect

    def then_spoilt(*args: Any) -> collect.Collected:
        found = original(*args)
        (world.folder / BEST).write_bytes(b"other")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "collect", then_spoilt)
        driver = world.driver()
        with pytest.raises(IntegrityError, match=r"best\.pt"):
            driver.drive()
    world.launch().drive()
    verified(world)


def test_a_damaged_checkpoint_here_is_not_gone_on_from(tmp_path: Path) -> None:
    world = World(tmp_path, Machine(ends=[(2, State.FAILED), DONE]))
    world.driver().drive()
    (world.folder / LAST).write_bytes(b"rotten")
    driver = world.launch()
    driver.again()
    with pytest.raises(IntegrityError, match=r"last\.pt"):
        driver.drive()
    assert world.machine.accepted == ["run-abc-a1"]
