"""storage.objects.insert: in one request (media, multipart) or resumable. Bodies are never held as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any
from urllib.parse import quote

from tests.emulators.storage.service.buckets import Bucket, Buckets
from tests.emulators.storage.service.conditions import Conditions, parameters
from tests.emulators.storage.service.contents import Content
from tests.emulators.storage.service.objects import Version, claimed_hashes, settable
from tests.emulators.storage.service.uploads import Session, Uploads
from tests.emulators.storage.settings import World, invalid, required
from tests.emulators.storage.wire.reply import AnyReply, Reply
from tests.emulators.storage.wire.request import PIECE, Request, as_json

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
PARAMETERS = ("name", "contentEncoding", "predefinedAcl", "projection", "kmsKeyName", *parameters())
Shown = Callable[[Request, Version], Reply]


class UploadApi:
    """Takes uploads. `shown` makes the reply that shows an object."""

    def __init__(self, world: World, buckets: Buckets, uploads: Uploads, shown: Shown) -> None:
        self._world = world
        self._buckets = buckets
        self._uploads = uploads
        self._shown = shown

    def insert(self, request: Request) -> AnyReply:
        request.only(*PARAMETERS)
        if "upload_id" in request.query:
            return self._resumed(request)
        bucket = self._buckets[request.bucket]
        kinds = {"media": self._media, "multipart": self._multipart, "resumable": self._start}
        kind = request.query.get("uploadType", "")
        if kind not in kinds:
            raise invalid(f"Invalid value for uploadType: {kind!r}")
        return kinds[kind](request, bucket)

    # In one request.

    def _media(self, request: Request, bucket: Bucket) -> AnyReply:
        name = _named(request, {})
        made = _made(request, {}, request.headers.get("content-type"))
        content = self._received(_arriving(request, request.body.pieces()))
        return self._put(request, bucket, name, made, content, {})

    def _multipart(self, request: Request, bucket: Bucket) -> AnyReply:
        resource, kind, pieces = multipart_parts(request)
        name = _named(request, resource)
        made = _made(request, resource, kind)
        content = self._received(_arriving(request, pieces))
        return self._put(request, bucket, name, made, content, claimed_hashes(resource))

    def _received(self, pieces: Iterator[bytes]) -> Content:
        writing = self._buckets.contents.writing()
        try:
            for piece in pieces:
                writing.write(piece)
            return writing.finish()
        except BaseException:
            writing.drop()
            raise

    def _put(
        self,
        request: Request,
        bucket: Bucket,
        name: str,
        made: Mapping[str, Any],
        content: Content,
        claim: dict[str, str],
    ) -> AnyReply:
        try:
            content.agree(claim)
            content.agree(hashes_said(request))
        except BaseException:
            content.path.unlink(missing_ok=True)
            raise
        return self._shown(request, bucket.put(name, content, made, Conditions.of(request.query)))

    # Resumable.

    def _start(self, request: Request, bucket: Bucket) -> AnyReply:
        resource = request.body.json()
        name = _named(request, resource)
        made = _made(request, resource, request.headers.get("x-upload-content-type"))
        conditions, said = Conditions.of(request.query), request.headers.get("x-upload-content-length")
        if said is not None and not said.isdigit():
            raise invalid("Invalid value for X-Upload-Content-Length")
        announced = int(said) if said is not None else None
        session = self._uploads.start(bucket, name, made, claimed_hashes(resource), conditions, announced)
        query = f"uploadType=resumable&name={quote(name, safe='')}&upload_id={session.key}"
        if "fields" in request.query:
            query += f"&fields={quote(request.query['fields'], safe='')}"
        place = f"{self._world.endpoint}{request.path}?{query}"
        return Reply(200, headers={"Location": place, "X-GUploader-UploadID": session.key})

    def _resumed(self, request: Request) -> AnyReply:
        session = self._uploads.get(request.query["upload_id"])
        if request.fault is not None and request.fault.kind == "expired-upload":
            status = request.fault.options.get("status")
            session.over = self._uploads.expired(None if status is None else int(status))
        if request.method == "DELETE":
            session.cancel()
            return Reply(499)
        turn = session.begin()
        if session.version is not None:
            return self._shown(request, session.version)
        if session.over is not None:
            raise session.over
        first, total, length = _content_range(request, session)
        if total is not None and session.announced not in (None, total):
            raise invalid(f"X-Upload-Content-Length was {session.announced}, Content-Range says {total}.")
        if first is not None:
            self._receive(request, session, turn, first, length)
        if request.fault is not None and request.fault.kind == "short-upload":
            session.begin()
            return incomplete(session)
        end = session.kept if first is None else first + length
        if total is not None and end == total and (first is not None or session.kept == total):
            return self._shown(request, session.complete(turn, hashes_said(request)))
        session.begin()
        return incomplete(session)

    def _receive(self, request: Request, session: Session, turn: int, first: int, length: int) -> None:
        """Take the bytes that are not there yet; what is there already is passed over, as GCS documents."""
        if first > session.kept:
            text = f"According to the Content-Range header, the upload offset is {first} byte(s), which exceeds already"
            raise invalid(f"Invalid request.  {text} uploaded size of {session.kept} byte(s).")
        known, seen = session.kept - first, 0
        short = request.fault is not None and request.fault.kind == "short-upload"
        limit = int(request.fault.number("at")) if short and request.fault is not None else length
        for piece in _arriving(request, request.body.pieces()):
            seen += len(piece)
            fresh = piece[max(0, len(piece) - (seen - known)) :] if seen > known else b""
            session.add(turn, fresh[: max(0, limit - (seen - len(piece)))])
        if seen != length:
            text = f"There were {seen} byte(s) in the request body.  There should have been {length} byte(s)"
            session.begin()
            raise invalid(
                f"Invalid request.  {text} (starting at offset {first}) according to the Content-Range header."
            )


def _arriving(request: Request, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of the content as they arrive: with another first byte, where that is the fault."""
    spoil = request.fault is not None and request.fault.kind == "corrupt-upload"
    for piece in pieces:
        if spoil and piece:
            yield bytes([piece[0] ^ 0xFF]) + piece[1:]
            spoil = False
        else:
            yield piece


