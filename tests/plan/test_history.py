"""What past runs say: a sample for each epoch, and how long a run needed before its first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.runs.history import samples, start_up_of
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings


def line(seq: int, event: str, time: float, attempt: str = "job-a1", **fields: Any) -> str:
    return json.dumps({"attempt": attempt, "seq": seq, "time": time, "event": event, **fields})


def epoch(seq: int, seconds: float) -> str:
    return line(seq, "epoch", 0.0, seconds=seconds, memory_gb=1.5)


STARTED = line(1, "started", 112.5)
LINES = [STARTED, epoch(2, 30.0), epoch(3, 10.0), epoch(4, 12.0), line(5, "done", 180.0, seconds=80.0)]


def settings_with(lines: list[str]) -> Settings:
    """A runs folder with one verified run that printed these events."""
    settings = Settings.load()
    store = Store(settings.runs_dir)
    started = {"arguments": {"imgsz": 96}, "images": {"train": 8, "val": 4}, "batch": 4, "device": "cpu"}
    attempt = AttemptRecord("job-a1", 1, "local", 0.0, started=started)
    record = RunRecord(
        id="job", name="job", backend="local", state=RunState.VERIFIED, key="k", bundle="b", created=1.0, updated=1.0,
        model="yolo11n.yaml", machine="box", data={"root": "/d"}, attempts=(attempt,),
    )  # fmt: skip
    store.create(record, {"events.jsonl": "".join(f"{one}\n" for one in lines).encode()})
    return settings


def test_each_epoch_is_a_sample() -> None:
    found = samples(settings_with(LINES))
    assert [one.seconds_per_epoch for one in found] == [30.0, 10.0, 12.0]
    assert {(one.run, one.imgsz, one.images, one.val_images, one.memory_gb) for one in found} == {
        ("job", 96, 8, 4, 1.5)
    }
    assert {one.start_up_seconds for one in found} == {12.5}


def test_a_run_that_was_started_again_says_nothing_of_the_start_up(tmp_path: Path) -> None:
    assert start_up_of([]) is None
    found = samples(settings_with([STARTED, line(2, "started", 150.0), *LINES[2:]]))
    assert {one.start_up_seconds for one in found} == {None}
