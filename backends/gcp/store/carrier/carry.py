"""Carries one box to the store while its worker runs, and beyond: `carrier.pyz carry BOX`.

Promises: whatever fails is tried again, for as long as the box is there: a network that is silent for hours costs
time and no memory, because what waits is the box itself; nothing is remembered but what the bucket says, so that it
may be killed and started again anywhere; two carriers of one box do not run at once; `finished.json` is the last thing
that is written, when the stream, the newest manifest with its files, and the worker's last word are there. A worker
that died without a word is carried as it lies, and `finished.json` says so. What fails is in state/carrier.log, and in
the store as soon as that answers.

Two threads, because a checkpoint may take minutes and the lines should not wait for it: one carries files, the other
all else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass

from .box import ENDED, GONE, LOST, RUNNING, WAITING, Box
from .names import AttemptNames
from .objects import Objects
from .outputs import OutputCarrier, compose
from .stream import StreamCarrier
from .trouble import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Json = dict[str, Any]

HURRY_S = 0.2  # longest pause once the machine is told to stop: 30 seconds are left on a preempted VM
SHARE = 600  # the pause between pieces of the stream grows to this part of the run's time so far


@dataclass(frozen=True)
class Pace:
    """Seconds, all assumptions. `look`: between looks at the box; `first`, `most`: between pieces of the stream, at the
    beginning and in a long run; `alive`: between signs of life; `retry`: longest pause after a failure.
    """

    look: float = 0.5
    first: float = 1.0
    most: float = 15.0
    alive: float = 15.0
    retry: float = 60.0

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Pace:
        """The defaults, but for these."""
        return cls(**{name: float(value) for name, value in values.items()})

    def between(self, age: float) -> float:
        """Seconds between pieces of a stream that is `age` seconds old: about 1,500 in the first hour, 6,000 a day."""
        return min(max(self.first, age / SHARE), self.most)


class Carrier:
    """Carries one box. `config` is the box's in/carrier.json (`Store.config`)."""

    def __init__(self, box: Box, config: Json) -> None:
        self._box = box
        self._pace = Pace.of(config.get("pace") or {})
        self._names = AttemptNames(config["run"], config["attempt"])
        self._objects = open_store(config)
        self._stream = StreamCarrier(self._objects, self._names, box.stream)
        self._outputs = OutputCarrier(self._objects, self._names, int(config["number"]), box.out)
        self._trouble = Trouble(box.state("carrier.log"))
        self._begun = time.monotonic()
        self._stream_due = self._alive_due = 0.0
        self._log_sent = b""
        self._over = threading.Event()  # the box has ended: nothing in it changes any more
        self._hurry = threading.Event()

    def run(self) -> int:
        """Carry until all is there. Returns 0, also when another carrier has this box; 1 when the box is gone."""
        with only_one(self._box.state("carrier.lock")) as mine:
            if not mine:
                return 0
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, lambda *_: self._hurry.set())
            return self.work()

    def work(self) -> int:
        """`run`, without lock and signals."""
        files = threading.Thread(target=self._loop, args=("files", self._files), name="files", daemon=True)
        files.start()
        last = self._loop("stream", lambda: self._turn(files))
        return 0 if last != GONE else 1

    def _loop(self, what: str, turn: Callable[[], str | None]) -> str:
        """Take turns until one says that it was the last; a failure makes the pause to the next longer."""
        pause = self._pace.look
        while True:
            try:
                last = turn()
                if last is not None:
                    return last
                self._trouble.clear(what)
                pause = self._pace.look
            except Exception as error:  # noqa: BLE001  whatever it is, giving up would lose the run
                self._trouble.note(what, error)
                pause = min(2 * pause, self._pace.retry)
            self._sleep(pause * random.uniform(0.8, 1.0))

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._hurry.is_set():
                time.sleep(min(left, HURRY_S))
                return
            self._hurry.wait(min(left, 1.0))

    def _files(self) -> str | None:
        """A turn of the files' thread. Its last one, when the box has ended, leaves nothing to carry."""
        seen = self._box.look()
        if seen == GONE:
            return seen
        if self._over.is_set():
            while self._outputs.step(final=True):
                pass
            return seen
        if seen in (RUNNING, WAITING):
            while not self._over.is_set() and self._outputs.step():
                pass
        return None

    def _turn(self, files: threading.Thread) -> str | None:
        """A turn of all else: the stream, a sign of life, and when the box has ended the last word."""
        seen = self._box.look()
        if seen == GONE:
            return GONE
        ended = seen in (ENDED, LOST)
        now = time.monotonic()
        if ended:
            self._over.set()
        if ended or self._hurry.is_set() or now >= self._stream_due:
            while self._stream.step():
                pass
            self._stream_due = now + self._pace.between(now - self._begun)
        if ended and not files.is_alive():
            self._finish(seen)
            return seen
        if now >= self._alive_due:
            self._show_life(seen)
            self._alive_due = now + self._pace.alive
        return None

    def _show_life(self, seen: str) -> None:
        log = self._trouble.tail()
        if log != self._log_sent:
            self._objects.put(self._names.log, log)
            self._log_sent = log
        self._objects.put(self._names.alive, compose(self._as_it_stands(seen)))

    def _as_it_stands(self, seen: str) -> Json:
        outputs, stream = self._outputs, self._stream
        state = {"box": seen, "stream": stream.end, "record": outputs.record, "fenced": outputs.fenced}
        return {
            "version": 1,
            "attempt": self._names.attempt,
            "time": time.time(),
            **state,
            "trouble": str(self._trouble),
        }

    def _finish(self, seen: str) -> None:
        """The last of everything, and then the mark. All of it may be repeated."""
        if self._is_finished():
            return
        word = self._box.exit() if seen == ENDED else None
        if word is not None:
            self._objects.create(self._names.exit, compose(word))
        for who in ("files", "stream"):
            self._trouble.clear(who)
        self._show_life(seen)
        last = {"exit": word, "cancelled": os.path.exists(self._box.state("cancel")), "missing": self._outputs.lost}
        self._objects.create(self._names.finished, compose({**self._as_it_stands(seen), **last}))

    def _is_finished(self) -> bool:
        """Whether the mark is there: a create whose reply was lost, or a carrier before this one, wrote it."""
        return self._objects.look(self._names.finished) is not None


def start(root: str) -> int:
    """Carry the box at `root`, which `carrier.pyz blobs` has laid out."""
    box = Box(os.path.abspath(root))
    with open(box.config, "rb") as stream:
        return Carrier(box, json.loads(stream.read())).run()


def open_store(config: Json) -> Objects:
    """The store that a configuration names."""
    return Objects(
        config["bucket"], config["prefix"], project=config.get("project"), seconds=float(config.get("seconds", 60))
    )


@contextlib.contextmanager
def only_one(path: str) -> Any:
    """Hold a lock that the system takes back when this process dies; yields whether it was free."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
