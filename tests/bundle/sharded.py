"""What the tests of both sides of shards share: contents, and the shards of them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from launcher.bundle.shards import Shard, ShardSet, lay_out

CONTENTS = st.lists(st.binary(max_size=3000), max_size=12)
TARGETS = st.integers(1, 12_000)
LOOSE = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def written(folder: Path, contents: list[bytes]) -> dict[str, tuple[Path, int]]:
    """A file for each content; the blobs of them."""
    folder.mkdir(parents=True, exist_ok=True)
    blobs = {}
    for number, content in enumerate(contents):
        path = folder / f"an image {number}.jpg"
        path.write_bytes(content)
        blobs[digest_of(content)] = (path, len(content))
    return blobs


@contextmanager
def laid_out(contents: list[bytes], target: int) -> Iterator[tuple[Path, ShardSet]]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), lay_out(written(Path(name) / "data", contents), target)


def whole(shard: Shard) -> bytes:
    return b"".join(shard.stream())


def members_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
