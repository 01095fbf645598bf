"""Fetching an attempt's outputs by its manifest, and what a run must have to be called verified."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backend import Backend, Handle
from launcher.errors import IntegrityError, RemoteError
from launcher.files import storage
from launcher.runs import events
from launcher.sync import manifest as manifests
from launcher.sync.install import Synced, install

RESULTS = "train/results.csv"
REQUIRED = ("train/args.yaml", RESULTS, "train/weights/best.pt", "train/weights/last.pt")


@dataclass(frozen=True)
class Collected:
    """What a collection found. `trouble` is empty when every file of a complete manifest is here with its digest."""

    trouble: str
    complete: bool = False
    manifest: str = ""
    files: int = 0
    size: int = 0
    synced: Synced | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record: what was checked."""
        counts = (
            {"installed": len(self.synced.installed), "unchanged": len(self.synced.unchanged)} if self.synced else {}
        )
        head = {"complete": self.complete, "manifest": self.manifest, "files": self.files, "bytes": self.size}
        return {**head, **counts, **({"trouble": self.trouble} if self.trouble else {})}


def collect(backend: Backend[Any], handle: Handle, folder: Path) -> Collected:
    """Bring what the newest manifest lists. Raises RemoteError when the backend cannot be asked, StorageError."""
    with storage("keeping what came back"):
        scratch = Path(tempfile.mkdtemp(prefix=".manifest-", dir=folder))
    try:
        try:
            backend.fetch(handle, [manifests.NAME], scratch)
            raw = (scratch / manifests.NAME).read_bytes()
        except FileNotFoundError:
            return Collected("the worker left no manifest")
        try:
            manifest = manifests.parse(raw)
        except IntegrityError as error:
            return Collected(error.message)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    synced = install(lambda paths, to: backend.fetch(handle, paths, to), manifest, raw, folder)
    trouble = ""
    if synced.wrong:
        first = "; ".join(f"{path}: {why}" for path, why in sorted(synced.wrong.items())[:5])
        trouble = f"{len(synced.wrong)} of {len(manifest.files)} files did not come back as they were written ({first})"
    digest = hashlib.sha256(raw).hexdigest()
    size = sum(entry.size for entry in manifest.files)
    return Collected(trouble, manifest.complete, digest, len(manifest.files), size, synced)


def missing(folder: Path, attempt: str, *, payload: str | None) -> str:
    """Why a run whose worker says it is done is not verified; empty when it is.

    The files' own digests were looked up when they were installed; this looks at whether they are the right files.
    """
    raw = (folder / manifests.NAME).read_bytes()
    manifest = manifests.parse(raw)
    if not manifest.complete:
        return "the manifest is not that of a finished training"
    said = [event for event in events.read(folder) if event.attempt == attempt and event.name == "done"]
    if not said:
        return "the worker's last event is missing"
    if said[-1].fields.get("manifest") != hashlib.sha256(raw).hexdigest():
        return "the manifest is not the one that the worker's last event names"
    for path in REQUIRED if payload is None else ():
        if manifest.entry(path) is None:
            return f"a finished training has {path}; this one has not"
    return _epochs(folder / RESULTS) if manifest.entry(RESULTS) is not None else ""


def _epochs(file: Path) -> str:
    """Why results.csv does not hold each epoch exactly once, from 1 on; empty when it does."""
    with file.open(newline="", encoding="utf-8") as stream:
        epochs = [row[0].strip() for row in csv.reader(stream) if row][1:]
    with contextlib.suppress(ValueError):
        if [int(epoch) for epoch in epochs] == list(range(1, len(epochs) + 1)) and epochs:
            return ""
    return f"results.csv has the epochs {', '.join(epochs[:20])}: not each one once"


__all__ = ["Collected", "RemoteError", "collect", "missing"]
