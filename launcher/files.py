"""Writing files whole or not at all, and the one way a full or closed disk is reported."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.errors import StorageError

CHUNK = 1 << 20
_REMEDIES = {
    errno.ENOSPC: "free some space on this disk",
    errno.EDQUOT: "free some of your quota on this disk",
    errno.EROFS: "choose another folder with SAMERUN_RUNS_DIR or SAMERUN_CACHE_DIR",
    errno.EACCES: "choose another folder with SAMERUN_RUNS_DIR or SAMERUN_CACHE_DIR, or mend its permissions",
    errno.EPERM: "choose another folder with SAMERUN_RUNS_DIR or SAMERUN_CACHE_DIR, or mend its permissions",
    errno.EIO: "the disk fails: look at the system's log, and keep the runs folder elsewhere with SAMERUN_RUNS_DIR",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
    errno.EEXIST: "a file stands where a folder is needed: move it away",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another with SAMERUN_RUNS_DIR or SAMERUN_CACHE_DIR",
}


@contextmanager
def storage(doing: str, where: Path | None = None) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into a StorageError that names the file and what to do.

    `where` is named when the system does not say which file it was, as for a write to an open one.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        place = error.filename or where
        raise StorageError(
            f"{doing}: {place}: {error.strerror}" if place else f"{doing}: {error.strerror}",
            remedy=_REMEDIES[error.errno],
        ) from error


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write beside the final name and rename; `durable` waits for the disk, so that a power cut cannot undo it."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(path)  # the system does not name the file of a write that failed
        raise


def _sync_folder(folder: Path) -> None:
    """Wait until the folder's names are on the disk: without this a power cut can undo a rename."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def flush(path: Path) -> None:
    """Wait until the disk has the file's bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_file(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the advisory lock of `try_lock`, and wait for whoever holds it now (another thread or process)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether someone holds the lock of `lock` or `try_lock`. Looking disturbs neither them nor others who look."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _is_held(error)
    finally:
        os.close(fd)
    return False


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an advisory lock that the system takes back when this process dies; yields whether it was free."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield not _is_held(error)
            return
        yield True
    finally:
        os.close(fd)


def _is_held(error: OSError) -> bool:
    """True for a lock that someone has; a file system that knows no locks is an error, and no lock."""
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        return True
    raise error
