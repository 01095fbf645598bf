"""From a run's record to what a backend is told about one attempt: the bundle's files and, later on, the checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.backend import Attached, Attempt, Backend, Handle, InputFile, Need
from launcher.bundle.pack import unpack
from launcher.errors import IntegrityError, NotFoundError, SpecError
from launcher.files import sha256_file, storage
from launcher.runs import attached
from launcher.runs.record import AttemptRecord, RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.sync import manifest as manifests
from launcher.sync.install import settle
from launcher.variables import not_set, references


def build(
    settings: Settings, store: Store, record: RunRecord, attempt: AttemptRecord, backend: Backend[Any]
) -> Attempt:
    """What this backend needs. Raises NotFoundError when the bundle is gone, IntegrityError for a bad checkpoint."""
    bundle = unpack(settings.cache_dir, record.bundle)
    folder = store.folder(record.id)
    resume, carried = _resume(folder)
    source = attached.source(record.data)
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
    if isinstance(source, Attached) and record.data is not None and (mark := record.data.get("fingerprint")):
        describe["expect_fingerprint"] = mark  # what the run began with: it may have changed since
    probe, sent = _probe(record) if resume is None else (None, [])
    if probe is not None:
        describe["probe"] = probe
    need = needed(resources, backend, attached.attached(record.data), spent=record.dollars)
    inputs = (*bundle.files, *carried, *sent)
    variables, previous = dict(record.variables), _previous(record, attempt)
    return Attempt(attempt.id, record.id, attempt.number, need, inputs, source, describe, variables, previous)


def needed(
    resources: Mapping[str, Any], backend: Backend[Any], data: Attached | None = None, *, spent: float = 0.0
) -> Need:
    """What the run asks of a machine of this backend: options of other backends are none of its business."""
    options = {name: value for name, value in resources.get("options", {}).items() if name in backend.options}
    device, hours = str(resources.get("device", "auto")), resources.get("max_hours")
    return Need(device, hours, options, data, left_to_spend(resources, spent))


def left_to_spend(resources: Mapping[str, Any], spent: float) -> float | None:
    """US dollars that attempts to come may cost together; None where the spec sets no limit."""
    limit = resources.get("max_cost")
    return None if limit is None else max(0.0, float(limit) - spent)


def _previous(record: RunRecord, attempt: AttemptRecord) -> Handle | None:
    """The newest attempt before this one that its backend still holds."""
    for former in reversed(record.attempts[: attempt.number - 1]):
        if former.handle is not None and not former.released and former.backend == attempt.backend:
            return former.as_handle()
    return None


def check_variables(record: RunRecord) -> None:
    """Raise SpecError when a variable that the run refers to is not set here: no machine is asked then."""
    names = {name: None for text in record.variables.values() for name in references(text)}
    if unset := [name for name in names if name not in os.environ]:
        raise SpecError([not_set(name) for name in unset])


def _probe(record: RunRecord) -> tuple[dict[str, Any] | None, list[InputFile]]:
    """What the worker is told of the probe, and the files for it: beside the bundle, whose digest is the experiment's.

    Raises NotFoundError when they are not in the cache any more and the run requires a probe.
    """
    if record.probe is None:
        return None, []
    plan = dict(record.probe)
    files = [
        InputFile(path, Path(file["source"]), file["sha256"], file["size"]) for path, file in plan.pop("files").items()
    ]
    if gone := [file.source for file in files if not file.source.is_file()]:
        if not plan.get("required"):
            return None, []
        raise NotFoundError(f"the probe's {gone[0]} is not in the cache any more", remedy="start the run from its spec")
    return {**plan, "files": {file.path: file.sha256 for file in files}}, files


def checkpoint_epoch(folder: Path) -> int | None:
    """The epoch after which the run's own checkpoint can go on, or None."""
    manifest = _manifest(folder)
    return manifest.epoch if manifest is not None and not manifest.complete else None


def set_aside_finished(folder: Path) -> None:
    """Before a run is started over: a finished training's manifest is no checkpoint, and would hold up new ones."""
    manifest = _manifest(folder)
    if manifest is not None and manifest.complete:
        with storage("setting the former manifest aside"):
            (folder / manifests.NAME).replace(folder / f".former-{manifests.NAME}")


def _resume(folder: Path) -> tuple[dict[str, Any] | None, list[InputFile]]:
    """The checkpoint that came back last, its digests looked up again. Raises IntegrityError."""
    manifest = _manifest(folder)
    if manifest is None or manifest.complete or manifest.epoch is None:
        return None, []
    files, carried = [], []
    for path in manifests.CHECKPOINT:
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
