"""What past runs here say about speed: samples of epochs, for the plan's estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.errors import SamerunError
from launcher.runs import events
from launcher.runs.store import Store
from launcher.settings import Settings

if TYPE_CHECKING:
    from launcher.plan.estimate import Past

LOOKED_AT = 20  # newest runs that are looked through


def samples(settings: Settings) -> list[Past]:
    """Measured epochs of the newest verified runs in the runs folder: a sample for each epoch."""
    from launcher.plan.estimate import Past

    store = Store(settings.runs_dir)
    found: list[Past] = []
    for row in store.rows(LOOKED_AT):
        try:
            record = store.read(row.id)
        except SamerunError:
            continue
        if record.state != "verified" or record.attempt is None or record.payload is not None or not record.data:
            continue
        started = record.attempt.started or {}
        said = events.read(store.folder(row.id))
        epochs = [event for event in said if event.name == "epoch" and event.number("seconds")]
        arguments, images = started.get("arguments") or {}, started.get("images") or {}
        if epochs and arguments and images:
            memory = max(event.number("memory_gb") or 0.0 for event in epochs)
            start_up = start_up_of(said)
            found += [
                Past(
                    run=row.id,
                    model=record.model,
                    imgsz=int(arguments.get("imgsz", 0)),
                    batch=int(started.get("batch", 0)),
                    device=str(started.get("device", "")),
                    images=int(images.get("train", 0)),
                    val_images=int(images.get("val", 0)),
                    seconds_per_epoch=event.number("seconds") or 0.0,
                    memory_gb=memory,
                    start_up_seconds=start_up,
                    machine=record.machine,
                )
                for event in epochs
            ]
    return found


def start_up_of(said: Sequence[events.Event]) -> float | None:
    """Seconds from the worker's start to its training's, by its own clock; None where it was started again."""
    started = [event for event in said if event.name == "started"]
    done = said[-1] if said and said[-1].name == "done" else None
    lasted = done.number("seconds") if done is not None else None
    if done is None or lasted is None or len(started) != 1 or started[0].attempt != done.attempt:
        return None
    seconds = started[0].time - (done.time - lasted)
    return seconds if seconds > 0 else None
