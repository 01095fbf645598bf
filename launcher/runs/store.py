"""The runs folder: one folder a run, and an SQLite index over their run.json files.

Promises: a record is on disk before it is in the index; a run whose writer was killed in between is known by a mark,
and read from its folder; the index can be rebuilt from the folders at any time, and is when it is missing or damaged;
several processes may use one store at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from launcher.errors import IntegrityError, NotFoundError, StorageError
from launcher.files import is_held, lock, storage, try_lock, write_atomic
from launcher.runs import record as records
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.settings import Settings

INDEX = "index.sqlite"
INDEX_VERSION = 2  # an index of another version, or one that was not finished, is made anew
LOCK = ".lock"
LOOKING = ".looking"
CANCEL = ".cancel"
"""Lies in a run's folder from `launch cancel` on, until the run is resumed: nothing of it is submitted any more."""
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like something else
LOOK_AGAIN_S = 0.05
SUFFIX = 6  # 30^6 names a run name: ids are also checked against the folder
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, backend TEXT NOT NULL, key TEXT NOT NULL,
  created REAL NOT NULL, updated REAL NOT NULL, epoch INTEGER, epochs INTEGER, map50 REAL, reason TEXT NOT NULL,
  kind TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_created ON runs (created);
CREATE INDEX IF NOT EXISTS runs_name ON runs (name, created);
CREATE INDEX IF NOT EXISTS runs_key ON runs (key);
CREATE TABLE IF NOT EXISTS marked (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
MAP50 = "metrics/mAP50(B)"


class Row(NamedTuple):
    """A run as the index knows it."""

    id: str
    name: str
    state: str
    backend: str
    key: str
    created: float
    updated: float
    epoch: int | None
    epochs: int | None
    map50: float | None
    reason: str
    kind: str = records.TRAINING


class Store:
    """The runs folder. Building one touches nothing; the first write makes the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which file `_db` is: another process may have made a new one

    def folder(self, run: str) -> Path:
        """Where the run lives."""
        return self.root / run

    def create(self, record: RunRecord, texts: dict[str, bytes]) -> RunRecord:
        """Make the run's folder with its first files and its record. Raises StorageError."""
        with storage("making the run's folder"):
            self.root.mkdir(parents=True, exist_ok=True)
            folder = self.folder(record.id)
            folder.mkdir()
            for name, data in texts.items():
                (folder / name).write_bytes(data)
        self.save(record)
        return record

    def new_id(self, name: str) -> str:
        """A run id that is free: the name and six letters or digits."""
        while True:
            run = f"{name}-{''.join(secrets.choice(ALPHABET) for _ in range(SUFFIX))}"
            if not self.folder(run).exists():
                return run

    def save(self, record: RunRecord, *, durable: bool = False) -> None:
        """A mark in the index, run.json, the index. A failing index is no failure: it can be rebuilt."""
        with contextlib.suppress(sqlite3.Error), self._open() as db:
            db.execute("INSERT OR IGNORE INTO marked VALUES (?)", (record.id,))
        records.write(self.folder(record.id), record, durable=durable)
        try:
            with self._open() as db:
                db.execute(_UPSERT, _row(record))
                db.execute("DELETE FROM marked WHERE id = ?", (record.id,))
        except sqlite3.OperationalError:
            return  # locked or not writable: the mark stays
        except sqlite3.DatabaseError:
            with contextlib.suppress(sqlite3.Error, StorageError):
                self.rebuild()

    def read(self, run: str) -> RunRecord:
        """The record from run.json. Raises IntegrityError."""
        return records.read(self.folder(run))

    def resolve(self, text: str) -> str:
        """A run's id from an id, a unique prefix, a name (its newest run) or a folder. Raises NotFoundError."""
        path = Path(text)
        if "/" in text and (path / records.FILE).is_file():
            if path.resolve().parent != self.root.resolve():
                remedy = f"set SAMERUN_RUNS_DIR={path.resolve().parent}"
                raise NotFoundError(f"{text} is a run of another runs folder", remedy=remedy)
            return path.resolve().name
        rows = self.rows()
        if any(row.id == text for row in rows):
            return text
        if named := [row for row in rows if row.name == text]:
            return max(named, key=lambda row: row.created).id
        found = [row.id for row in rows if row.id.startswith(text)] if text else []
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(f"{text!r} fits {len(found)} runs: {', '.join(sorted(found)[:5])}")
        where = f"runs are looked for in {self.root}; set SAMERUN_RUNS_DIR if they are elsewhere"
        raise NotFoundError(f"there is no run {text!r}", remedy=f"{where}. `launch ps --all` lists those here")

    def rows(self, limit: int | None = None) -> list[Row]:
        """Runs, newest first. An index that is missing or damaged is rebuilt first."""
        if not self.root.is_dir():
            return []
        try:
            return self._rows(limit)
        except sqlite3.DatabaseError:
            self.rebuild()
            return self._rows(limit)

    def unfinished(self, key: str) -> list[RunRecord]:
        """Runs of the same input on the same backend that have not ended, oldest first."""
        rows = [row for row in self.rows() if row.key == key and not RunState(row.state).ended]
        found = [self.read(row.id) for row in reversed(rows)]
        return [record for record in found if not record.state.ended]

    def rebuild(self) -> tuple[int, list[str]]:
        """Make the index anew from the run folders; returns how many were read, and which could not be."""
        self._close()
        with storage("rebuilding the run index"), _writable(self.root / INDEX):
            self.root.mkdir(parents=True, exist_ok=True)
            with lock(self.root / ".rebuilding"):
                begun = time.time()
                found, bad = self._all()
                part = self.root / f".{INDEX}.part-{os.getpid()}"
                part.unlink(missing_ok=True)
                db = sqlite3.connect(part)
                db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")
                with db:
                    bad += [f"{record.id}: {error}" for record in found if (error := _put(db, record))]
                # The mode is the file's own from here on: to change it later would need every other process to be away.
                db.executescript(f"PRAGMA user_version={INDEX_VERSION}; PRAGMA journal_mode=WAL")
                db.close()
                for name in (f"{INDEX}-wal", f"{INDEX}-shm"):
                    (self.root / name).unlink(missing_ok=True)
                part.replace(self.root / INDEX)
                # What others wrote meanwhile went to the index that is gone now.
                late, _ = self._all(since=begun - 2)
                with self._open() as db:
                    for record in late:
                        _put(db, record)
        return len(found), bad

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold while looking for an unfinished run and writing a new one down: two launches at once make one run."""
        with contextlib.ExitStack() as held:
            with storage("locking the runs folder"):
                self.root.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock(self.root / ".starting"))
            yield

    @contextmanager
    def driving(self, run: str) -> Iterator[bool]:
        """Whether this process may drive the run: submit, sync and change its record. One process at a time."""
        with contextlib.ExitStack() as held:
            with storage("locking the run"):
                free = held.enter_context(try_lock(self.folder(run) / LOCK))
                while not free and is_held(self.folder(run) / LOOKING):  # it soon lets go
                    time.sleep(LOOK_AGAIN_S)
                    free = held.enter_context(try_lock(self.folder(run) / LOCK))
            yield free

    @contextmanager
    def looking(self, run: str) -> Iterator[bool]:
        """As `driving`, for a moment: whoever wants to drive the run meanwhile waits for the end of it."""
        with contextlib.ExitStack() as held:
            with storage("locking the run"):
                free = held.enter_context(try_lock(self.folder(run) / LOOKING))
                free = free and held.enter_context(try_lock(self.folder(run) / LOCK))
            yield free

    def wish_cancelled(self, run: str) -> None:
        """Write down that the run is to end, for whoever drives it now or later. Raises StorageError."""
        with storage("writing down that the run is cancelled"):
            write_atomic(self.folder(run) / CANCEL, b"", durable=True)

    def wished_cancelled(self, run: str) -> bool:
        """Whether the run is to end."""
        return (self.folder(run) / CANCEL).exists()

    def forget_cancelled(self, run: str) -> None:
        """The run is to go on after all."""
        with storage("forgetting that the run was cancelled"):
            (self.folder(run) / CANCEL).unlink(missing_ok=True)

    def driven(self, run: str) -> bool:
        """Whether some process drives the run now."""
        return is_held(self.folder(run) / LOCK)

    def remove(self, run: str) -> None:
        """Delete the run's folder and its row."""
        shutil.rmtree(self.folder(run))
        with contextlib.suppress(sqlite3.Error), self._open() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run,))
            db.execute("DELETE FROM marked WHERE id = ?", (run,))

    def _rows(self, limit: int | None) -> list[Row]:
        """The index's rows; those of marked runs as their folders say."""
        db = self._open()
        query = f"SELECT {', '.join(Row._fields)} FROM runs ORDER BY created DESC, id LIMIT ?"
        rows = [Row(*row) for row in db.execute(query, (-1 if limit is None else limit,))]
        fresh: dict[str, Row] = {}
        for (run,) in db.execute("SELECT id FROM marked").fetchall():
            with contextlib.suppress(IntegrityError):  # marked, and killed before the first record
                fresh[run] = _row(self.read(run))
        if fresh:
            rows = [*(row for row in rows if row.id not in fresh), *fresh.values()]
            rows.sort(key=lambda row: (-row.created, row.id))
        return rows[:limit]

    def _all(self, since: float = 0.0) -> tuple[list[RunRecord], list[str]]:
        """Every record written since then, and why others cannot be read."""
        found: list[RunRecord] = []
        bad: list[str] = []
        for file in sorted(self.root.glob(f"*/{records.FILE}")):
            try:
                if not since or file.stat().st_mtime >= since:
                    found.append(records.read(file.parent))
            except FileNotFoundError:
                continue  # removed just now
            except IntegrityError as error:
                bad.append(error.message)
        return found, bad

    def _open(self) -> sqlite3.Connection:
        """The index as it lies in the folder now. Raises sqlite3.DatabaseError when there is none that is whole."""
        path = self.root / INDEX
        try:
            info = path.stat()
        except FileNotFoundError:
            self._close()
            raise sqlite3.DatabaseError("there is no index") from None
        if self._db is None or self._file != (info.st_dev, info.st_ino):
            self._close()
            db = sqlite3.connect(path, timeout=10, check_same_thread=False)
            try:
                db.execute("PRAGMA synchronous=NORMAL")
                if db.execute("PRAGMA user_version").fetchone() != (INDEX_VERSION,):
                    raise sqlite3.DatabaseError("this index is of another version")
            except sqlite3.Error:
                db.close()
                raise
            self._db, self._file = db, (info.st_dev, info.st_ino)
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None


