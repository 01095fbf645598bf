"""The worker's stream by byte offset: whole lines alone, and a wait that the supervisor's bell ends."""

from __future__ import annotations

import os
import select
import socket
import time

from .box import box_of, status

READ_BYTES = 1 << 20
FIRST_LOOK_S = 0.001
LOOK_S = 0.05  # how often a stream without a bell is looked at


def lines(root: str, attempt: str, offset: int, wait: float) -> bytes:
    """Whole lines after the offset; returns at once when there are any or the attempt has ended, else within `wait` s.

    Empty when there are none.
    """
    box = box_of(root, attempt)
    until = time.monotonic() + wait
    found = read(box, offset)
    if found or wait <= 0:
        return found
    bell = connect(box)
    pause = FIRST_LOOK_S
    while not (found := read(box, offset)):
        left = until - time.monotonic()
        if left <= 0:
            break
        if bell is None:
            if status(root, attempt)["state"] not in ("queued", "running"):
                return read(box, offset)
            time.sleep(min(pause, left))
            pause = min(2 * pause, LOOK_S)
            bell = connect(box)
        elif select.select([bell], [], [], left)[0] and not _rings(bell):
            return read(box, offset)  # the supervisor has ended: no reason to wait on
    return found


def read(box: str, offset: int) -> bytes:
    """Whole lines after the offset: about a megabyte, or one line that is longer."""
    try:
        with open(os.path.join(box, "out", "stream.log"), "rb") as stream:
            stream.seek(offset)
            data = stream.read(READ_BYTES)
            while b"\n" not in data and (more := stream.read(READ_BYTES)):
                data += more
    except (FileNotFoundError, NotADirectoryError):
        return b""
    return data[: data.rfind(b"\n") + 1]


def connect(box: str) -> socket.socket | None:
    """The bell's socket, if it can be had. Its path may be longer than a socket's address: named from its folder."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(os.path.join(box, "state"))
        bell.connect("bell")
    except OSError:
        bell.close()
        return None
    return bell


def _rings(bell: socket.socket) -> bool:
    try:
        return bool(bell.recv(4096))
    except OSError:
        return False
