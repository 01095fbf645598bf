"""The listing of a dataset that was never where the run was planned: found, read, hashed on the machine.

Promises: a dataset that came with the attempt is as in/data.json says, and nothing here is done. Any other is listed in
work/data.json, in the same format, before it is trained on; its `dataset` event says its fingerprint; a dataset that
is not the one which the run began with ends the attempt. Nothing is written where the dataset lies.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from ..box import write_json
from ..training.guard import GuardError
from . import dataset as reading
from .fingerprint import FileDigest, Fingerprint, compose, splits_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..box import Box, Json
    from ..events import Emitter
    from .fingerprint import Kind

YAML = "data.yaml"
THREADS = min(8, os.cpu_count() or 1)
TELL_S = 10.0  # seconds between two events on how far the reading is
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def file(box: Box) -> str:
    """Where the dataset's listing lies: in/data.json, or what `ensure` made."""
    came = os.path.join(box.inbox, "data.json")
    return came if os.path.exists(came) else os.path.join(box.work, "data.json")


def script(box: Box) -> str:
    """The script that makes the dataset of what is attached, where the run has one."""
    return os.path.join(box.inbox, "prepare.py")


def prepared(box: Box) -> str:
    """The folder in which the script makes it."""
    return os.path.join(box.work, "prepared")


def is_prepared(box: Box) -> bool:
    """Whether the script has come to its end."""
    return os.path.exists(f"{prepared(box)}.done")


def ensure(box: Box, emit: Emitter) -> None:
    """List the dataset, unless that is done. Raises GuardError for one that cannot be trained on, or has changed."""
    if os.path.exists(file(box)):
        return
    attempt = box.attempt()
    source = str(attempt.get("data_root") or "")
    if os.path.exists(script(box)):
        if not is_prepared(box):
            remedy = "the backend must run `worker.pyz prepare BOX` before the training"
            raise GuardError("data-not-prepared", "in/prepare.py has not been run", remedy)
        source = prepared(box)
    if not os.path.isdir(source):
        raise GuardError("data-missing", f"the dataset is not here: there is no folder {source!r}", "attach it")
    emit("preparing", what=f"reading the dataset in {source}")
    try:
        yaml = find(source)
        found = reading.read(Path(yaml))
        _stays(found, source)
        mark, odd = _hashed(found, emit)
    except reading.FaultyError as error:
        remedy = "mend the dataset, or write a script for `data.prepare` that makes a sound one of it"
        raise GuardError("data-faulty", str(error), remedy) from None
    for note in found.notes:
        emit("warning", code=note.code, reason=note.message, evidence=note.evidence, remedy=note.remedy)
    emit(
        "dataset",
        fingerprint=mark.total,
        **{part: getattr(mark, part) for part in ("images", "labels", "splits", "n_images", "n_labels", "bytes")},
        **{f"n_{split}": len(items) for split, items in found.splits.items()},
        classes=len(found.names),
        yaml=os.path.relpath(yaml, source).replace(os.sep, "/"),
    )
    _compare(mark, attempt)
    write_json(file(box), _listing(found, mark, odd))


def find(folder: str) -> str:
    """The data.yaml in a folder, or the only one below it. Raises FaultyError."""
    if os.path.isfile(path := os.path.join(folder, YAML)):
        return path
    below = []
    for above, folders, names in os.walk(folder):
        folders.sort()
        if YAML in names:
            below.append(os.path.join(above, YAML))
    if len(below) == 1:
        return below[0]
    if not below:
        remedy = "a dataset holds one at its root; a script for `data.prepare` can make it"
        raise reading.FaultyError([reading.Fault(f"there is no {YAML}", folder, remedy=remedy)])
    shown = ", ".join(os.path.relpath(path, folder) for path in below[: reading.SHOWN])
    more = f" and {len(below) - reading.SHOWN} more" if len(below) > reading.SHOWN else ""
    text = f"there are {len(below)} of {YAML}, and none is at the root: {shown}{more}"
    remedy = "a script for `data.prepare` can say which: it makes the dataset that is meant"
    raise reading.FaultyError([reading.Fault(text, folder, remedy=remedy)])


def _stays(found: reading.Dataset, source: str) -> None:
    """Whatever `path:` says, the dataset lies in the folder that was attached."""
    if not found.root.is_relative_to(Path(source).resolve()):
        text, remedy = f"leads out of the attached dataset, to {found.root}", "delete `path:`"
        raise reading.FaultyError([reading.Fault(text, str(found.yaml), field="path", remedy=remedy)])


def _hashed(found: reading.Dataset, emit: Emitter) -> tuple[Fingerprint, list[str]]:
    """The dataset's fingerprint, and which images end oddly. Reads every file once. Raises FaultyError."""
    kinds: dict[str, Kind] = {}
    for items in found.splits.values():
        for item in items:
            kinds[item.image] = "image"
            if item.label is not None:
                kinds[item.label] = "label"
    files: list[FileDigest] = []
    faults, odd = [], []
    told = time.monotonic()
    for path, result in _read_all(str(found.root), sorted(kinds)):
        if isinstance(result, OSError):
            text = f"cannot be read: {result.strerror or result}"
            faults.append(reading.Fault(text, str(found.root / path), remedy="make it readable, or remove it"))
            continue
        size, digest, ends_oddly = result
        files.append(FileDigest(path, size, digest, kinds[path]))
        if ends_oddly and kinds[path] == "image":
            odd.append(path)
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            emit("preparing", what=f"reading the dataset: {len(files)} of {len(kinds)} files")
    if faults:
        raise reading.FaultyError(reading.more(faults))
    return compose(tuple(files), splits_digest(found.names, found.splits)), odd


def _read_all(root: str, paths: list[str]) -> Iterator[tuple[str, tuple[int, str, bool] | OSError]]:
    """Of each file, in order: size, SHA-256, whether it is a JPEG that does not end as one; or why it cannot be read.

    Such a JPEG Ultralytics may write anew (data/utils.py, verify_image). Threads, because reading lets go of the GIL.
    """
    from concurrent.futures import ThreadPoolExecutor

    def read(path: str) -> tuple[int, str, bool] | OSError:
        full = os.path.join(root, path)
        try:
            if not os.path.isfile(full):  # a pipe would be read for ever
                return FileNotFoundError(2, "there is no such file")
            with open(full, "rb", buffering=0) as stream:
                data = stream.read()
        except OSError as error:
            return error
        odd = data.startswith(JPEG_START) and not data.endswith(JPEG_END)
        return len(data), hashlib.sha256(data).hexdigest(), odd

    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(paths, pool.map(read, paths), strict=True)


def _compare(mark: Fingerprint, attempt: Json) -> None:
    """A run goes on with the dataset that it began with, or not at all. Raises GuardError."""
    before = attempt.get("expect_fingerprint")
    if before and before != mark.total:
        text = f"the dataset has changed since the run began: its fingerprint is {mark.total}, and was {before}"
        remedy = "pin the dataset's version, have the prepare script give the same files each time, or start a new run"
        raise GuardError("data-changed", text, remedy)


def _listing(found: reading.Dataset, mark: Fingerprint, odd: list[str]) -> Json:
    """What in/data.json would say (launcher.runs.create), and the dataset's root."""
    splits = {
        split: [{"image": item.image, "label": item.label} for item in items] for split, items in found.splits.items()
    }
    return {
        "root": str(found.root),
        "fingerprint": mark.total,
        "names": {str(number): name for number, name in found.names.items()},
        "splits": splits,
        "files": [{"path": one.path, "size": one.size, "sha256": one.sha256} for one in mark.files],
        "copy": odd,
    }
