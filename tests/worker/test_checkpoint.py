"""Copies set aside: killed at any point, torn or altered, there is a whole one to go on from, or none is claimed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.sync.manifest import parse
from launcher.worker import manifest
from launcher.worker.box import Box
from launcher.worker.training import checkpoint
from tests.worker.laid import ROOT


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(str(tmp_path / "box"))
    made.make()
    Path(made.train, "weights").mkdir(parents=True)
    Path(made.inbox).mkdir()
    Path(made.inbox, "attempt.json").write_text("{}")
    return made


def train(box: Box, epoch: int) -> None:
    """What Ultralytics leaves after an epoch."""
    for name in ("last", "best"):
        Path(box.train, "weights", f"{name}.pt").write_bytes(f"{name} of {epoch}".encode() * 100)
    rows = "".join(f"{n},{n}\n" for n in range(1, epoch + 1))
    Path(box.train, "results.csv").write_text("epoch,time\n" + rows)
    Path(box.train, "args.yaml").write_text(f"epochs: 9\nepoch: {epoch}\n")


def aside(box: Box, epoch: int, **more: Any) -> checkpoint.Checkpoint:
    train(box, epoch)
    return checkpoint.set_aside(box, epoch, more.get("stop", False), more.get("best_is_last", False))


def here(box: Box) -> list[str]:
    return sorted(path.name for path in Path(box.checkpoints).iterdir())


def of(found: checkpoint.Checkpoint | None) -> int:
    """The epoch of a checkpoint whose bytes are that epoch's; 0 for none."""
    if found is None:
        return 0
    assert Path(found.path("last.pt")).read_bytes() == f"last of {found.epoch}".encode() * 100
    assert Path(found.path("results.csv")).read_text().splitlines()[-1] == f"{found.epoch},{found.epoch}"
    return found.epoch


