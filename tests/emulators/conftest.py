"""An emulated Kaggle for each test, and the clients that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.clients import Bare, Cli, sdk
from tests.emulators.kaggle import KaggleEmulator


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleEmulator]:
    with KaggleEmulator(tmp_path / "kaggle") as emulator:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield emulator
    assert emulator.processes_alive == 0


@pytest.fixture
def client(kaggle: KaggleEmulator) -> Any:
    """The real SDK as alice."""
    return sdk(kaggle)


@pytest.fixture
def bare(kaggle: KaggleEmulator) -> Bare:
    return Bare(kaggle)


@pytest.fixture
def cli(kaggle: KaggleEmulator, tmp_path: Path) -> Cli:
    return Cli(kaggle, tmp_path)
