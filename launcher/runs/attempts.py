"""From a run's record to what a backend is told about one attempt: the bundle's files and, later on, the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.backend import Attempt, DataSource, InputFile, Need
from launcher.bundle.pack import unpack
from launcher.errors import IntegrityError
from launcher.files import sha256_file
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.sync import manifest as manifests
from launcher.sync.install import settle
from launcher.variables import references

CHECKPOINT = ("train/weights/last.pt", "train/weights/best.pt", "train/results.csv")


def build(settings: Settings, store: Store, record: RunRecord, attempt: AttemptRecord) -> Attempt:
    """All that the backend needs. Raises NotFoundError when the bundle is gone, IntegrityError for a bad checkpoint."""
    bundle = unpack(settings.cache_dir, record.bundle)
    folder = store.folder(record.id)
    resume, carried = _resume(folder)
    data = record.data
    source = DataSource(Path(data["root"]), data["fingerprint"]) if data is not None else None
    resources = record.resources
    describe: dict[str, Any] = {
        "version": 1,
        "attempt": attempt.id,
        "run": record.id,
        "number": attempt.number,
        "bundle": record.bundle,
        "device": resources.get("device", "auto"),
        "variables": sorted(name for name, text in record.variables.items() if references(text)),
        "resume": resume,
        "files": {file.path: file.sha256 for file in bundle.files},
    }
    need = Need(str(resources.get("device", "auto")), resources.get("max_hours"), resources.get("options", {}))
    inputs = (*bundle.files, *carried)
    return Attempt(attempt.id, record.id, attempt.number, need, inputs, source, describe, dict(record.variables))


def checkpoint_epoch(folder: Path) -> int | None:
    """The epoch after which the run's own checkpoint can go on, or None."""
    manifest = _manifest(folder)
    return manifest.epoch if manifest is not None and not manifest.complete else None


def _resume(folder: Path) -> tuple[dict[str, Any] | None, list[InputFile]]:
    """The checkpoint that came back last, its digests looked up again. Raises IntegrityError."""
    manifest = _manifest(folder)
    if manifest is None or manifest.complete or manifest.epoch is None:
        return None, []
    files, carried = [], []
    for path in CHECKPOINT:
        entry = manifest.entry(path)
        if entry is None:
            continue
        if sha256_file(folder / path) != entry.sha256:
            remedy = f"delete {folder / manifests.NAME} to start again from the first epoch"
            raise IntegrityError(f"{folder / path} is not what came back (its digest differs)", remedy=remedy)
        files.append({"path": path, "sha256": entry.sha256, "size": entry.size})
        carried.append(InputFile(f"resume/{Path(path).name}", folder / path, entry.sha256, entry.size))
    return {"epoch": manifest.epoch, "stop": manifest.stop, "files": files}, carried


def _manifest(folder: Path) -> manifests.Manifest | None:
    settle(folder)
    try:
        return manifests.parse((folder / manifests.NAME).read_bytes())
    except FileNotFoundError:
        return None
