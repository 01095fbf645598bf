"""An emulator, some files to send to it, and the datasets of its account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kaggle.datasets import Datasets, Wanted
from launcher.backend import InputFile
from launcher.bundle.shards import lay_out
from tests.backends.kaggle.datasets.bench import (
    TARGET,
    Puts,
    at,
    written,
)
from tests.emulators.kaggle import KaggleEmulator


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[KaggleEmulator]:
    with KaggleEmulator(tmp_path / "kaggle", dataset_seconds=0.02) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> list[InputFile]:
    return written(tmp_path / "data")


@pytest.fixture
def wanted(files: list[InputFile]) -> Wanted:
    made = Wanted("data", lay_out({file.sha256: (file.source, file.size) for file in files}, TARGET))
    assert len(made.shards.shards) == 5
    return made


@pytest.fixture
def datasets(kaggle: KaggleEmulator, tmp_path: Path) -> Datasets:
    return at(kaggle.endpoint, tmp_path / "cache")


@pytest.fixture
def puts(kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch) -> Puts:
    return Puts(kaggle, monkeypatch)
