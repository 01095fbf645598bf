"""Says which data a training saw: SHA-256 of every image and label, and of how they are split.

Promises: two datasets have one fingerprint exactly when each split holds the same images and labels, byte for byte,
under the same names, with the same classes. Where the tree lies, what else lies in it, modification times and the
order of a file system do not matter. Each file is read once, also when an inspector looks into it. The formula is the
worker's (`launcher.worker.data.fingerprint`), which fingerprints datasets that never were here.

A cache of file states makes the next fingerprint of an unchanged tree a matter of `stat`. An entry counts when size,
modification time, change time and inode are those it was hashed under, and when the file had not changed for
`RACY_NS` when it was hashed: a later write within one tick of the file system's clock would leave the times as they
are (git's "racy" entries). A cache that is corrupt, locked or cannot be written costs time, never the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.data.dataset import Dataset, more
from launcher.errors import DataError, Problem
from launcher.worker.data.fingerprint import FileDigest, Fingerprint, Kind, compose, splits_digest

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FileDigest", "Fingerprint", "Inspector", "Kind", "Progress", "Scan", "fingerprint", "scan"]

Inspector = Callable[[Kind, bytes], str]
"""Looks into a file's bytes and returns a note, which is cached with the digest: it may depend on nothing else."""
Progress = Callable[[int, int], None]

RACY_NS = 2_000_000_000
"""Nanoseconds: FAT keeps times to 2 s, the coarsest of the file systems in use; ext4, APFS and XFS are finer."""
CHUNK = 64
"""Files that one thread takes at a time: small enough to report progress, large enough to cost no hand-over."""
THREADS = min(8, os.cpu_count() or 1)
LOCK_WAIT_S = 2.0


@dataclass(frozen=True)
class Scan:
    """One pass over a dataset's files. `notes` is what the inspector said of each, by path; `read` how many it read."""

    fingerprint: Fingerprint
    notes: dict[str, str]
    read: int


def fingerprint(dataset: Dataset, cache_file: Path | None = None, progress: Progress | None = None) -> Fingerprint:
    """The dataset's fingerprint. `progress(done, all)` counts files. Raises DataError for files that cannot be read."""
    return scan(dataset, cache_file, progress=progress).fingerprint


def scan(
    dataset: Dataset,
    cache_file: Path | None = None,
    *,
    inspect: Inspector | None = None,
    inspector: str = "",
    progress: Progress | None = None,
) -> Scan:
    """Fingerprint the dataset and inspect each file in the same pass.

    `inspector` names the inspector and its version: notes of another are not used, and the files are read again.
    Raises DataError that lists the files which are gone or cannot be read.
    """
    wanted: dict[str, Kind] = {}
    for items in dataset.splits.values():
        for item in items:
            wanted[item.image] = "image"
            if item.label is not None:
                wanted[item.label] = "label"
    states, problems = _stat_all(dataset.root, wanted)
    cache = _Cache(cache_file, inspector) if cache_file is not None else None
    known = cache.load(str(dataset.root)) if cache is not None else {}
    digests: dict[str, _Digest] = {}
    cold = []
    for path, state in states.items():
        row = known.get(path)
        if row is not None and row[1:5] == state:
            digests[path] = (row[1], row[5], row[6])
        else:
            cold.append(path)
    done, total = len(digests), len(states)
    if progress is not None and done:
        progress(done, total)
    started = time.time_ns()
    fresh: dict[str, _Digest] = {}
    for batch, failed in _digest_all(dataset.root, cold, wanted, inspect):
        fresh |= batch
        problems += failed
        if progress is not None:
            progress(done + len(fresh), total)
    if problems:
        raise DataError(more(problems))
    if cache is not None and fresh:
        calm = {path: digest for path, digest in fresh.items() if _is_calm(states[path], started)}
        cache.store(str(dataset.root), states, calm)
    digests |= fresh
    files = tuple(FileDigest(path, digests[path][0], digests[path][1], wanted[path]) for path in sorted(wanted))
    notes = {path: digest[2] for path, digest in digests.items()}
    return Scan(compose(files, splits_digest(dataset.names, dataset.splits)), notes, len(fresh))


# Files


# Plain tuples: at 47,000 files, models would take longer than their content.
_State = tuple[int, int, int, int]
"""Size, modification time, change time (both in ns) and inode of a file."""
_Digest = tuple[int, str, str]
"""Size, SHA-256 and note of a file's bytes."""
_Row = tuple[str, int, int, int, int, str, str]
"""Path, state, SHA-256 and note: a row of the cache."""


