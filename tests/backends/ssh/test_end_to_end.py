"""`launch --backend ssh` on a real server: the stub, real trainings that are bit for bit those of here, and reap."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.state import RunState
from tests.backends.ssh.world import NAME, Host, Launch
from tests.worker.laid import ROOT, until

SPEC = """
model: yolo11n.yaml
data: {reef: {seed: 3, train_videos: 2, val_videos: 1, frames: 4, width: 64, height: 64}}
train: {epochs: 2, imgsz: 64, batch: 4, workers: 0, optimizer: AdamW, lr0: 0.001, seed: 0, plots: false}
environment: {variables: {OMP_NUM_THREADS: "1"}}
resources: {device: cpu}
"""


def weights(folder: Path, name: str) -> dict[str, Any]:
    """The tensors of a checkpoint, by name."""
    import torch

    loaded = torch.load(folder / "train/weights" / name, map_location="cpu", weights_only=False)
    found: dict[str, Any] = (loaded["ema"] or loaded["model"]).state_dict()
    return found


@pytest.fixture
def train(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """A launch that trains for real."""
    monkeypatch.delenv("SAMERUN_PAYLOAD")
    launch.spec.write_text(SPEC)
    return launch


def test_a_launch_is_verified_and_leaves_the_dataset_alone_on_the_host(launch: Launch, host: Host) -> None:
    assert launch.run() == 0
    assert launch.record.state is RunState.VERIFIED
    assert launch.epochs() == [1, 2, 3, 4]
    assert launch.record.attempts[0].released
    assert sorted(path.name for path in host.root.iterdir()) == ["agents", "boxes", "data"]
    assert list((host.root / "boxes").iterdir()) == []
    assert host.root.stat().st_mode & 0o077 == 0, "others can look into it"


def test_the_host_must_be_named(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(str(launch.spec), "--backend", "ssh") == 2
    assert "--set resources.host=user@machine" in capsys.readouterr().err


def test_a_detached_run_goes_on_without_us_and_is_attached_to(launch: Launch, host: Host) -> None:
    assert launch(*launch.words(), "--detach") == 0
    record = launch.record
    host.sshd.drop()
    until(lambda: (host.box(record.attempts[0].id) / "state/exit.json").exists(), 20)
    assert launch(record.id, command="attach") == 0
    assert launch.record.state is RunState.VERIFIED


def test_a_dataset_is_sent_once_and_a_file_that_was_lost_there_again(launch: Launch, host: Host) -> None:
    assert launch.run() == 0
    before = host.proxy.carried
    assert launch.run("train.epochs=3") == 0
    assert host.proxy.carried - before < 1_000_000
    (folder,) = (path for path in (host.root / "data").iterdir() if path.is_dir())
    picture = next(iter(sorted(folder.rglob("*.png"))))
    picture.unlink()
    assert launch.run("train.epochs=2") == 0
    assert picture.exists()


def test_a_wrong_host_key_is_refused_with_nothing_sent(
    launch: Launch, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.know(Path(os.environ["HOME"]), "ssh-ed25519 " + "AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43)
    assert launch.run() == 3
    assert re.search("host key|known_hosts", capsys.readouterr().err)
    assert list(host.home.iterdir()) == []
    assert "Accepted publickey" not in host.sshd.log


def test_a_pinned_key_is_believed_and_another_is_not(launch: Launch, host: Host) -> None:
    (Path(os.environ["HOME"]) / ".ssh/known_hosts").unlink()
    assert launch.run() == 3
    assert launch.run(f"resources.host_key={host.sshd.host_key}") == 0


def test_secrets_are_on_no_disk_and_in_no_command_line(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = 'tok\'en $(touch pwned) `id` "7c1f0e9d52"'
    monkeypatch.setenv("MY_TOKEN", secret)
    monkeypatch.setenv("SAMERUN_STUB_EPOCH_S", "0.1")
    see = host.home / "seen"
    trace = tmp_path / "trace.py"
    trace.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$*" >> {see}\nexec {sys.executable} "$@"\n')
    trace.chmod(0o755)
    assert launch.run("environment.variables.TOKEN=${env:MY_TOKEN}", f"resources.python={trace}") == 0
    assert "start" in see.read_text()
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"7c1f0e9d52" in path.read_bytes()]
    assert found == []
    assert not list(tmp_path.rglob("pwned"))


def test_reap_shows_what_is_on_the_host_and_removes_all_of_it(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAMERUN_STUB_EPOCH_S", "30")
    assert launch(*launch.words("train.epochs=9"), "--detach") == 0
    run, attempt = launch.record.id, launch.record.attempts[0].id
    assert launch("--backend", "ssh", "--yes", "--strange", command="reap") == 0
    assert host.box(attempt).exists(), "what is live is left alone"
    launch.store.remove(run)
    assert launch("--backend", "ssh", "--yes", "--strange", "--data", command="reap") == 0
    assert not host.root.exists()
    assert launch("--backend", "ssh", command="reap") == 0
    assert "0 attempt(s)" in capsys.readouterr().err
    assert list((launch.store.root.parent / "cache" / "ssh").iterdir()) == [], "the host is forgotten"


def test_reap_says_what_a_silent_host_may_hold(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAMERUN_STUB_EPOCH_S", "30")
    assert launch(*launch.words(), "--detach") == 0
    attempt = launch.record.attempts[0].id
    launch.store.remove(launch.record.id)
    host.proxy.swallow()
    launch("--backend", "ssh", "--json", command="reap")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["attempt"] for line in told if "attempt" in line] == [attempt]


@pytest.mark.training
@pytest.mark.timeout(300)
def test_the_same_spec_here_and_on_a_host_gives_the_same_weights_bit_for_bit(train: Launch) -> None:
    import torch

    assert train.run() == 0
    there = train.folder
    assert train.record.state is RunState.VERIFIED
    assert train(str(train.spec), "--backend", "local") == 0
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
def test_the_smoke_spec(train: Launch) -> None:
    words = ["--backend", "ssh", "--set", f"resources.host={NAME}", "--set", f"resources.python={sys.executable}"]
    assert train(str(ROOT / "jobspecs/smoke.yaml"), *words, "--set", "resources.device=cpu") == 0
    assert train.record.state is RunState.VERIFIED


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.timeout(600)
def test_a_real_training_goes_on_from_its_checkpoint_after_the_host_was_restarted(train: Launch, host: Host) -> None:
    assert train(*train.words("train.epochs=30", "resume.attempts=3"), "--detach") == 0
    first = train.record.attempts[0].id
    until(lambda: (host.box(first) / "out/checkpoint/000003/checkpoint.json").exists(), 120)
    host.sshd.stop()
    home = host.box(first) / "state/machine.json"
    home.write_text(json.dumps({**json.loads(home.read_text()), "boot": "another"}))
    host.sshd.start()
    assert train(train.record.id, command="attach") == 0
    record = train.record
    assert record.state is RunState.VERIFIED
    assert (len(record.attempts), record.attempts[0].reason) == (2, "the host was restarted")
    assert train.epochs() == list(range(1, 31))
