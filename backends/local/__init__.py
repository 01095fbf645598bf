"""This machine as a backend: the worker runs in a session of its own, so that closing the terminal leaves it running.

An attempt's box is `<runs>/.local/<attempt id>`. Whether its worker lives is told by a lock that the supervisor and
the training hold together and that the system takes back when both are gone: no process number is ever trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.local.box import asking, connect, elsewhere, lay_out, never_start, read, status_of, unless_gone
from backends.local.processes import Starter, kill_session, leader_of, unpack
from launcher.backend import (
    Attempt,
    Backend,
    DataSource,
    Feature,
    Handle,
    Lines,
    Need,
    Offer,
    RemoteFile,
    Request,
    Status,
)
from launcher.bundle.pack import WORKER
from launcher.errors import RemoteError
from launcher.files import storage
from launcher.finding import Finding, Severity
from launcher.settings import Settings
from launcher.variables import expand, references

CANCEL_S = 30.0  # the supervisor gives the training 10 s to end, then kills it
LOW_DISK_BYTES = 2 << 30
CUDA_SIGNS = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")  # the last one is WSL2's
FIRST_LOOK_S = 0.001
LOOK_S = 0.05  # how often a stream without a bell is looked at


@dataclass(frozen=True)
class LocalRequest(Request):
    """The folder that will be made and the command that will be started in it."""

    box: Path
    argv: tuple[str, ...]
    attempt_json: Mapping[str, Any]

    def show(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().show(), "box": str(self.box), "argv": list(self.argv), "attempt.json": self.attempt_json}


class LocalBackend(Backend[LocalRequest]):
    """See `launcher.backend.Backend`."""

    name = "local"
    lacks: Mapping[Feature, str] = {}

    def __init__(self, settings: Settings) -> None:
        self._root = settings.runs_dir / ".local"
        self._workers = settings.cache_dir / "worker"
        self._bells: dict[str, socket.socket] = {}
        self._starter = Starter()

    def check(self) -> list[Finding]:
        """Disk and accelerators of this machine."""
        found = [Finding("local.device", Severity.INFO, f"`auto` is {_auto()} here", platform.platform())]
        folder = self._standing()
        free = shutil.disk_usage(folder).free
        if free < LOW_DISK_BYTES:
            message, remedy = f"{free / 1e9:.1f} GB are free at {folder}", "free some space, or set SAMERUN_RUNS_DIR"
            found.append(Finding("local.disk", Severity.WARNING, message, remedy=remedy))
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            message, remedy = f"{folder} cannot be written", "mend its permissions, or set SAMERUN_RUNS_DIR"
            found.append(Finding("local.runs-dir", Severity.ERROR, message, remedy=remedy))
        return found

    def offer(self, need: Need) -> Offer:
        """This machine, if it has the device."""
        device = _auto() if need.device == "auto" else need.device
        findings = []
        if need.options:
            message = f"this machine has no resources setting {', '.join(sorted(need.options))}"
            findings.append(Finding("local.options", Severity.ERROR, message, remedy="remove it from resources"))
        if device not in ("cpu", _auto()):
            # Ultralytics would train on the CPU and write the other device into args.yaml.
            message = f"resources.device is {device}, and this machine has none"
            seen = {"cuda": f"none of {', '.join(CUDA_SIGNS)}", "mps": "mps is Apple silicon's"}.get(device, "")
            if device == "cuda" and _hidden():
                seen = f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}"
            remedy = "set resources.device to auto or cpu"
            findings.append(Finding("local.no-device", Severity.ERROR, message, seen, remedy))
        machine = f"{platform.node() or 'this machine'}, {os.cpu_count()} CPUs"
        disk = shutil.disk_usage(self._standing()).free
        return Offer(machine, device, need.max_hours, 0.0, _free_memory(), disk, tuple(findings))

    def prepare(self, attempt: Attempt) -> LocalRequest:
        """The box and the command."""
        box = self._box(attempt.id)
        # The files lie where they were hashed: nothing travelled. `auto` is for the worker to decide: it can ask torch.
        here = {"device": attempt.need.device, "python": sys.executable, "verify_data": False}
        described = {**attempt.describe, **here}
        if isinstance(attempt.data, DataSource):
            described["data_root"] = str(attempt.data.root)
        argv = (sys.executable, "-I", "-S", str(self._unpacked(attempt) / "__main__.py"), str(box))
        return LocalRequest(attempt, box, argv, described)

    def submit(self, request: LocalRequest) -> Handle:
        """Lay the box out under a temporary name, rename it, start the supervisor (which starts once per box)."""
        values = {name: expand(text, os.environ) for name, text in request.attempt.variables.items()}
        if host := elsewhere(request.box):
            raise RemoteError(f"{request.attempt.id} was begun on {host}", remedy=f"`launch attach` on {host}")
        if not request.box.exists():
            with storage("laying out the attempt"):
                lay_out(request.box, request.attempt.inputs, request.attempt_json)
        unpack(request.box / "in" / WORKER, self._unpacked(request.attempt))
        named = {name for text in request.attempt.variables.values() for name in references(text)}
        secrets = json.dumps([os.environ[name] for name in sorted(named)])
        self._starter.start(request.argv[:-1], request.box, {**os.environ, **values, "SAMERUN_SECRETS": secrets})
        return self._handle(request.attempt.id)

    def find(self, attempt: Attempt) -> Handle | None:
        """A box whose supervisor was started."""
        with asking("the runs folder"):
            return self._handle(attempt.id) if (self._box(attempt.id) / "state" / "started").exists() else None

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """By lock and exit.json."""
        self._starter.reap()
        return {handle.attempt: status_of(self._box(handle.attempt)) for handle in handles}

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """Whole lines after a byte offset. Woken by the supervisor's bell; where there is none, it looks."""
        stream = self._box(handle.attempt) / "out" / "stream.log"
        offset = int(cursor or 0)
        until = time.monotonic() + wait
        bell = self._bell(handle.attempt)
        pause = FIRST_LOOK_S
        while True:
            found = read(stream, offset)
            left = until - time.monotonic()
            if found.lines or left <= 0:
                return found
            if bell is None:
                if status_of(self._box(handle.attempt)).state.ended:
                    return read(stream, offset)
                time.sleep(min(pause, left))
                pause = min(2 * pause, LOOK_S)
                bell = self._bell(handle.attempt)
            elif not self._listen(handle.attempt, bell, left):
                return read(stream, offset)  # the supervisor has ended: no reason to wait on

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What lies in the outbox. The training adds and removes files meanwhile."""
        out = self._box(handle.attempt) / "out"
        found = []
        with asking(out):
            for folder, _, names in os.walk(out, onerror=unless_gone):
                for path in (Path(folder, name) for name in names):
                    with contextlib.suppress(FileNotFoundError):
                        if stat.S_ISREG((seen := path.lstat()).st_mode):
                            found.append(RemoteFile(path.relative_to(out).as_posix(), seen.st_size))
        return sorted(found, key=lambda file: file.path) if out.is_dir() else None

    def fetch(self, handle: Handle, paths: Sequence[str], to: Path) -> None:
        """Copy: Ultralytics may still write the original."""
        out = self._box(handle.attempt) / "out"
        for path in paths:
            source, target = out / path, to / path
            if Path(path).is_absolute() or ".." in Path(path).parts or not source.is_file() or source.is_symlink():
                continue
            with storage("keeping what came back"), contextlib.suppress(FileNotFoundError):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def cancel(self, handle: Handle) -> Status:
        """Ask the supervisor, which ends the whole process group; kill the session when it does not answer."""
        box = self._box(handle.attempt)
        status = status_of(box)
        if status.state.ended or not box.exists():
            return status
        if host := elsewhere(box):
            raise RemoteError(f"{handle.attempt} runs on {host}", remedy=f"`launch cancel` it on {host}")
        (box / "state" / "cancel").touch()
        never_start(box)
        until = time.monotonic() + CANCEL_S
        asked = False
        while not (status := status_of(box)).state.ended:
            leader = leader_of(box)
            if leader and not asked:
                asked = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGTERM)
            if time.monotonic() > until:
                kill_session(leader)
                if time.monotonic() > until + 5:
                    raise RemoteError(
                        f"{handle.attempt} does not end", remedy=f"look at the processes of session {leader}"
                    )
            time.sleep(0.02)
        return status

    def release(self, handle: Handle) -> list[str]:
        """Delete the box of an attempt that has ended."""
        box = self._box(handle.attempt)
        if bell := self._bells.pop(handle.attempt, None):
            bell.close()
        if not box.exists():
            return []
        if not (status := status_of(box)).state.ended:
            return [f"{box}: {status.reason or f'it is {status.state}'}; cancel it first"]
        shutil.rmtree(box, ignore_errors=True)
        return [f"{box}: could not be deleted"] if box.exists() else []

    def owned(self) -> list[Handle]:
        """Every box that is still there."""
        if not self._root.is_dir():
            return []
        return [self._handle(box.name) for box in sorted(self._root.iterdir()) if not box.name.startswith(".")]

    # Below the contract.

    def _standing(self) -> Path:
        """The runs folder, or the nearest folder above it that exists."""
        return next(path for path in (self._root, *self._root.parents) if path.exists())

    def _box(self, attempt: str) -> Path:
        return self._root / attempt

    def _handle(self, attempt: str) -> Handle:
        return Handle(self.name, attempt, {"box": str(self._box(attempt))})

    def _unpacked(self, attempt: Attempt) -> Path:
        worker = next(file for file in attempt.inputs if file.path == WORKER)
        return self._workers / worker.sha256

    def _bell(self, attempt: str) -> socket.socket | None:
        if attempt not in self._bells:
            with contextlib.suppress(OSError):
                self._bells[attempt] = connect(self._box(attempt) / "state" / "bell")
        return self._bells.get(attempt)

    def _listen(self, attempt: str, bell: socket.socket, wait: float) -> bool:
        """Wait for the bell; False when the supervisor has ended."""
        ready, _, _ = select.select([bell], [], [], wait)
        try:
            if not ready or bell.recv(4096):
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        self._bells.pop(attempt).close()
        return False


def _free_memory() -> int | None:
    """Bytes that a new process can have without swapping; None where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as stream:
            found = dict(line.split(":", 1) for line in stream)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _hidden() -> bool:
    """Whether CUDA is told to see no device."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _auto() -> str:
    """What `device: auto` will most likely be here: torch decides, in the worker; importing it takes too long."""
    if not _hidden() and any(Path(sign).exists() for sign in CUDA_SIGNS):
        return "cuda"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"
