"""Signed, expiring URLs of files, and the GETs of them, as object storage answers: ranges, validators, never gzip."""

from __future__ import annotations

import hashlib
import hmac
import mimetypes
import re
import secrets
import time
from collections.abc import Mapping
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from tests.emulators.kaggle.settings import World
from tests.emulators.kaggle.wire.reply import FileReply, Reply, storage_error

PREFIX = "/files/"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class SignedFiles:
    """Hands out URLs for files below the emulator's root, and serves them without any other proof."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._key = secrets.token_bytes(16)

    def url(self, path: Path) -> str:
        """A URL that is good for `url_seconds`; its last part is the file's name."""
        inside = path.relative_to(self._world.root).as_posix()
        expires = f"{time.time() + self._world.settings.url_seconds:.3f}"
        query = f"Expires={expires}&Signature={self._sign(inside, expires)}"
        return f"{self._world.endpoint}{PREFIX}{quote(inside)}?{query}"

    def _sign(self, inside: str, expires: str) -> str:
        return hmac.new(self._key, f"{inside}\n{expires}".encode(), hashlib.sha256).hexdigest()

    def get(self, target: str, query: str, headers: Message) -> Reply | FileReply:
        """The file, or the part of it that Range asks for; If-Range with an old validator gets all of it."""
        inside = unquote(target[len(PREFIX) :])
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        expires = fields.get("Expires", "0")
        if not hmac.compare_digest(self._sign(inside, expires), fields.get("Signature", "")):
            return storage_error(403, "SignatureDoesNotMatch", "Access denied.")
        if time.time() > float(expires):
            return storage_error(self._world.settings.expired_status, "ExpiredToken", "Invalid argument.")
        path = self._world.root / inside
        try:
            status = path.stat()
        except OSError:
            return storage_error(404, "NoSuchKey", "The specified key does not exist.")
        common = {
            "Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
            "Accept-Ranges": "bytes",
        }
        wanted = headers.get("Range")
        if wanted is None or headers.get("If-Range", common["ETag"]) not in (common["ETag"], common["Last-Modified"]):
            return FileReply(200, path, 0, status.st_size, common)
        return _part(path, status.st_size, wanted, common)


def _part(path: Path, size: int, wanted: str, common: Mapping[str, str]) -> Reply | FileReply:
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match.group(0) == "bytes=-":
        return FileReply(200, path, 0, size, common)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last), size - 1) if first and last else size - 1
    if start > stop:
        return Reply(416, b"", "text/plain", {"Content-Range": f"bytes */{size}"})
    return FileReply(206, path, start, stop - start + 1, {**common, "Content-Range": f"bytes {start}-{stop}/{size}"})
