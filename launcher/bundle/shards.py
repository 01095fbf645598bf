"""A set of files as few tar archives that are never written here: what is large travels as these.

Promises: names, sizes and every byte of the shards depend on the set of contents and on `target` alone, so that an
upload that was cut goes on at any byte, in another process, on another day. Each content travels once, however many
files have it, and is named by its digest (`ab/cdef...`): no path of a dataset can trouble a service that unpacks. A
file that is not what it was when it was hashed raises IntegrityError before its last byte is handed out.

Headers are USTAR's, without extensions (Kaggle fails on a member called `@PaxHeader`); a content of 8 GiB or more,
which USTAR's field cannot say, has its size in base 256, which GNU tar, BSD tar and Python read. An empty content has
no member: the reader, `launcher.worker.data.unshard`, makes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from bisect import bisect_right
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from launcher.errors import IntegrityError
from launcher.files import CHUNK

SCHEME = "samerun-shards-1"
"""Part of the key: raised when shards are composed in another way."""
PREFIX = "samerun-"
TARGET = 1 << 30
"""Bytes of a shard (an assumption): few enough requests for 100 GB, and little to send again when an upload expires."""
_BLOCK = tarfile.BLOCKSIZE
_END = 2 * _BLOCK  # two blocks of zeros end a tar; the padding to 10 kB of old tape drives no reader asks for
_USTAR_LIMIT = 8 << 30
_EPOCH = 315532800  # 1980-01-01: the earliest time that a zip can hold too, should a service pack the files again
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """One content: its digest, its size in bytes, a file here that has it, and where its header is in the shard."""

    sha256: str
    size: int
    source: Path
    at: int

    @property
    def name(self) -> str:
        """Its name in the archive, and below the folder that it is unpacked to."""
        return f"{self.sha256[:2]}/{self.sha256[2:]}"


@dataclass(frozen=True)
class Shard:
    """One archive: its file name, its size in bytes, what is in it, sorted by digest."""

    name: str
    size: int
    members: tuple[Member, ...] = field(repr=False)

    @property
    def stem(self) -> str:
        """The folder that a service makes of it when it unpacks archives."""
        return self.name.removesuffix(".tar")

    def stream(self, offset: int = 0) -> Generator[bytes, None, None]:
        """The bytes from `offset` on. A member that it begins in the middle of is read and checked whole.

        Raises IntegrityError when a file is gone or changed, and then no byte after.
        """
        self._check(offset)
        starts = [*(member.at for member in self.members), self.size - _END]
        first = bisect_right(starts, offset) - 1
        skip = offset - starts[first]
        for member in self.members[first:]:
            for piece in _bytes_of(member):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(skip - len(piece), 0)
        yield bytes(_END)[skip:]

    def read(self, offset: int, n: int) -> bytes:
        """`n` bytes from `offset`, fewer only at the end. For ranges in order, `open` is quicker."""
        with self.open(offset) as reader:
            return reader.read(n)

    def open(self, offset: int = 0) -> Reader:
        """The bytes from `offset` on, as the body of a request."""
        self._check(offset)
        return Reader(self, offset)

    def _check(self, offset: int) -> None:
        if not 0 <= offset <= self.size:
            raise ValueError(f"{self.name} has {self.size} bytes: no offset {offset}")


class Reader:
    """What HTTP clients ask of a body: `read`, and `len` of what is left. `offset` is where the next byte lies."""

    def __init__(self, shard: Shard, offset: int) -> None:
        self.offset = offset
        self._size = shard.size
        self._pieces = shard.stream(offset)
        self._left = memoryview(b"")

    def __len__(self) -> int:
        return self._size - self.offset

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, n: int = -1) -> bytes:
        """The next `n` bytes, fewer only at the end; all for a negative number. Raises IntegrityError like `stream`."""
        wanted = len(self) if n < 0 else min(n, len(self))
        parts = []
        while wanted:
            if not self._left:
                self._left = memoryview(next(self._pieces))
            part, self._left = self._left[:wanted], self._left[wanted:]
            parts.append(part)
            self.offset += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the file that is open."""
        self._pieces.close()


