"""What comes to the machine: the box's inputs before the worker starts, the dataset as its first command.

Promises: a box is laid out whole or not at all; no file has its name before its sha256 is right; what is here already
is not fetched again; a store that does not answer is asked again until nothing has moved for the patience.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from . import names
from .box import Box
from .carry import open_store
from .objects import CHUNK, THREADS, DamagedError, Digests, SilentError, check, digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from typing import Any, BinaryIO

    from .objects import Objects

    Json = dict[str, Any]

PATIENCE_S = 1800.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
TELL_S = 5.0
RETRY_DAMAGED = 3  # times that bytes which came wrong are fetched again


def lay_out(root: str, config: Json) -> None:
    """Make the box `root` with all its inputs, in/carrier.json, and in/attempt.json where the configuration has one."""
    root = os.path.abspath(root)
    if os.path.isdir(root):
        return
    part = os.path.join(os.path.dirname(root), f".part-{os.path.basename(root)}")
    store = open_store(config)
    kept = {key: value for key, value in config.items() if key not in ("attempt_json", "inputs")}
    texts = {"carrier.json": kept}
    if "attempt_json" in config:
        texts["attempt.json"] = config["attempt_json"]
    for folder in ("in", "out", "state", "work"):
        os.makedirs(os.path.join(part, folder), exist_ok=True)
    jobs = {}
    for file in config["inputs"]:
        to = inside(os.path.join(part, "in"), file["path"])
        os.makedirs(os.path.dirname(to), exist_ok=True)
        jobs[to] = file
    progress = Progress("inputs", sum(file["size"] for file in config["inputs"]))
    fetch_all([partial(_input, store, to, file) for to, file in jobs.items()], progress)
    for name, value in texts.items():
        with open(os.path.join(part, "in", name), "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, sort_keys=True)
    try:
        os.rename(part, root)
    except OSError:
        if not os.path.isdir(root):
            raise
        shutil.rmtree(part, ignore_errors=True)


def _input(store: Objects, to: str, file: Json) -> int:
    if not holds(to, file["size"], file["sha256"]):
        store.download(file["object"], to, file["sha256"], file["size"])
    return int(file["size"])


def bring(box: Box) -> None:
    """Have the dataset of in/data.json laid out at the configured folder, each content with the sha256 of its name."""
    config = _read(box.config)
    files = _read(os.path.join(box.root, "in", "data.json"))["files"]
    root = config["data_root"].replace("{box}", box.root)
    kept = os.path.join(box.root, "work", "shards")
    os.makedirs(kept, exist_ok=True)
    store = open_store(config)
    key = config["dataset"]
    manifest: Json = {}
    fetch_all([partial(_manifest, store, key, manifest)])
    shards = manifest["shards"]
    progress = Progress("dataset", sum(shard["size"] for shard in shards))
    fetch_all([partial(_shard, store, key, shard, kept) for shard in shards], progress)
    write(os.path.join(kept, f"samerun-{key}.json"), json.dumps(manifest["index"]).encode())
    sys.path.insert(0, os.path.join(box.root, "in", "worker.pyz"))
    from samerun_worker.data import unshard  # type: ignore[import-not-found]

    os.makedirs(root, exist_ok=True)
    try:
        unshard.lay([kept], key, files, root, os.path.join(box.root, "work", "contents"))
    except unshard.ShardError as error:
        raise DamagedError(f"the dataset {key[:12]} does not have what in/data.json lists: {error}") from error


def _manifest(store: Objects, key: str, into: Json) -> int:
    name = names.dataset_manifest(key)
    into.update(json.loads(store.get(name)))
    if into.get("key") != key:
        raise DamagedError(f"{name} is of another dataset")
    return 0


def _shard(store: Objects, key: str, shard: Json, kept: str) -> int:
    """Have one shard's contents below `kept`, in a folder of its name."""
    stem = inside(kept, shard["name"]).removesuffix(".tar")
    if not os.path.isdir(stem):
        archive = f"{stem}.tar"
        store.download(names.dataset(key) + shard["name"], archive, "", shard["size"], shard["crc32c"])
        part = f"{stem}.part"
        shutil.rmtree(part, ignore_errors=True)
        unpack(archive, part)
        os.rename(part, stem)
        os.unlink(archive)
    return int(shard["size"])


