"""The runs folder: one folder a run, and an SQLite index over their run.json files.

Promises: a record is on disk before it is in the index; the index can be rebuilt from the folders at any time, and is
when it is missing or damaged; several processes may use one store at once.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from launcher.errors import IntegrityError, NotFoundError
from launcher.files import is_held, lock, storage, try_lock
from launcher.runs import record as records
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState

INDEX = "index.sqlite"
LOCK = ".lock"
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like something else
SUFFIX = 6  # 30^6 names a run name: ids are also checked against the folder
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, backend TEXT NOT NULL, key TEXT NOT NULL,
  created REAL NOT NULL, updated REAL NOT NULL, epoch INTEGER, epochs INTEGER, map50 REAL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_created ON runs (created);
CREATE INDEX IF NOT EXISTS runs_name ON runs (name, created);
CREATE INDEX IF NOT EXISTS runs_key ON runs (key);
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


class Store:
    """The runs folder. Building one touches nothing; the first write makes the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._db: sqlite3.Connection | None = None

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
        """run.json first, then the index. A failing index is no failure: it can be rebuilt."""
        records.write(self.folder(record.id), record, durable=durable)
        with contextlib.suppress(sqlite3.Error):
            self._index(record)

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
        raise NotFoundError(f"there is no run {text!r} in {self.root}", remedy="`launch ps --all` lists them")

    def rows(self, limit: int | None = None) -> list[Row]:
        """Runs, newest first. An index that is missing or damaged is rebuilt first."""
        if not self.root.is_dir():
            return []
        query = f"SELECT {', '.join(Row._fields)} FROM runs ORDER BY created DESC, id LIMIT ?"
        try:
            if not (self.root / INDEX).exists():
                self.rebuild()
            return [Row(*row) for row in self._open().execute(query, (-1 if limit is None else limit,))]
        except sqlite3.DatabaseError:
            self.rebuild()
            return [Row(*row) for row in self._open().execute(query, (-1 if limit is None else limit,))]

    def unfinished(self, key: str) -> list[RunRecord]:
        """Runs of the same input on the same backend that have not ended, oldest first."""
        rows = [row for row in self.rows() if row.key == key and not RunState(row.state).ended]
        found = [self.read(row.id) for row in reversed(rows)]
        return [record for record in found if not record.state.ended]

    def rebuild(self) -> tuple[int, list[str]]:
        """Make the index anew from the run folders; returns how many were read, and which could not be."""
        if self._db is not None:
            self._db.close()
            self._db = None
        with storage("rebuilding the run index"):
            self.root.mkdir(parents=True, exist_ok=True)
            for name in (INDEX, f"{INDEX}-wal", f"{INDEX}-shm"):
                (self.root / name).unlink(missing_ok=True)
        bad: list[str] = []
        found: list[RunRecord] = []
        for file in sorted(self.root.glob(f"*/{records.FILE}")):
            try:
                found.append(records.read(file.parent))
            except IntegrityError as error:
                bad.append(error.message)
        db = self._open()
        with db:
            db.executemany(_UPSERT, [_row(record) for record in found])
        return len(found), bad

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Hold while looking for an unfinished run and writing a new one down: two launches at once make one run."""
        with storage("locking the runs folder"):
            self.root.mkdir(parents=True, exist_ok=True)
            with lock(self.root / ".starting"):
                yield

    @contextmanager
    def driving(self, run: str) -> Iterator[bool]:
        """Whether this process may drive the run: submit, sync and change its record. One process at a time."""
        with storage("locking the run"), try_lock(self.folder(run) / LOCK) as free:
            yield free

    def driven(self, run: str) -> bool:
        """Whether some process drives the run now."""
        return is_held(self.folder(run) / LOCK)

    def remove(self, run: str) -> None:
        """Delete the run's folder and its row."""
        shutil.rmtree(self.folder(run))
        with contextlib.suppress(sqlite3.Error), self._open() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run,))

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.root.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.root / INDEX, timeout=10, check_same_thread=False)
            db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")
            self._db = db
        return self._db

    def _index(self, record: RunRecord) -> None:
        with self._open() as db:
            db.execute(_UPSERT, _row(record))


_UPSERT = f"INSERT OR REPLACE INTO runs ({', '.join(Row._fields)}) VALUES ({', '.join('?' * len(Row._fields))})"


def _row(record: RunRecord) -> Row:
    values = (record.id, record.name, str(record.state), record.backend, record.key, record.created, record.updated)
    return Row(*values, record.epoch, record.epochs, record.metrics.get(MAP50), record.reason)


def now() -> float:
    """Unix time, to the millisecond: what a record needs."""
    return round(time.time(), 3)
