"""Zone operations: what was asked, whether it is done, and with which error; each request id has one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud import compute_v1

from tests.emulators.compute.service.calls import Call, page
from tests.emulators.compute.settings import World, invalid, not_found

DONE, RUNNING = compute_v1.Operation.Status.DONE, compute_v1.Operation.Status.RUNNING
PHRASES = {400: "BAD REQUEST", 403: "FORBIDDEN", 404: "NOT FOUND", 409: "CONFLICT", 503: "SERVICE UNAVAILABLE"}


@dataclass(frozen=True)
class Failure:
    """Why an operation failed: HTTP `status`, `code`, `message`, and details with the fields of `ErrorDetails`."""

    status: int
    code: str
    message: str
    details: Sequence[Mapping[str, Any]] = field(default=())


class Operations:
    """All operations of one emulator, newest last."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._all: dict[tuple[str, str], compute_v1.Operation] = {}
        self._ended: dict[str, float] = {}
        self._asked: dict[str, tuple[tuple[str, str, str], str, float]] = {}

    def begin(
        self, kind: str, zone: str, target: str, target_id: int, *, user: str, request_id: str = ""
    ) -> compute_v1.Operation:
        """A new one, RUNNING. `kind`: insert, delete; `target`: `zones/Z/instances/NAME`."""
        world = self._world
        number = world.new_id()
        now = world.clock.stamp()
        operation = compute_v1.Operation(
            kind="compute#operation",
            id=number,
            name=f"operation-{number}",
            operation_type=kind,
            zone=world.link(f"zones/{zone}"),
            target_link=world.link(target),
            target_id=target_id,
            user=user,
            status=RUNNING,
            progress=0,
            insert_time=now,
            start_time=now,
            creation_timestamp=now,
            self_link=world.link(f"zones/{zone}/operations/operation-{number}"),
            client_operation_id=request_id,
        )
        self._all[zone, operation.name] = operation
        if request_id:
            self._asked[request_id] = ((kind, zone, target), operation.name, world.clock.now())
        return operation

    def asked_before(self, kind: str, zone: str, target: str, request_id: str) -> compute_v1.Operation | None:
        """The operation of a request that was made before under the same id.

        Raises ApiError 400 when the id was another request's (assumption: the documentation is silent).
        """
        if request_id not in self._asked:
            return None
        same, name, when = self._asked[request_id]
        if self._world.clock.now() - when > self._world.settings.request_id_seconds:
            del self._asked[request_id]
            return None
        if same != (kind, zone, target):
            raise invalid("requestId", request_id, f"It was used before, for {' '.join(same)}.")
        return self._all.get((zone, name))

    def finish(self, operation: compute_v1.Operation, failure: Failure | None = None) -> None:
        """It is done. Finishing twice does nothing."""
        if operation.status == DONE:
            return
        operation.status, operation.progress = DONE, 100
        operation.end_time = self._world.clock.stamp()
        self._ended[operation.name] = self._world.clock.now()
        if failure is not None:
            operation.error = compute_v1.Error(
                errors=[
                    compute_v1.Errors(
                        code=failure.code, message=failure.message, error_details=[dict(one) for one in failure.details]
                    )
                ]
            )
            operation.http_error_status_code = failure.status
            operation.http_error_message = PHRASES.get(failure.status, "ERROR")
        self._world.changed.notify_all()

    def expire(self) -> None:
        """Forget all that are done, at once."""
        for key, operation in list(self._all.items()):
            if operation.status == DONE:
                del self._all[key]

    def named(self, kind: str) -> list[compute_v1.Operation]:
        """All of one operation type, in the order in which they began."""
        return [one for one in self._all.values() if one.operation_type == kind]

    def get(self, call: Call) -> compute_v1.Operation:
        self._forget()
        wanted = call.request.operation
        for (zone, name), operation in self._all.items():
            if zone == call.zone and wanted in (name, str(operation.id)):
                return operation
        raise not_found(f"projects/{call.request.project}/zones/{call.zone}/operations/{wanted}")

    def wait(self, call: Call) -> compute_v1.Operation:
        """As `get`, when it is DONE or the deadline has come, which is no error."""
        world = self._world
        operation = self.get(call)
        end, real = world.clock.now() + world.settings.wait_seconds, time.monotonic() + world.settings.wait_real_seconds
        while operation.status != DONE and not world.closing.is_set():
            left = real - time.monotonic()
            if world.clock.speed:
                left = min(left, (end - world.clock.now()) / world.clock.speed)
            if left <= 0:
                break
            world.changed.wait(left)
        return operation

    def listing(self, call: Call) -> compute_v1.OperationList:
        self._forget()
        items = [(name, one) for (zone, name), one in self._all.items() if zone == call.zone]
        shown, token = page(call, items, self._world.settings.page_limit)
        return compute_v1.OperationList(
            kind="compute#operationList", items=[one for _, one in shown], next_page_token=token
        )

    def delete(self, call: Call) -> compute_v1.DeleteZoneOperationResponse:
        operation = self.get(call)
        del self._all[call.zone, operation.name]
        return compute_v1.DeleteZoneOperationResponse()

    def _forget(self) -> None:
        oldest = self._world.clock.now() - self._world.settings.operation_seconds
        for key in [key for key in self._all if self._ended.get(key[1], oldest) < oldest]:
            del self._all[key]
