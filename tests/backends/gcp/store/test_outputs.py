"""Files come out of the store with the bytes that the worker's manifest names; the fence holds."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from backends.gcp.store import Store
from backends.gcp.store.carrier.names import AttemptNames
from backends.gcp.store.carrier.objects import Objects
from backends.gcp.store.carrier.outputs import KEEP, OutputCarrier
from launcher.errors import RemoteError
from tests.backends.gcp.store.world import BUCKET, RUN, Dying, FakeBox, KilledError, names_in, slow
from tests.emulators.storage import StorageEmulator


def carrier_of(box: FakeBox, objects: Objects | None = None) -> OutputCarrier:
    names = AttemptNames(RUN, box.attempt)
    return OutputCarrier(objects or Objects(BUCKET, "samerun", seconds=5), names, box.number, box.worker.out)


def assert_all_came(store: Store, box: FakeBox, to: Path) -> None:
    """What is fetched is what the box's manifest lists, byte for byte, and the manifest itself."""
    outbox = store.attempt(RUN, box.attempt, box.number)
    paths = [file.path for file in outbox.files() or ()]
    assert outbox.fetch(paths, to) == {}
    assert (to / "manifest.json").read_bytes() == Path(box.worker.manifest).read_bytes()
    assert set(paths) == {"manifest.json", *(entry["at"] for entry in box.entries())}
    for entry in box.entries():
        assert hashlib.sha256((to / entry["at"]).read_bytes()).hexdigest() == entry["sha256"]
    assert not list(to.rglob("*.part-*"))


def test_each_epoch_can_be_fetched_while_the_training_runs(box: FakeBox, store: Store, tmp_path: Path) -> None:
    carrier = carrier_of(box)
    assert store.attempt(RUN, box.attempt, 1).files() is None
    for epoch in (1, 2, 3):
        box.epoch(epoch)
        assert carrier.step()
        assert not carrier.step()
        assert_all_came(store, box, tmp_path / str(epoch))
    latest = store.latest(RUN)
    assert latest is not None
    assert (latest.attempt, latest.record, latest.number) == (box.attempt, 3, 1)


