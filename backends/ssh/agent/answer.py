"""How a question comes and how its answer goes: a line of JSON and then bytes, each way.

That an answer is whole, and that nothing else was printed before it, the connection sees to (`backends.ssh.link`).
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    Json = dict[str, Any]


class Refusal(Exception):  # noqa: N818  an answer, not a mistake
    """What cannot be done on this host, and what to do about it: goes to the user as it is.

    `unsure`: it may yet come to be done.
    """

    def __init__(self, reason: str, remedy: str = "", *, unsure: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.unsure = unsure


def question(stream: BinaryIO) -> Json:
    """The first line of what comes. Raises ValueError for what is cut off."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("the question ends in the middle")
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("the question is no JSON object")
    return value


def take(stream: BinaryIO, size: int) -> bytes:
    """The next `size` bytes of what comes. Raises ValueError when there are fewer."""
    data = stream.read(size)
    if len(data) != size:
        raise ValueError(f"{size} bytes were announced, and {len(data)} came")
    return data


def answer(value: Json, body: bytes = b"") -> None:
    """Send it, and what follows."""
    sys.stdout.flush()
    left = memoryview(json.dumps(value).encode() + b"\n" + body)
    while left:
        left = left[os.write(1, left) :]
