"""A dataset to Cloud Storage and back, against Google's own transfer manager on the loose files.

Both talk to the storage emulator (`tests.emulators.storage`) in a process of its own, a fresh one for each measurement,
with the same client library, eight threads each; the tree is 2,000 files of 250 kB. Ours starts with the digests that
every run has anyway (the fingerprint), theirs with the paths. Loopback has no latency and the emulator is Python: this
compares what the clients do, it is no estimate of a transfer to Google, where a round trip for each loose file costs
more.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Table, Target, middle, ratio

FILES, SIZE = 2000, 250_000
ROUNDS = 3
WORKERS = 8
BUCKET = "bench"


def measure(options: Options) -> list[Table]:
    """Rounds of both, in turn, after one that does not count."""
    tree = options.home / "tree"
    listing = make(tree)
    times: dict[str, list[float]] = {name: [] for name in ("loose up", "ours up", "again", "loose down", "ours down")}
    requests: list[float] = []
    for number in range((options.rounds or ROUNDS) + 1):
        found = {**_loose(options.home, tree), **_ours(options.home, tree, listing)}
        requests.append(found.pop("requests"))
        for name, seconds in found.items():
            if number:
                times[name].append(seconds)
    up, down = ratio(times["ours up"], times["loose up"]), ratio(times["ours down"], times["loose down"])
    whole = FILES * SIZE / 1e6
    rows = [(name, middle(seconds, 2), f"{whole / min(seconds):.0f}") for name, seconds in times.items()]
    targets = (
        Target("sending it, as a share of the transfer manager's time", up, 1.0, "x"),
        Target("bringing it, unpacked and verified, likewise", down, 1.0, "x"),
        Target("requests of a second staging", max(requests), 3, "requests"),
    )
    title = f"gcs_store: {FILES} files, {whole:.0f} MB, to the storage emulator and back (loopback)"
    return [Table(title, ("", "seconds", "MB/s, best"), tuple(rows), targets)]


def make(tree: Path) -> Path:
    """The files, and their listing as in/data.json has it."""
    tree.mkdir(parents=True)
    listed = []
    for number in range(FILES):
        data = random.Random(number).randbytes(SIZE)
        (tree / f"{number:04}.jpg").write_bytes(data)
        listed.append({"path": f"{number:04}.jpg", "sha256": hashlib.sha256(data).hexdigest(), "size": SIZE})
    listing = tree.with_name("data.json")
    listing.write_text(json.dumps({"files": listed}))
    return listing


@contextmanager
def emulator(home: Path) -> Iterator[str]:
    """A fresh one in a process of its own; its address."""
    root = home / "storage"
    argv = [sys.executable, "-m", "tests.emulators.storage", "--root", str(root), "--bucket", BUCKET]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "piped"
        try:
            lines = (process.stdout.readline() for _ in range(4))
            env = dict(shlex.split(line)[1].split("=", 1) for line in lines)
            os.environ.update(env)
            yield env["STORAGE_EMULATOR_HOST"]
        finally:
            process.terminate()
    shutil.rmtree(root, ignore_errors=True)


def timed(call: Callable[[], object]) -> float:
    """Seconds of wall clock."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _loose(home: Path, tree: Path) -> dict[str, float]:
    """Google's transfer manager, as its documentation has it, with threads."""
    from google.cloud import storage
    from google.cloud.storage import transfer_manager

    names = sorted(path.name for path in tree.iterdir())
    back = home / "back"
    more: dict[str, Any] = {"worker_type": transfer_manager.THREAD, "max_workers": WORKERS, "raise_exception": True}
    with emulator(home):
        bucket = storage.Client().bucket(BUCKET)
        up = timed(
            lambda: transfer_manager.upload_many_from_filenames(bucket, names, source_directory=str(tree), **more)
        )
        back.mkdir()
        down = timed(lambda: transfer_manager.download_many_to_path(bucket, names, str(back), **more))
        assert sum(path.stat().st_size for path in back.iterdir()) == FILES * SIZE, "all of it came"
    shutil.rmtree(back)
    return {"loose up": up, "loose down": down}


def _ours(home: Path, tree: Path, listing: Path) -> dict[str, float]:
    """The store's staging, and what the carrier does with it on the machine."""
    from backends.gcp.store import Store, data_shards
    from backends.gcp.store.carrier import inputs
    from backends.gcp.store.carrier.carry import open_store
    from launcher.backend import DataSource

    shards = data_shards(DataSource(tree, ""), listing)
    back = home / "back"
    with emulator(home) as endpoint:
        up = timed(lambda: Store(BUCKET).put_dataset(shards, _quiet))
        _ask(f"{endpoint}/_emulator/clear", b"{}")
        again = timed(lambda: Store(BUCKET).put_dataset(shards, _quiet))
        requests = len(_ask(f"{endpoint}/_emulator/requests"))
        config = Store(BUCKET).config("bench", "bench-a1", 1)
        back.mkdir()

        def bring() -> None:
            store = open_store(config)
            held: dict[str, Any] = {}
            inputs._manifest(store, shards.key, held)
            jobs = [partial(inputs._shard, store, shards.key, shard, str(back)) for shard in held["shards"]]
            inputs.fetch_all(jobs)

        down = timed(bring)
        assert sum(path.stat().st_size for path in back.rglob("*") if path.is_file()) == FILES * SIZE, "all of it came"
    shutil.rmtree(back)
    return {"ours up": up, "again": again, "ours down": down, "requests": requests}


def _quiet(what: str, done: int, whole: int) -> None:
    """Nobody to tell."""


def _ask(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(url, data) as reply:
        return json.load(reply)
