"""Commands that come before the training, and the proof of the device, as a machine elsewhere needs them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.worker import prove
from tests.worker.laid import Laid, until

SAY = "import sys; print('said', *sys.argv[1:], flush=True)"
TELL = (
    "import json, os; os.write(int(os.environ['SAMERUN_EVENTS']), "
    'json.dumps({"event": "error", "reason": "no wheels", "remedy": "attach them"}).encode() + b"\\n"); exit(3)'
)


def test_they_run_in_order_before_the_training_with_the_places_of_the_machine(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    commands = [["{python}", "-c", SAY, "{box}", "{worker}"], ["{python}", "-c", SAY, "second"]]
    box.describe(before=commands)
    assert box.run() == 0
    assert box.epochs() == [1, 2, 3]
    said = [line for line in box.lines if line.startswith("said") or '"started"' in line]
    assert said[0] == f"said {box.root} {box.root / 'in/worker.pyz'}"
    assert said[1] == "said second"
    assert '"started"' in said[2]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "exit(3)"], "ended with exit code 3"),
        ([sys.executable, "-c", TELL], "no wheels"),
        (["/nowhere/python"], "/nowhere/python could not be started"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "was killed by SIGKILL"),
    ],
    ids=["code", "error event", "no such program", "killed"],
)
def test_one_that_fails_ends_the_attempt_before_anything_is_read(
    tmp_path: Path, command: list[str], reason: str
) -> None:
    box = Laid(tmp_path / "box")
    box.describe(before=[command, [sys.executable, "-c", SAY, "never"]])
    assert box.run() != 0
    assert box.exit["outcome"] == "failed"
    assert reason in box.exit["reason"]
    assert box.named("started") == []
    assert "said never" not in box.lines


def test_what_one_got_over_is_not_why_the_training_ended(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", "os.kill(os.getpid(), 9)", restarts=0)
    box.describe(before=[[sys.executable, "-c", TELL.replace("exit(3)", "exit(0)")]])
    assert box.run() != 0
    assert "SIGKILL" in box.exit["reason"]
    assert "remedy" not in box.exit


def test_told_to_stop_meanwhile_the_attempt_is_expired(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    box.describe(before=[[sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]])
    process = box.start()
    until(lambda: "here" in box.lines)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert box.exit["outcome"] == "expired"
    assert box.named("started") == []


def test_they_count_against_the_time_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Laid(tmp_path / "box", max_hours=0.3 / 3600)
    box.describe(before=[[sys.executable, "-c", "import time; time.sleep(0.5)"]])
    box.run()
    assert box.exit["outcome"] == "expired"
    assert box.epochs() == [1]


# The proof.


def proven(tmp_path: Path, device: str) -> tuple[int, list[dict[str, Any]]]:
    box = Laid(tmp_path / "box")
    box.describe(device=device)
    read, write = os.pipe()
    os.environ["SAMERUN_EVENTS"] = str(write)
    try:
        code = prove.prove(str(box.root))
    finally:
        os.close(write)
        del os.environ["SAMERUN_EVENTS"]
    with os.fdopen(read) as stream:
        return code, [json.loads(line) for line in stream]


def test_a_cpu_needs_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    begun = time.monotonic()
    assert proven(tmp_path, "cpu") == (0, [])
    assert time.monotonic() - begun < 1


HANGS = """
import signal, sys, time, types
sys.path.insert(0, sys.argv[1])
from samerun_worker import prove
prove.LIMIT_S = 0.2
sys.modules["torch"] = types.ModuleType("torch")
if sys.argv[3] == "deaf":
    prove._hangs = lambda *_: None  # no thread gets a turn
prove._found = lambda torch, asked: time.sleep(30)
sys.exit(prove.prove(sys.argv[2]))
"""


@pytest.mark.parametrize(("how", "reason"), [("thread", "cuda does not answer"), ("deaf", "was killed by SIGALRM")])
def test_a_driver_that_hangs_does_not_use_up_the_session(tmp_path: Path, how: str, reason: str) -> None:
    box = Laid(tmp_path / "box")
    box.describe(device="cuda", before=[["{python}", "-c", HANGS, "{worker}", "{box}", how]])
    begun = time.monotonic()
    assert box.run() != 0
    assert time.monotonic() - begun < 10
    assert box.exit["outcome"] == "failed"
    assert reason in box.exit["reason"]
    assert box.named("started") == []


@pytest.mark.training
def test_what_was_found_is_said(tmp_path: Path) -> None:
    code, (event,) = proven(tmp_path, "auto")
    assert code == 0
    assert (event["event"], event["device"]) == ("device", "cpu")
    assert event["versions"]["torch"]


@pytest.mark.training
def test_an_accelerator_that_is_not_there_ends_it(tmp_path: Path) -> None:
    code, (event,) = proven(tmp_path, "cuda")
    assert code == 1
    assert (event["event"], event["code"]) == ("error", "wrong-device")
    assert "asks for cuda, and this machine has none" in event["reason"]
    assert event["remedy"]


@pytest.mark.training
@pytest.mark.parametrize("how", ["raises", "wrong", "nan"])
def test_one_that_is_there_and_does_not_compute_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As a P100 does with a torch that has no kernels for it."""

    def convolve(torch: Any, device: str) -> float:
        if how == "raises":
            raise RuntimeError("no kernel image is available for execution on the device")
        return float("nan") if how == "nan" else 0.5

    monkeypatch.setattr(prove, "_found", lambda torch, asked: "cuda")
    monkeypatch.setattr(prove, "_convolve", convolve)
    code, (event,) = proven(tmp_path, "cuda")
    assert code == 1
    assert event["code"] == "wrong-device"
    assert ("no kernel image" in event["reason"]) == (how == "raises")


@pytest.mark.training
def test_the_convolution_itself_agrees_with_another_device() -> None:
    torch = pytest.importorskip("torch")
    assert prove._convolve(torch, "cpu") == 0.0

    class Twice(str):
        """A device that is the CPU, and not named so."""

        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    assert prove._convolve(torch, Twice("cpu")) == 0.0
