"""Forks a supervisor for each box it is told of: many short attempts would else pay for Python's start every time.

It reads lines of JSON, `{"box": folder, "env": variables}`, and ends with its input, so with whoever started it. Each
supervisor has a session of its own and outlives it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket  # noqa: F401  imported once, here, for all of them, like the next
import sys

from . import manifest  # noqa: F401
from .supervise import supervise


def nurse() -> int:
    """Serve standard input to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a supervisor: its box tells what became of it
    gc.freeze()  # what is shared with the children stays shared
    for line in iter(sys.stdin.buffer.readline, b""):
        wanted = json.loads(line)
        if os.fork() == 0:
            code = 1
            try:
                os.setsid()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                os.environ.clear()
                os.environ.update(wanted["env"])
                code = supervise(wanted["box"])
            finally:
                os._exit(code)
    return 0
