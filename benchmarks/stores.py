"""Makes runs folders for the benchmarks: as many finished runs as asked for, as the store itself writes them."""

from __future__ import annotations

from pathlib import Path

from launcher.backend import State
from launcher.runs import record as records
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store

BEGUN = 1_790_000_000.0
"""Unix seconds of the first run; the others follow a minute apart."""
MAP50 = "metrics/mAP50(B)"


def fill(root: Path, count: int) -> Store:
    """A store with `count` runs, folders and index."""
    store = Store(root)
    root.mkdir(parents=True)
    for number in range(count):
        record = finished(number)
        folder = store.folder(record.id)
        folder.mkdir()
        records.write(folder, record)
    found, bad = store.rebuild()
    if found != count or bad:
        raise RuntimeError(f"{found} of {count} runs are in the index")
    return store


def finished(number: int) -> RunRecord:
    """A run as a real one ends: an attempt, metrics, what was checked."""
    name, created = f"bench{number % 7}", BEGUN + number * 60
    run = f"{name}-{number:06d}"
    started = {
        "arguments": {f"argument{n}": n for n in range(100)},  # Ultralytics has about that many
        "device": "cpu",
        "batch": 16,
        "versions": {"ultralytics": "8.4.190", "torch": "2.15.0"},
    }
    attempt = AttemptRecord(f"{run}-a1", 1, "local", created, {"box": "/x"}, State.SUCCEEDED, ended=created + 50)
    return RunRecord(
        id=run,
        name=name,
        backend="local",
        state=RunState.VERIFIED,
        key=f"{number:064x}",
        bundle="0" * 64,
        created=created,
        updated=created + 50,
        data={"root": "/data", "fingerprint": "1" * 64},
        epoch=10,
        epochs=10,
        metrics={MAP50: (number % 1000) / 1000, "metrics/recall(B)": 0.5},
        attempts=(AttemptRecord(**{**vars(attempt), "started": started}),),
        checked={"complete": True, "files": 14, "bytes": 11_000_000},
    )
