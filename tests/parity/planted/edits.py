"""Changes to a run folder after a sound training: what goes wrong on the machine, on the way, or by someone's hand.

`on_machine` says that the file was already so when the machine wrote its digest down: digests bear it out then.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.files import sha256_file

Edit = Callable[[Path], None]
Rows = list[dict[str, str]]
Change = Callable[[Rows], Rows]
MAP = "metrics/mAP50-95(B)"


def table(change: Change, *, on_machine: bool = True) -> Edit:
    """results.csv with other rows."""

    def edit(folder: Path) -> None:
        rewrite(folder / "train" / "results.csv", change)
        if on_machine:
            rehashed(folder)

    return edit


def rewrite(file: Path, change: Change) -> None:
    """The table with other rows."""
    with file.open(newline="") as stream:
        rows = change(list(csv.DictReader(stream)))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(out.getvalue())


def put(column: str, epoch: int, text: str) -> Change:
    """One cell."""
    return lambda rows: [{**row, column: text} if int(row["epoch"]) == epoch else row for row in rows]


def times(factor: float, epoch: int = 0, column: str = MAP) -> Change:
    """One metric of an epoch (0: all) by a factor."""

    def change(rows: Rows) -> Rows:
        for row in rows:
            if not epoch or int(row["epoch"]) == epoch:
                row[column] = f"{float(row[column]) * factor:.6g}"
        return rows

    return change


def padded(folder: Path) -> None:
    """results.csv as before 8.1: blanks around names and numbers."""
    file = folder / "results.csv"
    lines = file.read_text().splitlines()
    file.write_text("".join(",".join(cell.rjust(23) for cell in line.split(",")) + "\n" for line in lines))


def weights(change: Callable[[Path], None], *, on_machine: bool = True) -> Edit:
    """Other checkpoints; `change` gets the folder that they lie in."""

    def edit(folder: Path) -> None:
        change(folder / "train" / "weights")
        if on_machine:
            rehashed(folder)

    return edit


def swapped(folder: Path) -> None:
    """best.pt and last.pt have each other's names."""
    best = (folder / "best.pt").read_bytes()
    (folder / "best.pt").write_bytes((folder / "last.pt").read_bytes())
    (folder / "last.pt").write_bytes(best)


def events(change: Callable[[dict[str, Any]], None]) -> Edit:
    """What the worker told, the record's copy of it with it."""

    def edit(folder: Path) -> None:
        file = folder / "events.jsonl"
        told = [json.loads(line) for line in file.read_text().splitlines()]
        for event in told:
            change(event)
        file.write_text("".join(json.dumps(event) + "\n" for event in told))
        record = json.loads((folder / "run.json").read_text())
        for attempt in record["attempts"]:
            change(started := {**attempt["started"], "event": "started"})
            attempt["started"] = {name: value for name, value in started.items() if name != "event"}
        (folder / "run.json").write_text(json.dumps(record))

    return edit


def had(**values: Any) -> Edit:
    """The trainer is said to have had something else; a table is taken over key by key."""

    def change(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            for name, value in values.items():
                event[name] = {**event[name], **value} if isinstance(value, Mapping) else value

    return events(change)


def without(*names: str) -> Edit:
    """Files that did not come back."""

    def edit(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return edit


def both(*edits: Edit) -> Edit:
    """One after the other."""

    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def rehashed(folder: Path) -> None:
    """manifest.json as the machine would have written it with these files."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for entry in manifest["files"]:
        if (folder / entry["path"]).is_file():
            entry["sha256"] = sha256_file(folder / entry["path"])
            entry["size"] = (folder / entry["path"]).stat().st_size
    file.write_text(json.dumps(manifest))
