"""Runs a command on a pseudo-terminal and notes when each line of `benchmarks/stamp.py` can be read on it."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STAMP = re.compile(rb"STAMP (\d+) (\d+)")
LIMIT_S = 60.0
"""A command that is silent for so long is killed."""
READ_BYTES = 1 << 16
SETTLED_LINES = 5
"""After so many lines memory is looked at: all that is imported at the start has been imported."""
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Watched:
    """One run, in milliseconds: start to first line readable, each line written to readable, last line to exit."""

    first: float
    lines: tuple[float, ...]
    end: float
    code: int
    output: str


def watch(
    argv: Sequence[str], env: Mapping[str, str], folder: Path, settled: Callable[[int], None] | None = None
) -> Watched:
    """Run the command; `settled(pid)` is called once, right after a line."""
    leader, follower = os.openpty()
    actions = [(os.POSIX_SPAWN_DUP2, follower, fd) for fd in (0, 1, 2)]  # the others close themselves at exec
    here = Path.cwd()
    os.chdir(folder)
    begun = time.time_ns()
    try:
        child = os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=True)
    finally:
        os.chdir(here)
        os.close(follower)
    exit_fd = os.pidfd_open(child)
    try:
        return _read(leader, exit_fd, child, begun, settled)
    finally:
        os.close(leader)
        os.close(exit_fd)


def _read(leader: int, exit_fd: int, child: int, begun: int, settled: Callable[[int], None] | None) -> Watched:
    heard: dict[int, tuple[int, int]] = {}  # number of the line: written, readable
    output, rest = b"", b""
    open_fds = [leader, exit_fd]
    ended = 0
    while open_fds:
        ready, _, _ = select.select(open_fds, [], [], LIMIT_S)
        now = time.time_ns()
        if not ready:
            os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"silent for {LIMIT_S:g} s after: {output[-500:].decode(errors='replace')}")
        if exit_fd in ready and not ended:
            ended = now
            open_fds = [leader]
        data = _take(leader) if leader in ready else b""
        output += data
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if found := STAMP.search(line):
                heard.setdefault(int(found[1]), (int(found[2]), now))
        if settled is not None and len(heard) >= SETTLED_LINES:
            settled(child)
            settled = None
        if (leader in ready and not data) or (ended and leader not in ready):
            break
    _, status = os.waitpid(child, 0)
    ended = ended or time.time_ns()
    code = os.waitstatus_to_exitcode(status)
    text = output.decode("utf-8", "replace")
    if not heard:
        raise RuntimeError(f"exit code {code}, and no line of the job: {text[-800:]}")
    lines = tuple((readable - written) / NS_PER_MS for written, readable in heard.values())
    last = heard[max(heard)][0]
    return Watched((heard[min(heard)][1] - begun) / NS_PER_MS, lines, (ended - last) / NS_PER_MS, code, text)


def _take(leader: int) -> bytes:
    try:
        return os.read(leader, READ_BYTES)
    except OSError:  # Linux: the last process has closed the terminal
        return b""


def pss_mb(pid: int) -> float:
    """Proportional set size of one process in MB (10^6 bytes), from the kernel. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss")
