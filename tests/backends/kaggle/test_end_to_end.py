"""Real trainings in emulated kernels: verified, bit for bit what the same spec gives here; and no way out of here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.data import reef
from launcher.runs.events import read as read_events
from launcher.runs.state import RunState
from tests.backends.kaggle.world import Launch
from tests.emulators.kaggle import KaggleEmulator
from tests.worker.laid import ROOT
from tests.worker.test_prepare import SPLIT

REEF = "{seed: 3, train_videos: 2, val_videos: 1, frames: 4, width: 64, height: 64}"
SPEC = f"""
model: yolo11n.yaml
data: {{reef: {REEF}}}
train: {{epochs: 2, imgsz: 64, batch: 4, workers: 0, optimizer: AdamW, lr0: 0.001, seed: 0, plots: false}}
environment: {{variables: {{OMP_NUM_THREADS: "1"}}}}
resources: {{device: cpu}}
"""


@pytest.fixture
def train(launch: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """A launch that trains for real, in a kernel with a /kaggle of its own where this system allows that."""
    monkeypatch.delenv("SAMERUN_PAYLOAD")
    kaggle.settings.change({"sandbox": "auto"})
    launch.spec.write_text(SPEC)
    return launch


def weights(folder: Path, name: str) -> dict[str, Any]:
    """The tensors of a checkpoint, by name."""
    import torch

    loaded = torch.load(folder / "train/weights" / name, map_location="cpu", weights_only=False)
    found: dict[str, Any] = (loaded["ema"] or loaded["model"]).state_dict()
    return found


@pytest.mark.training
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_the_same_spec_here_and_in_a_kernel_gives_the_same_weights_bit_for_bit(
    train: Launch, kaggle: KaggleEmulator
) -> None:
    import torch

    assert train.run(backend="kaggle") == 0
    there = train.folder
    assert train.record.state is RunState.VERIFIED
    assert [event.fields["epoch"] for event in read_events(there) if event.name == "epoch"] == [1, 2]
    assert len(kaggle.kernels) == 0
    assert train.run(backend="local") == 0
    here = train.folder
    assert here != there
    for name in ("best.pt", "last.pt"):
        one, other = weights(here, name), weights(there, name)
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    columns = [(folder / "train/results.csv").read_text().splitlines() for folder in (here, there)]
    for row, other_row in zip(*columns, strict=True):
        assert row.split(",")[2:] == other_row.split(",")[2:], "all but the epoch's number and the seconds"


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(600)
def test_the_smoke_spec(train: Launch, kaggle: KaggleEmulator) -> None:
    assert train(str(ROOT / "jobspecs/smoke.yaml"), "--backend", "kaggle", "--set", "resources.device=cpu") == 0
    assert train.record.state is RunState.VERIFIED
    assert kaggle.counters.sessions_started == 1
    assert len(kaggle.kernels) == 0


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(600)
def test_a_real_training_goes_on_in_the_next_kernel(
    train: Launch, kaggle: KaggleEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint, which no script can carry, is attached from the former kernel's output."""
    monkeypatch.setenv("SAMERUN_KAGGLE_SESSION_HOURS", str(14 / 3600))
    before = kaggle.counters.bytes_in
    assert train.run("train.epochs=40", "resume.attempts=20") == 0
    record = train.record
    assert record.state is RunState.VERIFIED
    assert len(record.attempts) > 1
    assert train.epochs() == list(range(1, 41))
    assert all(session.plan.mounts for session in kaggle.kernels.sessions)
    sent = kaggle.counters.bytes_in - before
    assert sent < 1_000_000 * len(record.attempts), "a checkpoint has 5 MB at least"


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(600)
def test_a_real_training_on_attached_data(train: Launch, kaggle: KaggleEmulator, tmp_path: Path) -> None:
    options = reef.ReefOptions(seed=3, train_videos=2, val_videos=1, frames=4, width=64, height=64)
    yaml = reef.generate(options, tmp_path / "drawn")
    kaggle.datasets.add("alice/coral-reef", yaml.parent)
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(sorted(yaml.parent.rglob("*.png"))):
        (tmp_path / f"pictures/{number:03}.png").write_bytes(picture.read_bytes())
    kaggle.competitions.add("cots-2026", tmp_path / "pictures")
    (tmp_path / "make.py").write_text(SPLIT)
    for data in ("kaggle-dataset:alice/coral-reef", "{kaggle-competition: cots-2026, prepare: make.py}"):
        train.spec.write_text(SPEC.replace(f"{{reef: {REEF}}}", data))
        assert train.run() == 0
        assert train.record.state is RunState.VERIFIED
    assert kaggle.counters.calls["StartBlobUpload"] == 0


# No test may reach the real service.


def test_kaggle_itself_cannot_be_reached_from_here() -> None:
    with pytest.raises(OSError, match="tried to look up"):
        socket.create_connection(("api.kaggle.com", 443), timeout=1)
    with pytest.raises(RuntimeError, match="tried to reach"), socket.socket() as connection:
        connection.connect(("35.244.233.98", 443))


def test_the_client_without_an_endpoint_gets_nowhere(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMERUN_KAGGLE_ENDPOINT")
    assert launch.run("sync.patience_minutes=0.001") == 7
    assert launch.record.attempts[0].handle is None


def test_nor_does_a_process_that_a_test_starts(tmp_path: Path) -> None:
    env = {**os.environ, "KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "no-key", "SAMERUN_KAGGLE_POLL_SECONDS": "0.01"}
    env.pop("NO_PROXY", None)
    argv = [sys.executable, "-m", "launcher", "doctor", "--backend", "kaggle"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "the proxy did not let it through" in done.stdout + done.stderr


def test_the_tests_credentials_are_none_of_the_users(kaggle: KaggleEmulator, tmp_path: Path) -> None:
    assert Path(os.environ["HOME"]).is_relative_to(tmp_path)
    assert os.environ["KAGGLE_USERNAME"] == "alice"
    assert not {"KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"} & os.environ.keys()
    assert os.environ["SAMERUN_KAGGLE_ENDPOINT"].startswith("http://127.0.0.1:")
