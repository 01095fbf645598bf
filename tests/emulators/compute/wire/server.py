"""The wire: HTTP/1.1 on loopback, requests logged, faults before and after the work."""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.emulators.compute.faults import AFTER, BEFORE, Fault
from tests.emulators.compute.service import refusals
from tests.emulators.compute.service.calls import Call
from tests.emulators.compute.settings import ApiError
from tests.emulators.compute.wire import admin, routes

if TYPE_CHECKING:
    from tests.emulators.compute.emulator import ComputeEmulator


@dataclass(frozen=True)
class Request:
    """One request, as it is logged. `status` is what was done; 0 where nothing was. `fault`: what was done wrong."""

    at: float
    method: str
    zone: str
    name: str
    request_id: str
    status: int
    fault: str


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes


def answer(status: int, value: Any) -> Reply:
    return Reply(status, json.dumps(value).encode())


class Server(ThreadingHTTPServer):
    """Serves one emulator until it is closed. A thread for each connection; none of them keeps the process alive."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, compute: ComputeEmulator, port: int) -> None:
        self.compute = compute
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), name="emulated compute", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_PATCH(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        compute = self.server.compute
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/token":
            self._send(answer(200, compute.tokens.issue()))
            return
        if url.path.startswith(admin.PREFIX):
            status, value = admin.handle(compute, self.command, url.path, body)
            self._send(answer(status, value))
            return
        try:
            call = routes.read(self.command, url.path, url.query, body)
        except ApiError as error:
            compute.log(Request(compute.clock.now(), f"{self.command} {url.path}", "", "", "", error.status, ""))
            self._send(answer(error.status, error.body()))
            return
        self._answer(call)

    def _answer(self, call: Call) -> None:
        compute = self.server.compute
        names = (call.method, call.zone, name_of(call))
        fault = compute.faults.take(BEFORE, *names)
        if fault is not None:
            self._log(call, 0, fault)
            self._refuse(fault, call)
            return
        reply = self._work(call)
        after = compute.faults.take(AFTER, *names)
        self._log(call, reply.status, after)
        self._spoilt(reply, after)

    def _work(self, call: Call) -> Reply:
        compute = self.server.compute
        try:
            compute.tokens.check(self.headers.get("Authorization"))
            with compute.world.changed:
                message = compute.call(call)
                return Reply(200, text_of(message).encode())
        except ApiError as error:
            return answer(error.status, error.body())
        except Exception as error:  # noqa: BLE001 -- a defect of the emulator must not look like a lost connection
            traceback.print_exc()
            return answer(500, ApiError(500, "emulator", f"The emulator is broken: {error!r}").body())

    def _log(self, call: Call, status: int, fault: Fault | None) -> None:
        compute = self.server.compute
        asked = str(getattr(call.request, "request_id", ""))
        kind = fault.kind if fault is not None else ""
        compute.log(Request(compute.clock.now(), call.method, call.zone, name_of(call), asked, status, kind))

    def _refuse(self, fault: Fault, call: Call) -> None:
        if fault.kind == "hang":
            self.server.compute.world.closing.wait()
        if fault.kind in ("hang", "cut-before"):
            self._close()
            return
        error = refusals.before(fault, call.method)
        self._send(answer(error.status, error.body()))

    def _spoilt(self, reply: Reply, fault: Fault | None) -> None:
        """Send the reply as a fault that happens after the work makes it."""
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "slow":
            time.sleep(fault.number("seconds"))
        if kind == "hang-after":
            self.server.compute.world.closing.wait()
        if kind in ("hang-after", "lose-reply"):
            self._close()
        elif kind == "503-after":
            error = ApiError(503, "backendError", "The service is currently unavailable.")
            self._send(answer(503, error.body()))
        else:
            self._send(reply, cut=kind == "cut-middle")

    def _send(self, reply: Reply, *, cut: bool = False) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
        self.wfile.flush()
        if cut:
            self._close()

    def _close(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def text_of(message: Any) -> str:
    """A message as the service writes it: JSON names, enums as words, nothing that is not set."""
    return str(type(message).to_json(message, use_integers_for_enums=False, always_print_fields_with_no_presence=False))


def name_of(call: Call) -> str:
    """What a request is about: the name of an instance, disk or operation."""
    for field in ("instance", "disk", "operation"):
        if value := str(getattr(call.request, field, "")):
            return value
    return str(getattr(call.body, "name", ""))
