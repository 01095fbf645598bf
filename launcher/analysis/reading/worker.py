"""What a run of ours knows of itself: its record, its events and its manifest, as the parts of a RunView."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.analysis.reading.view import Moment, Repair, Results
from launcher.runs.events import Event
from launcher.runs.record import RunRecord

QUIET = frozenset({"heartbeat", "epoch", "checkpoint"})
"""Events that come all the time: what they say is in the series."""
_EFFECTIVE = ("batch", "amp", "workers", "optimizer", "lr0", "momentum", "device")
_HARDWARE = ("device", "device_name", "threads", "world_size", "platform")
SIZE_LIMIT = 16 << 20  # bytes of a JSON file of ours


def moments(events: Sequence[Event]) -> tuple[Moment, ...]:
    """Events that a report shows, each with the epoch that it happened in (the one that follows the last finished)."""
    found, epoch, of = [], 0, 0
    for event in events:
        if event.name in ("epoch", "resumed"):
            epoch, of = event.count("epoch"), event.count("epochs") or of
        if event.name not in QUIET:
            # What the trainer really had is in the configuration.
            fields = {} if event.name == "started" else event.fields
            within = event.name != "final_eval" and epoch and epoch != of
            found.append(Moment(event.name, event.time, event.attempt, epoch + 1 if within else None, fields))
    return tuple(found)


def effective(started: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the trainer had, with what it made of them."""
    arguments = started.get("arguments")
    values = dict(arguments) if isinstance(arguments, dict) else {}
    return {**values, **{name: started[name] for name in _EFFECTIVE if started.get(name) is not None}}


def hardware(record: RunRecord, started: Mapping[str, Any]) -> dict[str, str]:
    """Where it ran, in the words of the worker."""
    found = {"backend": record.backend, "machine": record.machine}
    found |= {name: str(started[name]) for name in _HARDWARE if started.get(name) is not None}
    return {name: value for name, value in found.items() if value}


def versions(started: Mapping[str, Any]) -> dict[str, str]:
    """What was installed where it trained."""
    found = started.get("versions")
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}


def memory(events: Sequence[Event], epochs: Sequence[int]) -> tuple[float, ...]:
    """GB by epoch; empty where no event has any. 0 is Ultralytics' word for not known."""
    found = {event.count("epoch"): event.number("memory_gb") or math.nan for event in events if event.name == "epoch"}
    series = tuple(found.get(epoch, math.nan) for epoch in epochs)
    return series if any(map(math.isfinite, series)) else ()


def final_eval(events: Sequence[Event]) -> dict[str, float]:
    """Metrics of best.pt at the end."""
    last = next((event for event in reversed(events) if event.name == "final_eval"), None)
    found = last.table("metrics") if last is not None else {}
    return {name: value for name, value in found.items() if value is not None}


def positives(record: RunRecord) -> int | None:
    """Labelled boxes of the validation set, where the dataset's counts tell; only for one class.

    With several classes Ultralytics writes the mean over them, which is a share of nothing that is counted.
    """
    facts = (record.data or {}).get("facts")
    if not isinstance(facts, dict) or facts.get("n_test") or facts.get("classes") != 1:
        return None
    boxes, train = facts.get("boxes"), facts.get("train_boxes")
    if not isinstance(boxes, int) or not isinstance(train, int) or boxes <= train:
        return None
    return boxes - train


def results(events: Sequence[Event]) -> Results:
    """The table as the worker told it, for a run whose results.csv is not here (yet)."""
    rows: dict[int, dict[str, float]] = {}
    seconds: dict[int, float] = {}
    for event in events:
        if event.name != "epoch" or not (epoch := event.count("epoch")):
            continue
        losses = {f"train/{name}": value for name, value in event.table("losses").items()}
        row = {**losses, **event.table("metrics"), **event.table("lr")}
        rows[epoch] = {name: math.nan if value is None else value for name, value in row.items()}
        seconds[epoch] = event.number("seconds") or math.nan
    epochs = tuple(sorted(rows))
    names = dict.fromkeys(name for epoch in epochs for name in rows[epoch])
    columns = {name: tuple(rows[epoch].get(name, math.nan) for epoch in epochs) for name in names}
    text = "there is no results.csv; the epochs are as the worker told them"
    repairs = (Repair("from-events", text, len(epochs)),) if epochs else ()
    return Results(epochs, columns, tuple(seconds[epoch] for epoch in epochs), repairs=repairs)


def restarts(events: Sequence[Event]) -> tuple[int, ...]:
    """Epochs that were the first of a resumed process, as the worker told."""
    return tuple(sorted({event.count("epoch") + 1 for event in events if event.name == "resumed"}))


def with_restarts(results: Results, events: Sequence[Event]) -> Results:
    """The table with the restarts that the worker told of: `time` began again there, even where it did not fall."""
    new = set(restarts(events)) - set(results.restarts)
    rows = zip(results.epochs, results.seconds, results.column("time"), strict=True)
    seconds = tuple(time if epoch in new and math.isfinite(time) else s for epoch, s, time in rows)
    return replace(results, seconds=seconds, restarts=tuple(sorted(new | set(results.restarts))))


def written(events: Sequence[Event], folder: Path) -> dict[str, float]:
    """Path to when the file was written, in Unix seconds by the worker's clock: as the last manifest says it, else as
    the event of the last checkpoint that the file was written for.
    """
    found: dict[str, float] = {}
    for event in events:
        files = event.fields.get("files") if event.name == "checkpoint" else None
        for file in files if isinstance(files, list) else ():
            if isinstance(file, dict) and not str(file.get("path")).endswith("args.yaml"):  # from the start
                found[str(file.get("path"))] = event.time
    entries = read_json(folder / "manifest.json").get("files")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("written"), (int, float)):
            found[str(entry.get("path"))] = float(entry["written"])
    return found


def verified(folder: Path, record: RunRecord) -> dict[str, int]:
    """Path to size of the files whose sha256 was compared when they came back."""
    if not record.checked:
        return {}
    entries = read_json(folder / "manifest.json").get("files")
    found = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("size"), int):
            found[str(entry.get("path"))] = int(entry["size"])
    return found


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of ours; empty where it is missing or holds something else."""
    try:
        if file.stat().st_size > SIZE_LIMIT:
            return {}
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
