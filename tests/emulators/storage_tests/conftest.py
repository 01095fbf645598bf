"""An emulated Cloud Storage for each test, and the real client that talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from google.cloud.storage import Client

from tests.emulators.storage import StorageEmulator


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageEmulator]:
    with StorageEmulator(tmp_path / "storage") as emulator:
        for name, value in emulator.env.items():
            monkeypatch.setenv(name, value)
        emulator.bucket("reef")
        yield emulator


@pytest.fixture
def client(storage: StorageEmulator) -> Any:
    """The real client. It has asked for the bucket's metadata, which it else does in the background at some moment."""
    client = Client()
    client.get_bucket("reef")
    storage.requests.clear()
    return client


@pytest.fixture
def bucket(client: Any) -> Any:
    return client.bucket("reef")


class Bare:
    """Requests without the client between."""

    def __init__(self, storage: StorageEmulator) -> None:
        self.storage = storage
        self.pool = urllib3.PoolManager(retries=False, timeout=10)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> urllib3.BaseHTTPResponse:
        """`path` below the endpoint, or a whole URL."""
        url = path if path.startswith("http") else self.storage.endpoint + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.pool.request(method, url, body=body, headers=named, redirect=False)

    def start(self, name: str, query: str = "") -> str:
        """The URL of a new resumable upload."""
        reply = self.ask("POST", f"/upload/storage/v1/b/reef/o?uploadType=resumable&name={name}{query}", b"{}")
        return str(reply.headers["Location"])


@pytest.fixture
def bare(storage: StorageEmulator) -> Iterator[Bare]:
    asker = Bare(storage)
    yield asker
    asker.pool.clear()
