"""Bytes of the files that `tree` moves: hashed, written, copied, and held by one process alone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from typing import Any


CHUNK = 1 << 20
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for its writer
WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def digest_of(fd: int, size: int, pulse: Callable[[], None]) -> Any:
    """The digest of the first `size` bytes, or of all there are."""
    digest = hashlib.sha256()
    at = 0
    while at < size:
        piece = os.pread(fd, min(CHUNK, size - at), at)
        if not piece:
            break
        digest.update(piece)
        at += len(piece)
        pulse()
    return digest


def write(part: io.FileIO, piece: memoryview) -> None:
    """All of it: a disk that fills up takes a part."""
    while piece:
        piece = piece[part.write(piece) :]


def is_mine(part: int, name: str, folder: int) -> bool:
    """Take the part for ourselves: whether nobody has it, and it has not got its final name meanwhile."""
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(part), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:  # also where the file system has no locks
        return False


def copy_start(source: io.FileIO, to: io.FileIO, size: int) -> None:
    """The first `size` bytes, or all there are."""
    while size and (piece := source.read(min(CHUNK, size))):
        write(to, memoryview(piece))
        size -= len(piece)


def copy(folder: int, source: str, to: str) -> None:
    """A file of the folder, under another name too."""
    with contextlib.ExitStack() as stack:  # Python 3.9 has no parentheses around several
        old = stack.enter_context(os.fdopen(os.open(source, READ, dir_fd=folder), "rb"))
        new = stack.enter_context(os.fdopen(os.open(to, WRITE | os.O_TRUNC, 0o600, dir_fd=folder), "wb"))
        shutil.copyfileobj(old, new, CHUNK)