def incomplete(session: Session) -> Reply:
    """308: `Range` says what is safe, and is missing where nothing is."""
    headers = {"X-GUploader-UploadID": session.key}
    if session.kept:
        headers["Range"] = f"bytes=0-{session.kept - 1}"
    return Reply(308, headers=headers)


def hashes_said(request: Request) -> dict[str, str]:
    """Checksums of the header x-goog-hash, and of content-md5."""
    said = dict(part.strip().split("=", 1) for part in request.headers.get("x-goog-hash", "").split(",") if "=" in part)
    if "content-md5" in request.headers and "md5" not in said:
        said["md5"] = request.headers["content-md5"]
    return said


def _content_range(request: Request, session: Session) -> tuple[int | None, int | None, int]:
    """First byte (None: only a question), total (None: not known yet), and how many bytes come."""
    header = request.headers.get("content-range")
    length = request.body.length
    if header is None:
        if length is None:
            raise invalid("A resumable upload without Content-Range and Content-Length is not emulated")
        return 0, length, length
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise invalid(f"Failed to parse Content-Range header: {header!r}")
    first, last, total = match.groups()
    known = None if total == "*" else int(total)
    if first is None:
        return None, known, 0
    size = int(last) - int(first) + 1
    if size <= 0 or (known is not None and int(last) >= known):
        raise invalid(f"Failed to parse Content-Range header: {header!r}")
    return int(first), known, size


def _named(request: Request, resource: Mapping[str, Any]) -> str:
    asked, own = request.query.get("name"), resource.get("name")
    if asked and own and asked != own:
        raise invalid(f"Value '{own}' in content does not agree with value '{asked}'.")
    request.name = str(asked or own or "")
    if not request.name:
        raise required("name")
    return request.name


def _made(request: Request, resource: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    """The fields of the object that is made."""
    made = settable(resource)
    made.setdefault("contentType", kind or "application/octet-stream")
    if "contentEncoding" in request.query:
        made["contentEncoding"] = request.query["contentEncoding"]
    return made


def multipart_parts(request: Request) -> tuple[dict[str, Any], str | None, Iterator[bytes]]:
    """The resource, the content's type, and the content of a multipart/related body. Raises ApiError 400."""
    head = Message()
    head["content-type"] = request.headers.get("content-type", "")
    boundary = head.get_param("boundary")
    if head.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise invalid("Multipart body is malformed: no boundary")
    mark = b"--" + boundary.encode()
    buffer = bytearray()

    def until(stop: bytes) -> bytes:
        while (at := buffer.find(stop)) < 0:
            piece = request.body.read()
            if not piece:
                raise invalid("Missing end boundary in multipart body.")
            buffer.extend(piece)
        found = bytes(buffer[:at])
        del buffer[: at + len(stop)]
        return found

    if until(mark).strip():
        raise invalid("Multipart body is malformed: text before the first boundary")
    until(b"\r\n\r\n")
    resource = as_json(until(b"\r\n" + mark))
    part = until(b"\r\n\r\n").decode("latin-1")
    types = [line.partition(":")[2].strip() for line in part.split("\r\n") if line.lower().startswith("content-type:")]
    return resource, types[0] if types else None, _content(request, buffer, b"\r\n" + mark + b"--")


def _content(request: Request, buffer: bytearray, stop: bytes) -> Iterator[bytes]:
    """What is before the last boundary; the end of each piece is held back as long as it may be part of it."""
    while (at := buffer.find(stop)) < 0:
        safe = len(buffer) - len(stop) + 1
        if safe > 0:
            yield bytes(buffer[:safe])
            del buffer[:safe]
        piece = request.body.read(PIECE)
        if not piece:
            raise invalid("Missing end boundary in multipart body.")
        buffer.extend(piece)
    yield bytes(buffer[:at])
