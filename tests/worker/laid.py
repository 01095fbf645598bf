"""A box laid out by hand, and its supervisor in a process of its own, as any backend would start it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from launcher.bundle.pack import worker_bytes
from launcher.files import is_held

ROOT = Path(__file__).parent.parent.parent
STUB = (ROOT / "launcher/testing/payload.py").read_text()
PRELUDE = """
import os, signal, subprocess, sys, time
root = sys.argv[1]
sys.path.insert(0, os.path.join(root, "in", "worker.pyz"))
from samerun_worker.events import Emitter, hold_lifeline
from samerun_worker.box import Box
hold_lifeline()
emit, box = Emitter(), Box(root)
restart = int(os.environ["SAMERUN_RESTART"])
def say(text):
    os.write(1, text if isinstance(text, bytes) else text.encode())
"""
ATTEMPT = "run-abc-a1"


def until(true: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return found


class Laid:
    """A box below `root`; `payload` is Python text that runs in the place of the training."""

    def __init__(self, root: Path, payload: str = STUB, *, python: str | None = None, **job: Any) -> None:
        self.root = root
        self.python = python or sys.executable
        for name in ("in", "out", "state", "work"):
            (root / name).mkdir(parents=True, exist_ok=True)
        text = payload if payload is STUB else PRELUDE + payload
        (root / "in/worker.pyz").write_bytes(worker_bytes())
        (root / "in/payload.py").write_text(text, encoding="utf-8")
        (root / "in/job.json").write_text(json.dumps({"version": 1, "train": {"epochs": 3}, "restarts": 2, **job}))
        self.describe()

    def describe(self, **more: Any) -> None:
        """Write attempt.json."""
        value = {"version": 1, "attempt": ATTEMPT, "run": "run-abc", "number": 1, "python": self.python, **more}
        (self.root / "in/attempt.json").write_text(json.dumps(value))

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start the supervisor, in a session of its own."""
        argv = [self.python, "-I", "-S", str(self.root / "in/worker.pyz"), str(self.root)]
        null = subprocess.DEVNULL
        errors = (self.root / "supervisor.err").open("ab")
        plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        with errors:
            return subprocess.Popen(
                argv, env={**plain, **env}, stdin=null, stdout=null, stderr=errors, start_new_session=True
            )

    def run(self, seconds: float = 30.0, **env: str) -> int:
        """Start the supervisor and wait for its end."""
        code = self.start(**env).wait(seconds)
        assert (self.root / "supervisor.err").read_text() == ""
        return code

    @property
    def lines(self) -> list[str]:
        """The stream's whole lines."""
        stream = self.root / "out/stream.log"
        data = stream.read_bytes() if stream.exists() else b""
        return data.decode("utf-8").split("\n")[:-1]

    @property
    def log(self) -> list[str]:
        """The lines that are no events."""
        return [line for line in self.lines if not line.startswith("@samerun ")]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events."""
        return [json.loads(line[9:]) for line in self.lines if line.startswith("@samerun ")]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of this name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def exit(self) -> dict[str, Any]:
        """state/exit.json."""
        found: dict[str, Any] = json.loads((self.root / "state/exit.json").read_bytes())
        return found

    @property
    def held(self) -> bool:
        """Whether the supervisor or the training lives, by the lock that both hold."""
        return is_held(self.root / "state/lock")

    def mark(self, name: str) -> Path:
        """A file that a payload leaves as a sign, in work/."""
        return self.root / "work" / name

    def pid(self, name: str, seconds: float = 10.0) -> int:
        """The process number that a payload has written to work/NAME."""
        file = self.mark(name)
        until(lambda: file.exists() and file.read_text().endswith("\n"), seconds)
        return int(file.read_text())

    def epochs(self) -> list[int]:
        """The epochs of results.csv."""
        rows = (self.root / "out/train/results.csv").read_text().splitlines()[1:]
        return [int(row.split(",")[0]) for row in rows]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose command line names something in this folder."""
    return list(_processes(str(folder)))


def _processes(text: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(text in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
