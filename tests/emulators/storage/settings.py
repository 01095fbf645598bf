"""What can be set on the emulated Cloud Storage, what its parts share, and what they refuse with.

Every setting may be changed while the emulator runs (`storage.settings.page_limit = 3`). Times are
seconds, sizes bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

DAYS = 86400.0
QUANTUM = 1 << 18  # resumable uploads are kept in multiples of 256 KiB (Google's documentation, "resumable uploads")


@dataclass
class Settings:
    """The service's conditions. Limits are Google's documented ones where nothing else is said."""

    page_limit: int = 1000
    """Most entries (objects and prefixes together) in one page of a listing."""
    md5: bool = True
    """Whether objects get an md5Hash. Off saves half the emulator's CPU; composed objects have none on GCS, either."""
    upload_seconds: float = 7 * DAYS
    """How long a resumable upload stays open."""
    expired_status: Literal[404, 410] = 410
    """What the URL of one that has expired says. Google documents both."""
    early_conditions: bool = False
    """Whether already the start of a resumable upload fails with 412. Its end does in any case. Not known of GCS."""
    writes_per_second: float | None = None
    """Writes to one object a second before 429; GCS documents 1. None: no limit, so that tests are fast."""
    tokens: Mapping[str, Literal["write", "read"]] | None = None
    """Bearer tokens and what they may do: others get 401, a write with a reading one 403. None: nobody is asked."""
    project: str = "emulated"
    location: str = "US-CENTRAL1"

    def change(self, options: Mapping[str, Any]) -> None:
        """Set several by name. Raises ValueError, and sets none, where there is no such setting."""
        unknown = options.keys() - {one.name for one in fields(self)}
        if unknown:
            raise ValueError(f"no setting is called {', '.join(sorted(unknown))}")
        for name, value in options.items():
            setattr(self, name, value)


class ApiError(Exception):
    """A refusal in the shape of Google's: status, `reason` of the first error, message."""

    def __init__(self, status: int, reason: str, message: str, *, location: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location is not None:
            error["locationType"], error["location"] = self.location
        return {"error": {"code": self.status, "message": self.message, "errors": [error]}}


def invalid(message: str) -> ApiError:
    return ApiError(400, "invalid", message)


def required(name: str) -> ApiError:
    return ApiError(400, "required", f"Required parameter: {name}", location=("parameter", name))


def not_emulated(what: str) -> ApiError:
    """The real service can do this, the emulator cannot: said loudly instead of guessed."""
    return ApiError(501, "notImplemented", f"{what} is not emulated; see tests/emulators/storage")


def no_bucket() -> ApiError:
    return ApiError(404, "notFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> ApiError:
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


@dataclass
class Call:
    """One request: what the log holds. It is there before its reply is; `sent` and `seconds` are final after it."""

    operation: str
    """`storage.objects.insert` and the like, as Google's discovery document names them; `batch`, `unknown`."""
    phase: str
    """Which part: `media`, `multipart`, `resumable-start`, `-chunk`, `-status`, `-cancel`, `download`; else empty."""
    bucket: str
    name: str
    status: int
    """0 where the connection was cut without a reply."""
    received: int
    """Bytes of the request's body."""
    sent: int
    """Bytes of the reply's body."""
    seconds: float
    method: str
    path: str
    """With the query."""
    fault: str
    """The fault that was in it; else empty."""


class Clock:
    """Time, and generations: microseconds since 1970 as GCS's look, never the same twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def now(self) -> float:
        return time.time()

    def generation(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, int(self.now() * 1e6))
            return self._last


@dataclass
class World:
    """What every part of one emulator shares."""

    folder: Path
    settings: Settings
    endpoint: str = ""
    clock: Clock = field(default_factory=Clock)
    closing: threading.Event = field(default_factory=threading.Event)
