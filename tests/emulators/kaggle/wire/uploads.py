"""Blob uploads: StartBlobUpload hands out a token and a URL; PUTs to it, whole or resumed, fill the blob."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.faults import Faults
from tests.emulators.kaggle.service.accounts import Account, Rpc
from tests.emulators.kaggle.settings import RpcError, World
from tests.emulators.kaggle.wire.reply import AnyReply, Cut, Reply, storage_error

PREFIX = "/upload/"
CHUNK = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+))/(\d+)")
Read = Callable[[int], bytes]


@dataclass
class Blob:
    """`size` is what was announced; the file at `path` holds what has come."""

    token: str
    name: str
    size: int
    owner: str
    path: Path
    expires: float
    whole: bool = False

    @property
    def received(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


class Uploads:
    """All blobs, by the secret in their URL and by token."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._by_url: dict[str, Blob] = {}
        self._by_token: dict[str, Blob] = {}
        (world.root / "blobs").mkdir(parents=True, exist_ok=True)

    def rpcs(self) -> dict[str, Rpc]:
        return {"blobs.BlobApiService/StartBlobUpload": self._start}

    def _start(self, account: Account | None, body: Mapping[str, Any]) -> dict[str, Any]:
        if account is None:
            raise RpcError(401, "Unauthenticated")
        name = str(body.get("name", ""))
        if not name or body.get("type") not in ("DATASET", "MODEL", "INBOX"):
            raise RpcError(400, "A blob needs a name and a type.")
        token, secret = secrets.token_urlsafe(24), secrets.token_hex(16)
        path = self._world.root / "blobs" / secret
        expires = time.time() + self._world.settings.url_seconds
        blob = Blob(token, name, int(body.get("contentLength", 0)), account.name, path, expires)
        with self._world.lock:
            self._by_url[secret] = self._by_token[token] = blob
        return {"token": token, "createUrl": f"{self._world.endpoint}{PREFIX}{secret}"}

    def blob(self, token: str) -> Blob | None:
        """The blob of a token when all of it has come."""
        blob = self._by_token.get(token)
        return blob if blob is not None and blob.whole else None

    def put(self, target: str, headers: Message, read: Read) -> AnyReply:
        """A PUT of the whole, of a part (Content-Range: bytes a-b/N), or a question how much is there (*/N)."""
        blob = self._by_url.get(target[len(PREFIX) :])
        names = ("upload", blob.name if blob else "", target)
        gone = blob is None or time.time() > blob.expires
        if gone or self._faults.take(["expired-upload"], *names) or blob is None:
            return storage_error(404, "NoSuchUpload", "The upload has expired.")
        if blob.whole:
            return Reply()
        wanted = headers.get("Content-Range")
        match = _CONTENT_RANGE.fullmatch(wanted) if wanted else None
        if match is not None and match.group(1) is None:
            return _so_far(blob)
        start = int(match.group(1)) if match else 0
        if start > blob.received:
            return storage_error(400, "InvalidRange", "Bytes before these are missing.")
        cut = self._faults.take(["cut-upload"], *names)
        if not _receive(blob, start, read, int(cut.number("at")) if cut else None):
            return Cut()
        if blob.received < blob.size:
            return _so_far(blob)
        if blob.received > blob.size:
            return storage_error(400, "InvalidArgument", "More bytes came than were announced.")
        blob.whole = True
        return Reply()


def _so_far(blob: Blob) -> Reply:
    received = blob.received
    if received == blob.size:  # the question ends an upload whose last answer was lost, as Google's storage does it
        blob.whole = True
        return Reply()
    return Reply(308, b"", "text/plain", {"Range": f"bytes=0-{received - 1}"} if received else {})


def _receive(blob: Blob, start: int, read: Read, limit: int | None) -> bool:
    """Write what comes from `start` on; False when the connection is to be cut, after `limit` bytes, or was."""
    blob.path.touch()
    with blob.path.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        while True:
            try:
                piece = read(CHUNK if limit is None else min(CHUNK, max(1, limit)))
            except ConnectionError:
                return False
            if not piece:
                return limit is None
            if limit is not None:
                piece = piece[:limit]
                limit -= len(piece)
            file.write(piece)
            if limit is not None and limit <= 0:
                return False
