"""`launch show`: everything about one run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.cli import out
from launcher.errors import Exit
from launcher.files import storage, write_atomic
from launcher.runs import attached
from launcher.runs.look import look
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.store import open_run
from launcher.settings import Settings


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch show", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON line on stdout")
    parser.add_argument("--svg", type=Path, help="draw the run's epochs as the live table, into this file")
    args = parser.parse_args(argv)
    settings, store, record = open_run(Settings.load(), args.run)
    record = look(settings, store, record)
    if args.svg is not None:
        _draw(record, store.folder(record.id), args.svg)
        return Exit.OK
    if args.json:
        out.emit({**record.as_json(), "dir": str(store.folder(record.id))})
        return Exit.OK
    for name, text in _rows(record, str(store.folder(record.id))):
        print(f"{name:<10} {text}")
    return Exit.OK


def _draw(record: RunRecord, folder: Path, to: Path) -> None:
    """The live table as a picture."""
    import io
    import re

    from rich.console import Console

    from launcher.cli.follow import describe, render
    from launcher.runs.events import read

    events = read(folder)
    notes = [text for event in events if (text := describe(event))]
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    console.print(render([event for event in events if event.name == "epoch"], record, notes[-4:], ""))
    with storage("drawing the table"):
        svg = console.export_svg(title=f"launch {record.name}")
        # rich has the picture fetch its font from a content network; the reader's own monospace font will do.
        write_atomic(to.absolute(), re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).encode())
    out.say(f"  {to}")


def _rows(record: RunRecord, folder: str) -> list[tuple[str, str]]:
    reason = record.reason if record.reason != record.state else ""
    rows = [("run", record.id), ("state", f"{record.state}{f': {reason}' if reason else ''}")]
    rows += [("folder", folder), ("started", out.ago(record.created)), ("bundle", record.bundle)]
    if record.data:
        rows.append(("data", attached.described(record.data)))
    if record.against is not None:
        rows.append(("against", f"{record.against}{_verdict(Path(folder))}"))
    if record.epoch is not None:
        rows.append(("epoch", f"{record.epoch} of {record.epochs}"))
    rows += [
        ("metric", f"{name} {record.metrics[key]:.4f}")
        for name, key in out.METRICS.items()
        if record.metrics.get(key) is not None
    ]
    for attempt in record.attempts:
        rows += _attempt(attempt)
    if record.checked:
        rows += _checked(record.checked)
    rows += _results(Path(folder) / "train")
    rows += [
        ("finding", f"{finding['severity']} {finding['code']}: {finding['message']}") for finding in record.findings
    ]
    if record.payload:
        rows.append(("payload", f"{record.payload} ran in the place of the training"))
    if record.notes:
        rows.append(("notes", record.notes))
    return rows


def _verdict(folder: Path) -> str:
    """What parity.json says, where it is there and can be read."""
    try:
        said = json.loads((folder / "parity.json").read_bytes())
        return f": {said['verdict']}, by the {said['layer']}" if said["layer"] else f": {said['verdict']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ": not compared yet"


def _attempt(attempt: AttemptRecord) -> list[tuple[str, str]]:
    """What became of it, and what it really ran as."""
    state = str(attempt.state or "journalled")
    more = [state, attempt.backend]
    more += [f"resumed after epoch {attempt.resumed_epoch}"] if attempt.resumed_epoch else []
    more += [attempt.reason] if attempt.reason and attempt.reason != state else []
    rows = [("attempt", f"{attempt.id}  {', '.join(more)}")]
    started = attempt.started or {}
    names = ("device", "device_name", "amp", "batch", "accumulate", "workers", "threads", "optimizer", "lr0")
    if known := [f"{name} {started[name]}" for name in names if started.get(name) is not None]:
        rows.append(("  ran as", ", ".join(known)))
    if attempt.cost is not None:
        cost = attempt.cost
        rows.append(("  cost", f"${cost['dollars']:.2f} for {cost['hours']:.2f} hours ({cost['basis']})"))
    if versions := started.get("versions"):
        rows.append(("  with", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return rows


def _checked(checked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What came back and was held against its digests, and what was not."""
    rows = []
    if checked.get("files"):
        what = [f"{checked['files']} file{'s' * (checked['files'] != 1)}", out.size(checked.get("bytes") or 0)]
        if manifest := checked.get("manifest"):
            digest = isinstance(manifest, str) and len(manifest) > 12
            what.append(f"manifest {f'{manifest[:6]}…' if digest else manifest}")
        rows.append(("checked", ", ".join(what) + ("" if checked.get("complete", True) else "; not complete")))
    if trouble := checked.get("trouble"):
        rows.append(("trouble", str(trouble)))
    if left := checked.get("left_over"):
        rows.append(("left over", "; ".join(map(str, left))))
    return rows


def _results(train: Path) -> list[tuple[str, str]]:
    """Where the best weights lie, and the pictures that Ultralytics drew."""
    best = train / "weights" / "best.pt"
    rows = [("weights", str(best))] if best.is_file() else []
    return [*rows, *([("pictures", str(train))] if any(train.glob("*.[jp][pn]g")) else [])]