@dataclass(frozen=True)
class ShardSet:
    """A set of contents, cut into shards. `key` is its identity: SHA-256 in hex of the contents and the cut."""

    key: str
    shards: tuple[Shard, ...]

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    @property
    def index_name(self) -> str:
        """The file by which a reader finds the shards, wherever they were mounted: it lies beside them."""
        return f"{PREFIX}{self.key}.json"

    @cached_property
    def index(self) -> bytes:
        """What a reader needs, as JSON. `first` is a shard's first digest: the shard of each digest follows from it."""
        shards = [
            {"name": shard.name, "size": shard.size, "members": len(shard.members), "first": shard.members[0].sha256}
            for shard in self.shards
        ]
        value = {"version": 1, "key": self.key, "shards": shards}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def lay_out(blobs: Mapping[str, tuple[Path, int]], target: int = TARGET) -> ShardSet:
    """Cut contents, sha256 in hex → (file, size in bytes), into shards of at most `target` bytes. Opens no file.

    A content larger than `target` has a shard of its own. Raises ValueError for what is not a digest or a size.
    """
    for digest, (source, size) in blobs.items():
        if not _DIGEST.fullmatch(digest) or size < 0:
            raise ValueError(f"{source}: {digest!r} with {size} bytes is no content")
    wanted = sorted((digest, size, source) for digest, (source, size) in blobs.items() if size)
    identity = hashlib.sha256(f"{SCHEME} {target}\n".encode())
    for digest, size, _ in wanted:
        identity.update(f"{digest} {size}\n".encode())
    key = identity.hexdigest()
    cuts: list[list[Member]] = []
    end = 0
    for digest, size, source in wanted:
        taken = _BLOCK + size + -size % _BLOCK
        if not cuts or end + taken + _END > target:
            cuts.append([])
            end = 0
        cuts[-1].append(Member(digest, size, source, end))
        end += taken
    shards = tuple(_shard(f"{PREFIX}{key[:8]}-{number:03}.tar", members) for number, members in enumerate(cuts))
    return ShardSet(key, shards)


def _shard(name: str, members: list[Member]) -> Shard:
    last = members[-1]
    return Shard(name, last.at + _BLOCK + last.size + -last.size % _BLOCK + _END, tuple(members))


def header(member: Member) -> bytes:
    """The 512 bytes before a content: the same ones for ever."""
    info = tarfile.TarInfo(member.name)
    info.size, info.mtime, info.mode = member.size, _EPOCH, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT if member.size < _USTAR_LIMIT else tarfile.GNU_FORMAT)


def _bytes_of(member: Member) -> Generator[bytes, None, None]:
    """Header, content and padding. What does not fit its digest is found before the last piece is handed out."""
    try:
        with member.source.open("rb", buffering=0) as stream:
            before = _state(stream.fileno())
            if before[0] != member.size:
                raise _changed(member, f"it has {before[0]} bytes, {member.size} when it was hashed")
            yield header(member)
            digest = hashlib.sha256()
            left = member.size
            while left:
                piece = stream.read(min(left, CHUNK))
                digest.update(piece)
                left -= len(piece)
                if not piece or (not left and _state(stream.fileno()) != before):
                    raise _changed(member, "it was written to while it was read")
                if not left and digest.hexdigest() != member.sha256:
                    raise _changed(member, "it has other bytes than when it was hashed")
                yield piece
    except OSError as error:
        raise _changed(member, f"it cannot be read: {error.strerror or error}") from error
    yield bytes(-member.size % _BLOCK)


def _state(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


def _changed(member: Member, how: str) -> IntegrityError:
    remedy = "leave the files alone until they are sent, then launch again: what changed is read anew"
    return IntegrityError(f"{member.source} changed since the run was planned: {how}", remedy=remedy)
