"""Bringing files home: whole, with their digests, all of a checkpoint or nothing, wherever it is killed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.errors import RemoteError, StorageError
from launcher.sync import install as module
from launcher.sync import manifest as manifests
from launcher.sync.install import INCOMING, READY, settle
from tests.sync.outbox import Fault, Outbox, state

FILES = {
    "train/weights/last.pt": b"last of 1" * 50,
    "train/weights/best.pt": b"best of 1" * 50,
    "train/results.csv": b"epoch\n1\n",
    "train/args.yaml": b"epochs: 3\n",
    "train/labels.jpg": b"picture 1" * 9,
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    return made


def later(epoch: int = 2) -> Outbox:
    """The outbox one epoch on: the checkpoint is another, args.yaml is the same."""
    changed = {path: data.replace(b"1", str(epoch).encode()) for path, data in FILES.items()}
    return Outbox({**changed, "train/args.yaml": FILES["train/args.yaml"]}, epoch)


class Died(Outbox):
    """Of an attempt that ended before its first epoch: neither complete nor with a checkpoint."""

    def manifest(self) -> bytes:
        return super().manifest().replace(b'"complete": true', b'"complete": false')


def whole(folder: Path, outbox: Outbox) -> bool:
    return state(folder) == {**outbox.files, "manifest.json": outbox.manifest()}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def linked_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to("real")


def drop(path: Path) -> None:
    path.unlink()


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: list[Fault] = [truncate, flip, link, linked_folder, drop, into_a_folder]


def test_only_what_changed_is_fetched(folder: Path) -> None:
    first = Outbox(FILES, 1)
    assert first.install(folder).whole
    assert sorted(first.fetched) == sorted(FILES)
    again = Outbox(FILES, 1)
    assert again.install(folder).unchanged == tuple(sorted(FILES))
    assert again.fetched == []
    second = later()
    assert second.install(folder).whole
    assert sorted(second.fetched) == sorted(set(FILES) - {"train/args.yaml"})
    assert whole(folder, second)


def test_what_must_not_be_lost_is_fetched_first(folder: Path) -> None:
    outbox = Outbox(FILES, 1)
    outbox.install(folder)
    assert {Path(path).name for path in outbox.fetched[:3]} == {"results.csv", "last.pt", "best.pt"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_file_that_comes_wrong_once_is_fetched_again(folder: Path, fault: Fault) -> None:
    outbox = Outbox(FILES, 1)
    outbox.faults["train/weights/last.pt"] = [fault]
    found = outbox.install(folder)
    assert found.whole
    assert outbox.fetched.count("train/weights/last.pt") == 2
    assert outbox.fetched.count("train/labels.jpg") == 1
    assert whole(folder, outbox)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_file_that_is_always_wrong_is_named_and_never_installed(folder: Path, fault: Fault) -> None:
    outbox = Outbox(FILES, 1)
    outbox.faults["train/weights/best.pt"] = [fault] * 9
    found = outbox.install(folder)
    assert "train/weights/best.pt" in found.wrong
    assert outbox.fetched.count("train/weights/best.pt") == module.TRIES
    assert set(found.wrong) <= {"train/weights/best.pt", "train/weights/last.pt"}, "its folder may be the fault's"
    here = state(folder)
    assert "train/weights/best.pt" not in here
    assert "manifest.json" not in here
    assert all(here[path] == FILES[path] for path in here)


def test_swapped_files_are_both_named(folder: Path) -> None:
    outbox = Outbox(FILES, 1)
    one, other = "train/weights/last.pt", "train/weights/best.pt"

    def swapped(path: Path) -> None:
        path.write_bytes(FILES[other if path.name == "last.pt" else one])

    outbox.faults = {one: [swapped] * 9, other: [swapped] * 9}
    assert set(outbox.install(folder).wrong) == {one, other}


def test_half_of_a_new_checkpoint_never_displaces_the_old_one(folder: Path) -> None:
    old, new = Outbox(FILES, 1), later()
    old.install(folder)
    new.faults["train/weights/best.pt"] = [flip] * 9
    assert not new.install(folder).whole
    assert whole(folder, old)
    new.fetched.clear()
    new.faults.clear()
    assert new.install(folder).whole
    assert new.fetched == ["train/weights/best.pt"], "what had come and been checked is not fetched again"
    assert whole(folder, new)


def test_beside_a_checkpoint_only_other_files_come(folder: Path) -> None:
    old = Outbox(FILES, 1)
    old.install(folder)
    died = Died({**later().files, "train/train_batch0.jpg": b"new"})
    assert died.install(folder).installed == ("train/train_batch0.jpg",)
    assert died.fetched == ["train/train_batch0.jpg"]
    here = state(folder)
    assert here.pop("train/train_batch0.jpg") == b"new"
    assert here == {**old.files, "manifest.json": old.manifest()}


@pytest.mark.parametrize("path", ["train/args.yaml", "train/labels.jpg"])
def test_a_file_that_never_comes_holds_up_no_checkpoint(folder: Path, path: str) -> None:
    old, new = Outbox(FILES, 1), later()
    old.install(folder)
    new.files["train/args.yaml"] = b"changed"
    new.faults[path] = [flip] * 9
    found = new.install(folder)
    assert set(found.wrong) == {path}
    assert found.checkpoint
    here = state(folder)
    manifest = manifests.parse(here.pop("manifest.json"))
    assert manifest.epoch == 2
    assert not manifest.complete
    assert path not in {entry.path for entry in manifest.files}
    assert here == {**new.files, path: old.files[path]}
    new.faults.clear()
    assert new.install(folder).installed == (path,)
    assert whole(folder, new)


@pytest.mark.parametrize("path", manifests.CHECKPOINT)
def test_a_checkpoint_that_is_not_whole_is_said(folder: Path, path: str) -> None:
    outbox = later()
    outbox.faults[path] = [flip] * 9
    assert not outbox.install(folder).checkpoint
    assert "manifest.json" not in state(folder)


def test_an_older_checkpoint_changes_nothing(folder: Path) -> None:
    new = later(3)
    new.install(folder)
    assert later(2).install(folder).checkpoint
    assert whole(folder, new)


def test_an_unfinished_set_never_replaces_a_finished_one(folder: Path) -> None:
    final = Outbox({path: data + b", final" for path, data in FILES.items()})
    final.install(folder)
    behind = later(9)
    behind.files["train/more.jpg"] = b"more"
    assert behind.install(folder).installed == ()
    assert behind.fetched == []
    assert whole(folder, final)


def test_which_is_older_is_decided_when_it_is_its_turn(folder: Path) -> None:
    """Two collections at once: the manifest of the slow one was the newest when it was read."""
    slow, final = later(2), Outbox({path: data + b", final" for path, data in FILES.items()})
    began, go_on = threading.Event(), threading.Event()

    def wait(path: Path) -> None:
        began.set()
        go_on.wait(10)

    final.faults["train/results.csv"] = [wait]
    threads = [threading.Thread(target=final.install, args=(folder,))]
    threads[0].start()
    began.wait(10)
    threads.append(threading.Thread(target=slow.install, args=(folder,)))
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert whole(folder, final)


def test_what_an_earlier_manifest_had_asked_for_is_not_taken_for_this_one_s(folder: Path) -> None:
    Outbox(FILES, 1).install(folder)
    stuck = later(2)
    stuck.faults["train/weights/last.pt"] = [flip] * 9
    stuck.install(folder)
    third = later(3)
    third.files["train/labels.jpg"] = FILES["train/labels.jpg"]  # as it is here; another waits among what came
    assert third.install(folder).whole
    assert whole(folder, third)


def test_what_a_failing_fetch_had_brought_is_not_fetched_again(folder: Path) -> None:
    outbox = Outbox(FILES, 1)

    def hang_up(path: Path) -> None:
        path.unlink()
        raise RemoteError("gone")

    outbox.faults["train/labels.jpg"] = [hang_up]
    with pytest.raises(RemoteError):
        outbox.install(folder)
    here = state(folder)
    manifest = manifests.parse(here.pop("manifest.json"))
    assert here == {path: data for path, data in FILES.items() if path != "train/labels.jpg"}
    assert {entry.path for entry in manifest.files} == set(here)
    assert manifest.epoch == 1
    came = set(outbox.fetched)
    outbox.fetched.clear()
    assert outbox.install(folder).whole
    assert not (came - {"train/labels.jpg"}) & set(outbox.fetched)
    assert whole(folder, outbox)


def kills(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Arm a kill before the n-th rename of a file (or a folder)."""
    left = [0]
    original = {name: getattr(Path, name) for name in ("replace", "rename")}

    def patched(name: str) -> Callable[[Path, Path], Path]:
        def call(self: Path, target: Path) -> Path:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            found: Path = original[name](self, target)
            return found

        return call

    for name in original:
        monkeypatch.setattr(Path, name, patched(name))
    return lambda number: left.__setitem__(0, number)


