"""How the training process talks to the supervisor: one JSON object a line on an inherited pipe.

The supervisor numbers the events and puts them into the stream. Without a pipe (a training started by hand) they go
to standard output, so that nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FD_VARIABLE = "SAMERUN_EVENTS"
LIFELINE_VARIABLE = "SAMERUN_LIFELINE"


class Emitter:
    """Writes events; safe from several threads."""

    def __init__(self) -> None:
        self._fd = int(os.environ.get(FD_VARIABLE, "1"))
        self._lock = threading.Lock()

    def __call__(self, event: str, **fields: object) -> None:
        """Send one event. Numbers that JSON has no word for become null."""
        data = (json.dumps(_plain({"event": event, **fields}), allow_nan=False) + "\n").encode()
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]


def _plain(value: object) -> object:
    """JSON values only: NaN and infinities as null, numpy and torch scalars as numbers, anything else as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int)) else str(value)


def hold_lifeline(tidy: Callable[[], None] = lambda: None) -> None:
    """End this process as soon as the supervisor is gone, so that no training runs on without one; `tidy` first.

    The supervisor holds the other end of the pipe and never writes to it: reading returns when it dies.
    """
    number = os.environ.get(LIFELINE_VARIABLE)
    if number is None:
        return

    def wait() -> None:
        os.read(int(number), 1)
        with contextlib.suppress(Exception):  # the end must come
            tidy()
        if os.getpgrp() == os.getpid():  # the supervisor gave us a group of our own: what we started goes with us
            os.killpg(0, signal.SIGKILL)
        os._exit(143)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
