"""The emulator as a process: for a person, and for tests that steer it from outside. It leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.emulators.clients import Bare, push, sdk
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.test_kaggle_rules import SLEEP
from tests.emulators.test_kaggle_runs import until

REPOSITORY = Path(__file__).resolve().parents[2]
ALICE = "Basic YWxpY2U6YWxpY2Uta2V5"
STAYS = "import subprocess\nsubprocess.run(['setsid', 'sleep', '602'])"


@contextlib.contextmanager
def started(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The emulator in a process of its own, and the variables that it prints."""
    command = [sys.executable, "-m", "tests.emulators.kaggle", "--root", str(root), *words]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(3)]
        try:
            yield process, dict(line.split("=", 1) for line in lines)
        finally:
            process.kill()


def post(url: str, body: Any) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Authorization": ALICE})
    with opener.open(asked, timeout=10) as response:
        return json.load(response)


def sleeping(parent: int) -> list[psutil.Process]:
    return [process for process in psutil.Process(parent).children(recursive=True) if process.name() == "sleep"]


@pytest.mark.parametrize(
    ("number", "sandbox"),
    [
        (signal.SIGKILL, "auto"),
        (signal.SIGKILL, "plain"),
        (signal.SIGTERM, "auto"),
        pytest.param(signal.SIGTERM, "plain", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "auto", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "plain", marks=pytest.mark.slow),
    ],
)
def test_nothing_outlives_it_however_it_ends(tmp_path: Path, number: signal.Signals, sandbox: str) -> None:
    with started(tmp_path / "kaggle", "--sandbox", sandbox) as (process, variables):
        assert set(variables) == {"SAMERUN_KAGGLE_ENDPOINT", "KAGGLE_USERNAME", "KAGGLE_KEY"}
        url = f"{variables['SAMERUN_KAGGLE_ENDPOINT']}/v1/kernels.KernelsApiService/SaveKernel"
        post(url, {"slug": "alice/my-kernel", "newTitle": "my kernel", "text": STAYS})
        until(lambda: bool(sleeping(process.pid)))
        every = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(10) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in every))


def test_its_settings_can_be_given_when_it_starts(tmp_path: Path) -> None:
    words = ("--layout", "old", "--set", "queue_seconds=0.5", "--set", "unpack=off", "--set", "errors_as_200=true")
    with started(tmp_path / "kaggle", *words) as (_, variables):
        told = post(f"{variables['SAMERUN_KAGGLE_ENDPOINT']}/_emulator/settings", {})
    assert (told["layout"], told["queue_seconds"], told["unpack"], told["errors_as_200"]) == ("old", 0.5, "off", True)


def test_a_setting_that_there_is_not_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.emulators.kaggle", "--set", "no_such=1"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 2
    assert "no_such" in ended.stderr


def test_closing_it_ends_kernels_streams_and_calls_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with KaggleEmulator(tmp_path / "kaggle") as kaggle:
        bare = Bare(kaggle)
        bare.rpc("SaveKernel", {"slug": "alice/my-kernel", "newTitle": "my kernel", "text": SLEEP})
        stream = bare.open("GET", "/v1/kernels/logs/stream/alice/my-kernel")
        until(lambda: kaggle.processes_alive > 0)
        alive = [process for session in kaggle.kernels.sessions for process in session.processes()]
        start = time.monotonic()
    assert time.monotonic() - start < 3
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in alive)
    with contextlib.suppress(OSError, http.client.HTTPException):
        stream.read()


def test_it_starts_and_answers_quickly(tmp_path: Path) -> None:
    start = time.monotonic()
    with KaggleEmulator(tmp_path / "kaggle") as kaggle:
        assert time.monotonic() - start < 0.3
        bare = Bare(kaggle)
        bare.rpc("ListKernels")
        times = []
        for _ in range(20):
            start = time.monotonic()
            bare.rpc("ListKernels")
            times.append(time.monotonic() - start)
        assert sorted(times)[10] < 0.05


def test_two_of_them_know_nothing_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with KaggleEmulator(tmp_path / "one") as one, KaggleEmulator() as two:
        push(sdk(one), "my kernel", "print(1)")
        assert (len(one.kernels), len(two.kernels)) == (1, 0)
        assert one.endpoint != two.endpoint
