"""The wire: HTTP/1.1 on loopback with kept connections, and the faults before, within and after each call."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.storage.faults import AFTER, BEFORE, DOWNLOAD, UPLOAD, Fault
from tests.emulators.storage.service.uploads import Superseded
from tests.emulators.storage.settings import ApiError, Call
from tests.emulators.storage.wire import admin, batch, spoiling
from tests.emulators.storage.wire.reply import AnyReply, Cut, CutShort, FileReply, Reply, refusal
from tests.emulators.storage.wire.request import PIECE, Body, Request

if TYPE_CHECKING:
    from tests.emulators.storage.emulator import StorageEmulator


class Server(ThreadingHTTPServer):
    """Serves one emulator until it is closed. A thread for each connection; none of them keeps the process alive."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, storage: StorageEmulator, port: int) -> None:
        self.storage = storage
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), name="emulated storage", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a defect of the emulator is."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = PIECE
    server: Server
    _call = Call("", "", "", "", 0, 0, 0, 0.0, "", "", "")  # where nothing is logged

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle_any(self) -> None:
        """One request, from its head to the last byte of the reply."""
        storage = self.server.storage
        begun = time.perf_counter()
        request = self._request()
        self._log: Call | None = Call("", "", "", "", 0, 0, 0, 0.0, request.method, self.path, "")
        call = self._log
        if request.path.startswith(admin.PREFIX):
            self._log = None
            self._send(request, self._guarded(request, lambda _: admin.answer(storage, request)))
            return
        try:
            self._answer(storage, request)
        except (ConnectionError, TimeoutError, CutShort):
            self._reset()
        finally:
            self._record(request, 0)
            call.seconds = time.perf_counter() - begun

    def _request(self) -> Request:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        chunked = "chunked" in headers.get("transfer-encoding", "")
        length = None if chunked else int(headers.get("content-length") or 0)
        self._left = length
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return Request(self.command, url.path, query, headers, Body(self._pull, length))

    def _record(self, request: Request, status: int) -> None:
        """Put this request into the log, once, before the client can know that it was answered."""
        call, self._log = self._log, None
        if call is not None:
            call.operation, call.phase, call.bucket, call.name = (
                request.operation,
                request.phase,
                request.bucket,
                request.name,
            )
            call.status, call.received = status, request.body.received
            self._call = call
            self.server.storage.requests.append(call)

    def _answer(self, storage: StorageEmulator, request: Request) -> None:
        if request.path == batch.PATH:
            request.operation = "batch"
            work: Callable[[Request], AnyReply] = lambda whole: batch.answer(whole, self._one)  # noqa: E731
        else:
            work = storage.routes.find(request)
        before = self._take(BEFORE, request)
        if before is not None:
            if before.kind != "reset":
                self._drain(request)
            self._send(request, spoiling.instead(before))
            return
        if request.operation == "storage.objects.insert":
            request.fault = self._take(_upload_faults(request.phase), request)
            if request.fault is not None:
                request.body = spoiling.broken(request.body, request.fault, storage.world.closing)
        reply = self._guarded(request, work)
        if not isinstance(reply, Cut):
            self._drain(request)  # what was not read would be taken for the next request
        after = self._take(AFTER, request)
        if isinstance(reply, FileReply):
            with reply.file:
                self._send(request, spoiling.after(reply, after), self._take(DOWNLOAD, request))
        else:
            self._send(request, spoiling.after(reply, after))

    def _one(self, request: Request) -> Reply:
        """One call of a batch, with its own faults. The log has the batch as one request."""
        storage = self.server.storage
        work = storage.routes.find(request)
        before = storage.faults.take(BEFORE, request.names)
        reply = spoiling.instead(before) if before is not None else self._guarded(request, work)
        if not isinstance(reply, Reply):
            raise CutShort
        return reply

    def _take(self, kinds: dict[str, str], request: Request) -> Fault | None:
        fault = self.server.storage.faults.take(kinds, request.names)
        if fault is not None and self._log is not None:
            self._log.fault = fault.kind
        return fault

    def _guarded(self, request: Request, work: Callable[[Request], AnyReply]) -> AnyReply:
        try:
            return work(request)
        except ApiError as error:
            return refusal(error, media=request.media)
        except Superseded:
            return Cut()
        except (ConnectionError, TimeoutError, CutShort):
            raise
        except Exception as error:  # noqa: BLE001 -- a defect of the emulator must not look like a lost connection
            traceback.print_exc()
            return refusal(ApiError(500, "internalError", f"The emulator is broken: {error!r}"))

    # Reading.

    def _pull(self, most: int) -> bytes:
        """Up to so many bytes more of the body; b'' at its end. Raises ConnectionError when the client has gone."""
        if self._left is None:
            return self._pull_chunk()
        if self._left == 0:
            return b""
        piece = self.rfile.read1(min(most, self._left))
        if not piece:
            raise ConnectionError("the client went away")
        self._left -= len(piece)
        return bytes(piece)

    def _pull_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
        piece = self.rfile.read(size)
        self.rfile.readline()
        if size == 0:
            self._left = 0
        return piece

    def _drain(self, request: Request) -> None:
        while self._pull(PIECE):
            pass

    # Writing.

    def _send(self, request: Request, reply: AnyReply, fault: Fault | None = None) -> None:
        self._record(request, 0 if isinstance(reply, Cut) else reply.status)
        if isinstance(reply, Cut):
            self.server.storage.world.closing.wait(reply.seconds)
            self._reset()
        elif isinstance(reply, FileReply):
            self._file(reply, fault)
        else:
            body = b"" if self.command == "HEAD" or reply.status in (204, 304) else reply.body
            self._call.sent = len(body)
            self._write(self._head(reply.status, {"Content-Type": reply.kind, **reply.headers}, len(body)) + body)

    def _head(self, status: int, headers: dict[str, str], length: int) -> bytes:
        phrase = "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
        lines = [f"HTTP/1.1 {status} {phrase}", f"Date: {self.date_time_string()}", "Server: UploadServer"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, f"Content-Length: {length}", "\r\n"]).encode("latin-1")

    def _file(self, reply: FileReply, fault: Fault | None) -> None:
        """Bytes of a file, by sendfile where nothing is to go wrong with them."""
        if fault is not None and fault.kind == "truncated":
            size = min(reply.size, int(fault.number("at", reply.size // 2)))
            reply, fault = replace(reply, size=size), None
        self._write(self._head(reply.status, dict(reply.headers), reply.size))
        if fault is not None:
            for piece in spoiling.pieces(reply, fault, self.server.storage.world.closing):
                self._write(piece)
                self._call.sent += len(piece)
        elif reply.size:
            self._call.sent = reply.size
            if self.connection.sendfile(reply.file, reply.start, reply.size) < reply.size:
                raise CutShort

    def _write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def _reset(self) -> None:
        """End the connection with a reset, so that the client sees an error and not an end."""
        self.close_connection = True
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        except OSError:
            pass


def _upload_faults(phase: str) -> dict[str, str]:
    """Those that can happen in this part of an upload: a start and a question bring no content."""
    if phase in ("media", "multipart"):
        return {kind: text for kind, text in UPLOAD.items() if kind not in ("short-upload", "expired-upload")}
    if phase == "resumable-chunk":
        return UPLOAD
    return {"expired-upload": UPLOAD["expired-upload"]} if phase == "resumable-status" else {}


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{_method}", Handler.handle_any)
