"""The wire: HTTP/1.1 on loopback, in the shapes that the real client sends, with faults before and after each call."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.emulators.kaggle.faults import AFTER, BEFORE, Fault
from tests.emulators.kaggle.settings import RpcError
from tests.emulators.kaggle.wire import admin, files, logs, uploads
from tests.emulators.kaggle.wire.reply import (
    AnyReply,
    Cut,
    FileReply,
    Reply,
    Silence,
    StreamReply,
    ok,
    page,
    refusal,
)

if TYPE_CHECKING:
    from tests.emulators.kaggle.emulator import KaggleEmulator

CHUNK = 1 << 18
NEED_NO_PROOF = ("IntrospectToken", "GenerateAccessToken")
_FLIP = bytes(byte ^ 0xFF for byte in range(256))
_RPC = re.compile(r"(?:/api)?/v1/([\w.]+)/(\w+)")
_LOGS = re.compile(r"(?:/api)?/v1/kernels/logs/stream/([^/]+)/([^/]+)")


class Server(ThreadingHTTPServer):
    """Serves one emulator until it is closed. A thread for each connection; none of them keeps the process alive."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, kaggle: KaggleEmulator, port: int) -> None:
        self.kaggle = kaggle
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), name="emulated kaggle", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection. Targets may be relative or absolute (a client that takes this server for its proxy)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    # One request.

    def _handle(self) -> None:
        kaggle = self.server.kaggle
        url = urlsplit(self.path)
        self._left = None if "chunked" in self.headers.get("Transfer-Encoding", "") else self._length()
        if url.path.startswith(admin.PREFIX):
            self._send(self._guarded(lambda: ok(admin.handle(kaggle, self.command, url.path, self._json()))))
            return
        name, names = self._names(url.path)
        kaggle.counters.call(name)
        before = kaggle.faults.take(BEFORE, *names)
        if before is not None:
            self._drain()
            self._send(_refuse(before))
            return
        reply = self._guarded(lambda: self._route(url.path, url.query))
        try:
            if not isinstance(reply, Cut):
                self._drain()  # what was not read would be taken for the next request
        except ConnectionError:
            reply = Cut()
        self._send(reply, kaggle.faults.take(AFTER, *names))

    def _names(self, path: str) -> tuple[str, tuple[str, ...]]:
        """What this request is counted as, and all names by which a fault may mean it."""
        if match := _RPC.fullmatch(path):
            return match.group(2), (match.group(2), f"{match.group(1)}/{match.group(2)}", path)
        if match := _LOGS.fullmatch(path):
            return "logs", ("logs", f"{match.group(1)}/{match.group(2)}", path)
        kind = "upload" if path.startswith(uploads.PREFIX) else "file"
        return kind, (kind, path.rsplit("/", 1)[-1], path)

    def _guarded(self, work: Any) -> AnyReply:
        try:
            reply: AnyReply = work()
        except RpcError as error:
            return refusal(error.status, error.message, as_200=self.server.kaggle.settings.errors_as_200)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 -- a defect of the emulator must not look like a lost connection
            traceback.print_exc()
            return refusal(500, f"The emulator is broken: {error!r}")
        return reply

    def _route(self, path: str, query: str) -> AnyReply:
        kaggle = self.server.kaggle
        if self.command == "PUT" and path.startswith(uploads.PREFIX):
            return kaggle.uploads.put(path, self.headers, self._read)
        if self.command in ("GET", "HEAD") and path.startswith(files.PREFIX):
            return kaggle.files.get(path, query, self.headers)
        match = _RPC.fullmatch(path)
        open_to_all = match is not None and match.group(2) in NEED_NO_PROOF
        account = None if open_to_all else kaggle.accounts.authenticate(self.headers.get("Authorization"))
        if self.command == "POST" and match is not None:
            result = kaggle.call(match.group(1), match.group(2), account, self._json())
            return result if isinstance(result, Reply) else ok(result)
        if self.command == "GET" and (match := _LOGS.fullmatch(path)):
            owner, slug = match.groups()
            label = parse_qs(query).get("versionLabel", [""])[0]
            session = kaggle.kernels.readable_session(account, owner, slug, label)
            return logs.answer(session, f"{owner}/{slug}", kaggle.world, kaggle.faults)
        raise RpcError(404, f"Not found: {self.command} {path}")

    # Reading.

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes more of the body; b'' at its end. Raises ConnectionError when the client has gone."""
        if self._left is None:
            return self._read_chunk()
        if self._left == 0:
            return b""
        piece = self.rfile.read1(min(size, self._left))
        if not piece:
            raise ConnectionError("the client went away")
        self._left -= len(piece)
        self.server.kaggle.counters.moved(received=len(piece))
        return bytes(piece)

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
        piece = self.rfile.read(size)
        self.rfile.readline()
        if size == 0:
            self._left = 0
        self.server.kaggle.counters.moved(received=len(piece))
        return piece

    def _body(self) -> bytes:
        return b"".join(iter(lambda: self._read(CHUNK), b""))

    def _drain(self) -> None:
        self._body()

    def _json(self) -> dict[str, Any]:
        try:
            value = json.loads(self._body() or b"{}")
        except ValueError as error:
            raise RpcError(400, f"The body is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise RpcError(400, "The body is no JSON object.")
        return value

    # Writing.

    def _send(self, reply: AnyReply, after: Fault | None = None) -> None:
        kind = after.kind if after is not None else ""
        if after is not None and kind == "slow":
            time.sleep(after.number("seconds"))
        if kind == "500-after":
            reply = refusal(500, "Internal error")
        if kind == "lose-reply":
            reply = Cut()
        if kind == "hang-after":
            reply = Silence()
        if isinstance(reply, Silence):
            self.server.kaggle.world.closing.wait()
        if isinstance(reply, (Cut, Silence)):
            self._close()
        elif isinstance(reply, StreamReply):
            self._stream(reply)
        elif isinstance(reply, FileReply):
            self._file(reply, after)
        else:
            self._whole(_spoil(reply, after), cut=kind == "cut-middle")

    def _whole(self, reply: Reply, *, cut: bool) -> None:
        body = reply.body[: len(reply.body) // 2] if cut else reply.body
        self._head(reply.status, {"Content-Type": reply.kind, **reply.headers}, len(reply.body))
        if self.command != "HEAD":
            self._write(body)
        if cut:
            self._close()

    def _head(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _file(self, reply: FileReply, after: Fault | None) -> None:
        kind = after.kind if after is not None else ""
        size = reply.size // 2 if kind in ("short-body", "cut-middle") else reply.size
        self._head(reply.status, dict(reply.headers), reply.size if kind == "cut-middle" else size)
        if self.command == "HEAD":
            return
        for piece in _pieces(reply, size):
            self._write(piece.translate(_FLIP) if kind == "wrong-content" else piece)
        if kind == "cut-middle":
            self._close()

    def _stream(self, reply: StreamReply) -> None:
        self._head(200, {"Content-Type": reply.kind, "Cache-Control": "no-cache"}, None)
        for piece in reply.pieces:
            if not piece:
                self._close()
                return
            self._write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        self.server.kaggle.counters.moved(sent=len(data))
        self.wfile.write(data)

    def _close(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _pieces(reply: FileReply, size: int) -> Iterator[bytes]:
    with reply.path.open("rb") as file:
        file.seek(reply.start)
        while size > 0 and (piece := file.read(min(CHUNK, size))):
            size -= len(piece)
            yield piece


def _refuse(fault: Fault) -> AnyReply:
    """The reply of a fault that happens before anything was done."""
    after = fault.options.get("retry_after")
    headers = {} if after is None else {"Retry-After": str(after)}
    if fault.kind == "429":
        return Reply(429, b'{"code": 429, "message": "Too Many Requests"}', headers=headers)
    if fault.kind == "429-html":
        return page(429, "Too many requests", headers)
    replies: dict[str, AnyReply] = {
        "500": refusal(500, "Internal error"),
        "503": page(503, "Service unavailable", headers),
        "403-html": page(403, "Forbidden"),
        "404": refusal(404, "Not found"),
        "html-200": page(200, "Please sign in"),
        "error-200": refusal(int(fault.number("code", 400)), str(fault.options.get("message", "No.")), as_200=True),
        "hang": Silence(),
        "cut-before": Cut(),
    }
    return replies[fault.kind]


def _spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply as a fault that happens after the work makes it."""
    if fault is None:
        return reply
    body = reply.body
    if fault.kind == "short-body":
        body = body[: len(body) // 2]
    elif fault.kind == "wrong-content":
        text = fault.options.get("body")
        body = text.encode() if isinstance(text, str) else body.translate(_FLIP)
    elif fault.kind == "unknown-enum":
        body = re.sub(rb'("status": )"[A-Z_]+"', rb'\1"SOMETHING_NEW"', body)
    return Reply(reply.status, body, reply.kind, reply.headers)
