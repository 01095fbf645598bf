"""The conformance suite against the emulated Kaggle: real kernels, run by the emulator, spoken to by Kaggle's SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kaggle import KaggleBackend
from launcher.settings import Settings
from launcher.testing.conformance import Again, Conformance, Faults
from tests.backends.kaggle import world
from tests.emulators.kaggle import KaggleEmulator


class TestKaggle(Conformance):
    """Everything, in kernels without a GPU: the emulated image has this machine's devices."""

    device = "cpu"
    patience_s = 60.0
    slack_s = 5.0

    @pytest.fixture
    def kaggle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleEmulator]:
        # `plain`: the suite's stub leaves marks and looks for gates outside of /kaggle.
        with KaggleEmulator(tmp_path / "kaggle", sandbox="plain", max_cpu_sessions=50) as kaggle:
            world.sign_in(monkeypatch, kaggle)
            yield kaggle

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kaggle: KaggleEmulator) -> Settings:
        for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            monkeypatch.setenv(variable, str(tmp_path / "home"))
        (tmp_path / "home").mkdir(exist_ok=True)
        return world.settings_for(kaggle, tmp_path)

    @pytest.fixture
    def build(self, settings: Settings) -> Again:
        return lambda: KaggleBackend(settings)

    @pytest.fixture
    def faults(self, kaggle: KaggleEmulator) -> Faults:
        return world.faults_of(kaggle)
