"""Access tokens: given out by the emulator itself, and the only ones that it takes."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from tests.emulators.compute.settings import ApiError, Settings

SECONDS = 3599


class Tokens:
    """`POST /token` and each machine's metadata server give one out, good until the emulator ends or `revoke`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._good: set[str] = set()

    def issue(self) -> dict[str, Any]:
        token = f"ya29.emulated-{secrets.token_hex(12)}"
        with self._lock:
            self._good.add(token)
        return {"access_token": token, "expires_in": SECONDS, "token_type": "Bearer"}

    def revoke(self) -> None:
        """None that was given out is good any more."""
        with self._lock:
            self._good.clear()

    def check(self, header: str | None) -> None:
        """Raises ApiError 401."""
        if not header and self._settings.anonymous:
            return
        with self._lock:
            if header and header.removeprefix("Bearer ") in self._good:
                return
        raise ApiError(401, "authError", "Request had invalid authentication credentials.")
