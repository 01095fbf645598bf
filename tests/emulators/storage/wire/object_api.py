"""Objects: metadata, bytes, listing, patch, delete, compose, copy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from tests.emulators.storage.service import fields, listing
from tests.emulators.storage.service.buckets import Buckets
from tests.emulators.storage.service.conditions import Conditions, parameters
from tests.emulators.storage.service.objects import Version, settable
from tests.emulators.storage.settings import ApiError, World, invalid, not_emulated, required
from tests.emulators.storage.wire.reply import AnyReply, FileReply, Reply, ok, refusal
from tests.emulators.storage.wire.request import Request

_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
MOST_COMPOSED = 32


class ObjectApi:
    """The operations storage.objects.* but insert. Each takes a request and gives a reply, or raises ApiError."""

    def __init__(self, world: World, buckets: Buckets) -> None:
        self._world = world
        self._buckets = buckets

    def get(self, request: Request) -> AnyReply:
        request.only("generation", "projection", *parameters())
        bucket, conditions = self._buckets[request.bucket], Conditions.of(request.query)
        if not request.media:
            return self.shown(request, bucket.get(request.name, request.generation(), conditions))
        version, file = bucket.opened(request.name, request.generation(), conditions)
        size = version.content.size
        try:
            span = _span(request.headers.get("range"), size)
            _check_encoding(request, version)
        except ApiError as error:
            file.close()
            if error.status != 416:
                raise
            return replace(refusal(error, media=True), headers={"Content-Range": f"bytes */{size}"})
        headers = _media_headers(version)
        if span is None:
            return FileReply(200, file, 0, size, headers)
        start, length = span
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
        return FileReply(206, file, start, length, headers)

    def list(self, request: Request) -> AnyReply:
        request.only(*listing.PARAMETERS, *listing.FLAGS)
        shown = listing.page(self._buckets[request.bucket], request.query, self._world.settings.page_limit)
        return ok(partial(request, shown))

    def patch(self, request: Request) -> AnyReply:
        request.only("generation", "projection", "predefinedAcl", *parameters())
        body = request.body.json()
        if request.method == "PUT":  # an update replaces: what it does not name is gone
            body = {"metadata": None, "contentType": None, "cacheControl": None, **body}
        bucket = self._buckets[request.bucket]
        conditions = Conditions.of(request.query)
        return self.shown(request, bucket.patch(request.name, request.generation(), body, conditions))

    def delete(self, request: Request) -> AnyReply:
        request.only("generation", *parameters())
        conditions = Conditions.of(request.query)
        self._buckets[request.bucket].delete(request.name, request.generation(), conditions)
        return Reply(204)

    def compose(self, request: Request) -> AnyReply:
        request.only("ifGenerationMatch", "ifMetagenerationMatch", "destinationPredefinedAcl")
        body = request.body.json()
        bucket = self._buckets[request.bucket]
        sources = body.get("sourceObjects") or []
        if not 1 <= len(sources) <= MOST_COMPOSED:
            raise invalid(f"The number of source components provided ({len(sources)}) must be in [1, {MOST_COMPOSED}].")
        conditions = Conditions.of(request.query)
        with bucket.lock:
            parts = []
            for source in sources:
                asked = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
                number = source.get("generation")
                part = bucket.get(str(source.get("name")), None if number is None else int(number))
                if asked is not None:
                    Conditions(generation=int(asked)).check(part.generation, part.metageneration, reading=False)
                parts.append(part)
            content = self._buckets.contents.joined([part.content for part in parts])
            made = settable(body.get("destination") or {})
            count = sum(part.components or 1 for part in parts)
            return self.shown(request, bucket.put(request.name, content, made, conditions, components=count))

    def copy(self, request: Request) -> AnyReply:
        """copyTo and rewriteTo: here both are done in one step, as GCS does within one location and storage class."""
        names = ("sourceGeneration", "maxBytesRewrittenPerCall", "projection", "destinationPredefinedAcl")
        request.only(*names, *parameters(), *parameters("ifSource"))
        if request.query.get("rewriteToken"):
            raise not_emulated("a rewrite in several calls")
        body = request.body.json()
        to_bucket, to_name = request.groups
        source = self._buckets[request.bucket]
        target = self._buckets[to_bucket]
        wanted = Conditions.of(request.query, "ifSource")
        with source.lock:
            old = source.get(request.name, request.generation("sourceGeneration"))
            wanted.check(old.generation, old.metageneration, reading=False)
            content = self._buckets.contents.copied(old.content)
        made = settable(body) if body else dict(old.fields)
        new = target.put(to_name, content, made, Conditions.of(request.query), components=old.components)
        if request.operation == "storage.objects.copy":
            return self.shown(request, new)
        size = str(new.content.size)
        done = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
        return ok(partial(request, {**done, "resource": new.resource(self._world.endpoint)}))

    def shown(self, request: Request, version: Version) -> Reply:
        return ok(partial(request, version.resource(self._world.endpoint)), {"ETag": version.etag})


class BucketApi:
    """The operations storage.buckets.*."""

    def __init__(self, world: World, buckets: Buckets) -> None:
        self._world = world
        self._buckets = buckets

    def insert(self, request: Request) -> AnyReply:
        request.only("project", "projection", "predefinedAcl", "predefinedDefaultObjectAcl", "enableObjectRetention")
        body = request.body.json()
        if not request.query.get("project"):
            raise required("project")
        if not body.get("name"):
            raise required("name")
        return ok(partial(request, self._buckets.add(str(body["name"]), body).resource()))

    def get(self, request: Request) -> AnyReply:
        request.only("projection", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
        bucket = self._buckets[request.bucket]
        Conditions.of(request.query).check(0, bucket.metageneration, reading=True)
        return ok(partial(request, bucket.resource()))

    def list(self, request: Request) -> AnyReply:
        request.only("project", "prefix", "maxResults", "projection", "returnPartialSuccess")
        prefix = request.query.get("prefix", "")
        items = [bucket.resource() for bucket in self._buckets if bucket.name.startswith(prefix)]
        if len(items) > self._world.settings.page_limit:
            raise not_emulated("a listing of buckets in several pages")
        return ok(partial(request, {"kind": "storage#buckets", **({"items": items} if items else {})}))

    def patch(self, request: Request) -> AnyReply:
        request.only("projection", "predefinedAcl", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
        body = request.body.json()
        bucket = self._buckets.patch(request.bucket, body, Conditions.of(request.query))
        return ok(partial(request, bucket.resource()))

    def delete(self, request: Request) -> AnyReply:
        request.only("ifMetagenerationMatch", "ifMetagenerationNotMatch")
        self._buckets.delete(request.bucket, Conditions.of(request.query))
        return Reply(204)


def partial(request: Request, resource: dict[str, Any]) -> dict[str, Any]:
    """The resource, or what the `fields` parameter names of it."""
    wanted = request.query.get("fields")
    return fields.pick(resource, fields.parse(wanted)) if wanted else resource


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and number of bytes; None for a Range that is missing, or not heard (RFC 9110, 14.2) for its form.

    Raises ApiError 416 where no byte is there: also for any range of an empty object.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None:
        return None
    first, last, final = match.groups()
    if last and int(last) < int(first):
        return None
    start = max(0, size - int(final)) if final is not None else int(first)
    end = min(size, int(last) + 1) if last else size
    if start >= end:
        raise ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    return start, end - start


def _check_encoding(request: Request, version: Version) -> None:
    accepted = request.headers.get("accept-encoding", "")
    if version.fields.get("contentEncoding") == "gzip" and "gzip" not in accepted:
        raise not_emulated("decompressing an object for a client that does not accept gzip")


def _media_headers(version: Version) -> dict[str, str]:
    headers = {
        "Content-Type": version.fields.get("contentType", "application/octet-stream"),
        "X-Goog-Generation": str(version.generation),
        "X-Goog-Metageneration": str(version.metageneration),
        "X-Goog-Hash": version.content.hashes(),
        "X-Goog-Storage-Class": version.storage_class,
        "X-Goog-Stored-Content-Encoding": version.fields.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": str(version.content.size),
        "ETag": version.etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": version.fields.get("contentDisposition", "attachment"),
    }
    for name, field in (("Content-Encoding", "contentEncoding"), ("Content-Language", "contentLanguage")):
        if field in version.fields:
            headers[name] = version.fields[field]
    headers["Cache-Control"] = version.fields.get("cacheControl", "no-cache")
    return {name: quote(value, safe=" !#$%&'()*+,-./:;<=>?@[]^_`{|}~\"") for name, value in headers.items()}
