"""A limit of time on something that cannot be trusted to end: a dead link blocks paramiko's calls for ever."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Watch:
    """Calls `end` once when its time is over; `moved` pushes that off. It never calls when left in time.

    `seconds`: until the next `moved`; `limit`: altogether, whatever moves. `end` runs in a thread of its own, so that
    it may block.
    """

    def __init__(self, seconds: float, end: Callable[[], None], *, limit: float | None = None) -> None:
        self.seconds = seconds
        self.over = False
        self._end, self._left = end, False
        self._last = time.monotonic()
        self._final = None if limit is None else self._last + limit
        self._change = threading.Condition()

    def moved(self) -> None:
        """Something came or went: the time begins anew."""
        self._last = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that are left; not below 0."""
        due = self._last + self.seconds
        return max(0.0, (due if self._final is None else min(due, self._final)) - time.monotonic())

    def __enter__(self) -> Watch:
        threading.Thread(target=self._wait, name="ssh-watch", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        with self._change:
            self._left = True
            self._change.notify()

    def _wait(self) -> None:
        with self._change:
            while not self._left and (left := self.left) > 0:
                self._change.wait(left)
            if self._left:
                return
            self.over = True
        with contextlib.suppress(Exception):  # closing what is broken: that it is closed is all that is wanted
            self._end()
