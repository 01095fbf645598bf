"""Making a probe: the fixed batches, weights and values of a spec, by the program that answers it on the machine.

Promises: made once for a key and the versions installed here, whole or not at all, however many ask at once; nothing of
the run's bundle changes by it, so that a run with a probe is the same experiment as one without.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.bundle.pack import WORKER, Bundle
from launcher.errors import NotFoundError, SamerunError
from launcher.files import sha256_file, storage, write_atomic
from launcher.installed import installed
from launcher.parity.probing.record import read
from launcher.runs.create import Data, Elsewhere
from launcher.settings import Settings
from launcher.worker.probing.compare import VERSION

BATCHES, WEIGHTS, REFERENCE = "probe/batches.npz", "probe/weights.npz", "probe/reference.json"
LIMIT_S = 1800.0
"""Longest that making may take; the reading of a large dataset's labels is in it. An assumption."""
SHAPES_NOTHING = frozenset(
    {
        "epochs", "close_mosaic", "time", "patience", "save", "save_period", "cache", "device", "workers", "project",
        "name", "exist_ok", "optimizer", "verbose", "deterministic", "cos_lr", "resume", "amp", "profile", "val",
        "plots", "lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "warmup_momentum", "warmup_bias_lr", "nbs",
        "compile", "conf", "iou", "max_det", "half", "save_json", "channels_last",
    }
)  # fmt: skip
"""Arguments by which neither the first batches nor the loss of a step change. All others are in the key."""
EPOCHS, CLOSE_MOSAIC = 100, 10  # Ultralytics' defaults


class ProbeError(SamerunError):
    """The probe could not be made here."""


@dataclass(frozen=True)
class Made:
    """A probe in the cache: `folder` holds batches, weights (unless too large to send) and probe.json, the `record`."""

    key: str
    folder: Path
    record: Mapping[str, Any]


