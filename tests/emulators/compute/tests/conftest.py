"""An emulated Compute Engine for each test, and Google's clients that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.compute import ComputeEmulator
from tests.emulators.compute.tests.cloud import Cloud


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's clients take proxies from the environment, where the tests have a dead one."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[ComputeEmulator]:
    """Without machines, and with a clock that only `advance` moves."""
    with ComputeEmulator(tmp_path / "gce", sshd=False, speed=0, wait_real_seconds=0.3) as emulator:
        yield emulator


@pytest.fixture
def cloud(compute: ComputeEmulator) -> Cloud:
    return Cloud(compute)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[ComputeEmulator]:
    """With real machines, and a clock that goes as fast as the wall's."""
    with ComputeEmulator(tmp_path / "gce") as emulator:
        yield emulator
    assert emulator.processes_alive == 0
