"""/_emulator: faults, settings and the log of requests, for a test or a benchmark in another process.

    POST /_emulator/faults    {"kind": "503", "on": "storage.objects.insert", "times": 2, ...options}
    POST /_emulator/settings  {"page_limit": 3}
    POST /_emulator/clear     faults and the log
    GET  /_emulator/requests  the log, as a list of the fields of `settings.Call`
    GET  /_emulator/faults    those that wait, with how often each happened

These are not in the log, and no fault means them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.emulators.storage.settings import ApiError, invalid
from tests.emulators.storage.wire.reply import AnyReply, ok
from tests.emulators.storage.wire.request import Request

if TYPE_CHECKING:
    from tests.emulators.storage.emulator import StorageEmulator

PREFIX = "/_emulator/"


def answer(storage: StorageEmulator, request: Request) -> AnyReply:
    """Raises ApiError 400 for a fault or setting that there is not, 404 for another path."""
    body = request.body.json()
    match (request.method, request.path.removeprefix(PREFIX)):
        case ("GET", "requests"):
            return ok([asdict(call) for call in storage.requests])
        case ("GET", "faults"):
            return ok([asdict(fault) for fault in storage.faults.waiting()])
        case ("POST", "faults"):
            try:
                return ok(asdict(storage.faults.add(**body)))
            except (TypeError, ValueError) as error:
                raise invalid(str(error)) from error
        case ("POST", "settings"):
            try:
                storage.settings.change(body)
            except ValueError as error:
                raise invalid(str(error)) from error
            return ok({})
        case ("POST", "clear"):
            storage.faults.clear()
            storage.requests.clear()
            return ok({})
    raise ApiError(404, "notFound", f"{request.method} {request.path}")
