"""The worker's manifest, read with the care due to something that came from another machine.

Raises IntegrityError for one that is no manifest, names a path outside its folder, or exceeds the limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import IntegrityError

NAME = "manifest.json"
BELOW = "train/"
"""Where outputs lie in the run folder. Beside it are the run's own files, which no manifest may name, but for PROBE."""
PROBE = "probe.json"
"""What the probe has left (launcher.worker.probing)."""
CHECKPOINT = ("train/weights/last.pt", "train/weights/best.pt", "train/results.csv")
"""What a training goes on from: of one epoch all of them, or none is used."""
MAX_BYTES = 16 << 20
MAX_FILES = 20_000
MAX_NAME = 255  # bytes of one part of a path: what file systems take
MAX_PATH = 1000  # bytes of a path below the run folder (PATH_MAX is 1024 on macOS)
MAX_EPOCH = 10**9
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Entry:
    """One output. `path`: its name in the run folder; `at`: where it lies in the worker's outbox; `size` in bytes."""

    path: str
    at: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`complete`: the training ended by itself and all its outputs are listed. `epoch`, `stop`: of its checkpoint."""

    kind: str
    complete: bool
    files: tuple[Entry, ...]
    epoch: int | None = None
    stop: bool = False

    def entry(self, path: str) -> Entry | None:
        """The entry of this name in the run folder."""
        return next((entry for entry in self.files if entry.path == path), None)

    @property
    def checkpoint(self) -> tuple[Entry, ...]:
        """The files of its checkpoint; none when there is none to go on from."""
        if self.complete or self.epoch is None:
            return ()
        return tuple(entry for entry in self.files if entry.path in CHECKPOINT)

    def without(self, paths: Collection[str]) -> bytes:
        """The bytes of a manifest of the other files, with the same checkpoint."""
        files = [vars(entry) for entry in self.files if entry.path not in paths]
        value = {"version": 1, "kind": "partial", "complete": False, "epoch": self.epoch, "stop": self.stop}
        return json.dumps({**value, "files": files}).encode()


def parse(data: bytes) -> Manifest:
    """Read a manifest's bytes."""
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"the manifest has {len(data)} bytes; more than {MAX_BYTES} are not read")
    try:
        value = json.loads(data)
        files = tuple(_entry(item) for item in value["files"])
        epoch = value.get("epoch")
        found = Manifest(str(value["kind"]), value["complete"] is True, files, epoch, value.get("stop") is True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"this is no manifest: {type(error).__name__}: {error}") from error
    if len(files) > MAX_FILES:
        raise IntegrityError(f"the manifest lists {len(files)} files; more than {MAX_FILES} are not read")
    paths = {entry.path for entry in files}
    if len(paths) != len(files):
        raise IntegrityError("the manifest lists a path twice")
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if both := sorted(paths & folders):
        raise IntegrityError(f"the manifest lists {both[0]!r} as a file and as a folder")
    if epoch is not None and (type(epoch) is not int or not 1 <= epoch <= MAX_EPOCH):
        raise IntegrityError(f"the manifest's epoch is {str(epoch)[:40]!r}")
    return found


def safe(path: object) -> str:
    """A path that stays inside its folder and that every file system takes, or IntegrityError."""
    text = path if isinstance(path, str) else ""
    pure = PurePosixPath(text)
    inside = text not in ("", ".") and not pure.is_absolute() and ".." not in pure.parts and str(pure) == text
    if not inside or "\\" in text or not text.isprintable():
        raise IntegrityError(f"the path {str(path)[:MAX_PATH]!r} does not name a file inside the run")
    if len(text.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in pure.parts):
        raise IntegrityError(f"the path {text[:MAX_NAME]!r} is too long")
    return text


def _entry(item: Mapping[str, Any]) -> Entry:
    size, digest = item["size"], item["sha256"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size {size!r}")
    if not isinstance(digest, str) or not _SHA256.match(digest):
        raise ValueError(f"sha256 {digest!r}")
    path = safe(item["path"])
    if not path.startswith(BELOW) and path != PROBE:
        raise IntegrityError(f"the path {path!r} does not lie below {BELOW}")
    return Entry(path, safe(item["at"]), size, digest)
