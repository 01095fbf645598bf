"""SIGKILL at random moments for launcher, supervisor and trainer: the run is verified in the end, each epoch once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.harness import Arena

EPOCHS = 12
SPEC = f"""
model: yolo11n.yaml
data: {{reef: {{train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}}}
train: {{epochs: {EPOCHS}}}
resume: {{attempts: 100, restarts: 100}}
"""


def fight(root: Path, kills: int, seed: int) -> Counter[str]:
    """Run after run, until that many kills were made."""
    made: Counter[str] = Counter()
    number = 0
    while made.total() < kills:
        number += 1
        arena = Arena(root / str(number), SPEC, seed + number, SAMERUN_STUB_EPOCH_S="0.1")
        arena.stub()
        arena.under_fire(kills - made.total(), 0.8)
        arena.sound(EPOCHS)
        made += arena.kills
        assert number <= kills
    return made


def test_ten_kills(tmp_path: Path) -> None:
    assert fight(tmp_path, 10, seed=1).total() >= 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills(tmp_path: Path) -> None:
    made = fight(tmp_path, 50, seed=1000)
    assert min(made[kind] for kind in ("launcher", "supervisor", "trainer")) >= 5
