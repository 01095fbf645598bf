"""What a box's manifest lists, carried as blobs by sha256; a record for each manifest; LATEST.json for the newest.

Promises: a record is written when every blob that it names is in the bucket with its size and checksum, and never
changed; a blob that is there is not sent again, also when another attempt of the run has sent it; LATEST.json moves
by compare-and-swap and never back, and not at all once a later attempt has it (the fence); blobs are removed only when
they were this attempt's, are named by none of its newest records, and LATEST.json is still ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass

from .objects import AbsentError, ConflictError, DamagedError, digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from .names import AttemptNames, RunNames
    from .objects import Objects, Seen

    Json = dict[str, Any]

KEEP = 3  # newest records whose blobs stay: a reader that has read one has so many manifests' time to fetch it
HELD = 64  # files that are opened before the first is sent: the worker drops copies when newer ones are there
SWAPS = 8  # times LATEST.json is looked at anew in one step
TEXT = "surrogateescape"  # a manifest is any bytes, until a reader has parsed it


def compose(value: Json) -> bytes:
    """An object's content, the same for the same value: a lost reply is known by its bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class OutputCarrier:
    """Carries the manifests of one box, and their files."""

    def __init__(self, objects: Objects, names: AttemptNames, number: int, out: str) -> None:
        self._objects, self._names, self._number, self._out = objects, names, number, out
        self._known: dict[str, Seen] | None = None
        self._carried = ""  # sha256 of the manifest of the newest record
        self.record = 0
        self.fenced = ""
        """The attempt that has taken LATEST.json over."""
        self.lost: list[str] = []
        """What the last record names, and is neither in the bucket nor here any more."""

    def step(self, *, final: bool = False) -> bool:
        """Carry the manifest that lies there, if it is new; whether it was. May be called again after any error.

        `final`: nothing in the box changes any more: what is missing now stays missing, and the record says so.
        """
        if self._known is None:
            self._recall()
        raw = self._manifest()
        if raw is None:
            return False
        if hashlib.sha256(raw).hexdigest() == self._carried:
            return final and self._audit(raw)
        return self._carry(raw, final=final)

    def _carry(self, raw: bytes, *, final: bool) -> bool:
        entries = _entries(raw)
        files: Json = {}
        missing: Json = {}
        with ExitStack() as held:
            streams: dict[str, BinaryIO | None] = {}
            if not final and len(entries) <= HELD:
                streams = {at: self._open(held, at) for at in entries}
                if None in streams.values() and self._manifest() != raw:
                    return True  # a newer one is there, and the copies of this one are going
            for at, entry in entries.items():
                with ExitStack() as short:
                    stream = streams[at] if at in streams else self._open(short, at)
                    why = self._send(stream, entry, files)
                if why and not final:
                    return self._manifest() != raw  # torn, or on its way out: there will be another manifest
                if why:
                    missing[at] = why
        self._write(raw, files, missing)
        return True

    def _send(self, stream: BinaryIO | None, entry: Json, files: Json) -> str:
        """Have one file in the bucket and in `files`; why not, in words."""
        if stream is None:
            return "it is not there"
        found = digest(stream)
        if (found.size, found.sha256) != (entry["size"], entry["sha256"]):
            return f"it has {found.size} bytes with sha256 {found.sha256[:12]}"
        known = self._blobs().get(found.sha256)
        if known is None or (known.size, known.crc32c) != (found.size, found.crc32c):
            stream.seek(0)
            try:
                known = self._objects.send(self._names.of_run.blob(found.sha256), stream, found)
            except DamagedError:
                return "it was written to while it was sent"
            self._blobs()[found.sha256] = known
        files[entry["at"]] = {"sha256": found.sha256, "size": found.size, "crc32c": found.crc32c}
        return ""

    def _write(self, raw: bytes, files: Json, missing: Json) -> None:
        """The record, the pointer to it, and the end of blobs that nothing points to any more."""
        sha256 = hashlib.sha256(raw).hexdigest()
        body = {
            "version": 1,
            "attempt": self._names.attempt,
            "record": self.record + 1,
            "time": round(time.time(), 3),
            "sha256": sha256,
            "manifest": raw.decode("utf-8", TEXT),
            "files": files,
            "missing": missing,
        }
        try:
            self._objects.create(self._names.record(self.record + 1), compose(body))
        except ConflictError:  # a request of a carrier that was killed has come late: its record is taken as it is
            self._known = None
            return
        self.record += 1
        self._carried = sha256
        self._settle()

    def _settle(self) -> None:
        if self._point():
            self._prune()

    def _point(self) -> bool:
        """Swap LATEST.json to the newest record; False when a later attempt has it."""
        me = self._names.attempt
        for _ in range(SWAPS):
            held, generation = read_pointer(self._objects, self._names.of_run)
            if held.number > self._number or (held.number == self._number and held.holder != me):
                self.fenced = held.holder
                return False
            if held.number == self._number and held.attempt == me and held.record >= self.record:
                return True  # also: our own write, whose reply was lost
            wanted = Pointer(me, self._number, me, self.record)
            try:
                self._objects.swap(self._names.of_run.latest, wanted.content(), generation)
            except ConflictError:
                continue
            return True
        raise ConflictError(f"{self._names.of_run.latest} changes all the time")

    def _recall(self) -> None:
        """What carriers before this one have carried, asked of the bucket."""
        folder = self._names.of_run.objects
        known = {seen.name[len(folder) :]: seen for seen in self._objects.list(folder)}
        last = 0
        for seen in self._objects.list(self._names.records):
            last = int(seen.name.rpartition("/")[2])
        self.record = last
        self._carried = self._carried_by(last) if last else ""
        self._known = known
        if last:
            self._settle()  # it may have been killed between the record and the pointer

    def _carried_by(self, number: int) -> str:
        """The manifest's sha256 of a record; none for a record that was damaged since: another is written after it."""
        try:
            return str(read_record(self._objects, self._names, number)["sha256"])
        except (DamagedError, AbsentError):
            return ""

    def _prune(self) -> None:
        """Remove what only the record that has just become too old names."""
        old = self.record - KEEP
        if old < 1:
            return
        try:
            records = [read_record(self._objects, self._names, number) for number in range(old, self.record + 1)]
        except (DamagedError, AbsentError):
            return  # what nobody can tell the use of stays
        used = {file["sha256"] for record in records[1:] for file in record["files"].values()}
        for file in records[0]["files"].values():
            seen = self._blobs().get(file["sha256"])
            if seen is not None and file["sha256"] not in used:
                self._objects.delete(seen)
                del self._blobs()[file["sha256"]]

    def _audit(self, raw: bytes) -> bool:
        """Before the last word: all that the newest record names is there. What is not is sent again.

        True when the record itself is not what was written: it must be carried again, as another.
        """
        try:
            files = read_record(self._objects, self._names, self.record)["files"]
        except (DamagedError, AbsentError):
            self._carried = ""
            return True
        folder = self._names.of_run.objects
        there = {seen.name[len(folder) :]: (seen.size, seen.crc32c) for seen in self._objects.list(folder)}
        entries = _entries(raw)
        self.lost = []
        for at, file in files.items():
            if there.get(file["sha256"]) == (file["size"], file["crc32c"]):
                continue
            self._blobs().pop(file["sha256"], None)
            with ExitStack() as held:
                if why := self._send(self._open(held, at), entries[at], {}):
                    self.lost.append(f"{at}: {why}")
        return False

    def _blobs(self) -> dict[str, Seen]:
        assert self._known is not None, "recalled before anything is carried"
        return self._known

    def _manifest(self) -> bytes | None:
        try:
            with open(os.path.join(self._out, "manifest.json"), "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _open(self, held: ExitStack, at: str) -> BinaryIO | None:
        path = os.path.join(self._out, *at.split("/"))
        try:
            if os.path.realpath(path) != os.path.join(os.path.realpath(self._out), *at.split("/")):
                return None  # a link, or a path out of the outbox
            return held.enter_context(open(path, "rb"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return None


@dataclass(frozen=True)
class Pointer:
    """LATEST.json. `holder`: the attempt that may write it, by its `number`; `attempt`, `record`: the newest record.

    An attempt holds it from when it was opened; until it has carried something, the newest record is another's.
    """

    holder: str
    number: int
    attempt: str
    record: int

    def content(self) -> bytes:
        """As it is stored."""
        return compose({"version": 1, **vars(self)})


def read_pointer(objects: Objects, names: RunNames) -> tuple[Pointer, int]:
    """The pointer and its generation; one that nobody holds where there is none, or no pointer."""
    raw, generation = objects.read(names.latest)
    try:
        value = json.loads(raw)
        found = Pointer(str(value["holder"]), int(value["number"]), str(value["attempt"]), int(value["record"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        found = Pointer("", 0, "", 0)
    return found, generation


def read_record(objects: Objects, names: AttemptNames, number: int) -> Json:
    """A record. Raises AbsentError, DamagedError for one that is not what was written there."""
    name = names.record(number)
    try:
        value: Json = json.loads(objects.get(name))
        raw = value["manifest"].encode("utf-8", TEXT)
        whole = (value["attempt"], value["record"]) == (names.attempt, number)
        if not whole or hashlib.sha256(raw).hexdigest() != value["sha256"]:
            raise DamagedError(f"{name} is not what was written there")
        for file in value["files"].values():
            if not isinstance(file["size"], int) or not all(isinstance(file[key], str) for key in ("sha256", "crc32c")):
                raise DamagedError(f"{name} is not what was written there")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{name} is no record: {type(error).__name__}") from error
    return value


def _entries(raw: bytes) -> dict[str, Json]:
    """The manifest's files by where they lie; none for what is no manifest: whoever reads it will say so."""
    try:
        entries = json.loads(raw)["files"]
        return {str(entry["at"]): {key: entry[key] for key in ("at", "size", "sha256")} for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
