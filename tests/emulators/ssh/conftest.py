"""A machine to reach, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.ssh import Sshd, SwallowingProxy


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "machine") as server:
        yield server
    assert not server.processes()


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[SwallowingProxy]:
    """A network between the test and the machine."""
    with SwallowingProxy((sshd.address, sshd.port)) as network:
        yield network
