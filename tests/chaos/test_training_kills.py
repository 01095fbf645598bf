"""A real training, killed in the middle and again in its final evaluation: what comes back is one whole run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.runs.events import read
from tests.chaos.harness import Arena
from tests.worker.laid import until

pytestmark = [pytest.mark.slow, pytest.mark.training, pytest.mark.timeout(900)]
EPOCHS = 3
SPEC = f"""
model: yolo11n.yaml
data: {{reef: {{train_videos: 2, val_videos: 1, frames: 4, width: 64, height: 64}}}}
train: {{epochs: {EPOCHS}, imgsz: 64, batch: 4, workers: 0, optimizer: AdamW, lr0: 0.001, close_mosaic: 0, seed: 0}}
resources: {{device: cpu}}
resume: {{attempts: 3, restarts: 5}}
"""


def seen(arena: Arena, text: str) -> bool:
    """Whether the worker has written this into its stream."""
    return any(text in path.read_text(errors="replace") for path in arena.root.glob("runs/.local/*/out/stream.log"))


def shoot_when(arena: Arena, launcher: subprocess.Popen[bytes], text: str, kind: str) -> None:
    until(lambda: seen(arena, text), 300)
    assert arena.shoot(launcher, kind)


def test_killed_in_an_epoch_and_in_the_final_evaluation(tmp_path: Path) -> None:
    from ultralytics import YOLO

    arena = Arena(tmp_path / "arena", SPEC, seed=0)
    launcher = arena.launch()
    try:
        shoot_when(arena, launcher, '"epoch": 1, "epochs": 3', "trainer")
        shoot_when(arena, launcher, '"epoch": 3, "epochs": 3', "trainer")
        assert launcher.wait(600) == 0
    finally:
        launcher.kill()
        launcher.wait()
    arena.sound(EPOCHS)
    record = arena.record
    assert record is not None
    folder = arena.store.folder(record.id)
    warned = [event.fields["code"] for event in read(folder) if event.name == "warning"]
    assert warned.count("trainer-killed") == 2
    assert [event.fields["finishing"] for event in read(folder) if event.name == "resumed"][-1] is True
    assert YOLO(str(folder / "train/weights/best.pt")).model is not None
