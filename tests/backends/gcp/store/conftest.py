"""An emulated Cloud Storage for each test, the store on it, and boxes to carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.gcp.store import Store
from tests.backends.gcp.store.world import BUCKET, FakeBox
from tests.emulators.storage import StorageEmulator


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageEmulator]:
    with StorageEmulator(tmp_path / "storage") as emulator:
        emulator.bucket(BUCKET)
        for name, value in emulator.env.items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def store(storage: StorageEmulator) -> Store:
    return Store(BUCKET, seconds=5)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FakeBox]:
    box = FakeBox(tmp_path / "box")
    yield box
    box.die()
