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
from launcher.files import sha256_file, storage
from launcher.runs import events
from launcher.sync import manifest as manifests
from launcher.sync.install import TRIES, Synced, install

RESULTS = "train/results.csv"
PROBED = (manifests.PROBE,)
"""What a run that is only a probe must have."""
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
    kept_there: bool = False
    """The machine has something that did not come back as it was written: releasing it would lose that."""
    safe: bool = True
    """The checkpoint that is here is the newest there is: going on from it loses no epoch."""

    def as_json(self) -> dict[str, Any]:
        """For the record: what was checked."""
        counts = (
            {"installed": len(self.synced.installed), "unchanged": len(self.synced.unchanged)} if self.synced else {}
        )
        head = {"complete": self.complete, "manifest": self.manifest, "files": self.files, "bytes": self.size}
        return {**head, **counts, **({"trouble": self.trouble} if self.trouble else {})}


def collect(backend: Backend[Any], handle: Handle, folder: Path) -> Collected:
    """Bring what the newest manifest lists. Raises RemoteError when the backend cannot be asked, StorageError."""
    try:
        raw = _manifest(backend, handle, folder)
        if raw is None:
            return Collected("the worker left no manifest")
        manifest = manifests.parse(raw)
    except IntegrityError as error:
        return Collected(error.message, kept_there=True, safe=False)
    synced = install(lambda paths, to: backend.fetch(handle, paths, to), manifest, raw, folder)
    trouble = ""
    if synced.wrong:
        first = "; ".join(f"{path}: {why}" for path, why in sorted(synced.wrong.items())[:5])
        trouble = f"{len(synced.wrong)} of {len(manifest.files)} files did not come back as they were written ({first})"
    digest = hashlib.sha256(raw).hexdigest()
    size = sum(entry.size for entry in manifest.files)
    kept, safe = bool(trouble), synced.checkpoint
    return Collected(trouble, manifest.complete, digest, len(manifest.files), size, synced, kept_there=kept, safe=safe)


def _manifest(backend: Backend[Any], handle: Handle, folder: Path) -> bytes | None:
    """The manifest's bytes, asked for again when they do not come or are none; None when the worker left none.

    Raises IntegrityError for what is no manifest, or not the one that the worker's last event names; RemoteError
    when there is one and the backend does not hand it over.
    """
    named = _named(folder, handle.attempt)
    error: IntegrityError | None = None
    for _ in range(TRIES):
        raw = _fetch_manifest(backend, handle, folder)
        if raw is None:
            continue
        try:
            manifests.parse(raw)
        except IntegrityError as found:
            error = found
            continue
        if named is None or hashlib.sha256(raw).hexdigest() == named:
            return raw
        error = IntegrityError("the manifest is not the one that the worker's last event names")
    if error is not None:
        raise error
    if any(file.path == manifests.NAME for file in backend.files(handle) or ()):
        raise RemoteError(f"{handle.backend} lists the manifest of {handle.attempt} and does not hand it over")
    return None


def _fetch_manifest(backend: Backend[Any], handle: Handle, folder: Path) -> bytes | None:
    with storage("keeping what came back", folder):
        scratch = Path(tempfile.mkdtemp(prefix=".manifest-", dir=folder))
        try:
            backend.fetch(handle, [manifests.NAME], scratch)
            file = scratch / manifests.NAME
            if not file.is_file() or file.is_symlink():
                return None
            with file.open("rb") as stream:
                return stream.read(manifests.MAX_BYTES + 1)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _named(folder: Path, attempt: str) -> str | None:
    """The digest of the manifest that the worker's last event names, once that event is here."""
    for event in reversed(events.read(folder)):
        if event.attempt == attempt and event.name in ("done", "failed"):
            digest = event.fields.get("manifest")
            return digest if isinstance(digest, str) else None
    return None


def missing(folder: Path, attempt: str, *, payload: str | None, only_probe: bool = False) -> str:
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
    for path in PROBED if only_probe else REQUIRED if payload is None else ():
        if manifest.entry(path) is None:
            return f"a finished {'probe' if only_probe else 'training'} has {path}; this one has not"
    for entry in manifest.files:
        file = folder / entry.path
        if file.is_symlink() or not file.is_file() or sha256_file(file) != entry.sha256:
            return f"{entry.path} is not what the worker wrote any more"
    return _epochs(folder / RESULTS) if manifest.entry(RESULTS) is not None else ""


def _epochs(file: Path) -> str:
    """Why results.csv does not hold each epoch exactly once, from 1 on; empty when it does."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            epochs = [row[0].strip() for row in csv.reader(stream) if row][1:]
    except (ValueError, csv.Error) as error:
        return f"results.csv cannot be read: {error}"
    with contextlib.suppress(ValueError):
        if [int(epoch) for epoch in epochs] == list(range(1, len(epochs) + 1)) and epochs:
            return ""
    return f"results.csv has the epochs {', '.join(epochs[:20])[:200]}: not each one once"