def test_what_is_there_is_not_sent_again_by_a_later_carrier_or_attempt(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.epoch(1, size=50_000)
    carrier_of(box).step()
    storage.requests.clear()
    other = FakeBox(tmp_path / "other", f"{RUN}-a2", 2)
    other.epoch(1, size=50_000)
    carrier_of(other).step()
    assert sum(call.received for call in storage.requests) < 10_000
    assert_all_came(store, other, tmp_path / "came")


def test_blobs_of_old_epochs_go_and_those_of_the_newest_stay(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    carrier = carrier_of(box)
    for epoch in range(1, 9):
        box.epoch(epoch)
        carrier.step()
        if epoch == 5:
            carrier = carrier_of(box)
    records = [name for name in names_in(storage) if "/records/" in name]
    assert len(records) == 8
    kept = set()
    for name in records[-KEEP:]:
        kept |= {file["sha256"] for file in json.loads(storage.read(BUCKET, f"samerun/{name}"))["files"].values()}
    assert {name.rpartition("/")[2] for name in names_in(storage) if f"{RUN}/objects/" in name} == kept
    assert_all_came(store, box, tmp_path / "came")


def test_an_earlier_attempt_cannot_take_the_pointer_back(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    """The zombie: its machine was thought dead, and carries on."""
    zombie = carrier_of(box)
    box.epoch(1)
    zombie.step()
    store.attempt(RUN, f"{RUN}-a2", 2).open()
    held = store.latest(RUN)
    assert held is not None
    assert (held.holder, held.number, held.attempt, held.record) == (f"{RUN}-a2", 2, box.attempt, 1)
    before = storage.objects(BUCKET)[f"samerun/runs/{RUN}/LATEST.json"].generation
    for epoch in range(2, 8):
        box.epoch(epoch)
        zombie.step()
    assert zombie.fenced == f"{RUN}-a2"
    assert storage.objects(BUCKET)[f"samerun/runs/{RUN}/LATEST.json"].generation == before
    assert store.attempt(RUN, box.attempt, 1).fetch(["checkpoint/000001/last.pt"], tmp_path / "came") != {}
    record = json.loads(storage.read(BUCKET, f"samerun/{AttemptNames(RUN, box.attempt).record(1)}"))
    there = names_in(storage)
    assert all(f"runs/{RUN}/objects/{file['sha256']}" in there for file in record["files"].values())
    with pytest.raises(RemoteError, match="has taken over"):
        store.attempt(RUN, box.attempt, 1).open()


def test_the_fence_holds_in_the_middle_of_a_swap(
    box: FakeBox, store: Store, storage: StorageEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = carrier_of(box)
    box.epoch(1)
    original = Objects.swap

    def late(self: Objects, name: str, data: bytes, generation: int) -> int:
        if name.endswith("LATEST.json"):
            monkeypatch.setattr(Objects, "swap", original)
            store.attempt(RUN, f"{RUN}-a2", 2).open()
        return original(self, name, data, generation)

    monkeypatch.setattr(Objects, "swap", late)
    zombie.step()
    latest = store.latest(RUN)
    assert latest is not None
    assert latest.holder == f"{RUN}-a2"
    assert zombie.fenced == f"{RUN}-a2"


def test_a_swap_whose_reply_was_lost_is_known_as_ours(box: FakeBox, store: Store, storage: StorageEmulator) -> None:
    carrier = carrier_of(box)
    box.epoch(1)
    storage.faults.add("lose-reply", on=f"{BUCKET}/samerun/runs/{RUN}/LATEST.json")
    assert carrier.step()
    assert not storage.faults.waiting()
    latest = store.latest(RUN)
    assert latest is not None
    assert latest.record == 1
    assert not carrier.fenced


@pytest.mark.parametrize("seed", [*range(5), *slow(*range(5, 300))])
def test_killed_anywhere_the_newest_manifest_still_comes(
    seed: int, box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    objects = Dying(chance, 0.2)
    carrier = carrier_of(box, objects)
    content: dict[str, tuple[int, str]] = {}
    for epoch in range(1, 8):
        box.epoch(epoch, size=chance.choice((100, 3000)))
        for _ in range(3):
            try:
                carrier.step()
            except KilledError:
                if chance.random() < 0.5:
                    objects.late()
                carrier = carrier_of(box, objects)
        if chance.random() < 0.3:
            objects.late()
        for name, version in storage.objects(BUCKET).items():
            if "/records/" in name:
                seen = (version.generation, hashlib.sha256(version.content.read()).hexdigest())
                assert content.setdefault(name, seen) == seen, f"{name} has changed"
    last = carrier_of(box)
    while last.step(final=True):
        pass
    objects.late()
    last = carrier_of(box)
    while last.step(final=True):
        pass
    assert_all_came(store, box, tmp_path / "came")
    numbers = [int(name.rpartition("/")[2]) for name in names_in(storage) if "/records/" in name]
    assert numbers == list(range(1, len(numbers) + 1))
    latest = store.latest(RUN)
    assert latest is not None
    assert latest.record == numbers[-1]
    assert last.lost == []


def test_a_record_that_arrives_late_is_taken_as_it_is(box: FakeBox, store: Store, tmp_path: Path) -> None:
    carrier = carrier_of(box)
    assert not carrier.step()
    box.epoch(1)
    carrier_of(box).step()
    assert carrier.step()
    assert not carrier.step()
    assert carrier.record == 1
    box.epoch(2)
    assert carrier.step()
    assert_all_came(store, box, tmp_path / "came")


@pytest.mark.parametrize("how", ["rot", "swap", "cut", "gone"])
def test_what_was_damaged_in_the_bucket_does_not_come_home(
    how: str, box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.epoch(1)
    carrier_of(box).step()
    entries = {entry["at"]: f"samerun/runs/{RUN}/objects/{entry['sha256']}" for entry in box.entries()}
    last, best = "checkpoint/000001/last.pt", "checkpoint/000001/best.pt"
    if how == "rot":
        storage.rot(BUCKET, entries[last], 7)
    elif how == "swap":
        storage.swap(BUCKET, entries[last], entries[best])
    elif how == "cut":
        storage.put(BUCKET, entries[last], storage.read(BUCKET, entries[last])[:-1])
    else:
        Objects(BUCKET, "").bucket.blob(entries[last]).delete()
    to = tmp_path / "came"
    wrong = store.attempt(RUN, box.attempt, 1).fetch(list(entries), to)
    assert last in wrong
    assert not (to / last).exists()
    assert (to / best).exists() == (how != "swap")
    assert not list(to.rglob("*.part-*"))


def test_what_was_damaged_is_sent_again_before_the_last_word(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.epoch(1)
    carrier = carrier_of(box)
    carrier.step()
    first, second, *_ = [f"samerun/runs/{RUN}/objects/{entry['sha256']}" for entry in box.entries()]
    storage.put(BUCKET, first, b"nonsense")
    Objects(BUCKET, "").bucket.blob(second).delete()
    storage.put(BUCKET, f"samerun/{AttemptNames(RUN, box.attempt).record(1)}", b"{}")
    while carrier.step(final=True):
        pass
    assert_all_came(store, box, tmp_path / "came")
    assert carrier.lost == []


def test_a_file_that_changed_since_its_manifest_is_named_and_not_carried(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.start().epoch(1)
    box.end()
    Path(box.worker.train, "results.csv").write_text("other\n")
    Path(box.worker.train, "weights/last.pt").unlink()
    carrier = carrier_of(box)
    assert not carrier.step()
    while carrier.step(final=True):
        pass
    outbox = store.attempt(RUN, box.attempt, 1)
    paths = {file.path for file in outbox.files() or ()}
    assert "train/results.csv" not in paths
    assert "train/weights/best.pt" in paths
    assert set(outbox.fetch(["train/results.csv", "train/weights/last.pt"], tmp_path)) == {
        "train/results.csv",
        "train/weights/last.pt",
    }


def test_links_and_paths_out_of_the_outbox_are_not_carried(box: FakeBox, storage: StorageEmulator) -> None:
    secret = box.root / "secret"
    secret.write_text("secret")
    Path(box.worker.out, "link").symlink_to(secret)
    digest = hashlib.sha256(b"secret").hexdigest()
    for at in ("link", "../secret", str(secret)):
        files = [{"path": "train/x", "at": at, "size": 6, "sha256": digest}]
        Path(box.worker.manifest).write_text(json.dumps({"version": 1, "kind": "final", "files": files}))
        carrier_of(box).step(final=True)
    assert not [name for name in names_in(storage) if name.endswith(digest)]


def test_paths_that_a_reader_asks_for_lead_nowhere_else(
    box: FakeBox, store: Store, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.epoch(1)
    carrier_of(box).step()
    asked = ["../x", "/etc/passwd", "train/../../x", "nothing"]
    assert set(store.attempt(RUN, box.attempt, 1).fetch(asked, tmp_path / "to")) == set(asked)


def test_a_store_that_does_not_answer_is_an_error_and_what_came_stays(
    box: FakeBox, storage: StorageEmulator, tmp_path: Path
) -> None:
    box.epoch(1)
    carrier_of(box).step()
    entry = box.entries()[0]
    storage.faults.add("503", on=f"{BUCKET}/samerun/runs/{RUN}/objects/{entry['sha256']}", times=None)
    with pytest.raises(RemoteError):
        Store(BUCKET, seconds=0.5).attempt(RUN, box.attempt, 1).fetch([e["at"] for e in box.entries()], tmp_path)
    assert [other["at"] for other in box.entries() if not (tmp_path / other["at"]).exists()] == [entry["at"]]
    assert not list(tmp_path.rglob("*.part-*"))