@contextmanager
def _writable(index: Path) -> Iterator[None]:
    """Turn SQLite's word for a full or forbidden disk into a StorageError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        remedy = "free some space on this disk, or choose another folder with SAMERUN_RUNS_DIR"
        raise StorageError(f"rebuilding the run index: {index}: {error}", remedy=remedy) from error


_UPSERT = f"INSERT OR REPLACE INTO runs ({', '.join(Row._fields)}) VALUES ({', '.join('?' * len(Row._fields))})"


def _put(db: sqlite3.Connection, record: RunRecord) -> str:
    """Index a record that was read from its folder; why it cannot be, where someone wrote odd values into it."""
    try:
        db.execute(_UPSERT, _row(record))
    except (sqlite3.Error, OverflowError, UnicodeError, AttributeError) as error:
        return str(error)
    return ""


def _row(record: RunRecord) -> Row:
    values = (record.id, record.name, str(record.state), record.backend, record.key, record.created, record.updated)
    return Row(*values, record.epoch, record.epochs, record.metrics.get(MAP50), record.reason, record.kind)


def open_run(settings: Settings, text: str) -> tuple[Settings, Store, RunRecord]:
    """The run that `text` means (`Store.resolve`), and where it lives: its folder may lie in another runs folder.

    Raises NotFoundError, IntegrityError. The settings are those that everything about this run needs.
    """
    if ("/" in text or text in (".", "..")) and (Path(text) / records.FILE).is_file():
        folder = Path(text).resolve()
        if folder.parent != settings.runs_dir.resolve():
            settings = replace(settings, runs_dir=folder.parent)
        store = Store(settings.runs_dir)
        return settings, store, store.read(folder.name)
    store = Store(settings.runs_dir)
    return settings, store, store.read(store.resolve(text))


def now() -> float:
    """Unix time, to the millisecond: what a record needs."""
    return round(time.time(), 3)
