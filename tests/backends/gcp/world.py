"""A project for the backend's tests: emulated Compute Engine with real machines, emulated Cloud Storage, and faults."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.gcp.compute import instance
from backends.gcp.compute.names import name_of
from backends.gcp.store.carrier.names import AttemptNames
from backends.gcp.store.carrier.objects import crc32c_of
from backends.gcp.store.carrier.outputs import compose
from backends.gcp.store.carrier.stream import unwrap, wrap
from launcher.backend import Handle, Need
from launcher.cli.out import print_error
from launcher.errors import SamerunError
from launcher.runs.record import RunRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.testing import payload
from launcher.testing.attempts import AttemptMaker
from launcher.testing.faults import Faults
from tests.emulators.compute import ComputeEmulator
from tests.emulators.storage import StorageEmulator

BUCKET = "reef"
PREFIX = "samerun/"
POLL_S = 0.05
SSH_S = 5.0  # how long a question by SSH may take in tests
PYTHON = """\
#!/bin/sh
# This test's Python. While the file {held} is there, a worker is started and nobody is told.
case "$*" in *.pyz\\ start\\ *) ;; *) exec "{python}" "$@";; esac
"{python}" "$@"
code=$?
while [ -e "{held}" ]; do sleep 0.05; done
exit $code
"""
SPEC = """
model: yolo11n.yaml
data: {reef: {seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}
train: {epochs: 4}
resources: {device: cpu}
sync: {patience_minutes: 0.5}
"""


class Cloud:
    """Both emulators, as this test's only project."""

    def __init__(self, compute: ComputeEmulator, storage: StorageEmulator, folder: Path) -> None:
        self.compute, self.storage, self.folder = compute, storage, folder
        self.held = folder / "held"
        self.python = folder / "python3"
        self.python.write_text(PYTHON.format(held=self.held, python=sys.executable))
        self.python.chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        """For a launch in a process of its own."""
        return {
            **self.storage.env,
            "SAMERUN_GCE_ENDPOINT": self.compute.endpoint,
            "SAMERUN_GCP_PROJECT": self.compute.project,
            "SAMERUN_GCP_BUCKET": BUCKET,
            "SAMERUN_GCE_POLL_SECONDS": str(POLL_S),
            "SAMERUN_SSH_SECONDS": str(SSH_S),
            "NO_GCE_CHECK": "true",
        }

    def settings(self, **more: Any) -> Settings:
        """Settings that point at the emulators."""
        values: dict[str, Any] = {
            "gcp_project": self.compute.project,
            "gcp_bucket": BUCKET,
            "gce_endpoint": self.compute.endpoint,
            "gce_poll_seconds": POLL_S,
            "ssh_seconds": SSH_S,
            **more,
        }
        return Settings(runs_dir=self.folder / "runs", cache_dir=self.folder / "cache", **values)

    def options(self, **more: Any) -> dict[str, Any]:
        """Of `resources`: the Python that has all that trains."""
        return {"python": str(self.python), **more}


def enter(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """The emulators in the environment, and their machines' port and user in the backend."""
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(instance, "USER", cloud.compute.ssh_user)
    monkeypatch.setattr(instance, "PORT", cloud.compute.ssh_port)


class Maker(AttemptMaker):
    """Attempts whose machines have this test's Python."""

    def __init__(self, *args: Any, resources: Mapping[str, Any], **more: Any) -> None:
        super().__init__(*args, **more)
        self.resources = dict(resources)

    def __call__(self, **more: Any) -> Any:
        more.setdefault("need", Need("cpu", more.get("max_hours"), self.resources))
        return super().__call__(**more)


class Launch:
    """`launch` in this process, with the stub payload; returns exit codes."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, *, stub: bool = True) -> None:
        self.cloud = cloud
        self.store = Store(cloud.folder / "runs")
        self.spec = cloud.folder / "tiny.yaml"
        self.spec.write_text(SPEC)
        if stub:
            monkeypatch.setenv("SAMERUN_PAYLOAD", str(payload.__file__))

    def __call__(self, *words: str, command: str = "run") -> int:
        try:
            return int(importlib.import_module(f"launcher.cli.{command}").main([str(word) for word in words]))
        except SamerunError as error:
            return int(print_error(error, as_json=False))

    def run(self, *overrides: str, spec: str | None = None) -> int:
        """Launch the spec, with `field=value`."""
        words = [word for each in (f"resources.python={self.cloud.python}", *overrides) for word in ("--set", each)]
        return self(spec or str(self.spec), "--backend", "gcp", *words)

    @property
    def record(self) -> RunRecord:
        """The newest run."""
        return self.store.read(self.store.rows()[0].id)

    def epochs(self) -> list[int]:
        """Those in the newest run's results.csv, row by row."""
        rows = (self.store.folder(self.record.id) / "train/results.csv").read_text().splitlines()[1:]
        return [int(row.split(",")[0]) for row in rows]


def faults_of(cloud: Cloud) -> Faults:
    """All that the suite may ask for and the emulators can do."""
    compute, storage = cloud.compute, cloud.storage

    @contextmanager
    def lose_reply() -> Iterator[None]:
        cloud.held.touch()
        try:
            yield
        finally:
            cloud.held.unlink()

    @contextmanager
    def silence() -> Iterator[None]:
        first = compute.faults.add("503", on="*", times=None)
        second = storage.faults.add("503", on="*", times=None)
        try:
            yield
        finally:
            first.times = second.times = 0

    @contextmanager
    def nobody() -> Iterator[None]:
        compute.settings.anonymous = False
        try:
            yield
        finally:
            compute.settings.anonymous = True

    def take(handle: Handle, *, soft: bool, seconds: float) -> None:
        compute.settings.soft_off, compute.settings.preemption_seconds = soft, seconds
        compute.preempt(name_of(handle.attempt))

    def change(handle: Handle, path: str, how: Callable[[bytes], bytes] | None) -> None:
        """The newest record gives other bytes for this file alone: equal files share an object."""
        names = AttemptNames(handle.data["run"], handle.attempt)
        newest = [name for name in storage.objects(BUCKET) if name.startswith(PREFIX + names.records)][-1]
        record = json.loads(storage.read(BUCKET, newest))
        file = record["files"].pop(path)
        if how is not None:
            data = how(storage.read(BUCKET, PREFIX + names.of_run.blob(file["sha256"])))
            digest = hashlib.sha256(data).hexdigest()
            storage.put(BUCKET, PREFIX + names.of_run.blob(digest), data)
            record["files"][path] = {"size": len(data), "sha256": digest, "crc32c": crc32c_of(data)}
        storage.put(BUCKET, newest, compose(record))

    def append(handle: Handle, data: bytes) -> None:
        names = AttemptNames(handle.data["run"], handle.attempt)
        pieces = [name for name in storage.objects(BUCKET) if name.startswith(PREFIX + names.stream)]
        start = int(pieces[-1].rpartition("/")[2])
        end = start + len(unwrap(handle.attempt, start, storage.read(BUCKET, pieces[-1])))
        storage.put(BUCKET, PREFIX + names.piece(end), wrap(handle.attempt, end, data))

    return Faults(
        lose_reply=lose_reply,
        silence=silence,
        no_access=nobody,
        kill_worker=lambda handle: take(handle, soft=False, seconds=0.0),
        stop_machine=lambda handle: take(handle, soft=True, seconds=8.0),
        corrupt=lambda handle, path: change(handle, path, lambda data: b"*" + data[1:]),
        truncate=lambda handle, path: change(handle, path, lambda data: data[:100]),
        remove=lambda handle, path: change(handle, path, None),
        append=append,
    )


def ended_all(backend: Any, maker: AttemptMaker, patience_s: float) -> None:
    """End and release what a test has made."""
    maker.end_all()
    for attempt in maker.made:
        with contextlib.suppress(SamerunError, AssertionError):
            if (handle := backend.find(attempt)) is not None:
                backend.cancel(handle)
                backend.release(handle)
