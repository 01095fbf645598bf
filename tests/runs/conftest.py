"""What holds for the tests of runs: a driver that waits for nothing."""

from __future__ import annotations

import pytest

from launcher import registry
from launcher.runs.driving import following
from tests.runs.scripted import Loaded, World


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.001)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The commands find this world's runs, and its backend."""

    def load(world: World) -> World:
        monkeypatch.setenv("SAMERUN_RUNS_DIR", str(world.settings.runs_dir))
        monkeypatch.setenv("SAMERUN_CACHE_DIR", str(world.settings.cache_dir))
        monkeypatch.setattr(registry, "load", lambda name, settings: world.backend)
        return world

    return load