def syscalls(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Arm a kill before the n-th call that changes the disk."""
    left = [0]
    places = [(os, "rename"), (os, "replace"), (os, "makedirs"), (os, "link"), (shutil, "copyfile"), (shutil, "rmtree")]

    def patch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if name == "copyfile":  # half a copy
                    Path(args[1]).write_bytes(Path(args[0]).read_bytes()[:7])
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module, name in places:
        patch(module, name)
    return lambda number: left.__setitem__(0, number)


def test_the_newest_two_are_kept(box: Box) -> None:
    for epoch in (1, 2, 3):
        assert aside(box, epoch).epoch == epoch
    assert here(box) == ["000002", "000003"]
    assert of(checkpoint.newest(box)) == 3


def test_none_is_none(box: Box) -> None:
    assert checkpoint.newest(box) is None
    assert checkpoint.adopt(box) is None


def test_killed_anywhere_in_setting_aside_there_is_a_whole_one(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = syscalls(monkeypatch)
    number, seen = 0, set()
    while True:
        number += 1
        arm(0)
        shutil.rmtree(box.checkpoints, ignore_errors=True)
        aside(box, 1)
        aside(box, 2)
        train(box, 3)
        arm(number)
        try:
            checkpoint.set_aside(box, 3, False, best_is_last=True)
        except Killed:
            arm(0)
            found = of(checkpoint.newest(box))
            assert found in (2, 3)
            seen.add(found)
            assert aside(box, 4).epoch == 4
            assert all(name.isdigit() for name in here(box)), "what a killed copy left is swept up"
        else:
            break
    assert number > 6
    assert seen == {2, 3}


def test_killed_by_the_system_while_it_sets_aside_the_newest_is_whole(box: Box) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launcher.worker.training import checkpoint
from launcher.worker.box import Box
box = Box({box.root!r})
for epoch in range(1, 10000):
    open(box.train + "/weights/last.pt", "wb").write(b"%d" % epoch * 200000)
    checkpoint.set_aside(box, epoch, False, True)
"""
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", script])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()
        process.wait()
        found = checkpoint.newest(box)
        assert found is not None
        assert Path(found.path("last.pt")).read_bytes() == str(found.epoch).encode() * 200000
        assert found.path("best.pt").endswith(f"{found.epoch:06d}/best.pt")


@pytest.mark.parametrize(
    "tear",
    [
        lambda folder: (folder / "last.pt").write_bytes(b""),
        lambda folder: (folder / "results.csv").write_bytes(b"epoch"),
        lambda folder: (folder / "last.pt").unlink(),
        lambda folder: (folder / checkpoint.META).unlink(),
        lambda folder: (folder / checkpoint.META).write_text("{"),
        lambda folder: (folder / checkpoint.META).write_text("[]"),
        lambda folder: (folder / checkpoint.META).write_text('{"epoch": 2, "stop": false, "files": [1]}'),
        lambda folder: (folder / checkpoint.META).write_text('{"epoch": 2, "stop": false, "files": []}'),
        lambda folder: (folder / checkpoint.META).write_text('{"epoch": "x", "stop": false, "files": []}'),
    ],
)
def test_a_torn_set_is_passed_over_and_replaced(box: Box, tear: Callable[[Path], Any]) -> None:
    aside(box, 1)
    tear(Path(aside(box, 2).folder))
    assert of(checkpoint.newest(box)) == 1
    assert of(aside(box, 2)) == 2
    assert of(checkpoint.newest(box)) == 2


def test_a_set_of_which_nothing_is_whole_is_not_used(box: Box) -> None:
    for epoch in (1, 2):
        (Path(aside(box, epoch).folder) / "best.pt").write_bytes(b"torn")
    assert checkpoint.newest(box) is None


def test_where_no_links_can_be_made_it_copies(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "links are not to be had here")

    monkeypatch.setattr(os, "link", refuse)
    train(box, 1)
    found = checkpoint.set_aside(box, 1, False, best_is_last=True)
    assert Path(found.path("best.pt")).read_bytes() == Path(found.path("last.pt")).read_bytes()


def sent(box: Box, epoch: int = 4) -> None:
    """A checkpoint that came with the attempt."""
    folder = Path(box.inbox, "resume")
    folder.mkdir()
    train(box, epoch)
    files = []
    for name, path in checkpoint.TARGETS.items():
        shutil.copyfile(Path(box.out, path), folder / name)
        data = (folder / name).read_bytes()
        files.append({"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
    shutil.rmtree(box.train)
    meta = {"resume": {"epoch": epoch, "stop": False, "files": files}}
    Path(box.inbox, "attempt.json").write_text(json.dumps(meta))


def test_what_was_sent_becomes_the_boxs_own(box: Box) -> None:
    sent(box)
    assert of(checkpoint.adopt(box)) == 4
    assert of(checkpoint.newest(box)) == 4


def test_killed_anywhere_in_adopting_it_is_adopted_the_next_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    sent(box)
    arm = syscalls(monkeypatch)
    number = 0
    while True:
        number += 1
        arm(0)
        shutil.rmtree(box.checkpoints, ignore_errors=True)
        arm(number)
        try:
            checkpoint.adopt(box)
        except Killed:
            arm(0)
            assert of(checkpoint.newest(box) or checkpoint.adopt(box)) == 4
        else:
            break
    assert number > 4


def test_what_was_altered_on_the_way_is_refused(box: Box) -> None:
    sent(box)
    Path(box.inbox, "resume/last.pt").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"last\.pt"):
        checkpoint.adopt(box)
    assert checkpoint.newest(box) is None


def test_restoring_puts_the_epoch_back_whole_and_drops_later_rows(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    aside(box, 2)
    arm = syscalls(monkeypatch)
    number = 0
    while True:
        number += 1
        arm(0)
        train(box, 3)
        found = checkpoint.newest(box)
        assert found is not None
        arm(number)
        try:
            checkpoint.restore(box, found)
        except Killed:
            arm(0)
            checkpoint.restore(box, found)
            ended = False
        else:
            ended = True
        assert Path(box.train, "weights/last.pt").read_bytes() == b"last of 2" * 100
        assert Path(box.train, "results.csv").read_text() == "epoch,time\n1,1\n2,2\n"
        assert not any(".part-" in path for path in manifest.train_files(box.out))
        if ended:
            break


def test_what_is_restored_is_what_the_manifest_lists(box: Box) -> None:
    sent(box)
    adopted = checkpoint.adopt(box)
    assert adopted is not None
    checkpoint.restore(box, adopted)
    train(box, 5)  # the next epoch has begun to write
    found = parse(Path(box.manifest).read_bytes())
    assert (found.kind, found.complete, found.epoch, found.stop) == ("epoch", False, 4, False)
    assert {entry.path for entry in found.files} == {*checkpoint.TARGETS.values()}
    for entry in found.files:
        assert hashlib.sha256(Path(box.out, entry.at).read_bytes()).hexdigest() == entry.sha256


def test_that_an_epoch_was_the_last_can_be_said_afterwards(box: Box) -> None:
    checkpoint.ends(box, aside(box, 2))
    found = checkpoint.newest(box)
    assert of(found) == 2
    assert found is not None
    assert found.stop
    assert parse(Path(box.manifest).read_bytes()).stop


def test_the_manifest_of_an_ended_training_names_copies_and_not_torn_weights(box: Box) -> None:
    aside(box, 2)
    Path(box.train, "weights/last.pt").write_bytes(b"torn")
    Path(box.train, "weights/last.pt.part-7").write_bytes(b"half")
    Path(box.train, "link").symlink_to("/etc/passwd")
    manifest.write_final(box, complete=False)
    found = parse(Path(box.manifest).read_bytes())
    assert (found.complete, found.epoch) == (False, 2)
    assert {entry.path for entry in found.files} == {*checkpoint.TARGETS.values()}
    for entry in found.files:
        data = Path(box.out, entry.at).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)
