"""What a checkpoint of Ultralytics holds, read without torch and without running anything that is in it.

torch.save writes a zip archive: data.pkl says what there is, data/0, data/1, ... are the bytes of the tensors. The
digest is of these bytes, so that the date, the folder and the metrics that lie beside them do not matter. It stands for
the state dict as long as the same program wrote both files: names and shapes are not in it.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PICKLE_LIMIT = 64 << 20  # bytes of data.pkl; that of yolo11x has 0.4 MB
_TENSOR = re.compile(r".*/data/(\d+)")
_BROKEN = (OSError, zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, RuntimeError, EOFError)


def state_digest(file: Path) -> str | None:
    """SHA-256 of all tensors in their order; None for a file that is missing or no such archive."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(file) as archive:
            found = [(int(match[1]), name) for name in archive.namelist() if (match := _TENSOR.fullmatch(name))]
            for number, name in sorted(found):
                digest.update(f"{number} {archive.getinfo(name).file_size} ".encode())
                with archive.open(name) as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
    except _BROKEN:
        return None
    return digest.hexdigest() if found else None


def facts(file: Path) -> dict[str, Any]:
    """`train_args` (a dict) and `version` of a checkpoint; empty where they cannot be told."""
    held = _read(file)
    if held is None:
        return {}
    arguments, version = held.get("train_args"), held.get("version")
    return {
        "train_args": {str(key): value for key, value in arguments.items()} if isinstance(arguments, dict) else {},
        "version": version if isinstance(version, str) else None,
    }


def numbers(file: Path) -> dict[str, Any]:
    """`train_results` (the table so far, lists by column) and `train_metrics` (of the epoch of the weights) of a
    checkpoint, as far as they are plain dicts; the values may be anything."""
    held = _read(file) or {}
    return {name: held[name] for name in ("train_results", "train_metrics") if type(held.get(name)) is dict}


def _read(file: Path) -> Mapping[Any, Any] | None:
    """What data.pkl holds, with every object as `_Inert`; None for what cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next((one for one in archive.namelist() if one.endswith("/data.pkl")), "")
            if not name or archive.getinfo(name).file_size > PICKLE_LIMIT:
                return None
            with archive.open(name) as stream:
                held = _Reader(stream).load()
    except (*_BROKEN, pickle.UnpicklingError, AttributeError, TypeError, IndexError, RecursionError, MemoryError):
        return None
    return held if isinstance(held, Mapping) else None


class _Inert(dict[Any, Any]):
    """Stands for every object of a checkpoint: takes whatever it is made of, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        return

    def append(self, _: Any) -> None:
        """As a list is filled."""

    def extend(self, _: Any) -> None:
        """The same, many at once."""

    def add(self, _: Any) -> None:
        """As a set is filled."""


class _Reader(pickle.Unpickler):
    """Reads plain values; a class or function by name is never looked up, `_Inert` stands for it."""

    def find_class(self, _module: str, _name: str) -> Any:
        return _Inert

    def persistent_load(self, _: Any) -> Any:
        return None
