"""Faults: what the emulator does wrong on purpose, for the next n calls or always.

    kaggle.faults.add("429", on="SaveKernel", times=2, retry_after=1)
    kaggle.faults.add("cut-log", on="alice/my-kernel", at=100)

`on` is a shell pattern. It is held against the RPC's method and path; for a file against `file`, its name and the URL's
path; for an upload against `upload` and the blob's name; for a log stream against `logs` and `owner/slug`; for what
happens to a kernel or a dataset against `owner/slug`. The first fault that fits is used up first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

BEFORE = {
    "429": "too many requests, JSON; `retry_after` seconds are named where given",
    "429-html": "the same with an HTML body",
    "500": "internal error, JSON; nothing was done",
    "503": "unavailable, HTML; nothing was done",
    "403-html": "an HTML page that says no",
    "404": "not found",
    "html-200": "an HTML page (a login page, a captive portal) with HTTP 200",
    "error-200": "HTTP 200 with `code` and `message` in the body",
    "hang": "never answers; nothing was done",
    "cut-before": "the connection is closed before anything was done",
}
AFTER = {
    "lose-reply": "done, and the connection closed without a reply",
    "500-after": "done, and answered with an internal error",
    "hang-after": "done, and never answered",
    "cut-middle": "the first half of the reply, then the connection is closed",
    "short-body": "the first half of the reply, with a Content-Length that agrees with it",
    "wrong-content": "other content: `body` where given, else the same length of other bytes",
    "unknown-enum": "a status that no client knows",
    "slow": "the reply comes `seconds` late",
}
LISTING = {
    "extra-file": "the listing of outputs names a file (`name`) that the kernel did not write",
    "evil-name": "the listing of outputs names `../evil.txt`",
}
STREAM = {
    "cut-log": "the log stream is cut after `at` bytes",
    "idle-log": "the log stream says nothing more after `at` bytes, and is cut when it has been idle",
    "replay-log": "the log stream begins again from the start after `at` bytes, on the same connection",
}
UPLOAD = {
    "cut-upload": "the connection is closed after `at` bytes, which are kept",
    "expired-upload": "the upload URL has expired: 404",
}
DATASET = {
    "dataset-failed": "the version created next becomes FAILED",
    "dataset-never-ready": "the version created next is never READY",
    "dataset-missing-file": "a file (`name`, else the last) is missing from the version created next",
}
KERNEL = {
    "wrong-slug": "the kernel lands at another slug than its title's",
    "lost": "the session is killed after `seconds`; it ends with ERROR and a message",
    "cancelled": "after `seconds` somebody cancels it on the website",
    "ghost": "the session ends, and its status stays RUNNING",
    "slow-queue": "the session waits `seconds` longer for a machine",
}
KINDS = {**BEFORE, **AFTER, **LISTING, **STREAM, **UPLOAD, **DATASET, **KERNEL}


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

    def take(self, kinds: Iterable[str], *names: str) -> Fault | None:
        """The first waiting fault of these kinds that fits one of the names, used once; None where there is none."""
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
