"""Sending what is large: some at once, with progress, stopped when nobody wants it or nothing moves any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from backends.gcp.store.carrier.objects import THREADS
from launcher.backend import Tell
from launcher.errors import RemoteError

TELL_S = 1.0
SILENCES = 4  # longest silences of one request in a row, before a transfer is given up (an assumption)
T = TypeVar("T")


class StoppedError(Exception):
    """Raised in the middle of a body that is being sent, to have it not sent."""


class Readable(Protocol):
    """What bodies are made of."""

    def read(self, n: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class Progress:
    """Bytes that have gone out, of `whole`. Threads share it."""

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self.stopped = threading.Event()
        self.moved = time.monotonic()
        self._lock = threading.Lock()
        self._done = 0

    @property
    def done(self) -> int:
        """Bytes; what is sent again counts once."""
        return min(self._done, self.whole)

    def add(self, size: int) -> None:
        """So many more, also 0 when something moves that is counted already. Raises StoppedError."""
        if self.stopped.is_set():
            raise StoppedError
        with self._lock:
            self._done += size
            self.moved = time.monotonic()


class Body:
    """A stream that counts what is read of it: `read`, `seek` and `tell` are all that Google's client asks for."""

    def __init__(self, source: Readable, progress: Progress) -> None:
        self._source, self._progress = source, progress
        self._furthest = 0

    def read(self, n: int = -1) -> bytes:
        """See `io.RawIOBase`. Raises StoppedError, and what the source raises."""
        self._progress.add(0)
        data = self._source.read(n)
        at = self._source.tell()
        self._progress.add(max(0, at - self._furthest))
        self._furthest = max(at, self._furthest)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """See `io.RawIOBase`."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._source.tell()


def send_all(jobs: Sequence[Callable[[], T]], progress: Progress, tell: Tell, what: str, silence: float) -> list[T]:
    """Run the jobs, some at once; their results in order. `silence` in seconds: of one request, at most.

    Raises what a job raises, what `tell` raises, and RemoteError when nothing has moved for `SILENCES` silences; the
    jobs that are under way then end at their next byte.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="store") as pool:
        futures: list[Future[T]] = [pool.submit(job) for job in jobs]
        left: set[Future[T]] = set(futures)
        try:
            while left:
                tell(what, progress.done, progress.whole)
                ended, left = wait(left, TELL_S, FIRST_COMPLETED)
                for future in ended:
                    future.result()
                if ended:
                    progress.add(0)
                if time.monotonic() - progress.moved > SILENCES * silence:
                    raise RemoteError(f"{what}: nothing has moved for {SILENCES * silence:.0f} s")
        except BaseException:
            progress.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    tell(what, progress.whole, progress.whole)
    return [future.result() for future in futures]
