"""What the supervisor writes for others to follow: whole lines, numbered events, no secrets, and a bell.

Standard library alone, and little of it: it stays in memory as long as the supervisor.
"""

from __future__ import annotations

import json
import os
import time

from .box import EVENT_MARK, Box

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .box import Json

LINE_LIMIT = 1 << 16  # characters of one line that are kept, and bytes that are read at a time
RESERVE_BYTES = 1 << 16  # given back to the disk when it is full, so that the last words can be written
LAST = "-last"  # a second reserve, for exit.json
WAITING_LINES = 10_000  # lines kept in memory while the disk is full
WAITING_BYTES = RESERVE_BYTES // 4  # of these, events that the reserve has room for beside manifest and last event
MARK = EVENT_MARK.encode()
SECRETS_VARIABLE = "SAMERUN_SECRETS"
SECRET_LENGTH = 4  # shorter values of variables ("1", "cpu") are no secrets
SECRET_LINE = 8


class Stream:
    """out/stream.log: whole lines, appended; and the bell that wakes whoever follows it."""

    def __init__(self, box: Box, attempt: Json) -> None:
        self._fd = os.open(box.stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._box = box
        self._attempt = attempt["attempt"]
        values = [os.environ.get(name, "") for name in attempt.get("variables", ())] + _sent_secrets()
        self._secrets = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._seq = 0
        self._waiting: list[bytes] = []
        self._whole = True  # the stream ends with a whole line
        self.bell = Bell(box)
        for reserve in (box.reserve, box.reserve + LAST):
            try:
                with open(reserve, "wb") as stream:
                    stream.write(b"\0" * RESERVE_BYTES)
            except OSError:
                pass  # full already: the training will say so

    def event(self, name: str, fields: Json) -> None:
        """Append one numbered event."""
        self._seq += 1
        head = {"attempt": self._attempt, "seq": self._seq, "time": round(time.time(), 3), "event": name}
        self._append(EVENT_MARK + json.dumps({**fields, **head}))

    def line(self, raw: bytes) -> None:
        """Append one line of the training's output; of a line redrawn by carriage returns, what was drawn last."""
        text = self.redact(raw.decode("utf-8", "replace").rstrip("\r\n").rsplit("\r", 1)[-1])[:LINE_LIMIT]
        self._append(" " + text if text.startswith(EVENT_MARK) else text)

    def redact(self, value: Any) -> Any:
        """What the training said, without the values of the attempt's variables."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        elif isinstance(value, list):
            return [self.redact(item) for item in value]
        elif isinstance(value, dict):
            return {key: self.redact(item) for key, item in value.items()}
        return value

    def _append(self, text: str) -> None:
        self._waiting.append(text.encode("utf-8", "replace") + b"\n")
        self.flush()

    def flush(self) -> None:
        """Write what waits. A full disk keeps lines waiting (the oldest are dropped past a limit), and is no crash."""
        try:
            while self._waiting:
                written = os.write(self._fd, self._waiting[0])
                self._whole = written == len(self._waiting[0])
                if self._whole:
                    del self._waiting[0]
                else:
                    self._waiting[0] = self._waiting[0][written:]
        except OSError:
            torn = 0 if self._whole else 1
            del self._waiting[torn : max(torn, len(self._waiting) - WAITING_LINES)]
        self.bell.ring()

    def make_room(self) -> None:
        """For the last words on a full disk: log lines give way to events, and the reserve is given up."""
        self.flush()
        if self._waiting:
            torn = 0 if self._whole else 1
            kept, room = [], WAITING_BYTES
            for line in reversed(self._waiting[torn:]):
                if line.startswith(MARK) and len(line) <= room:
                    kept.append(line)
                    room -= len(line)
            self._waiting = self._waiting[:torn] + kept[::-1]
            unlink(self._box.reserve)
            self.flush()


class Bell:
    """A local socket: who connects is sent a byte whenever the stream has grown, and its end when we end."""

    def __init__(self, box: Box) -> None:
        import socket

        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ringing: list[socket.socket] = []
        self.open = True
        here = os.getcwd()
        os.chdir(box.state)  # a socket's path may have about 100 bytes, a folder's name more
        try:
            self.listener.bind(os.path.basename(box.bell))
            self.listener.listen(16)
            self.listener.setblocking(False)
        except OSError:
            self.open = False  # a file system without sockets: followers look at the file instead
        finally:
            os.chdir(here)

    def accept(self) -> None:
        """Take a new follower."""
        try:
            follower, _ = self.listener.accept()
        except OSError:
            return
        follower.setblocking(False)
        self._ringing.append(follower)
        self.ring()

    def ring(self) -> None:
        """Wake the followers. One that does not listen has bells enough in its buffer already."""
        for follower in list(self._ringing):
            try:
                follower.send(b"\n")
            except BlockingIOError:
                pass
            except OSError:
                follower.close()
                self._ringing.remove(follower)


def _sent_secrets() -> list[str]:
    """The values that a backend sends beside the variables made of them; the training never sees this variable."""
    text = os.environ.pop(SECRETS_VARIABLE, "")
    try:
        values = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return [text]  # no list, but sent as secret: not to be shown either
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else [text]


def _forms(value: str) -> set[str]:
    """How a secret may look in a text: as it is, as Python or JSON writes it, and each long line of a key file."""
    if len(value) < SECRET_LENGTH:
        return set()
    lines = [line for line in value.splitlines() if len(line) >= SECRET_LINE]
    plain = {value, repr(value)[1:-1], *lines}
    return plain | {json.dumps(text, ensure_ascii=ascii_)[1:-1] for text in plain for ascii_ in (True, False)}


def unlink(path: str) -> None:
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except OSError:
        pass
