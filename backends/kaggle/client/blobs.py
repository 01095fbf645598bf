"""Uploading a file as a blob, which a dataset is then made of: resumable, also by another process.

The protocol is that of Google Cloud Storage's resumable uploads, as Kaggle's own client speaks it:

    PUT url, the bytes                                   200 or 201: all is there
    PUT url, no bytes, `Content-Range: bytes */N`        308 with `Range: bytes=0-K`: K+1 bytes are there; 308: none
    PUT url, the rest, `Content-Range: bytes K+1-N-1/N`  200, 201, or 308 again
    404 or 410                                           the address has ended: start anew

What the server has is asked for after every break and never assumed. A transfer may take as long as it moves: it ends
after `Patience.tries` breaks in a row without a byte more on the server, and each of those ends after
`Patience.silence` seconds.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backends.kaggle.client import wire
from backends.kaggle.client.refusals import NotThereError, RefusedError, UnansweredError, clean
from backends.kaggle.client.wire import Wire
from launcher.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    import requests

Read = Callable[[int, int], bytes]
"""`read(offset, n)`: up to n bytes of the file from an offset; fewer only at its end."""
Progress = Callable[[int], None]
"""Told how many bytes are on their way or there, also when it goes back."""


class EndedError(NotThereError):
    """The upload's address has ended, as it does after some days. Start a new blob."""


@dataclass(frozen=True)
class Patience:
    """`silence`: seconds without a byte until a break; `tries`: breaks without progress until it is given up.

    All assumptions. The last byte's answer comes when the server has stored all, so `silence` is generous.
    """

    silence: float = 60.0
    tries: int = 6
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    retry_after: float = 60.0


@dataclass(frozen=True)
class Blob:
    """An upload that was begun. Token and address are as good as a password for it: keep the JSON in a private file."""

    name: str
    size: int
    token: str = field(repr=False)
    url: str = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """To go on with in another process."""
        return {"name": self.name, "size": self.size, "token": self.token, "url": self.url}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Blob:
        """Raises KeyError or ValueError for what `as_json` did not write."""
        return cls(str(value["name"]), int(value["size"]), str(value["token"]), str(value["url"]))


def start(signed: Wire, name: str, size: int, modified_s: int | None = None) -> Blob:
    """Ask for an address. Sent once; a blob that nothing was made of is forgotten by Kaggle, so a second start is safe.

    `modified_s`: the file's time, in seconds since 1970.
    """
    fields = {"type": "DATASET", "name": name, "contentLength": size, "lastModifiedEpochSeconds": modified_s}
    doing = f"starting the upload of {name}"

    def read(answer: Any) -> Blob:
        if not answer.token or not answer.create_url:
            raise UnansweredError(f"{doing}: the answer holds no address")
        return Blob(name, size, answer.token, answer.create_url)

    return signed.call(wire.START_UPLOAD, fields, read, doing=doing)


