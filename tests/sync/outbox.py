"""A worker's outbox in memory, that can be told to hand over wrong bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.sync import manifest as manifests
from launcher.sync.install import Synced, install

Fault = Callable[[Path], None]


class Outbox:
    """`files`: what the worker wrote, by path. `faults`: path → what is done to a fetched file, for some fetches."""

    def __init__(self, files: dict[str, bytes], epoch: int | None = None) -> None:
        self.files = dict(files)
        self.epoch = epoch
        self.fetched: list[str] = []
        self.faults: dict[str, list[Fault]] = {}

    def manifest(self) -> bytes:
        lines = [
            {"path": path, "at": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(self.files.items())
        ]
        more = {} if self.epoch is None else {"epoch": self.epoch}
        return json.dumps({"kind": "x", "complete": self.epoch is None, "files": lines, **more}).encode()

    def fetch(self, paths: Sequence[str], to: Path) -> None:
        for path in paths:
            self.fetched.append(path)
            target = to / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.files[path])
            if faults := self.faults.get(path):
                faults.pop(0)(target)

    def install(self, folder: Path) -> Synced:
        raw = self.manifest()
        return install(self.fetch, manifests.parse(raw), raw, folder)


def state(folder: Path) -> dict[str, bytes]:
    """The files under final names, and the manifest."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")}