def key_of(bundle: Bundle, data: Data) -> str:
    """What probes that may be compared have in common: model, dataset, arguments that shape batches and loss."""
    job = json.loads((bundle.folder / "job.json").read_bytes())
    train = dict(job["train"])
    closed = int(train.get("epochs", EPOCHS)) <= int(train.get("close_mosaic", CLOSE_MOSAIC))
    value = {
        "version": VERSION,
        "model": next((f.sha256 for f in bundle.files if f.path == job.get("model_file")), job["model"]),
        "train": {name: value for name, value in train.items() if name not in SHAPES_NOTHING},
        "mosaic_closed": closed and train.get("close_mosaic") != 0,
        "data": data.found.fingerprint.total,
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def make(settings: Settings, bundle: Bundle, data: Data | Elsewhere) -> Made:
    """Make the probe of a bundle, or find it. Takes 7 to 31 s, imports included (measured on two cores).

    Raises ProbeError when that fails or the dataset is not here, StorageError.
    """
    if not isinstance(data, Data):
        raise ProbeError("the dataset is not here, so no probe can be made of it", remedy="set parity.probe: off")
    key = key_of(bundle, data)
    folder = _folder(settings, key)
    if (found := _whole(key, folder)) is not None:
        return found
    with storage("making the probe", settings.cache_dir):
        folder.parent.mkdir(parents=True, exist_ok=True)
        box = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            _lay(box, bundle, data, key)
            _run(box)
            _keep(box, folder)
        finally:
            shutil.rmtree(box, ignore_errors=True)
    made = _whole(key, folder)
    if made is None:
        raise ProbeError(f"the probe in {folder} is not whole", remedy="delete it and launch again")
    return made


def cached(settings: Settings, key: str, batches: str) -> Path | None:
    """A folder of the cache that holds the very batches of a key, whatever versions they were made with."""
    for folder in sorted((settings.cache_dir / "probes").glob(f"{key[:32]}-*")):
        if (found := _whole(key, folder)) is not None and found.record["batches"]["digest"] == batches:
            return folder
    return None


def plan_of(
    settings: Settings, made: Made, *, reference: Mapping[str, Any] | None = None, required: bool, on_different: str
) -> dict[str, Any]:
    """What a run's record says of its probe: files to send, and what the worker does with the outcome.

    `reference`: the probe.json of the run to compare with; one of another key or without its batches here is not used,
    and the values made here are sent instead. Raises StorageError.
    """
    folder, values = made.folder, dict(made.record)
    if reference is not None and reference.get("key") == made.key:
        kept = cached(settings, made.key, str((reference.get("batches") or {}).get("digest")))
        folder, values = (kept, dict(reference)) if kept is not None else (folder, values)
    values.pop("result", None)
    text = json.dumps(values, sort_keys=True).encode()
    expected = folder / f"expected-{hashlib.sha256(text).hexdigest()[:12]}.json"
    with storage("keeping the probe's values", expected):
        write_atomic(expected, text)
    files = {BATCHES: folder / "batches.npz", WEIGHTS: folder / "weights.npz", REFERENCE: expected}
    return {
        "key": made.key,
        "weights": values["weights"]["digest"],
        "required": required,
        "on_different": on_different,
        "files": {
            path: {"source": str(file), "sha256": sha256_file(file), "size": file.stat().st_size}
            for path, file in files.items()
            if file.is_file()
        },
    }


def for_run(
    settings: Settings, parity: Mapping[str, Any], bundle: Bundle, data: Data | Elsewhere, reference: Path | None
) -> tuple[dict[str, Any] | None, str]:
    """What to send with a training so that its machine is probed first, and a sentence on it (empty where off).

    `parity`: the spec's section; `reference`: the folder of the run that this one is held against. `auto` probes where
    the reference has a probe, and does without where none can be made here; `require` always. Raises ProbeError for one
    that is required and cannot be made, StorageError.
    """
    mode = parity.get("probe", "auto")
    theirs = read(reference) if reference is not None else None
    if mode == "off" or (mode == "auto" and theirs is None):
        return None, ""
    try:
        made = make(settings, bundle, data)
    except ProbeError as error:
        if mode == "require":
            raise
        return None, f"none: {error.message}"
    plan = plan_of(
        settings,
        made,
        reference=theirs,
        required=mode == "require",
        on_different=str(parity.get("on_different", "stop")),
    )
    same = theirs is not None and theirs.get("key") == made.key
    return plan, f"before the training, against {'the values of the reference' if same else 'values made here'}"


def _folder(settings: Settings, key: str) -> Path:
    versions = json.dumps(dict(installed(settings).versions), sort_keys=True)
    return settings.cache_dir / "probes" / f"{key[:32]}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"


def _whole(key: str, folder: Path) -> Made | None:
    if not (folder / "batches.npz").is_file():
        return None
    record = read(folder)
    return Made(key, folder, record) if record is not None and record.get("key") == key else None


def _lay(box: Path, bundle: Bundle, data: Data, key: str) -> None:
    """A box as any backend would lay it out, for the worker of this very bundle."""
    for name in ("in", "out", "work", "state"):
        (box / name).mkdir()
    for file in bundle.files:
        (box / "in" / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.source, box / "in" / file.path)
    attempt = {
        "version": 1, "attempt": "probe", "device": "cpu", "data_root": str(data.dataset.root), "verify_data": False,
        "files": {file.path: file.sha256 for file in bundle.files}, "probe": {"key": key, "required": True},
    }  # fmt: skip
    (box / "in" / "attempt.json").write_text(json.dumps(attempt), encoding="utf-8")


def _run(box: Path) -> None:
    """The worker's probe, in a process of its own. Raises ProbeError with what it says."""
    argv = [sys.executable, str(box / "in" / WORKER), "probe", str(box)]
    env = {name: value for name, value in os.environ.items() if name not in ("SAMERUN_EVENTS", "SAMERUN_LIFELINE")}
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False, text=True,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ProbeError(f"the probe was not made in {LIMIT_S:g} s", remedy="set parity.probe: off") from None
    if done.returncode:
        raise ProbeError(
            _reason(done.stdout, done.stderr, done.returncode), remedy="set parity.probe: off to do without"
        )


def _reason(out: str, errors: str, code: int) -> str:
    for line in reversed(out.splitlines()):
        if line.startswith('{"event": "error"'):
            return str(json.loads(line).get("reason"))
    last = (errors.strip() or out.strip()).splitlines()
    return f"making the probe ended with exit code {code}: {last[-1] if last else 'it said nothing'}"


def _keep(box: Path, folder: Path) -> None:
    """Give what was made its place in the cache; another process may have been first."""
    made = box / "out" / "probe"
    (box / "out" / "probe.json").rename(made / "probe.json")
    try:
        made.rename(folder)
    except OSError as error:
        if not (folder / "probe.json").is_file():
            raise NotFoundError(f"{folder} cannot be made: {error}", remedy="delete it and launch again") from error
