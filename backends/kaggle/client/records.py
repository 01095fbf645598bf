"""What a kernel's log is made of: records in two wrappings, and the lines that their texts make.

A record is `{"stream_name": "stdout", "time": 1.2, "data": "epoch 0\\n"}`. A running kernel's come as server-sent
events, one a `data:` line; a finished one's as one JSON array. Cuts may lie anywhere: between bytes of a record, and
between records within a line, within a character, within a surrogate pair.
"""

from __future__ import annotations

import codecs
import enum
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

RECORD_LIMIT = 4 << 20  # bytes or characters; a record is one write of the worker, a line of it at most
LINE_LIMIT = 1 << 20  # characters; the rest of a longer line is dropped
END_OF_LOG = b"END_OF_LOG"
_FIELDS = (b"event:", b"id:", b"retry:")
_BETWEEN = re.compile(r"[\s,\ufeff]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class Mark(enum.Enum):
    """What stands in the place of a record."""

    END = "end"
    """The log is complete."""
    GARBAGE = "garbage"
    """Something that is no record."""


Record = dict[str, Any]


def events(pieces: Iterable[bytes]) -> Iterator[Record | Mark]:
    """Records of server-sent events (WHATWG HTML, 9.2.6). Ends without `Mark.END` when the stream was cut."""
    held: list[bytes] = []
    for line in _raw_lines(pieces):
        if line is None:
            yield Mark.GARBAGE
        elif not line:
            yield from _joined(held)
            held = []
        elif line.startswith(b"data:"):
            payload = line[5:].removeprefix(b" ")
            if payload.strip() == END_OF_LOG:
                yield from _joined(held)
                yield Mark.END
                return
            record = None if held else _parsed(payload)
            if record is not None:
                yield record
            else:
                held.append(payload)  # an event of several lines, or garbage: the empty line after it tells
                if sum(map(len, held)) > RECORD_LIMIT:
                    yield Mark.GARBAGE
                    held = []
        elif not line.startswith((b":", *_FIELDS)):
            yield Mark.GARBAGE


def _raw_lines(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    """Whole lines without their ends; None for one that is too long. What is after the last line end is not told."""
    rest = bytearray()
    dropping = False
    for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            line = bytes(rest) + piece[start:end]
            yield None if dropping else line.removesuffix(b"\r")
            rest.clear()
            dropping, start = False, end + 1
        if not dropping:
            rest += piece[start:]
        if len(rest) > RECORD_LIMIT:
            rest.clear()
            dropping = True


def _joined(held: Sequence[bytes]) -> Iterator[Record | Mark]:
    """The record of several data lines; failing that, what each of them is alone."""
    if not held:
        return
    for joint in (b"\n", b""):
        if (record := _parsed(joint.join(held))) is not None:
            yield record
            return
    for payload in held:
        if (record := _parsed(payload)) is not None:
            yield record
            continue
        yield Mark.GARBAGE
        # Half a record with a whole one behind it, as when a stream begins anew in the middle of a line.
        _, _, behind = payload.rpartition(b"data: {")
        if behind and (record := _parsed(b"{" + behind)) is not None:
            yield record


def _parsed(payload: bytes) -> Record | None:
    try:
        # Bytes of a character that was cut in two become surrogates, which `Lines` puts together again.
        value = json.loads(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None


def array(pieces: Iterable[bytes]) -> Iterator[Record | Mark]:
    """Records of a JSON array, one by one as they come in. Ends without `Mark.END` when it was cut or is no array."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    reader = json.JSONDecoder()
    text, at, begun = "", 0, False
    for piece in _then_none(pieces):
        text, at = text[at:] + decoder.decode(piece or b"", final=piece is None), 0
        while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            if not begun:
                if text[at] != "[":
                    return
                at, begun = at + 1, True
                continue
            if text[at] == "]":
                yield Mark.END
                return
            try:
                value, at = reader.raw_decode(text, at)
                yield value if isinstance(value, dict) else Mark.GARBAGE
            except (ValueError, RecursionError):
                if piece is not None and len(text) - at <= RECORD_LIMIT:
                    break  # more is to come
                if (following := text.find("{", at + 1)) < 0:
                    return
                yield Mark.GARBAGE
                at = following


def _then_none(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    yield from pieces
    yield None


class Lines:
    """Puts texts together to lines and numbers them from 0."""

    def __init__(self) -> None:
        self._number = 0
        self._parts: list[str] = []
        self._length = 0

    def feed(self, text: str) -> Iterator[tuple[int, str]]:
        """Lines that this text ends."""
        *whole, rest = text.split("\n")
        for part in whole:
            self._keep(part)
            yield self._take()
        self._keep(rest)

    def last(self) -> Iterator[tuple[int, str]]:
        """The line that no line end came after, when the log is complete."""
        if self._parts:
            yield self._take()

    def _keep(self, part: str) -> None:
        part = part[: LINE_LIMIT - self._length]
        if part:
            self._parts.append(part)
            self._length += len(part)

    def _take(self) -> tuple[int, str]:
        line, number = _mended("".join(self._parts)).removesuffix("\r"), self._number
        self._parts, self._length = [], 0
        self._number += 1
        return number, line


def _mended(line: str) -> str:
    """Put together what was cut within a character: surrogate pairs first, then bytes."""
    if not _SURROGATE.search(line):
        return line
    paired = line.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _NO_BYTE.sub("\ufffd", paired).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
