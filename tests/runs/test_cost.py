"""What attempts cost is written down, and what the run may cost in all is not spent twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.backend import Attempt, Cost, Handle, Request, State
from launcher.errors import RemoteError
from launcher.runs.driving.release import give_back
from launcher.runs.state import RunState
from tests.runs.scripted import DONE, Machine, Scripted, World

EACH = Cost(1.5, 2.0, "of a test")


class Billed(Scripted):
    """Each attempt costs the same; `told` is what each one was allowed."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.told: list[float | None] = []

    def prepare(self, attempt: Attempt) -> Request:
        self.told.append(attempt.need.max_cost)
        return super().prepare(attempt)

    def cost(self, handle: Handle) -> Cost | None:
        self._called("cost")
        assert handle.attempt not in self.machine.released, "asked before it is gone"
        return EACH


def billed(root: Path, *ends: tuple[int, State], max_cost: float | None) -> tuple[World, Billed]:
    world = World(root, Machine(ends=ends), resources={"max_cost": max_cost})
    backend = Billed(world.machine)
    world.backend = backend
    return world, backend


def test_each_attempt_is_told_what_is_left(tmp_path: Path) -> None:
    world, backend = billed(tmp_path, (1, State.LOST), (2, State.EXPIRED), DONE, max_cost=5.0)
    record = world.driver().drive()
    assert record.state is RunState.VERIFIED
    assert backend.told == [5.0, 3.5, 2.0]
    assert [attempt.cost for attempt in record.attempts] == [vars(EACH)] * 3
    assert world.record.dollars == record.dollars == 4.5


def test_a_run_without_a_limit_is_told_of_none_and_still_knows_what_it_cost(tmp_path: Path) -> None:
    world, backend = billed(tmp_path, (1, State.LOST), DONE, max_cost=None)
    assert world.driver().drive().dollars == 3.0
    assert backend.told == [None, None]


@pytest.mark.parametrize(("limit", "attempts"), [(1.5, 1), (3.0, 2), (2.9, 2)])
def test_when_all_is_spent_no_other_attempt_begins(tmp_path: Path, limit: float, attempts: int) -> None:
    world, backend = billed(tmp_path, (1, State.LOST), (2, State.LOST), DONE, max_cost=limit)
    record = world.driver().drive()
    assert record.state is RunState.LOST
    assert "max_cost is spent" in record.reason
    assert len(backend.told) == len(record.attempts) == attempts
    assert world.epochs(), "what was made is here"


def test_a_price_that_cannot_be_told_now_leaves_what_was_known(tmp_path: Path) -> None:
    world, backend = billed(tmp_path, DONE, max_cost=None)
    backend.plan["cost"] = [None, RemoteError("no answer")]
    record = world.driver().drive()
    assert record.attempts[0].cost == vars(EACH)
    assert record.attempts[0].released
    assert give_back(record, world.settings, backend) == record, "and is not asked for what is gone"
