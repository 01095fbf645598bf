"""The worker's lines, read with care, and the two files they become: events.jsonl and log.txt.

Promises: an event is kept once, however often the backend replays it; order is by attempt, then by its number; a line
that is no event is a line of the log; nothing that a worker prints can crash the launcher or grow without limit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.files import storage, write_atomic

MARK = "@samerun "
LINE_LIMIT = 1 << 16  # characters of one line that are kept
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FIELDS_LIMIT = 512
DEPTH_LIMIT = 16  # lists and tables within each other
WHOLE = 2**53  # numbers up to here are whole in every JSON reader, and fit SQLite
FOLLOW = ".follow.json"
EVENTS = "events.jsonl"
LOG = "log.txt"


@dataclass(frozen=True)
class Event:
    """One event. `seq` counts from 1 within the attempt; `time` is Unix seconds on the worker's clock."""

    attempt: str
    seq: int
    time: float
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def number(self, key: str) -> float | None:
        """A numeric field, or None."""
        return _number(self.fields.get(key))

    def count(self, key: str) -> int:
        """A field that counts something; 0 when it is no such number."""
        value = self.number(key)
        return int(value) if value is not None and 0 <= value <= WHOLE else 0

    def table(self, key: str) -> dict[str, float | None]:
        """A field that maps names to numbers; other values become None."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            return {}
        return {str(name): _number(v) for name, v in value.items()}


def parse(line: str) -> Event | None:
    """The event in this line, or None when it is not one."""
    if not line.startswith(MARK) or len(line) > LINE_LIMIT + len(MARK):
        return None
    try:
        value = _plain(json.loads(line[len(MARK) :], parse_constant=_refuse))
        attempt, seq, name = value.pop("attempt"), value.pop("seq"), value.pop("event")
        time = float(value.pop("time"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    if not isinstance(attempt, str) or not isinstance(name, str) or type(seq) is not int or not 1 <= seq <= WHOLE:
        return None
    return Event(attempt, seq, time, name, value) if len(value) <= FIELDS_LIMIT and math.isfinite(time) else None


def clean(line: str) -> str:
    """A line of the log without terminal controls: what a worker prints must not drive the user's terminal."""
    return _CONTROL.sub("", line[:LINE_LIMIT])


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _plain(value: Any, depth: int = 0) -> Any:
    """The value with its texts cleaned, which end on a terminal. Raises ValueError for what no worker of ours sends."""
    if depth > DEPTH_LIMIT:
        raise ValueError("too deep")
    if isinstance(value, str):
        return clean(value).encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that JSON has no word for")
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item, depth + 1) for key, item in value.items()}
    return value


def merge(events: Iterable[Event], attempts: Iterable[str]) -> list[Event]:
    """Events of these attempts, each once, in order of attempt and number; those of other attempts are left out."""
    order = {attempt: index for index, attempt in enumerate(attempts)}
    kept: dict[tuple[int, int], Event] = {}
    for event in events:
        if event.attempt in order:
            kept.setdefault((order[event.attempt], event.seq), event)
    return [kept[key] for key in sorted(kept)]


class Mirror:
    """The run's events.jsonl and log.txt, and how far each attempt has been read.

    The cursor is written after the lines, with the sizes the files had: after a kill in between, what is past these
    sizes is cut off and read again, so that nothing is kept twice and nothing is skipped.
    """

    def __init__(self, folder: Path, attempt: str) -> None:
        self._folder = folder
        self._attempt = attempt
        held = position(folder)
        with storage("keeping what the worker says", folder):
            self._cut(LOG, held["log"])
            self._cut(EVENTS, held["events"])
            write_atomic(folder / FOLLOW, json.dumps(held).encode())
        self._held = held
        self.last_seq = int(held["seqs"].get(attempt, 0))
        self.cursor = str(held["cursors"].get(attempt, ""))

    def add(self, lines: Iterable[str], cursor: str) -> tuple[list[Event], list[str]]:
        """`take`, then `keep`."""
        events, log = self.take(lines)
        self.keep(cursor, events, log)
        return events, log

    def take(self, lines: Iterable[str]) -> tuple[list[Event], list[str]]:
        """The events among the lines that are new, and the lines of the log, fit for a terminal."""
        events: list[Event] = []
        log: list[str] = []
        for line in lines:
            event = parse(line)
            if event is None:
                log.append(clean(line))
            elif event.attempt == self._attempt and event.seq > self.last_seq:
                events.append(event)
                self.last_seq = event.seq
        return events, log

    def keep(self, cursor: str, events: list[Event], log: list[str]) -> None:
        """Write down what was taken, and how far that was. Raises StorageError."""
        with storage("keeping what the worker says", self._folder):
            if log:
                self._held["log"] = self._append(LOG, "".join(f"{line}\n" for line in log))
            if events:
                self._held["events"] = self._append(EVENTS, "".join(f"{_text(event)}\n" for event in events))
            self.cursor = cursor
            self._held["cursors"][self._attempt] = cursor
            self._held["seqs"][self._attempt] = self.last_seq
            write_atomic(self._folder / FOLLOW, json.dumps(self._held).encode())

    def _cut(self, name: str, size: int) -> None:
        file = self._folder / name
        if file.exists() and file.stat().st_size > size:
            with file.open("r+b") as stream:
                stream.truncate(size)

    def _append(self, name: str, text: str) -> int:
        with (self._folder / name).open("ab") as stream:
            stream.write(text.encode("utf-8", "replace"))
            return stream.tell()


def position(folder: Path) -> dict[str, Any]:
    """How far the run's files reach: sizes of log.txt and events.jsonl, cursor and last number by attempt."""
    try:
        held = json.loads((folder / FOLLOW).read_bytes())
        kept, cursors, seqs = {LOG: held["log"], EVENTS: held["events"]}, held["cursors"], held["seqs"]
        if any(type(number) is not int or number < 0 for number in (*kept.values(), *seqs.values())):
            raise ValueError("no numbers where numbers are needed")
        if any(not isinstance(cursor, str) for cursor in cursors.values()):
            raise TypeError("a cursor is a text")
        if any(size and (folder / name).stat().st_size < size for name, size in kept.items()):
            raise ValueError("some of what was kept is gone: it is read again")
        return {"log": kept[LOG], "events": kept[EVENTS], "cursors": cursors, "seqs": seqs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Lost: no whole line of what is here is cut off. Events are known by their numbers; log lines may come twice.
        numbers: dict[str, int] = {}
        for event in read(folder):
            numbers[event.attempt] = max(event.seq, numbers.get(event.attempt, 0))
        return {"log": _whole(folder / LOG), "events": _whole(folder / EVENTS), "cursors": {}, "seqs": numbers}


def _whole(file: Path) -> int:
    """How many bytes of a file are whole lines: what is appended after a torn one would be lost with it."""
    try:
        return file.read_bytes().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def read(folder: Path) -> list[Event]:
    """The run's events from events.jsonl; a torn last line is left out."""
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if (event := parse(MARK + line)) is not None]


def _text(event: Event) -> str:
    head = {"attempt": event.attempt, "seq": event.seq, "time": event.time, "event": event.name}
    return json.dumps({**head, **event.fields})
