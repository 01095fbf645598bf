"""A backend on whose machine datasets lie: this machine, and the folders below $ATTACHING_ROOT, named as on Kaggle.

`alice/reef` lies in `alice/reef`, its version 3 in `alice/reef/3`. The machine is otherwise that of the local backend.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from backends.local import LocalBackend, LocalRequest
from launcher.backend import Attached, Attempt

ROOT = "ATTACHING_ROOT"
POINTS = "[launcher.backends]\nattaching = tests.cli.attaching:AttachingBackend\n"


class AttachingBackend(LocalBackend):
    """See `launcher.backend.Backend`."""

    name = "attaching"
    attaches = frozenset({"kaggle-dataset", "kaggle-competition"})

    def prepare(self, attempt: Attempt) -> LocalRequest:
        """What a service's adapter adds: where the data lies, and the command that prepares it."""
        request = super().prepare(attempt)
        if not isinstance(attempt.data, Attached):
            return request
        assert attempt.need.attached == attempt.data
        data_root = str(Path(os.environ[ROOT]) / attempt.data.name)
        before = [["{python}", "{worker}", "prepare", "{box}"]]
        return replace(request, attempt_json={**request.attempt_json, "data_root": data_root, "before": before})


def install(site: Path) -> None:
    """The entry point, as an installer leaves it."""
    info = site / "attaching-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attaching\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
