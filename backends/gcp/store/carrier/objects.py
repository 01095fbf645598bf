"""One bucket, below one prefix: the few things that are asked of it, each bounded in time.

Promises: what is created is never overwritten, and a create whose reply was lost is known by its checksum and is no
conflict; what is downloaded has its final name only when size, crc32c and sha256 are right; every error of Google's
library is one of those below, and errors of this disk stay OSError. Constructing has no side effect.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, BinaryIO

CHUNK = 1 << 20
SEND_BYTES = 16 << 20
"""Of a large body that are sent at a time, and held in memory (a multiple of 256 KiB, which the service asks for)."""
SMALL_BYTES = 8 << 20  # bodies up to here go in one request (the library's _MAX_MULTIPART_SIZE)
CONNECT_S = 10.0
QUIET = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"
"""Read by the library (3.17): without it each client asks for its bucket's metadata, in a thread, and again after each
404, for traces that nobody has asked for."""
THREADS = 8  # measured: 16 gain a little, 32 nothing; the library's pool has ten connections
OPEN_FILES = 64
FIELDS = "items(name,size,crc32c,generation,timeCreated),nextPageToken"


class StoreError(Exception):
    """Base of what can go wrong with the store."""


class SilentError(StoreError):
    """No answer, or one that passes (429, 5xx): what was asked for may have been done, or not."""


class RefusedError(StoreError):
    """No credentials, or they may not."""


class AbsentError(StoreError):
    """No such object, or no such bucket."""


class ConflictError(StoreError):
    """A precondition failed: someone else has written there."""


class DamagedError(StoreError):
    """Bytes that are not what was written."""


@dataclass(frozen=True)
class Seen:
    """An object as it was listed. `size` in bytes, `crc32c` as the service writes it, `made` in Unix seconds."""

    name: str
    size: int
    crc32c: str
    generation: int
    made: float | None = None


@dataclass(frozen=True)
class Digests:
    """Of some bytes: how many, sha256 in hexadecimal, crc32c in base64."""

    size: int
    sha256: str
    crc32c: str


@dataclass(frozen=True)
class Wanted:
    """An object to have as the file `to`, and what it must be."""

    name: str
    to: str
    size: int
    sha256: str
    crc32c: str = ""


def crc32c_of(data: bytes) -> str:
    """As the service writes it: four bytes, the highest first, in base64."""
    import google_crc32c

    return base64.b64encode(int(google_crc32c.value(data)).to_bytes(4, "big")).decode()


def digest(stream: BinaryIO) -> Digests:
    """Of all that the stream has from where it is."""
    import google_crc32c

    sha, crc, size = hashlib.sha256(), google_crc32c.Checksum(), 0
    while data := stream.read(CHUNK):
        sha.update(data)
        crc.update(data)
        size += len(data)
    return Digests(size, sha.hexdigest(), base64.b64encode(crc.digest()).decode())


class Objects:
    """See the module's docstring. `seconds`: the longest silence of one request, and how long one call tries again.

    Threads may share it.
    """

    def __init__(self, bucket: str, prefix: str, *, project: str | None = None, seconds: float = 60.0) -> None:
        self.name = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._project = project
        self._seconds = seconds
        self._lock = threading.Lock()
        self._bucket: Any = None

    @property
    def bucket(self) -> Any:
        """Google's own bucket. Made at the first request: its library takes most of a second to import."""
        with self._lock:
            if self._bucket is None:
                os.environ.setdefault(QUIET, "true")
                with _asking(self.name):
                    from google.cloud import storage

                    self._bucket = storage.Client(project=self._project).bucket(self.name)
        return self._bucket

    def options(self, seconds: float | None = None) -> dict[str, Any]:
        """Time limits that every request has."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        limit = self._seconds if seconds is None else seconds
        return {"timeout": (CONNECT_S, self._seconds), "retry": DEFAULT_RETRY.with_timeout(limit)}

    def blob(self, name: str, *, chunk: int | None = None) -> Any:
        """Google's own blob, without a request."""
        return self.bucket.blob(self.prefix + name, chunk_size=chunk)

    def get(self, name: str) -> bytes:
        """The whole content, with its checksum looked at. Raises AbsentError."""
        with _asking(name):
            return bytes(self.blob(name).download_as_bytes(checksum="crc32c", raw_download=True, **self.options()))

    def read(self, name: str) -> tuple[bytes, int]:
        """Content and generation of one moment: (b"", 0) where there is none."""
        for _ in range(5):
            seen = self.look(name)
            if seen is None:
                return b"", 0
            try:
                with _asking(name):
                    match = {"if_generation_match": seen.generation, "raw_download": True, "checksum": "crc32c"}
                    return bytes(self.blob(name).download_as_bytes(**match, **self.options())), seen.generation
            except (AbsentError, ConflictError):
                continue  # it was swapped in between
        raise SilentError(f"{name} changes faster than it can be read")

    def look(self, name: str) -> Seen | None:
        """What is said of an object; None where there is none."""
        blob = self.blob(name)
        try:
            with _asking(name):
                blob.reload(**self.options())
        except AbsentError:
            return None
        return self._seen(blob)

    def list(self, folder: str, start: str = "") -> Iterator[Seen]:
        """Objects whose names begin so, by name, from `start` on."""
        with _asking(folder):
            after = {"start_offset": self.prefix + start} if start else {}
            for blob in self.bucket.list_blobs(prefix=self.prefix + folder, fields=FIELDS, **after, **self.options()):
                yield self._seen(blob)

    def put(self, name: str, data: bytes) -> None:
        """Overwrite whatever is there."""
        with _asking(name):
            self.blob(name).upload_from_string(data, checksum="crc32c", **self.options())

    def create(self, name: str, data: bytes) -> None:
        """Write it where there is nothing, or the same. Raises ConflictError where there is something else."""
        try:
            self.swap(name, data, 0)
        except ConflictError:
            seen = self.look(name)
            if seen is None or seen.size != len(data) or seen.crc32c != crc32c_of(data):
                raise

    def swap(self, name: str, data: bytes, generation: int) -> int:
        """Write it where `generation` is (0: nothing); the new generation. Raises ConflictError.

        After a reply that was lost, what is told is the conflict with our own write: read and compare.
        """
        blob = self.blob(name)
        with _asking(name):
            blob.upload_from_string(data, checksum="crc32c", if_generation_match=generation, **self.options())
        return int(blob.generation)

    def send(self, name: str, stream: BinaryIO, digests: Digests) -> Seen:
        """Have there what the stream has, from where it is, whatever was there; it is not read when it is there.

        The caller has read it once for its digests. Raises DamagedError when it has other bytes by now.
        """
        seen = self.look(name)
        if seen is not None and (seen.size, seen.crc32c) == (digests.size, digests.crc32c):
            return seen
        at = stream.tell()
        for _ in range(2):
            try:
                stream.seek(at)
                found = self.upload(name, stream, digests.size, seen.generation if seen is not None else 0)
                break
            except ConflictError:
                seen = self.look(name)
                if seen is not None and (seen.size, seen.crc32c) == (digests.size, digests.crc32c):
                    return seen
        else:
            raise ConflictError(f"{name} is being written by someone else")
        if (found.size, found.crc32c) != (digests.size, digests.crc32c):
            self.delete(found)
            raise DamagedError(f"{name}: the file was written to while it was sent")
        return found

    def upload(self, name: str, stream: BinaryIO, size: int, generation: int) -> Seen:
        """Send `size` bytes to where `generation` is. Raises ConflictError, and what reading raises."""
        blob = self.blob(name, chunk=SEND_BYTES)
        with _asking(name):
            match = {"if_generation_match": generation, "checksum": "crc32c"}
            blob.upload_from_file(stream, size=size, **match, **self.options())
        return self._seen(blob)

    def download(self, name: str, to: str, sha256: str, size: int, crc32c: str = "") -> None:
        """Have the object as the file `to`. Raises AbsentError, DamagedError, and OSError; `to` is then untouched."""
        part = f"{to}.part-{os.getpid()}-{threading.get_ident()}"
        try:
            with open(part, "wb+") as stream:
                with _asking(name):
                    self.blob(name).download_to_file(stream, checksum="crc32c", raw_download=True, **self.options())
                stream.flush()
                stream.seek(0)
                check(name, digest(stream), size, sha256, crc32c)
            os.replace(part, to)
        finally:
            if os.path.exists(part):
                os.unlink(part)

    def download_many(self, wanted: Sequence[Wanted]) -> dict[str, Exception]:
        """`download` for many, some at once, by Google's transfer manager; what did not come, by its `to`, and why.

        Raises OSError when this disk does not take them.
        """
        wrong: dict[str, Exception] = {}
        for first in range(0, len(wanted), OPEN_FILES):
            wrong.update(self._download_some(wanted[first : first + OPEN_FILES]))
        return wrong

    def _download_some(self, wanted: Sequence[Wanted]) -> dict[str, Exception]:
        from google.cloud.storage import transfer_manager

        parts = {each.to: f"{each.to}.part-{os.getpid()}-{threading.get_ident()}" for each in wanted}
        wrong: dict[str, Exception] = {}
        try:
            with ExitStack() as held:
                streams = [held.enter_context(open(parts[each.to], "wb+")) for each in wanted]
                results = transfer_manager.download_many(
                    [(self.blob(each.name), stream) for each, stream in zip(wanted, streams, strict=True)],
                    download_kwargs={"checksum": "crc32c", "raw_download": True, **self.options()},
                    worker_type=transfer_manager.THREAD,
                    max_workers=THREADS,
                )
                for each, stream, result in zip(wanted, streams, results, strict=True):
                    try:
                        with _asking(each.name):
                            if isinstance(result, Exception):  # a warning of the library's is an Exception too
                                raise result
                        stream.flush()
                        stream.seek(0)
                        check(each.name, digest(stream), each.size, each.sha256, each.crc32c)
                        os.replace(parts[each.to], each.to)
                    except StoreError as error:
                        wrong[each.to] = error
        finally:
            for part in parts.values():
                if os.path.exists(part):
                    os.unlink(part)
        return wrong

    def delete(self, seen: Seen) -> None:
        """Delete that generation of an object, and no other. May be repeated."""
        try:
            with _asking(seen.name):
                self.blob(seen.name).delete(if_generation_match=seen.generation, **self.options())
        except (AbsentError, ConflictError):
            return

    def delete_all(self, folder: str) -> None:
        """Delete every object whose name begins so."""
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(self.delete, list(self.list(folder))):
                pass

    def exists(self) -> None:
        """Ask for one object of the prefix. Raises AbsentError where there is no such bucket, RefusedError."""
        with _asking(self.name):
            list(self.bucket.list_blobs(prefix=self.prefix, max_results=1, fields=FIELDS, **self.options()))

    def _seen(self, blob: Any) -> Seen:
        made = blob.time_created
        name = str(blob.name)[len(self.prefix) :]
        return Seen(name, int(blob.size), str(blob.crc32c), int(blob.generation), made.timestamp() if made else None)


