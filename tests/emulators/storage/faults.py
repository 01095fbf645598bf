"""Faults: what the emulated Cloud Storage does wrong on purpose, for the next n calls or always.

    storage.faults.add("503", on="storage.objects.insert", times=2)
    storage.faults.add("lose-reply", on="bucket/runs/*/LATEST.json")
    storage.faults.add("broken-stream", on="storage.objects.get:download", at=1 << 20, times=None)

`on` is a shell pattern, held against the operation (`storage.objects.insert`), the operation with its phase
(`storage.objects.insert:resumable-chunk`; phases are listed in `settings.Call`), `bucket/object` (not for the later
requests of a resumable upload, which do not name it) and the URL's path. The first fault that fits is used up first.
Stale listings are no fault: Cloud Storage lists consistently.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

BEFORE = {
    "408": "request timeout; nothing was done",
    "429": "rate limit exceeded; `retry_after` seconds are named where given",
    "500": "backend error; nothing was done",
    "502": "bad gateway, HTML, as a load balancer says it",
    "503": "backend error; nothing was done",
    "504": "gateway timeout; nothing was done",
    "401": "invalid credentials",
    "403": "the caller does not have the permission",
    "403-quota": "a quota of the project is used up (`quotaExceeded`)",
    "403-billing": "the project's billing account is closed (`accountDisabled`)",
    "reset": "the connection is reset before the body was read; nothing was done",
    "stall": "never answers (or after `seconds`, with a cut); nothing was done",
}
AFTER = {
    "lose-reply": "done, and the connection reset without a reply",
    "503-after": "done, and answered with a backend error",
    "stall-after": "done, and never answered (or after `seconds`, with a cut)",
    "slow": "the reply comes `seconds` late",
    "wrong-hash": "the reply names another crc32c and md5 than the object has",
}
DOWNLOAD = {
    "broken-stream": "the connection is reset after `at` bytes of the reply's body",
    "truncated": "`at` bytes (else half), with a Content-Length that agrees with them",
    "corrupt": "the byte at `at` (else in the middle) of the reply's body is another one",
    "stall-stream": "after `at` bytes nothing more comes (or the rest, after `seconds`)",
    "slow-stream": "the body comes with `rate` bytes a second",
}
UPLOAD = {
    "cut-upload": "the connection is reset after `at` bytes of the body",
    "503-upload": "backend error after `at` bytes of the body",
    "stall-upload": "after `at` bytes of the body no more are read (or for `seconds`)",
    "corrupt-upload": "the first byte of the content is another one when it arrives",
    "short-upload": "of a resumable chunk only `at` bytes are kept; the reply is 308 and says so",
    "expired-upload": "the resumable upload has expired: 410, or `status`",
}
KINDS = {**BEFORE, **AFTER, **DOWNLOAD, **UPLOAD}


@dataclass
class Fault:
    """One fault. `times` is how often it still happens (None: always), `hits` how often it did."""

    kind: str
    on: str = "*"
    times: int | None = 1
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.options.get(name, default))


class Faults:
    """The faults that wait. Safe to change from any thread while the emulator runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, kind: str, on: str = "*", times: int | None = 1, **options: Any) -> Fault:
        """Add one, to the end of the queue. Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"no fault is called {kind!r}; there are {', '.join(KINDS)}")
        fault = Fault(kind, on, times, dict(options))
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def waiting(self) -> list[Fault]:
        with self._lock:
            return [fault for fault in self._faults if fault.times is None or fault.times > 0]

    def take(self, kinds: Iterable[str], names: Iterable[str]) -> Fault | None:
        """The first waiting fault of these kinds that fits one of the names, used once; None where there is none."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                spent = fault.times is not None and fault.times <= 0
                if spent or fault.kind not in kinds or not any(fnmatchcase(name, fault.on) for name in names):
                    continue
                fault.hits += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None