def _is_calm(state: _State, now_ns: int) -> bool:
    """Whether the file had been left alone long enough, at this time, for its times to tell a later change."""
    return max(state[1], state[2]) + RACY_NS <= now_ns


def _stat_all(root: Path, paths: Collection[str]) -> tuple[dict[str, _State], list[Problem]]:
    """The state of each file, folder by folder: names come from one listing, which is quicker than one path each."""
    folders: dict[str, set[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, set()).add(name)
    states: dict[str, _State] = {}
    for folder, names in folders.items():
        prefix = f"{folder}/" if folder else ""
        try:
            with os.scandir(root / folder) as entries:
                found = [(entry.name, entry.stat()) for entry in entries if entry.name in names]
        except OSError:  # one of its files went away, or is a link to nowhere: ask for each
            found = _stat_each(f"{root}/{prefix}", names)
        for name, was in found:
            if stat.S_ISREG(was.st_mode):  # a pipe would be read for ever
                inode = was.st_ino if was.st_ino < 1 << 63 else was.st_ino - (1 << 64)  # SQLite's are signed
                states[prefix + name] = (was.st_size, was.st_mtime_ns, was.st_ctime_ns, inode)
    gone = [Problem("there is no such file", file=str(root / path)) for path in paths if path not in states]
    return states, gone


def _stat_each(prefix: str, names: set[str]) -> list[tuple[str, os.stat_result]]:
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            found.append((name, os.stat(prefix + name)))  # noqa: PTH116  # as quick as can be, like the caller
    return found


def _digest_all(
    root: Path, paths: list[str], kinds: dict[str, Kind], inspect: Inspector | None
) -> Iterator[tuple[dict[str, _Digest], list[Problem]]]:
    """Read, hash and inspect files, a chunk at a time, on some threads: hashlib and `read` let go of the GIL."""
    if not paths:
        return
    from concurrent.futures import ThreadPoolExecutor

    def chunk(part: list[str]) -> tuple[dict[str, _Digest], list[Problem]]:
        found: dict[str, _Digest] = {}
        failed = []
        for path in part:
            try:
                data = _read(f"{root}/{path}")
            except OSError as error:
                text = f"cannot be read: {error.strerror or error}"
                failed.append(Problem(text, file=f"{root}/{path}", remedy="make it readable, or remove it"))
                continue
            note = inspect(kinds[path], data) if inspect is not None else ""
            found[path] = (len(data), hashlib.sha256(data).hexdigest(), note)
        return found, failed

    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from pool.map(chunk, parts)
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt need not wait for the rest of the dataset


def _read(path: str) -> bytes:
    """A file's bytes."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # Path() costs more than reading a small file
        return file.read()


# The cache


class _Cache:
    """File states and digests in SQLite, by absolute path. Every failure of it reads as `nothing known`."""

    SCHEMA = """CREATE TABLE IF NOT EXISTS files_1 (
        path TEXT NOT NULL, inspector TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 TEXT NOT NULL, note TEXT NOT NULL,
        PRIMARY KEY (path, inspector)) WITHOUT ROWID"""

    def __init__(self, file: Path, inspector: str) -> None:
        self.file, self.inspector = file, inspector

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        import sqlite3

        self.file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.file, timeout=LOCK_WAIT_S)) as connection:
            # A lost cache costs one reading; waiting for the disk at every run would cost more.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(self.SCHEMA)
            with connection:
                yield connection

    def load(self, root: str) -> dict[str, _Row]:
        """All that is known of files below `root`, by path relative to it."""
        import sqlite3

        low, high = f"{root.rstrip('/')}/", f"{root.rstrip('/')}0"  # "0" follows "/"
        query = (
            "SELECT substr(path, ?), size, mtime_ns, ctime_ns, inode, sha256, note FROM files_1"
            " WHERE path > ? AND path < ? AND inspector = ?"
        )
        try:
            with self._open() as connection:
                rows: list[_Row] = connection.execute(query, (len(low) + 1, low, high, self.inspector)).fetchall()
            return {row[0]: row for row in rows}
        except (sqlite3.Error, OSError):
            return {}

    def store(self, root: str, states: dict[str, _State], digests: dict[str, _Digest]) -> None:
        """Remember these digests, of the files in these states; the path of each is relative to `root`."""
        import sqlite3

        prefix = f"{root.rstrip('/')}/"
        rows = [
            (prefix + path, self.inspector, *states[path], sha256, note) for path, (_, sha256, note) in digests.items()
        ]
        with contextlib.suppress(sqlite3.Error, OSError, UnicodeError), self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO files_1 VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
