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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.backend import Attempt, Feature, Handle, Lines, Need, Offer, RemoteFile, Request, State, Status
from launcher.bundle.pack import WORKER
from launcher.errors import RemoteError, SamerunError
from launcher.files import is_held, storage, try_lock, write_atomic
from launcher.finding import Finding, Severity
from launcher.settings import Settings
from launcher.variables import expand

READ_BYTES = 1 << 20
CANCEL_S = 30.0  # the supervisor gives the training 10 s to end, then kills it
START_S = 20.0  # a supervisor takes 0.03 s to start; a machine that swaps, longer
START_LOOK_S = 0.002
LOW_DISK_BYTES = 2 << 30
FIRST_LOOK_S = 0.001
LOOK_S = 0.05  # how often a stream without a bell is looked at
OUTCOMES = {
    "done": State.SUCCEEDED,
    "failed": State.FAILED,
    "expired": State.EXPIRED,
    "cancelled": State.CANCELLED,
}


@dataclass(frozen=True)
class LocalRequest(Request):
    """The folder that will be made and the command that will be started in it."""

    box: Path
    argv: tuple[str, ...]
    attempt_json: Mapping[str, Any]

    def show(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().show(), "box": str(self.box), "argv": list(self.argv), "attempt.json": self.attempt_json}


