"""The metadata server of one machine: what a program on it may know, its tokens, and the notice of preemption.

As documented for metadata.google.internal: `Metadata-Flavor: Google` asked for and answered, `recursive`, `alt=json`,
`wait_for_change` with `last_etag` and `timeout_sec`, listings with a trailing slash, guest attributes by PUT.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.compute.faults import Faults
from tests.emulators.compute.machine.commands import OFF
from tests.emulators.compute.settings import World
from tests.emulators.compute.wire.tokens import Tokens

if TYPE_CHECKING:
    from tests.emulators.compute.service.vm import Vm

ROOT = "/computeMetadata/v1/"
GUEST = "instance/guest-attributes/"
PROJECT_NUMBER = 4242
WAIT_SECONDS = 300.0
"""Longest wait_for_change without timeout_sec, by the wall clock. Assumption."""
Answer = tuple[int, str, str]


class MetadataServer(ThreadingHTTPServer):
    """Serves one machine at its own address."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, world: World, vm: Vm, address: str, tokens: Tokens, faults: Faults) -> None:
        self.world, self.vm, self.tokens, self.faults = world, vm, tokens, faults
        self.stopped = threading.Event()
        super().__init__((address, 0), Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def netloc(self) -> str:
        return f"{self.server_name}:{self.server_port}"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), name="metadata", daemon=True).start()

    def stop(self) -> None:
        if self.stopped.is_set():
            return
        self.stopped.set()
        with self.world.changed:
            self.world.changed.notify_all()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def tree(self) -> dict[str, Any]:
        """All that can be read, but tokens. The world's lock is held."""
        vm, settings = self.vm, self.world.settings
        message = vm.message
        zone = f"projects/{PROJECT_NUMBER}/zones/{vm.zone}"
        accounts = {
            account: {"aliases": ["default"], "email": one.email, "scopes": list(one.scopes)}
            for one in message.service_accounts
            for account in ("default", one.email)
        }
        scheduling = message.scheduling
        instance = {
            "attributes": vm.metadata,
            "guest-attributes": _nested(vm.guest),
            "hostname": f"{vm.name}.{vm.zone}.c.{settings.project}.internal",
            "id": str(message.id),
            "image": "",
            "machine-type": f"projects/{PROJECT_NUMBER}/machineTypes/{message.machine_type.rsplit('/', 1)[-1]}",
            "maintenance-event": "NONE",
            "name": vm.name,
            "network-interfaces": {"0": {"ip": message.network_interfaces[0].network_i_p}},
            "preempted": "TRUE" if vm.preempted else "FALSE",
            "scheduling": {
                "automatic-restart": "TRUE" if scheduling.automatic_restart else "FALSE",
                "on-host-maintenance": scheduling.on_host_maintenance,
                "preemptible": "TRUE" if scheduling.preemptible else "FALSE",
            },
            "service-accounts": accounts,
            "zone": zone,
        }
        project = {
            "attributes": dict(settings.project_metadata),
            "numeric-project-id": str(PROJECT_NUMBER),
            "project-id": settings.project,
        }
        return {"instance": instance, "project": project, "universe": {"universe-domain": "googleapis.com"}}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: MetadataServer

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, query = unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True))
        self._send(*self._answer(path, query, body.decode(errors="replace")))

    def _answer(self, path: str, query: dict[str, str], body: str) -> Answer:
        server = self.server
        if path == "/":
            return 200, "computeMetadata/\n", "application/text"
        if self.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in self.headers:
            return 403, "Missing Metadata-Flavor:Google header.", "text/html"
        below = path.removeprefix(ROOT)
        fault = server.faults.take(("503", "404", "hang"), f"metadata/{below}", server.vm.zone, server.vm.name)
        if fault is not None and fault.kind == "hang":
            server.stopped.wait()
        if fault is not None:
            return 404 if fault.kind == "404" else 503, "no", "text/html"
        if path == f"/{OFF}":
            with server.world.changed:
                server.vm.power_off()
            return 200, "", "application/text"
        if self.command in ("PUT", "DELETE"):
            return self._change(below, body)
        if below.startswith("instance/service-accounts/") and below.endswith("/token"):
            return self._token(below)
        return self._read(below, query)

    def _token(self, below: str) -> Answer:
        with self.server.world.changed:
            account = _walk(self.server.tree(), below.removesuffix("/token"))
        if account is None:
            return 404, "not found", "text/html"
        return 200, json.dumps(self.server.tokens.issue()), "application/json"

    def _change(self, below: str, body: str) -> Answer:
        """Guest attributes are the only thing that can be written."""
        vm, key = self.server.vm, below.removeprefix(GUEST)
        if not below.startswith(GUEST) or key.count("/") != 1 or key.endswith("/"):
            return 400, "Guest attributes are named namespace/key.", "text/html"
        if vm.metadata.get("enable-guest-attributes", "").upper() != "TRUE":
            return 403, "Guest attributes endpoint access is disabled.", "text/html"
        with self.server.world.changed:
            if self.command == "PUT":
                vm.guest[key] = body
            else:
                vm.guest.pop(key, None)
            self.server.world.changed.notify_all()
        return 200, "", "application/text"

    def _read(self, below: str, query: dict[str, str]) -> Answer:
        recursive = query.get("recursive", "").lower() == "true"
        wait = query.get("wait_for_change", "").lower() == "true"
        end = time.monotonic() + float(query.get("timeout_sec") or WAIT_SECONDS)
        changed = self.server.world.changed
        with changed:
            found = self._render(below, recursive, query.get("alt", ""))
            last = query.get("last_etag") or _etag(found)
            while wait and _etag(found) == last and not self.server.stopped.is_set():
                left = end - time.monotonic()
                if left <= 0:
                    break
                changed.wait(left)
                found = self._render(below, recursive, query.get("alt", ""))
        return found

    def _render(self, below: str, recursive: bool, alt: str) -> Answer:
        value = _walk(self.server.tree(), below.rstrip("/"))
        if value is None:
            return 404, "not found", "text/html"
        if isinstance(value, dict) and not recursive:
            names = [f"{name}/" if isinstance(inner, dict) else name for name, inner in value.items()]
            return 200, "\n".join(names), "application/text"
        if alt == "json" or (recursive and alt != "text") or isinstance(value, dict):
            raw = "attributes" in below
            return 200, json.dumps(value if raw else _camel(value)), "application/json"
        return 200, "\n".join(value) if isinstance(value, list) else str(value), "application/text"

    def _send(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Server", "Metadata Server for VM")
        self.send_header("Content-Type", kind)
        self.send_header("ETag", _etag((status, text, kind)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True


def _etag(answer: Answer) -> str:
    return hashlib.sha256(repr(answer[:2]).encode()).hexdigest()[:16]


def _nested(flat: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        namespace, _, name = key.partition("/")
        tree.setdefault(namespace, {})[name] = value
    return tree


def _walk(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for part in path.split("/") if path else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _camel(value: Any) -> Any:
    """Names as the service writes them in JSON, but the keys of attributes, which are the user's."""
    if not isinstance(value, dict):
        return value
    return {
        _camel_word(key): inner if key in ("attributes", "guest-attributes", "service-accounts") else _camel(inner)
        for key, inner in value.items()
    }


def _camel_word(word: str) -> str:
    first, *rest = word.split("-")
    return first + "".join(part.capitalize() for part in rest)
