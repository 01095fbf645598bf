"""What a broken-off submission has left is removed, and nothing that was left before is forgotten."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from launcher.backend import Handle
from launcher.errors import RemoteError
from launcher.runs.driving.release import LEFT_OVER, left_over, sweep
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState


def swept(left: list[str], *, silent: bool = False) -> tuple[RunRecord, list[str]]:
    """The record after a sweep of a backend that holds two attempts, and the ids that it was told to end."""
    told: list[str] = []

    def owned() -> list[Handle]:
        if silent:
            raise RemoteError("nobody answers")
        return [Handle("fake", "run-a1"), Handle("fake", "run-a2")]

    def release(handle: Handle) -> list[str]:
        told.append(handle.attempt)
        return left

    backend: Any = SimpleNamespace(owned=owned, cancel=lambda handle: None, release=release)
    record = RunRecord("run", "run", "fake", RunState.CANCELLED, "key", "bundle", 0.0, 0.0)
    attempts = tuple(AttemptRecord(f"run-a{n}", n, "fake", 0.0) for n in (1, 2))
    return sweep(record_with(record, attempts), backend), told


def record_with(record: RunRecord, attempts: tuple[AttemptRecord, ...]) -> RunRecord:
    return replace(record, attempts=attempts, checked={LEFT_OVER: ["a disk of run-a1"]})


def test_only_the_newest_attempt_is_swept() -> None:
    assert swept([])[1] == ["run-a2"]


def test_what_was_left_over_before_stays_in_the_list() -> None:
    assert left_over(swept(["a machine"])[0]) == ["a disk of run-a1", "a machine"]
    assert left_over(swept([])[0]) == ["a disk of run-a1"]


def test_a_backend_that_cannot_be_asked_is_something_left_over() -> None:
    before, after = left_over(swept([], silent=True)[0])
    assert before == "a disk of run-a1"
    assert "run-a2 may have left something" in after