def test_killed_at_any_rename_the_checkpoint_is_the_old_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Outbox(FILES, 1), later()
    arm = kills(monkeypatch)
    number, seen = 0, set()
    while True:
        number += 1
        shutil.rmtree(folder)
        folder.mkdir()
        arm(0)
        Outbox(FILES, 1).install(folder)
        arm(number)
        try:
            new.install(folder)
        except Killed:
            arm(0)
            settle(folder)
            is_old, is_new = whole(folder, old), whole(folder, new)
            assert is_old != is_new, f"killed at rename {number}: {sorted(state(folder))}"
            seen.add(is_new)
            assert new.install(folder).whole
            assert whole(folder, new)
            assert not (folder / READY).exists()
        else:
            break
    assert number > 8
    assert seen == {True, False}


def test_two_at_once_leave_one_whole_set(folder: Path) -> None:
    outboxes = [Outbox(FILES, 1), later(), later(3)]
    threads = [threading.Thread(target=outbox.install, args=(folder,)) for outbox in outboxes * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(whole(folder, outbox) for outbox in outboxes) == 1


def test_a_file_changed_here_is_brought_again(folder: Path) -> None:
    outbox = Outbox(FILES, 1)
    outbox.install(folder)
    (folder / "train/results.csv").write_bytes(b"epoch\n2\n")
    assert outbox.install(folder).installed == ("train/results.csv",)
    assert whole(folder, outbox)


def test_a_link_here_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(FILES["train/results.csv"])
    (folder / "train").mkdir()
    (folder / "train/results.csv").symlink_to(victim)
    Outbox({"train/results.csv": b"other"}, 1).install(folder)
    assert victim.read_bytes() == FILES["train/results.csv"]
    assert (folder / "train/results.csv").read_bytes() == b"other"


def test_a_folder_in_the_way_is_a_storage_error(folder: Path) -> None:
    (folder / "train/labels.jpg/x").mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        Outbox(FILES, 1).install(folder)
    assert "labels.jpg" in caught.value.message
    assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_folder_is_a_storage_error(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError) as caught:
            Outbox(FILES, 1).install(folder)
    finally:
        folder.chmod(0o700)
    assert str(folder) in caught.value.message
    assert "SAMERUN_RUNS_DIR" in (caught.value.remedy or "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_an_unwritable_disk_is_a_storage_error(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError) as caught:
        Outbox(FILES, 1).install(folder)
    assert "results.csv" in caught.value.message
    assert caught.value.remedy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 256 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_keeps_the_old_checkpoint_and_names_the_file(small_disk: Path) -> None:
    old = Outbox(FILES, 1)
    old.install(small_disk)
    new = later()
    new.files["train/weights/last.pt"] = os.urandom(300_000)
    with pytest.raises(StorageError) as caught:
        new.install(small_disk)
    assert str(small_disk) in caught.value.message
    assert "free" in (caught.value.remedy or "")
    assert whole(small_disk, old)
    new.files["train/weights/last.pt"] = b"smaller"
    assert new.install(small_disk).whole
    assert whole(small_disk, new)
    assert not (small_disk / INCOMING).exists()
