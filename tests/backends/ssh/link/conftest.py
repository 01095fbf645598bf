"""A machine, a network to it that can fail, and the way there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.ssh.link import Link, Where
from tests.emulators.ssh import Sshd, SwallowingProxy

REPOSITORY = Path(__file__).parents[4]
CODE = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from backends.ssh.agent.tree import main
sys.exit(main(sys.argv[1:]))
"""
AGENT = (sys.executable, "-c", CODE)
"""The agent's transfer half, run from the source tree."""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "machine") as server:
        yield server
    assert not server.processes()


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[SwallowingProxy]:
    with SwallowingProxy((sshd.address, sshd.port)) as network:
        yield network


@pytest.fixture
def linked(sshd: Sshd) -> Iterator[Callable[..., Link]]:
    """Makes links to the machine: `linked(seconds, port=...)`."""
    made = []

    def make(seconds: float = 10.0, *, port: int | None = None, **more: object) -> Link:
        fields = {"identity": (str(sshd.identity),), "host_keys": (sshd.host_key,), **more}
        made.append(Link(Where(sshd.address, sshd.user, port or sshd.port, **fields), seconds=seconds))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for link in made:
        link.close()
