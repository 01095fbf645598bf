"""The example keeps the contract: this is all that a backend's own tests need."""

from __future__ import annotations

import os
import signal

import pytest
from samerun_example import ExampleBackend  # type: ignore[import-not-found]  # checked where it is installed

from launcher.backend import Handle
from launcher.settings import Settings
from launcher.testing.conformance import Again, Conformance, Faults


class TestExample(Conformance):
    """The whole suite, on a folder."""

    @pytest.fixture
    def build(self, settings: Settings) -> Again:
        return lambda: ExampleBackend(settings)

    @pytest.fixture
    def faults(self, settings: Settings) -> Faults:
        def kill_worker(handle: Handle) -> None:
            started = settings.runs_dir / ".example" / handle.attempt / "state" / "started"
            os.kill(int(started.read_text()), signal.SIGKILL)

        return Faults(kill_worker=kill_worker, reasons={"silence": "a folder always answers"})
