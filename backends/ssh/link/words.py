"""Words for a shell nobody knows, and the frame around what comes back.

Promises: each word arrives at the command as it was given, whatever is in it, through any login shell (sh, bash, dash,
zsh, ksh, fish, csh). What the login prints before the command is no output of it. An exit code counts only when the
command's own line at the very end of the output says the same as the channel: a connection that breaks, a login that
refuses and a gateway that answers in the host's place all end with some code, or none, and are not mistaken for one.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Sequence

from launcher.errors import RemoteError

LONGEST = 100_000
"""Bytes of a command line: Linux takes no argument over 131,072 bytes (MAX_ARG_STRLEN), and the line is one."""
NOISE = 1 << 16
"""Bytes that a login may print before the command begins. Assumption: a greeting is shorter."""
_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b"\\!")
"""What stands for itself within single quotes in every shell: fish takes a backslash there for an escape, csh a `!`."""
_RUN = 'echo "$1"; m=$1; shift; "$@"; c=$?; echo "$m $c"; exit $c'
_DECODE = 'm=$1; eval "set -- $(printf %b "$(echo "$2" | tr _ "\\134")")"; set -- "$m" "$@"; '
"""Words with other bytes come as one word, in which _0ooo is a byte in octal."""


def command_line(argv: Sequence[str], mark: str) -> str:
    """The line that runs `argv` between two marks. Raises ValueError for what no command line can carry."""
    words = [os.fsencode(word) for word in argv]
    if not words or any(b"\0" in word for word in words):
        raise ValueError(f"no command line can carry {list(argv)!r}")
    if all(_PLAIN.issuperset(word) for word in words):
        line = _sh(_RUN, mark, *(word.decode("ascii") for word in words))
    else:
        quoted = b" ".join(b"'" + word.replace(b"'", b"'\"'\"'") + b"'" for word in words)
        line = _sh(_DECODE + _RUN, mark, "".join(f"_0{byte:03o}" for byte in quoted))
    if len(line) > LONGEST:
        raise ValueError(f"a command line of {len(line)} bytes is too long: give what is long by the input")
    return line


def _sh(script: str, *words: str) -> str:
    quoted = ("'" + word.replace("'", "'\"'\"'") + "'" for word in (script, "sh", *words))
    return f"exec /bin/sh -c {' '.join(quoted)}"


class Frame:
    """Takes what comes from the channel and hands on what the command printed. `sink` gets each piece once."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.mark = secrets.token_hex(16)
        self._sink = sink
        self._begin = f"{self.mark}\n".encode()
        self._end = re.compile(rb"%s (\d{1,3})\n" % self.mark.encode())
        self._longest = len(self._begin) + len(" 255")
        self._begun = False
        self._held = b""

    def take(self, piece: bytes) -> None:
        """The next bytes of the channel's output. Raises RemoteError when the command does not begin."""
        self._held += piece
        if not self._begun:
            before, self._begun, self._held = _after(self._held, self._begin)
            if not self._begun and len(before) > NOISE:
                raise RemoteError(
                    "the login prints without end before any command runs",
                    remedy="look at the start-up files of the login shell on that machine",
                )
        if self._begun and len(self._held) > self._longest:
            held, self._held = self._held[-self._longest :], self._held[: -self._longest]
            self._sink(self._held)
            self._held = held

    def close(self) -> int | None:
        """The output is at its end: the command's exit code, None when it has not said one."""
        found = self._end.search(self._held) if self._begun else None
        if found is None or found.end() != len(self._held):
            return None
        if found.start():
            self._sink(self._held[: found.start()])
        return int(found[1])

    @property
    def begun(self) -> bool:
        """Whether the command has begun."""
        return self._begun

    @property
    def said(self) -> str:
        """What the login printed in the place of the command."""
        return "" if self._begun else self._held[-500:].decode(errors="replace").strip()


def _after(held: bytes, mark: bytes) -> tuple[bytes, bool, bytes]:
    before, found, after = held.partition(mark)
    return (before, True, after) if found else (held, False, held)
