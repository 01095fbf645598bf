"""The conformance suite on emulated machines that are real: sshd, startup script, carrier, worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.gcp import GcpBackend
from launcher.settings import Settings
from launcher.testing.conformance import Again, Conformance, Faults
from tests.backends.gcp import world
from tests.backends.gcp.world import Cloud, Maker


class TestGcp(Conformance):
    """Everything, on machines without a GPU."""

    device = "cpu"
    patience_s = 60.0
    limit_s = 90.0
    slack_s = 8.0

    @pytest.fixture
    def settings(self, cloud: Cloud) -> Settings:
        return cloud.settings()

    @pytest.fixture
    def build(self, settings: Settings) -> Again:
        return lambda: GcpBackend(settings)

    @pytest.fixture
    def faults(self, cloud: Cloud) -> Faults:
        return world.faults_of(cloud)

    @pytest.fixture
    def make_attempt(self, again: Again, settings: Settings, cloud: Cloud, tmp_path: Path) -> Iterator[Maker]:
        maker = Maker(tmp_path / "made", settings.cache_dir, device=self.device, resources=cloud.options())
        yield maker
        world.ended_all(again(), maker, self.patience_s)