class LocalBackend:
    """See `launcher.backend.Backend`."""

    name = "local"
    lacks: Mapping[Feature, str] = {}

    def __init__(self, settings: Settings) -> None:
        self._root = settings.runs_dir / ".local"
        self._workers = settings.cache_dir / "worker"
        self._bells: dict[str, socket.socket] = {}
        self._children: set[int] = set()
        self._started_one = False
        self._nursery: tuple[int, int] | None = None  # its process number, and the pipe it listens to
        self._nursery_lock = threading.Lock()

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
            remedy = "set resources.device to auto or cpu, or choose another backend"
            findings.append(Finding("local.no-device", Severity.ERROR, message, platform.platform(), remedy))
        machine = f"{platform.node() or 'this machine'}, {os.cpu_count()} CPUs"
        disk = shutil.disk_usage(self._standing()).free
        return Offer(machine, device, need.max_hours, 0.0, _free_memory(), disk, tuple(findings))

    def prepare(self, attempt: Attempt) -> LocalRequest:
        """The box and the command."""
        box = self._box(attempt.id)
        device = _auto() if attempt.need.device == "auto" else attempt.need.device
        described = {**attempt.describe, "device": device, "python": sys.executable}
        if attempt.data is not None:
            described["data_root"] = str(attempt.data.root)
        awake = ("/usr/bin/caffeinate", "-i") if sys.platform == "darwin" else ()
        argv = (*awake, sys.executable, "-I", "-S", str(self._unpacked(attempt) / "__main__.py"), str(box))
        return LocalRequest(attempt, box, argv, described)

    def submit(self, request: LocalRequest) -> Handle:
        """Lay the box out under a temporary name, rename it, start the supervisor (which starts once per box)."""
        values = {name: expand(text, os.environ) for name, text in request.attempt.variables.items()}
        if not request.box.exists():
            with storage("laying out the attempt"):
                _lay_out(request)
        self._unpack(request.attempt)
        self._start(request, {**os.environ, **values})
        return self._handle(request.attempt.id)

    def find(self, attempt: Attempt) -> Handle | None:
        """A box whose supervisor was started."""
        with _asking("the runs folder"):
            return self._handle(attempt.id) if (self._box(attempt.id) / "state" / "started").exists() else None

    def poll(self, handles: Sequence[Handle]) -> dict[str, Status]:
        """By lock and exit.json."""
        for child in list(self._children):  # ours, if this process started them: no zombies
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG)[0] == 0:
                    continue
            self._children.discard(child)
        return {handle.attempt: _status(self._box(handle.attempt)) for handle in handles}

    def lines(self, handle: Handle, cursor: str, wait: float) -> Lines:
        """Whole lines after a byte offset. Woken by the supervisor's bell; where there is none, it looks."""
        stream = self._box(handle.attempt) / "out" / "stream.log"
        offset = int(cursor or 0)
        until = time.monotonic() + wait
        bell = self._bell(handle.attempt)
        pause = FIRST_LOOK_S
        while True:
            found = _read(stream, offset)
            left = until - time.monotonic()
            if found.lines or left <= 0:
                return found
            if bell is None:
                if _status(self._box(handle.attempt)).state.ended:
                    return _read(stream, offset)
                time.sleep(min(pause, left))
                pause = min(2 * pause, LOOK_S)
                bell = self._bell(handle.attempt)
            elif not self._listen(handle.attempt, bell, left):
                return _read(stream, offset)  # the supervisor has ended: no reason to wait on

    def files(self, handle: Handle) -> list[RemoteFile] | None:
        """What lies in the outbox. The training adds and removes files meanwhile."""
        out = self._box(handle.attempt) / "out"
        found = []
        with _asking(out):
            for folder, _, names in os.walk(out, onerror=_unless_gone):
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
        status = _status(box)
        if status.state.ended or not box.exists():
            return status
        (box / "state" / "cancel").touch()
        _never_start(box)
        until = time.monotonic() + CANCEL_S
        asked = False
        while not (status := _status(box)).state.ended:
            leader = _leader(box)
            if leader and not asked:
                asked = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGTERM)
            if time.monotonic() > until:
                _kill_session(leader)
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
        if not (status := _status(box)).state.ended:
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
        """Where the worker lies unpacked: Python keeps what it compiled of it there, which it cannot beside a zip."""
        worker = next(file for file in attempt.inputs if file.path == WORKER)
        return self._workers / worker.sha256

    def _unpack(self, attempt: Attempt) -> None:
        folder = self._unpacked(attempt)
        if (folder / "__main__.py").exists():
            return
        import zipfile

        part = folder.with_name(f".part-{folder.name[:16]}-{os.getpid()}-{threading.get_ident()}")
        with storage("unpacking the worker"), zipfile.ZipFile(self._box(attempt.id) / "in" / WORKER) as archive:
            archive.extractall(part)
            with contextlib.suppress(OSError):  # another process was first
                part.rename(folder)
            shutil.rmtree(part, ignore_errors=True)

    def _start(self, request: LocalRequest, env: Mapping[str, str]) -> None:
        """Start the supervisor, and wait until it has taken the box: from then on `find` knows it.

        From the second one of this process on, a nursery forks it: a sweep of short runs need not start Python anew
        for each. Not on macOS, where each supervisor has its own caffeinate.
        """
        if self._started_one and sys.platform != "darwin":
            child = self._nursed(request, env)
        else:
            self._started_one = True
            child = _spawn(request.argv, env, os.devnull)
            self._children.add(child)
        until = time.monotonic() + START_S
        code = 0
        while not (request.box / "state" / "started").exists() and time.monotonic() < until:
            if code != 0:
                raise SamerunError(f"the worker did not start (exit code {code})", remedy=f"run {list(request.argv)}")
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else 0  # 0: another supervisor has the box
            time.sleep(START_LOOK_S)

    def _nursed(self, request: LocalRequest, env: Mapping[str, str]) -> int:
        """Tell the nursery, which is started when there is none; returns its process number."""
        wanted = json.dumps({"box": str(request.box), "env": dict(env)}).encode() + b"\n"
        with self._nursery_lock:
            if self._nursery is None:
                told, tell = os.pipe()
                argv = (*request.argv[:-1], "nursery")
                self._nursery = (_spawn(argv, os.environ, told), tell)
                self._children.add(self._nursery[0])
                os.close(told)
            child, tell = self._nursery
            try:
                while wanted:
                    wanted = wanted[os.write(tell, wanted) :]
            except BrokenPipeError as error:
                os.close(tell)
                self._nursery = None
                raise RemoteError("the process that starts workers is gone", remedy="once more") from error
        return child

    def _bell(self, attempt: str) -> socket.socket | None:
        if attempt not in self._bells:
            with contextlib.suppress(OSError):
                self._bells[attempt] = _connect(self._box(attempt) / "state" / "bell")
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


