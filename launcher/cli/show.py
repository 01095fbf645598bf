"""`launch show`: everything about one run."""

from __future__ import annotations

import argparse
from pathlib import Path

from launcher.cli import out
from launcher.errors import Exit
from launcher.files import storage, write_atomic
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch show", description=__doc__)
    parser.add_argument("run", help="a run")
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON line on stdout")
    parser.add_argument("--svg", type=Path, help="draw the run's epochs as the live table, into this file")
    args = parser.parse_args(argv)
    store = Store(Settings.load().runs_dir)
    record = store.read(store.resolve(args.run))
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
    rows = [("run", record.id), ("state", f"{record.state}{f': {record.reason}' if record.reason else ''}")]
    rows += [("folder", folder), ("started", out.ago(record.created)), ("bundle", record.bundle)]
    if record.data:
        rows.append(("data", f"{record.data['root']}, fingerprint {str(record.data['fingerprint'])[:12]}"))
    if record.epoch is not None:
        rows.append(("epoch", f"{record.epoch} of {record.epochs}"))
    rows += [
        ("metric", f"{name} {record.metrics[key]:.4f}")
        for name, key in out.METRICS.items()
        if record.metrics.get(key) is not None
    ]
    for attempt in record.attempts:
        more = [str(attempt.state or "journalled"), attempt.backend]
        more += [f"resumed after epoch {attempt.resumed_epoch}"] if attempt.resumed_epoch else []
        more += [attempt.reason] if attempt.reason else []
        rows.append(("attempt", f"{attempt.id}  {', '.join(more)}"))
        started = attempt.started or {}
        if started:
            versions = ", ".join(f"{name} {version}" for name, version in (started.get("versions") or {}).items())
            names = ("device", "device_name", "amp", "batch", "accumulate", "workers", "threads", "optimizer", "lr0")
            rows.append(("  ran as", ", ".join(f"{name} {started.get(name)}" for name in names)))
            rows.append(("  with", versions))
    if record.checked:
        rows.append(("checked", ", ".join(f"{name} {value}" for name, value in record.checked.items())))
    rows += [
        ("finding", f"{finding['severity']} {finding['code']}: {finding['message']}") for finding in record.findings
    ]
    if record.payload:
        rows.append(("payload", f"{record.payload} ran in the place of the training"))
    if record.notes:
        rows.append(("notes", record.notes))
    return rows
