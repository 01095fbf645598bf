"""The bytes of objects: files of their own in one folder, with the checksums of what was really written."""

from __future__ import annotations

import base64
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from tests.emulators.storage.settings import ApiError, World

CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """`size` bytes in a file that nobody changes. Checksums are as GCS writes them: base64, crc32c big-endian."""

    path: Path
    size: int
    crc32c: str
    md5: str | None

    def read(self) -> bytes:
        return self.path.read_bytes()

    def hashes(self) -> str:
        """The value of x-goog-hash."""
        return f"crc32c={self.crc32c}" + (f",md5={self.md5}" if self.md5 is not None else "")

    def agree(self, claimed: dict[str, str]) -> None:
        """Raises ApiError 400, in GCS's words, where a checksum the client named is not that of what arrived."""
        for kind, label, ours in (("crc32c", "CRC32C", self.crc32c), ("md5", "MD5 hash", self.md5)):
            theirs = claimed.get(kind)
            if theirs is not None and ours is not None and theirs != ours:
                text = f'Provided {label} "{theirs}" doesn\'t match calculated {label} "{ours}".'
                raise ApiError(400, "invalid", text)


class Writing:
    """A content that is being written. `finish` gives it; `drop` forgets it."""

    def __init__(self, path: Path, *, md5: bool) -> None:
        self._path = path
        self._file = path.open("xb", buffering=0)
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        whole = bytes(data)
        self._file.write(whole)
        self._crc = google_crc32c.extend(self._crc, whole)
        if self._md5 is not None:
            self._md5.update(whole)
        self.size += len(whole)

    def finish(self) -> Content:
        self._file.close()
        crc32c = base64.b64encode(self._crc.to_bytes(4, "big")).decode()
        md5 = None if self._md5 is None else base64.b64encode(self._md5.digest()).decode()
        return Content(self._path, self.size, crc32c, md5)

    def drop(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class Contents:
    """The folder of all contents."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._folder = world.folder / "contents"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count(1)

    def writing(self, *, md5: bool = True) -> Writing:
        return Writing(self._folder / f"{next(self._numbers):08d}", md5=md5 and self._world.settings.md5)

    def of(self, data: bytes) -> Content:
        writing = self.writing()
        writing.write(data)
        return writing.finish()

    def joined(self, sources: list[Content]) -> Content:
        """Several, one after the other, without an md5: as compose makes them."""
        writing = self.writing(md5=False)
        for source in sources:
            with source.path.open("rb") as file:
                while piece := file.read(CHUNK):
                    writing.write(piece)
        return writing.finish()

    def copied(self, source: Content) -> Content:
        writing = self.writing(md5=source.md5 is not None)
        with source.path.open("rb") as file:
            while piece := file.read(CHUNK):
                writing.write(piece)
        return writing.finish()
