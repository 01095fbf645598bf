"""What went wrong on the way, in a file of bounded size, and in words for who looks from afar."""

from __future__ import annotations

import threading
import time
import traceback

from .objects import StoreError

LOG_BYTES = 64 << 10


class Trouble:
    """What fails now, by who it fails for; and the log of it. Threads share it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._now: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def note(self, who: str, error: Exception) -> None:
        """It failed. The same failure again is counted, and written down at its 2nd, 4th, 8th time."""
        text = f"{type(error).__name__}: {error}"
        with self._lock:
            again = self._now.get(who) == text
            self._count[who] = self._count.get(who, 0) + 1 if again else 1
            self._now[who] = text
            count = self._count[who]
            if count & (count - 1) == 0:
                times = f" ({count} times)" if count > 1 else ""
                trace = "" if isinstance(error, StoreError) or again else "".join(traceback.format_exception(error))
                self._write(f"{who}: {text}{times}\n{trace}")

    def clear(self, who: str) -> None:
        """It works again."""
        with self._lock:
            if self._now.pop(who, None) is not None:
                self._write(f"{who}: goes on, after it failed {self._count.pop(who)} times\n")

    def __str__(self) -> str:
        with self._lock:
            return "; ".join(f"{who}: {text}" for who, text in sorted(self._now.items()))[:1000]

    def tail(self) -> bytes:
        """The newest of the log."""
        try:
            with open(self._file, "rb") as stream:
                return stream.read()[-LOG_BYTES:]
        except OSError:
            return b""

    def _write(self, text: str) -> None:
        """Append; of a log that has become too long the newer half stays. A full disk is no reason to fail."""
        try:
            line = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()) + text
            held = b""
            try:
                with open(self._file, "rb") as stream:
                    held = stream.read()
            except FileNotFoundError:
                pass
            if len(held) > LOG_BYTES:
                held = held[-LOG_BYTES // 2 :].partition(b"\n")[2]
                with open(self._file, "wb") as stream:
                    stream.write(held)
            with open(self._file, "ab") as stream:
                stream.write(line.encode("utf-8", "replace"))
        except OSError:
            return