def upload(
    blob: Blob,
    read: Read,
    progress: Progress = lambda sent: None,
    *,
    fresh: bool = False,
    patience: Patience | None = None,
    session: requests.Session | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring the file's bytes to the server, from where it is; returns when the server says that it has all.

    `fresh`: nothing was sent yet, so the server is not asked first. Raises EndedError, RefusedError, UnansweredError
    when it does not get on, IntegrityError when the file is shorter than it was, StorageError when it cannot be read.
    """
    from backends.kaggle.client import http

    patience = patience or Patience()
    own = session or http.transfers(patience.silence, patience.silence)
    sender = _Sender(own, blob, read, progress)
    best = -1
    at: int | None = 0 if fresh else None
    breaks = 0
    try:
        while True:
            try:
                # A server that has all and has not said that it is done: there is nothing to send, only to ask.
                at = sender.probe() if at is None or 0 < at == blob.size else sender.send(at)
                if at == blob.size and sender.done:
                    progress(blob.size)
                    return
                # More bytes than ever are there: that counts as progress, whatever broke.
                breaks = 0 if at > best else breaks + 1
                best = max(best, at)
                wait = 0.0 if breaks == 0 else _pause(patience, breaks, None)
            except UnansweredError as error:
                breaks += 1
                if breaks > patience.tries:
                    raise
                at = None
                wait = _pause(patience, breaks, error.retry_after)
            if breaks > patience.tries:
                raise UnansweredError(f"uploading {blob.name}: the server takes no byte after {best}")
            sleep(wait)
    finally:
        if session is None:
            own.close()


def _pause(patience: Patience, breaks: int, asked: float | None) -> float:
    base = patience.pauses[min(breaks, len(patience.pauses)) - 1]
    return max(min(asked or 0.0, patience.retry_after), base * random.uniform(0.5, 1.0))


class _Sender:
    """The two kinds of PUT, each answered by the number of bytes that the server has."""

    def __init__(self, session: requests.Session, blob: Blob, read: Read, progress: Progress) -> None:
        self._session = session
        self._blob = blob
        self._read = read
        self._progress = progress
        self.done = False

    def probe(self) -> int:
        """Ask what is there."""
        return self._put(b"", {"Content-Length": "0", "Content-Range": f"bytes */{self._blob.size}"})

    def send(self, at: int) -> int:
        """Send all from an offset on."""
        size = self._blob.size
        headers = {"Content-Length": str(size - at)}
        if at:
            headers["Content-Range"] = f"bytes {at}-{size - 1}/{size}"
        body = _Body(self._blob, self._read, self._progress, at)
        return self._put(body if size > at else b"", headers)

    def _put(self, body: Any, headers: Mapping[str, str]) -> int:
        import requests

        from backends.kaggle.client import http

        doing = f"uploading {self._blob.name}"
        try:
            response = self._session.put(self._blob.url, data=body, headers=headers, allow_redirects=False)
        except requests.exceptions.RequestException as error:
            raise http.unanswered(error, doing) from None
        if response.status_code in (200, 201):
            self.done = True
            return self._blob.size
        if response.status_code == 308:
            return self._there(response, doing)
        if response.status_code in (404, 410):
            raise EndedError(f"{doing}: its address has ended", certain=True, remedy="start it anew")
        if passing := http.passing(response.status_code, response, doing):
            raise passing
        text = clean(response.text, (self._blob.url, self._blob.token))
        raise RefusedError(f"{doing}: HTTP {response.status_code}: {text}", remedy="start it anew")

    def _there(self, response: requests.Response, doing: str) -> int:
        """Bytes that a 308 says are there."""
        text = response.headers.get("Range")
        if not text:
            return 0
        found = re.fullmatch(r"\s*(?:bytes=)?0-(\d+)\s*", text)
        if found is None or int(found[1]) >= self._blob.size:
            raise UnansweredError(f"{doing}: the server has {clean(text)!r} of {self._blob.size} bytes")
        return int(found[1]) + 1


class _Body:
    """The rest of the file, as the HTTP library reads it: block by block, so that memory stays small."""

    def __init__(self, blob: Blob, read: Read, progress: Progress, at: int) -> None:
        self._blob, self._read, self._progress, self._at = blob, read, progress, at

    def __len__(self) -> int:
        return self._blob.size - self._at

    def read(self, n: int = -1) -> bytes:
        left = self._blob.size - self._at
        try:
            data = self._read(self._at, min(n, left) if n >= 0 else left) if left else b""
        except OSError as error:  # or the HTTP library takes it for one of the connection's
            raise StorageError(f"{self._blob.name} cannot be read: {error.strerror or error}") from error
        if left and not data:
            message = f"{self._blob.name} has {self._at} bytes instead of {self._blob.size}: it changed meanwhile"
            raise IntegrityError(message, remedy="run again")
        self._at += len(data)
        self._progress(self._at)
        return data

    def __iter__(self) -> Iterator[bytes]:  # what `requests` knows a stream by; `read` is what is used
        while block := self.read(1 << 16):
            yield block
