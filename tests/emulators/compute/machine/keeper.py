"""Ends what an emulator leaves when it dies in whatever way: run as `python -I keeper.py MARK ROOT`.

Its stdin is a lifeline. At its end, every process with MARK in its environment is killed, and every sshd whose command
line names a file below ROOT.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time

import psutil

SECONDS = 10.0


def main() -> int:
    mark, root = sys.argv[1:3]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and sum(_killed(one, mark, root) for one in psutil.process_iter()):
        time.sleep(0.02)
    return 0


def _killed(process: psutil.Process, mark: str, root: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        ours = mark in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE
        if ours or (process.name().startswith("sshd") and any(root in word for word in process.cmdline())):
            process.kill()
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