def check(name: str, found: Digests, size: int, sha256: str, crc32c: str = "") -> None:
    """Raise DamagedError for bytes that are not what was written."""
    if found.size != size:
        raise DamagedError(f"{name} has {found.size} bytes instead of {size}")
    if crc32c and found.crc32c != crc32c:
        raise DamagedError(f"{name} has crc32c {found.crc32c} instead of {crc32c}")
    if sha256 and found.sha256 != sha256:
        raise DamagedError(f"{name} has sha256 {found.sha256[:12]} instead of {sha256[:12]}")


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Errors of Google's library, and of those below it, as ours."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        found = _meaning(error)
        if found is None:
            raise
        raise found(f"{what}: {_shown(error)}") from error


def _meaning(error: Exception) -> type[StoreError] | None:
    """Which of ours it is; None for what is no error of the store."""
    import requests
    import urllib3
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage import exceptions as storage

    if isinstance(error, storage.DataCorruption):
        return DamagedError
    if isinstance(error, api.NotFound):
        return AbsentError
    if isinstance(error, api.PreconditionFailed):
        return ConflictError
    if isinstance(error, (api.Forbidden, api.Unauthorized, auth.DefaultCredentialsError, auth.InvalidOperation)):
        return RefusedError
    if isinstance(error, auth.RefreshError):
        return SilentError if error.retryable else RefusedError
    passing = (api.GoogleAPIError, auth.GoogleAuthError, storage.InvalidResponse, requests.RequestException)
    if isinstance(error, (*passing, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)):
        return SilentError
    return None


def _shown(error: Exception) -> str:
    """One line of it, without the address, which may hold a session's key."""
    text = " ".join(str(getattr(error, "message", "") or error).split())
    words = ("<address>" if "://" in word else word for word in text.split(" "))
    code = getattr(error, "code", None)
    head = f"{type(error).__name__} {int(code)}" if isinstance(code, int) else type(error).__name__
    return f"{head}: {' '.join(words)}"[:300]
