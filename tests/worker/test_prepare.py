"""The script that makes a dataset of what is attached: run once, seen while it runs, and never half believed."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.worker.box import Box
from launcher.worker.data import listing
from tests.data.trees import sound, write
from tests.worker.laid import Laid, alive, until

BEFORE = [["{python}", "{worker}", "prepare", "{box}"]]
SPLIT = """
import os, sys
source, target = sys.argv[1:]
print("making", len(os.listdir(source)), flush=True)
open(os.path.join(target, "..", "runs"), "a").write("x")
for split in ("train", "val"):
    for kind in ("images", "labels"):
        os.makedirs(os.path.join(target, kind, split))
for number, name in enumerate(sorted(os.listdir(source))):
    split = "val" if number == 0 else "train"
    os.symlink(os.path.join(source, name), os.path.join(target, "images", split, name))
    with open(os.path.join(target, "labels", split, name[:-4] + ".txt"), "w") as stream:
        stream.write("0 0.5 0.5 0.2 0.2\\n")
with open(os.path.join(target, "val.txt"), "w") as stream:
    stream.write(os.path.join(target, "images", "val", sorted(os.listdir(source))[0]))
with open(os.path.join(target, "data.yaml"), "w") as stream:
    stream.write(f"path: {target}\\ntrain: images/train\\nval: val.txt\\nnames: [star]\\n")
"""
TRAIN = """
from samerun_worker.data import view
from samerun_worker.data import listing
listing.ensure(box, emit)
say(view.make(box) + "\\n")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is attached: three pictures and nothing that says what they are."""
    sound(tmp_path / "sound")
    pictures = sorted((tmp_path / "sound").rglob("*.png"))[:3]
    write(tmp_path / "attached", {path.name: path.read_bytes() for path in pictures})
    return tmp_path / "attached"


def box_with(root: Path, source: Path, script: str | None, payload: str = TRAIN, **more: Any) -> Laid:
    box = Laid(root / "box", payload)
    files = {}
    if script is not None:
        (box.root / "in/prepare.py").write_text(script)
        files["prepare.py"] = hashlib.sha256(script.encode()).hexdigest()
    box.describe(before=BEFORE, data_root=str(source), **{"files": files, **more})
    return box


def test_a_dataset_is_made_of_what_is_attached_and_trained_on(tmp_path: Path, source: Path) -> None:
    before = {path: path.read_bytes() for path in source.iterdir()}
    box = box_with(tmp_path, source, SPLIT)
    assert box.run() == 0
    assert "making 3" in box.log
    names = [event["event"] for event in box.events]
    assert names == ["preparing", "prepared", "preparing", "dataset", "done"]
    (event,) = box.named("dataset")
    assert (event["n_train"], event["n_val"], event["yaml"]) == (2, 1, "data.yaml")
    view = Path(box.log[-1])
    assert len((view.parent / "train.txt").read_text().splitlines()) == 2
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_the_same_script_on_another_machine_makes_the_same_dataset(tmp_path: Path, source: Path) -> None:
    marks = []
    for name in ("one", "two"):
        box = box_with(tmp_path / name, source, SPLIT)
        assert box.run() == 0
        marks.append(box.named("dataset")[0]["fingerprint"])
    assert marks[0] == marks[1]


def test_a_training_that_is_started_again_does_not_make_it_again(tmp_path: Path, source: Path) -> None:
    kill = TRAIN + "\nif restart == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
    box = box_with(tmp_path, source, SPLIT, kill)
    assert box.run() == 0
    assert [event["code"] for event in box.named("warning")] == ["trainer-killed"]
    assert box.mark("runs").read_text() == "x"
    assert len(box.named("dataset")) == 1


def test_what_is_made_is_kept_and_what_is_half_made_is_not(tmp_path: Path, source: Path) -> None:
    box = box_with(tmp_path, source, SPLIT)
    write(box.root / "work/prepared", {"data.yaml": "half", "images/train/old.png": "old"})
    assert box.run() == 0
    assert not (box.root / "work/prepared/images/train/old.png").exists()
    (box.root / "state/started").unlink()
    assert box.run() == 0
    assert box.mark("runs").read_text() == "x"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("print('no such class', flush=True)\nraise SystemExit(3)\n", "ended with exit code 3"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "was killed by signal 9"),
        ("import sys\nopen(sys.argv[2] + '/other.yaml', 'w')\n", "has left no dataset"),
        ("def broken(:\n", "ended with exit code 1"),
    ],
)
def test_a_script_that_fails_ends_the_attempt_with_its_reason(
    tmp_path: Path, source: Path, script: str, says: str
) -> None:
    box = box_with(tmp_path, source, script)
    assert box.run() == 1
    assert box.exit["outcome"] == "failed"
    assert f"prepare.py: {says}" in box.exit["reason"]
    assert box.exit["code"] == "prepare-failed"
    assert not (box.root / "work/prepared.done").exists()
    assert not box.named("dataset")
    if "class" in script:
        assert "no such class" in box.log


def test_a_script_that_was_not_sent_is_not_run(tmp_path: Path, source: Path) -> None:
    box = box_with(tmp_path, source, SPLIT, files={"prepare.py": "0" * 64})
    assert box.run() == 1
    assert "not the one that was sent" in box.exit["reason"]
    assert not box.mark("runs").exists()


def test_without_a_script_nothing_is_done(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    box = box_with(tmp_path, tmp_path / "data", None)
    assert box.run() == 0
    assert [event["event"] for event in box.events] == ["preparing", "dataset", "done"]


def test_what_is_not_attached_is_said(tmp_path: Path) -> None:
    box = box_with(tmp_path, tmp_path / "gone", SPLIT)
    assert box.run() == 1
    assert "the attached data is not here" in box.exit["reason"]


def test_a_cancelled_attempt_ends_its_script(tmp_path: Path, source: Path) -> None:
    wait = "import os, sys, time\nopen(sys.argv[2] + '/../pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(60)\n"
    box = box_with(tmp_path, source, wait)
    supervisor = box.start()
    script = box.pid("pid")
    (box.root / "state/cancel").touch()
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(20)
    assert box.exit["outcome"] == "cancelled"
    until(lambda: not alive(script))


def test_a_script_does_not_outlive_its_supervisor(tmp_path: Path, source: Path) -> None:
    wait = "import os, sys, time\nopen(sys.argv[2] + '/../pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(60)\n"
    box = box_with(tmp_path, source, wait)
    supervisor = box.start()
    script = box.pid("pid")
    psutil.Process(supervisor.pid).kill()
    supervisor.wait(10)
    until(lambda: not alive(script))
    assert not listing.is_prepared(Box(str(box.root)))


def test_its_words_are_seen_while_it_runs(tmp_path: Path, source: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"import os, time\nprint('begun')\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    box = box_with(tmp_path, source, wait)
    supervisor = box.start(PYTHONUNBUFFERED="")
    until(lambda: "begun" in box.log)
    assert supervisor.poll() is None
    gate.touch()
    assert supervisor.wait(20) == 1
