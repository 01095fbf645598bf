"""What goes in goes in once, whole, and is what it was."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
from pathlib import Path

import pytest

from backends.gcp.store import Store, data_shards
from backends.gcp.store.carrier.names import RunNames, dataset, dataset_manifest
from backends.gcp.store.carrier.objects import DamagedError, digest
from backends.gcp.store.sending import Body, Progress, StoppedError
from backends.gcp.store.staging import ShardFile
from launcher.backend import DataSource, InputFile
from launcher.bundle.shards import ShardSet, lay_out
from launcher.errors import CredentialError, IntegrityError, NotFoundError, RemoteError
from tests.backends.gcp.store.test_outputs import carrier_of
from tests.backends.gcp.store.world import BUCKET, RUN, FakeBox, names_in, quiet
from tests.emulators.storage import StorageEmulator

INSERT = "storage.objects.insert"


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    """Forty files in about eight shards."""
    return make(tmp_path / "data")


def make(folder: Path, target: int = 60_000) -> ShardSet:
    folder.mkdir()
    blobs = {}
    for number in range(40):
        data = random.Random(number).randbytes(10_000 + number)
        file = folder / f"{number}.jpg"
        file.write_bytes(data)
        blobs[hashlib.sha256(data).hexdigest()] = (file, len(data))
    return lay_out(blobs, target)


def sent(storage: StorageEmulator) -> int:
    """Bytes of all requests."""
    return sum(call.received for call in storage.requests)


def assert_there(storage: StorageEmulator, shards: ShardSet) -> None:
    for shard in shards.shards:
        assert storage.read(BUCKET, f"samerun/{dataset(shards.key)}{shard.name}") == b"".join(shard.stream())
    manifest = json.loads(storage.read(BUCKET, f"samerun/{dataset_manifest(shards.key)}"))
    assert (manifest["key"], len(manifest["shards"])) == (shards.key, len(shards.shards))


def test_a_dataset_is_there_with_its_manifest_last_and_the_second_time_costs_nothing(
    shards: ShardSet, store: Store, storage: StorageEmulator
) -> None:
    assert store.put_dataset(shards, quiet) == shards.key
    assert_there(storage, shards)
    inserts = [call.name for call in storage.requests if call.operation == INSERT]
    assert inserts[-1].endswith("manifest.json")
    assert len(shards.shards) > 5
    assert all("ifGenerationMatch=0" in call.path for call in storage.requests if call.operation == INSERT)
    storage.requests.clear()
    Store(BUCKET).put_dataset(shards, quiet)
    assert len(storage.requests) <= 3
    assert sent(storage) == 0


def test_an_interrupted_staging_goes_on(
    shards: ShardSet, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    missing = shards.shards[-1].members[-1].source
    missing.rename(tmp_path / "away")
    with pytest.raises(IntegrityError):
        store.put_dataset(shards, quiet)
    assert dataset_manifest(shards.key) not in names_in(storage)
    there = len(names_in(storage))
    assert there > 0
    (tmp_path / "away").rename(missing)
    storage.requests.clear()
    Store(BUCKET).put_dataset(shards, quiet)
    assert_there(storage, shards)
    assert sent(storage) < (len(shards.shards) - there + 0.5) * 70_000


def test_whoever_is_told_can_stop_it(shards: ShardSet, store: Store, storage: StorageEmulator) -> None:
    storage.faults.add("slow", on=INSERT, times=None, seconds=0.3)

    def stop(what: str, done: int, whole: int) -> None:
        if what == "sending the dataset":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_dataset(shards, stop)
    assert dataset_manifest(shards.key) not in names_in(storage)


def test_what_is_being_sent_ends_at_its_next_byte_when_it_is_stopped() -> None:
    progress = Progress(10)
    body = Body(io.BytesIO(b"0123456789"), progress)
    assert body.read(4) == b"0123"
    progress.stopped.set()
    with pytest.raises(StoppedError):
        body.read(4)


def test_what_is_told_grows_up_to_the_whole(shards: ShardSet, store: Store) -> None:
    told: list[tuple[int, int]] = []
    store.put_dataset(shards, lambda what, done, whole: told.append((done, whole)))
    assert told[-1] == (shards.size, shards.size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_that_changed_is_not_sent(
    shards: ShardSet, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    file = tmp_path / "data/7.jpg"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"7\.jpg changed"):
        store.put_dataset(shards, quiet)
    assert dataset_manifest(shards.key) not in names_in(storage)


@pytest.mark.parametrize("target", [60_000, 64 << 20])
def test_replies_that_are_lost_are_no_conflict(
    target: int, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    shards = make(tmp_path / "data", target)
    storage.faults.add("lose-reply", on=f"{BUCKET}/*.tar", times=1)
    storage.faults.add("lose-reply", on=f"{BUCKET}/*manifest.json", times=1)
    store.put_dataset(shards, quiet)
    assert not storage.faults.waiting()
    assert_there(storage, shards)


@pytest.mark.parametrize("how", ["other bytes", "swapped", "gone", "manifest"])
def test_what_is_there_and_is_not_what_it_should_be_is_sent_again(
    how: str, shards: ShardSet, store: Store, storage: StorageEmulator
) -> None:
    store.put_dataset(shards, quiet)
    first, second, *_ = [f"samerun/{dataset(shards.key)}{shard.name}" for shard in shards.shards]
    if how == "other bytes":
        storage.put(BUCKET, first, bytes(shards.shards[0].size))
    elif how == "swapped":
        storage.swap(BUCKET, first, second)
    elif how == "gone":
        store._objects.bucket.blob(first).delete()
    else:
        storage.put(BUCKET, f"samerun/{dataset_manifest(shards.key)}", b'{"key": "x"}')
    storage.requests.clear()
    store.put_dataset(shards, quiet)
    assert_there(storage, shards)
    assert sent(storage) < 2.5 * shards.shards[0].size
    storage.requests.clear()
    store.put_dataset(shards, quiet)
    assert len(storage.requests) <= 3


def test_two_launchers_at_once_do_each_other_no_harm(shards: ShardSet, store: Store, storage: StorageEmulator) -> None:
    wrong: list[BaseException] = []

    def put() -> None:
        try:
            Store(BUCKET).put_dataset(shards, quiet)
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert_there(storage, shards)


def test_a_network_that_swallows_everything_is_an_error_in_bounded_time(
    shards: ShardSet, storage: StorageEmulator
) -> None:
    storage.faults.add("stall-upload", on=INSERT, times=None)
    begun = time.monotonic()
    with pytest.raises(RemoteError):
        Store(BUCKET, seconds=0.5).put_dataset(shards, quiet)
    assert time.monotonic() - begun < 20
    assert dataset_manifest(shards.key) not in names_in(storage)
    storage.faults.clear()
    Store(BUCKET).put_dataset(shards, quiet)
    assert_there(storage, shards)


def test_a_large_shard_is_sent_in_parts_and_goes_on_after_a_cut(
    store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(random.Random(1).randbytes(1 << 20) * 20)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    shards = lay_out({digest: (file, 20 << 20)}, 64 << 20)
    storage.faults.add("cut-upload", on="storage.objects.insert:resumable-chunk", at=5 << 20)
    storage.faults.add("503-after", on="storage.objects.insert:resumable-chunk")
    store.put_dataset(shards, quiet)
    assert_there(storage, shards)
    assert sent(storage) < 45 << 20


def test_a_shard_reads_like_a_file(shards: ShardSet) -> None:
    shard = shards.shards[0]
    whole, file, chance = b"".join(shard.stream()), ShardFile(shard), random.Random(1)
    for _ in range(50):
        at, n = chance.randrange(shard.size + 1), chance.choice((0, 1, 5000, -1))
        assert file.seek(at) == file.tell() == at
        assert file.read(n) == (whole[at : at + n] if n >= 0 else whole[at:])
    assert file.seek(0, 2) == shard.size
    assert file.read(1) == b""


def test_a_dataset_of_nothing_is_a_dataset(store: Store, storage: StorageEmulator, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"files": []}')
    shards = data_shards(DataSource(tmp_path, "x"), tmp_path / "data.json")
    store.put_dataset(shards, quiet)
    assert_there(storage, shards)


def inputs(folder: Path, *names: str) -> list[InputFile]:
    found = []
    for name in names:
        file = folder / name.replace("/", "-")
        file.write_bytes(name.encode() * 3000)
        found.append(InputFile(name, file, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size))
    return found


def test_inputs_are_sent_once_whoever_sends_them(store: Store, storage: StorageEmulator, tmp_path: Path) -> None:
    files = inputs(tmp_path, "job.json", "model.pt", "resume/last.pt")
    found = store.put_blobs(RUN, files, quiet)
    for entry, file in zip(found, files, strict=True):
        assert storage.read(BUCKET, f"samerun/{entry['object']}") == file.source.read_bytes()
        assert (entry["path"], entry["sha256"], entry["size"]) == (file.path, file.sha256, file.size)
    storage.requests.clear()
    assert Store(BUCKET).put_blobs(RUN, files, quiet) == found
    assert sent(storage) == 0
    storage.put(BUCKET, f"samerun/{found[0]['object']}", b"other")
    store.put_blobs(RUN, files, quiet)
    assert storage.read(BUCKET, f"samerun/{found[0]['object']}") == files[0].source.read_bytes()


def test_the_checkpoint_that_a_carrier_has_stored_is_not_sent(
    box: FakeBox, store: Store, storage: StorageEmulator
) -> None:
    box.epoch(3, size=100_000)
    carrier_of(box).step()
    files = [
        InputFile(f"resume/{Path(entry['at']).name}", box.root / "out" / entry["at"], entry["sha256"], entry["size"])
        for entry in box.entries()
    ]
    storage.requests.clear()
    found = store.put_blobs(RUN, files, quiet)
    assert sent(storage) == 0
    assert all(entry["object"].startswith(RunNames(RUN).objects) for entry in found)


def test_an_input_that_changed_is_not_sent(store: Store, storage: StorageEmulator, tmp_path: Path) -> None:
    files = inputs(tmp_path, "job.json")
    files[0].source.write_text("other")
    with pytest.raises(IntegrityError, match=r"job\.json changed"):
        store.put_blobs(RUN, files, quiet)
    assert names_in(storage) == []


def test_a_file_that_changes_while_it_is_sent_is_not_left_there(store: Store, storage: StorageEmulator) -> None:
    with pytest.raises(DamagedError, match="written to while"):
        store._objects.send("objects/x", io.BytesIO(b"other"), digest(io.BytesIO(b"right")))
    assert names_in(storage) == []


def test_what_is_kept_is_listed_and_can_be_discarded(
    shards: ShardSet, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    store.put_dataset(shards, quiet)
    store.put_blobs(RUN, inputs(tmp_path, "job.json"), quiet)
    data, shared = store.stored()
    assert data.key == shards.key
    assert data.size is not None
    assert data.size > shards.size
    assert data.made is not None
    assert abs(data.made - time.time()) < 60
    for stored in (data, shared, data):
        assert store.discard(stored) == []
    assert names_in(storage) == []


def test_access_is_checked_in_one_request(store: Store, storage: StorageEmulator) -> None:
    store.check()
    assert len(storage.requests) == 1
    with pytest.raises(NotFoundError, match="there is no bucket gs://nothing"):
        Store("nothing").check()
    storage.faults.add("403")
    with pytest.raises(CredentialError, match="403") as refused:
        store.check()
    assert "objectUser" in str(refused.value.remedy)
    storage.faults.add("503", times=None)
    with pytest.raises(RemoteError):
        Store(BUCKET, seconds=0.2).check()


def test_constructing_asks_nothing_and_imports_no_client() -> None:
    import subprocess
    import sys

    code = "import sys; from backends.gcp.store import Store; Store('x').attempt('a', 'b', 1); "
    code += "print([name for name in sys.modules if name.startswith(('google', 'requests', 'urllib3'))])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", "x\n", "."])
def test_names_that_cannot_be_in_a_bucket_are_refused(name: str, store: Store) -> None:
    with pytest.raises(ValueError, match="cannot be part"):
        store.config(name, "a1", 1)
    with pytest.raises(ValueError, match="cannot be part"):
        store.attempt("run", name, 1)
