"""Temporary files: a path that sockets can have, and nothing of it is left over."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launcher.worker import scratch
from launcher.worker.box import Box
from tests.worker.laid import ROOT, Laid, until

LOADING = """
import sys
sys.path.insert(0, sys.argv[1])
from launcher.worker.box import Box
from launcher.worker.training.train import temporary
temporary(Box(sys.argv[2]))
import tempfile, torch
class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.full((1000,), index)
print(tempfile.gettempdir(), flush=True)
print(sum(int(batch[0, 0]) for batch in torch.utils.data.DataLoader(Numbers(), num_workers=1)), flush=True)
"""
MAKING = """
from samerun_worker import scratch
import samerun_worker.events
with open(os.path.join(box.work, "made"), "w") as stream:
    stream.write(scratch.make(box))
"""


@pytest.fixture
def deep(tmp_path: Path) -> Box:
    box = Box(str(tmp_path / ("deep" * 20) / "box"))
    box.make()
    return box


@pytest.mark.training
@pytest.mark.timeout(120)
def test_data_loaders_have_sockets_in_a_box_far_down(deep: Box) -> None:
    argv = [sys.executable, "-c", LOADING, str(ROOT), deep.root]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    folder, total = done.stdout.split()
    assert total == "6"
    assert not Path(folder).exists()
    assert "Traceback" not in done.stderr


def test_a_short_path_stays_in_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        box = Box(root)
        box.make()
        assert Path(scratch.make(box)) == Path(box.work, "tmp")
        scratch.remove(box)
        assert Path(box.work, "tmp").is_dir()


def test_a_long_one_is_short_and_removed_once_it_is_made_again(deep: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", deep.state)  # the system's own is far down as well
    first = scratch.make(deep)
    second = scratch.make(deep)
    assert len(second) <= scratch.LONGEST
    assert Path(second).is_dir()
    assert not Path(first).exists()
    scratch.remove(deep)
    scratch.remove(deep)
    assert not Path(second).exists()


def test_only_what_it_made_is_removed(deep: Box, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    Path(deep.temporary).write_text(str(other))
    scratch.remove(deep)
    assert other.is_dir()


@pytest.mark.parametrize("restarts", [0, 1])
def test_the_supervisor_removes_what_a_killed_training_leaves(tmp_path: Path, restarts: int) -> None:
    once = f"if restart == 1: assert not os.path.exists(box.temporary); sys.exit(0)\n{MAKING}"
    box = Laid(tmp_path / ("deep" * 20) / "box", once + "os.kill(os.getpid(), signal.SIGKILL)\n", restarts=restarts)
    assert box.run() == (0 if restarts else 128 + signal.SIGKILL)
    made = Path(box.mark("made").read_text())
    assert made.name.startswith("samerun-")
    assert not made.exists()


def test_the_training_removes_it_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    box = Laid(tmp_path / ("deep" * 20) / "box", "")
    text = """
import os, sys, time
sys.path.insert(0, os.path.join(sys.argv[1], "in", "worker.pyz"))
from samerun_worker import scratch
from samerun_worker.box import Box
from samerun_worker.events import hold_lifeline
box = Box(sys.argv[1])
hold_lifeline(lambda: scratch.remove(box))
made = scratch.make(box)
with open(os.path.join(box.work, "made"), "w") as stream:
    stream.write(made + "\\n")
time.sleep(60)
"""
    (box.root / "in/payload.py").write_text(text)
    supervisor = box.start()
    until(lambda: box.mark("made").exists() and box.mark("made").read_text().endswith("\n"))
    supervisor.kill()
    supervisor.wait(5)
    until(lambda: not box.held)
    assert not Path(box.mark("made").read_text().strip()).exists()
