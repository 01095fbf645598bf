"""How the tests of the command line call it: as a program, with the stub payload in the place of the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import launcher.testing

PAYLOAD = Path(launcher.testing.__file__).parent / "payload.py"
REEF = "{seed: 1, train_videos: 1, val_videos: 1, frames: 3}"
SPEC = f"model: yolo11n.yaml\ndata: {{reef: {REEF}}}\ntrain: {{epochs: 3}}\n"


@dataclass(frozen=True)
class Said:
    """What a call of `launch` said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Launch = Callable[..., Said]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """`launch(*arguments, **environment)`, in a folder of its own."""
    monkeypatch.setenv("SAMERUN_PAYLOAD", str(PAYLOAD))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path, **environment: str) -> Said:
        argv = [sys.executable, "-m", "launcher", *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
        return Said(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec on a tiny reef."""
    file = tmp_path / "tiny.yaml"
    file.write_text(SPEC)
    return file
