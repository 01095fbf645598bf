"""What a part of the emulator answers; the server turns it into bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
XML = "application/xml; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """A whole answer in memory."""

    status: int = 200
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileReply:
    """`size` bytes of a file from `start` on."""

    status: int
    path: Path
    start: int
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class StreamReply:
    """Pieces sent one by one, chunked. An empty piece ends the connection without the end of the body."""

    kind: str
    pieces: Iterator[bytes]


@dataclass(frozen=True)
class Cut:
    """No answer: the connection is closed."""


@dataclass(frozen=True)
class Silence:
    """No answer, and the connection stays open."""


AnyReply = Reply | FileReply | StreamReply | Cut | Silence


def ok(value: Any) -> Reply:
    return Reply(body=json.dumps(value, ensure_ascii=False).encode())


def refusal(status: int, message: str, *, as_200: bool = False) -> Reply:
    """An error as the RPCs have it."""
    body = json.dumps({"code": status, "message": message}).encode()
    return Reply(200 if as_200 else status, body)


def page(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """What a load balancer or a login page would send."""
    body = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{text}</h1></body></html>".encode()
    return Reply(status, body, HTML, headers or {})


def storage_error(status: int, code: str, message: str) -> Reply:
    """As object storage answers."""
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, body.encode(), XML)
