"""What holds for the tests of runs: a driver that waits for nothing."""

from __future__ import annotations

import pytest

from launcher.runs import following


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.001)
