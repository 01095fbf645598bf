"""Copies set aside after each epoch, and what a resume needs to be honest.

Ultralytics writes last.pt and best.pt in place: a kill at the wrong moment leaves a torn file, and the end of the
training strips the optimizer out of both (facts measured on 8.4.190). So after each epoch the worker copies
last.pt, best.pt, results.csv and args.yaml into checkpoint/<epoch>/, whole or not at all, with their digests; the
newest two are kept. What resumes a training is always such a copy, and a manifest of an epoch lists nothing else: what
lies in train/ is rewritten by the next process (args.yaml too).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass

from .. import manifest
from ..box import Box, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..box import Json

KEEP = 2
META = "checkpoint.json"
TARGETS = {
    "last.pt": "train/weights/last.pt",
    "best.pt": "train/weights/best.pt",
    "results.csv": "train/results.csv",
    "args.yaml": "train/args.yaml",
}


@dataclass(frozen=True)
class Checkpoint:
    """A set of copies after one finished epoch. `epoch` counts from 1; `stop`: the training was to end after it."""

    folder: str
    epoch: int
    stop: bool
    entries: tuple[Json, ...]

    def files(self) -> list[Json]:
        """Manifest entries: the copies under the names that they have in the run folder."""
        return [dict(entry) for entry in self.entries]

    def path(self, name: str) -> str:
        """Where the copy of one of TARGETS lies."""
        return os.path.join(self.folder, name)


def set_aside(box: Box, epoch: int, stop: bool, best_is_last: bool) -> Checkpoint:
    """Copy what the epoch left, publish it with one rename, drop copies older than the newest two."""
    os.makedirs(box.checkpoints, exist_ok=True)
    name = f"{epoch:06d}"
    part = os.path.join(box.checkpoints, f".part-{name}-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    for copy, target in TARGETS.items():
        source = os.path.join(box.out, target)
        if copy == "best.pt" and best_is_last:
            _twin(os.path.join(part, "last.pt"), os.path.join(part, copy))
        elif os.path.exists(source):
            shutil.copyfile(source, os.path.join(part, copy))
    entries = []
    for copy, target in TARGETS.items():
        if os.path.exists(os.path.join(part, copy)):
            line = manifest.entry(part, copy)
            entries.append({**line, "path": target, "at": f"checkpoint/{name}/{copy}"})
    return _publish(box, part, epoch, stop, entries)


def announce(box: Box, checkpoint: Checkpoint) -> None:
    """Make it what the manifest on disk lists."""
    manifest.write(box, "epoch", checkpoint.files(), complete=False, epoch=checkpoint.epoch, stop=checkpoint.stop)


def ends(box: Box, checkpoint: Checkpoint) -> None:
    """Say of a set that the training was to end after it: that was decided after it had been set aside."""
    found = Checkpoint(checkpoint.folder, checkpoint.epoch, True, checkpoint.entries)
    write_json(os.path.join(found.folder, META), {"epoch": found.epoch, "stop": True, "files": found.files()})
    announce(box, found)


def newest(box: Box) -> Checkpoint | None:
    """The newest set whose files are what their digests say; torn or altered sets are passed over."""
    for name in sorted(_names(box), reverse=True):
        folder = os.path.join(box.checkpoints, name)
        try:
            with open(os.path.join(folder, META), encoding="utf-8") as stream:
                meta = json.load(stream)
            entries = tuple(meta["files"])
            if all(_holds(box, entry) for entry in entries) and any(e["path"].endswith("last.pt") for e in entries):
                return Checkpoint(folder, int(meta["epoch"]), bool(meta["stop"]), entries)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def adopt(box: Box) -> Checkpoint | None:
    """Make the checkpoint that came with the attempt (in/resume/, named by attempt.json) one of this box's own.

    Once it is restored it is in every manifest: an attempt that dies before its first epoch loses nothing. Raises
    ValueError when the bytes are not those that were sent.
    """
    meta = box.attempt().get("resume")
    if not meta:
        return None
    name = f"{int(meta['epoch']):06d}"
    part = os.path.join(box.checkpoints, f".part-{name}-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    entries = []
    for file in meta["files"]:
        copy = os.path.basename(file["path"])
        shutil.copyfile(os.path.join(box.inbox, "resume", copy), os.path.join(part, copy))
        found = manifest.entry(part, copy)
        if found["sha256"] != file["sha256"]:
            raise ValueError(f"in/resume/{copy} has sha256 {found['sha256']}, not {file['sha256']} as sent")
        entries.append({**found, "path": file["path"], "at": f"checkpoint/{name}/{copy}"})
    return _publish(box, part, int(meta["epoch"]), bool(meta["stop"]), entries)


def restore(box: Box, checkpoint: Checkpoint) -> None:
    """Lay the copies where Ultralytics expects them, so that best.pt and results.csv go on from this epoch.

    The manifest names them from here on: an attempt that ends before its next epoch does, however, loses nothing.
    The rows after it (an epoch killed between its row and its checkpoint) are gone with that: each epoch stays once.
    """
    announce(box, checkpoint)
    os.makedirs(os.path.join(box.train, "weights"), exist_ok=True)
    for copy, target in TARGETS.items():
        final = os.path.join(box.out, target)
        if os.path.exists(checkpoint.path(copy)):
            part = f"{final}.part-{os.getpid()}"
            shutil.copyfile(checkpoint.path(copy), part)
            os.replace(part, final)
        elif os.path.exists(final):
            os.unlink(final)


def _publish(box: Box, part: str, epoch: int, stop: bool, entries: list[Json]) -> Checkpoint:
    """Describe the copies, give their folder its name, drop the oldest."""
    write_json(os.path.join(part, META), {"epoch": epoch, "stop": stop, "files": entries})
    final = os.path.join(box.checkpoints, f"{epoch:06d}")
    shutil.rmtree(final, ignore_errors=True)
    os.rename(part, final)
    for old in sorted(_names(box))[:-KEEP]:
        shutil.rmtree(os.path.join(box.checkpoints, old), ignore_errors=True)
    for name in os.listdir(box.checkpoints):
        if name.startswith(".part-"):  # of a training that was killed while it copied
            shutil.rmtree(os.path.join(box.checkpoints, name), ignore_errors=True)
    return Checkpoint(final, epoch, stop, tuple(entries))


def _twin(source: str, target: str) -> None:
    """The same bytes under a second name, written once where the file system can do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _names(box: Box) -> list[str]:
    try:
        return [name for name in os.listdir(box.checkpoints) if name.isdigit()]
    except FileNotFoundError:
        return []


def _holds(box: Box, entry: Json) -> bool:
    found = manifest.entry(box.out, str(entry["at"]))
    return bool(found["sha256"] == entry["sha256"])
