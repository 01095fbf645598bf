"""Path, size and sha256 of every output: what makes a file that comes back a result.

`path` is the file's name in the run folder, `at` where it lies in the outbox now: while Ultralytics still rewrites
train/weights/last.pt, the entry points at the copy set aside in checkpoint/, which does not change any more. `written`
is when the file was written there, in Unix seconds: what comes back has the time of its arrival.
"""

from __future__ import annotations

import hashlib
import json
import os

from .box import Box, write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .box import Json

CHUNK = 1 << 20
TRAIN = "train"


def entry(out: str, path: str, at: str | None = None) -> Json:
    """One line of the manifest; both paths are relative to the outbox `out`, with forward slashes."""
    at = at or path
    digest = hashlib.sha256()
    size = 0
    with open(os.path.join(out, at), "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"path": path, "at": at, "size": size, "sha256": digest.hexdigest()}


def _written(out: str, path: str) -> float:
    return round(os.stat(os.path.join(out, path)).st_mtime, 3)


def train_files(out: str) -> list[str]:
    """Every regular file below train/, as sorted paths relative to the outbox; no links, no half-written files."""
    found = []
    for folder, names, files in os.walk(os.path.join(out, TRAIN)):
        names.sort()
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and ".part-" not in name:
                found.append(os.path.relpath(path, out).replace(os.sep, "/"))
    return sorted(found)


def write(box: Box, kind: str, files: list[Json], **more: object) -> str:
    """Write manifest.json, whole or not at all; returns its sha256. `kind` is "epoch" or "final".

    What the probe has left is in every manifest: later attempts have no probe, and an early end should not lose it.
    """
    if os.path.exists(box.probe):
        files = [*files, entry(box.out, os.path.basename(box.probe))]
    value = {"version": 1, "kind": kind, "files": sorted(files, key=lambda file: str(file["path"])), **more}
    data = json.dumps(value, indent=1, sort_keys=True).encode()
    write_bytes(box.manifest, data)
    return hashlib.sha256(data).hexdigest()


def write_final(box: Box, complete: bool) -> str:
    """The manifest of everything that lies in train/ now. `complete` only when the training ended by itself, done.

    An ended training that is not complete keeps the copies set aside as its checkpoint: those in train/weights may be
    torn, because Ultralytics writes them in place.
    """
    files = {path: {**entry(box.out, path), "written": _written(box.out, path)} for path in train_files(box.out)}
    checkpoint = None
    if not complete:
        from .training.checkpoint import newest

        checkpoint = newest(box)
    if checkpoint is not None:
        for kept in checkpoint.files():
            files[kept["path"]] = kept
    more = {"epoch": checkpoint.epoch, "stop": checkpoint.stop} if checkpoint is not None else {}
    return write(box, "final", list(files.values()), complete=complete, **more)
