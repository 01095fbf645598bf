"""Faults: what the emulator does wrong on purpose, for the next n calls or always.

    compute.faults.add("stockout", zone="us-central1-a", times=None)
    compute.faults.add("503", on="instances.delete", times=3)
    compute.faults.add("lose-reply", on="instances.insert", skip=1)       # the second insert
    compute.faults.add("preempt", name="run-*-a1", seconds=5)

`on`, `zone` and `name` are shell patterns: of the method (`instances.insert`, `zoneOperations.wait`; for 503, 404 and
hang also `metadata/instance/...`, the path at a machine's metadata server), of the zone, and of the instance, disk or
operation. The first fault that fits is used up first. A fault of an operation
or an instance fits `instances.insert` unless `on` says otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

BEFORE = {
    "503": "unavailable; nothing was done",
    "500": "internal error; nothing was done",
    "429": "too many requests; nothing was done",
    "rate": "403 rateLimitExceeded; nothing was done",
    "quota": "403 quotaExceeded, of `metric` (default CPUS) with `limit`; nothing was done",
    "permission": "403 forbidden: the account lacks the permission of this method; nothing was done",
    "401": "the credentials are not good",
    "404": "not found, though it may be there",
    "409": "409 alreadyExists; nothing was done",
    "hang": "never answers; nothing was done",
    "cut-before": "the connection is closed before anything was done",
}
AFTER = {
    "lose-reply": "done, and the connection closed without a reply",
    "503-after": "done, and answered with 503",
    "hang-after": "done, and never answered",
    "cut-middle": "the first half of the reply, then the connection is closed",
    "slow": "the reply comes `seconds` (real) late",
}
INSERT = {
    "stockout": "operation error ZONE_RESOURCE_POOL_EXHAUSTED",
    "stockout-details": "operation error ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "quota-async": "operation error QUOTA_EXCEEDED of `metric` (default GPUS_ALL_REGIONS) with `limit`",
    "preempted-at-birth": "operation error UNSUPPORTED_OPERATION: preempted during creation",
    "error": "operation error `code`, `message`, `status`",
    "error-but-up": "the same (default RESOURCE_NOT_FOUND), and the instance comes up all the same (skypilot#1797)",
    "stuck": "the operation is never DONE; the instance comes up unless `effect` is false",
    "slow-operation": "the operation takes `seconds` longer",
}
DELETE = {
    "delete-error": "operation error `code` (default RESOURCE_NOT_READY); the instance stays",
    "delete-stuck": "the operation is never DONE; the instance goes unless `effect` is false",
    "slow-delete": "the operation takes `seconds` longer",
    "done-early": "the operation is DONE, and the instance is STOPPING for `seconds` more (skypilot PR#1102)",
    "disk-stays": "the instance goes, its boot disk with auto-delete does not",
}
INSTANCE = {
    "preempt": "preempted `seconds` after it reached RUNNING",
    "late-guest-attributes": "host keys come `seconds` late",
    "no-guest-attributes": "host keys never come",
    "no-boot": "RUNNING, and nothing ever listens",
    "slow-boot": "it listens `seconds` later",
    "vanish": "gone without an operation, `seconds` after it reached RUNNING",
}
KINDS = {**BEFORE, **AFTER, **INSERT, **DELETE, **INSTANCE}


@dataclass
class Fault:
    """One fault. `times` is how often it still happens (None: always), after the first `skip` calls that fit."""

    kind: str
    on: str = "*"
    zone: str = "*"
    name: str = "*"
    times: int | None = 1
    skip: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def fits(self, method: str, zone: str, name: str) -> bool:
        if self.times == 0 or not fnmatchcase(method, self.on):
            return False
        return fnmatchcase(zone, self.zone) and fnmatchcase(name, self.name)

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.options.get(name, default))

    def text(self, name: str, default: str) -> str:
        return str(self.options.get(name, default))


class Faults:
    """The faults of one emulator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.all: list[Fault] = []

    def add(
        self,
        kind: str,
        *,
        on: str = "",
        zone: str = "*",
        name: str = "*",
        times: int | None = 1,
        skip: int = 0,
        **options: Any,
    ) -> Fault:
        """Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is no fault; there are {', '.join(KINDS)}")
        default = "*.*" if kind in BEFORE or kind in AFTER else "instances.*"
        fault = Fault(kind, on or default, zone, name, times, skip, options)
        with self._lock:
            self.all.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.all.clear()

    def take(self, kinds: Iterable[str], method: str, zone: str = "", name: str = "") -> Fault | None:
        """The first fault of these kinds that fits, used up by one."""
        wanted = set(kinds)
        with self._lock:
            for fault in self.all:
                if fault.kind not in wanted or not fault.fits(method, zone, name):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times = None if fault.times is None else fault.times - 1
                fault.hits += 1
                return fault
        return None