def unpack(archive: str, to: str) -> None:
    """Take all contents out of a shard. Raises DamagedError for one whose bytes do not have the digest of its name."""
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                sha256 = member.name.replace("/", "")
                source = tar.extractfile(member) if member.isreg() and len(sha256) == 64 and sha256.isalnum() else None
                if source is None:
                    raise DamagedError(f"{os.path.basename(archive)} has a member {member.name[:80]!r}")
                path = os.path.join(to, sha256[:2], sha256[2:])
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with source, open(path, "wb") as stream:
                    check(member.name, _copied(source, stream), member.size, sha256)
    except tarfile.TarError as error:
        raise DamagedError(f"{os.path.basename(archive)} is not a whole archive: {error}") from error


def _copied(source: Any, target: BinaryIO) -> Digests:
    import hashlib

    sha, size = hashlib.sha256(), 0
    while data := source.read(CHUNK):
        target.write(data)
        sha.update(data)
        size += len(data)
    return Digests(size, sha.hexdigest(), "")


class Progress:
    """Lines on standard output, which go into the stream: how much is here, at most every few seconds."""

    def __init__(self, what: str, whole: int) -> None:
        self._what, self._whole, self._done = what, whole, 0
        self._told = 0.0
        self.moved = time.monotonic()

    def add(self, size: int) -> None:
        """So many bytes more are here."""
        self._done += size
        self.moved = time.monotonic()
        if self._whole and (self.moved - self._told > TELL_S or self._done >= self._whole):
            self._told = self.moved
            print(f"{self._what}: {self._done / 1e6:.1f} of {self._whole / 1e6:.1f} MB", flush=True)

    def wait(self, error: Exception) -> None:
        """Say that something has to be asked for again."""
        print(f"{self._what}: {error}; trying again", flush=True)


def fetch_all(jobs: Iterable[Callable[[], int]], progress: Progress | None = None) -> None:
    """Run each job, which returns a number of bytes, some at once; again, with pauses, what the store did not answer.

    Raises what a job raises, SilentError only when nothing has moved for the patience.
    """
    progress = progress or Progress("the store", 0)
    left: Sequence[Callable[[], int]] = list(jobs)
    pause, damaged = FIRST_PAUSE_S, 0
    while left:
        again: list[Callable[[], int]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            running: dict[Future[int], Callable[[], int]] = {pool.submit(job): job for job in left}
            try:
                for future in as_completed(running):
                    error = _outcome(future, progress)
                    if error is None:
                        pause = FIRST_PAUSE_S
                        continue
                    damaged += isinstance(error, DamagedError)
                    if damaged > RETRY_DAMAGED or time.monotonic() - progress.moved > PATIENCE_S:
                        raise error
                    progress.wait(error)
                    again.append(running[future])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        left = again
        if left:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _outcome(future: Future[int], progress: Progress) -> Exception | None:
    """Count what came; the error to try again after, if any. Raises the others."""
    try:
        progress.add(future.result())
    except (SilentError, DamagedError) as error:
        return error
    return None


def inside(folder: str, path: str) -> str:
    """A path below the folder. Raises ValueError for one that leads out of it."""
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} leads out of its folder")
    return os.path.join(folder, *path.split("/"))


def holds(path: str, size: int, sha256: str) -> bool:
    """Whether the file is here with these bytes."""
    try:
        with open(path, "rb") as stream:
            found = digest(stream)
    except FileNotFoundError:
        return False
    return (found.size, found.sha256) == (size, sha256)


def write(path: str, data: bytes) -> None:
    """Write beside the final name, rename."""
    part = f"{path}.part-{os.getpid()}"
    with open(part, "wb") as stream:
        stream.write(data)
    os.replace(part, path)


def _read(path: str) -> Json:
    with open(path, "rb") as stream:
        value: Json = json.loads(stream.read())
    return value
