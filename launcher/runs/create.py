"""From a spec to a run that can be driven: the dataset looked at, the bundle packed, the run written down."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.backend import Attached, Backend
from launcher.bundle.pack import WORKER, Bundle, pack
from launcher.data import reef
from launcher.data.check import Examination, examine
from launcher.data.dataset import Dataset, read_dataset
from launcher.errors import DataError
from launcher.files import storage
from launcher.installed import installed
from launcher.runs import attached
from launcher.runs.record import PROBE, RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store, now
from launcher.settings import Settings
from launcher.spec.attached import AttachedData
from launcher.spec.load import LoadedSpec
from launcher.spec.model import DataSource, JobSpec
from launcher.variables import expand

SPEC, SCRIPT = "spec.yaml", "prepare.py"
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Data:
    """A dataset that was read whole: where it is, what is in it."""

    dataset: Dataset
    found: Examination


@dataclass(frozen=True)
class Elsewhere:
    """A dataset that lies where the machine is: nothing is known of what is in it. `script` makes one of it there."""

    attached: Attached
    script: Path | None
    place: str


def look_at_data(settings: Settings, spec: JobSpec, progress: Progress, *, make: bool) -> Data | Elsewhere | None:
    """Read, check and fingerprint the spec's dataset; the built-in one is made first.

    With `make` False nothing is made: None when the built-in dataset is not in the cache yet. Raises DataError.
    """
    if isinstance(spec.data, AttachedData):
        script = Path(spec.data.prepare) if spec.data.prepare is not None else None
        return Elsewhere(Attached(spec.data.kind, spec.data.name), script, spec.data.place)
    if isinstance(spec.data, DataSource):
        options = spec.data.reef
        file = settings.cache_dir / "reef" / options.key() / "data.yaml"
        if not file.is_file():
            if not make:
                return None
            with storage("making the reef dataset"):
                file = reef.ensure(options, settings.cache_dir, lambda done, of: progress("drawing the reef", done, of))
    else:
        file = Path(expand(spec.data, os.environ))
    dataset = read_dataset(file)
    cache = settings.cache_dir / "digests.sqlite"
    found = examine(dataset, cache, lambda done, of: progress("reading the dataset", done, of))
    if found.problems:
        raise DataError(list(found.problems))
    return Data(dataset, found)


def pack_bundle(settings: Settings, loaded: LoadedSpec, data: Data | Elsewhere, *, only_probe: bool = False) -> Bundle:
    """The run's input, in the cache; `only_probe`: of a run that ends with its probe. Raises StorageError."""
    spec = loaded.spec
    carried: dict[str, Path] = {}
    job: dict[str, Any] = {
        "version": 1,
        "name": spec.name,
        "model": expand(spec.model, os.environ),
        "train": dict(spec.train),
        "restarts": spec.resume.restarts,
        "max_hours": spec.resources.max_hours,
        "pins": pins(settings, spec),
    }
    model = Path(job["model"])
    if model.is_absolute() and model.is_file():
        job["model_file"] = f"model/{model.name}"
        carried[job["model_file"]] = model
    if only_probe:
        job["probe_only"] = True
    elif settings.payload is not None:
        carried["payload.py"] = settings.payload
    texts = {SPEC: loaded.experiment_text().encode()}
    if isinstance(data, Data):
        texts["data.json"] = listing(data)
        return pack(settings.cache_dir, job, texts, carried, data.found.fingerprint.total)
    job["data"] = {"kind": data.attached.kind, "name": data.attached.name}
    if data.script is not None:
        carried[SCRIPT] = data.script
    return pack(settings.cache_dir, job, texts, carried, f"{data.attached.kind}:{data.attached.name}")


def pins(settings: Settings, spec: JobSpec) -> dict[str, str]:
    """The versions that the worker's environment must have: the spec's, else those installed here."""
    here = installed(settings).versions
    asked = {"ultralytics": spec.environment.ultralytics, "torch": spec.environment.torch}
    return {**here, **{name: version for name, version in asked.items() if version is not None}}


def key_of(bundle: Bundle, backend: Backend[Any], options: Mapping[str, Any]) -> str:
    """What runs of the same input on the same backend, with the same of its own settings, have in common."""
    own = sorted((name, value) for name, value in options.items() if name in backend.options)
    text = f"{bundle.digest} {backend.name}" + (f" {json.dumps(own)}" if own else "")
    return hashlib.sha256(text.encode()).hexdigest()


def new_run(
    settings: Settings,
    store: Store,
    loaded: LoadedSpec,
    data: Data | Elsewhere,
    bundle: Bundle,
    backend: Backend[Any],
    *,
    machine: str = "",
    findings: Sequence[Mapping[str, str]] = (),
    probe: Mapping[str, Any] | None = None,
    only_probe: bool = False,
) -> RunRecord:
    """Write the run down: folder, spec.yaml, record. Nothing has been asked of any machine yet.

    `probe`: what `launcher.parity.probing.plan_of` says is to be sent. A run that is only a probe has a name of its
    own, so that a training is never looked up by it.
    """
    name = f"{loaded.spec.name}-probe" if only_probe else loaded.spec.name
    record = draft(settings, store.new_id(name), loaded, data, bundle, backend, machine=machine, findings=findings)
    record = replace(record, probe=probe)
    if only_probe:
        record = replace(record, name=name, kind=PROBE, payload=None, epochs=None)
    return store.create(record, {SPEC: loaded.yaml_text().encode()})


def draft(
    settings: Settings,
    run: str,
    loaded: LoadedSpec,
    data: Data | Elsewhere,
    bundle: Bundle,
    backend: Backend[Any],
    *,
    machine: str = "",
    findings: Sequence[Mapping[str, str]] = (),
) -> RunRecord:
    """The record of a run that is not written down yet."""
    spec, time = loaded.spec, now()
    return RunRecord(
        id=run,
        name=spec.name,
        backend=backend.name,
        state=RunState.CREATED,
        key=key_of(bundle, backend, spec.resources.options),
        bundle=bundle.digest,
        created=time,
        updated=time,
        model=spec.model,
        machine=machine,
        data=_recorded(data) if isinstance(data, Data) else attached.drafted(data.attached),
        resources=spec.resources.as_json(),
        variables=dict(spec.environment.variables),
        max_attempts=spec.resume.attempts,
        while_running=spec.sync.while_running,
        patience_s=spec.sync.patience_minutes * 60,
        payload=str(settings.payload) if settings.payload is not None else None,
        notes=spec.notes,
        worker=next((file.sha256 for file in bundle.files if file.path == WORKER), ""),
        against=spec.parity.against,
        parity=spec.parity.model_dump(),
        epochs=_whole(spec.train.get("epochs")),
        findings=tuple(findings),
    )


def _recorded(data: Data) -> dict[str, Any]:
    """What the run's record says of the dataset."""
    mark = data.found.fingerprint
    parts = {"images": mark.images, "labels": mark.labels, "splits": mark.splits}
    return {"root": str(data.dataset.root), "fingerprint": mark.total, **parts, "facts": data.found.facts.as_json()}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def listing(data: Data) -> bytes:
    """data.json: what the worker checks the dataset against and builds its view from."""
    found = data.found
    splits = {
        split: [{"image": item.image, "label": item.label} for item in items]
        for split, items in data.dataset.splits.items()
    }
    listing = {
        "fingerprint": found.fingerprint.total,
        "names": {str(number): name for number, name in data.dataset.names.items()},
        "splits": splits,
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in found.fingerprint.files],
        "copy": list(found.images_to_copy),
    }
    return json.dumps(listing, sort_keys=True, separators=(",", ":")).encode()
