"""Resumable uploads: sessions that keep what arrived, in whole multiples of 256 KiB, until the object is complete."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.storage.service.buckets import Bucket
from tests.emulators.storage.service.conditions import Conditions
from tests.emulators.storage.service.contents import Contents, Writing
from tests.emulators.storage.service.objects import Version
from tests.emulators.storage.settings import QUANTUM, ApiError, World


class Superseded(Exception):  # noqa: N818 -- no error: a later request has taken the session over
    """A later request to the same session came in; the earlier one stops."""


@dataclass
class Session:
    """One resumable upload.

    A request takes a turn; it ends when the next one takes its own (a client that gave up on a stalled connection goes
    on over another). What a request brought beyond the last multiple of 256 KiB is forgotten when it is cut.
    """

    key: str
    bucket: Bucket
    name: str
    fields: Mapping[str, Any]
    claimed: dict[str, str]
    conditions: Conditions
    announced: int | None
    """X-Upload-Content-Length of the start, if it was sent."""
    writing: Writing
    expires: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: int = 0
    version: Version | None = None
    """The object, once it is complete."""
    over: ApiError | None = None
    """Why it cannot be gone on with: cancelled, or refused at its end."""
    _rest: bytearray = field(default_factory=bytearray)

    @property
    def kept(self) -> int:
        """Bytes that are safe."""
        return self.writing.size

    def begin(self) -> int:
        """A request begins: its turn. Forgets what an earlier one left unfinished."""
        with self.lock:
            self.turn += 1
            self._rest.clear()
            return self.turn

    def add(self, turn: int, data: bytes) -> None:
        """Take bytes that follow those before. Raises Superseded."""
        with self.lock:
            if turn != self.turn or self.over is not None or self.version is not None:
                raise Superseded
            self._rest += data
            whole = len(self._rest) // QUANTUM * QUANTUM
            if whole:
                self.writing.write(self._rest[:whole])
                del self._rest[:whole]

    def complete(self, turn: int, said: Mapping[str, str]) -> Version:
        """All bytes are there: make the object. Raises ApiError 400 (checksums), 412, 429, Superseded."""
        with self.lock:
            if turn != self.turn or self.over is not None:
                raise Superseded
            self.writing.write(self._rest)
            self._rest.clear()
            content = self.writing.finish()
            try:
                content.agree(self.claimed)
                content.agree(dict(said))
                self.version = self.bucket.put(self.name, content, self.fields, self.conditions)
            except ApiError as error:
                content.path.unlink(missing_ok=True)
                self.over = error
                raise
            return self.version

    def cancel(self) -> None:
        with self.lock:
            if self.version is None and self.over is None:
                self.over = ApiError(404, "notFound", "The upload was cancelled.")
                self.writing.drop()


class Uploads:
    """All sessions, open and ended."""

    def __init__(self, world: World, contents: Contents) -> None:
        self._world = world
        self._contents = contents
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def start(
        self,
        bucket: Bucket,
        name: str,
        fields: Mapping[str, Any],
        claimed: dict[str, str],
        conditions: Conditions,
        announced: int | None,
    ) -> Session:
        """Raises ApiError 412 where the conditions do not even hold now (`Settings.early_conditions`)."""
        if self._world.settings.early_conditions:
            bucket.check(name, conditions)
        key = "ABgVH8" + secrets.token_urlsafe(32)
        expires = self._world.clock.now() + self._world.settings.upload_seconds
        writing = self._contents.writing()
        session = Session(key, bucket, name, fields, claimed, conditions, announced, writing, expires)
        with self._lock:
            self._sessions[key] = session
        return session

    def get(self, key: str) -> Session:
        """Raises ApiError 404 for one that there never was, 410 (or as set) for one that has expired."""
        with self._lock:
            session = self._sessions.get(key)
        if session is None:
            raise ApiError(404, "notFound", "Upload session not found")
        if self._world.clock.now() > session.expires:
            raise self.expired()
        return session

    def expired(self, status: int | None = None) -> ApiError:
        return ApiError(status or self._world.settings.expired_status, "gone", "The upload has expired.")

    def open(self) -> list[Session]:
        """Those that are neither complete nor given up."""
        with self._lock:
            return [one for one in self._sessions.values() if one.version is None and one.over is None]
