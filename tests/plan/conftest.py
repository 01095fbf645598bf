"""Fixtures of the plan's tests: the installed Ultralytics read once, and a way to make a case."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.plan.case import Case, Room
from launcher.spec.arguments import Arguments
from launcher.spec.model import Environment, JobSpec, Resources

COTS = DatasetFacts(
    n_train=16_793, n_val=6_708, n_test=0, classes=1, boxes=11_898, train_boxes=9_000, small=3_000,
    background=18_582, width=1280, height=720, sizes=1, bytes=14_000_000_000,
)  # fmt: skip
HERE = {"ultralytics": "8.4.190", "torch": "2.15.0+cu132"}


class MakeCase(Protocol):
    """Make a case; keyword arguments beside the named ones are train arguments."""

    def __call__(
        self, device: str = "cpu", *, machine: str = "box", facts: DatasetFacts | None = COTS, model: str = "a.yaml",
        pins: dict[str, Any] | None = None, asked: str = "auto", versions: dict[str, str] | None = None,
        installs: tuple[str, ...] = (), limit: int | None = None, room: Room | None = None, **train: Any,
    ) -> Case: ...  # fmt: skip


@pytest.fixture(scope="session")
def arguments() -> Arguments:
    return Arguments()


@pytest.fixture(scope="session")
def make(arguments: Arguments) -> MakeCase:
    def make(
        device: str = "cpu", *, machine: str = "box", facts: DatasetFacts | None = COTS, model: str = "a.yaml",
        pins: dict[str, Any] | None = None, asked: Any = "auto", versions: dict[str, str] | None = None,
        installs: tuple[str, ...] = (), limit: int | None = None, room: Room | None = None, **train: Any,
    ) -> Case:  # fmt: skip
        spec = JobSpec(
            name="job", model=model, data="/data/data.yaml", train=train,
            environment=Environment(**pins or {}), resources=Resources(device=asked),
        )  # fmt: skip
        offer = Offer(machine, device, installs=installs, output_limit=limit)
        have = HERE if versions is None else versions
        return Case(spec, offer, facts, have, arguments, room or Room())

    return make
