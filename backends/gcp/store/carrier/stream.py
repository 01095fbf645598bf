"""stream.log, carried as pieces that never change: each begins where the one before ends.

Promises: the pieces, one after the other, are the file's bytes, each once, wherever a carrier was killed and whatever
requests of a killed one come late: a piece's name is its offset, it is created and never overwritten, and how far the
bucket reaches is asked of the bucket. Each piece says whose it is, where it begins and its sha256, so that one that
was swapped, cut or altered is known.
"""

from __future__ import annotations

import hashlib
import json
import os

from .objects import AbsentError, ConflictError, DamagedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .names import AttemptNames
    from .objects import Objects

PIECE_BYTES = 2 << 20
"""Most of a piece, and of memory (an assumption): an hour of a chatty log in one request."""


def wrap(attempt: str, offset: int, data: bytes) -> bytes:
    """A piece as it is stored: a line of JSON that says what it is, and the bytes."""
    head = {"attempt": attempt, "offset": offset, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return json.dumps(head, sort_keys=True).encode() + b"\n" + data


def unwrap(attempt: str, offset: int, piece: bytes) -> bytes:
    """The bytes of a piece. Raises DamagedError for one that is not what was written there."""
    head, _, data = piece.partition(b"\n")
    if piece != wrap(attempt, offset, data):
        raise DamagedError(f"the piece of stream.log at byte {offset} is not what was written ({head[:100]!r})")
    if not data:
        raise DamagedError(f"the piece of stream.log at byte {offset} is empty")
    return data


class StreamCarrier:
    """Carries one stream.log."""

    def __init__(self, objects: Objects, names: AttemptNames, file: str) -> None:
        self._objects, self._names, self._file = objects, names, file
        self._end: int | None = None

    @property
    def end(self) -> int:
        """How many bytes are in the bucket, as far as this carrier knows."""
        return self._end or 0

    def step(self) -> bool:
        """Carry one piece; whether there was one. Raises what the store raises, and may be called again after."""
        if self._end is None:
            self._end = self._recall()
        data = self._read(self._end, PIECE_BYTES)
        if not data:
            return False
        name = self._names.piece(self._end)
        try:
            self._objects.create(name, wrap(self._names.attempt, self._end, data))
        except ConflictError:
            data = self._landed(self._end)
        self._end += len(data)
        return True

    def _recall(self) -> int:
        """How far the bucket reaches: a carrier before this one may have been killed."""
        last = ""
        for seen in self._objects.list(self._names.stream):
            last = seen.name
        if not last:
            return 0
        offset = int(last.rpartition("/")[2])
        return offset + len(self._landed(offset))

    def _landed(self, offset: int) -> bytes:
        """What the bucket has at this offset, which is what the file has there; what is not is written again."""
        name = self._names.piece(offset)
        piece, generation = self._objects.read(name)
        if not generation:
            raise AbsentError(f"{name} is gone")
        try:
            data = unwrap(self._names.attempt, offset, piece)
            if self._size() <= offset or self._read(offset, len(data)) == data:
                return data
        except DamagedError:
            pass
        data = self._read(offset, PIECE_BYTES)
        if not data:
            raise DamagedError(f"{name} is not what was written, and stream.log does not reach so far")
        self._objects.swap(name, wrap(self._names.attempt, offset, data), generation)
        return data

    def _size(self) -> int:
        try:
            return os.stat(self._file).st_size
        except FileNotFoundError:
            return 0

    def _read(self, offset: int, most: int) -> bytes:
        try:
            with open(self._file, "rb") as stream:
                stream.seek(offset)
                return stream.read(most)
        except FileNotFoundError:
            return b""
