"""A real training, killed in the middle and again in its final evaluation: what comes back is one whole run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.runs.events import read
from launcher.runs.state import RunState
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


def test_trainer_killed_then_the_supervisor_and_attach_goes_on(tmp_path: Path) -> None:
    arena = Arena(tmp_path / "arena", SPEC.replace("epochs: 3", "epochs: 4"), seed=0)
    launcher = arena.launch()
    try:
        shoot_when(arena, launcher, '"epoch": 2, "epochs": 4', "trainer")
        until(lambda: seen(arena, '"event": "resumed"'), 300)  # args.yaml is another by now
        assert arena.shoot(launcher, "launcher")
        assert arena.shoot(launcher, "supervisor")
        launcher.wait(10)
        launcher = arena.launch(attach=True)
        assert launcher.wait(600) == 0
    finally:
        launcher.kill()
        launcher.wait()
    arena.sound(4)
    record = arena.record
    assert record is not None
    assert len(record.attempts) == 2
    assert (record.attempts[1].resumed_epoch or 0) >= 2


def test_train_time_is_not_given_twice_to_a_training_that_is_killed(tmp_path: Path) -> None:
    hours = 15.0 / 3600
    arena = Arena(tmp_path / "arena", SPEC.replace("epochs: 3", f"epochs: 100, time: {hours}, plots: false"), seed=0)
    launcher = arena.launch()
    try:
        until(lambda: seen(arena, '"event": "checkpoint"') and seen(arena, '"epoch": 4, "files"'), 300)
        assert arena.shoot(launcher, "trainer")
        assert launcher.wait(600) == 0
    finally:
        launcher.kill()
        launcher.wait()
    record = arena.record
    assert record is not None
    assert record.state is RunState.VERIFIED
    rows = (arena.store.folder(record.id) / "train/results.csv").read_text().splitlines()[1:]
    seconds = [float(row.split(",")[1]) for row in rows]
    assert seconds == sorted(seconds), "the time column goes on where the killed process left it"
    assert len(rows) > 5, "and what was left is used"
    assert 10 < seconds[-1] < 25
