"""Buckets and their objects: every change is one step under the bucket's lock, and seen by the next request.

Cloud Storage is strongly consistent, listings too, so there is no fault "stale listing".
"""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from tests.emulators.storage.service.conditions import Conditions
from tests.emulators.storage.service.contents import Content, Contents
from tests.emulators.storage.service.objects import Version, settable, stamp
from tests.emulators.storage.settings import ApiError, World, invalid, no_bucket, no_object, not_emulated

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
MOST_NAME_BYTES = 1024


@dataclass
class Bucket:
    """One bucket: its own resource, and the live version of each object. Overwritten ones are gone (no versioning)."""

    world: World
    name: str
    created: float
    fields: dict[str, Any]
    metageneration: int = 1
    lock: threading.RLock = field(default_factory=threading.RLock)
    _live: dict[str, Version] = field(default_factory=dict)
    _order: list[bytes] = field(default_factory=list)
    _written: dict[str, float] = field(default_factory=dict)

    def resource(self) -> dict[str, Any]:
        shown = {
            "kind": "storage#bucket",
            "id": self.name,
            "selfLink": f"{self.world.endpoint}/storage/v1/b/{self.name}",
            "name": self.name,
            "projectNumber": "123456789",
            "metageneration": str(self.metageneration),
            "location": self.world.settings.location,
            "locationType": "region",
            "storageClass": "STANDARD",
            "timeCreated": stamp(self.created),
            "updated": stamp(self.created),
            "etag": f"CA{self.metageneration}=",
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        }
        return {**shown, **self.fields}

    # Reading.

    def get(self, name: str, generation: int | None = None, conditions: Conditions | None = None) -> Version:
        """The live version. Raises ApiError 404 (also for a generation that is not the live one), 412, 304."""
        with self.lock:
            version = self._found(name, generation)
            (conditions or Conditions()).check(version.generation, version.metageneration, reading=True)
            return version

    def opened(self, name: str, generation: int | None, conditions: Conditions) -> tuple[Version, BinaryIO]:
        """The live version and its bytes, which stay readable when the object is overwritten meanwhile."""
        with self.lock:
            version = self.get(name, generation, conditions)
            return version, version.content.path.open("rb")

    def names(self, start: str = "") -> Iterator[str]:
        """All names from `start` on, in the order of their UTF-8 bytes. Hold the lock."""
        for index in range(bisect.bisect_left(self._order, start.encode()), len(self._order)):
            yield self._order[index].decode()

    def live(self, name: str) -> Version | None:
        return self._live.get(name)

    def __len__(self) -> int:
        return len(self._live)

    # Writing.

    def check(self, name: str, conditions: Conditions) -> None:
        """Raises ApiError 412 where a write of this object would."""
        with self.lock:
            now = self._live.get(name)
            numbers = (now.generation, now.metageneration) if now is not None else (0, 0)
            conditions.check(*numbers, reading=False)

    def put(
        self,
        name: str,
        content: Content,
        fields: Mapping[str, Any],
        conditions: Conditions | None = None,
        *,
        components: int | None = None,
    ) -> Version:
        """A new generation. Raises ApiError 400 for a name that cannot be, 412, 429; the content is dropped then."""
        try:
            with self.lock:
                _check_name(name)
                self.check(name, conditions or Conditions())
                self._may_write(name)
                now = self.world.clock.now()
                number = self.world.clock.generation()
                version = Version(self.name, name, number, 1, content, now, now, dict(fields), components)
                self._take(name)
                self._live[name] = version
                bisect.insort(self._order, name.encode())
                return version
        except ApiError:
            content.path.unlink(missing_ok=True)
            raise

    def patch(self, name: str, generation: int | None, body: Mapping[str, Any], conditions: Conditions) -> Version:
        """The same generation with other metadata and the next metageneration."""
        with self.lock:
            old = self._found(name, generation)
            conditions.check(old.generation, old.metageneration, reading=False)
            self._may_write(name)
            fields = settable(body, base=old.fields)
            new = replace(old, metageneration=old.metageneration + 1, updated=self.world.clock.now(), fields=fields)
            self._live[name] = new
            return new

    def delete(self, name: str, generation: int | None, conditions: Conditions) -> None:
        with self.lock:
            old = self._found(name, generation)
            conditions.check(old.generation, old.metageneration, reading=False)
            self._may_write(name)
            self._take(name)

    def rot(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change an object's bytes at rest, behind its metadata: checksums, size and generation stay as they were."""
        with self.lock:
            path = self._found(name, None).content.path
            path.write_bytes(change(path.read_bytes()))

    def _found(self, name: str, generation: int | None) -> Version:
        version = self._live.get(name)
        if version is None or generation not in (None, version.generation):
            raise no_object(self.name, name)
        return version

    def _take(self, name: str) -> None:
        old = self._live.pop(name, None)
        if old is not None:
            del self._order[bisect.bisect_left(self._order, name.encode())]
            old.content.path.unlink(missing_ok=True)

    def _may_write(self, name: str) -> None:
        rate = self.world.settings.writes_per_second
        now = self.world.clock.now()
        if rate is not None and now - self._written.get(name, 0.0) < 1 / rate:
            text = f"The object {self.name}/{name} exceeded the rate limit for object mutation operations"
            raise ApiError(429, "rateLimitExceeded", f"{text} (create, update, and delete). Please reduce your rate.")
        self._written[name] = now


class Buckets:
    """All buckets, by name."""

    def __init__(self, world: World, contents: Contents) -> None:
        self._world = world
        self.contents = contents
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}

    def add(self, name: str, body: Mapping[str, Any] | None = None) -> Bucket:
        """Raises ApiError 409 for one that there is, 400 for a name that cannot be."""
        fields = _bucket_fields(body or {})
        if not _NAME.fullmatch(name):
            raise invalid(f"Invalid bucket name: '{name}'")
        with self._lock:
            if name in self._buckets:
                text = "Your previous request to create the named bucket succeeded and you already own it."
                raise ApiError(409, "conflict", text)
            bucket = Bucket(self._world, name, self._world.clock.now(), fields)
            self._buckets[name] = bucket
            return bucket

    def __getitem__(self, name: str) -> Bucket:
        """Raises ApiError 404."""
        with self._lock:
            bucket = self._buckets.get(name)
        if bucket is None:
            raise no_bucket()
        return bucket

    def __iter__(self) -> Iterator[Bucket]:
        with self._lock:
            return iter([self._buckets[name] for name in sorted(self._buckets)])

    def patch(self, name: str, body: Mapping[str, Any], conditions: Conditions) -> Bucket:
        bucket = self[name]
        with bucket.lock:
            conditions.check(0, bucket.metageneration, reading=False)
            bucket.fields.update(_bucket_fields(body))
            bucket.metageneration += 1
        return bucket

    def delete(self, name: str, conditions: Conditions) -> None:
        """Raises ApiError 409 for one that is not empty."""
        bucket = self[name]
        with self._lock, bucket.lock:
            conditions.check(0, bucket.metageneration, reading=False)
            if len(bucket):
                raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
            self._buckets.pop(name, None)


def _bucket_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a client sets on a bucket is kept and shown, not acted on; what objects would feel is refused."""
    if (body.get("versioning") or {}).get("enabled"):
        raise not_emulated("versioning of a bucket")
    if body.get("retentionPolicy"):
        raise not_emulated("the retention policy of a bucket")
    return {name: value for name, value in body.items() if name not in ("name", "kind", "id", "metageneration")}


def _check_name(name: str) -> None:
    if not name or len(name.encode()) > MOST_NAME_BYTES or name in (".", "..") or "\r" in name or "\n" in name:
        raise invalid(f"Invalid object name: {name!r:.80}")