@contextmanager
def _asking(what: object) -> Iterator[None]:
    """What the system refuses to tell is an answer that did not come; that a file is not there is one."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RemoteError(f"{what} cannot be looked at: {error.strerror}") from error


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _spawn(argv: Sequence[str], env: Mapping[str, str], stdin: str | int) -> int:
    """Start a program in a session of its own; returns its process number."""
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    if isinstance(stdin, int):
        actions[0] = (os.POSIX_SPAWN_DUP2, stdin, 0)
    try:
        return os.posix_spawn(argv[0], list(argv), env, file_actions=actions, setsid=True)
    except OSError as error:
        raise SamerunError(f"{argv[0]} cannot be started: {error.strerror}") from error


def _lay_out(request: LocalRequest) -> None:
    """Make the box under another name, and give it its own: a box is whole, or not there."""
    part = request.box.with_name(f".part-{request.box.name}-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for folder in ("in", "out", "state", "work"):
            (part / folder).mkdir(parents=True)
        for file in request.attempt.inputs:
            target = part / "in" / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, target)
        write_atomic(part / "in" / "attempt.json", json.dumps(dict(request.attempt_json)).encode())
        try:
            part.rename(request.box)
        except OSError:
            if not request.box.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _status(box: Path) -> Status:
    """What box, lock and exit.json say."""
    state = box / "state"
    try:
        if not box.exists():
            return Status(State.LOST, "its folder is gone")
        if not (state / "started").exists():
            return Status(State.QUEUED)
        if is_held(state / "lock"):
            return Status(State.RUNNING)
        ended = json.loads((state / "exit.json").read_bytes())
        return Status(OUTCOMES.get(ended["outcome"], State.UNKNOWN), ended.get("reason", ""), ended.get("exit_code"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        if (state / "cancel").exists():
            return Status(State.CANCELLED)
        return Status(State.LOST, "its supervisor is gone without a word (killed, or a restart)")
    except OSError as error:
        return Status(State.UNKNOWN, f"{box} cannot be looked at: {error.strerror}")


def _never_start(box: Path) -> None:
    """End a box whose supervisor was never started (its submit was killed): one that comes later finds it taken."""
    state = box / "state"
    with try_lock(state / "lock") as free:
        if free and not (state / "started").exists():
            write_atomic(state / "exit.json", b'{"outcome": "cancelled", "reason": "cancelled before it was started"}')
            write_atomic(state / "started", b"")


def _connect(path: Path) -> socket.socket:
    """A socket connected to one whose path may be longer than the 100 bytes that an address holds."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bell.setblocking(False)
        if len(os.fsencode(path)) < 100:
            bell.connect(str(path))
            return bell
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            bell.connect(f"/proc/self/fd/{folder}/{path.name}")  # Linux; elsewhere the stream is looked at instead
        finally:
            os.close(folder)
    except OSError:
        bell.close()
        raise
    return bell


def _read(stream: Path, offset: int) -> Lines:
    try:
        with _asking(stream), stream.open("rb") as file:
            file.seek(offset)
            data = file.read(READ_BYTES)
            while b"\n" not in data and (more := file.read(READ_BYTES)):
                data += more  # a line that is longer than a read
    except FileNotFoundError:
        return Lines((), str(offset))
    whole = data[: data.rfind(b"\n") + 1]
    return Lines(tuple(whole.decode("utf-8", "replace").split("\n")[:-1]), str(offset + len(whole)))


def _leader(box: Path) -> int:
    """The supervisor's process number, which is also its session's; 0 while it is not known."""
    try:
        return int((box / "state" / "started").read_text() or 0)
    except (OSError, ValueError):
        return 0


def _kill_session(leader: int) -> None:
    """Kill every process of the supervisor's session that is still there."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if leader and os.getsid(process.pid) == leader:
                process.kill()


def _free_memory() -> int | None:
    """Bytes that a new process can have without swapping; None where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as stream:
            found = dict(line.split(":", 1) for line in stream)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _auto() -> str:
    """What `device: auto` is here, without importing torch: CUDA, else Apple's GPU, else the CPU."""
    if Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists():
        return "cuda"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"
