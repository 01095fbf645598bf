"""What past runs here say about speed: samples of epochs, for the plan's estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.errors import SamerunError
from launcher.runs import events
from launcher.runs.store import Store
from launcher.settings import Settings

if TYPE_CHECKING:
    from launcher.plan.estimate import Past

LOOKED_AT = 20  # newest runs that are looked through


def samples(settings: Settings) -> list[Past]:
    """Measured epochs of the newest finished runs in the runs folder, one sample a run."""
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
        epochs = [event for event in events.read(store.folder(row.id)) if event.name == "epoch"]
        arguments, images = started.get("arguments") or {}, started.get("images") or {}
        if epochs and arguments and images:
            seconds = sorted(event.number("seconds") or 0.0 for event in epochs)
            found.append(
                Past(
                    run=row.id,
                    model=record.model,
                    imgsz=int(arguments.get("imgsz", 0)),
                    batch=int(started.get("batch", 0)),
                    device=str(started.get("device", "")),
                    images=int(images.get("train", 0)),
                    val_images=int(images.get("val", 0)),
                    seconds_per_epoch=seconds[len(seconds) // 2],
                    memory_gb=max(event.number("memory_gb") or 0.0 for event in epochs),
                    machine=record.machine,
                )
            )
    return found
