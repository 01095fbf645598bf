"""A session: one run of one version of a kernel, really run by a process of its own.

QUEUED, then RUNNING, then COMPLETE, ERROR or CANCEL_ACKNOWLEDGED. What it prints becomes log records, cut at arbitrary
places; what it leaves in /kaggle/working becomes its outputs when it has ended, not before.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from tests.emulators.kaggle.faults import Fault
from tests.emulators.kaggle.machine.layout import Machine, Mount, files, with_notebook
from tests.emulators.kaggle.settings import World

GUARD = Path(__file__).with_name("guard.py")
QUEUED, RUNNING, COMPLETE, ERROR = "QUEUED", "RUNNING", "COMPLETE", "ERROR"
CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED = "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What a session is to run. `seconds`: its time limit; `shape`: the accelerator asked for, '' for none."""

    ref: str
    version: int
    text: str
    notebook: bool
    shape: str
    internet: bool
    seconds: float
    mounts: tuple[Mount, ...]


@dataclass(frozen=True)
class End:
    """How a session is to end, or has ended."""

    status: str
    message: str = ""
    keep: bool = True


@dataclass
class Session:
    """See the module's docstring. `id` is the service's own, which no public call hands out."""

    id: int
    world: World
    plan: Plan
    machine: Machine
    faults: dict[str, Fault]
    on_end: Callable[[Session], None]
    status: str = QUEUED
    message: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    began: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    outputs_kept: bool = False

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: End | None = None
        self._stopping = threading.Event()
        self._decided = threading.Lock()

    # What others ask.

    @property
    def active(self) -> bool:
        """It counts against the cap: not ended, or a ghost, or ended so lately that the service has not noticed."""
        linger = self.world.settings.linger_seconds
        return self.ended is None or "ghost" in self.faults or time.time() - self.ended < linger

    @property
    def finished(self) -> bool:
        """Its status says that it has ended."""
        return self.status in (COMPLETE, ERROR, CANCEL_ACKNOWLEDGED)

    @property
    def conditions(self) -> dict[str, Any]:
        """What it ran under: sandbox and internet as they really were, and the accelerator that was asked for."""
        try:
            reached = json.loads(self.machine.report.read_text("utf-8"))
        except OSError:
            reached = {"sandbox": "not started", "internet": "not started"}
        return {**reached, "machineShape": self.plan.shape, "python": self.world.settings.python}

    def outputs(self) -> list[tuple[str, int, float]]:
        """Path, size and modification time of the outputs; none before the end."""
        return files(self.machine.working) if self.finished and self.outputs_kept else []

    def processes(self) -> list[psutil.Process]:
        """Every process that it has alive now, its guard first."""
        process = self._process
        if process is None or process.poll() is not None:
            return []
        try:
            guard = psutil.Process(process.pid)
            return [guard, *guard.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"session {self.plan.ref}", daemon=True).start()

    def ask(self, end: End) -> None:
        """Begin to kill it and everything that it has started. The first to say how it ends, says it."""
        with self._decided:
            if self._asked is None and not self.over.is_set():
                self._asked = end
            self._stopping.set()
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def stop(self, end: End) -> bool:
        """Kill it and everything that it has started; True when it is over."""
        self.ask(end)
        if not self.over.wait(KILL_SECONDS):
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        return self.over.wait(KILL_SECONDS)

    def lose(self, *, keep: bool) -> None:
        """End it as if its machine were gone."""
        self.stop(End(ERROR, "The session was lost.", keep))

    def expire(self) -> None:
        """End it as its time limit does."""
        message = "Your notebook tried to run for longer than the allowed time."
        self.stop(End(ERROR, message, self.world.settings.keep_timed_out_outputs))

    def cancel_on_website(self, *, keep: bool) -> None:
        """As the button on the website does: CANCEL_REQUESTED first, CANCEL_ACKNOWLEDGED a little later."""
        if self.over.is_set():
            return
        self._become(CANCEL_REQUESTED)
        asked = time.monotonic()
        while time.monotonic() - asked < self.world.settings.cancel_seconds and not self.over.wait(0.01):
            pass
        self.stop(End(CANCEL_ACKNOWLEDGED, keep=keep))

    def follow(self, seen: int, seconds: float) -> tuple[list[dict[str, Any]], bool]:
        """Records after the first `seen`, waiting for one for so long; and whether there will be no more."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.log) > seen or self.finished, timeout=seconds)
            return self.log[seen:], self.finished

    # What it does itself, in a thread of its own.

    def _run(self) -> None:
        late = self.faults["slow-queue"].number("seconds") if "slow-queue" in self.faults else 0.0
        timers: Sequence[threading.Timer] = ()
        try:
            if not self._stopping.wait(self.world.settings.queue_seconds + late):
                self.began = time.time()
                self._become(RUNNING)
                timers = self._timers()
                self._execute()
        except (OSError, ValueError) as error:
            self._say("stderr", f"{error}\n")
            self.exit_code = 1
        finally:
            for timer in timers:
                timer.cancel()
            try:
                self._finish()
            finally:
                self.over.set()

    def _timers(self) -> Sequence[threading.Timer]:
        timers = [threading.Timer(self.plan.seconds, self.expire)]
        for kind, act in (("lost", self.lose), ("cancelled", self.cancel_on_website)):
            if (fault := self.faults.get(kind)) is not None:
                keep = bool(fault.options.get("keep", self.world.settings.keep_lost_outputs))
                timers.append(threading.Timer(fault.number("seconds"), act, kwargs={"keep": keep}))
        for timer in timers:
            timer.daemon = True
            timer.start()
        return timers

    def _execute(self) -> None:
        plan, settings = self.plan, self.world.settings
        script = with_notebook(plan.text) if plan.notebook else plan.text
        spec = self.machine.prepare(script, plan.mounts, plan.internet, settings)
        command = [sys.executable, "-I", "-S", str(GUARD), str(spec)]
        with self._decided:
            if self._asked is not None:
                return
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env={}, start_new_session=True
            )
            self._process = process
        self.world.counters.session()
        streams = (("stdout", process.stdout), ("stderr", process.stderr))
        readers = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams]
        for reader in readers:
            reader.start()
        self.exit_code = process.wait()
        for reader in readers:
            reader.join(2.0)
        with self._decided:
            if process.stdin is not None:
                process.stdin.close()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        places = random.Random(f"{self.world.settings.seed} {self.plan.ref} {self.plan.version} {name}")
        with stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                text = decode(chunk)
                while text:
                    cut = len(text) > 1024 or places.random() < 0.25
                    size = places.randint(1, len(text)) if cut else len(text)
                    self._say(name, text[:size])
                    text = text[size:]

    def _say(self, name: str, text: str) -> None:
        seconds = round(time.time() - (self.began or self.created), 6)
        with self.changed:
            self.log.append({"stream_name": name, "time": seconds, "data": text})
            self.changed.notify_all()

    def _become(self, status: str, message: str = "") -> None:
        with self.changed:
            if not self.finished:
                self.status, self.message = status, message
            self.changed.notify_all()

    def _finish(self) -> None:
        with self._decided:
            end = self._asked or End(COMPLETE if self.exit_code == 0 else ERROR)
            self._asked = end
        size = sum(size for _, size, _ in files(self.machine.working))
        limit = self.world.settings.output_limit
        if size > limit:
            end = End(ERROR, f"Your notebook's output is larger than the allowed {limit} bytes.", keep=False)
        self.machine.clean(outputs=end.keep)
        self.outputs_kept = end.keep
        self.ended = time.time()
        self.on_end(self)
        if "ghost" not in self.faults:
            self._become(end.status, end.message)
