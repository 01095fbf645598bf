"""What the tests of the backend are given: a project, and `launch` in this process with the stub payload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.gcp import GcpBackend
from launcher.runs.driving import following
from launcher.settings import Settings
from tests.backends.gcp import world
from tests.backends.gcp.world import Cloud, Launch, Maker
from tests.emulators.compute import ComputeEmulator
from tests.emulators.storage import StorageEmulator


@pytest.fixture
def cloud(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Real machines, and clocks as fast as the wall's. The emulators' own files lie elsewhere."""
    elsewhere = tmp_path_factory.mktemp("google")
    with StorageEmulator(elsewhere / "storage") as storage:
        storage.bucket(world.BUCKET)
        given = {"STORAGE_EMULATOR_HOST": storage.endpoint}
        with ComputeEmulator(elsewhere / "gce", environment=given) as compute:
            cloud = Cloud(compute, storage, tmp_path)
            world.enter(monkeypatch, cloud)
            yield cloud
        assert compute.processes_alive == 0


@pytest.fixture
def settings(cloud: Cloud) -> Settings:
    return cloud.settings()


@pytest.fixture
def backend(settings: Settings) -> GcpBackend:
    return GcpBackend(settings)


@pytest.fixture
def make_attempt(tmp_path: Path, settings: Settings, cloud: Cloud) -> Iterator[Maker]:
    maker = Maker(tmp_path / "made", settings.cache_dir, device="cpu", resources=cloud.options())
    yield maker
    maker.end_all()


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> Launch:
    """`launch(words...)` returns the exit code."""
    monkeypatch.chdir(cloud.folder)
    monkeypatch.setattr(following, "RETRY_S", 0.05)
    monkeypatch.setattr(following, "WAIT_S", 0.2)
    return Launch(cloud, monkeypatch)
