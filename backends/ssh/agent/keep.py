"""What stays on this host for runs to come: datasets by fingerprint, environments by digest, and the agent itself.

A dataset counts when its mark is there, which is written last, and each file still has its size. An environment
counts when its own mark is there. What is half made is gone on with or made anew; nobody takes it for whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time

from .answer import Refusal
from .box import BOXES, INCOMING, boxes, locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

AGENTS, DATA, ENVS, UV = "agents", "data", "envs", "uv"
KINDS = {
    DATA: "a dataset",
    ENVS: "an environment",
    INCOMING: "an attempt's input",
    UV: "uv",
    AGENTS: "samerun's program there",
}
MANY = (DATA, ENVS, INCOMING)
"""Kinds of which there may be several, by name."""
WHOLE = ".samerun-whole.json"
"""In an environment that is whole."""


def data_of(root: str, fingerprint: str) -> str:
    """The dataset's folder. Raises Refusal for what is no fingerprint."""
    if not fingerprint or not all(letter in "0123456789abcdef" for letter in fingerprint):
        raise Refusal(f"{fingerprint!r} is no fingerprint")
    return os.path.join(root, DATA, fingerprint)


def has_data(root: str, fingerprint: str) -> bool:
    """Whether the dataset is here, whole: every file of its mark has its size. Bytes the worker checks."""
    folder = data_of(root, fingerprint)
    try:
        with open(f"{folder}.json", encoding="utf-8") as stream:
            listed = json.load(stream)["files"]
        return all(os.stat(os.path.join(folder, *path.split("/"))).st_size == size for path, size in listed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def seal_data(root: str, fingerprint: str, listed: list[list[Any]]) -> Json:
    """Write the mark of a dataset whose files have all come. Raises Refusal when one has not."""
    folder = data_of(root, fingerprint)
    os.makedirs(folder, exist_ok=True)  # one without files
    for path, size in listed:
        try:
            found = os.stat(os.path.join(folder, *path.split("/"))).st_size
        except OSError:
            found = -1
        if found != size:
            raise Refusal(f"the dataset has not arrived whole: {path} should have {size} bytes", "launch again")
    mark = {"files": listed, "bytes": sum(size for _, size in listed), "made": time.time()}
    part = f"{folder}.json.part-{os.getpid()}"
    with open(part, "w", encoding="utf-8") as stream:
        json.dump(mark, stream)
    os.replace(part, f"{folder}.json")
    return {"folder": folder}


def kept(root: str) -> list[Json]:
    """Datasets, environments, and what belongs to us: `key` is the path below the root."""
    found = []
    for kind in MANY:
        folder = os.path.join(root, kind)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found += [_entry(root, kind, name) for name in names if os.path.isdir(os.path.join(folder, name))]
    found += [_entry(root, kind, "") for kind in (UV, AGENTS) if os.path.isdir(os.path.join(root, kind))]
    return found


def _entry(root: str, kind: str, name: str) -> Json:
    folder = os.path.join(root, kind, name)
    entry: Json = {"key": f"{kind}/{name}".rstrip("/"), "what": KINDS[kind], "size": _size(folder), "made": None}
    with contextlib.suppress(OSError):
        entry["made"] = os.stat(folder).st_mtime
    return entry


def _size(folder: str) -> int:
    """Bytes of all files; one that has several names counts for each."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def discard(root: str, key: str) -> list[str]:
    """Remove one of them, its mark first; what is left over, in words. The last one takes the empty root along."""
    kind, _, name = key.partition("/")
    if kind not in KINDS or "/" in name or name.startswith(".") or bool(name) != (kind in MANY):
        raise Refusal(f"{key!r} is nothing that is kept here")
    folder = os.path.join(root, *key.split("/"))
    if kind == ENVS and os.path.isdir(folder):
        with locked(f"{folder}.lock", wait=False) as free:
            if not free:
                return [f"{folder}: it is being made"]
            _remove(folder)
            _remove(f"{folder}.lock")
    else:
        _remove(f"{folder}.json")
        _remove(folder)
    if not boxes(root):
        for each in (BOXES, INCOMING, DATA, ENVS):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(root, each))
        with contextlib.suppress(OSError):
            os.rmdir(root)
    return [f"{folder}: could not be deleted"] if os.path.lexists(folder) else []


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        os.unlink(path)
    shutil.rmtree(path, ignore_errors=True)
