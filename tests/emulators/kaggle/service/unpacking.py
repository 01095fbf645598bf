"""How the files of a dataset version come to lie: names checked, archives unpacked, everything read-only."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


class RefusedError(Exception):
    """A file that the service does not take; the dataset becomes FAILED with this message."""


def lay_out(blobs: Sequence[tuple[str, Path]], folder: Path, *, unpack: str, refused: str) -> None:
    """Put each blob, by its path, below `folder`. Raises RefusedError; then the folder holds a part of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs:
        stem = next((name[: -len(end)] for end in ARCHIVES if name.lower().endswith(end)), None)
        if unpack == "off" or stem is None:
            _copy(blob, _place(folder, name, refused))
        else:
            parent = PurePosixPath(name).parent.as_posix() if unpack == "root" else stem
            _unpack(blob, folder, "" if parent == "." else parent, refused)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


def _place(folder: Path, name: str, refused: str) -> Path:
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or re.search(refused, name):
        raise RefusedError(f"The file name {name!r} is not valid.")
    path = folder / pure
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _copy(blob: Path, path: Path) -> None:
    shutil.copyfile(blob, path)


def _unpack(blob: Path, folder: Path, below: str, refused: str) -> None:
    inside = f"{below}/" if below else ""
    if zipfile.is_zipfile(blob):
        with zipfile.ZipFile(blob) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as source, _place(folder, inside + info.filename, refused).open("wb") as to:
                        shutil.copyfileobj(source, to)
        return
    try:
        with tarfile.open(blob) as tar:
            for member in tar:
                if member.pax_headers:  # what their unpacker sees of these, by kaggle-cli#430
                    _place(folder, f"{inside}@PaxHeader", refused)
                source_file = tar.extractfile(member) if member.isfile() else None
                if source_file is not None:
                    with source_file, _place(folder, inside + member.name, refused).open("wb") as to:
                        shutil.copyfileobj(source_file, to)
    except tarfile.TarError as error:
        raise RefusedError(f"The archive cannot be read: {error}") from error
