"""The emulator's clock: it goes as fast as it is told, stands still, or is moved by hand."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(order=True)
class Timer:
    """Something that happens at `when`, in seconds of this clock; cancelling it afterwards does nothing."""

    when: float
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Seconds since the emulator's start. `clock(60)` lets a minute pass in each second; `clock(0)` stops it.

    Actions run one after the other, in their order, with the world's lock held. After `advance` each has run at exactly
    its time; with a speed they run when the thread gets to them, so times are true to milliseconds times the speed.
    """

    def __init__(self, changed: threading.Condition, speed: float) -> None:
        self._changed = changed
        self._speed = speed
        self._base, self._since = 0.0, time.monotonic()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._stopped = False
        self._start = datetime.now(UTC)
        self.settle: Callable[[], None] = lambda: None
        """Waits until the work of other threads (machines that boot or are switched off) is done."""

    def __call__(self, speed: float) -> None:
        """Seconds of this clock in a second of the wall clock from now on; 0 stops it."""
        if speed < 0:
            raise ValueError(f"a speed of {speed}: time does not go back")
        with self._changed:
            self._base, self._since = self.now(), time.monotonic()
            self._speed = speed
            self._changed.notify_all()

    @property
    def speed(self) -> float:
        return self._speed

    def now(self) -> float:
        with self._changed:
            return self._base + (time.monotonic() - self._since) * self._speed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, with all that happens in them; returns when it has happened."""
        self.settle()
        with self._changed:
            target = self.now() + seconds
        while True:
            with self._changed:
                timer = self._next()
                if timer is None or timer.when > target:
                    self._set(max(target, self.now()))
                    self._changed.notify_all()
                    break
                heapq.heappop(self._timers)
                self._set(max(timer.when, self.now()))
                timer.action()
                self._changed.notify_all()
            self.settle()  # what it began elsewhere belongs to this moment
        self.settle()

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Run `action` in `seconds`."""
        with self._changed:
            timer = Timer(self.now() + max(seconds, 0.0), next(self._numbers), action)
            heapq.heappush(self._timers, timer)
            self._changed.notify_all()
            return timer

    def stamp(self, when: float | None = None) -> str:
        """A time as RFC 3339 text, as the service writes it. Default: now."""
        moment = self._start + timedelta(seconds=self.now() if when is None else when)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def seconds_of(self, stamp: str) -> float:
        """The time of RFC 3339 text, in seconds of this clock. Raises ValueError."""
        moment = datetime.fromisoformat(stamp)
        if moment.tzinfo is None:
            raise ValueError(f"{stamp} has no time zone")
        return (moment - self._start).total_seconds()

    def start(self) -> None:
        threading.Thread(target=self._run, name="emulated time", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _set(self, now: float) -> None:
        self._base, self._since = now, time.monotonic()

    def _next(self) -> Timer | None:
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0] if self._timers else None

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                timer = self._next()
                wait = None if timer is None or self._speed == 0 else (timer.when - self.now()) / self._speed
                if timer is not None and wait is not None and wait <= 0:
                    heapq.heappop(self._timers)
                    timer.action()
                    self._changed.notify_all()
                else:
                    self._changed.wait(wait)
