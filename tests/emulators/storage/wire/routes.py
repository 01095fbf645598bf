"""Which operation a request is, who may make it, and what is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.emulators.storage.settings import ApiError, not_emulated
from tests.emulators.storage.wire.object_api import BucketApi, ObjectApi
from tests.emulators.storage.wire.reply import AnyReply
from tests.emulators.storage.wire.request import Request
from tests.emulators.storage.wire.upload_api import UploadApi

if TYPE_CHECKING:
    from tests.emulators.storage.emulator import StorageEmulator

Work = Callable[[Request], AnyReply]
B, O = "([^/]+)", "([^/]+)"  # noqa: E741 -- a bucket's and an object's name, percent-encoded
READING = ("GET", "HEAD")


class Routes:
    """The paths of the JSON API. A name with a slash that is not encoded is no name."""

    def __init__(self, storage: StorageEmulator) -> None:
        self._storage = storage
        objects, buckets = ObjectApi(storage.world, storage.buckets), BucketApi(storage.world, storage.buckets)
        uploads = UploadApi(storage.world, storage.buckets, storage.uploads, objects.shown)
        table: list[tuple[str, str, str, Work]] = [
            ("POST|PUT|DELETE", f"/(?:resumable/)?upload/storage/v1/b/{B}/o", "objects.insert", uploads.insert),
            ("GET", f"/download/storage/v1/b/{B}/o/{O}", "objects.get", objects.get),
            ("GET", f"/storage/v1/b/{B}/o", "objects.list", objects.list),
            ("GET", f"/storage/v1/b/{B}/o/{O}", "objects.get", objects.get),
            ("PATCH", f"/storage/v1/b/{B}/o/{O}", "objects.patch", objects.patch),
            ("PUT", f"/storage/v1/b/{B}/o/{O}", "objects.update", objects.patch),
            ("DELETE", f"/storage/v1/b/{B}/o/{O}", "objects.delete", objects.delete),
            ("POST", f"/storage/v1/b/{B}/o/{O}/compose", "objects.compose", objects.compose),
            ("POST", f"/storage/v1/b/{B}/o/{O}/copyTo/b/{B}/o/{O}", "objects.copy", objects.copy),
            ("POST", f"/storage/v1/b/{B}/o/{O}/rewriteTo/b/{B}/o/{O}", "objects.rewrite", objects.copy),
            ("GET", "/storage/v1/b", "buckets.list", buckets.list),
            ("POST", "/storage/v1/b", "buckets.insert", buckets.insert),
            ("GET", f"/storage/v1/b/{B}", "buckets.get", buckets.get),
            ("PATCH", f"/storage/v1/b/{B}", "buckets.patch", buckets.patch),
            ("DELETE", f"/storage/v1/b/{B}", "buckets.delete", buckets.delete),
        ]
        self._table = [(methods.split("|"), re.compile(path), name, work) for methods, path, name, work in table]

    def find(self, request: Request) -> Work:
        """What answers it; fills in the request's operation, phase and names."""
        for methods, pattern, operation, work in self._table:
            match = pattern.fullmatch(request.path) if request.method in methods else None
            if match is not None:
                names = [unquote(text) for text in match.groups()]
                request.operation = f"storage.{operation}"
                request.bucket, request.name = (*names, "", "")[:2]
                request.groups = tuple(names[2:])
                request.phase = _phase(request)
                return self._allowed(request, work)
        return _nowhere

    def _allowed(self, request: Request, work: Work) -> Work:
        def checked(request: Request) -> AnyReply:
            authorize(self._storage, request)
            return work(request)

        return checked


def authorize(storage: StorageEmulator, request: Request) -> None:
    """Raises ApiError 401 for an unknown bearer token, 403 for a write with one that may only read."""
    tokens = storage.settings.tokens
    if tokens is None:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    where = ("header", "Authorization")
    if not token:
        text = f"Anonymous caller does not have {request.operation} access to the Google Cloud Storage object."
        raise ApiError(401, "required", text, location=where)
    if scheme.lower() != "bearer" or token not in tokens:
        raise ApiError(401, "authError", "Invalid Credentials", location=where)
    if tokens[token] == "read" and request.method not in READING:
        text = f"The caller does not have {request.operation} access to the Google Cloud Storage object. Permission"
        raise ApiError(403, "forbidden", f"{text} '{request.operation}' denied on resource (or it may not exist).")


def _nowhere(request: Request) -> AnyReply:
    """Loud, so that a client's new call is not taken for an object that is missing."""
    if request.path.startswith(("/storage/v1/", "/upload/", "/download/")):
        raise not_emulated(f"{request.method} {request.path}")
    raise not_emulated(f"the XML API or another service ({request.method} {request.path})")


def _phase(request: Request) -> str:
    if request.operation == "storage.objects.get":
        return "download" if request.media else ""
    if request.operation != "storage.objects.insert":
        return ""
    request.name = request.query.get("name", "")
    if "upload_id" not in request.query:
        kind = request.query.get("uploadType", "")
        return "resumable-start" if kind == "resumable" else kind
    if request.method == "DELETE":
        return "resumable-cancel"
    return "resumable-status" if request.headers.get("content-range", "").startswith("bytes */") else "resumable-chunk"
