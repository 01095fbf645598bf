"""Launchers that are killed, interrupted, told to detach, or not alone: one kernel, and the run is verified."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.runs.state import RunState
from tests.backends.kaggle.world import Launch, session_of, slow
from tests.chaos.harness import Arena
from tests.emulators.kaggle import KaggleEmulator
from tests.worker.laid import until

EPOCHS = 6
SPEC = f"""
model: yolo11n.yaml
data: {{reef: {{seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}}}
train: {{epochs: {EPOCHS}}}
resources: {{device: cpu}}
"""
LONGEST_S = 3.5  # of a launch that nobody kills: its moments are what the bullets are spread over


class Battle(Arena):
    """An arena whose machine is the emulated Kaggle, which nobody shoots at."""

    def __init__(self, root: Path, kaggle: KaggleEmulator, seed: int) -> None:
        env = {**kaggle.env, "SAMERUN_KAGGLE_POLL_SECONDS": "0.05"}
        super().__init__(root, SPEC, seed, **env)
        self.stub()
        starts = {name: self.env[name] for name in ("CHAOS_STARTS", "CHAOS_STUB")}
        kaggle.settings.kernel_env = {**starts, "SAMERUN_STUB_EPOCH_S": "0.1"}

    def launch(self, attach: bool | None = None) -> subprocess.Popen[bytes]:
        record = self.record
        again = record is not None and not record.state.ended and self.random.random() < 0.5
        words = ["attach", record.id] if again and record is not None else [str(self.spec), "--backend", "kaggle"]
        with (self.root / "launches.log").open("ab") as log:
            argv = [sys.executable, "-m", "launcher", *words, "--json"]
            return subprocess.Popen(argv, cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def shot_at(self, seconds: float) -> None:
        """Kill a launch so long after its start; launch until the run has ended."""
        launcher = self.launch()
        try:
            time.sleep(seconds)
            launcher.kill()
            launcher.wait()
            for _ in range(20):
                if self.ended():
                    return
                launcher = self.launch()
                launcher.wait(60)
        finally:
            launcher.kill()
            launcher.wait()
        raise AssertionError(f"the run did not end: {self.record}")


def battle(root: Path, kaggle: KaggleEmulator, seed: int, at: float) -> None:
    kaggle.counters.sessions_started = 0
    arena = Battle(root, kaggle, seed)
    arena.shot_at(at)
    arena.sound(EPOCHS)
    assert kaggle.counters.sessions_started == 1, f"killed {at:.2f} s after its start (seed {seed})"
    assert len(kaggle.kernels) == 0
    record = arena.record
    assert record is not None
    assert len(record.attempts) == 1


@pytest.mark.parametrize("at", [0.9, *slow(1.6)])
def test_a_launcher_that_is_killed_leaves_one_kernel_that_the_next_goes_on_with(
    tmp_path: Path, kaggle: KaggleEmulator, at: float
) -> None:
    battle(tmp_path / "arena", kaggle, 1, at)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments(tmp_path: Path, kaggle: KaggleEmulator) -> None:
    moments = random.Random(20)
    for number in range(20):
        battle(tmp_path / str(number), kaggle, 100 + number, moments.uniform(0.3, LONGEST_S))


def begin(launch: Launch, *words: str) -> subprocess.Popen[bytes]:
    """The spec, in a process of its own."""
    argv = [sys.executable, "-m", "launcher", str(launch.spec), "--backend", "kaggle", *words]
    with Path("launch.log").open("ab") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))


def test_detached_and_attached_again(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.3)
    assert launch(str(launch.spec), "--backend", "kaggle", "--detach") == 0
    record = launch.record
    assert not record.state.ended
    assert launch(record.id, command="attach") == 0
    assert launch.record.state is RunState.VERIFIED
    assert launch.epochs() == [1, 2, 3, 4]
    assert kaggle.counters.sessions_started == 1


@pytest.mark.slow
def test_an_interrupted_launch_leaves_the_kernel_alone_and_attach_follows_it(
    launch: Launch, kaggle: KaggleEmulator
) -> None:
    launch.slow(0.5)
    launcher = begin(launch)
    until(lambda: launch.logged('"epoch": 1'), 30)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(30) == 130
    assert kaggle.processes_alive > 0
    assert launch(launch.record.id, command="attach") == 0
    assert launch.epochs() == [1, 2, 3, 4]
    assert kaggle.counters.sessions_started == 1


def test_cancel_deletes_the_kernel_of_a_launch_that_goes_on_elsewhere(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.slow(30.0)
    launcher = begin(launch)
    try:
        until(lambda: launch.logged("preparing"), 30)
        assert launch(launch.record.id, "--yes", command="cancel") == 0
        assert launcher.wait(30) == 1
    finally:
        launcher.kill()
        launcher.wait()
    assert launch.record.state is RunState.CANCELLED
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0
    assert launch(launch.record.id, "--yes", command="cancel") == 0


def test_cancel_of_a_run_that_nobody_follows(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(30.0)
    assert launch(str(launch.spec), "--backend", "kaggle", "--detach") == 0
    begun = time.monotonic()
    assert launch(launch.record.id, "--yes", command="cancel") == 0
    assert time.monotonic() - begun < 10, "what is deleted has no lines to wait for"
    assert launch.record.state is RunState.CANCELLED
    assert launch.record.attempts[0].released
    assert len(kaggle.kernels) == 0
    assert kaggle.processes_alive == 0


def test_cancel_says_when_kaggle_does_not_answer(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(30.0)
    assert launch(str(launch.spec), "--backend", "kaggle", "--detach") == 0
    silence = kaggle.faults.add("503", on="*Kernel*", times=None)
    assert launch(launch.record.id, "--yes", command="cancel") == 7
    assert not launch.record.state.ended
    assert kaggle.processes_alive > 0
    silence.times = 0
    assert launch(launch.record.id, "--yes", command="cancel") == 0
    assert launch.record.state is RunState.CANCELLED
    assert kaggle.processes_alive == 0


@pytest.mark.slow
def test_two_launches_of_one_spec_are_one_kernel(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.5)
    launchers = [begin(launch), begin(launch)]
    assert [launcher.wait(60) for launcher in launchers] == [0, 0]
    assert kaggle.counters.sessions_started == 1
    assert launch.epochs() == [1, 2, 3, 4]


def test_a_handle_that_kaggle_has_lost_is_told_apart_from_silence(launch: Launch, kaggle: KaggleEmulator) -> None:
    launch.slow(0.2)
    assert launch(str(launch.spec), "--backend", "kaggle", "--detach") == 0
    handle = launch.record.attempts[0].as_handle()
    assert handle is not None
    assert session_of(kaggle, handle) is not None
    kaggle.kernels.delete(kaggle.accounts["alice"], "alice", handle.data["slug"])
    assert launch(launch.record.id, command="attach") == 1
    assert launch.record.state is RunState.CANCELLED


def test_reap_finds_kernels_and_datasets_without_a_live_run_and_removes_them(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    launch.slow(30.0)
    assert launch(str(launch.spec), "--backend", "kaggle", "--detach") == 0
    run = launch.record.id
    assert launch("--backend", "kaggle", "--yes", "--strange", "--data", command="reap") == 8, "its data is in use"
    assert (len(kaggle.kernels), len(kaggle.datasets)) == (1, 1), "what is live is left alone"
    assert f"launch attach {run}" in capsys.readouterr().err
    launch.store.remove(run)
    assert launch("--backend", "kaggle", "--yes", command="reap") == 0
    assert len(kaggle.kernels) == 1, "it may be another machine's"
    assert launch("--backend", "kaggle", "--yes", "--strange", "--data", command="reap") == 0
    assert (len(kaggle.kernels), len(kaggle.datasets), kaggle.processes_alive) == (0, 0, 0)


def test_a_disk_cache_is_refused_by_the_plan(
    launch: Launch, kaggle: KaggleEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.run("train.cache=disk") == 2
    assert "train.cache-disk-no-room" in capsys.readouterr().err
    assert kaggle.counters.calls["SaveKernel"] == 0
