"""What the tests of the backend are given: an emulated Kaggle, and `launch` in this process with the stub payload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kaggle import KaggleBackend
from launcher.runs.driving import following
from launcher.settings import Settings
from launcher.testing.attempts import AttemptMaker
from tests.backends.kaggle import world
from tests.emulators.kaggle import KaggleEmulator


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleEmulator]:
    """Signed in as alice. `plain`: nothing to mount, which is quicker; and stubs leave marks outside of /kaggle."""
    with KaggleEmulator(tmp_path / "kaggle", sandbox="plain") as kaggle:
        world.sign_in(monkeypatch, kaggle)
        monkeypatch.setattr(following, "RETRY_S", 0.02)
        monkeypatch.setattr(following, "WAIT_S", 0.1)
        yield kaggle


@pytest.fixture
def settings(tmp_path: Path, kaggle: KaggleEmulator) -> Settings:
    return world.settings_for(kaggle, tmp_path)


@pytest.fixture
def backend(settings: Settings) -> KaggleBackend:
    return KaggleBackend(settings)


@pytest.fixture
def make_attempt(tmp_path: Path, settings: Settings) -> Iterator[AttemptMaker]:
    maker = AttemptMaker(tmp_path / "made", settings.cache_dir, device="cpu")
    yield maker
    maker.end_all()


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kaggle: KaggleEmulator) -> world.Launch:
    """`launch(words...)` returns the exit code; see `world.Launch`."""
    monkeypatch.chdir(tmp_path)
    launch = world.Launch(tmp_path, kaggle)
    for name, value in launch.env.items():
        monkeypatch.setenv(name, value)
    return launch
