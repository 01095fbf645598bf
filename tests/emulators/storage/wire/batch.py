"""/batch/storage/v1: several calls in one request, each answered on its own. Neither uploads nor downloads go here."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.storage.settings import invalid
from tests.emulators.storage.wire.reply import AnyReply, Reply
from tests.emulators.storage.wire.request import Body, Request

PATH = "/batch/storage/v1"
MOST = 100  # calls in one batch, by Google's documentation ("sending batch requests")
_BOUNDARY = "batch_emulated"


def answer(request: Request, call: Callable[[Request], Reply]) -> AnyReply:
    """multipart/mixed of HTTP requests to multipart/mixed of HTTP replies. Raises ApiError 400."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + request.body.whole()).get_payload()
    if not isinstance(parts, list):
        raise invalid("Failed to parse batch request: want multipart/mixed")
    if len(parts) > MOST:
        raise invalid(f"The batch request has {len(parts)} calls; the limit is {MOST}.")
    texts = []
    for number, part in enumerate(parts):
        if not isinstance(part, Message):
            raise invalid("Failed to parse batch request")
        reply = call(_inner(part, request))
        name = part.get("Content-ID", f"<emulated+{number}>").replace("<", "<response-", 1)
        lines = [f"--{_BOUNDARY}", "Content-Type: application/http", f"Content-ID: {name}", ""]
        phrase = HTTPStatus(reply.status).phrase
        lines += [f"HTTP/1.1 {reply.status} {phrase}", f"Content-Type: {reply.kind}"]
        texts.append("\r\n".join([*lines, f"Content-Length: {len(reply.body)}", "", ""]).encode() + reply.body)
    body = b"\r\n".join([*texts, f"--{_BOUNDARY}--\r\n".encode()])
    return Reply(200, body, f'multipart/mixed; boundary="{_BOUNDARY}"')


def _inner(part: Message, outer: Request) -> Request:
    """The call that a part holds. It is authorized as the whole batch is, unless it says otherwise itself."""
    raw = part.get_payload(decode=True)
    line, _, rest = (raw if isinstance(raw, bytes) else b"").lstrip().partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) < 2:
        raise invalid("Failed to parse batch request: a part is no HTTP request")
    inner = BytesParser().parsebytes(rest)
    content = inner.get_payload(decode=True)
    left = [content] if isinstance(content, bytes) else []
    url = urlsplit(words[1])
    headers = {name.lower(): str(value) for name, value in inner.items()}
    headers.setdefault("authorization", outer.headers.get("authorization", ""))
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if url.path.startswith(("/upload/", "/download/")) or query.get("alt") == "media":
        raise invalid("Uploads and downloads cannot be part of a batch.")
    return Request(words[0], url.path, query, headers, Body(lambda _: left.pop() if left else b""))
