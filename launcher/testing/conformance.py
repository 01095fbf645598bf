"""The conformance suite: what `launcher.backend` promises, sentence by sentence, asked of any backend.

A backend's test file is a class with two fixtures:

    class TestFolder(Conformance):
        @pytest.fixture
        def build(self, settings):  # called for each backend object: a second one stands for another process
            return lambda: FolderBackend(settings)

        @pytest.fixture
        def faults(self, settings):
            return Faults(kill_worker=..., reasons={"silence": "a folder always answers"})

`settings` names folders below the test's own temporary one, which is also its HOME. Where backends differ the suite
asks `backend.lacks`; what the tests cannot bring about (`Faults`) is skipped, and says why. A slow backend raises
`patience_s`, `limit_s` and `slack_s`.
"""

from __future__ import annotations

import pytest

_PARTS = ("given", "starting", "asking", "bringing", "ending")
pytest.register_assert_rewrite(*(f"launcher.testing.sentences.{part}" for part in _PARTS))

from launcher.testing.faults import Faults  # noqa: E402  after the parts are to be rewritten
from launcher.testing.sentences.asking import Asking  # noqa: E402
from launcher.testing.sentences.bringing import Bringing  # noqa: E402
from launcher.testing.sentences.ending import Ending  # noqa: E402
from launcher.testing.sentences.given import Again, Given  # noqa: E402
from launcher.testing.sentences.starting import Starting  # noqa: E402


class Conformance(Starting, Asking, Bringing, Ending):
    """Everything. Inherit it under a name that starts with Test."""


__all__ = ["Again", "Asking", "Bringing", "Conformance", "Ending", "Faults", "Given", "Starting"]
