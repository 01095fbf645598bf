"""What a part of the emulator answers; the server turns it into bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tests.emulators.storage.settings import ApiError

JSON = "application/json; charset=UTF-8"
TEXT = "text/html; charset=UTF-8"


@dataclass(frozen=True)
class Reply:
    """A whole answer in memory."""

    status: int = 200
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileReply:
    """`size` bytes of an open file from `start` on. Whoever sends it closes the file."""

    status: int
    file: BinaryIO
    start: int
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Cut:
    """No answer: the connection is reset, after `seconds` of silence."""

    seconds: float = 0.0


AnyReply = Reply | FileReply | Cut


class CutShort(Exception):  # noqa: N818 -- no error: the connection is to end here, and that is the answer
    """Raised in the middle of reading a body: the connection is reset without an answer."""


def ok(value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(body=json.dumps(value, ensure_ascii=False).encode(), headers=headers or {})


def refusal(error: ApiError, *, media: bool = False) -> Reply:
    """An error as the JSON API has it; where bytes of an object were asked for, its text alone."""
    if error.status in (304, 499):
        return Reply(error.status, kind=TEXT)
    if media:
        return Reply(error.status, error.message.encode(), TEXT)
    return Reply(error.status, json.dumps(error.body()).encode())
