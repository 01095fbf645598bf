"""What can be set, what all parts of one emulator share, and the error that becomes an answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.emulators.compute.clock import Clock

MINUTES, HOURS, DAYS = 60.0, 3600.0, 86400.0


@dataclass
class Settings:
    """May be changed while the emulator runs. All seconds are of the emulator's clock, unless a name says `real`."""

    project: str = "samerun-test"
    speed: float = 1.0
    """Seconds of the emulator's clock in one of the wall clock, at the start; 0: it stands until `advance`."""
    sshd: bool = True
    """Whether an instance that reaches RUNNING really is a machine. Without, there are no processes at all."""

    provisioning_seconds: float = 0.002
    staging_seconds: float = 0.002
    stopping_seconds: float = 0.002
    """Chosen to be quick. At the real service creating takes about 10 s and deleting 30 to 120 s (assumption)."""
    boot_seconds: float = 0.0
    """From RUNNING until the machine starts to listen; the real service says RUNNING before the system is up."""
    preemption_seconds: float = 30.0
    """From ACPI G2 Soft Off to G3 for Spot VMs: 30 s by the documentation of Scheduling.skip_guest_os_shutdown."""
    soft_off: bool = True
    """Whether all processes get SIGTERM when their machine begins to stop, as systemd does at ACPI G2."""
    wait_seconds: float = 2 * MINUTES
    """Longest zoneOperations.wait, by its documentation."""
    wait_real_seconds: float = 10.0
    """The same by the wall clock: it may return earlier, documented as best effort; a clock may stand still."""

    request_id_seconds: float = 60 * MINUTES
    """How long a request id is remembered. `At least 60 minutes` in the documentation of newer methods."""
    operation_seconds: float = 14 * DAYS
    """How long an operation is kept after its end. Assumption."""
    second_delete: Literal["operation", "not-ready"] = "operation"
    """What a delete gets while another is under way. Not known: an operation of its own, or 400 resourceNotReady."""
    early_delete: Literal["operation", "not-ready"] = "operation"
    """What a delete gets while the instance is still being created. Not known, likewise."""
    deadline_operation: str = "compute.instances.delete"
    """Operation type of a deletion at the deadline. Assumption."""
    quota_shape: Literal["sync", "async"] = "sync"
    """How an insert beyond a quota (`quotas`) fails: HTTP 403 quotaExceeded, or an operation with QUOTA_EXCEEDED."""
    guest_attributes_off_status: int = 412
    """HTTP status of getGuestAttributes where metadata does not enable them. Assumption."""
    page_limit: int = 500
    """Most items in a page of a list, by the documentation."""

    anonymous: bool = True
    """Whether a request without a token is answered. A token that was not given out here never is."""
    ssh_port: int = 0
    """One port for all machines, each of which has a loopback address of its own; 0: a free one, see the emulator."""
    own_addresses: bool = True
    """Each machine at its own 127.x.y.z, where the system has them (Linux); else 127.0.0.1 and a port of its own."""
    internet: bool = False
    """Without, a machine's environment names a dead proxy for all but loopback."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables of every machine, for sessions and the startup script: STORAGE_EMULATOR_HOST, PATH."""
    oslogin_keys: list[str] = field(default_factory=list)
    """Public keys that may log in where metadata says `enable-oslogin: TRUE`; keys in metadata then do not count."""
    project_metadata: dict[str, str] = field(default_factory=dict)

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several by name. Raises ValueError for a name that is no setting."""
        for name in values:
            if name not in self.__dataclass_fields__:
                raise ValueError(f"{name} is no setting; there are {', '.join(sorted(self.__dataclass_fields__))}")
        for name, value in values.items():
            setattr(self, name, value)


class ApiError(Exception):
    """An answer that says no: HTTP `status` and the `reason` that the service's errors carry."""

    def __init__(self, status: int, reason: str, message: str, *, domain: str = "global") -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.domain = status, reason, message, domain

    def body(self) -> dict[str, Any]:
        one = {"message": self.message, "domain": self.domain, "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [one]}}


def not_found(path: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def invalid(where: str, value: object, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{where}': '{value}'. {why}")


class World:
    """What all parts of one emulator share. `changed` is the one lock; nothing slow is done while it is held."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.changed = threading.Condition(threading.RLock())
        self.clock = Clock(self.changed, settings.speed)
        self.clock.settle = self.settle
        self.closing = threading.Event()
        self.endpoint = ""
        self._threads: set[threading.Thread] = set()
        self._ids = 10**18

    def new_id(self) -> int:
        with self.changed:
            self._ids += 7_919
            return self._ids

    def link(self, path: str) -> str:
        """The URL of `zones/Z/...` as the service writes it."""
        return f"https://www.googleapis.com/compute/v1/projects/{self.settings.project}/{path}"

    def aside(self, name: str, work: Any) -> None:
        """Do slow work in a thread of its own; `settle` waits for it."""

        def run() -> None:
            try:
                work()
            finally:
                with self.changed:
                    self._threads.discard(threading.current_thread())
                    self.changed.notify_all()

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self.changed:
            self._threads.add(thread)
        thread.start()

    def settle(self) -> None:
        """Wait until no machine is being booted or switched off."""
        with self.changed:
            while self._threads - {threading.current_thread()}:
                self.changed.wait(1.0)
