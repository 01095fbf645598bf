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


def samples(settings: Settings, machine: str) -> list[Past]:
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
        seconds = [e.number("seconds") or 0.0 for e in events.read(store.folder(row.id)) if e.name == "epoch"]
        arguments, images = started.get("arguments") or {}, started.get("images") or {}
        if seconds and arguments and images:
            median = sorted(seconds)[len(seconds) // 2]
            found.append(
                Past(
                    run=row.id,
                    model=str(arguments.get("model", "")),
                    imgsz=int(arguments.get("imgsz", 0)),
                    batch=int(started.get("batch", 0)),
                    device=str(started.get("device", "")),
                    images=int(images.get("train", 0)),
                    seconds_per_epoch=median,
                    machine=machine,
                    val_images=int(images.get("val", 0)),
                )
            )
    return found
