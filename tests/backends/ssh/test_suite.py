"""The conformance suite on a real OpenSSH server, through a network that can fall silent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import SamerunError
from launcher.settings import Settings
from launcher.testing import watched
from launcher.testing.conformance import Again, Conformance, Faults
from tests.backends.ssh import world
from tests.backends.ssh.world import Host, Maker


class TestSsh(Conformance):
    """Everything. The host's Python is one whose replies can be held back."""

    device = "cpu"
    slack_s = 4.0

    @pytest.fixture
    def python(self, host: Host) -> Path:
        return world.wrapper(host)

    @pytest.fixture
    def settings(self, tmp_path: Path, host: Host) -> Settings:
        return world.settings_for(tmp_path)

    @pytest.fixture
    def build(self, settings: Settings, python: Path) -> Again:
        return lambda: world.remembering(settings, python=python)

    @pytest.fixture
    def faults(self, host: Host, tmp_path: Path) -> Faults:
        return world.faults_of(host, tmp_path / "home")

    @pytest.fixture
    def make_attempt(self, again: Again, settings: Settings, tmp_path: Path, python: Path) -> Iterator[Maker]:
        resources = world.options(python=str(python))
        maker = Maker(tmp_path / "made", settings.cache_dir, device=self.device, resources=resources)
        yield maker
        maker.end_all()
        backend = again()
        for attempt in maker.made:
            with contextlib.suppress(SamerunError, AssertionError):
                if (handle := backend.find(attempt)) is not None:
                    watched.ended(backend, handle, self.patience_s)
                    backend.release(handle)
