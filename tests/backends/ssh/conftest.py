from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.ssh import SshBackend
from launcher.runs.driving import following
from launcher.settings import Settings
from tests.backends.ssh import world
from tests.backends.ssh.world import Host, Launch, Maker
from tests.emulators.ssh import Sshd, SwallowingProxy


@pytest.fixture
def host(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """`gpubox`. Its home folder is below the test's own, where secrets are looked for; the server's log is not."""
    with (
        Sshd(tmp_path_factory.mktemp("sshd"), home=tmp_path / "host") as sshd,
        SwallowingProxy((sshd.address, sshd.port)) as proxy,
    ):
        host = Host(sshd, proxy)
        host.know(Path(os.environ["HOME"]))
        yield host


@pytest.fixture
def settings(tmp_path: Path, host: Host) -> Settings:
    return world.settings_for(tmp_path)


@pytest.fixture
def backend(settings: Settings) -> SshBackend:
    return SshBackend(settings)


@pytest.fixture
def make_attempt(tmp_path: Path, settings: Settings) -> Iterator[Maker]:
    maker = Maker(tmp_path / "made", settings.cache_dir, device="cpu")
    yield maker
    maker.end_all()


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host) -> Launch:
    """`launch(words...)` returns the exit code; see `world.Launch`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(following, "RETRY_S", 0.05)
    launch = Launch(tmp_path, host)
    for name, value in launch.env.items():
        monkeypatch.setenv(name, value)
    return launch
