"""Datasets as shards, and other inputs by their sha256, into the bucket: once.

Promises: the manifest of a dataset is written last, so that where it is all shards are; a second staging asks twice
and sends nothing; one that was cut goes on with the shards that are not there; what is there and is not what it should
be (by size and crc32c) is sent again. `skip_if_exists` of Google's transfer manager is not used: it sends the whole
body and then learns that it was there. Nor is its `upload_many` for shards: it cannot be told their sizes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from backends.gcp.store.carrier import names
from backends.gcp.store.carrier.objects import ConflictError, Digests, Objects, Seen, digest
from backends.gcp.store.carrier.outputs import compose
from backends.gcp.store.sending import Body, Progress, send_all
from launcher.backend import DataSource, InputFile, Tell
from launcher.bundle.shards import Reader, Shard, ShardSet, lay_out
from launcher.errors import IntegrityError
from launcher.files import CHUNK

TARGET = 128 << 20
"""Bytes of a shard (an assumption): eight at once fill a line, 100 GB are one page of a listing, and little is sent
again after a cut."""
CHECKPOINT = "resume/"
"""Where a checkpoint lies among the inputs: the run's carriers have stored it already, most likely."""


def data_shards(source: DataSource, listing: Path) -> ShardSet:
    """The dataset whose files stand in `listing`, the box's in/data.json, as this store keeps it."""
    files = json.loads(listing.read_bytes())["files"]
    return lay_out({file["sha256"]: (source.root / file["path"], file["size"]) for file in files}, TARGET)


def put_dataset(objects: Objects, shards: ShardSet, tell: Tell, silence: float) -> str:
    """Have the dataset there; its key. Raises what the store raises, IntegrityError for a file that has changed."""
    folder, marker = names.dataset(shards.key), names.dataset_manifest(shards.key)
    tell("looking for the dataset in the bucket", 0, 0)
    there = {seen.name: seen for seen in objects.list(folder)}
    held = objects.get(marker) if marker in there else b""
    known = _sums(held, shards)
    if known and all(_fits(there.get(folder + shard.name), shard, known[shard.name]) for shard in shards.shards):
        return shards.key
    jobs, whole = [], 0
    for shard in shards.shards:
        seen = there.get(folder + shard.name)
        if not (seen is not None and known and _fits(seen, shard, known[shard.name])):
            whole += shard.size
            jobs.append((shard, seen))
    progress = Progress(whole)
    work = [partial(_have, objects, folder, shard, seen, progress) for shard, seen in jobs]
    sent = send_all(work, progress, tell, "sending the dataset", silence)
    sums = {**known, **{seen.name[len(folder) :]: seen.crc32c for seen in sent}}
    manifest = manifest_of(shards, sums)
    if not held:
        objects.create(marker, manifest)
    elif held != manifest:
        objects.swap(marker, manifest, there[marker].generation)
    return shards.key


def manifest_of(shards: ShardSet, sums: Mapping[str, str]) -> bytes:
    """A dataset's manifest.json: what a reader needs, and each shard's size and crc32c."""
    listed = [{"name": shard.name, "size": shard.size, "crc32c": sums[shard.name]} for shard in shards.shards]
    return compose({"version": 1, "key": shards.key, "index": json.loads(shards.index), "shards": listed})


def _sums(manifest: bytes, shards: ShardSet) -> dict[str, str]:
    """Each shard's crc32c by a manifest; none when it is not this set's."""
    try:
        value: Any = json.loads(manifest)
        sums = {shard["name"]: shard["crc32c"] for shard in value["shards"]}
        return sums if manifest == manifest_of(shards, sums) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _fits(seen: Seen | None, shard: Shard, crc32c: str) -> bool:
    return seen is not None and (seen.size, seen.crc32c) == (shard.size, crc32c)


def _have(objects: Objects, folder: str, shard: Shard, seen: Seen | None, progress: Progress) -> Seen:
    """Have one shard there. What is there by an earlier, cut staging is compared with what it should be."""
    name = folder + shard.name
    crc32c = ""
    for _ in range(3):
        if seen is not None and seen.size == shard.size:
            crc32c = crc32c or _crc32c(shard, progress)
            if seen.crc32c == crc32c:
                return seen
        body = cast("BinaryIO", Body(ShardFile(shard), progress))
        try:
            return objects.upload(name, body, shard.size, seen.generation if seen is not None else 0)
        except ConflictError:  # our own write whose reply was lost, or another launcher that sends the same
            seen = objects.look(name)
    raise ConflictError(f"{name} is written by someone else, again and again")


def _crc32c(shard: Shard, progress: Progress) -> str:
    import google_crc32c

    crc = google_crc32c.Checksum()
    body = Body(ShardFile(shard), progress)
    while data := body.read(CHUNK):
        crc.update(data)
    return base64.b64encode(crc.digest()).decode()


class ShardFile:
    """A shard as a file that can go back, as a client does when a part of it has to be sent again."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._reader: Reader | None = None
        self._at = 0

    def read(self, n: int = -1) -> bytes:
        """The next bytes. Raises IntegrityError when a file has changed since it was hashed."""
        if self._reader is None or self._reader.offset != self._at:
            self._reader = self._shard.open(self._at)
        data = self._reader.read(n)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte; from the beginning, here or the end."""
        self._at = offset + (0, self._at, self._shard.size)[whence]
        return self._at

    def tell(self) -> int:
        """Where the next byte is."""
        return self._at


def put_blobs(
    objects: Objects, run: str, files: Sequence[InputFile], tell: Tell, silence: float
) -> list[dict[str, Any]]:
    """Have the files there by their sha256; where each lies, for the carrier. Raises IntegrityError."""
    progress = Progress(sum(file.size for file in files))
    of_run = names.RunNames(run)
    found = [
        {
            "path": file.path,
            "object": of_run.blob(file.sha256) if file.path.startswith(CHECKPOINT) else names.shared(file.sha256),
            "sha256": file.sha256,
            "size": file.size,
        }
        for file in files
    ]
    once = {str(entry["object"]): file for entry, file in zip(found, files, strict=True)}
    jobs: list[Callable[[], None]] = [partial(_blob, objects, name, file, progress) for name, file in once.items()]
    send_all(jobs, progress, tell, "sending the run's files", silence)
    return found


def _blob(objects: Objects, name: str, file: InputFile, progress: Progress) -> None:
    with file.source.open("rb") as stream:
        found: Digests = digest(stream)
        if (found.size, found.sha256) != (file.size, file.sha256):
            raise IntegrityError(f"{file.source} changed since the run was planned", remedy="launch again")
        stream.seek(0)
        objects.send(name, cast("BinaryIO", Body(stream, progress)), found)
