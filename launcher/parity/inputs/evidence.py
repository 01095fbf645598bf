"""What is known of a run's inputs: a flat table of fields, from its record, events and files. Unknown is not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.analysis.changes import QUIET
from launcher.analysis.model import Kind, RunView, Status
from launcher.analysis.numbers import best_epoch
from launcher.errors import SamerunError
from launcher.files import sha256_file
from launcher.parity.inputs.checkpoint import facts
from launcher.runs import events as run_events
from launcher.runs import record as records
from launcher.runs.record import RunRecord

ARGUMENT, HAD, DATA, VERSION, FILE = "train.", "had.", "data.", "version.", "file."
"""Prefixes of fields: asked for, as the trainer had it, dataset, versions, files since they came."""
INITIAL, MODEL = "initial weights", "model"
RESTARTS, ENDED, BATCHES = "resumed at epochs", "ended", "batch by epoch"
INTACT, CHANGED = "as it came back", "changed since"
AS_HAD = ("device", "device_name", "amp", "batch", "accumulate", "workers", "threads", "optimizer", "lr0", "momentum")
MORE_HAD = ("world_size", "channels_last", "kernels", "platform", "images")
DIGESTS = ("images", "labels", "splits")
FILES = ("train/results.csv", "train/weights/best.pt", "train/weights/last.pt")
CHOSEN = ("optimizer", "lr0", "momentum", "batch")
"""What a checkpoint's train_args have as the trainer had it: engine/trainer.py writes its own choice into them."""


@dataclass(frozen=True)
class Evidence:
    """Fields by name; values are plain JSON. A field that is not known is not in it."""

    run: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def gather(run: RunView) -> Evidence:
    """Everything that is known of the run's inputs. Raises nothing: what cannot be read is not known."""
    found = _arguments(run)
    if run.model:
        found[MODEL] = run.model.replace("\\", "/").rsplit("/", 1)[-1]
    if run.kind is Kind.RUN:
        found |= _of_ours(run)
    elif run.train is not None:
        found |= _of_a_folder(run)
    if run.kind is not Kind.TABLE:
        found[ENDED] = _ended(run)
        found[RESTARTS] = list(run.results.restarts)
    return Evidence(run.id, found)


def _arguments(run: RunView) -> dict[str, Any]:
    """What was asked for: args.yaml, else what the trainer was given."""
    values = run.config.values or run.config.effective
    return {f"{ARGUMENT}{name}": _plain(value) for name, value in values.items() if name not in QUIET}


def _of_ours(run: RunView) -> dict[str, Any]:
    try:
        record = records.read(run.where)
    except SamerunError:
        return {}
    started = next((attempt.started for attempt in reversed(record.attempts) if attempt.started), None) or {}
    found = {f"{HAD}{name}": _plain(started[name]) for name in (*AS_HAD, *MORE_HAD) if started.get(name) is not None}
    if batches := _batches(run.where):
        found[BATCHES], found[f"{HAD}batch"] = batches, batches[-1]
    if weights := _initial(run.where, record):
        found[INITIAL] = weights
    data = record.data or {}
    found |= {f"{DATA}{name}": str(data[name]) for name in DIGESTS if data.get(name)}
    found |= {f"{VERSION}{name}": version for name, version in run.versions.items()}
    found |= {f"{FILE}{name}": state for name, state in _files(run.where, record).items()}
    found["bundle"] = record.bundle
    if record.worker:
        found["worker"] = record.worker
    return found


def _of_a_folder(run: RunView) -> dict[str, Any]:
    """What the last checkpoint says: Ultralytics writes its own arguments into it."""
    assert run.train is not None
    held = next((one for name in ("last", "best") if (one := facts(run.train / "weights" / f"{name}.pt"))), {})
    arguments = held.get("train_args") or {}
    found = {f"{HAD}{name}": _plain(arguments[name]) for name in CHOSEN if name in arguments}
    if str(found.get(f"{HAD}optimizer")).lower() == "auto":  # before the choice was written there
        found = {name: value for name, value in found.items() if name == f"{HAD}batch"}
    if held.get("version"):
        found[f"{VERSION}ultralytics"] = held["version"]
    return found


def _batches(folder: Path) -> list[int]:
    """The batch sizes that epochs had, each once, in their order."""
    counts = [event.count("batch") for event in run_events.read(folder) if event.name == "epoch"]
    return list(dict.fromkeys(count for count in counts if count))


def _initial(folder: Path, record: RunRecord) -> str:
    """What the very first process began from; the record of an attempt has what its last one did."""
    events = run_events.read(folder)
    told = (event for event in events if event.name in ("started", "resumed"))
    first = next(told, None)
    if first is not None:
        return str(first.fields.get("initial_weights") or "") if first.name == "started" else ""
    started = next((attempt.started for attempt in record.attempts if attempt.started), None) or {}
    return str(started.get("initial_weights") or "")


def _files(folder: Path, record: RunRecord) -> dict[str, str]:
    """Whether files still have the sha256 that the worker wrote, for a run whose files were compared with it."""
    if not record.checked:
        return {}
    try:
        entries = json.loads((folder / "manifest.json").read_bytes())["files"]
        digests = {str(entry["path"]): str(entry["sha256"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {}
    for name in FILES:
        if name in digests and (folder / name).is_file():
            found[name] = INTACT if sha256_file(folder / name) == digests[name] else CHANGED
    return found


def _ended(run: RunView) -> str:
    """How it ended; an early stop is `by patience` where the table bears that out."""
    patience, best = run.config.number("patience"), best_epoch(run.results)
    epochs = run.results.epochs
    if run.status is Status.STOPPED and patience and best and epochs and epochs[-1] - best >= patience:
        return f"early, by patience {patience:g}"
    return str(run.status)


def digest(evidence: Evidence) -> str:
    """Of all fields, to know again what was compared."""
    return hashlib.sha256(json.dumps(dict(evidence.fields), sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """As JSON would have it: a tuple is a list, and what JSON has no word for is its text."""
    return json.loads(json.dumps(value, default=str))
