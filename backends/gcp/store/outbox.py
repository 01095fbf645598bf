"""One attempt in the store: opened before its machine is made, read while and after its carrier writes.

Promises: lines are those of stream.log by the same byte offsets, whatever pieces it was cut into; a file has its name
here only when size, crc32c and sha256 are those of its record; an attempt has ended only when its carrier has said so,
which it does when all is there; an earlier attempt cannot take LATEST.json back.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.gcp.store.carrier.names import DIGITS, AttemptNames
from backends.gcp.store.carrier.objects import (
    THREADS,
    AbsentError,
    ConflictError,
    DamagedError,
    Objects,
    Wanted,
)
from backends.gcp.store.carrier.outputs import KEEP, SWAPS, TEXT, Pointer, compose, read_pointer, read_record
from backends.gcp.store.carrier.stream import unwrap
from backends.gcp.store.errors import asking
from launcher.backend import Lines, RemoteFile
from launcher.errors import RemoteError
from launcher.files import storage

READ_BYTES = 4 << 20  # of the stream, in one call, unless a line is longer
AHEAD = 64  # pieces that are fetched at once when there are many
FIRST_LOOK_S, LOOK_S = 0.25, 2.0
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Outcome:
    """What the store says of an attempt.

    `ended`: the carrier has carried everything. `exit`: the worker's last word (state/exit.json), None when it left
    none: then `lost`, or `cancelled` when it was told to end. `missing`: what the last manifest names and did not come.
    Before that, `alive` is when the carrier last wrote, in Unix seconds on the VM's clock, None when it never did;
    `box` what it saw there (`waiting` for the worker, `running`, `ended`, `lost`); `trouble` what fails it now.
    """

    ended: bool = False
    exit: dict[str, Any] | None = None
    lost: bool = False
    cancelled: bool = False
    alive: float | None = None
    box: str = ""
    trouble: str = ""
    fenced: str = ""
    missing: tuple[str, ...] = ()


class Outbox:
    """See the module's docstring. Made by `Store.attempt`."""

    def __init__(self, objects: Objects, run: str, attempt: str, number: int) -> None:
        self.run, self.attempt, self.number = run, attempt, number
        self._objects = objects
        self._names = AttemptNames(run, attempt)
        self._last: tuple[int, bytes] = (-1, b"")  # the piece that was read last: a torn line is asked for again

    def open(self) -> None:
        """Have the store know of the attempt, and of no earlier one any more. May be repeated.

        Raises RemoteError when a later attempt is there already.
        """
        with asking(self._objects.name):
            mark = {"run": self.run, "attempt": self.attempt, "number": self.number}
            self._objects.create(self._names.mark(self.number), compose(mark))
            for _ in range(SWAPS):
                held, generation = read_pointer(self._objects, self._names.of_run)
                if held.number == self.number and held.holder == self.attempt:
                    return
                if held.number >= self.number:
                    raise RemoteError(f"{held.holder} has taken over from {self.attempt} (number {self.number})")
                wanted = Pointer(self.attempt, self.number, held.attempt, held.record)
                with contextlib.suppress(ConflictError):
                    self._objects.swap(self._names.of_run.latest, wanted.content(), generation)
                    return
            raise RemoteError(f"{self._names.of_run.latest} changes all the time: another launcher is at it")

    # The stream.

    def lines(self, cursor: str, wait: float = 0.0) -> Lines:
        """Whole lines after a cursor: "" or, as it was returned, "<byte offset>@<offset of the piece it lies in>".

        Returns at once when there are any, else within `wait` seconds. Raises IntegrityError for a piece that is not
        what was written, RemoteError.
        """
        until = time.monotonic() + wait
        pause = FIRST_LOOK_S
        while True:
            with asking(self._objects.name):
                found = self._read(*_place(cursor))
            left = until - time.monotonic()
            if found.lines or left <= 0:
                return found
            time.sleep(min(pause, left))
            pause = min(2 * pause, LOOK_S)

    def _read(self, offset: int, at: int) -> Lines:
        data = bytearray()
        spans: list[tuple[int, int]] = []
        for start, content in self._pieces(at):
            at = start + len(content)
            spans.append((start, at))
            data += content[max(0, offset - start) :] if at > offset else b""
            self._last = (start, content)
            if len(data) >= READ_BYTES and b"\n" in data:
                break
        whole = data.rfind(b"\n") + 1
        end = offset + whole
        piece = next((start for start, after in spans if start <= end < after), at)
        text = bytes(data[:whole]).decode("utf-8", "replace")
        return Lines(tuple(text.split("\n")[:-1]), f"{end}@{piece}")

    def _pieces(self, at: int) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of the pieces from the one that begins at `at`: the first alone, more at once."""
        first = self._last[1] if self._last[0] == at else self._piece(at)
        if first is None:
            return
        yield at, first
        at += len(first)
        while some := self._listed(at):
            with ThreadPoolExecutor(THREADS) as pool:
                for start, content in zip(some, pool.map(self._piece, some), strict=True):
                    if start != at or content is None:
                        raise DamagedError(f"stream.log has no piece at byte {at} in the store, and later ones")
                    yield at, content
                    at += len(content)

    def _listed(self, at: int) -> list[int]:
        """Offsets of the next pieces, as many as one read may take."""
        found, size = [], 0
        for seen in self._objects.list(self._names.stream, self._names.piece(at)):
            found.append(int(seen.name[-DIGITS:]))
            size += seen.size
            if len(found) == AHEAD or size >= READ_BYTES:
                break
        return found

    def _piece(self, at: int) -> bytes | None:
        try:
            return unwrap(self.attempt, at, self._objects.get(self._names.piece(at)))
        except AbsentError:
            return None

    # The files.

    def files(self) -> list[RemoteFile] | None:
        """What the newest record has; None as long as there is none and there may be one."""
        with asking(self._objects.name):
            record = self._record()
            if record is None:
                return [] if self._objects.look(self._names.finished) is not None else None
        raw = record["manifest"].encode("utf-8", TEXT)
        found = [RemoteFile(at, file["size"]) for at, file in record["files"].items()]
        return sorted([*found, RemoteFile(MANIFEST, len(raw))], key=lambda file: file.path)

    def fetch(self, paths: Sequence[str], to: Path) -> dict[str, str]:
        """Write files of the newest records below `to`; path → why, for those that were left out.

        Raises RemoteError when the store does not answer, after it has brought what came; StorageError.
        """
        with asking(self._objects.name):
            records = self._newest_records()
        wanted: dict[str, Wanted] = {}
        left: dict[str, str] = {}
        with storage("keeping what came back", to):
            for path in dict.fromkeys(paths):
                target = to / path
                file = next((record["files"][path] for record in records if path in record["files"]), None)
                if Path(path).is_absolute() or ".." in Path(path).parts or (file is None and path != MANIFEST):
                    left[path] = "not in the store"
                elif path == MANIFEST:
                    self._write_manifest(records, target, left)
                else:
                    assert file is not None, "looked at above"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    name = self._names.of_run.blob(file["sha256"])
                    wanted[path] = Wanted(name, str(target), file["size"], file["sha256"], file["crc32c"])
            with asking(self._objects.name):
                wrong = self._objects.download_many(list(wanted.values()))
        left.update({path: str(wrong[each.to]) for path, each in wanted.items() if each.to in wrong})
        if silent := [error for error in wrong.values() if not isinstance(error, (AbsentError, DamagedError))]:
            with asking(self._objects.name):
                raise silent[0]
        return left

    def _write_manifest(self, records: Sequence[dict[str, Any]], target: Path, left: dict[str, str]) -> None:
        if not records:
            left[MANIFEST] = "not in the store"
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part-{os.getpid()}")
        part.write_bytes(records[0]["manifest"].encode("utf-8", TEXT))
        part.replace(target)

    def _record(self) -> dict[str, Any] | None:
        """The newest record that can be read."""
        return next(iter(self._newest_records(1)), None)

    def _newest_records(self, most: int = KEEP) -> list[dict[str, Any]]:
        """The newest first. One that was damaged is passed over: the carrier writes another."""
        numbers = [int(seen.name.rpartition("/")[2]) for seen in self._objects.list(self._names.records)]
        found: list[dict[str, Any]] = []
        for number in reversed(numbers):
            if len(found) == most:
                break
            with contextlib.suppress(DamagedError, AbsentError):
                found.append(read_record(self._objects, self._names, number))
        return found

    # How it stands, and its end.

    def outcome(self) -> Outcome:
        """One request when it has ended, else two. Raises RemoteError, IntegrityError for what no carrier writes."""
        with asking(self._objects.name):
            last = self._said(self._names.finished)
            if last is not None:
                word = last.get("exit")
                cancelled = word is None and bool(last.get("cancelled"))
                lost = word is None and not cancelled
                return Outcome(True, word, lost, cancelled, **_shared(last), missing=tuple(last.get("missing") or ()))
            alive = self._said(self._names.alive)
            return Outcome(**_shared(alive)) if alive is not None else Outcome()

    def _said(self, name: str) -> dict[str, Any] | None:
        try:
            value = json.loads(self._objects.get(name))
        except AbsentError:
            return None
        except ValueError:
            value = None
        if not isinstance(value, dict) or value.get("attempt") != self.attempt:
            raise DamagedError(f"{name} is not what a carrier of {self.attempt} has written")
        return value

    def log(self) -> str:
        """The carrier's log, as far as it came; empty where nothing went wrong."""
        with asking(self._objects.name):
            try:
                return self._objects.get(self._names.log).decode("utf-8", "replace")
            except AbsentError:
                return ""

    def release(self) -> list[str]:
        """Delete all that is the attempt's, with its run's last attempt all that is the run's; what is left over.

        The machine must be gone: a carrier that is alive writes again. May be repeated. Raises RemoteError.
        """
        mark, of_run = self._names.mark(self.number), self._names.of_run
        with asking(self._objects.name):
            self._objects.delete_all(self._names.folder)
            others = [seen for seen in self._objects.list(of_run.marks) if seen.name != mark]
            folder = self._names.folder if others else of_run.folder
            self._objects.delete_all(folder)
            if seen := self._objects.look(mark):
                self._objects.delete(seen)
            left = [seen.name for seen in self._objects.list(folder)]
        bucket = f"gs://{self._objects.name}/{self._objects.prefix}"
        return [f"{bucket}{folder} still has {len(left)} objects ({left[0]} first)"] if left else []


def _shared(value: dict[str, Any]) -> dict[str, Any]:
    """What signs of life and the last word have in common."""
    texts = {key: str(value.get(key) or "") for key in ("box", "trouble", "fenced")}
    return {**texts, "alive": float(value["time"]) if isinstance(value.get("time"), (int, float)) else None}


def _place(cursor: str) -> tuple[int, int]:
    """Offset, and the piece to begin with, of a cursor; all is read again from one that says no piece."""
    offset, _, piece = cursor.partition("@")
    return int(offset or 0), int(piece or 0)
