"""A loopback server that answers as a test says, and breaks as a test says: for one fault at a time, exactly."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What came in. `rpc` is the last part of the path: `SaveKernel`."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: int = 0
    """The client's port: one connection has one."""

    @property
    def rpc(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Reply:
    """`cut`: only so many bytes of the body are sent, then the connection is reset; -1: not even a status.

    `pieces` are sent as chunks, each at once, in place of `body`; without the last chunk where `cut` is 0.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    pieces: Iterator[bytes] | None = None


def says(value: Any, status: int = 200, **headers: str) -> Reply:
    """JSON."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


Answer = Callable[[Request], Reply]


class Server:
    """Answers by `answer`, which a test may change; `requests` are in order."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Answer = lambda request: says({})
        self.read_limit: Callable[[str], int | None] = lambda path: None
        """How many bytes of a body to read before the connection is reset, by path."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None: ...

            def do_GET(self) -> None:
                outer._serve(self)

            do_POST = do_PUT = do_GET  # noqa: N815

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: Any) -> None: ...

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def rpcs(self) -> list[str]:
        return [request.rpc for request in self.requests]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        limit = self.read_limit(handler.path)
        body = handler.rfile.read(length if limit is None else min(limit, length))
        request = Request(handler.command, handler.path, dict(handler.headers.items()), body, handler.client_address[1])
        self.requests.append(request)
        reply = self.answer(request)
        if reply.cut == -1:
            return reset(handler)
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.pieces is not None:
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            with contextlib.suppress(OSError):
                for piece in reply.pieces:
                    handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if reply.cut is not None:
                    return reset(handler)
                handler.wfile.write(b"0\r\n\r\n")
            return None
        if "Content-Length" not in reply.headers:
            handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
        if reply.cut is not None:
            reset(handler)
        return None


def reset(handler: BaseHTTPRequestHandler) -> None:
    """End the connection the hard way."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def serving(answer: Answer | None = None) -> Iterator[Server]:
    server = Server()
    if answer is not None:
        server.answer = answer
    try:
        yield server
    finally:
        server.close()


def in_turn(*replies: Reply | Answer) -> Answer:
    """Each once, the last one from then on."""
    left = list(replies)

    def answer(request: Request) -> Reply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply if isinstance(reply, Reply) else reply(request)

    return answer
