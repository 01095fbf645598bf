"""The processes of this backend: supervisors in sessions of their own, and the nursery that forks them for a sweep."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.errors import RemoteError, SamerunError
from launcher.files import storage

START_S = 20.0  # a supervisor takes 0.03 s to start; a machine that swaps, longer
START_LOOK_S = 0.0005
CAFFEINATE = "/usr/bin/caffeinate"


class Starter:
    """Starts supervisors, and waits for their ends so that none stays behind as a zombie."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._started_one = False
        self._nursery: tuple[tuple[str, ...], int, int] | None = None  # its command, process and the pipe it listens to
        self._lock = threading.Lock()

    def start(self, argv: Sequence[str], box: Path, env: Mapping[str, str]) -> None:
        """Run `argv` with the box as its last argument, and wait until it has taken the box.

        From the second one of this process on, a nursery forks it: a sweep of short runs need not start Python anew
        for each. On macOS the machine is kept awake for as long as the supervisor lives. Raises SamerunError for a
        worker that cannot start, RemoteError for one that did not and may when it is tried again.
        """
        if self._started_one:
            child = self._nursed((*argv, "nursery"), box, env)
        else:
            self._started_one = True
            child = _spawn((*argv, str(box)), env, os.devnull)
            self._children.add(child)
        until = time.monotonic() + START_S
        started = box / "state" / "started"
        code = 0
        while not started.exists():
            if code < 0 or time.monotonic() > until:
                how = f"it was ended by signal {-code}" if code < 0 else f"not within {START_S:g} s"
                raise RemoteError(f"the worker did not take its box: {how}", remedy="once more")
            if code > 0:
                raise SamerunError(f"the worker did not start (exit code {code})", remedy=f"run {[*argv, str(box)]}")
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else 0  # 0: another supervisor has the box
            time.sleep(START_LOOK_S)
        if sys.platform == "darwin":
            self._children.add(_spawn((CAFFEINATE, "-i", "-w", str(leader_of(box))), os.environ, os.devnull))

    def reap(self) -> None:
        """Take note of children that have ended."""
        for child in list(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG)[0] == 0:
                    continue
            self._children.discard(child)

    def _nursed(self, argv: tuple[str, ...], box: Path, env: Mapping[str, str]) -> int:
        """Tell the nursery, which is started when there is none of this worker; returns its process number."""
        wanted = json.dumps({"box": str(box), "env": dict(env)}).encode() + b"\n"
        with self._lock:
            if self._nursery is None or self._nursery[0] != argv:
                self._forget()
                told, tell = os.pipe()
                self._nursery = (argv, _spawn(argv, os.environ, told), tell)
                self._children.add(self._nursery[1])
                os.close(told)
            _, child, tell = self._nursery
            try:
                while wanted:
                    wanted = wanted[os.write(tell, wanted) :]
            except BrokenPipeError as error:
                self._forget()
                raise RemoteError("the process that starts workers is gone", remedy="once more") from error
        return child

    def _forget(self) -> None:
        if self._nursery is not None:
            os.close(self._nursery[2])
            self._nursery = None


def unpack(worker: Path, folder: Path) -> None:
    """Unpack the worker, once: Python keeps what it compiled of it there, which it cannot beside a zip."""
    if (folder / "__main__.py").exists():
        return
    import zipfile

    part = folder.with_name(f".part-{folder.name[:16]}-{os.getpid()}-{threading.get_ident()}")
    with storage("unpacking the worker"), zipfile.ZipFile(worker) as archive:
        archive.extractall(part)
        with contextlib.suppress(OSError):  # another process was first
            part.rename(folder)
        shutil.rmtree(part, ignore_errors=True)


def leader_of(box: Path) -> int:
    """The supervisor's process number, which is also its session's; 0 while it is not known."""
    try:
        return int((box / "state" / "started").read_text() or 0)
    except (OSError, ValueError):
        return 0


def kill_session(leader: int) -> None:
    """Kill every process of the supervisor's session that is still there."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if leader and os.getsid(process.pid) == leader:
                process.kill()


def _spawn(argv: Sequence[str], env: Mapping[str, str], stdin: str | int) -> int:
    """Start a program in a session of its own; returns its process number."""
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    if isinstance(stdin, int):
        actions[0] = (os.POSIX_SPAWN_DUP2, stdin, 0)
    try:
        return os.posix_spawn(argv[0], list(argv), env, file_actions=actions, setsid=True)
    except NotImplementedError:  # a system whose posix_spawn makes no sessions
        import subprocess

        null = subprocess.DEVNULL
        source = stdin if isinstance(stdin, int) else null
        return subprocess.Popen(argv, env=env, stdin=source, stdout=null, stderr=null, start_new_session=True).pid
    except OSError as error:
        raise SamerunError(f"{argv[0]} cannot be started: {error.strerror}") from error
