"""What the tests of datasets share: some files, an account at the emulator, and eyes on what is sent."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from backends.kaggle.client import blobs
from backends.kaggle.client.credentials import Credential, Kind, Secret
from backends.kaggle.client.service import Service
from backends.kaggle.client.wire import Limits, Wire
from backends.kaggle.datasets import Datasets, Pinned, Waits, Wanted
from launcher.backend import InputFile
from launcher.bundle.shards import lay_out
from launcher.worker.data import unshard
from tests.emulators.kaggle import KaggleEmulator

ROOT = Path(__file__).parents[4]
QUICK = Waits(ready=5.0, poll=(0.01, 0.02, 0.05), seen=(0.01, 0.02, 0.05), settled=(0.01,))
PATIENCE = blobs.Patience(silence=5.0, tries=3, pauses=(0.01,), retry_after=0.05)
CONTENTS = [b"", *(bytes([n]) * (n * 3000) for n in range(1, 12))]
TARGET = 64_000


def written(folder: Path, contents: list[bytes] = CONTENTS) -> list[InputFile]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, content in enumerate(contents):
        source = folder / f"an image {number}.jpg"
        source.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(InputFile(f"images/{number}.jpg", source, digest, len(content)))
    return files


def service_at(endpoint: str, user: str = "alice") -> Service:
    limits = Limits(connect=2.0, silence=2.0, answer=4.0, total=6.0, retry_after=0.05, pauses=(0.01, 0.02))
    credential = Credential(Kind.KEY, "the test", Secret(f"{user}-key"), user)
    return Service(Wire(credential, endpoint=endpoint, limits=limits), user)


def at(endpoint: str, cache: Path, waits: Waits = QUICK) -> Datasets:
    return Datasets(
        service_at(endpoint),
        cache,
        waits=waits,
        patience=PATIENCE,
        sleep=lambda seconds: time.sleep(min(seconds, 0.05)),
    )


class Told:
    """Remembers what it was told; raises when `stop` says so."""

    def __init__(self, stop: Callable[[int], Exception | None] = lambda done: None) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self._stop = stop

    def __call__(self, what: str, done: int, of: int) -> None:
        self.steps.append((what, done, of))
        if (error := self._stop(done)) is not None:
            raise error


class Puts:
    """Every PUT with bytes: (blob's name, bytes there before, first byte sent)."""

    def __init__(self, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int, int]] = []
        put = kaggle.uploads.put

        def watched(target: str, headers: Message, read: Any) -> Any:
            span = headers.get("Content-Range", "bytes 0-")
            blob = kaggle.uploads._by_url.get(target.rsplit("/", 1)[-1])
            if "*" not in span and blob is not None:
                self.seen.append((blob.name, blob.received, int(span.split()[1].split("-")[0])))
            return put(target, headers, read)

        monkeypatch.setattr(kaggle.uploads, "put", watched)

    @property
    def resent(self) -> list[tuple[str, int, int]]:
        """Those that began before what was there already."""
        return [put for put in self.seen if put[2] != put[1]]


def ref_of(wanted: Wanted) -> str:
    return f"alice/{wanted.slug}"


def is_whole(kaggle: KaggleEmulator, wanted: Wanted, pinned: Pinned, files: list[InputFile], to: Path) -> bool:
    """Whether the worker's reader gets every byte out of the pinned version."""
    version = kaggle.datasets[ref_of(wanted)].version(pinned.version)
    assert version is not None
    listing = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in files]
    unshard.lay([str(version.folder)], wanted.key, listing, str(to / "tree"), str(to / "scratch"))
    return all(hashlib.sha256((to / "tree" / file.path).read_bytes()).hexdigest() == file.sha256 for file in files)


def large(folder: Path) -> Wanted:
    """Some MB in two shards, of which one is a single content."""
    blobs_ = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        blobs_[hashlib.sha256(data).hexdigest()] = (path, len(data))
    return Wanted("data", lay_out(blobs_, 4 << 20))
