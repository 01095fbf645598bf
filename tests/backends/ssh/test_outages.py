"""A network that falls silent, connections that break and launchers that are killed: one worker, and it is verified.

The silence is longer than a question may take, and shorter than a run's patience, unless a test says otherwise.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.runs.state import RunState
from launcher.testing import payload
from tests.backends.ssh.world import SECONDS, Host, Launch, options
from tests.chaos.harness import Arena
from tests.worker.laid import until

EPOCHS = 6
SPEC = f"""
model: yolo11n.yaml
data: {{reef: {{seed: 1, train_videos: 1, val_videos: 1, frames: 2, width: 48, height: 48}}}}
train: {{epochs: {EPOCHS}}}
resources: {{device: cpu}}
sync: {{patience_minutes: 2}}
"""
BIG = "data: {reef: {seed: 1, train_videos: 2, val_videos: 1, frames: 40, width: 320, height: 320}}"
HOLE_S = 1.7 * SECONDS
LONG_S = 2.8 * SECONDS  # neither lines nor state can be had
LONGEST_S = 4.0  # of a launch that nobody kills: its moments are what the bullets are spread over
KINDS = ["waits", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("forgets", "resets"))]


@contextmanager
def meanwhile(condition: Callable[[], bool], act: Callable[[], object], seconds: float = 30) -> Iterator[None]:
    """While the block runs: wait for the condition, then act, in a thread. Fails when it did not come to that."""
    done: list[bool] = []

    def work() -> None:
        until(condition, seconds)
        act()
        done.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(5)
    assert done, "the moment to act has not come"


def outage(host: Host, kind: str, seconds: float = HOLE_S) -> None:
    """TCP outlives the silence; or the host has forgotten the connection; or it is reset at once."""
    if kind == "resets":
        host.proxy.cut()
        return
    host.proxy.swallow(forget=kind == "forgets")
    time.sleep(seconds)
    host.proxy.let_through()


def stub(launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, epoch_s: float) -> None:
    """Let the stub take so long for an epoch, on the host."""
    launch.spec.write_text(SPEC)
    host.sshd.stop()
    host.sshd.environment["SAMERUN_STUB_EPOCH_S"] = str(epoch_s)
    host.sshd.start()


def sound(launch: Launch) -> None:
    """Verified, in one attempt, each epoch once."""
    record = launch.record
    assert record.state is RunState.VERIFIED
    assert len(record.attempts) == 1
    assert launch.epochs() == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_while_the_dataset_is_sent(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stub(launch, host, monkeypatch, 0.05)
    launch.spec.write_text(SPEC.replace(SPEC.splitlines()[2], BIG))
    host.proxy.throttle(1_000_000)

    def broken() -> None:
        outage(host, kind)
        host.proxy.throttle(None)

    with meanwhile(lambda: any(host.root.glob("data/*/.transfer/parts/*")), broken):
        assert launch.run() == 0
    sound(launch)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_while_it_trains(launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stub(launch, host, monkeypatch, 0.3)
    with meanwhile(lambda: any(host.root.glob("boxes/*/out/checkpoint/000002")), lambda: outage(host, kind, LONG_S)):
        assert launch.run() == 0
    sound(launch)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_while_the_results_come_home(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stub(launch, host, monkeypatch, 0.05)
    with meanwhile(lambda: any(host.root.glob("boxes/*/state/exit.json")), lambda: outage(host, kind)):
        assert launch.run() == 0
    sound(launch)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_silence_of_a_minute_in_each_part_of_a_run(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(launch, host, monkeypatch, 0.3)
    launch.spec.write_text(SPEC.replace(SPEC.splitlines()[2], BIG))
    host.proxy.throttle(1_000_000)
    moments = ["data/*/.transfer/parts/*", "boxes/*/out/checkpoint/000002", "boxes/*/state/exit.json"]

    def silences() -> None:
        for moment in moments:
            until(lambda: any(host.root.glob(moment)), 100)  # noqa: B023  waited for at once
            outage(host, "forgets", 60)
            host.proxy.throttle(None)

    with meanwhile(lambda: True, silences, 400):
        assert launch.run() == 0
    sound(launch)


def test_a_launch_that_loses_patience_says_so_in_time_and_calls_nothing_failed(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(launch, host, monkeypatch, 0.2)
    begun: list[float] = []

    def silence() -> None:
        begun.append(time.monotonic())
        host.proxy.swallow(forget=True)

    with meanwhile(lambda: any(host.root.glob("boxes/*/out/checkpoint/000001")), silence):
        assert launch.run("sync.patience_minutes=0.01") == 7
    assert time.monotonic() - begun[0] < 0.6 + 5 * SECONDS
    assert "may still be going on" in capsys.readouterr().err
    assert not launch.record.state.ended
    host.proxy.let_through()
    assert launch(launch.record.id, command="attach") == 0
    sound(launch)


def test_nobody_is_waited_for_at_plan_time_longer_than_one_question(
    launch: Launch, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.proxy.swallow()
    begun = time.monotonic()
    launch(*launch.words(), command="plan")
    assert time.monotonic() - begun < 2 * SECONDS + 1
    assert "ssh.silent" in capsys.readouterr().out


def test_cancel_says_when_the_host_does_not_answer(launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(launch, host, monkeypatch, 30.0)
    assert launch(*launch.words(), "--detach") == 0
    host.proxy.swallow()
    assert launch(launch.record.id, "--yes", command="cancel") == 7
    assert not launch.record.state.ended
    host.proxy.let_through()
    assert launch(launch.record.id, "--yes", command="cancel") == 0
    assert launch.record.state is RunState.CANCELLED
    assert list((host.root / "boxes").iterdir()) == []


class Battle(Arena):
    """An arena whose machine is a host that nobody shoots at."""

    def __init__(self, root: Path, host: Host, seed: int) -> None:
        super().__init__(root, SPEC, seed, SAMERUN_SSH_SECONDS="10")
        self.stub()
        host.sshd.stop()
        starts = {name: self.env[name] for name in ("CHAOS_STARTS", "CHAOS_STUB")}
        host.sshd.environment.update(starts, SAMERUN_STUB_EPOCH_S="0.1")
        host.sshd.start()

    def launch(self, attach: bool | None = None) -> subprocess.Popen[bytes]:
        record = self.record
        again = record is not None and not record.state.ended and self.random.random() < 0.5
        given = [word for name, value in options().items() for word in ("--set", f"resources.{name}={value}")]
        words = ["attach", record.id] if again and record is not None else [str(self.spec), "--backend", "ssh", *given]
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


def battle(root: Path, host: Host, seed: int, at: float) -> None:
    arena = Battle(root, host, seed)
    arena.shot_at(at)
    arena.sound(EPOCHS)
    record = arena.record
    assert record is not None
    assert len(record.attempts) == 1
    starts = (root / "starts").read_text().splitlines()
    assert len(starts) == 1, f"killed {at:.2f} s after its start (seed {seed}): {starts}"
    assert list((host.root / "boxes").iterdir()) == []


@pytest.mark.parametrize("at", [0.8, pytest.param(1.3, marks=pytest.mark.slow)])
def test_a_launcher_that_is_killed_leaves_one_worker_that_the_next_goes_on_with(
    tmp_path: Path, host: Host, at: float
) -> None:
    battle(tmp_path / "arena", host, 1, at)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments(tmp_path: Path, host: Host) -> None:
    moments = random.Random(20)
    for number in range(20):
        battle(tmp_path / str(number), host, 100 + number, moments.uniform(0.3, LONGEST_S))


def test_an_interrupted_launch_leaves_the_worker_alone_and_attach_follows_it(
    launch: Launch, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(launch, host, monkeypatch, 0.3)
    assert payload.__file__ == os.environ["SAMERUN_PAYLOAD"]
    argv = [sys.executable, "-m", "launcher", *launch.words()]
    with Path("launch.log").open("ab") as log:
        launcher = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ))
    until(lambda: any(host.root.glob("boxes/*/out/checkpoint/000001")), 30)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(30) == 130
    assert launch(launch.record.id, command="attach") == 0
    sound(launch)
