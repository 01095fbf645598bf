"""The whole of the emulated Cloud Storage: its parts put together, started and stopped."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.emulators.storage.faults import Faults
from tests.emulators.storage.service.buckets import Bucket, Buckets
from tests.emulators.storage.service.contents import Contents
from tests.emulators.storage.service.objects import Version
from tests.emulators.storage.service.uploads import Uploads
from tests.emulators.storage.settings import Call, Settings, World
from tests.emulators.storage.wire.routes import Routes
from tests.emulators.storage.wire.server import Server


class StorageEmulator:
    """A Cloud Storage on a loopback port. See the package's docstring.

    `root` is where the bytes lie (default: a new folder, removed at the end); `options` are fields of `Settings`.
    """

    def __init__(self, root: Path | None = None, *, port: int = 0, **options: Any) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="storage-") if root is None else None
        folder = Path(self._temporary.name) if self._temporary is not None else Path(root or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self._port = port
        self._server: Server | None = None
        self.settings = Settings()
        self.settings.change(options)
        self.world = World(folder.resolve(), self.settings)
        self.faults = Faults()
        self.requests: list[Call] = []
        """Every request so far, in the order in which they were answered. `clear()` it before what is to be counted."""
        self.contents = Contents(self.world)
        self.buckets = Buckets(self.world, self.contents)
        self.uploads = Uploads(self.world, self.contents)
        self.routes = Routes(self)

    def start(self) -> Self:
        self._server = Server(self, self._port)
        self.world.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._server.start()
        return self

    def close(self) -> None:
        """Stop answering. May be repeated."""
        self.world.closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`, for STORAGE_EMULATOR_HOST."""
        return self.world.endpoint

    @property
    def env(self) -> dict[str, str]:
        """Variables that make the real client talk to this emulator, anonymously and by no proxy."""
        return {
            "STORAGE_EMULATOR_HOST": self.endpoint,
            "GOOGLE_CLOUD_PROJECT": self.settings.project,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    # What a test looks at and changes, past the wire.

    def bucket(self, name: str) -> Bucket:
        """The bucket; made where there is none."""
        if all(bucket.name != name for bucket in self.buckets):
            return self.buckets.add(name)
        return self.buckets[name]

    def objects(self, bucket: str) -> dict[str, Version]:
        """All live objects by name, in the order of listings. `.content.read()` gives the bytes."""
        held = self.buckets[bucket]
        with held.lock:
            return {name: version for name in held.names() if (version := held.live(name)) is not None}

    def read(self, bucket: str, name: str) -> bytes:
        with self.buckets[bucket].lock:
            return self.buckets[bucket].get(name).content.read()

    def put(self, bucket: str, name: str, data: bytes, fields: Mapping[str, Any] | None = None) -> Version:
        """Another writer's object: a new generation with checksums that fit."""
        return self.bucket(bucket).put(name, self.contents.of(data), fields or {})

    def swap(self, bucket: str, one: str, other: str) -> None:
        """Each of two objects gets the other's bytes, with checksums that fit: only their meaning is wrong."""
        first, second = self.read(bucket, one), self.read(bucket, other)
        self.put(bucket, one, second)
        self.put(bucket, other, first)

    def rot(self, bucket: str, name: str, at: int = 0) -> None:
        """One byte of an object at rest becomes another; its metadata, checksums included, does not change."""
        self.buckets[bucket].rot(name, lambda data: data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])

    # The log.

    def count(self) -> Counter[str]:
        """How many requests there were of each operation."""
        return Counter(call.operation for call in list(self.requests))
